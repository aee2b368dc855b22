"""Writes a run for TensorBoard: scalars and histograms after each epoch, and pictures at the end."""

import contextlib
import json

import numpy as np
from matplotlib.image import imread

from snnjax.core.errors import optional_package
from snnjax.runs.results_file import PICTURES
from snnjax.runs.run_folder import RunFolder
from snnjax.training.state import TrainState

FOLDER = "tensorboard"
DRAWN = 1_000_000  # approximate maximum number of winners in a histogram; if there are more, counts are scaled


class Tracker(contextlib.AbstractContextManager["Tracker"]):
    """Writes event files into the folder `tensorboard` of a run whenever a state of the run is saved."""

    def __init__(self, run: RunFolder, state: TrainState):
        """Starts writing; a resumed run continues in the same folder.

        Raises MissingPackageError if tensorboardX is not installed.
        """
        with optional_package("--tensorboard needs tensorboardX", "'snnjax[tensorboard]'"):
            from tensorboardX import SummaryWriter
        self._run = run
        self._trainer = run.trainer
        self._noted = set[str]()
        self._writer = SummaryWriter(str(run.path / FOLDER))
        self._writer.add_text("settings", "\n".join(f"    {k}: {json.dumps(v)}" for k, v in run.settings.items()))
        self._note(state)

    def __exit__(self, *_: object) -> None:
        """Writes the pictures of the run and, if it is finished, its final test."""
        if (results := self._run.results) and self._trainer.data.tested != "test":
            tested = results["test"] or {}  # it is None for a network without a decision
            test = {f"{name}/test": tested[name] for name in ("accuracy", "wrong", "silent") if name in tested}
            self._scalars(test, results["best_epoch"] + 1)
        for path in sorted((self._run.path / PICTURES).glob("[!.]*.png")):
            self._writer.add_image(f"pictures/{path.stem}", imread(path)[..., :3], 0, dataformats="HWC")
        self._writer.close()

    def save(self, state: TrainState) -> None:
        """Saves a state of the run, and writes the results of its last epoch and of completed phases."""
        self._run.save(state)
        self._note(state)

    def _note(self, state: TrainState) -> None:
        if state.done and not state.shown:
            self._note_epoch(state)
        for name, diagnosis in state.diagnoses.items():
            if name not in self._noted and not (state.done and name == self._trainer.job.phases[state.phase].name):
                self._noted.add(name)
                self._scalars({f"{layer}/spike_density": x for layer, x in diagnosis.get("firing", {}).items()}, 0)
                self._writer.add_text("diagnosis/" + name.replace(" ", "_"), "; ".join(diagnosis["words"]))
        self._writer.flush()

    def _note_epoch(self, state: TrainState) -> None:
        phase = self._trainer.job.phases[state.phase]
        diagnosis = state.diagnoses[phase.name]
        for name, curves in state.curves.get(phase.name, {}).items():
            self._scalars({f"{name}/{key}": values[-1] for key, values in curves.items()}, state.done)
            self._writer.add_histogram(f"{name}/weights", state.weights[name], state.done, bins="auto")
        for name, wins in diagnosis.get("wins", {}).items():
            total = int(np.sum(wins))
            per_image = total / phase.images
            self._scalars({f"{name}/winners_per_image": per_image}, state.done)
            if total:
                won = np.repeat(np.arange(len(wins)), np.int64(np.ceil(np.asarray(wins) * min(1, DRAWN / total))))
                bins = np.arange(len(wins) + 1)
                self._writer.add_histogram(f"{name}/winners_by_feature", won, state.done, bins=bins)
        if phase.supervised:
            for part in ("train", self._trainer.data.tested):
                self._scalars({f"{key}/{part}": value for key, value in state.epochs[-1][part].items()}, state.done)

    def _scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

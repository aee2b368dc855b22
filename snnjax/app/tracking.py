"""What TensorBoard shows of a run: scalars and histograms after each epoch, pictures at its end."""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
from matplotlib.image import imread

from snnjax.app.report import PICTURES
from snnjax.errors import MissingPackageError
from snnjax.training.state import TrainState
from snnjax.training.trainer import Trainer

FOLDER = "tensorboard"


class Tracker:
    """Writes event files into the folder `tensorboard` of a run; `note` takes each state as it is saved."""

    def __init__(self, run: Path, trainer: Trainer, settings: dict[str, Any], state: TrainState):
        """Starts writing, a resumed run into the same folder; raises MissingPackageError without tensorboardX."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingPackageError("--tensorboard needs tensorboardX: pip install 'snnjax[tensorboard]'") from error
        self.trainer, self._known = trainer, set[str]()
        self._writer = SummaryWriter(str(run / FOLDER))
        self._writer.add_text("settings", "\n".join(f"    {k}: {json.dumps(v)}" for k, v in settings.items()))
        self.note(state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def note(self, state: TrainState) -> None:
        """Writes what the last epoch of a state and the phases before it have shown."""
        if state.done:
            self._note_epoch(state)
        for name, found in state.diagnoses.items():
            if name not in self._known and not (state.done and name == self.trainer.plan[state.phase].name):
                self._known.add(name)
                self._scalars({f"{layer}/spike_density": x for layer, x in found.get("firing", {}).items()}, 0)
                self._writer.add_text("diagnosis/" + name.replace(" ", "_"), "; ".join(found["words"]))
        self._writer.flush()

    def _note_epoch(self, state: TrainState) -> None:
        phase, learning = self.trainer.plan[state.phase], self.trainer.engine.learning(state)
        found, convs = state.diagnoses[phase.name], {name: conv for _, name, conv in self.trainer.network.layers()}
        before = sum(each.layer == phase.layer for each in self.trainer.plan[: state.phase])
        for name, each in ({phase.layer: learning} if phase.layer else learning[0]).items():
            learner = convs[name].each_learner[before if phase.layer else -1]
            own = {key: x[name] for key, x in found.items() if isinstance(x, dict) and name in x}
            numbers = {key: x for key, x in (found | own if phase.layer else own).items() if isinstance(x, int | float)}
            self._scalars({f"{name}/{key}": x for key, x in (numbers | learner.scalars(each)).items()}, state.done)
            self._writer.add_histogram(f"{name}/weights", state.weights[name], state.done, bins="auto")
        if wins := found.get("wins"):
            won = np.repeat(np.arange(len(wins)), wins)
            per_image = len(won) / len(self.trainer.data.train_images)
            self._scalars({f"{phase.layer}/winners_per_image": per_image}, state.done)
            if len(won):
                bins = np.arange(len(wins) + 1)
                self._writer.add_histogram(f"{phase.layer}/winners_by_feature", won, state.done, bins=bins)
        if not phase.layer:
            parts = {part: state.epochs[-1][part] for part in ("train", "test")}
            self._scalars({f"{key}/{part}": value[key] for part, value in parts.items() for key in value}, state.done)

    def _scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, run: Path) -> None:
        """Writes the pictures of the run."""
        for path in sorted((run / PICTURES).glob("[!.]*.png")):
            self._writer.add_image(f"pictures/{path.stem}", imread(path)[..., :3], 0, dataformats="HWC")

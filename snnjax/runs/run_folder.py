"""The folders of runs: their files, and how they resume."""

import datetime
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from snnjax.core import files, metrics, processes
from snnjax.core.errors import InputError
from snnjax.runs import reuse
from snnjax.runs.checkpoint_folder import CHECKPOINT, PREVIOUS, Arrays, CheckpointFolder, Json
from snnjax.runs.results import PAGE, PICTURES, RESULTS, misclassified, read_results, versions, write_results
from snnjax.runs.reuse import LAYERS
from snnjax.runs.trained import WEIGHTS, Trained
from snnjax.training.epoch import EVERY
from snnjax.training.loop import Trainer
from snnjax.training.state import FORMAT, Phase, TrainState

PAUSE = 20
"""Time between two saves within a phase, as a multiple of the time that the first of them took."""
ONE_BY_ONE = (
    "learning from one image at a time, for which an accelerator launches 15 kernels or many more of about 10 "
    "microseconds each: --device cpu is likely to be faster; --update_batch 64 launches 20 to 40 times fewer for STDP, "
    "RSTDP and SupervisedSTDP"
)


class RunFolder(CheckpointFolder):
    """A folder that one run locks until the `with` block ends; see its `state`, `results` ({} before) and `notes`."""

    def __init__(
        self,
        path: Path | str,
        trainer: Trainer,
        settings: Json | None = None,
        resume: bool = False,
        about: Json | None = None,
        command: str = "",
        draw: Callable[..., None] | None = None,
    ):
        """Creates and locks the folder; with `resume`, continues the run that it holds.

        `settings` are JSON data on which the result depends besides the trainer's settings and data; `about` are kept
        with them, but may differ when a run is resumed, such as where the data are; `command` is what made the run;
        `draw`, such as `snnjax.app.draw_run`, leaves the report of the finished run, given the folder's path, the
        results, the trainer, the best network, and its decisions on the test images, (N,) int32, -1 where silent.
        Raises FileExistsError if the folder holds a run that is not to be resumed or another program has locked it,
        InputError if that run is damaged or had other settings, OSError if the folder cannot be written.
        """
        self.trainer = trainer
        self._resume = resume
        self._draw = draw
        self.state: TrainState | None = None  # where the run stopped earlier, if it is resumed
        self.results: Json = {}  # contents of results.json, once the run is finished
        self._saved_phase = -1  # of the state that was saved last
        self._next_save = 0.0  # when a state within a phase is saved
        super().__init__(path, trainer, settings, about, command)
        if names := trainer.one_by_one():
            self.notes.append(f"{', '.join(names)}: {ONE_BY_ONE}")
        self.results = processes.share(self.results)

    def _read(self) -> None:
        existing = [name for name in (RESULTS, CHECKPOINT, PREVIOUS) if (self.path / name).exists()]
        if existing and not self._resume:
            names = ", ".join(existing)
            raise FileExistsError(
                f"{self.path} already holds a run ({names}): `resume` (--resume) it, or name another folder"
            )
        if existing == [RESULTS]:
            raise FileExistsError(f"{self.path} holds results but no {CHECKPOINT} to go on from: name another folder")
        super()._read()
        if all((self.path / name).exists() for name in (RESULTS, WEIGHTS, *([PAGE] if self._draw else []))):
            self.results = read_results(self.path)
        for name in (LAYERS, PICTURES):
            files.clear(self.path / name)

    def _restore(self, arrays: Arrays, meta: Json) -> None:
        self.state = TrainState.unflatten(arrays, meta)
        self.trainer.training.runners.check(self.state)

    def start(self, reuse: bool | None = False) -> TrainState:
        """The state to begin with: the stored one, or the initial one.

        With `reuse`, layers that a run in a neighbouring folder has trained from the same images, settings and seed, by
        the same sources and versions on the same kind of device, are taken from it, whoever owns the folder; with None,
        only where folder and file belong to this user and nobody else can write them.
        """
        state = self.state or self.trainer.initial_state()
        plan = self.trainer.plan
        if self.state and not self.results and state.phase < len(plan):
            progress = f", after {state.shown:,} of its images" if state.shown else ""
            self.notes.append(f"going on with epoch {state.done + 1} of {plan[state.phase].name}{progress}")
            if state.origin not in ("", self.trainer.training.fingerprint):
                self.notes.append("its phase began with other sources, versions or another device")
        while reuse is not False and self.writes and not self.state and state.phase < len(plan) - 1:
            if plan[state.phase].epochs == 0:
                self.trainer.training.end_phase(state)
            elif not self._reuse_layer(state, foreign=reuse is True):
                break
        return state

    def _reuse_layer(self, state: TrainState, foreign: bool) -> bool:
        """Takes the next layer, or those that learn jointly, from another run, if there is one."""
        layers = self.trainer.plan[state.phase].layers
        key = self.trainer.training.key(state)
        for path in sorted(self.path.resolve().parent.glob(str(reuse.path_in(Path("*"), layers, key)))):
            run = self.path.parent / path.parents[1].name
            try:
                if not foreign and (why := reuse.reason_not_owned(path, path.parents[1])):
                    raise InputError(f"{path} {why}; `reuse` (--reuse) takes it all the same")
                self.trainer.reuse(state, *reuse.load(path, key, layers), str(run))
            except (InputError, OSError) as error:
                self.notes.append(f"{', '.join(layers)} is trained anew: {error}")
            else:
                same = "trained from the same images, settings and seed"
                self.notes.append(
                    f"{', '.join(layers)} {'is that' if len(layers) == 1 else 'are those'} of {run}, {same}"
                )
                return True
        return False

    def run(self) -> Json:
        """Trains to the end and finishes; returns the contents of results.json. A finished run is only read."""
        return self.results or self.finish(self.trainer.run(self.start(), self.save))

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint, trained layers, and history.csv once there are supervised epochs.

        A state at the end of a short epoch is not written if that would take a large share of the time.
        """
        if not self.writes or not self._is_due(state):
            return
        begin = time.perf_counter()
        self._write_state(state)
        self._saved_phase = state.phase
        now = time.perf_counter()
        self._next_save = now + min(PAUSE * (now - begin), EVERY)

    def _is_due(self, state: TrainState) -> bool:
        """Whether to save: within an epoch and in a new phase always, otherwise after the pause."""
        return state.phase != self._saved_phase or state.shown > 0 or time.perf_counter() >= self._next_save

    def _write_state(self, state: TrainState) -> None:
        self._save_checkpoint(*state.flatten())
        if state.epochs:
            tested = self.trainer.data.tested
            text = f"epoch,train_acc,train_loss,{tested}_acc,{tested}_loss\n"
            for epoch in state.epochs:
                train = epoch["train"]
                test = epoch[tested]
                text += f"{epoch['epoch']},{train['accuracy']},{train['wrong']},{test['accuracy']},{test['wrong']}\n"
            files.write_text(self.path / "history.csv", text)
        elif state.phase and self.trainer.plan[state.phase - 1].layers:
            self._save_layers(self.trainer.plan[state.phase - 1], state)

    def _save_layers(self, phase: Phase, state: TrainState) -> None:
        """Writes the layers that have learned in an unsupervised phase into a file for other runs."""
        layers = phase.layers
        key = state.keys.get(layers[0])
        if not (key and phase.epochs) or layers[0] in state.reused:
            return
        if not (path := reuse.path_in(self.path, layers, key)).exists():
            numbers = {name: x for name, x in state.numbers.items() if name.partition(".")[0] in layers}
            arrays = {name: state.weights[name] for name in layers} | numbers
            reuse.save(path, key, arrays, state.diagnoses[phase.name])

    def finish(self, state: TrainState) -> Json:
        """Tests the best network, writes weights and results.json, lets `draw` make the report; returns the results."""
        decisions, scores = self.trainer.predict(state, self.trainer.data.test_images)
        if self.writes:
            self._write(state, decisions, scores)
        self.results = processes.share(self.results)
        return self.results

    def _write(self, state: TrainState, decisions: np.ndarray, scores: np.ndarray) -> None:
        """Writes the files of `finish`, given decisions and scores of the test images; results.json last."""
        trainer = self.trainer
        data = trainer.data
        network = trainer.trained(state)
        start = trainer.network.hyperparameters()
        results: Json = dict(
            format=FORMAT,
            network=trainer.network.name,
            data=data.name,
            class_names=list(data.names),
            settings=self.settings,
            hyperparameters=start,
            trained_hyperparameters={
                name: value for name, value in network.spec.hyperparameters().items() if value != start.get(name)
            },
            versions=versions(),
            device=self.device,
            finished=datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds"),
            phases=state.phases,
            diagnoses=state.diagnoses,
            curves=state.curves,
            reused=state.reused,
            epochs=state.epochs,
            best_epoch=state.best_epoch,
            test=metrics.report(decisions, data.test_labels, scores),
            misclassified=misclassified(decisions, data),
        )
        if self.command:
            results["command"] = self.command
        if processes.count() > 1:
            results["processes"] = processes.count()
        shape = data.train_images.shape[1:]
        trained = Trained(network.spec, state.trained.weights, shape, self.settings, data.class_names)
        trained.save(self.path / WEIGHTS)
        if self._draw:
            results["seconds"] = self.seconds  # until then, for the report
            self._draw(self.path, results, trainer, network, decisions)
        results["seconds"] = self.seconds
        write_results(self.path, results)
        self.results = results

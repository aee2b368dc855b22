"""The folders of runs, with their files; a run can be resumed from its folder."""

import datetime
from collections.abc import Callable
from pathlib import Path

import numpy as np

from snnjax.core import files
from snnjax.runs.checkpoint_folder import (
    Arrays,
    CheckpointFolder,
    Json,
    backend_notes,
    network_digest,
    training_settings,
)
from snnjax.runs.earlier import check_winners
from snnjax.runs.results_file import PAGE, PICTURES, RESULTS, misclassified, read_results, versions, write_results
from snnjax.runs.trained import WEIGHTS, Trained
from snnjax.training.loop import Trainer
from snnjax.training.state import FORMAT, TrainState

ONE_BY_ONE = (
    "learning from one image at a time, for which an accelerator launches 15 kernels or many more of about 10 "
    "microseconds each: --device cpu is likely to be faster; --update_batch 64 launches 20 to 40 times fewer for STDP, "
    "RSTDP and SupervisedSTDP"
)


class RunFolder(CheckpointFolder):
    """The folder of a run, which is created and locked during a `with` block.

    Attributes:
      state: the state from which the run is resumed; None if the run is new.
      results: the contents of results.json; {} until the run is finished.
      notes: messages about the start.

    Examples:
      >>> import snnjax
      >>> from snnjax import RSTDP, Conv, Network, Trainer, stage
      >>> from snnjax.app import draw_run
      >>> from snnjax.runs import RunFolder
      >>> network = Network("templates", (6, 28, 28), 10, (stage(Conv(20, kernel=28, learners=RSTDP())),), epochs=3)
      >>> trainer = Trainer(network, snnjax.data.digits().subset(200, 100))
      >>> with RunFolder("runs/templates", trainer, resume=True, draw=draw_run) as run:  # doctest: +SKIP
      ...     results = run.run()
      >>> trained = snnjax.load("runs/templates")  # doctest: +SKIP
    """

    kind = "a run"

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
        """The folder of a new run or, with `resume`, of the run that it contains.

        Args:
          path: the folder.
          trainer: the trainer of the run.
          settings: JSON data on which the result depends, besides the settings and the data of the trainer.
          resume: whether to continue the run in the folder, if there is one.
          about: JSON data that are saved with the settings but may differ when the run is resumed, such as the location
            of the data.
          command: the command that started the run.
          draw: a function, such as `snnjax.app.draw_run`, that writes the report of the finished run. It is called with
            the path of the folder, the results, the trainer, the best network, and its decisions on the test images,
            (N,) int32, -1 if silent.

        The `with` block raises FileExistsError if the folder contains a run that should not be resumed, or if another
        program has locked it; InputError if the run in it is damaged or had other settings; OSError if the folder
        cannot be written.
        """
        self.trainer = trainer
        self._resume = resume
        self._draw = draw
        self.state: TrainState | None = None
        self.results: Json = {}
        self._saved_phase = -1  # the phase of the state that was saved last
        start: Json = dict(start=None)
        if trainer.warm_start is not None:
            start = dict(
                start=f"sha256:{files.digest(trainer.warm_start.weights).hex()}",
                learn=[*trainer.warm_start.continued, *trainer.warm_start.reinitialised],
            )
        fixed = (settings or {}) | start | training_settings(trainer)
        super().__init__(path, trainer.network, fixed, about, command, backend_notes(trainer))

    def _read(self) -> None:
        self._check_existing(self._resume, WEIGHTS, RESULTS)
        super()._read()
        if all((self.path / name).exists() for name in (RESULTS, WEIGHTS, *([PAGE] if self._draw else []))):
            self.results = read_results(self.path)
        files.clear(self.path / PICTURES)

    def _restore(self, arrays: Arrays, meta: Json) -> None:
        self.state = TrainState.unflatten(arrays, meta)
        self.trainer.check_state(self.state)
        check_winners(self.trainer, self.state, meta)

    def start(self) -> TrainState:
        """The state from which training starts or continues; adds notes about it to `notes`."""
        state = self.state or self.trainer.initial_state()
        phases = self.trainer.job.phases
        if self.state and not self.results and state.phase < len(phases):
            progress = f", after {state.shown:,} of its images" if state.shown else ""
            self.notes.append(f"continuing with epoch {state.done + 1} of {phases[state.phase].name}{progress}")
        if not self.state and self.trainer.warm_start:
            self.notes += self.trainer.warm_start.notes(self._source)
        if not self.results and (names := self.trainer.sequential_layers(state)):
            self.notes.append(f"{', '.join(names)}: {ONE_BY_ONE}")
        return state

    @property
    def _source(self) -> str:
        """The source of layers that were trained before: the path of a run, or the digest of a network from Python."""
        return self.settings.get("from") or self.settings["start"]

    def _start_record(self) -> Json:
        """The source of a warm start, and how its layers were used; {} if there is no warm start."""
        warm_start = self.trainer.warm_start
        if warm_start is None:
            return {}
        return dict(
            source=self._source,
            sha256=self.settings["start"].removeprefix("sha256:"),
            class_names=list(warm_start.trained_names),
            frozen=list(warm_start.frozen),
            continued=list(warm_start.continued),
            anew=list(warm_start.reinitialised),
        )

    def run(self) -> Json:
        """Trains to the end, and returns the contents of results.json. If the run is finished, it is only read."""
        return self.results or self.finish(self.trainer.run(self.start(), self.save))

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint and, once there are supervised epochs, history.csv.

        The state at the end of a short epoch is not saved if saving would take a large share of the time.
        """
        if not self._is_due(state):
            return
        self._write_state(state)
        self._saved_phase = state.phase

    def _is_due(self, state: TrainState) -> bool:
        """Whether to save: always within an epoch and in a new phase, otherwise only when it is time to save."""
        return state.phase != self._saved_phase or state.shown > 0 or self.due

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

    def finish(self, state: TrainState) -> Json:
        """Tests the best network, writes weights, report and results.json, and returns the contents of the latter."""
        trainer = self.trainer
        data = trainer.data
        test = None
        decisions = np.zeros(0, np.int32)
        if trainer.network.decision is not None:
            test, decisions = trainer.test_with_decisions(state)
        network = trainer.trained(state)
        start = trainer.network.hyperparameters()
        results: Json = dict(
            format=FORMAT,
            network=trainer.network.name,
            network_digest=network_digest(trainer.network),
            data=data.name,
            class_names=list(data.names),
            settings=self.settings,
            components=trainer.network.component_names(),
            hyperparameters=start,
            trained_hyperparameters={
                name: value for name, value in network.network.hyperparameters().items() if value != start.get(name)
            },
            versions=versions(),
            device=self.device,
            finished=datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds"),
            phases=state.phases,
            diagnoses=state.diagnoses,
            curves=state.curves,
            start=self._start_record(),
            epochs=state.epochs,
            best_epoch=state.best_epoch,
            test=test,
            misclassified=misclassified(decisions, data) if test else [],
            test_groups=list(data.test_group_names),
        )
        if self.command:
            results["command"] = self.command
        shape = data.train_images.shape[1:]
        weights = state.trained.weights
        trained = Trained(network.network, weights, shape, self.settings, network.class_names, network.initial)
        trained.save(self.path / WEIGHTS)
        if self._draw:
            results["seconds"] = self.seconds  # so far, for the report
            self._draw(self.path, results, trainer, network, decisions)
        results["seconds"] = self.seconds
        # This is written last, because a run with results.json and weights counts as finished.
        write_results(self.path, results)
        self.results = results
        return results

"""The folder of a run: what it leaves, and how it resumes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from snnjax import checkpoint, files, metrics
from snnjax.app import plots, report
from snnjax.app.checkpoints import CHECKPOINT, PREVIOUS, CheckpointFolder, versions
from snnjax.errors import InputError
from snnjax.trained import WEIGHTS, Trained
from snnjax.training.state import Phase, TrainState
from snnjax.training.trainer import Trainer

RESULTS, LAYERS = "results.json", "layers"


def read_results(path: Path) -> dict[str, Any]:
    """What a results.json holds; raises InputError if it is damaged, or holds something else."""
    try:
        results = json.loads(path.read_text())
        report.run_page(results, [])
        return results
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        problem = f"{path} is damaged ({type(error).__name__}: {error})"
        raise InputError(f"{problem}: delete it, and --resume writes it anew") from error


class RunFolder(CheckpointFolder):
    """A folder that one run locks until the `with` block ends.

    Attributes:
      state: where the run stopped earlier, if it is resumed; else None.
      results: what results.json holds, once the run is finished; {} before.
      notes: messages about how the run begins.
    """

    def __init__(
        self, path: Path | str, trainer: Trainer, settings: dict[str, Any] | None = None, resume: bool = False
    ):
        """Locks the folder, creating it.

        Args:
          settings: what the result depends on besides the trainer's settings and data, JSON data.
          resume: goes on with the run that the folder holds.

        Raises:
          FileExistsError: it holds a run and `resume` is false, or another run has locked it.
          InputError: the run to be resumed is damaged, or had other settings.
          OSError: the folder cannot be written.
        """
        super().__init__(path, trainer, settings)
        self.trainer = trainer
        self.state: TrainState | None = None
        self.results: dict[str, Any] = {}
        with self._lock:  # released if the folder is refused
            self._read(resume)
            self._lock = self._lock.pop_all()

    def _read(self, resume: bool) -> None:
        """Reads what the folder holds."""
        found = [name for name in (RESULTS, CHECKPOINT, PREVIOUS) if (self.path / name).exists()]
        if found and not resume:
            problem = f"{self.path} already holds a run ({', '.join(found)})"
            raise FileExistsError(f"{problem}: go on with it by --resume, or name another --out")
        if found == [RESULTS]:
            raise FileExistsError(f"{self.path} holds results but no {CHECKPOINT} to go on from: name another --out")
        if found:
            self._load_checkpoint(self._read_state)
            if all((self.path / name).exists() for name in (RESULTS, WEIGHTS, report.PAGE)):
                self.results = read_results(self.path / RESULTS)
            for name in (LAYERS, report.PICTURES):
                files.clear(self.path / name)

    def _read_state(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        self.state = TrainState.unflatten(arrays, meta)
        self.trainer.engine.check(self.state)

    def start(self, reuse: bool = False) -> TrainState:
        """The state to begin with: the stored one, or the initial one.

        With `reuse`, it takes layers that runs in neighbouring folders have trained from the same images, settings and
        seed, by the same sources and versions on the same kind of device.
        """
        state, plan = self.state or self.trainer.initial_state(), self.trainer.plan
        if self.state and not self.results and state.phase < len(plan):
            self.notes.append(f"going on with epoch {state.done + 1} of {plan[state.phase].name}")
        while reuse and not self.state and state.phase < len(plan) - 1:
            if plan[state.phase].epochs == 0:
                self.trainer.engine.end_phase(state)
            elif not self._reuse_layer(state):
                break
        return state

    def _reuse_layer(self, state: TrainState) -> bool:
        """Takes the next layer from another run, if there is one."""
        layer, key = self.trainer.plan[state.phase].layer, self.trainer.engine.key(state)
        for path in sorted(self.path.resolve().parent.glob(f"*/{LAYERS}/{layer}-{key}.npz")):
            run = self.path.parent / path.parents[1].name
            try:
                numbers, meta = checkpoint.load(path)
                if layer not in numbers or not isinstance(meta.get("diagnosis"), dict):
                    raise InputError(f"{path} holds no {layer} with its diagnosis")
                self.trainer.reuse(state, numbers.pop(layer), numbers, meta["diagnosis"], str(run))
            except (InputError, OSError) as error:
                self.notes.append(f"{layer} is trained anew: {error}")
            else:
                self.notes.append(f"{layer} is that of {run}, trained from the same images, settings and seed")
                return True
        return False

    def run(self) -> dict[str, Any]:
        """Trains what is left and finishes; returns what results.json holds. A finished run is only read."""
        return self.results or self.finish(self.trainer.run(self.start(), self.save))

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint, trained layers, and history.csv once there are supervised epochs."""
        self._save_checkpoint(*state.flatten())
        if state.epochs:
            rows: list[list[Any]] = [["epoch", "train_acc", "train_loss", "test_acc", "test_loss"]]
            for each in state.epochs:
                scores = [each[part][key] for part in ("train", "test") for key in ("accuracy", "wrong")]
                rows.append([each["epoch"], *scores])
            files.write_text(self.path / "history.csv", "".join(",".join(map(str, row)) + "\n" for row in rows))
        elif state.phase:
            self._save_layer(self.trainer.plan[state.phase - 1], state)

    def _save_layer(self, phase: Phase, state: TrainState) -> None:
        """Writes a layer that was trained alone into a file for other runs."""
        layer = phase.layer
        if layer not in state.keys or layer in state.reused or not phase.epochs:
            return
        path = self.path / LAYERS / f"{layer}-{state.keys[layer]}.npz"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            numbers = {name: x for name, x in state.numbers.items() if name.startswith(f"{layer}.")}
            arrays = {layer: state.weights[layer], **numbers}
            checkpoint.save(path, arrays, dict(diagnosis=state.diagnoses[phase.name]))

    def finish(self, state: TrainState) -> dict[str, Any]:
        """Tests the best network and writes weights, pictures, report and results.json; returns what the last holds."""
        trainer, data = self.trainer, self.trainer.data
        decisions, scores = trainer.predict(state, data.test_images)
        network, weights = trainer.trained(state), state.trained.weights
        results = dict(
            network=trainer.network.name,
            data=data.name,
            settings=self.settings,
            parameters=trainer.network.parameters(),
            versions=versions(),
            device=self.device,
            **{name: getattr(state, name) for name in ("phases", "diagnoses", "reused", "epochs", "best_epoch")},
            test=metrics.report(decisions, data.test_labels, scores),
        )
        Trained(network.spec, weights, data.train_images.shape[1:], self.settings).save(self.path / WEIGHTS)
        pictures = self.path / report.PICTURES
        pictures.mkdir(exist_ok=True)
        plots.write(pictures / "weights.png", plots.weights_picture(trainer.initial_state().weights, weights))
        report.draw_results(pictures, results)
        report.draw_features(pictures, network)
        which = report.examples(decisions, data.test_labels)
        report.draw_images(pictures, network, data.test_images, data.test_labels, which)
        report.write_page(self.path, results)
        files.write_json(self.path / RESULTS, results)
        self.results = results
        return results

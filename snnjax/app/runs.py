"""The folder of a run: what it leaves behind, and how it goes on."""

import contextlib
import csv
import dataclasses
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from snnjax import checkpoint, devices, files, metrics
from snnjax.app import plots, report
from snnjax.app.checkpoints import CHECKPOINT, PREVIOUS, Checkpoints, described
from snnjax.data import Dataset
from snnjax.errors import InputError
from snnjax.trained import WEIGHTS, Trained
from snnjax.training.state import Phase, Settings, TrainState
from snnjax.training.trainer import Trainer

RESULTS, LAYERS = "results.json", "layers"


def read_results(path: Path) -> dict[str, Any]:
    """What a results.json holds.

    Raises:
      FileNotFoundError: there is none.
      InputError: it is damaged, or holds something else.
    """
    try:
        results = json.loads(path.read_text())
        report.body(results, [])
        return results
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}: {error}): delete it, and --resume writes it anew"
        ) from error


class RunFolder:
    """A folder that one run holds, from its making to the end of the `with` block.

    Attributes:
      path: of the folder.
      state: where an earlier run into it stopped, if it is to go on.
      results: what results.json holds, once the run is finished; {} before.
      notes: what a person should know about how the run begins.
    """

    def __init__(
        self, path: Path | str, trainer: Trainer, settings: dict[str, Any] | None = None, resume: bool = False
    ):
        """Takes the folder, creating it.

        Args:
          path: of the folder.
          trainer: of the run.
          settings: what the run's result depends on besides the trainer's settings and data, JSON data.
          resume: goes on with the run that the folder holds.

        Raises:
          FileExistsError: it holds another run, and `resume` was not asked for; or another run holds it now.
          InputError: what is to be resumed is damaged, or had other settings.
          OSError: the folder cannot be written.
        """
        self.path, self.trainer = Path(path), trainer
        self.settings = known(trainer.settings, trainer.data, settings)
        self.device = devices.name_of(devices.peers().devices[0])
        self.state: TrainState | None = None
        self.results: dict[str, Any] = {}
        network = described(trainer.network)
        self._checkpoints = Checkpoints(self.path, self.settings, network, versions(), self.device)
        self.notes = self._checkpoints.notes
        with take(self.path) as held:
            self._read(resume)
            self._held = held.pop_all()

    def _read(self, resume: bool) -> None:
        """Reads what the folder holds."""
        path = self.path
        held = [name for name in (RESULTS, CHECKPOINT, PREVIOUS) if (path / name).exists()]
        if held and not resume:
            raise FileExistsError(
                f"{path} already holds a run ({', '.join(held)}): go on with it by --resume, or name another --out"
            )
        if held == [RESULTS]:
            raise FileExistsError(f"{path} holds results but no {CHECKPOINT} to go on from: name another --out")
        if held:
            arrays, meta, file = self._checkpoints.load()
            try:
                self.state = TrainState.unflatten(arrays, meta)
                self.trainer.engine.check(self.state)
            except InputError as error:
                raise InputError(f"{file} holds no state to go on from: {error}") from error
            missing = [name for name in (RESULTS, WEIGHTS, report.PAGE) if not (path / name).exists()]
            self.results = {} if missing else read_results(path / RESULTS)
            for each in (path, path / LAYERS, path / report.PICTURES):  # what a killed run was writing
                files.clear(each)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def start(self, reuse: bool = False) -> TrainState:
        """Where to begin: the state that was stored, or the initial one.

        Args:
          reuse: begins with the layers that runs in folders beside this one have trained from the same images, settings
            and seed, by the same sources and versions on the same kind of device.
        """
        state, plan = self.state or self.trainer.initial_state(), self.trainer.plan
        if self.state and not self.results and state.phase < len(plan):
            self.notes.append(f"going on with epoch {state.done + 1} of {plan[state.phase].name}")
        while reuse and not self.state and state.phase < len(plan) - 1:
            if plan[state.phase].epochs == 0:
                self.trainer.engine.end_phase(state)
            elif not self._reused(state):
                break
        return state

    def _reused(self, state: TrainState) -> bool:
        """Takes a layer from another run, if there is one."""
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
                continue
            self.notes.append(f"{layer} is that of {run}, trained from the same images, settings and seed")
            return True
        return False

    def run(self) -> dict[str, Any]:
        """Trains what is left of it and finishes: what results.json holds. A finished run is only read."""
        return self.results or self.finish(self.trainer.run(self.start(), self.save))

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint, layers that are trained, and history.csv once there are supervised epochs."""
        self._checkpoints.save(*state.flatten())
        if state.epochs:
            self._write_history(state)
        elif state.phase:
            self._keep_layer(self.trainer.plan[state.phase - 1], state)

    def _keep_layer(self, phase: Phase, state: TrainState) -> None:
        """Keeps a layer that has learned alone, for other runs."""
        layer = phase.layer
        if layer not in state.keys or layer in state.reused or not phase.epochs:
            return
        path = self.path / LAYERS / f"{layer}-{state.keys[layer]}.npz"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            numbers = {name: x for name, x in state.numbers.items() if name.startswith(f"{layer}.")}
            arrays = {layer: state.weights[layer], **numbers}
            checkpoint.save(path, arrays, dict(diagnosis=state.diagnoses[phase.name]))

    def _write_history(self, state: TrainState) -> None:
        with files.atomic_write(self.path / "history.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "train_acc", "train_loss", "test_acc", "test_loss"])
            for record in state.epochs:
                parts = (record["train"], record["test"])
                writer.writerow([record["epoch"], *(part[key] for part in parts for key in ("accuracy", "wrong"))])

    def finish(self, state: TrainState) -> dict[str, Any]:
        """Tests the best network from images to decisions and writes weights, pictures, report and results.

        Returns:
          What results.json holds.
        """
        trainer, data = self.trainer, self.trainer.data
        decisions, scores = trainer.predict(state, data.test_images)
        network = trainer.trained(state)
        results = dict(
            network=trainer.network.name,
            data=data.name,
            settings=self.settings,
            parameters=trainer.network.parameters(),
            versions=versions(),
            device=self.device,
            phases=state.phases,
            diagnoses=state.diagnoses,
            reused=state.reused,
            epochs=state.epochs,
            best_epoch=state.best_epoch,
            test=metrics.report(decisions, data.test_labels, scores),
        )
        shape = data.train_images.shape[1:]
        Trained(network.spec, state.trained.weights, shape, self.settings).save(self.path / WEIGHTS)
        pictures = self.path / report.PICTURES
        pictures.mkdir(exist_ok=True)
        before = trainer.initial_state().weights
        plots.write(pictures / "weights.png", plots.weights_picture(before, state.trained.weights))
        report.draw_results(pictures, results)
        report.draw_features(pictures, network)
        which = report.telling(decisions, data.test_labels)
        report.draw_images(pictures, network, data.test_images, data.test_labels, which)
        report.write_page(self.path, results)
        files.write_json(self.path / RESULTS, results)
        self.results = results
        return results


def known(settings: Settings, data: Dataset, others: dict[str, Any] | None) -> dict[str, Any]:
    """All that a training's result depends on besides the network, JSON data."""
    sizes = dict(train_images=len(data.train_images), test_images=len(data.test_images))
    own = dataclasses.asdict(settings) | sizes | dict(data=f"sha256:{data.digest}")
    return json.loads(json.dumps((others or {}) | own))


def take(path: Path) -> contextlib.ExitStack:
    """Creates a folder and locks it, until the stack is closed.

    Raises:
      FileExistsError: it is a file, or another run holds it.
      OSError: it cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file, not a folder: name another --out")
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path} cannot be written")
    with contextlib.ExitStack() as stack:
        stack.enter_context(files.lock(path))
        return stack.pop_all()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    packages = ("snnjax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found

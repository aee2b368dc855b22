"""The folder of a run: what it leaves behind, and how it goes on."""

import contextlib
import csv
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from snnjax import checkpoint, files, metrics
from snnjax.app import plots, report
from snnjax.errors import InputError
from snnjax.networks import describe
from snnjax.trained import WEIGHTS, Trained
from snnjax.training.trainer import Phase, Trainer, TrainState

CHECKPOINT, PREVIOUS, RESULTS, LAYERS = "checkpoint.npz", "checkpoint.previous.npz", "results.json", "layers"
FORMAT = 1
"""Of the checkpoints: another number, another meaning."""


def read_results(path: Path) -> dict[str, Any]:
    """What a results.json holds.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is damaged, or holds something else.
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
    """A folder that one run holds, from `open` to the end of the `with` block.

    Attributes:
      path: of the folder.
      state: where an earlier run into it stopped, if it is to go on.
      results: what results.json holds, once the run is finished; {} before.
      notes: what a person should know about how the run begins.
    """

    def __init__(self, path: Path, trainer: Trainer, settings: dict[str, Any], resume: bool):
        """Takes the folder, creating it.

        Args:
          path: of the folder.
          trainer: of the run.
          settings: all that the run's result depends on, JSON data.
          resume: goes on with the run that the folder holds.

        Raises:
          FileExistsError: it holds another run, and `resume` was not asked for; or another run holds it now.
          ValueError: what is to be resumed is damaged, or had other settings.
          OSError: the folder cannot be written.
        """
        self.path, self.trainer, self.settings = path, trainer, json.loads(json.dumps(settings))
        self.state: TrainState | None = None
        self.results: dict[str, Any] = {}
        self.notes: list[str] = []
        self._sound = True  # whether the last checkpoint is
        self._known = dict(settings=self.settings, network=describe(trainer.spec), format=FORMAT, versions=versions())
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"{path} is a file, not a folder: name another --out")
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} cannot be written")
        with contextlib.ExitStack() as stack:
            stack.enter_context(files.lock(path))
            self._take(resume)
            self._held = stack.pop_all()

    def _take(self, resume: bool) -> None:
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
            self.state = self._stored()
            self.results = self._finished()
            for each in (path, path / LAYERS, path / report.PICTURES):  # what a killed run was writing
                files.clear(each)

    def _stored(self) -> TrainState:
        """The state of the last checkpoint; if it is damaged, of the one before."""
        damaged = []
        for name in (CHECKPOINT, PREVIOUS):
            try:
                arrays, meta = checkpoint.load(self.path / name)
            except FileNotFoundError:
                continue
            except ValueError as error:
                damaged.append(str(error))
                continue
            state = self._fitting(self.path / name, arrays, meta)
            self._sound = not damaged
            if damaged:
                self.notes.append(f"{'; '.join(damaged)}; going on from {name}, the state before")
            return state
        raise InputError(f"{'; '.join(damaged)}: there is nothing to go on from, name another --out")

    def _fitting(self, path: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> TrainState:
        if meta.get("format") != FORMAT:
            raise InputError(
                f"{path} was written by another version of snnjax (format {meta.get('format')}, now {FORMAT}): finish "
                "the run with that version, or name another --out"
            )
        stored = meta.get("settings", {})
        differ = [name for name in self.settings if stored.get(name) != self.settings[name]]
        if differ:
            changes = ", ".join(f"{name} {stored.get(name)} (now {self.settings[name]})" for name in differ)
            raise InputError(f"the run in {self.path} cannot be resumed with other settings or data: it had {changes}")
        if meta.get("network") != describe(self.trainer.spec):
            raise InputError(f"{path} is of another network than {self.trainer.spec.name} is now: name another --out")
        try:
            state = TrainState.unflatten(arrays, meta)
            self.trainer.check(state)
        except ValueError as error:
            raise InputError(f"{path} holds no state to go on from: {error}") from error
        now = versions()
        others = [
            f"{name} {was} (now {now.get(name)})"
            for name, was in dict(meta.get("versions", {})).items()
            if was != now.get(name)
        ]
        if others:
            self.notes.append(f"the run began with {', '.join(others)}: it may end a little otherwise")
        return state

    def _finished(self) -> dict[str, Any]:
        """The results, unless files of a finished run are missing: it is finished anew then."""
        missing = [name for name in (RESULTS, WEIGHTS, report.PAGE) if not (self.path / name).exists()]
        return {} if missing else read_results(self.path / RESULTS)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def start(self, where: jax.Device, reuse: bool) -> TrainState:
        """Where to begin: the state that was stored, or the initial one.

        Args:
          where: what the run runs on.
          reuse: begins with the layers that runs in folders beside this one have trained from the same images,
            settings and seed.
        """
        self._keys = self.trainer.layer_keys(device_name(where))
        state, plan = self.state or self.trainer.initial_state(), self.trainer.plan
        if self.state and not self.results and state.phase < len(plan):
            self.notes.append(f"going on with epoch {state.done + 1} of {plan[state.phase].name}")
        while reuse and not self.state and state.phase < len(plan) - 1:
            phase = plan[state.phase]
            if phase.epochs == 0:
                state.phase += 1
            elif not self._reused(phase.layer, state):
                break
        return state

    def _reused(self, layer: str, state: TrainState) -> bool:
        """Takes a layer from another run, if there is one."""
        siblings = self.path.parent if self.path.name not in ("", "..") else self.path.resolve().parent
        for path in sorted(siblings.glob(f"*/{LAYERS}/{layer}-{self._keys[layer]}.npz")):
            try:
                arrays, meta = checkpoint.load(path)
                self.trainer.reuse(state, layer, arrays[layer], meta["diagnosis"], str(path.parents[1]))
            except (ValueError, KeyError, OSError) as error:
                self.notes.append(f"{layer} is trained anew: {error}")
                continue
            self.notes.append(f"{layer} is that of {path.parents[1]}, trained from the same images, settings and seed")
            return True
        return False

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint, layers that are trained, and history.csv once there are reward epochs.

        The checkpoint before is kept as well, should the new one be damaged later.
        """
        arrays, meta = state.flatten()
        current = self.path / CHECKPOINT
        if current.exists() and self._sound:
            with contextlib.suppress(OSError), files.atomic_write(self.path / PREVIOUS) as temporary:
                temporary.unlink()
                os.link(current, temporary)  # not on every file system
        checkpoint.save(current, arrays, meta | self._known)
        self._sound = True
        if state.epochs:
            self._write_history(state)
        elif state.phase:
            self._keep_layer(self.trainer.plan[state.phase - 1], state)

    def _keep_layer(self, phase: Phase, state: TrainState) -> None:
        if not phase.layer or not phase.epochs or phase.layer in state.reused:
            return
        path = self.path / LAYERS / f"{phase.layer}-{self._keys[phase.layer]}.npz"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            checkpoint.save(
                path, {phase.layer: state.weights[phase.layer]}, dict(diagnosis=state.diagnoses[phase.name])
            )

    def _write_history(self, state: TrainState) -> None:
        with files.atomic_write(self.path / "history.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "train_acc", "train_loss", "test_acc", "test_loss"])
            for record in state.epochs:
                parts = (record["train"], record["test"])
                writer.writerow([record["epoch"], *(part[key] for part in parts for key in ("accuracy", "wrong"))])

    def finish(self, state: TrainState, device: jax.Device) -> None:
        """Tests the best network from images to decisions and writes weights, pictures, report and results."""
        trainer = self.trainer
        best, data = state.best or state.weights, trainer.data
        decisions, potentials = trainer.judge(best, data.test_images)
        encoder = trainer.encoder
        trained = Trained(trainer.spec, best, encoder, self.settings)
        results = dict(
            network=trainer.spec.name,
            data=data.name,
            settings=self.settings,
            versions=versions(),
            device=device_name(device),
            phases=state.phases,
            diagnoses=state.diagnoses,
            reused=state.reused,
            epochs=state.epochs,
            best_epoch=state.best_epoch,
            test=metrics.report(decisions, data.test_labels, potentials),
        )
        trained.save(self.path / WEIGHTS)
        pictures = self.path / report.PICTURES
        pictures.mkdir(exist_ok=True)
        plots.write(pictures / "weights.png", plots.weights_picture(trainer.initial_state().weights, best))
        report.draw_results(pictures, results)
        report.draw_features(pictures, trainer.network, encoder)
        which = report.telling(decisions, data.test_labels)
        report.draw_images(pictures, trainer.network, encoder, data.test_images, data.test_labels, which)
        report.write_page(self.path, results)
        with files.atomic_write(self.path / RESULTS) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")
        self.results = results


def device_name(device: jax.Device) -> str:
    """What a person calls a device."""
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    return f"cpu: {_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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

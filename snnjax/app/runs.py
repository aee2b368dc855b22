"""The folders of runs: what they leave, and how they resume."""

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

import snnjax
from snnjax import InputError, devices, files, metrics, processes
from snnjax.app import plots, report, reuse
from snnjax.app.reuse import LAYERS
from snnjax.components import completed, to_data
from snnjax.kernels import native
from snnjax.trained import SWEEP, WEIGHTS, Trained
from snnjax.training import fast
from snnjax.training.state import FORMAT, Phase, TrainState
from snnjax.training.sweep import Sweep
from snnjax.training.trainer import Trainer

RESULTS = "results.json"
CHECKPOINT, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
MOST_DIFFERENCES = 3  # that a message lists

Json = dict[str, Any]
Arrays = dict[str, np.ndarray]


class CheckpointFolder:
    """A folder that one run or sweep locks until its `with` block ends, with the last two checkpoints.

    Of several processes the first alone reads, locks and writes it.
    """

    def __init__(
        self, path: Path | str, work: Trainer | Sweep, settings: Json | None, about: Json | None, command: str
    ):
        """Creates, locks and reads the folder, when a subclass is ready; `settings` are added to those of `work`."""
        self.path, self.command, data = Path(path), command, work.data
        self.notes: list[str] = []  # messages about how the run or sweep begins
        if left := fast.left_out(work.network, work.settings):
            self.notes.append(f"{', '.join(left)}: rules without a compiled form, which learn on XLA's kernels")
        self.since, self._spent = time.perf_counter(), 0.0  # when this command began; seconds of those before it
        held_out = () if data.validation_images is None else data.validation_images
        sizes = dict(train_images=len(data.train_images), validation_images=len(held_out))
        sizes |= dict(test_images=len(data.test_images))
        own = dataclasses.asdict(work.settings) | sizes | dict(data=f"sha256:{data.digest}")
        arrays: Arrays = {}
        network = to_data(work.network, arrays)
        digests = {name: hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()[:16] for name, x in arrays.items()}
        self.device = devices.name_of(devices.peers()[0])
        known = dict(settings=(settings or {}) | own, network=dict(data=network, arrays=digests), format=FORMAT)
        self._known = json.loads(json.dumps(known | dict(versions=versions(), device=self.device)))
        self.settings: Json = self._known["settings"] | json.loads(json.dumps(about or {}))
        self._sound = True  # whether the last checkpoint is
        self.writes = processes.index() == 0
        self._compare_processes()
        self._lock = contextlib.ExitStack()
        if not self.writes:
            return
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file, not a folder: name another folder")
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:  # unlocks a folder that is refused
            stack.enter_context(files.lock(self.path))
            self._read()
            self._lock = stack.pop_all()

    def _compare_processes(self) -> None:
        """Raises InputError where this process has another network, other settings or data than the first."""
        first = processes.share(self._known)
        if changes := _changes(self._known["settings"], first["settings"]):
            raise InputError(f"all processes must have the same settings and data: the first has {changes}")
        if self._known["network"] != first["network"]:
            raise InputError("all processes must train the same network: the first has another one")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def seconds(self) -> float:
        """Wall time so far, with that of earlier commands up to their last checkpoints."""
        return self._spent + time.perf_counter() - self.since

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any((self.path / name).exists() for name in (CHECKPOINT, PREVIOUS))

    def _save_checkpoint(self, arrays: Arrays, meta: Json) -> None:
        """Writes a checkpoint and keeps the one before, in case the new one is damaged later."""
        current = self.path / CHECKPOINT
        if current.exists() and self._sound:
            with contextlib.suppress(OSError), files.atomic_write(self.path / PREVIOUS) as temporary:
                temporary.unlink()
                os.link(current, temporary)  # not on every file system
        files.save_checkpoint(current, arrays, meta | self._known | dict(spent=self.seconds))
        self._sound = True

    def _restore(self, arrays: Arrays, meta: Json) -> None:
        """Takes the state of a checkpoint; raises errors of several kinds if it holds none."""
        raise NotImplementedError

    def _read(self) -> None:
        """Restores the last undamaged checkpoint, if there is one."""
        damaged = []
        for path in (self.path / CHECKPOINT, self.path / PREVIOUS):
            try:
                arrays, meta = files.load_checkpoint(path)
            except FileNotFoundError:
                continue
            except InputError as error:
                damaged.append(str(error))
                continue
            self._check(path, meta)
            self._sound, self._spent = not damaged, float(meta.get("spent", 0.0))
            if damaged:
                self.notes.append(f"{'; '.join(damaged)}; going on from {path.name}, the state before")
            try:
                self._restore(arrays, meta)
            except (KeyError, TypeError, AttributeError, InputError) as error:
                raise InputError(f"{path} holds no state to go on from: {error}") from error
            files.clear(self.path)  # what a killed program was writing
            return
        if damaged:
            raise InputError(f"{'; '.join(damaged)}: there is nothing to go on from, name another folder")

    def _check(self, path: Path, meta: Json) -> None:
        """Raises InputError where a checkpoint is of another run; notes other versions or another device."""
        known, settings = self._known, meta.get("settings", {})
        files.check_format(path, meta, FORMAT, "finish the run with that version, or name another folder")
        if changes := _changes(known["settings"], settings):
            raise InputError(f"the run in {self.path} cannot be resumed with other settings or data: it had {changes}")
        network = meta.get("network", {})
        if differ := list(_differences(known["network"], network | dict(data=completed(network.get("data"))))):
            more = f" and {len(differ) - MOST_DIFFERENCES} more" if len(differ) > MOST_DIFFERENCES else ""
            first = ", ".join(differ[:MOST_DIFFERENCES])
            raise InputError(f"{path} is of another network: name another folder, it has {first}{more}")
        now, was = (x.get("versions", {}) | dict(device=x.get("device")) for x in (known, meta))
        if changes := _changes(now, was):
            self.notes.append(f"the run began with {changes}: results may differ slightly")


def _changes(now: Json, was: Json) -> str:
    return ", ".join(f"{name} {was.get(name)} (now {now[name]})" for name in now if was.get(name) != now[name])


def _differences(now: Any, was: Any, path: str = "") -> Iterator[str]:
    """What differs in nested JSON data, by its path."""
    if isinstance(now, dict) and isinstance(was, dict):
        for key in {**was, **now}:
            yield from _differences(now.get(key), was.get(key), f"{path}.{key}")
    elif isinstance(now, list) and isinstance(was, list) and len(now) == len(was):
        for at, both in enumerate(zip(now, was, strict=True)):
            yield from _differences(*both, f"{path}.{at}")
    elif now != was:
        then, here = (textwrap.shorten(str(each), 40, placeholder="...") for each in (was, now))
        yield f"{path.removeprefix('.data')[1:]} {then} (now {here})"


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
    ):
        """Creates and locks the folder; with `resume`, goes on with the run that it holds.

        `settings` are JSON data on which the result depends besides the trainer's settings and data; `about` are kept
        with them, but may differ when a run is resumed, such as where the data are; `command` is what made the run.
        Raises FileExistsError if the folder holds a run that is not to be resumed or another program has locked it,
        InputError if that run is damaged or had other settings, OSError if the folder cannot be written.
        """
        self.trainer, self._resume = trainer, resume
        self.state: TrainState | None = None  # where the run stopped earlier, if it is resumed
        self.results: Json = {}  # what results.json holds, once the run is finished
        super().__init__(path, trainer, settings, about, command)
        self.results = processes.share(self.results)

    def _read(self) -> None:
        found = [name for name in (RESULTS, CHECKPOINT, PREVIOUS) if (self.path / name).exists()]
        if found and not self._resume:
            names = ", ".join(found)
            raise FileExistsError(
                f"{self.path} already holds a run ({names}): `resume` (--resume) it, or name another folder"
            )
        if found == [RESULTS]:
            raise FileExistsError(f"{self.path} holds results but no {CHECKPOINT} to go on from: name another folder")
        super()._read()
        if all((self.path / name).exists() for name in (RESULTS, WEIGHTS, report.PAGE)):
            self.results = read_results(self.path)
        for name in (LAYERS, report.PICTURES):
            files.clear(self.path / name)

    def _restore(self, arrays: Arrays, meta: Json) -> None:
        self.state = TrainState.unflatten(arrays, meta)
        self.trainer.engine.check(self.state)

    def start(self, reuse: bool | None = False) -> TrainState:
        """The state to begin with: the stored one, or the initial one.

        With `reuse`, layers that a run in a neighbouring folder has trained from the same images, settings and seed, by
        the same sources and versions on the same kind of device, are taken from it, whoever owns the folder; with None,
        only where folder and file belong to this user and nobody else can write them.
        """
        state, plan = self.state or self.trainer.initial_state(), self.trainer.plan
        if self.state and not self.results and state.phase < len(plan):
            within = f", after {state.shown:,} of its images" if state.shown else ""
            self.notes.append(f"going on with epoch {state.done + 1} of {plan[state.phase].name}{within}")
            if state.origin not in ("", self.trainer.engine.fingerprint):
                self.notes.append("its phase began with other sources, versions or another device")
        while reuse is not False and self.writes and not self.state and state.phase < len(plan) - 1:
            if plan[state.phase].epochs == 0:
                self.trainer.engine.end_phase(state)
            elif not self._reuse_layer(state, foreign=reuse is True):
                break
        return state

    def _reuse_layer(self, state: TrainState, foreign: bool) -> bool:
        """Takes the next layer, or those that learn jointly, from another run, if there is one."""
        layers, key = self.trainer.plan[state.phase].layers, self.trainer.engine.key(state)
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
        """Trains what is left and finishes; returns what results.json holds. A finished run is only read."""
        return self.results or self.finish(self.trainer.run(self.start(), self.save))

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint, trained layers, and history.csv once there are supervised epochs."""
        if not self.writes:
            return
        self._save_checkpoint(*state.flatten())
        if state.epochs:
            scores = [(part, key) for part in ("train", self.trainer.data.tested) for key in ("accuracy", "wrong")]
            named = dict(accuracy="acc", wrong="loss")
            rows: list[list[Any]] = [["epoch", *(f"{part}_{named[key]}" for part, key in scores)]]
            rows += [[each["epoch"], *(each[part][key] for part, key in scores)] for each in state.epochs]
            files.write_text(self.path / "history.csv", "".join(",".join(map(str, row)) + "\n" for row in rows))
        elif state.phase and self.trainer.plan[state.phase - 1].layers:
            self._save_layers(self.trainer.plan[state.phase - 1], state)

    def _save_layers(self, phase: Phase, state: TrainState) -> None:
        """Writes the layers that have learned in an unsupervised phase into a file for other runs."""
        layers, key = phase.layers, state.keys.get(phase.layers[0])
        if not (key and phase.epochs) or layers[0] in state.reused:
            return
        if not (path := reuse.path_in(self.path, layers, key)).exists():
            numbers = {name: x for name, x in state.numbers.items() if name.partition(".")[0] in layers}
            arrays = {name: state.weights[name] for name in layers} | numbers
            reuse.save(path, key, arrays, state.diagnoses[phase.name])

    def finish(self, state: TrainState) -> Json:
        """Tests the best network and writes weights, pictures, report and results.json; returns what the last holds."""
        decisions, scores = self.trainer.predict(state, self.trainer.data.test_images)
        if self.writes:
            self._write(state, decisions, scores)
        self.results = processes.share(self.results)
        return self.results

    def _write(self, state: TrainState, decisions: np.ndarray, scores: np.ndarray) -> None:
        """What `finish` leaves, given decisions and scores of the test images; results.json last."""
        trainer, data = self.trainer, self.trainer.data
        network, weights = trainer.trained(state), state.trained.weights
        start = trainer.network.parameters()
        results = dict(
            format=FORMAT,
            network=trainer.network.name,
            data=data.name,
            class_names=list(data.names),
            **(dict(command=self.command) if self.command else {}),
            settings=self.settings,
            parameters=start,
            trained_parameters={
                name: value for name, value in network.spec.parameters().items() if value != start.get(name)
            },
            versions=versions(),
            device=self.device,
            **(dict(processes=several) if (several := processes.count()) > 1 else {}),
            finished=datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds"),
            **{
                name: getattr(state, name)
                for name in ("phases", "diagnoses", "curves", "reused", "epochs", "best_epoch")
            },
            test=metrics.report(decisions, data.test_labels, scores),
            misclassified=report.misclassified(decisions, data),
        )
        shape, names = data.train_images.shape[1:], data.class_names
        Trained(network.spec, weights, shape, self.settings, names).save(self.path / WEIGHTS)
        drawn = [("weights", plots.weights_picture(trainer.initial_state().weights, weights))]
        if wrong := results["misclassified"]:
            drawn.append(("misclassified", plots.misclassified_picture(data.test_images, wrong)))
        kinds = np.where(decisions < 0, 2, decisions != data.test_labels)  # right, wrong, silent
        examples = np.unique(kinds, return_index=True)[1].tolist()  # the first image of each kind
        report.write(self.path, results, [*drawn, *report.figures(results, network, data, examples)])
        results["seconds"] = self.seconds
        files.write_json(self.path / RESULTS, results)
        self.results = results


def read_results(run: Path) -> Json:
    """What a run's results.json holds.

    Raises FileNotFoundError without one, InputError if it is damaged, or of another version.
    """
    path = run / RESULTS
    if not run.exists():
        raise FileNotFoundError(f"there is no run {run}")
    if not path.exists() and (run / SWEEP).exists():
        use = "`evaluate` and `predict` take one of its files, weights_*.npz"
        raise FileNotFoundError(f"{run} is the folder of a sweep, whose results are in {run / SWEEP}; {use}")
    if not path.exists():
        raise FileNotFoundError(
            f"{run} holds no {RESULTS}: a run writes it last; `resume`, or its command with --resume, finishes one"
        )
    anew = "delete it, and `resume` writes it anew"
    try:
        results = files.read_json(path)
    except InputError as error:
        raise InputError(f"{error}: {anew}") from error
    try:
        files.check_format(path, results, FORMAT, f"read it with that version, or {run}/report.html")
        report.run_page(results, run)
        return results
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        kind = type(error).__name__
        raise InputError(f"{path} is damaged ({kind}: {error}): {anew}") from error


def kernels_of(path: Path) -> str:
    """The kernels of the run or sweep that a folder holds, "native" or "xla"; "auto" where there is none."""
    for each in (path / CHECKPOINT, path / PREVIOUS):
        with contextlib.suppress(OSError, InputError, LookupError, TypeError):
            return "native" if files.load_checkpoint(each)[1]["settings"]["native"] else "xla"
    return "auto"


def use_native(chosen: str, time_steps: int = native.STEPS, path: Path | None = None) -> bool:
    """Whether to take the compiled kernels: as `chosen` or, by "auto", as the run in a folder does, if there is one.

    Otherwise "auto" takes them where they can be had, and prints why not. Raises InputError where such a run needs
    them in vain.
    """
    began = kernels_of(path) if path and chosen == "auto" else "auto"
    if began == chosen == "auto":
        if why := native.unavailable(time_steps):
            print(f"on XLA's kernels: {why}")
        return not why
    if began == "native" and (why := native.unavailable(time_steps)):
        raise InputError(f"the run in {path} began on compiled kernels: {why}")
    return "native" in (began, chosen)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
    found = {package: importlib.metadata.version(package) for package in packages}
    return dict(python=platform.python_version(), snnjax=snnjax.__version__, **found)

"""Error messages about files of earlier versions that cannot be used, with the commands that create them again."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import snnjax
from snnjax.core import files
from snnjax.core.components import TYPES
from snnjax.core.errors import InputError
from snnjax.learners.protocol import has_default_figures
from snnjax.training.loop import Trainer
from snnjax.training.state import TrainState

REMOVED = {"LatencyCode", "Triangle"}
"""Components of version 0.6 that have been removed: networks with these components cannot be simulated any more."""
_RENAMED = {"--batch_size": "--adapt_every", "--kernels": "--backend"}
"""Command-line options of version 0.6, and their names in this version."""
_GONE = {"--distributed", "--reuse", "--no_reuse"}
"""Command-line options of version 0.6 that have been removed: without them, the same network is trained."""


def check_components(path: Path, meta: Mapping[str, Any]) -> None:
    """Raises InputError if a network file with these JSON data contains a component of version 0.6 that was removed.

    The message contains the command that trains the network again. It comes from the run or the sweep in the folder of
    the file, or else it is derived from the settings. If the network was trained from Python, there is no command.
    """
    gone = sorted(_types_of(meta.get("network")) & (REMOVED - TYPES.keys()))
    if not gone:
        return
    problem = f"{path} holds a network of snnjax 0.6 with {' and '.join(gone)}, which this version does not have"
    if command := _command_beside(path):
        again = f"move {path.parent} away, and train it again: {command}"
    elif command := _command_of(meta.get("settings", {})):
        again = f"train it again: {command}"
    else:
        again = "train it again, with `Conv(ramp=Ramp(p))` in place of `Conv(activation=Triangle(p))`"
    raise InputError(f"{problem}: {again}")


def check_winners(trainer: Trainer, state: TrainState, meta: Mapping[str, Any]) -> None:
    """Raises InputError if version 0.6 saved a state within an epoch of a custom rule.

    That version did not record the winners that the figures of the epoch require.
    """
    if not state.shown or not str(meta.get("versions", {}).get("snnjax")).startswith("0.6."):
        return
    phase = trainer.job.phases[state.phase]
    convs = {name: conv for _, name, conv in trainer.network.layers()}
    for name in phase.layers:
        learner = convs[name].each_learner[phase.learner]
        if has_default_figures(learner) and not phase.minibatch_size and f"winners.{name}" not in state.results:
            raise InputError(f"it was saved within an epoch of {type(learner).__name__}, without the winners of {name}")


def advice_on(meta: Mapping[str, Any], kind: str, path: Path, command: str) -> str:
    """Advice for a checkpoint of another version that cannot be continued; "" if this version wrote it.

    `kind` is the kind of its contents, such as "run"; `command` is the command that starts the same work again, or ""
    if it was started from Python.
    """
    version = meta.get("versions", {}).get("snnjax", snnjax.__version__)
    if version == snnjax.__version__:
        return ""
    again = f"move {path} away, and begin again: {command}" if command else "begin again in another folder"
    return f"snnjax {version} wrote it, finish the {kind} with that version; or {again}"


def current_command(command: str) -> str:
    """Converts a command of version 0.6 to the options of this version."""
    words: list[str] = []
    gone = False
    for word in shlex.split(command):
        if word.startswith("--"):
            gone = word in _GONE
        if not gone:
            words.append(_RENAMED.get(word, word))
    return shlex.join(words)


def _types_of(data: Any) -> set[str]:
    """The type names of all components in the JSON data of a component."""
    if isinstance(data, dict):
        return {str(data.get("type"))}.union(*map(_types_of, data.values()))
    return set().union(*map(_types_of, data)) if isinstance(data, list) else set()


def _command_beside(path: Path) -> str:
    """The command of the run or the sweep that wrote a file; "" if the folder does not contain it."""
    for name in ("results.json", "sweep.json"):
        try:
            found = files.read_json(path.parent / name)
            about = found.get("about", found)
            return current_command(about["command"])
        except (OSError, InputError, AttributeError, KeyError, TypeError, ValueError):
            continue
    return ""


def _command_of(settings: Mapping[str, Any]) -> str:
    """The command that trains a network again, given the settings of its run; "" if it was trained from Python."""
    options = {"--model": settings.get("model"), "--dataset": settings.get("dataset")}
    if None in options.values():
        return ""
    options["--data_dir"] = settings.get("data_dir")
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return shlex.join(["snnjax", "train", *words])

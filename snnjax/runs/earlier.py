"""Files of earlier versions that this version cannot use, and the commands that make them again."""

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
"""Components of version 0.6 that are gone: networks that have them cannot be simulated any more."""
_RENAMED = {"--batch_size": "--adapt_every", "--kernels": "--backend"}
"""Options of the commands of version 0.6, and their names in this version."""
_GONE = {"--distributed", "--reuse", "--no_reuse"}
"""Options of version 0.6 that are gone: without them, the same network is trained."""


def check_components(path: Path, meta: Mapping[str, Any]) -> None:
    """Raises InputError if a file of a network, with these JSON data, names a component of version 0.6 that is gone.

    The message holds the command that trains the network again: that of the run or the sweep beside the file, or else
    one made from its settings. A network that a program has made has none.
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
    """Raises InputError if version 0.6 left a state within an epoch of a custom rule, as it did not record winners."""
    if not state.shown or not str(meta.get("versions", {}).get("snnjax")).startswith("0.6."):
        return
    phase = trainer.job.phases[state.phase]
    convs = {name: conv for _, name, conv in trainer.network.layers()}
    for name in phase.layers:
        learner = convs[name].each_learner[phase.learner]
        if has_default_figures(learner) and not phase.minibatch_size and f"winners.{name}" not in state.results:
            raise InputError(f"it was saved within an epoch of {type(learner).__name__}, without the winners of {name}")


def advice_on(meta: Mapping[str, Any], kind: str, path: Path, command: str) -> str:
    """What to do about a checkpoint that cannot be continued, if another version wrote it; "" if this one did.

    `kind` is what it is of, such as "run"; `command` is the one that makes it again, "" for a program.
    """
    version = meta.get("versions", {}).get("snnjax", snnjax.__version__)
    if version == snnjax.__version__:
        return ""
    again = f"move {path} away, and begin again: {command}" if command else "begin again in another folder"
    return f"snnjax {version} wrote it, finish the {kind} with that version; or {again}"


def current_command(command: str) -> str:
    """A command of version 0.6 with the options of this version."""
    words: list[str] = []
    gone = False
    for word in shlex.split(command):
        if word.startswith("--"):
            gone = word in _GONE
        if not gone:
            words.append(_RENAMED.get(word, word))
    return shlex.join(words)


def _types_of(data: Any) -> set[str]:
    """The names of all components in the data of a component."""
    if isinstance(data, dict):
        return {str(data.get("type"))}.union(*map(_types_of, data.values()))
    return set().union(*map(_types_of, data)) if isinstance(data, list) else set()


def _command_beside(path: Path) -> str:
    """The command of the run or the sweep that has left a file; "" if its folder does not say."""
    for name in ("results.json", "sweep.json"):
        try:
            found = files.read_json(path.parent / name)
            about = found.get("about", found)
            return current_command(about["command"])
        except (OSError, InputError, AttributeError, KeyError, TypeError, ValueError):
            continue
    return ""


def _command_of(settings: Mapping[str, Any]) -> str:
    """The command that trains a network with these settings of a run again; "" if no command has trained it."""
    options = {"--model": settings.get("model"), "--dataset": settings.get("dataset")}
    if None in options.values():
        return ""
    options["--data_dir"] = settings.get("data_dir")
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return shlex.join(["snnjax", "train", *words])

"""Finds the networks, encoders, other components and custom modules that options name."""

import dataclasses
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from snnjax import NETWORKS, ImageSpec, InputError, Network
from snnjax.core.errors import nearest, unknown
from snnjax.encoding import ENCODERS


def import_all(modules: Iterable[str]) -> None:
    """Imports custom modules, which may define components; raises InputError if a module does not exist."""
    for module in modules:
        import_one(module)


def import_one(module: str, option: str = "import") -> ModuleType:
    """Imports a custom module, by the path of its file or by name; raises InputError if it does not exist."""
    if not module.endswith(".py"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise InputError(f"`{option}` must name a Python file or a module, got {module!r}: {error}") from error
    path = Path(module).resolve()
    if not path.is_file():
        raise InputError(f"`{option}` must name a Python file or a module: there is no file {module}")
    known = getattr(sys.modules.get(path.stem), "__file__", None)
    if known and Path(known).resolve() == path:  # imported by name
        return sys.modules[path.stem]
    if path not in _imported:  # a second import would register its components twice
        name = path.stem if path.stem not in sys.modules else f"{path.stem}_{len(_imported)}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = loaded = importlib.util.module_from_spec(spec)
        sys.path.append(str(path.parent))  # for modules in the same folder
        try:
            spec.loader.exec_module(loaded)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, InputError):
                frames = traceback.extract_tb(error.__traceback__)
                line = max((frame.lineno or 0 for frame in frames if frame.filename == str(path)), default=0)
                raise InputError(f"{module}, line {line}: {error}") from error
            raise
        _imported[path] = loaded
    return _imported[path]


_imported: dict[Path, ModuleType] = {}


def published(model: str, alternatives: str = "") -> Callable[[ImageSpec], Network]:
    """The function that makes a published network.

    Raises InputError if the name is unknown; the message lists the networks, followed by the text `alternatives`.
    """
    if model not in NETWORKS:
        raise unknown("model", model, NETWORKS, alternatives)
    return NETWORKS[model]


def find(option: str, name: str, table: Mapping[str, Any]) -> Any:
    """Finds an entry of a table by name, or in a custom file as FILE.py:NAME; raises InputError if there is none."""
    file, _, attribute = name.rpartition(":")
    if not file:
        if name not in table:
            raise unknown(option, name, table, ", or FILE.py:NAME")
        return table[name]
    module = import_one(file, option)
    if (part := getattr(module, attribute, None)) is None:
        names = (name for name, value in vars(module).items() if not isinstance(value, ModuleType))
        meant = nearest(attribute, names)
        question = f": did you mean {meant!r}?" if meant else ""
        raise InputError(f"`{option}` {name}: {file} has no {attribute!r}{question}")
    return part


def encoder_name(encoder: Any) -> str:
    """The name of an encoder, regardless of its time steps; or of its class, if it is not a published encoder."""
    for name, other in ENCODERS.items():
        if type(other) is type(encoder) and dataclasses.replace(other, time_steps=encoder.time_steps) == encoder:
            return name
    return type(encoder).__name__

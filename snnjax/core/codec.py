"""Components as JSON data with separate arrays, as they are stored in files, and as the calls that create them."""

import dataclasses
import hashlib
import math
from typing import Any

import jax
import numpy as np

from snnjax.core.components import TYPES, check_component, comparable, fields_of, is_component
from snnjax.core.errors import InputError

_RENAMED = {"SoftHebb": {"batch": "minibatch_size"}}
"""Fields that earlier versions wrote under other names: their old and current names, keyed by the component's type."""


def to_data(value: Any, arrays: dict[str, np.ndarray], path: str = "") -> Any:
    """A component as JSON data, with its arrays added to `arrays` by path; raises InputError if it cannot be saved."""
    if dataclasses.is_dataclass(value):
        check_component(path or "value", value)
        prefix = f"{path}." if path else ""
        parts = {name: to_data(part, arrays, prefix + name) for name, part in fields_of(value).items()}
        return dict(type=type(value).__name__, **parts)
    if isinstance(value, tuple):
        return [to_data(item, arrays, f"{path}.{index}") for index, item in enumerate(value)]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        if value.ndim == 0:
            return value.item()
        arrays[path] = np.asarray(value)
        return dict(array=path)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kinds = "numbers, strings, arrays, tuples and components"
    raise InputError(f"`{path}` cannot be saved: a component holds {kinds}, got {type(value).__name__}")


def from_data(data: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `to_data`; raises InputError if the data are not those of a known component.

    It executes no code except that of components that have been imported.
    """
    if isinstance(data, list):
        return tuple(from_data(item, arrays) for item in data)
    if not isinstance(data, dict):
        return data
    if data.keys() == {"array"}:
        if data["array"] not in arrays:
            raise InputError(f"it lacks the array {data['array']!r}")
        return arrays[data["array"]]
    name = data.get("type")
    if name not in TYPES:
        first = "import the module that defines it first, in commands with --import FILE"
        raise InputError(f"it holds a {name!r}, unknown to this program: {first}")
    values = {key: from_data(value, arrays) for key, value in _without_gone(_renamed(data)).items() if key != "type"}
    try:
        return TYPES[name](**values)
    except InputError:
        raise
    except TypeError as error:
        raise InputError(f"it holds a {name!r} with other fields than this program's: {error}") from error


def _renamed(data: dict[str, Any]) -> dict[str, Any]:
    """A component's data with the current names of its fields."""
    names = _RENAMED.get(data.get("type", ""), {})
    return {names.get(key, key): value for key, value in data.items()}


def _without_gone(data: dict[str, Any]) -> dict[str, Any]:
    """A component's data without fields that are None and no longer exist in this version."""
    names = {field.name for field in dataclasses.fields(TYPES[data["type"]])}
    return {key: value for key, value in data.items() if value is not None or key in names}


def completed(data: Any) -> Any:
    """Data of `to_data`, or a dict of them, with the current names of fields and defaults for missing fields.

    A field is missing if it did not exist in the version that wrote the data.
    """
    if isinstance(data, list):
        return [completed(item) for item in data]
    if not isinstance(data, dict):
        return data
    data = _renamed(data)
    kind = TYPES.get(data.get("type", ""))
    fields = [] if kind is None else dataclasses.fields(kind)
    missing = [field for field in fields if field.name not in data and field.default is not dataclasses.MISSING]
    defaults = {field.name: to_data(field.default, {}) for field in missing}
    return defaults | {name: completed(part) for name, part in data.items()}


def call_of(value: Any, longest: float = math.inf) -> str:
    """A component as a call with the arguments that differ from their defaults.

    Nested calls that have more than `longest` characters are shortened. Arrays are shown by their shape and a digest.
    """
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value):
        digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()[:8]
        return f"<array {np.shape(value)} {digest}>"
    if isinstance(value, tuple) and any(map(is_component, value)):
        return f"({', '.join(call_of(item, longest) for item in value)})"
    if not is_component(value):
        return repr(value)
    arguments = []
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if comparable(part) != comparable(field.default):
            words = call_of(part, longest)
            cut = is_component(part) and len(words) > longest
            arguments.append(f"{field.name}={type(part).__name__ + '(...)' if cut else words}")
    return f"{type(value).__name__}({', '.join(arguments)})"

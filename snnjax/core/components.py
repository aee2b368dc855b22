"""The parts of networks: frozen dataclasses that are pytrees of numbers and can be saved.

A component's numbers (thresholds, rates, radii, bounds) are pytree leaves: changing one compiles nothing. Its structure
(kernel sizes, numbers of features) is marked by `static`. Files name classes: custom components can be saved,
and loaded by any program that has imported them.
"""

import dataclasses
import hashlib
import inspect
import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError, no_integer, wrong_type

T = TypeVar("T")

TYPES: dict[str, type] = {}
"""All components by name, custom ones too."""
MOST_DIFFERENCES = 3  # that a message lists


def static(*, default: Any = dataclasses.MISSING) -> Any:
    """A field that is structure: another value compiles another program. It must be hashable, or a NumPy array."""
    return dataclasses.field(default=default, metadata=dict(static=True))


def learnable(*, default: float) -> Any:
    """A number, or an array in its place, that learning sets: networks save it, sweeps do not vary it."""
    return dataclasses.field(default=default, metadata=dict(learnable=True))


def fitted(*, default: float) -> Any:
    """A number in whose place `fit` puts an array: networks save it, sweeps do not vary it."""
    return dataclasses.field(default=default, metadata=dict(fitted=True))


@dataclass_transform(frozen_default=True, field_specifiers=(static, learnable, fitted, dataclasses.field))
def component(cls: type[T]) -> type[T]:
    """Class decorator: makes a class a frozen dataclass, a JAX pytree, and something that files can hold.

    Components are compared and hashed by their class and fields, arrays by their shapes and numbers.

    Lists become tuples, NumPy numbers become Python's, integers floats where the annotation has `float` and no
    `int`. New values are checked: the types of numbers and strings by the annotations, the rest by the class's method
    `check` if it has one; except where numbers are JAX arrays, or JAX rebuilds it from leaves. Raises InputError if
    another module has a component of this name, a text of a rule is no `static` field, or a base class that is no
    component has fields.
    """
    registered = TYPES.get(cls.__name__, cls)
    origins = [(x.__module__, x.__qualname__) for x in (registered, cls)]
    if origins[0] != origins[1] and "__main__" not in (registered.__module__, cls.__module__):
        raise InputError(f"`{cls.__name__}` is a component of {registered.__module__} already: take another name")
    _check_bases(cls)

    def __post_init__(self: Any) -> None:
        for field in dataclasses.fields(self):
            kinds = re.findall(r"\w+", str(field.type))
            floats = "float" in kinds and "int" not in kinds  # so that 15 and 15.0 are the same leaf
            value = getattr(self, field.name)
            if field.metadata.get("static") and isinstance(value, jax.Array):
                value = np.asarray(value)  # which is compared by its numbers
            object.__setattr__(self, field.name, _plain(value, floats))
        if not any(isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(_fields(self))):
            _check(self)

    def key(self: Any) -> Any:
        return tuple(_comparable(getattr(self, field.name)) for field in dataclasses.fields(self) if field.compare)

    def __eq__(self: Any, other: object) -> bool:
        return key(self) == key(other) if type(other) is type(self) else NotImplemented

    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    for name, method in dict(__eq__=__eq__, __hash__=lambda self: hash(key(self))).items():
        if name not in cls.__dict__:
            setattr(cls, name, method)
    cls = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    for field in fields:
        if field.type in (str, "str") and not field.metadata.get("static") and hasattr(cls, "update"):  # a rule
            raise InputError(
                f"`{field.name}` of {cls.__name__} must be `static`, as it is text: {field.name}: str = static()"
            )
    _register(cls)
    TYPES[cls.__name__] = cls
    return cls


def _register(cls: Any) -> None:
    """Makes a component a pytree: fields that are not `static` are leaves."""
    structure = [field.name for field in dataclasses.fields(cls) if field.metadata.get("static")]
    leaves = [field.name for field in dataclasses.fields(cls) if not field.metadata.get("static")]

    def flatten(value: Any) -> tuple[Any, Any]:
        parts = [(jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in leaves]
        return parts, tuple(_Constant.of(getattr(value, name)) for name in structure)

    def unflatten(kept: Any, parts: Any) -> Any:
        value = object.__new__(cls)
        constants = (part.array if isinstance(part, _Constant) else part for part in kept)
        value.__dict__.update(zip((*structure, *leaves), (*constants, *parts), strict=True))
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)


class _Constant:
    """An array in the structure of a pytree, equal to others of the same numbers."""

    def __init__(self, array: np.ndarray):
        self.array = array
        self._key = array.shape, array.dtype.str, array.tobytes()

    @staticmethod
    def of(value: Any) -> Any:
        """A value, or what holds it, if it is an array."""
        return _Constant(value) if isinstance(value, np.ndarray) else value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constant) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _check_bases(cls: type) -> None:
    """Raises InputError where a base class of a user's has fields, but is no component: they would be lost."""
    for base in cls.__mro__[1:]:
        if dataclasses.is_dataclass(base) or base.__module__.startswith(("snnjax.", "typing", "builtins")):
            continue
        kinds = {name: str(kind) for name, kind in vars(base).get("__annotations__", {}).items()}
        if lost := [name for name, kind in kinds.items() if "ClassVar" not in kind]:
            advice = "decorate it by @snnjax.component too, or annotate them as ClassVar"
            raise InputError(f"`{base.__name__}`, a base of {cls.__name__}, has fields ({', '.join(lost)}): {advice}")


def _plain(value: Any, floats: bool) -> Any:
    if type(value) in (tuple, list):
        return tuple(_plain(item, floats) for item in value)
    if isinstance(value, np.generic):
        value = value.item()
    return float(value) if floats and type(value) is int and abs(value) <= checks.LARGEST_FLOAT else value


def _comparable(value: Any) -> Any:
    """A field's key for comparing and hashing: of an array its shape and numbers, as tuples."""
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    if not isinstance(value, np.ndarray | jax.Array) or isinstance(value, jax.core.Tracer):
        return value
    return (value.shape, tuple(np.ravel(value).tolist())) if value.ndim else value.item()


_NUMBER = float | np.ndarray | jax.Array | jax.ShapeDtypeStruct
_KINDS: dict[str, tuple[Any, str]] = {
    "bool": (bool | np.ndarray | jax.Array, "True or False"),
    "str": (str, "a string"),
    "int": (int | np.ndarray | jax.Array, "an integer"),
    "float": (_NUMBER, "a number"),
    "float | None": (_NUMBER | None, "a number or None"),
    "tuple[float, float]": (tuple, "two numbers"),
}
"""The types of fields with these annotations, and words for them."""


def _check(value: Any) -> None:
    """Raises InputError unless the fields of a component are of their types, and as its `check` wants them."""
    for field in dataclasses.fields(value):
        annotation = inspect.formatannotation(field.type).strip("'")
        part = getattr(value, field.name)
        kind, words = _KINDS.get(annotation, (object, ""))
        fits = isinstance(part, kind) and (annotation == "bool" or not words or not isinstance(part, bool))
        if annotation == "tuple[float, float]":
            fits = fits and len(part) == 2 and all(isinstance(number, _NUMBER) for number in part)
        if not fits:
            raise no_integer(field.name, part) if annotation == "int" else wrong_type(field.name, words, part)
        if words or not field.metadata.get("static"):
            checks.fits_32_bits(field.name, part)
    if check := getattr(value, "check", None):
        check()


def check_again(value: Any) -> None:
    """Checks a component and its nested ones as when they were made; raises InputError."""
    if isinstance(value, tuple):
        for item in value:
            check_again(item)
    elif is_component(value):
        for part in _fields(value).values():
            check_again(part)
        _check(value)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def check_component(name: str, value: object, *needs: str) -> None:
    """Raises InputError unless the class of `value` is decorated by `component` itself, and has these attributes."""
    if isinstance(value, type):
        raise wrong_type(name, "an instance of a component", value, f"{value.__name__}(...)")
    kind = type(value).__qualname__
    if not is_component(value):
        raise InputError(f"`{name}` must be a component, an instance of a class with @snnjax.component, got {kind}")
    if lacks := [attribute for attribute in needs if not hasattr(value, attribute)]:
        raise InputError(f"`{name}` must have {', '.join(needs)}: {kind} lacks {', '.join(lacks)}")


def to_data(value: Any, arrays: dict[str, np.ndarray], path: str = "") -> Any:
    """A component as JSON data, its arrays put into `arrays` by path; raises InputError if it cannot be saved."""
    if dataclasses.is_dataclass(value):
        check_component(path or "value", value)
        prefix = f"{path}." if path else ""
        parts = {name: to_data(part, arrays, prefix + name) for name, part in _fields(value).items()}
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
    """The inverse of `to_data`, executing no code but that of imported components; raises InputError if it is none."""
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
    values = {key: from_data(value, arrays) for key, value in _without_gone(data).items() if key != "type"}
    try:
        return TYPES[name](**values)
    except InputError:
        raise
    except TypeError as error:
        raise InputError(f"it holds a {name!r} with other fields than this program's: {error}") from error


def _without_gone(data: dict[str, Any]) -> dict[str, Any]:
    """A component's data without fields that were None in the version that wrote it and are gone in this one."""
    names = {field.name for field in dataclasses.fields(TYPES[data["type"]])}
    return {key: value for key, value in data.items() if value is not None or key in names}


def completed(data: Any) -> Any:
    """Data of `to_data`, or several by name, with defaults for the fields that the version that wrote it lacked."""
    if isinstance(data, list):
        return [completed(item) for item in data]
    if not isinstance(data, dict):
        return data
    kind = TYPES.get(data.get("type", ""))
    fields = [] if kind is None else dataclasses.fields(kind)
    missing = [field for field in fields if field.name not in data and field.default is not dataclasses.MISSING]
    defaults = {field.name: to_data(field.default, {}) for field in missing}
    return defaults | {name: completed(part) for name, part in data.items()}


def described(data: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Data of `to_data` with digests of their arrays, as JSON data that `described_differences` compares."""
    digests = {name: hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()[:16] for name, x in arrays.items()}
    return json.loads(json.dumps(dict(data=data, arrays=digests)))


def described_differences(now: dict[str, Any], was: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The `differences` of two that are `described`, the second one perhaps by an earlier version."""
    arrays = differences(now["arrays"], was.get("arrays", {}))
    return [*differences(now["data"], completed(was.get("data"))), *arrays]


def differences(now: Any, was: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where nested JSON data, such as those of `to_data`, differ: the path, the present value and the earlier one."""
    if isinstance(now, dict) and isinstance(was, dict):
        for key in {**was, **now}:
            yield from differences(now.get(key), was.get(key), f"{path}.{key}" if path else key)
    elif isinstance(now, list) and isinstance(was, list) and len(now) == len(was):
        for index, pair in enumerate(zip(now, was, strict=True)):
            yield from differences(*pair, f"{path}.{index}")
    elif now != was:
        yield path, now, was


def list_differences(found: Sequence[tuple[str, Any, Any]]) -> str:
    """The first of some `differences` in words, and the number of the others."""
    words = []
    for path, now, was in found[:MOST_DIFFERENCES]:
        old = textwrap.shorten(str(was), 40, placeholder="...")
        new = textwrap.shorten(str(now), 40, placeholder="...")
        words.append(f"{path} {old} (now {new})")
    more = f" and {len(found) - MOST_DIFFERENCES} more" if len(found) > MOST_DIFFERENCES else ""
    return ", ".join(words) + more


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, int | float]]:
    """All numbers that may vary in a component, by path: "competition.radius", "reward.0"; no nested ones."""
    parts: dict[Any, Any] = {}
    if dataclasses.is_dataclass(value):
        varying = [field for field in dataclasses.fields(value) if not {"learnable", "fitted"} & field.metadata.keys()]
        parts = {field.name: getattr(value, field.name) for field in varying}
    elif isinstance(value, tuple) and not any(isinstance(item, tuple) for item in value):
        parts = dict(enumerate(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value
    for name, part in parts.items():
        yield from numbers(part, f"{path}.{name}" if path else str(name))


def is_component(value: object) -> bool:
    """Whether a value is an instance of a component class."""
    return TYPES.get(type(value).__name__) is type(value)


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All components in a component by path, and tuples of some: "learners", "learners.0", "competition"."""
    if isinstance(value, tuple):
        inner: dict[Any, Any] = {index: item for index, item in enumerate(value) if is_component(item)}
    else:
        inner = {name: part for name, part in _fields(value).items() if is_component(part) or isinstance(part, tuple)}
    for name, part in inner.items():
        whole = f"{path}.{name}" if path else str(name)
        if not isinstance(part, tuple) or all(map(is_component, part)):
            yield whole, part
        yield from parts(part, whole)


def call_of(value: Any, longest: float = math.inf) -> str:
    """A component as a call with the arguments that are not defaults; nested calls end early if they are too long.

    Arrays are shown by their shape and a digest.
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
        if _comparable(part) != _comparable(field.default):
            words = call_of(part, longest)
            cut = is_component(part) and len(words) > longest
            arguments.append(f"{field.name}={type(part).__name__ + '(...)' if cut else words}")
    return f"{type(value).__name__}({', '.join(arguments)})"


def leaves(tree: Any, name: str = "") -> dict[str, Any]:
    """The numbers and arrays of a pytree by their dotted paths, such as "competition.radius", behind a name if given.

    All files, states and options name a number by such a path. Raises InputError where two have the same.
    """
    by_path: dict[str, Any] = {}
    for keys, leaf in jax.tree.leaves_with_path(tree):
        path = ".".join(filter(None, (name, jax.tree_util.keystr(keys, simple=True, separator="."))))
        if path in by_path:
            raise InputError(f"`{path}` must name one number, got two: keys may hold no points")
        by_path[path] = leaf
    return by_path


def with_leaves(tree: Any, new: Mapping[str, Any], name: str = "") -> Any:
    """A pytree with some of its `leaves` replaced, by their paths; other paths are left alone."""
    changed = [new.get(path, leaf) for path, leaf in leaves(tree, name).items()]
    return jax.tree.unflatten(jax.tree.structure(tree), changed)


def changed_leaves(before: Any, after: Any) -> dict[str, Any]:
    """The `leaves` of a pytree that are others in another one of the same structure, as JSON data by their paths."""
    changed = {}
    for (path, was), now in zip(leaves(before).items(), jax.tree.leaves(after), strict=True):
        if not np.array_equal(was, now):
            changed[path] = np.asarray(was).tolist()
    return changed


def replace(value: Any, path: str, new: Any) -> Any:
    """A component with another value at a path."""
    name, _, rest = path.partition(".")
    if not path:
        return new
    if isinstance(value, tuple):
        return tuple(replace(item, rest, new) if str(index) == name else item for index, item in enumerate(value))
    return dataclasses.replace(value, **{name: replace(getattr(value, name), rest, new)})

"""Components, the parts of networks: frozen dataclasses that are pytrees of numbers and can be saved.

A component's numbers (thresholds, rates, radii, bounds) are pytree leaves, so that changing one does not recompile. Its
structure (kernel sizes, numbers of features) is marked by `static`. Files hold the names of classes, so that custom
components can be saved, and loaded by any program that has imported them.
"""

import dataclasses
import inspect
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict, TypeVar, Unpack, dataclass_transform

import jax
import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError, explained, no_integer, wrong_type

T = TypeVar("T")

TYPES: dict[str, type] = {}
"""All component classes, including custom ones, keyed by name."""


class Limits(TypedDict, total=False):
    """The limits of a field; see `number` and `static`."""

    minimum: float
    maximum: float
    above: float
    below: float
    one_of: Sequence[Any]


def number(*, default: Any = dataclasses.MISSING, **limits: Unpack[Limits]) -> Any:
    """A field with a finite number, or a tuple of numbers, that can change without recompilation.

    Each number must be at least `minimum`, at most `maximum`, larger than `above` and smaller than `below`, if these
    are given. With the annotation `int` it must be an integer, and with `int | None` or `float | None` it may also be
    None.

    Examples:
      >>> from snnjax import component, number
      >>> @component
      ... class Decay:
      ...     rate: float = number(default=0.1, minimum=0, below=1)
      >>> Decay(rate=0.5)
      Decay(rate=0.5)
      >>> Decay(rate=2.0)
      Traceback (most recent call last):
          ...
      snnjax.core.errors.InputError: `rate` must be finite and at least 0 and below 1, got 2.0
    """
    return dataclasses.field(default=default, metadata=dict(limits=limits))


def static(*, default: Any = dataclasses.MISSING, **limits: Unpack[Limits]) -> Any:
    """A field that is part of the structure: programs are compiled for its value.

    The value must be hashable or a NumPy array. Numbers can have the limits of `number`, and `one_of` lists the allowed
    values.

    Examples:
      >>> import jax
      >>> from snnjax import component, number, static
      >>> @component
      ... class Window:
      ...     size: int = static(default=3, minimum=1)
      ...     weight: float = number(default=1.0)
      >>> jax.tree.leaves(Window(size=5))  # without the size, for which programs are compiled
      [1.0]
    """
    return dataclasses.field(default=default, metadata=dict(static=True, limits=limits or None))


def learnable(*, default: float, **limits: Unpack[Limits]) -> Any:
    """A field with a number, or an array in its place, that is learned: it is saved, but cannot be varied in sweeps.

    All its numbers must be finite, and can have the limits of `number`.

    Examples:
      >>> import dataclasses
      >>> import numpy as np
      >>> from snnjax import Learner, component
      >>> from snnjax.learners import learnable
      >>> @component
      ... class Counting(Learner):
      ...     wins: np.ndarray | float = learnable(default=0.0, minimum=0)
      ...
      ...     def prepared(self, features, classes):
      ...         return dataclasses.replace(self, wins=np.zeros(features, np.float32))
      >>> Counting().prepared(features=3, classes=10).wins
      array([0., 0., 0.], dtype=float32)
    """
    return dataclasses.field(default=default, metadata=dict(learnable=True, limits=limits))


def fitted(*, default: float, **limits: Unpack[Limits]) -> Any:
    """A field with a number that `fit` replaces by an array: it is saved, but cannot be varied in sweeps.

    All its numbers must be finite, and can have the limits of `number`.

    Examples:
      >>> import numpy as np
      >>> from snnjax import component, data
      >>> from snnjax.networks import fitted
      >>> @component
      ... class Centred:
      ...     mean: np.ndarray | float = fitted(default=0.0)
      ...
      ...     def fit(self, images):
      ...         return Centred(mean=images.mean(axis=0))
      >>> Centred().fit(data.digits().train_images).mean.shape
      (28, 28)
    """
    return dataclasses.field(default=default, metadata=dict(fitted=True, limits=limits))


@dataclass_transform(frozen_default=True, field_specifiers=(number, static, learnable, fitted, dataclasses.field))
def component(cls: type[T]) -> type[T]:
    """Class decorator that makes a class a component: a frozen dataclass that is a JAX pytree and can be saved.

    Components are compared and hashed by their class and fields; arrays are compared by their shapes and numbers.

    When an instance is created, lists become tuples, NumPy numbers become Python numbers, and integers become floats if
    the annotation has `float` and not `int`. Then the fields are checked: the types of numbers and strings against the
    annotations, and the limits of single fields as declared by `number` and the other field specifiers. Conditions on
    several fields are checked by the method `check` of the class if it has one. Nothing is checked if numbers are JAX
    arrays, or when JAX rebuilds the component from leaves.

    Raises InputError if another module has a component with this name, if a string field of a rule is not `static`, if
    a default lies outside of the limits of its field, or if a base class with fields is not a component.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from snnjax import component, number
      >>> @component
      ... class Delayed:
      ...     steps: int = number(default=1, minimum=0)
      ...
      ...     def __call__(self, latency, *, time_steps):
      ...         return jnp.minimum(latency + self.steps, time_steps)
      >>> Delayed(steps=4), jax.tree.leaves(Delayed(steps=4))
      (Delayed(steps=4), [4])
    """
    registered = TYPES.get(cls.__name__, cls)
    origins = [(x.__module__, x.__qualname__) for x in (registered, cls)]
    if origins[0] != origins[1] and "__main__" not in (registered.__module__, cls.__module__):
        raise InputError(f"`{cls.__name__}` is already a component of {registered.__module__}: choose another name")
    _check_bases(cls)

    def __post_init__(self: Any) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _kept(field, getattr(self, field.name)))
        if not any(isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(fields_of(self))):
            _check(self)

    def key(self: Any) -> Any:
        return tuple(comparable(getattr(self, field.name)) for field in dataclasses.fields(self) if field.compare)

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
                f"`{field.name}` of {cls.__name__} must be `static` because it is text: {field.name}: str = static()"
            )
        if field.default is not dataclasses.MISSING:
            with explained(f"default of a field of {cls.__name__}"):
                _check_field(field, _kept(field, field.default))
    _register(cls)
    TYPES[cls.__name__] = cls
    return cls


def _register(cls: Any) -> None:
    """Registers a component class as a pytree, in which fields that are not `static` are leaves."""
    structure = [field.name for field in dataclasses.fields(cls) if field.metadata.get("static")]
    leaves = [field.name for field in dataclasses.fields(cls) if not field.metadata.get("static")]

    def flatten(value: Any) -> tuple[Any, Any]:
        parts = [(jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in leaves]
        # JAX compares and hashes the structure of a pytree to find compiled programs. NumPy arrays do not allow that.
        return parts, tuple(_Constant.of(getattr(value, name)) for name in structure)

    def unflatten(kept: Any, parts: Any) -> Any:
        # Not `cls(...)`: JAX also rebuilds components from tracers and placeholders, which would fail the checks.
        value = object.__new__(cls)
        constants = (part.array if isinstance(part, _Constant) else part for part in kept)
        value.__dict__.update(zip((*structure, *leaves), (*constants, *parts), strict=True))
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)


class _Constant:
    """An array in the structure of a pytree, which equals every array with the same numbers."""

    def __init__(self, array: np.ndarray):
        self.array = array
        self._key = array.shape, array.dtype.str, array.tobytes()

    @staticmethod
    def of(value: Any) -> Any:
        """The value itself, or a `_Constant` that holds it if it is an array."""
        return _Constant(value) if isinstance(value, np.ndarray) else value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Constant) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def _check_bases(cls: type) -> None:
    """Raises InputError if a user's base class has fields but is not a component, because they would be lost."""
    for base in cls.__mro__[1:]:
        if dataclasses.is_dataclass(base) or base.__module__.startswith(("snnjax.", "typing", "builtins")):
            continue
        kinds = {name: str(kind) for name, kind in vars(base).get("__annotations__", {}).items()}
        if lost := [name for name, kind in kinds.items() if "ClassVar" not in kind]:
            advice = "decorate it with @snnjax.component too, or annotate them as ClassVar"
            raise InputError(f"`{base.__name__}`, a base of {cls.__name__}, has fields ({', '.join(lost)}): {advice}")


def _kept(field: dataclasses.Field[Any], value: Any) -> Any:
    """The value of a field after conversion to the types that fields hold."""
    if field.metadata.get("static") and isinstance(value, jax.Array):
        value = np.asarray(value)  # NumPy arrays are compared by their numbers
    kinds = re.findall(r"\w+", str(field.type))
    # An integer leaf has a different dtype, so that threshold=15 and threshold=15.0 would compile two programs.
    return _plain(value, floats="float" in kinds and "int" not in kinds)


def _plain(value: Any, floats: bool) -> Any:
    """A value with plain Python numbers, integers as floats if `floats` is true, and tuples in place of lists."""
    if type(value) in (tuple, list):
        return tuple(_plain(item, floats) for item in value)
    if isinstance(value, np.generic):
        value = value.item()
    return float(value) if floats and type(value) is int and abs(value) <= checks.LARGEST_FLOAT else value


def comparable(value: Any) -> Any:
    """The value of a field in a form that can be compared and hashed; for an array, tuples of its shape and numbers."""
    if isinstance(value, tuple):
        return tuple(map(comparable, value))
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
"""The types of fields with these annotations, and their descriptions in messages."""

_OPTIONAL = re.compile(r"\b(None|Optional)\b")


def _check(value: Any) -> None:
    """Raises InputError unless the fields of a component have their types and limits, and its own `check` passes."""
    for field in dataclasses.fields(value):
        _check_field(field, getattr(value, field.name))
    if check := getattr(value, "check", None):
        check()


def _check_field(field: dataclasses.Field[Any], value: Any) -> None:
    """Raises InputError unless the value of a field has the type of its annotation, and lies within its limits."""
    annotation = inspect.formatannotation(field.type).strip("'")
    kind, words = _KINDS.get(annotation, (object, ""))
    fits = isinstance(value, kind) and (annotation == "bool" or not words or not isinstance(value, bool))
    if annotation == "tuple[float, float]":
        fits = fits and len(value) == 2 and all(isinstance(number, _NUMBER) for number in value)
    if not fits:
        raise no_integer(field.name, value) if annotation == "int" else wrong_type(field.name, words, value)
    if words or not field.metadata.get("static"):
        checks.fits_32_bits(field.name, value)
    limits = field.metadata.get("limits")
    if limits is not None and not (value is None and _OPTIONAL.search(annotation)):
        arrays = not {"learnable", "fitted"}.isdisjoint(field.metadata)
        _check_limits(field.name, value, annotation, arrays, **limits)


def _check_limits(
    name: str, value: Any, annotation: str, arrays: bool, *, one_of: Sequence[Any] = (), **limits: Any
) -> None:
    """Raises InputError unless the value of a field is among `one_of`, or its numbers lie within the limits."""
    words = re.findall(r"\w+", annotation)
    if one_of:
        checks.one_of(name, value, one_of)
    elif annotation.startswith("int | tuple[int, int]"):
        checks.pair(name, value, **limits)
    elif annotation.startswith("tuple"):
        checks.instance(name, value, tuple, "a tuple of numbers")
        for item in value:
            _check_limits(name, item, annotation.removeprefix("tuple"), arrays, **limits)
    elif "int" in words and "float" not in words and not arrays:
        checks.integer(name, value, **limits)
    else:
        checks.number(name, value, **limits, optional=_OPTIONAL.search(annotation) is not None, arrays=arrays)


def check_again(value: Any) -> None:
    """Repeats the checks of a component and its nested components; raises InputError as when they were created."""
    if isinstance(value, tuple):
        for item in value:
            check_again(item)
    elif is_component(value):
        for part in fields_of(value).values():
            check_again(part)
        _check(value)


def overrides(cls: type, methods: Iterable[str], name: str) -> bool:
    """Whether a class or a mixin overrides one of the `methods` of the base class that defines the attribute `name`."""
    nearer = itertools.takewhile(lambda kind: name not in vars(kind), cls.__mro__)
    return any(method in vars(kind) for kind in nearer for method in methods)


def fields_of(value: Any) -> dict[str, Any]:
    """The values of a component's fields, keyed by name."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def check_component(name: str, value: object, *needs: str) -> None:
    """Raises InputError unless the class of `value` is itself decorated with `component` and has all of `needs`."""
    if isinstance(value, type):
        raise wrong_type(name, "an instance of a component", value, f"{value.__name__}(...)")
    kind = type(value).__qualname__
    if not is_component(value):
        raise InputError(f"`{name}` must be a component, an instance of a class with @snnjax.component, got {kind}")
    if lacks := [attribute for attribute in needs if not hasattr(value, attribute)]:
        raise InputError(f"`{name}` must have {', '.join(needs)}: {kind} lacks {', '.join(lacks)}")


def is_component(value: object) -> bool:
    """Whether a value is an instance of a component class."""
    return TYPES.get(type(value).__name__) is type(value)

"""Checks of users' arguments: of types, shapes and dtypes, which cost nothing under `jax.jit`, and of known values.

Each check raises InputError, which is a ValueError, for a wrong shape or value, and InputTypeError, which is also a
TypeError, for a wrong type or dtype.
"""

import math
from collections.abc import Iterable, Sequence, Sized
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core.errors import InputError, InputTypeError, TooSmallError, no_integer, shown, title, unknown, wrong_type

Pair = int | tuple[int, int]
Number = float | np.ndarray | jax.Array
Bounds = tuple[Number, Number]
T = TypeVar("T")

LARGEST_INTEGER = 2**31 - 1
"""The largest integer in compiled programs, whose integers have 32 bits."""
LARGEST_SEED = 2**64 - 1
LARGEST_FLOAT = float(np.finfo(np.float32).max)
_KINDS: dict[str, tuple[Any, ...]] = {
    "integer time steps": (jnp.integer,),
    "integers": (jnp.integer,),
    "floats": (jnp.floating,),
    "booleans": (jnp.bool_,),
    "numbers": (jnp.integer, jnp.floating, jnp.bool_),
    "real numbers": (jnp.integer, jnp.floating),
}


def check_static(name: str, value: Any) -> None:
    """Checks a setting that programs are compiled for: it must be hashable, and must not be an array."""
    for part in value if isinstance(value, tuple | list) else (value,):
        if isinstance(part, jax.Array | np.ndarray):
            raise _not_plain(name, part)
    try:
        hash(value)
    except TypeError:
        write = repr(tuple(value)) if isinstance(value, list) else ""
        raise wrong_type(name, "hashable, since programs are compiled for it", value, write) from None


def _not_plain(name: str, value: jax.Array | np.ndarray) -> InputTypeError:
    """The error for an array, traced or not, that was given instead of a number that a program is compiled for."""
    kinds = {"b": "True or False", "i": "a plain integer", "u": "a plain integer"}
    expected = f"`{name}` must be {kinds.get(value.dtype.kind, 'a plain number')}"
    if isinstance(value, jax.core.Tracer):
        write = "make it a static argument of `jax.jit`, or a `static` field of its component"
        return InputTypeError(f"{expected}, which is known when the program is compiled, got {shown(value)}: {write}")
    write = f"tuple({name}.tolist())" if value.ndim else f"{name}.item()"
    return InputTypeError(f"{expected}, got {shown(value)}: write {write}")


def concrete_values(value: Any, kind: Any = jnp.integer) -> np.ndarray | None:
    """The values of an array of the given kind; None if they are hidden by tracing, or if it is not such an array.

    The result is also None for arrays on an accelerator, because copying them to the host would wait for the device at
    every call.
    """
    if isinstance(value, jax.core.Tracer) or not isinstance(value, jax.Array | np.ndarray):
        return None
    on_host = isinstance(value, np.ndarray) or all(device.platform == "cpu" for device in value.devices())
    return np.asarray(value) if on_host and jnp.issubdtype(value.dtype, kind) else None


def check_latency_range(name: str, value: Any, silence: Any) -> None:
    """Checks that latencies, or those of spikes, lie in 0..`silence`, the number of time steps, if they are known."""
    silence = time_steps(silence)
    if hasattr(value, "latency"):
        name = f"{name}.latency"
        value = value.latency
    steps = concrete_values(value)
    if steps is None or not steps.size:
        return
    least = int(steps.min())
    most = int(steps.max())
    if least < 0 or most > silence:
        got = f"got {most if most > silence else least}"
        expected = f"hold time steps 0..{silence - 1}, or {silence} if silent"
        raise InputError(f"`{name}` must {expected}, {got}: give the `time_steps` with which it was encoded")


def check_positions(name: str, positions: np.ndarray, size: Sequence[int], write: str) -> None:
    """Checks that known positions (N, 2), row and column, lie on a map of `size`; `write` is the message's advice."""
    outside = ((positions < 0) | (positions >= np.asarray(size))).any(axis=1)
    if outside.any():
        got = ", ".join(map(str, positions[outside][0]))
        expected = f"lie on the {size[0]}x{size[1]} positions of the layer"
        raise InputError(f"`{name}` must {expected}, got row and column {got}: {write}")


def pixels(name: str, value: Any, scale: float = 1.0) -> None:
    """Checks an array of uint8 or floats; known values must be finite and lie in 0..255, but not all in 0..1.

    Bytes of 0 and 1 are allowed in an event picture, (..., 2), whose values are times with 1 as the last one, and in a
    black picture with a single 1.
    """
    array(name, value, None)
    if value.dtype != jnp.uint8 and not jnp.issubdtype(value.dtype, jnp.floating):
        scaled = " * 255" if value.dtype == bool else ", scaled to 0..255 (16 bits: / 257)"
        write = f"{name}.astype(np.float32){scaled}"
        expected = "uint8, or floats in 0..255"
        raise InputTypeError(f"{title(name)} must be {expected}, got dtype {value.dtype}: write {write}")
    values = concrete_values(value, jnp.number)
    if values is not None and values.size:
        pixel_values(name, values, scale)


def pixel_values(name: str, values: np.ndarray, scale: float = 1.0) -> None:
    """Checks known values of any real dtype as `pixels` does."""
    number(name, values, arrays=True)
    least = float(values.min())
    largest = float(values.max())
    if least < 0 or largest > 255:
        write = "divide them by 257" if 255 < largest == int(largest) <= 65535 and least >= 0 else "scale them"
    elif scale == 1 and 0 < largest <= 1 and not _may_be_dark(values):
        write = "multiply it by 255"
    else:
        return
    raise InputError(f"{title(name)} must hold values in 0..255, got values in {least:g}..{largest:g}: {write}")


def _may_be_dark(values: np.ndarray) -> bool:
    """Whether bytes of 0 and 1 may be those of an event picture, or of a black picture with a single 1."""
    return values.dtype == jnp.uint8 and (values.shape[-1:] == (2,) or np.count_nonzero(values) == 1)


def one_of(name: str, value: Any, known: Iterable[Any], alternatives: str = "") -> None:
    """Checks that a value is one of the `known` values.

    `alternatives` are further possible values in words, such as ", or an .npz file".
    """
    names = list(known)
    if value not in names:
        raise unknown(name, value, names, alternatives)


def instance(name: str, value: Any, kind: Any, expected: str, write: str = "") -> None:
    """Checks that a value is an instance of a class, or of one of several.

    `expected` describes the class in words; `write` is the code to write instead.
    """
    if not isinstance(value, kind):
        raise wrong_type(name, expected, value, write)


def given(name: str, value: T | None, expected: str) -> T:
    """Checks that a value is not None, and returns it; `expected` describes the value in words."""
    if value is None:
        raise InputError(f"{title(name)} must be {expected}, got None")
    return value


def some(name: str, values: Sized, expected: str) -> None:
    """Checks that there is at least one value; `expected` describes the values in words."""
    if not len(values):
        raise InputError(f"{title(name)} must be {expected}, got none")


def only_for(name: str, value: Any, kind: str, advice: str = "") -> None:
    """Checks that a setting is None because it has an effect only on another kind of thing, `kind`."""
    if value is not None:
        raise InputError(f"{title(name)} is for {kind}, got {_brief(value)}" + (f": {advice}" if advice else ""))


def equal(name: str, value: Any, expected: Any, why: str = "") -> None:
    """Checks that a setting has the only possible value; `why` gives the reason."""
    if value is not expected and value != expected:
        raise InputError(f"{title(name)} must be {expected}, got {_brief(value)}" + (f": {why}" if why else ""))


def _brief(value: Any) -> str:
    """A setting as text, or the name of its class if that is long."""
    return str(value) if len(str(value)) <= 80 else type(value).__name__


def same_names(name: str, names: Iterable[str], expected: Iterable[str]) -> None:
    """Checks that the names are the expected ones, in any order."""
    if {*names} != {*expected}:
        raise InputError(f"{title(name)} must be those of {', '.join(expected)}, got {', '.join(names)}")


def length(name: str, values: Sequence[Any], count: int, things: str) -> None:
    """Checks that a sequence has `count` values, one for each of the `things`."""
    if len(values) != count:
        got = f"{len(values)}: {values}" if isinstance(values, tuple) and len(values) < 10 else len(values)
        raise InputError(f"{title(name)} must have one value for each of {count} {things}, got {got}")


def scalar_or_vector(name: str, value: Any, count: int, things: str) -> None:
    """Checks for a number for all of `count` things, or an array (count,) with a number for each of them."""
    if np.shape(value) not in ((), (count,)):
        expected = f"a number, or an array with one number for each of {count} {things}"
        raise InputError(f"{title(name)} must be {expected}, got shape {np.shape(value)}")


def distinct(name: str, values: Sequence[Any]) -> None:
    """Checks that no two values are the same."""
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise InputError(f"{title(name)} must differ, got {twice[0]!r} twice")


def all_within(name: str, values: np.ndarray, least: int, most: int, expected: str = "") -> None:
    """Checks that integers lie in `least`..`most`; `expected` may replace this range in the message."""
    if values.size and (values.min() < least or values.max() > most):
        got = f"{values.min()}..{values.max()}" if values.ndim else values
        raise InputError(f"{title(name)} must {expected or f'lie in {least}..{most}'}, got {got}")


def array(name: str, value: Any, axes: str | None, kind: str | None = None) -> None:
    """Checks for an array with the given `axes`, such as "C H W", and kind of dtype; None allows any axes or kind."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        expected = "" if axes is None else f" with axes ({axes})"
        write = f": write np.array({name})" if isinstance(value, tuple | list) else ""
        raise InputTypeError(f"{title(name)} must be an array{expected}, got {type(value).__name__}{write}")
    refuse_masked(name, value)
    if axes is not None and value.ndim != len(axes.split()):
        raise InputError(f"{title(name)} must have axes ({axes}), got shape {value.shape}")
    if kind and not any(jnp.issubdtype(value.dtype, dtype) for dtype in _KINDS[kind]):
        raise InputTypeError(f"{title(name)} must hold {kind}, got dtype {value.dtype}")


def refuse_masked(name: str, value: Any) -> None:
    """Raises InputTypeError for a masked array of NumPy, because JAX would ignore its mask."""
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError(f"{title(name)} must be a plain array, got a masked array: fill it, as `.filled(0)` does")


def not_empty(name: str, value: Any) -> None:
    """Checks that no axis of an array has the length 0."""
    if 0 in value.shape:
        raise InputError(f"{title(name)} must not be empty, got shape {value.shape}")


def shape(name: str, value: Any, expected: Sequence[int], of: str) -> None:
    """Checks that an array has the shape `expected`; `of` names the thing that has this shape."""
    if np.shape(value) != expected:
        raise InputError(f"{title(name)} must have shape {expected} of {of}, got {np.shape(value)}")


def latency(name: str, value: Any, axes: str | None = "C H W", *, time_steps: int = 0) -> None:
    """Checks for an array of integers with the given `axes`, whose dtype can hold `time_steps`."""
    array(name, value, axes, "integer time steps")
    if time_steps > jnp.iinfo(value.dtype).max:
        raise InputError(f"{title(name)} must be of a type that can hold {time_steps}, got dtype {value.dtype}")


def integer(
    name: str, value: Any, minimum: float = -math.inf, maximum: float = LARGEST_INTEGER, *, why: str = ""
) -> int:
    """Checks for an integer in `minimum`..`maximum`, and returns it; `why` explains the maximum."""
    if isinstance(value, jax.Array | np.ndarray):
        raise _not_plain(name, value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise no_integer(name, value)
    if not minimum <= value <= maximum:
        limit = f"at least {minimum}" if value < minimum else f"at most {maximum}" + (f", {why}" if why else "")
        raise InputError(f"{title(name)} must be {limit}, got {shown(value)}")
    return int(value)


def epochs(value: Any) -> tuple[int, ...]:
    """Checks the epochs of each stage, and returns them as plain integers; for a single stage, a number will do."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value = (value,)
    instance("epochs", value, tuple | list, "a tuple of integers, one for each stage")
    return tuple(integer("epochs", count, 0) for count in value)


def seed(value: Any) -> int:
    """Checks for an unsigned 64-bit integer, and returns it."""
    return integer("seed", value, 0, LARGEST_SEED)


def fits_32_bits(name: str, value: Any) -> None:
    """Checks that int32 or float32 can hold a number, or all numbers of a tuple or an array; infinity is allowed."""
    if isinstance(value, tuple):
        for item in value:
            fits_32_bits(name, item)
    elif isinstance(value, int) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
        raise InputError(f"{title(name)} must fit into int32, got {shown(value)}")
    elif isinstance(value, float | np.ndarray) and (array := np.asarray(value)).dtype.kind in "iuf":
        whole = array.dtype.kind != "f"
        lowest = -LARGEST_INTEGER - 1 if whole else -LARGEST_FLOAT
        largest = LARGEST_INTEGER if whole else LARGEST_FLOAT
        numbers = array.astype(np.float64)  # float16 cannot hold the limits
        if np.any(((numbers < lowest) | (numbers > largest)) & np.isfinite(numbers)):
            raise InputError(f"{title(name)} must fit into {'int32' if whole else 'float32'}, got {shown(value)}")


def number(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    optional: bool = False,
    arrays: bool = False,
) -> None:
    """Checks for a finite number in `minimum`..`maximum` that is larger than `above` and smaller than `below`.

    With `arrays`, an array is allowed if all of its numbers meet these conditions. With `optional`, the message says
    that None is also allowed.
    """
    if np.ndim(value) and not arrays:
        raise wrong_type(name, "a number", value)
    numbers = np.asarray(value)

    def fits(x: np.ndarray) -> np.ndarray:
        return np.isfinite(x) & (x >= minimum) & (x <= maximum) & (x > above) & (x < below)

    # Only the extremes are checked: masks of all numbers would cost time and memory for large arrays. If there is a
    # NaN, it is both extremes.
    if numbers.size and not (fits(numbers.min()) and fits(numbers.max())):
        expected = _range(minimum, maximum, above, below)
        got = numbers[~fits(numbers)][0] if np.ndim(value) else value
        raise InputError(f"{title(name)} must {'be None, or ' if optional else ''}{expected}, got {got}")


def _range(minimum: float, maximum: float, above: float, below: float) -> str:
    """The condition on a number with these limits, in words that follow "must"."""
    if math.isfinite(minimum) and math.isfinite(maximum):
        return f"lie in {minimum:g}..{maximum:g}"
    if math.isfinite(above) and math.isfinite(maximum):
        return f"lie above {above:g} and up to {maximum:g}"
    limits = {"at least": minimum, "above": above, "at most": maximum, "below": below}
    return " and ".join(["be finite", *(f"{words} {x:g}" for words, x in limits.items() if math.isfinite(x))])


def real(name: str, value: Any) -> None:
    """Checks for a real number, or an array () of one."""
    kind = type(value) if isinstance(value, int | float) else getattr(value, "dtype", bool)
    if np.ndim(value) or not any(jnp.issubdtype(kind, known) for known in _KINDS["real numbers"]):
        raise wrong_type(name, "a number or an array ()", value)


def at_least(name: str, value: Any, least: float, *, above: bool = False) -> None:
    """Checks that the known values of a number or an array are at least `least`, or larger with `above`."""
    known = np.asarray(value) if isinstance(value, int | float) else concrete_values(value, jnp.number)
    if known is None or not known.size:
        return
    lowest = known.min()
    if not (lowest > least if above else lowest >= least):
        raise InputError(f"{title(name)} must be {'above' if above else 'at least'} {least:g}, got {lowest:g}")


def pair(name: str, value: Pair, minimum: int, maximum: int = LARGEST_INTEGER) -> tuple[int, int]:
    """Checks for one or two integers in `minimum`..`maximum`, and returns them as (rows, columns)."""
    values = value if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise InputError(f"{title(name)} must be one integer or two, (rows, columns), got {value!r}")
    return integer(name, values[0], minimum, maximum), integer(name, values[1], minimum, maximum)


def time_steps(value: Any) -> int:
    """Checks a number of time steps, and returns it."""
    return integer("time_steps", value, 1)


def radius(value: Any) -> None:
    """Checks an inhibition radius: an integer of at least 0, or an array () of integers."""
    if not isinstance(value, jax.Array | np.ndarray):
        integer("radius", value, 0)
    elif value.ndim or not jnp.issubdtype(value.dtype, jnp.integer):
        raise wrong_type("radius", "an integer or an array () of integers", value)
    elif (known := concrete_values(value)) is not None:
        integer("radius", known.item(), 0)


def threshold(value: Any, features: int | None = None) -> None:
    """Checks a threshold: None, a finite number, or a real array of shape () or (F,); F is `features`, if known."""
    kind = type(value) if isinstance(value, int | float) else getattr(value, "dtype", bool)
    real = jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.floating)
    if value is not None and not real:
        write = "np.array([...])" if isinstance(value, tuple | list) else ""
        raise wrong_type("threshold", "a number, an array (F,) or None", value, write)
    if np.ndim(value) > 1 or (np.ndim(value) and np.shape(value) != (features or len(value),)):
        raise InputError(f"`threshold` must have shape () or ({features or 'F'},), got shape {np.shape(value)}")
    fits_32_bits("threshold", value)
    if isinstance(value, int | float | np.number | np.ndarray):
        number("threshold", value, arrays=True)


def bounds(value: Bounds, least: float | None = None) -> None:
    """Checks the bounds of weights: (lower, upper), numbers or arrays (), with lower < upper as far as they are known.

    If `least` is given, both must be at least `least`.
    """
    instance("bounds", value, tuple | list, "(lower, upper)")
    for bound in value:
        kind = type(bound) if isinstance(bound, int | float) else getattr(bound, "dtype", bool)
        if np.ndim(bound) or not any(jnp.issubdtype(kind, real) for real in _KINDS["real numbers"]):
            raise wrong_type("bounds", "(lower, upper), two numbers or arrays ()", value)
        fits_32_bits("bounds", bound)
    known: list[Any] = [x if isinstance(x, int | float | np.number) else concrete_values(x, jnp.number) for x in value]
    if len(value) != 2 or (None not in known and not known[0] < known[1]):
        raise InputError(f"`bounds` must be (lower, upper) with lower < upper, got {value}")
    if least is not None and known[0] is not None and not known[0] >= least:
        raise InputError(f"`bounds` must be at least {least:g}, so that potentials never fall, got {value}")


def rates(value: Any, name: str = "rates") -> None:
    """Checks learning rates: an array (a+, a-)."""
    array(name, value, "2", "real numbers")
    shape(name, value, (2,), "(a+, a-)")


def convolution(
    latency_in: Any, weights: Any, *, name: str = "latency", time_steps: int = 0, padding: Pair = 0
) -> tuple[int, int]:
    """Checks that weights (F, C, kh, kw) fit the latencies `latency_in`, (C, H, W), which messages call `name`.

    Returns the rows and columns of the padded input.
    """
    latency(name, latency_in, time_steps=time_steps)
    array("weights", weights, "F C kh kw", "floats")
    not_empty("weights", weights)
    rows, columns = pair("padding", padding, 0)
    size = latency_in.shape[1] + 2 * rows, latency_in.shape[2] + 2 * columns
    fits(name, (len(latency_in), *size), "weights", weights.shape[1:])
    return size


def fits(name: str, shape: Sequence[int], weights: str, kernel: Sequence[int]) -> None:
    """Checks that a kernel (C, kh, kw) of `weights` fits on the maps `name` of `shape` (C, H, W)."""
    if shape[0] != kernel[0]:
        raise InputError(f"{title(name)} must have the {kernel[0]} channels of `{weights}`, got {shape[0]}")
    window(f"the kernel of `{weights}`", kernel[1:], shape[1:])


def window(name: str, kernel: Sequence[int], size: Sequence[int]) -> None:
    """Checks that a window is not larger than the map on which it slides."""
    if kernel[0] > size[0] or kernel[1] > size[1]:
        raise TooSmallError(f"{name} must fit into the map of {size[0]}x{size[1]}, got {kernel[0]}x{kernel[1]}")

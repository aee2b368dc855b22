"""Checks of users' arguments: of types, shapes and dtypes, which cost nothing under `jax.jit`, and of known values.

Each raises InputError, a ValueError, for a wrong shape or value, and InputTypeError, which is a TypeError too, for a
wrong type or dtype.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import sharding
from snnjax.core.errors import InputError, InputTypeError, TooSmallError, no_integer, shown, unknown, wrong_type

Pair = int | tuple[int, int]
Number = float | np.ndarray | jax.Array
Bounds = tuple[Number, Number]
Function = TypeVar("Function", bound=Callable[..., Any])

LARGEST_INTEGER = 2**31 - 1
"""The largest integer that programs compute with: theirs have 32 bits."""
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


def kernel(*static: str, check: Callable[..., None] | None = None) -> Callable[[Function], Function]:
    """Decorator: `jax.jit` with `static` arguments, after checks of the values known before tracing.

    Static arguments are plain, threshold, radius and bounds lie in their ranges, latencies in 0..`time_steps`; `check`
    is a function of all arguments by name. Values that are traced already, or lie on an accelerator, are left out. The
    function has `lower`, `trace` and `eval_shape` of the compiled one, which check no values.
    """

    def decorate(function: Function) -> Function:
        compiled = jax.jit(function, static_argnames=static)
        parameters = inspect.signature(function).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        by_value = {name: _BY_VALUE[name] for name in parameters if name in _BY_VALUE and name not in static}
        latencies = [name for name in parameters if name in _LATENCIES] if "time_steps" in static else []

        @functools.wraps(function)
        def call(*args: Any, **settings: Any) -> Any:
            given = defaults | dict(zip(parameters, args, strict=False)) | settings
            for name, value in given.items():
                refuse_masked(name, value)
            if given.keys() == parameters.keys():  # otherwise `compiled` names the missing argument
                for name in static:
                    check_static(name, given[name])
                for name, check_value in by_value.items():
                    check_value(given[name])
                for name in latencies:
                    check_latency_range(name, given[name], given["time_steps"])
                if check is not None:
                    check(**given)
            mesh = sharding.explicit_mesh(given)
            if mesh is None or given.keys() != parameters.keys():
                return compiled(*args, **settings)
            plain = {name: given.pop(name) for name in static}
            return sharding.call_with_auto_axes(lambda arrays: compiled(**arrays, **plain), given, mesh)

        vars(call).update({name: getattr(compiled, name) for name in ("lower", "trace", "eval_shape")})
        return call  # type: ignore[return-value]

    return decorate


_LATENCIES = ("latency", "latencies", "spikes", "patch", "patches")
"""Arguments of kernels that hold latencies."""


def check_static(name: str, value: Any) -> None:
    """A setting that programs are compiled for: no array, and hashable."""
    for part in value if isinstance(value, tuple | list) else (value,):
        if isinstance(part, jax.Array | np.ndarray):
            raise _not_plain(name, part)
    try:
        hash(value)
    except TypeError:
        write = repr(tuple(value)) if isinstance(value, list) else ""
        raise wrong_type(name, "hashable, since programs are compiled for it", value, write) from None


def _not_plain(name: str, value: jax.Array | np.ndarray) -> InputTypeError:
    """The error for an array, traced or not, in place of a number that a program is compiled for."""
    kinds = {"b": "True or False", "i": "a plain integer", "u": "a plain integer"}
    expected = f"`{name}` must be {kinds.get(value.dtype.kind, 'a plain number')}"
    if isinstance(value, jax.core.Tracer):
        write = "make it a static argument of `jax.jit`, or a `static` field of its component"
        return InputTypeError(f"{expected}, which is known when the program is compiled, got {shown(value)}: {write}")
    write = f"tuple({name}.tolist())" if value.ndim else f"{name}.item()"
    return InputTypeError(f"{expected}, got {shown(value)}: write {write}")


def concrete_values(value: Any, kind: Any = jnp.integer) -> np.ndarray | None:
    """The values of an array of a kind; None where tracing hides them, or it is none of these.

    None of arrays on an accelerator too: copying them to the host would wait for the device at every call.
    """
    if isinstance(value, jax.core.Tracer) or not isinstance(value, jax.Array | np.ndarray):
        return None
    on_host = isinstance(value, np.ndarray) or all(device.platform == "cpu" for device in value.devices())
    return np.asarray(value) if on_host and jnp.issubdtype(value.dtype, kind) else None


def check_latency_range(name: str, value: Any, silence: Any) -> None:
    """Latencies, or spikes with latencies, in 0..`silence`, the number of time steps, as far as they are known."""
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
        expected = f"hold steps 0..{silence - 1}, and {silence} where silent"
        raise InputError(f"`{name}` must {expected}, {got}: give the `time_steps` that it was encoded with")


def check_positions(name: str, positions: np.ndarray, size: Sequence[int], write: str) -> None:
    """Known positions (N, 2), row and column, on a map of `size`; `write` is the remedy in the message."""
    outside = ((positions < 0) | (positions >= np.asarray(size))).any(axis=1)
    if outside.any():
        got = ", ".join(map(str, positions[outside][0]))
        expected = f"lie on the {size[0]}x{size[1]} positions of the layer"
        raise InputError(f"`{name}` must {expected}, got row and column {got}: {write}")


def pixels(name: str, value: Any, scale: float = 1.0) -> None:
    """An array of uint8 or floats; if they are known, finite and of 0..255, but not of 0..1.

    Bytes of an event picture, (..., 2), are times of which 1 is the last, and a black picture may hold a single 1.
    """
    array(name, value, None)
    if value.dtype != jnp.uint8 and not jnp.issubdtype(value.dtype, jnp.floating):
        scaled = " * 255" if value.dtype == bool else ", scaled to 0..255 (16 bits: / 257)"
        write = f"{name}.astype(np.float32){scaled}"
        raise InputTypeError(f"`{name}` must be uint8 or floats of 0..255, got dtype {value.dtype}: write {write}")
    values = concrete_values(value, jnp.number)
    if values is None or not values.size:
        return
    if value.dtype != jnp.uint8 and not np.isfinite(values).all():
        raise InputError(f"`{name}` must be finite, got NaN or infinite values")
    least = values.min()
    largest = values.max()
    if least < 0 or largest > 255:
        write = "divide them by 257" if 255 < largest == int(largest) <= 65535 and least >= 0 else "scale them"
        raise InputError(f"`{name}` must be of 0..255, got values of {least:g}..{largest:g}: {write}")
    if value.dtype == jnp.uint8 and (value.shape[-1:] == (2,) or np.count_nonzero(values) == 1):
        return
    if scale == 1 and 0 < largest <= 1:
        raise InputError(f"`{name}` must be of 0..255, got values up to {largest:g}: multiply it by 255")


def one_of(name: str, value: Any, known: Iterable[Any], others: str = "") -> None:
    """One of some values; `others` are further ones in words, such as ", or an .npz file"."""
    names = list(known)
    if value not in names:
        raise unknown(name, value, names, others)


def instance(name: str, value: Any, kind: Any, expected: str, write: str = "") -> None:
    """An instance of a class, or of one of several; `expected` says so in words, `write` is what to write instead."""
    if not isinstance(value, kind):
        raise wrong_type(name, expected, value, write)


def array(name: str, value: Any, axes: str | None, kind: str | None = None) -> None:
    """An array with `axes` ("C H W"; None: any) of a kind."""
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        expected = "" if axes is None else f" of axes ({axes})"
        write = f": write np.array({name})" if isinstance(value, tuple | list) else ""
        raise InputTypeError(f"`{name}` must be an array{expected}, got {type(value).__name__}{write}")
    refuse_masked(name, value)
    if axes is not None and value.ndim != len(axes.split()):
        raise InputError(f"`{name}` must have axes ({axes}), got shape {value.shape}")
    if kind and not any(jnp.issubdtype(value.dtype, dtype) for dtype in _KINDS[kind]):
        raise InputTypeError(f"`{name}` must hold {kind}, got dtype {value.dtype}")


def refuse_masked(name: str, value: Any) -> None:
    """Raises InputTypeError for a masked array of NumPy, of which JAX would take the masked values too."""
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError(f"`{name}` must be a plain array, got a masked one: fill it, as by `.filled(0)`")


def not_empty(name: str, value: Any) -> None:
    """An array in which no axis has the length 0."""
    if 0 in value.shape:
        raise InputError(f"`{name}` must not be empty, got shape {value.shape}")


def shape(name: str, value: Any, expected: Sequence[int], of: str) -> None:
    """An array whose shape is the one `expected` of other arrays."""
    if value.shape != expected:
        raise InputError(f"`{name}` must have shape {expected} of {of}, got {value.shape}")


def latency(name: str, value: Any, axes: str | None = "C H W", *, time_steps: int = 0) -> None:
    """An array of integers with `axes` that can hold `time_steps`."""
    array(name, value, axes, "integer time steps")
    if time_steps > jnp.iinfo(value.dtype).max:
        raise InputError(f"`{name}` must be of a type that can hold {time_steps}, got dtype {value.dtype}")


def integer(name: str, value: Any, minimum: float = -math.inf, maximum: float = LARGEST_INTEGER) -> int:
    """An integer of `minimum` to `maximum`, which it returns."""
    if isinstance(value, jax.Array | np.ndarray):
        raise _not_plain(name, value)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise no_integer(name, value)
    if value < minimum:
        raise InputError(f"`{name}` must be at least {minimum}, got {value}")
    if value > maximum:
        raise InputError(f"`{name}` must be at most {maximum}, got {shown(value)}")
    return int(value)


def epochs(value: Any) -> tuple[int, ...]:
    """The epochs of each stage as plain integers; a single stage may have a number that is no tuple."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value = (value,)
    if not isinstance(value, tuple | list):
        raise wrong_type("epochs", "a tuple of integers, one for each stage", value)
    return tuple(integer("epochs", count, 0) for count in value)


def seed(value: Any) -> int:
    """An integer of 64 bits, which it returns."""
    return integer("seed", value, 0, LARGEST_SEED)


def fits_32_bits(name: str, value: Any) -> None:
    """Numbers, also in a tuple or an array, that int32 or float32 can hold; infinity may be one."""
    if isinstance(value, tuple):
        for item in value:
            fits_32_bits(name, item)
    elif isinstance(value, int) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
        raise InputError(f"`{name}` must fit into int32, got {shown(value)}")
    elif isinstance(value, float | np.ndarray) and (array := np.asarray(value)).dtype.kind in "iuf":
        whole = array.dtype.kind != "f"
        lowest = -LARGEST_INTEGER - 1 if whole else -LARGEST_FLOAT
        largest = LARGEST_INTEGER if whole else LARGEST_FLOAT
        numbers = array.astype(np.float64)  # float16 cannot hold the limits
        if np.any(((numbers < lowest) | (numbers > largest)) & np.isfinite(numbers)):
            raise InputError(f"`{name}` must fit into {'int32' if whole else 'float32'}, got {shown(value)}")


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
    """A finite number of `minimum` to `maximum`, larger than `above` and smaller than `below`.

    With `arrays` all numbers of an array must be such. With `optional` the message says that None is allowed too.
    """
    if np.ndim(value) and not arrays:
        raise wrong_type(name, "a number", value)
    numbers = np.asarray(value)
    fits = np.isfinite(numbers) & (numbers >= minimum) & (numbers <= maximum) & (numbers > above) & (numbers < below)
    if not fits.all():
        expected = _range(minimum, maximum, above, below)
        got = numbers[~fits][0] if np.ndim(value) else value
        raise InputError(f"`{name}` must {'be None, or ' if optional else ''}{expected}, got {got}")


def _range(minimum: float, maximum: float, above: float, below: float) -> str:
    """In words what a number between these must do."""
    if math.isfinite(minimum) and math.isfinite(maximum):
        return f"lie in {minimum:g}..{maximum:g}"
    if math.isfinite(above) and math.isfinite(maximum):
        return f"lie above {above:g} and up to {maximum:g}"
    limits = {"at least": minimum, "above": above, "at most": maximum, "below": below}
    return " and ".join(["be finite", *(f"{words} {x:g}" for words, x in limits.items() if math.isfinite(x))])


def real(name: str, value: Any) -> None:
    """A real number, or an array () of one."""
    kind = type(value) if isinstance(value, int | float) else getattr(value, "dtype", bool)
    if np.ndim(value) or not any(jnp.issubdtype(kind, known) for known in _KINDS["real numbers"]):
        raise wrong_type(name, "a number or an array ()", value)


def at_least(name: str, value: Any, least: float, *, above: bool = False) -> None:
    """A number or an array whose known values are at least `least`, or with `above` larger."""
    known = np.asarray(value) if isinstance(value, int | float) else concrete_values(value, jnp.number)
    if known is None or not known.size:
        return
    lowest = known.min()
    if not (lowest > least if above else lowest >= least):
        raise InputError(f"`{name}` must be {'above' if above else 'at least'} {least:g}, got {lowest:g}")


def pair(name: str, value: Pair, minimum: int, maximum: int = LARGEST_INTEGER) -> tuple[int, int]:
    """One integer of `minimum` to `maximum` or two; returns (rows, columns)."""
    values = value if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise InputError(f"`{name}` must be one integer or two, (rows, columns), got {value!r}")
    return integer(name, values[0], minimum, maximum), integer(name, values[1], minimum, maximum)


def time_steps(value: Any) -> int:
    """A number of time steps, which it returns."""
    return integer("time_steps", value, 1)


def radius(value: Any) -> None:
    """An integer >= 0, or an array () of integers."""
    if not isinstance(value, jax.Array | np.ndarray):
        integer("radius", value, 0)
    elif value.ndim or not jnp.issubdtype(value.dtype, jnp.integer):
        raise wrong_type("radius", "an integer or an array () of integers", value)
    elif (known := concrete_values(value)) is not None:
        integer("radius", known.item(), 0)


def threshold(value: Any, features: int | None = None) -> None:
    """None, a finite number, or a real array of shape () or (F,), with as many `features` if they are known."""
    kind = type(value) if isinstance(value, int | float) else getattr(value, "dtype", bool)
    real = jnp.issubdtype(kind, jnp.integer) or jnp.issubdtype(kind, jnp.floating)
    if value is not None and not real:
        write = "np.array([...])" if isinstance(value, tuple | list) else ""
        raise wrong_type("threshold", "a number, an array (F,) or None", value, write)
    if np.ndim(value) > 1 or (np.ndim(value) and np.shape(value) != (features or len(value),)):
        raise InputError(f"`threshold` must have shape () or ({features or 'F'},), got shape {np.shape(value)}")
    fits_32_bits("threshold", value)
    if isinstance(value, int | float | np.number | np.ndarray) and not np.isfinite(value).all():
        raise InputError(f"`threshold` must be finite, got {value}")


def bounds(value: Bounds, least: float | None = None) -> None:
    """(lower, upper), numbers or arrays (), of at least `least` if that is given, in order as far as they are known."""
    if not isinstance(value, tuple | list):
        raise wrong_type("bounds", "(lower, upper)", value)
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


_BY_VALUE = dict(radius=radius, threshold=threshold, bounds=bounds)


def rates(value: Any, name: str = "rates") -> None:
    """An array (a+, a-)."""
    array(name, value, "2", "real numbers")
    if value.shape != (2,):
        raise InputError(f"`{name}` must be (a+, a-), of shape (2,), got shape {value.shape}")


def convolution(
    latency_in: Any, weights: Any, *, name: str = "latency", time_steps: int = 0, padding: Pair = 0
) -> tuple[int, int]:
    """Weights (F, C, kh, kw) that fit over `latency_in` (C, H, W), named `name`; returns rows and columns, padded."""
    latency(name, latency_in, time_steps=time_steps)
    array("weights", weights, "F C kh kw", "floats")
    not_empty("weights", weights)
    rows, columns = pair("padding", padding, 0)
    size = latency_in.shape[1] + 2 * rows, latency_in.shape[2] + 2 * columns
    fits(name, (len(latency_in), *size), "weights", weights.shape[1:])
    return size


def fits(name: str, shape: Sequence[int], weights: str, kernel: Sequence[int]) -> None:
    """A kernel (C, kh, kw) of `weights` that slides over maps `name` of `shape` (C, H, W)."""
    if shape[0] != kernel[0]:
        raise InputError(f"`{name}` must have the {kernel[0]} channels of `{weights}`, got {shape[0]}")
    window(f"the kernel of `{weights}`", kernel[1:], shape[1:])


def window(name: str, kernel: Sequence[int], size: Sequence[int]) -> None:
    """A window no larger than the map it slides over."""
    if kernel[0] > size[0] or kernel[1] > size[1]:
        raise TooSmallError(f"{name} must fit into the map of {size[0]}x{size[1]}, got {kernel[0]}x{kernel[1]}")

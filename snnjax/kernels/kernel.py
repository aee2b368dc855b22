"""The decorator of public kernels, which checks their arguments, and the choice between their implementations.

A public kernel is a function with the decorator `kernel`. If it also has an implementation in C++, it ends with
`dispatch(supported, native, xla)(*arrays)`, in which `native` is a `native_call`, and `xla` is the function that
defines the result for the same arrays.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from snnjax.core import checks, devices, sharding
from snnjax.core.checks import Pair
from snnjax.kernels import backend
from snnjax.kernels import native as library

Function = TypeVar("Function", bound=Callable[..., Any])

_CHECKS = dict(radius=checks.radius, threshold=checks.threshold, bounds=checks.bounds)
_LATENCIES = ("latency", "latencies", "spikes", "patch", "patches")


def kernel(*static: str, check: Callable[..., None] | None = None) -> Callable[[Function], Function]:
    """Decorator that applies `jax.jit` with `static` arguments, and checks values that are known before tracing.

    It checks that static arguments are plain values, that threshold, radius and bounds lie in their ranges, and that
    latencies lie in 0..`time_steps`; `check` is called with all arguments by name. Values that are already traced, or
    that are on an accelerator, are not checked. The decorated function has the attributes `lower`, `trace` and
    `eval_shape` of the jitted function, which check no values.
    """

    def decorate(function: Function) -> Function:
        compiled = jax.jit(function, static_argnames=static)
        parameters = inspect.signature(function).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
        by_value = {name: _CHECKS[name] for name in parameters if name in _CHECKS and name not in static}
        latencies = [name for name in parameters if name in _LATENCIES] if "time_steps" in static else []

        @functools.wraps(function)
        def check_and_call(*args: Any, **settings: Any) -> Any:
            given = defaults | dict(zip(parameters, args, strict=False)) | settings
            for name, value in given.items():
                checks.refuse_masked(name, value)
            if given.keys() == parameters.keys():  # otherwise the error of `compiled` names the missing argument
                for name in static:
                    checks.check_static(name, given[name])
                for name, check_value in by_value.items():
                    check_value(given[name])
                for name in latencies:
                    checks.check_latency_range(name, given[name], given["time_steps"])
                if check is not None:
                    check(**given)
            mesh = sharding.explicit_mesh(given)
            if mesh is None or given.keys() != parameters.keys():
                return compiled(*args, **settings)
            plain = {name: given.pop(name) for name in static}
            return sharding.call_with_auto_axes(lambda arrays: compiled(**arrays, **plain), given, mesh)

        vars(check_and_call).update({name: getattr(compiled, name) for name in ("lower", "trace", "eval_shape")})
        return check_and_call  # type: ignore[return-value]

    return decorate


def dispatch(supported: bool, native: Callable[..., Any], xla: Callable[..., Any]) -> Callable[..., Any]:
    """A function of pytrees of arrays that calls `native` on a CPU if the current context allows it, or else `xla`.

    The choice is made when the program is lowered, so that compiled code is used for arrays on a CPU whatever JAX's
    default device is. `xla` is also used if the compiled implementation is not `supported`, and for derivatives.
    """
    uses_native = supported and backend.current_is_native()
    # On a CPU, XLA computes stimuli one after the other, which is several times faster than side by side.
    sequential_xla = devices.one_by_one(xla)

    @jax.custom_jvp
    def run(*arrays: Any) -> Any:
        arrays = jax.tree.map(jnp.asarray, arrays)
        if uses_native:
            return lax.platform_dependent(*arrays, cpu=native, default=xla)
        return sequential_xla(*arrays)

    @run.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        return jax.jvp(xla, primals, tangents)

    return run


def supports_native(values: jax.Array, time_steps: int) -> bool:
    """Whether compiled implementations support the dtype of values, such as weights, and the number of time steps."""
    return values.dtype == jnp.float32 and time_steps <= library.MAX_TIME_STEPS


float_array = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
int_array = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
byte_array = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.uint8)


def layer_settings(time_steps: int, stride: Pair, padding: Pair) -> dict[str, Any]:
    """The settings that give a C++ kernel the number of time steps, and the stride and padding of a layer."""
    margins = checks.pair("padding", padding, 0)
    strides = checks.pair("stride", stride, 1)
    return dict(steps=int(time_steps), layer=np.array([*margins, *strides], np.int64))


def native_call(name: str, results: Any, /, *, replaced: int = 0, **settings: Any) -> Callable[..., Any]:
    """A function that calls a C++ kernel; under `jax.vmap`, it makes a single call for all stimuli.

    Its arguments are arrays in the order in which the C++ kernel expects them. Latencies are uint8, without padding,
    and weights are (F, C, kh, kw) float32; each call packs them as the kernel needs them. Under `jax.vmap`, over
    stimuli, networks or both, the work is shared among the CPU's cores.

    Args:
      name: the name of the C++ kernel.
      results: the shapes and dtypes of the results, such as `float_array(shape)`: one, or a tuple.
      replaced: n, if the first n results are written in place of the first n arrays; otherwise 0.
      settings: the kernel's settings: integers, booleans and NumPy arrays.
    """
    # Not `isinstance`: a bool is an int too, but C++ reads flags as booleans and refuses integers.
    attributes = {key: np.int64(value) if type(value) is int else value for key, value in settings.items()}

    def run_native(*arrays: jax.Array) -> Any:
        call: Callable[..., Any] = functools.partial(
            jax.ffi.ffi_call(
                library.register(name),
                results,
                # An argument that all stimuli share gets an axis of size 1. "broadcast_all" would copy the weights for
                # each stimulus, and the C++ kernel would pack each copy.
                vmap_method="expand_dims",
                input_output_aliases={index: index for index in range(replaced)},
            ),
            **attributes,
        )
        if replaced:
            call = _with_copies(call, replaced)
        numbers_too = [jnp.atleast_1d(array) for array in arrays]  # C++ reads a number as an array of shape (1,)
        return sharding.vary_like(call(*numbers_too), arrays)

    return run_native


def _with_copies(call: Callable[..., Any], replaced: int) -> Callable[..., Any]:
    """A call that, under `jax.vmap`, copies the arguments that are replaced by results, once for each stimulus."""

    @jax.custom_batching.custom_vmap
    def run(*args: jax.Array) -> Any:
        return call(*args)

    @run.def_vmap
    def _(size: int, batched: list[bool], *args: jax.Array) -> Any:
        # With only "expand_dims", a shared argument would get an axis of size 1, but a result that replaces it has an
        # axis of size `size`.
        copied = [batch or index < replaced for index, batch in enumerate(batched)]
        whole = [
            jnp.broadcast_to(x, (size, *x.shape)) if copy and not batch else x
            for x, copy, batch in zip(args, copied, batched, strict=True)
        ]
        results = _with_copies(jax.vmap(call, [0 if copy else None for copy in copied]), replaced)(*whole)
        return results, jax.tree.map(lambda _: True, results)

    return run

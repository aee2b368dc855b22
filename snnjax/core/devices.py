"""The devices on which programs run: one device for sequences, all local devices of a kind for independent images."""

import contextlib
import functools
import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from filelock import FileLock, Timeout

from snnjax.core import files
from snnjax.core.errors import InputError

BATCH_SIZES = dict(
    learned=1000,  # the approximate number of images that a program learns from between two progress reports
    # The largest number of independent images per call that a core processes, one by one. Each call prepares the
    # weights again: evaluating deep2024 takes 0.019 ms per image with 512 images and 0.037 ms with 128.
    cpu=512,
    gpu=128,  # the largest number of independent images that a GPU processes at once
    tpu=128,  # the same for a TPU
    # Layers with ramps process this number of images together on a CPU: they share a matrix product, and still fit into
    # the caches.
    ramp=16,
)
"""The number of images that programs process at once; results do not depend on it, except for rounding in ramp layers.

In contrast, results do depend on `Settings.adapt_every`, `Settings.update_batch` and `Learner.minibatch_size`.
"""


def choose(name: str) -> jax.Device:
    """Makes the first device of the kind `name` the default device, and returns it; each CPU core becomes a device.

    "auto" chooses an accelerator if there is one. If no folder for compiled programs is set in JAX, they are kept in
    the user's cache folder. Raises InputError if there is no such device.
    """
    with contextlib.suppress(RuntimeError):  # JAX has already been initialised, and its devices are fixed
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        # Each core processes its own images. On a single device XLA spreads every batched operation over the cores,
        # which costs these small operations more than it saves.
        jax.config.update("jax_num_cpu_devices", cores)
    try:
        devices = jax.local_devices(backend=None if name == "auto" else name)
    except RuntimeError as error:
        kinds = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise InputError(f"`device` {name} is not available; jax sees: {kinds}") from error
    jax.config.update("jax_default_device", devices[0])
    if jax.config.values["jax_compilation_cache_dir"] is None:
        # Compiled programs use the instruction sets of this processor, and the home folder may be shared with computers
        # that have other processors.
        kind = hashlib.sha256(processor_features().encode()).hexdigest()[:8]
        with contextlib.suppress(OSError):
            jax.config.update("jax_compilation_cache_dir", str(files.cache_folder() / f"programs-{kind}"))
            # By default JAX keeps only programs that take at least a second to compile. All programs of a training run
            # of mozafari2018 compile in 1.2 s together, so that hardly any would be kept.
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
            # With the default 0, JAX may set a minimum size that depends on the file system; with -1 it keeps programs
            # of any size.
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return devices[0]


@functools.cache  # keeps the lock until the process ends
def take_share(folder: Path, count: int) -> FileLock | None:
    """Restricts this process to one of `count` shares of its cores, a share that no other process has taken.

    It must be called before JAX starts. The share is reserved by a lock on a file in `folder`, which is returned and is
    held until the process ends. If there are fewer cores than shares, some shares use the same core. The result is None
    if no share could be reserved.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    for number in range(count):
        lock = FileLock(folder / str(number), blocking=False, fallback_to_soft=False)
        with contextlib.suppress(Timeout, OSError, NotImplementedError):  # it is taken, or the file system has no locks
            lock.acquire()
            os.sched_setaffinity(0, cores[number::count] or [cores[number % len(cores)]])
            return lock
    return None


def local_devices() -> np.ndarray:
    """All devices of this process that are of the same kind as the default device, which comes first."""
    # Layers also ask for the devices while a program is traced. There, `jnp.zeros` would give a tracer, which has no
    # devices.
    with jax.ensure_compile_time_eval():
        first = next(iter(jnp.zeros(()).devices()))
    # Not `jax.devices()`: under `jax.distributed` it also lists the devices of other processes, on which this process
    # cannot place arrays.
    return np.array(sorted(jax.local_devices(backend=first.platform), key=lambda device: device != first))


def map_each(function: Callable[[Any], Any], items: Any) -> Any:
    """Applies `function` to each item of a pytree of arrays (B, ...): all at once on an accelerator, in turn on a CPU.

    On a CPU, the patches of a single image stay in the cache of a core, but those of several images do not (measured:
    3 times slower with 32 images). In addition, XLA distributes a batched computation over the cores, which does not
    pay for small items.
    """
    one_by_one = local_devices()[0].platform == "cpu"
    return jax.lax.map(function, items, batch_size=None if one_by_one else len(jax.tree.leaves(items)[0]))


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, changed so that `jax.vmap` on a CPU applies it to one item after another, as `map_each` does."""
    return jax.custom_batching.sequential_vmap(function) if local_devices()[0].platform == "cpu" else function


def in_blocks(function: Callable[[Any, Any], jax.Array], size: int) -> Callable[[Any, Any], jax.Array]:
    """`function(shared, item)`, changed so that a CPU computes it in a loop over blocks of exactly `size` items.

    The rounding of a matrix product depends on its number of rows, and on whether it is in a loop. With blocks of one
    size, the results are bit for bit the same for a single item, which is repeated to fill a block, and for any number
    of items under `jax.vmap`. Both arguments are pytrees of arrays. On an accelerator, `function` itself is returned.
    """
    if local_devices()[0].platform != "cpu":
        return function

    @jax.custom_batching.sequential_vmap
    def block(shared: Any, items: Any) -> jax.Array:
        results = jax.vmap(lambda item: function(shared, item))(jax.lax.optimization_barrier(items))
        return jax.lax.optimization_barrier(results)

    def map_blocks(shared: Any, items: Any) -> jax.Array:
        total = len(jax.tree.leaves(items)[0])
        count = max(2, -(-total // size))  # XLA removes the loop if there is only one block
        places = jnp.minimum(jnp.arange(count * size), total - 1).reshape(count, size)
        blocks = jax.tree.map(lambda x: x[places], items)
        blocks = jax.lax.optimization_barrier(blocks)  # otherwise XLA would move equal blocks out of the loop
        results = jax.lax.map(functools.partial(block, shared), blocks)
        return results.reshape(-1, *results.shape[2:])[:total]

    @jax.custom_batching.custom_vmap
    def one(shared: Any, item: Any) -> jax.Array:
        return map_blocks(shared, jax.tree.map(lambda x: x[None], item))[0]

    @one.def_vmap
    def several(count: int, batched: Any, shared: Any, items: Any) -> tuple[jax.Array, bool]:
        if any(jax.tree.leaves(batched[0])) or not all(jax.tree.leaves(batched[1])):  # such as several networks

            def one_at(index: jax.Array) -> jax.Array:
                return one(*jax.tree.map(lambda x, each: x[index] if each else x, (shared, items), tuple(batched)))

            return jax.lax.map(one_at, jnp.arange(count)), True
        return map_blocks(shared, items), True

    # `custom_vmap` has no reverse-mode derivative, so `function` itself is differentiated.
    @jax.custom_jvp
    def call(shared: Any, item: Any) -> jax.Array:
        return one(shared, item)

    @call.defjvp
    def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        return call(*primals), jax.jvp(function, primals, tangents)[1]

    return call


def name_of(device: jax.Device) -> str:
    """The name of a device as it is shown to users."""
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    return f"cpu: {_cpuinfo('model name')}, {os.cpu_count()} cores"


def processor_features() -> str:
    """The names of this processor's instruction sets, as given by the operating system."""
    return _cpuinfo("flags", "Features")


def _cpuinfo(*names: str) -> str:
    """The first entry of /proc/cpuinfo with one of the `names`, or the kind of processor if there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(names):
                return line.split(":", 1)[1].strip()
        return platform.machine()
    return platform.processor() or platform.machine()


def on_host(tree: Any) -> Any:
    """A pytree with NumPy arrays in place of its JAX arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree)

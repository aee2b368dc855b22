"""Devices of programs: one for sequences, all of its kind for independent images."""

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
    learned=1000,  # images, about, that a program learns from between two reports of progress
    # The most images that a core takes of those that do not depend on each other, one by one. Each call prepares the
    # weights again: tests of deep2024 take 0.019 ms per image with 512 and 0.037 ms with 128.
    cpu=512,
    gpu=128,  # the same of a GPU, all together
    tpu=128,  # and of a TPU
    ramp=16,  # images that layers with ramps take together on a CPU: so many share a product, and stay in its caches
)
"""How many images programs take at once, which changes no result but how layers with ramps round.

Other sizes are part of what is computed: `Settings.adapt_every` and `update_batch`, and `Learner.minibatch_size`.
"""


def choose(name: str) -> jax.Device:
    """Makes the first device of a kind the default ("auto": an accelerator if there is one), each CPU core a device.

    Unless JAX has a folder for compiled programs, it gets the user's. Raises InputError if there is no such device.
    """
    with contextlib.suppress(RuntimeError):  # jax has started already, and keeps its devices
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
        # Compiled programs use the instruction sets of this processor, and machines with other processors may share the
        # home folder.
        kind = hashlib.sha256(processor_features().encode()).hexdigest()[:8]
        with contextlib.suppress(OSError):
            jax.config.update("jax_compilation_cache_dir", str(files.cache_folder() / f"programs-{kind}"))
            # By default JAX keeps only programs that take at least a second to compile. All programs of a training of
            # mozafari2018 together take 1.2 s, so that hardly any would be kept.
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
            # 0, the default, may be replaced by a least size that depends on the file system; -1 keeps programs of any
            # size.
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return devices[0]


@functools.cache  # holds the lock until the process ends
def take_share(folder: Path, count: int) -> FileLock | None:
    """Puts this process, before JAX starts, on one of `count` shares of its cores that no other process has taken.

    The share is taken by a lock on a file in the folder, until the process ends. If there are fewer cores than shares,
    some have the same core.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    for number in range(count):
        lock = FileLock(folder / str(number), blocking=False, fallback_to_soft=False)
        with contextlib.suppress(Timeout, OSError, NotImplementedError):  # taken, or a file system without locks
            lock.acquire()
            os.sched_setaffinity(0, cores[number::count] or [cores[number % len(cores)]])
            return lock
    return None


def local_devices() -> np.ndarray:
    """All devices of this process of the kind that arrays live on by default, first the one that they live on."""
    # Layers ask for the devices while a program is traced, too: there `jnp.zeros` would be a tracer, which has no
    # devices.
    with jax.ensure_compile_time_eval():
        first = next(iter(jnp.zeros(()).devices()))
    # Not `jax.devices()`: under `jax.distributed` that lists the devices of all processes, on which this one cannot
    # place arrays.
    return np.array(sorted(jax.local_devices(backend=first.platform), key=lambda device: device != first))


def map_each(function: Callable[[Any], Any], items: Any) -> Any:
    """`function` of each item in a tree of (B, ...): all at once on an accelerator, one by one on a CPU.

    The patches of one image stay in the cache of a core, those of several images do not (measured: 3 times slower with
    32 images). In addition, XLA distributes a batched computation over the cores, which does not pay for small items.
    """
    one_by_one = local_devices()[0].platform == "cpu"
    return jax.lax.map(function, items, batch_size=None if one_by_one else len(jax.tree.leaves(items)[0]))


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes one item after the other under `jax.vmap` on a CPU, for the reasons of `map_each`."""
    return jax.custom_batching.sequential_vmap(function) if local_devices()[0].platform == "cpu" else function


def in_blocks(function: Callable[[Any, Any], jax.Array], size: int) -> Callable[[Any, Any], jax.Array]:
    """`function(shared, item)`, on a CPU always of `size` items at a time, in a loop over blocks of them.

    How a product rounds depends on its number of rows, and on whether it is in a loop: so results are the same bit for
    bit for one item, which is repeated, and for any number of them under `jax.vmap`. Both arguments
    are pytrees of arrays. On an accelerator it is the function itself.
    """
    if local_devices()[0].platform != "cpu":
        return function

    @jax.custom_batching.sequential_vmap
    def block(shared: Any, items: Any) -> jax.Array:
        results = jax.vmap(lambda item: function(shared, item))(jax.lax.optimization_barrier(items))
        return jax.lax.optimization_barrier(results)

    def map_blocks(shared: Any, items: Any) -> jax.Array:
        total = len(jax.tree.leaves(items)[0])
        count = max(2, -(-total // size))  # XLA makes no loop of a single one
        places = jnp.minimum(jnp.arange(count * size), total - 1).reshape(count, size)
        blocks = jax.tree.map(lambda x: x[places], items)
        blocks = jax.lax.optimization_barrier(blocks)  # XLA would take equal blocks out of the loop
        results = jax.lax.map(functools.partial(block, shared), blocks)
        return results.reshape(-1, *results.shape[2:])[:total]

    @jax.custom_batching.custom_vmap
    def one(shared: Any, item: Any) -> jax.Array:
        return map_blocks(shared, jax.tree.map(lambda x: x[None], item))[0]

    @one.def_vmap
    def several(count: int, batched: Any, shared: Any, items: Any) -> tuple[jax.Array, bool]:
        if any(jax.tree.leaves(batched[0])) or not all(jax.tree.leaves(batched[1])):  # such as networks side by side

            def one_at(index: jax.Array) -> jax.Array:
                return one(*jax.tree.map(lambda x, each: x[index] if each else x, (shared, items), tuple(batched)))

            return jax.lax.map(one_at, jnp.arange(count)), True
        return map_blocks(shared, items), True

    # `custom_vmap` has no reverse-mode derivative, so gradients are taken through `function` itself.
    @jax.custom_jvp
    def call(shared: Any, item: Any) -> jax.Array:
        return one(shared, item)

    @call.defjvp
    def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        return call(*primals), jax.jvp(function, primals, tangents)[1]

    return call


def name_of(device: jax.Device) -> str:
    """The name of a device for people."""
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    return f"cpu: {_cpuinfo('model name')}, {os.cpu_count()} cores"


def processor_features() -> str:
    """The instruction sets of this processor, as the system names them."""
    return _cpuinfo("flags", "Features")


def _cpuinfo(*names: str) -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(names):
                return line.split(":", 1)[1].strip()
        return platform.machine()
    return platform.processor() or platform.machine()


def on_host(tree: Any) -> Any:
    """A tree with NumPy arrays in place of those of JAX."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree)

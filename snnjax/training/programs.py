"""Compiled programs over networks and images: made for the devices, kept, run and timed."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from snnjax.core import devices
from snnjax.kernels import backend
from snnjax.training.phase import ImageBatch, Phase

SHARED = PartitionSpec()
NETWORKS = PartitionSpec("networks")
IMAGES = PartitionSpec("images")
BOTH = PartitionSpec("networks", "images")

MAX_PROGRAMS = 64
PROGRAMS: dict[Any, Any] = {}  # by program, back end, and types of its arguments; the oldest first


class Timer:
    """Adds up the images and seconds of a phase's programs, compilation apart."""

    def __init__(self, name: str):
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Starts again from zero."""
        self.images = 0
        self.seconds = 0.0
        self.compile_seconds = 0.0

    def time_program(self, images: int, program: Any, *args: Any) -> Any:
        """Runs a jitted function over this number of images, to its end; compiles it first, once for each shape."""
        start = time.perf_counter()
        leaves, structure = jax.tree.flatten(args)
        types = [(x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves]
        # The back end is chosen while a program is traced, and a compiled program refuses arrays that lie on other
        # devices, so both belong to the key.
        key = program, backend.current_is_native(), structure, *types
        if key not in PROGRAMS:
            if len(PROGRAMS) == MAX_PROGRAMS:
                del PROGRAMS[next(iter(PROGRAMS))]
            # Compiled apart from the call, so that the times of phases do not include compilation.
            PROGRAMS[key] = program.lower(*args).compile()
        begin = time.perf_counter()
        # Calls return before the device has finished: without waiting, only the start of the work would be timed.
        result = jax.block_until_ready(PROGRAMS[key](*args))
        self.seconds += time.perf_counter() - begin
        self.compile_seconds += begin - start
        self.images += images
        return result

    def time_call(self, images: int, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function of the host over this number of images."""
        start = time.perf_counter()
        result = function(*args)
        self.seconds += time.perf_counter() - start
        self.images += images
        return result

    def add_to(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Adds to the record of this name, which a resumed phase continues; returns it."""
        record = next((x for x in records if x["name"] == self.name), None)
        if record is None:
            record = dict[str, Any](name=self.name)
            records.append(record)
        totals = {key: record.get(key, 0) + getattr(self, key) for key in ("images", "seconds", "compile_seconds")}
        rate = totals["images"] / totals["seconds"] if totals["seconds"] else 0.0
        record |= {key: round(total, 6) for key, total in totals.items()} | dict(images_per_second=round(rate, 1))
        return record


def forget_programs() -> None:
    """Forgets compiled programs, so that the seconds of the next training are with all compilation."""
    PROGRAMS.clear()
    for cache in (learning_program, mapping_program):
        cache.cache_clear()
    jax.clear_caches()


@functools.lru_cache(maxsize=256)
def learning_program(learn: Callable[..., Any], phase: Phase, mesh: Mesh) -> Any:
    """A jitted function of (carry, model, per_network, shared): for each network `learn(phase, carry, model, batch)`.

    `per_network` are the fields of its `ImageBatch` that differ between networks, `shared` all other fields.
    """

    def of_device(carry: Any, model: Any, per_network: dict[str, Any], shared: dict[str, Any]) -> Any:
        def of_network(item: Any) -> Any:
            carry, model, per_network = item
            return learn(phase, carry, model, ImageBatch(**per_network, **shared))

        if len(jax.tree.leaves(carry)[0]) > 1:
            return devices.map_each(of_network, (carry, model, per_network))
        carry, model, per_network = jax.tree.map(lambda x: x[0], (carry, model, per_network))
        return jax.tree.map(lambda x: x[None], learn(phase, carry, model, ImageBatch(**per_network, **shared)))

    specs = (NETWORKS, NETWORKS, NETWORKS, SHARED)
    spread = jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=NETWORKS, check_vma=False)
    # The carry is donated, so that the weights are updated in place rather than copied for each batch.
    return jax.jit(spread, donate_argnums=0)


@functools.lru_cache(maxsize=256)
def mapping_program(function: Callable[..., Any], mesh: Mesh, per_network: bool, **static: Any) -> Any:
    """A jitted function of (models, images): for each network, `function(model, images, **static)`."""

    def of_device(models: Any, images: Any) -> Any:
        trees = (models, images) if per_network else (models, None)

        def of_network(item: Any) -> Any:
            model, network_images = item
            return function(model, network_images if per_network else images, **static)

        if len(jax.tree.leaves(trees)[0]) > 1:
            return devices.map_each(of_network, trees)
        return jax.tree.map(lambda x: x[None], of_network(jax.tree.map(lambda x: x[0], trees)))

    specs = (NETWORKS, BOTH if per_network else IMAGES)
    return jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=BOTH, check_vma=False))

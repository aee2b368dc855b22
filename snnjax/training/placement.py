"""Placement of programs: spread over devices by networks, or by the images of one network; compiled, and timed."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snnjax.core import devices, files
from snnjax.kernels import backend
from snnjax.training.phase import Phase, Slice

SHARED = PartitionSpec()
NETWORKS = PartitionSpec("networks")
IMAGES = PartitionSpec("images")
BOTH = PartitionSpec("networks", "images")

MOST_PROGRAMS = 64
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
        key = program, backend.current_is_native(), structure, *types
        if key not in PROGRAMS:
            if len(PROGRAMS) == MOST_PROGRAMS:
                del PROGRAMS[next(iter(PROGRAMS))]
            PROGRAMS[key] = program.lower(*args).compile()
        begin = time.perf_counter()
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


class Placement:
    """Networks of one structure on the devices; trees of them have a leading axis of networks, also of a single one.

    They learn on as many devices as there are networks; images of a single network that does not learn are spread over
    all devices. Images are (N, ...), or (networks, N, C, H, W) where each network has latencies of its own.

    Attributes:
      count: of the networks.
      platform: of the devices, such as "cpu".
      mapping: the mesh of programs that do not learn.
      learning: of those that learn.
    """

    def __init__(self, count: int):
        peers = devices.peers()
        axes = ("networks", "images")
        self.count = count
        self.platform = peers[0].platform
        self.learning = Mesh(peers[:count, None], axes)
        self.mapping = self.learning if count > 1 else Mesh(peers[None], axes)

    def stack(self, trees: Sequence[Any]) -> Any:
        """The trees of all networks as one; the last one is repeated to fill the devices."""
        padded = [*trees, *[trees[-1]] * (-len(trees) % self.learning.size)]
        leaves = [np.stack(arrays) for arrays in zip(*map(jax.tree.leaves, padded), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(trees[0]), leaves)

    def unstack(self, tree: Any) -> list[Any]:
        """The inverse of `stack`, as NumPy arrays."""
        tree = jax.tree.map(np.asarray, tree)
        return [jax.tree.map(lambda x, index=index: x[index], tree) for index in range(self.count)]

    def place_images(self, values: Any, start: int, size: int, mesh: Mesh, places: np.ndarray | None = None) -> Any:
        """Puts `size` images of an array or a tree from number `start` on the devices of a mesh, filled up with zeros.

        They come in the order of `places`, if given: (N,), or (networks, N) where orders differ.
        """
        if not isinstance(values, np.ndarray):
            return jax.tree.map(lambda x: self.place_images(x, start, size, mesh, places), values)
        per_network = has_own(values)
        part = slice(start, start + size)
        if places is not None and places.ndim == 2:
            arrays = values if per_network else [values] * len(places)
            values = np.stack([x[row] for x, row in zip(arrays, places[:, part], strict=True)])
            per_network = True
        elif places is not None:
            values = files.take_rows(values, places[part], axis=int(per_network))
        else:
            values = values[:, part] if per_network else values[part]
        shape = list(values.shape)
        shape[int(per_network)] = size
        if per_network:
            shape[0] += -shape[0] % self.learning.size
        if shape != list(values.shape):
            values = np.pad(values, [(0, new - old) for old, new in zip(values.shape, shape, strict=True)])
        if mesh is self.mapping:
            return place(values, mesh, BOTH if per_network else IMAGES)
        return place(values, mesh, NETWORKS if per_network else SHARED)  # all devices learn from all images

    def map(
        self,
        timer: Timer,
        function: Callable[..., Any],
        models: Any,
        images: Any,
        report: Callable[[int, int], None] = lambda images, correct: None,
        **static: Any,
    ) -> Any:
        """`function` of (model, images, **static), such as those of `snnjax.networks.batches`, chunk by chunk.

        `images` are an array, or a tree of arrays, all of which or none each network has of its own.
        Results are NumPy arrays of (networks, N, ...). `report` gets the number of images done, and 0.
        """
        per_network = has_own(images)
        total = count_of(images)
        sharing = self.mapping.shape["images"]
        at_once = devices.AT_ONCE.get(self.platform, devices.AT_ONCE["gpu"])
        chunks = -(-total // (at_once * sharing))
        chunk = -(-total // (chunks * sharing)) * sharing  # so that few are padded
        program = mapping_program(function, self.mapping, per_network, **static)
        models = place(models, self.mapping, NETWORKS)
        whole = None
        for start in range(0, total, chunk):
            count = min(chunk, total - start)
            placed = self.place_images(images, start, chunk, self.mapping)
            result = timer.time_program(count * self.count, program, models, placed)
            if whole is None:
                whole = jax.tree.map(lambda x: files.empty((self.count, total, *x.shape[2:]), x.dtype), result)
            for values, part in zip(jax.tree.leaves(whole), jax.tree.leaves(result), strict=True):
                values[:, start : start + count] = np.asarray(part)[: self.count, :count]
            report(count * self.count, 0)
        return whole


def has_own(images: Any) -> bool:
    """Whether each network has latencies of its own, (networks, N, C, H, W), in an array or a tree of arrays."""
    return jax.tree.leaves(images)[0].ndim == 5


def count_of(images: Any) -> int:
    """The number of images, N, in an array or a tree of arrays."""
    return jax.tree.leaves(images)[0].shape[int(has_own(images))]


def place(values: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Puts arrays where a program takes them."""
    return jax.device_put(values, NamedSharding(mesh, spec))


@functools.lru_cache(maxsize=256)
def learning_program(step: Callable[..., Any], phase: Phase, mesh: Mesh) -> Any:
    """A jitted function of (carry, model, per_network, shared): for each network `step(phase, carry, model, slice)`.

    `per_network` are the fields of its `Slice` that differ between networks, `shared` the others.
    """

    def of_device(carry: Any, model: Any, per_network: dict[str, Any], shared: dict[str, Any]) -> Any:
        def of_network(item: Any) -> Any:
            carry, model, per_network = item
            return step(phase, carry, model, Slice(**per_network, **shared))

        if len(jax.tree.leaves(carry)[0]) > 1:
            return devices.map_each(of_network, (carry, model, per_network))
        carry, model, per_network = jax.tree.map(lambda x: x[0], (carry, model, per_network))
        return jax.tree.map(lambda x: x[None], step(phase, carry, model, Slice(**per_network, **shared)))

    specs = (NETWORKS, NETWORKS, NETWORKS, SHARED)
    spread = jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=NETWORKS, check_vma=False)
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


def as_array(leaf: Any) -> Any:
    """A number or an array as the programs take it: of 32 bits."""
    array = np.asarray(leaf)
    return array.astype(dict(f=np.float32, i=np.int32).get(array.dtype.kind, array.dtype))[()]

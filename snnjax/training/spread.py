"""How work is spread over devices: by networks, or by the images of one network."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snnjax import devices
from snnjax.training.clock import Clock

SHARED, NETWORKS, IMAGES = PartitionSpec(), PartitionSpec("networks"), PartitionSpec("images")
BOTH = PartitionSpec("networks", "images")

CHUNK = 128
"""The most images that a device takes at a time where they do not depend on each other."""


class Spread:
    """Networks of one structure on the devices; trees of them have a leading axis of networks, also of a single one.

    They learn on as many devices as there are networks; images of a single network that does not learn are spread over
    all devices.
    """

    def __init__(self, count: int):
        found = devices.peers().devices
        self.count, axes = count, ("networks", "images")
        self.learning = Mesh(found[:count, None], axes)
        self.mapping = self.learning if count > 1 else Mesh(found[None], axes)

    def stacked(self, trees: Sequence[Any]) -> Any:
        """The trees of all networks as one; the last one is repeated to fill the devices."""
        padded = [*trees, *[trees[-1]] * (-len(trees) % self.learning.size)]
        leaves = [np.stack(each) for each in zip(*map(jax.tree.leaves, padded), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(trees[0]), leaves)

    def unstacked(self, tree: Any) -> list[Any]:
        """The inverse of `stacked`, as NumPy arrays."""
        tree = jax.tree.map(np.asarray, tree)
        return [jax.tree.map(lambda x, at=at: x[at], tree) for at in range(self.count)]

    def place(self, values: np.ndarray, size: int, own: bool, mesh: Mesh) -> Any:
        """Puts `size` images on the devices, filled up with zeros; `own` ones have a leading axis of networks."""
        shape = list(values.shape)
        shape[int(own)] = size
        if own:
            shape[0] += -shape[0] % self.learning.size
        filled = values
        if values.shape != tuple(shape):
            filled = np.zeros(shape, values.dtype)
            filled[tuple(map(slice, values.shape))] = values
        return place(filled, mesh, BOTH if own else IMAGES)

    def map(
        self,
        clock: Clock,
        function: Callable[..., Any],
        models: Any,
        images: np.ndarray,
        own: bool = False,
        report: Callable[[int], None] = lambda images: None,
        **static: Any,
    ) -> Any:
        """`function` of (model, images, **static), a program of `snnjax.training.programs`, chunk by chunk.

        Images are (N, ...), or (networks, N, ...) if each network has its `own`; results are NumPy arrays of
        (networks, N, ...). `report` is told the number of images done.
        """
        total, width = images.shape[int(own)], devices.peers().size
        each = -(-total // (-(-total // (CHUNK * width)) * width))  # images a device, so that few are padded
        chunk, program = each * self.mapping.shape["images"], mapping_program(function, self.mapping, own, **static)
        models, pieces = place(models, self.mapping, NETWORKS), []
        for start in range(0, total, chunk):
            piece = images[:, start : start + chunk] if own else images[start : start + chunk]
            count = piece.shape[int(own)]
            placed = self.place(piece, chunk, own, self.mapping)
            result = clock.run(count * self.count, program, models, placed)
            pieces.append(jax.tree.map(lambda x, count=count: np.asarray(x)[: self.count, :count], result))
            report(count * self.count)
        return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *pieces)


@functools.lru_cache(maxsize=256)
def learning_program(function: Callable[..., Any], mesh: Mesh, **static: Any) -> Any:
    """A jitted function of (carry, own, shared): for each network, `function(carry, **own, **shared, **static)`."""

    def of_device(carry: Any, own: dict[str, Any], shared: dict[str, Any]) -> Any:
        return _each_network(lambda each: function(each[0], **each[1], **shared, **static), (carry, own))

    specs = (NETWORKS, NETWORKS, SHARED)
    spread = jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=NETWORKS, check_vma=False)
    return jax.jit(spread, donate_argnums=0)


@functools.lru_cache(maxsize=256)
def mapping_program(function: Callable[..., Any], mesh: Mesh, own: bool, **static: Any) -> Any:
    """A jitted function of (models, images): for each network, `function(model, images, **static)`."""

    def of_device(models: Any, images: Any) -> Any:
        if own:
            return _each_network(lambda each: function(*each, **static), (models, images))
        return _each_network(lambda model: function(model, images, **static), models)

    specs = (NETWORKS, BOTH if own else IMAGES)
    return jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=BOTH, check_vma=False))


def _each_network(function: Callable[[Any], Any], trees: Any) -> Any:
    if len(jax.tree.leaves(trees)[0]) > 1:
        return devices.map_images(function, trees)
    return jax.tree.map(lambda x: x[None], function(jax.tree.map(lambda x: x[0], trees)))


def place(values: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Puts arrays where a program takes them."""
    return jax.device_put(values, NamedSharding(mesh, spec))

"""How work is spread over devices: images of one network, or many networks."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snnjax import devices
from snnjax.training.clock import Clock

EVERYWHERE, APART = PartitionSpec(), PartitionSpec("images")

CHUNK = 128
"""Images at most that a device takes at a time where they do not depend on each other."""


class Spread:
    """One network as it is, or many stacked along an axis of networks and spread over the devices."""

    def __init__(self, count: int):
        self.count, self.many = count, count > 1
        self.mesh = devices.peers(count) if self.many else None

    def stacked(self, trees: Sequence[Any]) -> Any:
        """One tree, or many with an axis of networks, as many to a device: the last one may come again."""
        if self.mesh is None:
            return place(trees[0], None, EVERYWHERE)
        padded = [*trees, *[trees[-1]] * (-len(trees) % self.mesh.size)]
        leaves = [np.stack(each) for each in zip(*map(jax.tree.leaves, padded), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(trees[0]), place(leaves, self.mesh, APART))

    def unstacked(self, tree: Any) -> list[Any]:
        """The inverse of `stacked`, as NumPy arrays."""
        places: list[Any] = list(range(self.count)) if self.many else [()]  # [()] makes numbers of arrays without axes
        return [jax.tree.map(lambda x, at=at: np.asarray(x)[at], tree) for at in places]

    def place(self, values: np.ndarray, size: int, own: bool) -> Any:
        """Puts `size` images, filled up with zeros, on the devices; `own`: with an axis of networks in front."""
        values = _filled(values, size, int(own))
        if own and self.mesh is not None:
            values = _filled(values, -(-self.count // self.mesh.size) * self.mesh.size, 0)
        return place(values, self.mesh, APART if own else EVERYWHERE)

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
        """`function` of (model, images) chunk by chunk.

        Args:
          clock: keeps the time.
          function: one of `snnjax.training.programs`.
          models: as `stacked` makes them.
          images: (N, ...), or if `own` (networks, N, ...).
          own: whether each network has images of its own.
          report: is told how many images are done.
          **static: settings of the function.

        Returns:
          NumPy arrays of (N, ...), of many networks (networks, N, ...), in a tree as the function returns.
        """
        total, devices_ = images.shape[int(own)], devices.peers()
        each = _each_device_takes(total, devices_.size)
        chunk, mesh = (each, self.mesh) if self.many else (each * devices_.size, devices_)
        program = mapping_program(function, mesh, self.many, own, tuple(sorted(static.items())))
        models = models if self.many else place(models, mesh, EVERYWHERE)
        pieces = []
        for start in range(0, total, chunk):
            piece = images[:, start : start + chunk] if own else images[start : start + chunk]
            count = piece.shape[int(own)]
            placed = self.place(piece, chunk, own) if self.many else place(_filled(piece, chunk, 0), mesh, APART)
            result = clock.run(count * self.count, program, models, placed)
            part = (slice(self.count), slice(count)) if self.many else slice(count)
            pieces.append(jax.tree.map(lambda x, part=part: np.asarray(x)[part], result))
            report(count * self.count)
        return jax.tree.map(lambda *x: np.concatenate(x, axis=int(self.many)), *pieces)


def _each_device_takes(images: int, count: int) -> int:
    """Images of a chunk on each of `count` devices, at most `CHUNK`, so that few are padded."""
    chunks = -(-images // (CHUNK * count))
    return -(-images // (chunks * count))


def _filled(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Zeros at the end of an axis until it is of this size."""
    missing = size - values.shape[axis]
    if not missing:
        return values
    shape = (*values.shape[:axis], missing, *values.shape[axis + 1 :])
    return np.concatenate([values, np.zeros(shape, values.dtype)], axis)


@functools.lru_cache(maxsize=256)
def learning_program(function: Callable[..., Any], mesh: Mesh | None, static: tuple[tuple[str, Any], ...]) -> Any:
    """A jitted `function` of (carry, own, shared), where `own` and `shared` hold its other arguments by name.

    Args:
      function: of (carry, ...), for one network.
      mesh: None for one network; for many, the devices that they are spread over: `carry` and `own` then have a leading
        axis of networks.
      static: arguments that are no arrays.
    """

    def one(carry: Any, own: dict[str, Any], shared: dict[str, Any]) -> Any:
        return function(carry, **own, **shared, **dict(static))

    if mesh is None:
        return jax.jit(one, donate_argnums=0)

    def of_device(carry: Any, own: dict[str, Any], shared: dict[str, Any]) -> Any:
        return devices.map_images(lambda each: one(each[0], each[1], shared), (carry, own))

    specs = (APART, APART, EVERYWHERE)
    return jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=APART, check_vma=False))


@functools.lru_cache(maxsize=256)
def mapping_program(
    function: Callable[..., Any], mesh: Mesh, many: bool, own_images: bool, static: tuple[tuple[str, Any], ...]
) -> Any:
    """A jitted `function` of (model, images), spread over devices: by images for one network, by networks for many.

    Args:
      function: of (model, images), to arrays with a leading axis of images.
      mesh: the devices.
      many: models have a leading axis of networks.
      own_images: images have it too.
      static: arguments that are no arrays.
    """
    bound = functools.partial(function, **dict(static))
    if not many:
        specs = (EVERYWHERE, APART)
        return jax.jit(jax.shard_map(bound, mesh=mesh, in_specs=specs, out_specs=APART, check_vma=False))

    def of_device(models: Any, images: Any) -> Any:
        if own_images:
            return devices.map_images(lambda each: bound(*each), (models, images))
        return devices.map_images(lambda model: bound(model, images), models)

    specs = (APART, APART if own_images else EVERYWHERE)
    return jax.jit(jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=APART, check_vma=False))


def place(values: Any, mesh: Mesh | None, spec: PartitionSpec) -> Any:
    """Puts arrays where a program takes them."""
    return jax.device_put(values, None if mesh is None else NamedSharding(mesh, spec))

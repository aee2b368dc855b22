"""How work is spread over devices: images of one network, or many networks."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from snnjax import devices
from snnjax.training import programs
from snnjax.training.clock import Clock
from snnjax.training.programs import APART, EVERYWHERE

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
            return programs.place(trees[0], None, EVERYWHERE)
        padded = [*trees, *[trees[-1]] * (-len(trees) % self.mesh.size)]
        leaves = [np.stack(each) for each in zip(*map(jax.tree.leaves, padded), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(trees[0]), programs.place(leaves, self.mesh, APART))

    def apart(self, tree: Any) -> list[Any]:
        """The inverse of `stacked`, as NumPy arrays."""
        places: list[Any] = list(range(self.count)) if self.many else [()]  # [()] makes numbers of arrays without axes
        return [jax.tree.map(lambda x, at=at: np.asarray(x)[at], tree) for at in places]

    def place(self, values: np.ndarray, size: int, own: bool) -> Any:
        """Puts `size` images, filled up with zeros, on the devices; `own`: with an axis of networks in front."""
        values = _filled(values, size, int(own))
        if own and self.mesh is not None:
            values = _filled(values, -(-self.count // self.mesh.size) * self.mesh.size, 0)
        return programs.place(values, self.mesh, APART if own else EVERYWHERE)

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
        program = programs.mapping_program(function, mesh, self.many, own, tuple(sorted(static.items())))
        models = models if self.many else programs.place(models, mesh, EVERYWHERE)
        pieces = []
        for start in range(0, total, chunk):
            piece = images[:, start : start + chunk] if own else images[start : start + chunk]
            count = piece.shape[int(own)]
            if self.many:
                placed = self.place(piece, chunk, own)
            else:
                placed = programs.place(_filled(piece, chunk, 0), mesh, APART)
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

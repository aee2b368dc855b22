"""The processes of one training: those that `jax.distributed` has brought together, on one machine or on several.

Each runs the same program on devices of its own. What images do not share, they share out, and `gather` what they have
found; what comes one after the other they all do, and take the first one's result by `share`. Only the first writes.
"""

import functools
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snnjax.core import devices

T = TypeVar("T")


def count() -> int:
    """The number of processes."""
    return jax.process_count()


def index() -> int:
    """The number of this process, from 0."""
    return jax.process_index()


def gather(tree: Any) -> Any:
    """What all processes have of a tree of arrays of the same shapes, NumPy (processes, ...)."""
    leaves, structure = jax.tree.flatten(tree)
    leaves = [np.asarray(leaf) for leaf in leaves]
    found = [_arrays(row, leaves) for row in _exchanged(_bytes(leaves), _all)]
    return jax.tree.unflatten(structure, [np.stack(each) for each in zip(*found, strict=True)])


def least(number: int) -> int:
    """The smallest number that any process has."""
    return number if count() == 1 else int(gather(np.int64(number)).min())


def share(value: T) -> T:
    """What the first process has in place of `value`."""
    if count() == 1:
        return value
    own = np.frombuffer(pickle.dumps(value) if index() == 0 else b"", np.uint8)
    size = int(share_arrays(np.int64(own.size)))
    return pickle.loads(share_arrays(np.resize(own, size)).tobytes())  # from the same program


def share_arrays(tree: Any) -> Any:
    """What the first process has of a tree of arrays, whose shapes are the same in all: NumPy, of several processes."""
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    leaves = [np.asarray(leaf) for leaf in leaves]
    own = _bytes(leaves)
    return jax.tree.unflatten(structure, _arrays(_exchanged(own if index() == 0 else np.zeros_like(own), _sum), leaves))


def _bytes(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """All arrays as one, of whole words: one exchange instead of many."""
    content = b"".join(leaf.tobytes() for leaf in leaves)
    return np.frombuffer(content + bytes(-len(content) % 4), np.uint32)


def _arrays(words: np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The inverse of `_bytes`, given arrays of the same shapes and dtypes."""
    content = words.tobytes()
    found = []
    at = 0
    for leaf in like:
        found.append(np.frombuffer(content, leaf.dtype, leaf.size, at).reshape(leaf.shape))
        at += leaf.nbytes
    return found


def _exchanged(own: np.ndarray, function: Callable[[jax.Array], jax.Array]) -> np.ndarray:
    """`function` of what each process has, (processes, N)."""
    mesh = Mesh(devices.firsts(), "processes")
    row = jax.device_put(own[None], mesh.devices[index()])
    rows = NamedSharding(mesh, PartitionSpec("processes"))
    all_rows = jax.make_array_from_single_device_arrays((mesh.size, own.size), rows, [row])
    return np.asarray(_jitted(function, mesh)(all_rows).addressable_data(0))


@functools.cache
def _jitted(function: Callable[[jax.Array], jax.Array], mesh: Mesh) -> Any:
    return jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _all(rows: jax.Array) -> jax.Array:
    return rows


def _sum(rows: jax.Array) -> jax.Array:
    """All rows but the first are zeros."""
    return rows.sum(axis=0, dtype=rows.dtype)

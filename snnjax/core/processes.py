"""The processes of one training run, connected by `jax.distributed`, on one machine or on several.

Each runs the same program on separate devices. Independent images are divided among them, and `gather` collects the
results; sequential work is done by all, and `share` takes the first one's result. Only the first writes.
"""

import functools
import pickle
from collections.abc import Callable
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
    """Collects a tree of arrays, of the same shapes in all processes, from all: NumPy (processes, ...)."""
    if count() == 1:
        return jax.tree.map(lambda x: np.asarray(x)[None], tree)
    return _exchange(tree, _all)


def share(value: T) -> T:
    """The `value` of the first process."""
    if count() == 1:
        return value
    content = np.frombuffer(pickle.dumps(value) if index() == 0 else b"", np.uint8)
    size = int(share_arrays(np.int64(content.size)))
    return pickle.loads(share_arrays(np.resize(content, size)).tobytes())  # from the same program


def share_arrays(tree: Any) -> Any:
    """The tree of arrays of the first process, of the same shapes in all: NumPy, of several processes."""
    if count() == 1:
        return tree
    masked = tree if index() == 0 else jax.tree.map(np.zeros_like, tree)
    return jax.tree.map(lambda rows: rows[0, ...], _exchange(masked, _sum))


def _exchange(tree: Any, function: Callable[[jax.Array], jax.Array]) -> Any:
    """A tree of arrays (N, ...) by `function`, which takes the words of all processes' arrays and returns N rows."""
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, tree))
    content = b"".join(leaf.tobytes() for leaf in leaves)  # one exchange instead of many
    words = np.frombuffer(content + bytes(-len(content) % 4), np.uint32)
    mesh = Mesh(devices.firsts(), "processes")
    row = jax.device_put(words[None], mesh.devices[index()])
    rows = NamedSharding(mesh, PartitionSpec("processes"))
    all_rows = jax.make_array_from_single_device_arrays((mesh.size, words.size), rows, [row])
    result = np.asarray(_jitted(function, mesh)(all_rows).addressable_data(0)).view(np.uint8)
    arrays = []
    start = 0
    for leaf in leaves:
        part = np.ascontiguousarray(result[:, start : start + leaf.nbytes])
        arrays.append(part.view(leaf.dtype).reshape(len(result), *leaf.shape))
        start += leaf.nbytes
    return jax.tree.unflatten(structure, arrays)


@functools.cache
def _jitted(function: Callable[[jax.Array], jax.Array], mesh: Mesh) -> Any:
    return jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _all(rows: jax.Array) -> jax.Array:
    return rows


def _sum(rows: jax.Array) -> jax.Array:
    """All rows but the first are zeros."""
    return rows.sum(axis=0, keepdims=True, dtype=rows.dtype)

"""Programs on arrays that several devices share: in `jax.shard_map`, and on meshes with explicit axes."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.sharding import AbstractMesh, PartitionSpec

Tree = TypeVar("Tree")


def vary_like(tree: Tree, *sources: Any) -> Tree:
    """The same arrays, marked as varying over the axes of a `jax.shard_map` over which any of `sources` varies.

    JAX requires this of the initial state of a loop whose body makes the state depend on `sources`. The results of a
    foreign function need it as well, because JAX does not know which arguments they depend on.
    """
    axes = frozenset[str]().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(sources)))

    def cast(leaf: Any) -> Any:
        missing = tuple(axes - jax.typeof(leaf).manual_axis_type.varying)
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


def explicit_mesh(tree: Any) -> AbstractMesh | None:
    """The mesh with explicit axes that is set, or on which an array of a tree lies; None if there is none."""
    arrays = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    meshes = [jax.sharding.get_abstract_mesh(), *(jax.typeof(array).sharding.mesh for array in arrays)]
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def call_with_auto_axes(function: Callable[[Any], Any], arrays: Any, mesh: AbstractMesh) -> Any:
    """`function(arrays)` with the explicit axes of a mesh left to XLA; its results lie whole on each device.

    Axes over which a `jax.shard_map` around it runs stay manual. Under `jax.vmap` they are sharded as the batch is.
    """
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=PartitionSpec())(arrays)

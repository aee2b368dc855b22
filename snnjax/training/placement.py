"""Networks and images on the devices: where their arrays lie, and the programs that map networks over images."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snnjax.core import devices, files
from snnjax.networks import Model, Network
from snnjax.training.timer import Timer

SHARED = PartitionSpec()
NETWORKS = PartitionSpec("networks")
IMAGES = PartitionSpec("images")
BOTH = PartitionSpec("networks", "images")


class Placement:
    """Networks of one structure on the devices; trees of them have a leading axis of networks, even for one network.

    They learn on as many devices as there are networks; images of a single network that does not learn are spread over
    all devices. Images are (N, ...), or (networks, N, C, H, W) if each network has its own latencies.

    Attributes:
      count: the number of networks.
      platform: the platform of the devices, such as "cpu".
      mapping_mesh: the mesh of programs that do not learn.
      learning_mesh: the mesh of programs that learn.
    """

    def __init__(self, count: int):
        local_devices = devices.local_devices()
        axes = ("networks", "images")
        self.count = count
        self.platform = local_devices[0].platform
        self.learning_mesh = Mesh(local_devices[:count, None], axes)
        self.mapping_mesh = self.learning_mesh if count > 1 else Mesh(local_devices[None], axes)

    def stack(self, trees: Sequence[Any]) -> Any:
        """Stacks the trees of all networks into one tree; the last one is repeated to fill the devices."""
        padded = [*trees, *[trees[-1]] * (-len(trees) % self.learning_mesh.size)]
        leaves = [np.stack(arrays) for arrays in zip(*map(jax.tree.leaves, padded), strict=True)]
        return jax.tree.unflatten(jax.tree.structure(trees[0]), leaves)

    def unstack(self, tree: Any) -> list[Any]:
        """The inverse of `stack`, as NumPy arrays."""
        tree = jax.tree.map(np.asarray, tree)
        return [jax.tree.map(lambda x, index=index: x[index], tree) for index in range(self.count)]

    def place_images(self, values: Any, start: int, size: int, mesh: Mesh, order: np.ndarray | None = None) -> Any:
        """Puts `size` images, from number `start` on, on the devices of a mesh, padded with zeros.

        `values` is an array or a tree of arrays. Images are taken in `order`, if it is given: (N,), or (networks, N) if
        orders differ.
        """
        if not isinstance(values, np.ndarray):
            return jax.tree.map(lambda x: self.place_images(x, start, size, mesh, order), values)
        per_network = has_own(values)
        batch = slice(start, start + size)
        if order is not None and order.ndim == 2:
            arrays = values if per_network else [values] * len(order)
            values = np.stack([x[row] for x, row in zip(arrays, order[:, batch], strict=True)])
            per_network = True
        elif order is not None:
            values = files.take_rows(values, order[batch], axis=int(per_network))
        else:
            values = values[:, batch] if per_network else values[batch]
        shape = list(values.shape)
        shape[int(per_network)] = size
        if per_network:
            shape[0] += -shape[0] % self.learning_mesh.size
        if shape != list(values.shape):
            values = np.pad(values, [(0, new - old) for old, new in zip(values.shape, shape, strict=True)])
        if mesh is self.mapping_mesh:
            return place(values, mesh, BOTH if per_network else IMAGES)
        return place(values, mesh, NETWORKS if per_network else SHARED)  # all devices learn from all images

    def map(
        self,
        timer: Timer,
        function: Callable[..., Any],
        models: Any,
        images: Any,
        report: Callable[[int, int], None] = lambda images, correct: None,
        at_least: int = 0,
        **static: Any,
    ) -> Any:
        """Computes `function(model, images, **static)` batch by batch, for example one of `snnjax.networks.batches`.

        `images` are an array or a tree of arrays. Either each network has its own, or all networks share them.
        Results are NumPy arrays (networks, N, ...). `report` is called with the number of images done, and 0. If there
        are fewer than `at_least` images, they are padded with zeros, so that the program for that number is reused.
        """
        per_network = has_own(images)
        total = count_of(images)
        sharing = self.mapping_mesh.shape["images"]
        at_once = devices.BATCH_SIZES.get(self.platform, devices.BATCH_SIZES["gpu"])
        planned = max(total, at_least)
        batches = -(-planned // (at_once * sharing))
        batch_size = -(-planned // (batches * sharing)) * sharing  # so that few images are padded
        program = mapping_program(function, self.mapping_mesh, per_network, **static)
        models = place(models, self.mapping_mesh, NETWORKS)
        whole = None
        for start in range(0, total, batch_size):
            count = min(batch_size, total - start)
            placed = self.place_images(images, start, batch_size, self.mapping_mesh)
            result = timer.time_program(count * self.count, program, models, placed)
            if whole is None:
                # Outputs are written once, in place: to collect the batches and concatenate them would take twice the
                # memory, and all of it in memory where `files.empty` uses a file.
                whole = jax.tree.map(lambda x: files.empty((self.count, total, *x.shape[2:]), x.dtype), result)
            for values, of_batch in zip(jax.tree.leaves(whole), jax.tree.leaves(result), strict=True):
                values[:, start : start + count] = np.asarray(of_batch)[: self.count, :count]
            report(count * self.count, 0)
        return whole


def has_own(images: Any) -> bool:
    """Whether each network has its own latencies, (networks, N, C, H, W), in an array or a tree of arrays."""
    return jax.tree.leaves(images)[0].ndim == 5


def count_of(images: Any) -> int:
    """The number of images, N, in an array or a tree of arrays."""
    return jax.tree.leaves(images)[0].shape[int(has_own(images))]


def place(values: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Puts arrays on the devices on which a program expects them."""
    return jax.device_put(values, NamedSharding(mesh, spec))


def model_of(network: Network, weights: Mapping[str, Any]) -> Model:
    """A network with its weights, as programs expect it: all numbers have 32 bits."""
    return jax.tree.map(to_32_bits, Model.of(network, weights))


def blank_model(network: Network) -> Model:
    """A model as `model_of` returns it, but with weights of 0, for use if only shapes matter."""
    return model_of(network, {name: np.zeros(shape, np.float32) for name, shape in network.weight_shapes.items()})


def to_32_bits(leaf: Any) -> Any:
    """A number or an array as programs expect it, with 32 bits."""
    array = np.asarray(leaf)
    return array.astype(dict(f=np.float32, i=np.int32).get(array.dtype.kind, array.dtype))[()]


def spread(
    of_device: Callable[..., Any], mesh: Mesh, in_specs: tuple[PartitionSpec, ...], out_specs: PartitionSpec
) -> Any:
    """A function that each device of a mesh computes with its share of the arrays."""
    # JAX's check of which values vary between devices refuses a loop that starts from constants and ends with learned
    # values, as those of SoftHebb and R-STDP do and custom rules may. Devices exchange no values here, so that there is
    # nothing to check.
    return jax.shard_map(of_device, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


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
    return jax.jit(spread(of_device, mesh, specs, BOTH))

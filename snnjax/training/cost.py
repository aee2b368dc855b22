"""What a trained network costs: its spikes, operations and weights, and how soon it decides."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.kernels import backend as backends
from snnjax.kernels import use_backend
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.decision import is_fitted
from snnjax.networks.model import Model, check_fitted, rounded_weights
from snnjax.networks.operations import averaging_neurons, connections, count_batch, firing_windows, synapses
from snnjax.training.placement import Placement, model_of
from snnjax.training.timer import Timer

MOMENTS = 20
"""The number of evenly spaced time steps after each of which the network decides; all steps if there are fewer."""
WEIGHT = 4  # bytes


class LayerCost(NamedTuple):
    """The costs of one layer, or of a fitted decision.

    Attributes:
      name: the name of the layer, or "decision".
      neurons: the number of neurons, before pooling.
      weights: the number of weights.
      nonzero_weights: the number of weights that are not 0.
      effective_operations: operations for each image, (N,) int64: synaptic operations, counted only where the input
        spikes and the weight is not 0, or the multiply-accumulates of a fitted decision.
      dense_operations: operations for one image if all synapses are computed at each of the T time steps.
      window: the number of the window in which the layer fires, counted from 0; a window has T time steps.
      spikes: the number of spikes for each image, (N,) int64; None for a fitted decision.
      first_spike: the time step of the first spike within the window, for each image, (N,) int64; T if the layer is
        silent. None for a fitted decision.
      median_spike: the time step by which half of the spikes have occurred, in the same form.
    """

    name: str
    neurons: int
    weights: int
    nonzero_weights: int
    effective_operations: np.ndarray
    dense_operations: int
    window: int
    spikes: np.ndarray | None = None
    first_spike: np.ndarray | None = None
    median_spike: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Cost:
    """What a network costs on N images.

    Attributes:
      network: the name of the network.
      time_steps: T, the number of time steps of a window.
      input_spikes: the number of spikes of each encoded image, (N,) int64.
      layers: the costs of each layer, in order.
      steps: (K,) int64, the time steps of the last window, counted from 0, after which the network decides; the last
        is T - 1.
      decisions: (N, K) int32, the decision after each of these steps, -1 if the network is silent; K is 0 if the
        network has no decision.
      first_spike: (N,) int64, the time step of the last window at which a deciding layer first fires, T if all are
        silent; None if the decision is not timed, or is fitted.
      labels: (N,) int32, the classes of the images, or None.
      averaging_neurons: the number of neurons that average for a stage that reads `Pool(mean=True)`; their spikes and
        operations are not counted.
    """

    network: str
    time_steps: int
    input_spikes: np.ndarray
    layers: tuple[LayerCost, ...]
    steps: np.ndarray
    decisions: np.ndarray
    first_spike: np.ndarray | None
    labels: np.ndarray | None
    averaging_neurons: int = 0

    @property
    def spiking(self) -> tuple[LayerCost, ...]:
        """The costs of the layers, which spike; the cost of a fitted decision is left out."""
        return tuple(layer for layer in self.layers if layer.spikes is not None)

    @property
    def spikes(self) -> np.ndarray:
        """The number of spikes of all layers for each image, (N,) int64."""
        return sum((layer.spikes for layer in self.spiking if layer.spikes is not None), np.zeros(len(self), np.int64))

    @property
    def effective_operations(self) -> np.ndarray:
        """The number of effective synaptic operations for each image, (N,) int64."""
        return sum((layer.effective_operations for layer in self.spiking), np.zeros(len(self), np.int64))

    @property
    def dense_operations(self) -> int:
        """The number of dense synaptic operations for one image."""
        return sum(layer.dense_operations for layer in self.spiking)

    @property
    def multiply_accumulates(self) -> int:
        """The number of multiply-accumulates for one image; only a fitted decision needs any."""
        return sum(layer.dense_operations for layer in self.layers if layer.spikes is None)

    @property
    def activation_sparsity(self) -> float | None:
        """The share of all pairs of a neuron and a time step that have no spike; None if there are no layers."""
        places = sum(layer.neurons for layer in self.spiking) * self.time_steps
        return 1 - float(self.spikes.mean()) / places if places else None

    @property
    def footprint_bytes(self) -> int:
        """The size of the weights in bytes, stored as float32."""
        return WEIGHT * sum(layer.weights for layer in self.layers)

    @property
    def accuracy(self) -> np.ndarray | None:
        """The share of correct decisions after each of the `steps`, (K,) float64; None without labels."""
        return None if self.labels is None else self._share(self.labels)

    @property
    def same_as_last(self) -> np.ndarray:
        """The share of images whose decision after each of the `steps` is the final one, (K,) float64.

        Raises InputError if the network has no decision, as `settled` does.
        """
        self._check_decides()
        return self._share(self.decisions[:, -1])

    @property
    def settled(self) -> np.ndarray:
        """The first of the `steps` from which the decision on each image no longer changes, (N,) int64."""
        self._check_decides()
        changes = self.decisions != self.decisions[:, -1:]
        last_change = np.where(changes.any(axis=1), changes.shape[1] - 1 - changes[:, ::-1].argmax(axis=1), -1)
        return self.steps[last_change + 1]

    def _check_decides(self) -> None:
        if not len(self.steps):
            raise InputError(f"`decision` of {self.network} is None, so that no image is decided")

    def _share(self, expected: np.ndarray) -> np.ndarray:
        """The share of images decided as `expected`, (N,), after each of the `steps`, (K,) float64."""
        return (self.decisions == expected[:, None]).mean(axis=0)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.input_spikes)

    def __repr__(self) -> str:
        return (
            f"Cost({self.network}, {len(self):,} images, {self.effective_operations.mean():,.0f} operations per image)"
        )

    def energy(self, pj_accumulate: float, pj_multiply: float | None = None) -> np.ndarray:
        """The energy for each image in nanojoules, (N,) float64, if only operations need energy.

        `pj_accumulate` is the energy of a synaptic operation in picojoules, `pj_multiply` that of a
        multiply-accumulate. Raises InputError if one of them is negative or not finite, or if `pj_multiply` is missing
        although the network multiplies.
        """
        checks.number("pj_accumulate", pj_accumulate, 0)
        if not self.multiply_accumulates and pj_multiply is None:
            pj_multiply = 0.0
        needs = f"given too, as {self.network} multiplies and accumulates, such as 4.6"
        pj_multiply = checks.given("pj_multiply", pj_multiply, needs)
        checks.number("pj_multiply", pj_multiply, 0)
        return (self.effective_operations * pj_accumulate + self.multiply_accumulates * pj_multiply) / 1000

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON data; counts that differ between images are given as mean, least and most."""
        figures: dict[str, Any] = dict(
            network=self.network,
            images=len(self),
            time_steps=self.time_steps,
            input_spikes=summary(self.input_spikes),
            spikes=summary(self.spikes),
            effective_operations=summary(self.effective_operations),
            dense_operations=self.dense_operations,
            averaging_neurons=self.averaging_neurons,
            multiply_accumulates=self.multiply_accumulates,
            activation_sparsity=self.activation_sparsity,
            footprint_bytes=self.footprint_bytes,
            layers=[self._layer_json(layer) for layer in self.layers],
        )
        if self.steps.size:
            figures |= dict(
                steps=self.steps.tolist(),
                same_as_last=self.same_as_last.tolist(),
                settled=summary(self.settled),
                settled_images=[int(count) for count in np.sum(self.settled[:, None] == self.steps, axis=0)],
            )
        if self.accuracy is not None:
            figures["accuracy"] = self.accuracy.tolist()
        if self.first_spike is not None:
            figures["first_spike"] = self._step_json(self.first_spike)
            figures["first_spike_images"] = np.bincount(self.first_spike, minlength=self.time_steps + 1).tolist()
        return figures

    def _layer_json(self, layer: LayerCost) -> dict[str, Any]:
        return layer._asdict() | dict(
            bytes=WEIGHT * layer.weights,
            effective_operations=summary(layer.effective_operations),
            spikes=None if layer.spikes is None else summary(layer.spikes),
            first_spike=self._step_json(layer.first_spike),
            median_spike=self._step_json(layer.median_spike),
        )

    def _step_json(self, steps: np.ndarray | None) -> dict[str, float] | None:
        """The summary of time steps, (N,), without those of silent images, T; None if no image is left."""
        fired = np.array([]) if steps is None else steps[steps < self.time_steps]
        return summary(fired) if fired.size else None


def summary(counts: np.ndarray) -> dict[str, float]:
    """The mean, the least and the most of counts, (N,)."""
    return dict(mean=float(counts.mean()), least=counts.min().item(), most=counts.max().item())


def cost(network: SpikingNetwork, images: ArrayLike, labels: ArrayLike | None = None, *, backend: str = "auto") -> Cost:
    """The `Cost` of a trained network on images (N, H, W), or (N, H, W, 3) if its encoder accepts colours.

    Images are uint8, or floats in 0..255, and `labels` are (N,) integers; `backend` is "auto", "xla" or "native", as in
    `Settings`. Operations are counted as NeuroBench does; those of the encoder are not counted. Raises InputError if
    images or labels do not fit, or if the network is not fitted, and InputTypeError if images have another dtype.

    Examples:
      >>> import snnjax
      >>> data = snnjax.data.digits()
      >>> network = snnjax.load("pretrained:goupy2024_ncg_mnist")
      >>> costs = snnjax.cost(network, data.test_images[:8], data.test_labels[:8])
      >>> costs
      Cost(goupy2024_ncg, 8 images, 686,865 operations per image)
      >>> [(layer.name, layer.neurons, layer.weights) for layer in costs.layers]
      [('layer1', 73728, 6400), ('layer2', 50, 230400)]
    """
    checks.instance("network", network, SpikingNetwork, "a SpikingNetwork", "snnjax.load(RUN)")
    check_fitted(network.network)
    weights = {name: np.asarray(value) for name, value in network.weights().items()}
    return _cost(network.network, weights, np.asarray(images), labels, backend)


def _cost(
    network: Network, weights: Mapping[str, np.ndarray], images: np.ndarray, labels: ArrayLike | None, backend: str
) -> Cost:
    """The `Cost` of a network with these weights."""
    if network.decision is None:
        labels = None  # there are no decisions to compare with them
    checks.pixels("images", images, getattr(network.encoder, "scale", 1.0))
    if images.ndim < 3 or not len(images):
        raise InputError(f"`images` must be (N, H, W) or (N, H, W, 3), N from 1, got {images.shape}")
    wanted = None if labels is None else np.asarray(labels)
    if wanted is not None:
        check_labels(wanted, len(images), network.classes)
    model = model_of(network, rounded_weights(network, weights))
    steps = () if network.decision is None else moments(network.time_steps)
    with use_backend(backends.resolve(backend, network.time_steps)):
        counts = _counted(model, images, steps)
    first = None
    if network.deciding and network.timed:
        first = np.min([counts.spikes[name][:, 1] for name in network.deciding], axis=0)
    return Cost(
        network=network.name,
        time_steps=network.time_steps,
        input_spikes=counts.spikes["input"][:, 0],
        layers=_layers(model, counts, len(images)),
        steps=np.array(steps, np.int64),
        decisions=np.asarray(counts.decisions),
        first_spike=first,
        labels=wanted,
        averaging_neurons=averaging_neurons(network),
    )


def check_labels(labels: np.ndarray, count: int, classes: int) -> None:
    """Raises InputError unless there is one label in 0..classes - 1 for each of `count` images."""
    checks.shape("labels", labels, (count,), "the images")
    checks.array("labels", labels, "N", "integers")
    checks.all_within("labels", labels, 0, classes - 1)


def moments(time_steps: int) -> tuple[int, ...]:
    """The time steps, counted from 0, after which a network decides; the last one is among them."""
    count = min(MOMENTS, time_steps)
    return tuple(-(-time_steps * moment // count) - 1 for moment in range(1, count + 1))


def _counted(model: Model, images: np.ndarray, steps: tuple[int, ...]) -> Any:
    """The `Counts` for all images, as NumPy arrays (N, ...); all are int64 except the decisions."""
    placement = Placement(1)
    models = placement.stack([model])
    counts = placement.map(Timer(""), count_batch, models, images, steps=steps)
    of_network = jax.tree.map(lambda x: x[0].astype(np.int64), counts)
    return of_network._replace(decisions=counts.decisions[0])


def _layers(model: Model, counts: Any, images: int) -> tuple[LayerCost, ...]:
    """The costs of each layer, and of a fitted decision, on a number of images."""
    network = model.network
    per_layer = synapses(network)
    fire_in = firing_windows(network)
    layers: list[LayerCost] = []
    for number, name, conv in network.layers():
        neurons = conv.features * math.prod(conv.output_size(network.input_shapes[number][1:]))
        connected = connections(model.layers[name])
        effective = counts.effective[name].sum(axis=1)
        dense = per_layer[name] * network.time_steps
        figures = neurons, connected.size, int(connected.sum()), effective, dense, fire_in[number + 1]
        layers.append(LayerCost(name, *figures, *counts.spikes[name].T))
    if is_fitted(network.decision):
        layers.append(_decision(network, images))
    return tuple(layers)


def _decision(network: Network, images: int) -> LayerCost:
    """The cost of a fitted decision, which uses each of its numbers in one multiplication per image."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(network.decision) if np.ndim(leaf)]
    numbers = sum(array.size for array in arrays)
    nonzero = sum(int(np.count_nonzero(array)) for array in arrays)
    multiplied = np.full(images, numbers)
    return LayerCost("decision", network.classes, numbers, nonzero, multiplied, numbers, firing_windows(network)[-1])

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
"""Steps, evenly spaced, after each of which the network decides; all steps where there are fewer."""
WEIGHT = 4  # bytes


class LayerCost(NamedTuple):
    """The costs of one layer, or of a decision that is fitted.

    Attributes:
      name: of the layer, or "decision".
      neurons: their number, before pooling.
      weights: their number.
      nonzero_weights: the number of weights that are not 0.
      effective_operations: operations for each image, (N,) int64: synaptic operations, counted only where the input
        spikes and the weight is not 0, or the multiply-accumulates of a fitted decision.
      dense_operations: operations for one image if all synapses are computed at each of T steps.
      window: the number of the window in which the layer fires, from 0; a window has T steps.
      spikes: the number of spikes for each image, (N,) int64; None for a fitted decision.
      first_spike: the step of the first spike within the window, for each image, (N,) int64; T if the layer is silent.
        None for a fitted decision.
      median_spike: the step by which half of the spikes have occurred, in the same form.
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
      network: its name.
      time_steps: T.
      input_spikes: of the encoded images, (N,) int64.
      layers: the costs of each layer, in order.
      steps: (K,) int64, steps of its last window after which the network decides, from 0; the last is T - 1.
      decisions: (N, K) int32, after each of the steps, -1 where silent; K is 0 if the network decides nothing.
      first_spike: (N,) int64, the step of this window at which a deciding layer fires first, T where all are silent;
        None where the decision is not timed, or is fitted.
      labels: (N,) int32, or None.
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
        """The costs of the layers, which spike, without that of a decision that is fitted."""
        return tuple(layer for layer in self.layers if layer.spikes is not None)

    @property
    def spikes(self) -> np.ndarray:
        """Of all layers, for each image: (N,) int64."""
        return sum((layer.spikes for layer in self.spiking if layer.spikes is not None), np.zeros(len(self), np.int64))

    @property
    def effective_operations(self) -> np.ndarray:
        """Effective synaptic operations of each image, (N,) int64."""
        return sum((layer.effective_operations for layer in self.spiking), np.zeros(len(self), np.int64))

    @property
    def dense_operations(self) -> int:
        """Dense synaptic operations of an image."""
        return sum(layer.dense_operations for layer in self.spiking)

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulates of an image, those of a decision that is fitted."""
        return sum(layer.dense_operations for layer in self.layers if layer.spikes is None)

    @property
    def activation_sparsity(self) -> float | None:
        """Activation sparsity: the share of neurons and steps of their window without a spike; None without any."""
        places = sum(layer.neurons for layer in self.spiking) * self.time_steps
        return 1 - float(self.spikes.mean()) / places if places else None

    @property
    def footprint_bytes(self) -> int:
        """Bytes of the weights, as float32."""
        return WEIGHT * sum(layer.weights for layer in self.layers)

    @property
    def accuracy(self) -> np.ndarray | None:
        """The share of images decided right after each of the steps, (K,) float64; None without labels."""
        return None if self.labels is None else self._share(self.labels)

    @property
    def same_as_last(self) -> np.ndarray:
        """The share of images decided after each of the steps as after the last, (K,) float64.

        Raises InputError for a network without a decision, as `settled` does.
        """
        self._check_decides()
        return self._share(self.decisions[:, -1])

    @property
    def settled(self) -> np.ndarray:
        """The first of the steps from which each decision stays what it is, (N,) int64."""
        self._check_decides()
        changes = self.decisions != self.decisions[:, -1:]
        last_change = np.where(changes.any(axis=1), changes.shape[1] - 1 - changes[:, ::-1].argmax(axis=1), -1)
        return self.steps[last_change + 1]

    def _check_decides(self) -> None:
        if not len(self.steps):
            raise InputError(f"`decision` of {self.network} is None, so that no image is decided")

    def _share(self, expected: np.ndarray) -> np.ndarray:
        """The share of images decided as expected, (N,), after each of the steps: (K,) float64."""
        return (self.decisions == expected[:, None]).mean(axis=0)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.input_spikes)

    def __repr__(self) -> str:
        return (
            f"Cost({self.network}, {len(self):,} images, {self.effective_operations.mean():,.0f} operations per image)"
        )

    def energy(self, pj_accumulate: float, pj_multiply: float | None = None) -> np.ndarray:
        """Nanojoules of each image, (N,) float64, if operations take so many picojoules and nothing else takes any.

        `pj_accumulate` is that of a synaptic operation, `pj_multiply` that of a multiply-accumulate. Raises InputError
        where they are not finite numbers from 0, and without the latter where the network multiplies.
        """
        checks.number("pj_accumulate", pj_accumulate, 0)
        if not self.multiply_accumulates and pj_multiply is None:
            pj_multiply = 0.0
        needs = f"given too, as {self.network} multiplies and accumulates, such as 4.6"
        pj_multiply = checks.given("pj_multiply", pj_multiply, needs)
        checks.number("pj_multiply", pj_multiply, 0)
        return (self.effective_operations * pj_accumulate + self.multiply_accumulates * pj_multiply) / 1000

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON data; counts that differ between images as mean, least and most."""
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
        """The summary of steps, (N,), of the images that are not silent, T; None without any."""
        fired = np.array([]) if steps is None else steps[steps < self.time_steps]
        return summary(fired) if fired.size else None


def summary(counts: np.ndarray) -> dict[str, float]:
    """Mean, least and most of counts, (N,)."""
    return dict(mean=float(counts.mean()), least=counts.min().item(), most=counts.max().item())


def cost(network: SpikingNetwork, images: ArrayLike, labels: ArrayLike | None = None, *, backend: str = "auto") -> Cost:
    """What a trained network costs on images (N, H, W), or (N, H, W, 3) as its encoder takes them.

    Images are uint8 or floats of 0..255, `labels` (N,); `backend` is "auto", "xla" or "native", as of `Settings`.
    Counts are those of NeuroBench; what the encoder takes is not counted. Raises InputError if images or labels do
    not fit, or the network is not fitted, and InputTypeError for images of other dtypes.
    """
    checks.instance("network", network, SpikingNetwork, "a SpikingNetwork", "snnjax.load(RUN)")
    check_fitted(network.network)
    weights = {name: np.asarray(value) for name, value in network.weights().items()}
    return _cost(network.network, weights, np.asarray(images), labels, backend)


def _cost(
    network: Network, weights: Mapping[str, np.ndarray], images: np.ndarray, labels: ArrayLike | None, backend: str
) -> Cost:
    """`cost` of a network with its weights."""
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
    """Raises InputError unless there is a label for each of `count` images, of so many classes."""
    checks.shape("labels", labels, (count,), "the images")
    checks.array("labels", labels, "N", "integers")
    checks.all_within("labels", labels, 0, classes - 1)


def moments(time_steps: int) -> tuple[int, ...]:
    """The steps, from 0, after which a network decides; the last one among them."""
    count = min(MOMENTS, time_steps)
    return tuple(-(-time_steps * moment // count) - 1 for moment in range(1, count + 1))


def _counted(model: Model, images: np.ndarray, steps: tuple[int, ...]) -> Any:
    """`Counts` of all images, NumPy arrays of (N, ...), int64 but for decisions."""
    placement = Placement(1)
    models = placement.stack([model])
    counts = placement.map(Timer(""), count_batch, models, images, steps=steps)
    of_network = jax.tree.map(lambda x: x[0].astype(np.int64), counts)
    return of_network._replace(decisions=counts.decisions[0])


def _layers(model: Model, counts: Any, images: int) -> tuple[LayerCost, ...]:
    """The costs of each layer, and of a decision that is fitted, on a number of images."""
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
    """The cost of a decision that is fitted: it multiplies each of its numbers once."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(network.decision) if np.ndim(leaf)]
    numbers = sum(array.size for array in arrays)
    nonzero = sum(int(np.count_nonzero(array)) for array in arrays)
    multiplied = np.full(images, numbers)
    return LayerCost("decision", network.classes, numbers, nonzero, multiplied, numbers, firing_windows(network)[-1])

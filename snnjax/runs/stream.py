"""Learning that continues: a network decides on images one by one, and learns from each."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from snnjax.core import checks
from snnjax.core.components import changed_leaves
from snnjax.core.devices import on_host, peers
from snnjax.core.errors import InputError, wrong_type
from snnjax.kernels import compiled, native
from snnjax.layers.layer_kernels import best_kernels
from snnjax.learners import Learner, Tally
from snnjax.networks import Model, Network, SpikingNetwork
from snnjax.networks.decision import is_fitted
from snnjax.networks.model import check_fitted, check_image, image_shape, is_batch, rounded_weights
from snnjax.networks.spiking_network import filled_up
from snnjax.runs.trained import Trained
from snnjax.steps.phase import Carry
from snnjax.steps.stream import Rules, StreamState, empty_memory, end_epoch, last_inputs, learn_images, learn_reward
from snnjax.training.draws import key_of
from snnjax.training.epoch import outside
from snnjax.training.fitting import FITTING_IMAGES
from snnjax.training.job import supervised_phase
from snnjax.training.placement import as_array
from snnjax.training.runners import initial_learners
from snnjax.training.state import TrainState


class Stream:
    """Learning image by image, from a trained network or a new one: `learn` decides, then learns from the label.

    It is the plain step of a training on one image: layers that learn from labels or rewards keep learning, in one
    pass; those before stay as they are. `learn`, `reward` and `end_epoch` are pure, jitted, and can be scanned and
    vmapped over streams, whose states are stacked, with images of their own or the same for all.

    Attributes:
      start: the network before the first image.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        memory: int = 0,
        replays: int = 0,
        *,
        batch_size: int = 100,
        native: bool | None = None,
    ):
        """Raises InputError where the network has an encoder or a decision to be fitted, or numbers are wrong.

        Args:
          network: as of `snnjax.load`; a new one is `SpikingNetwork(description)`.
          memory: M, the newest images of each class, which are kept as latencies.
          replays: images, drawn from the memory, that are learned again after each image: of a class drawn among those
            seen so far, then of one of its images that are kept.
          batch_size: images learned, replays among them, after which supervised learners adapt, as of `Settings`.
          native: whether to take compiled kernels; None: where they can be had.
        """
        if not isinstance(network, SpikingNetwork):
            raise wrong_type("network", "a SpikingNetwork", network, "snnjax.load(run), or SpikingNetwork(description)")
        self.start = network
        spec = on_host(network.spec)
        if is_fitted(spec.decision):
            kind = type(spec.decision).__name__
            raise InputError(f"`network` must have layers that learn from labels, got one whose {kind} is fitted")
        check_fitted(spec)
        check_memory(memory, replays)
        self._rules = Rules(
            phase=supervised_phase(spec),
            batch_size=checks.integer("batch_size", batch_size, 1),
            native=_takes_native(spec) if native is None else native,
            memory=memory,
            replays=replays,
        )
        self._spec = spec
        model = jax.tree.map(as_array, Model.of(spec, network.weights()))
        kernels = {name: best_kernels(layer, native=self._rules.native) for name, layer in model.layers.items()}
        self._model = jax.tree.map(jnp.asarray, model.packed(kernels))

    def init(self, seed: int = 0, images: ArrayLike | None = None) -> StreamState:
        """The state before the first image, by the seed of what learners and the memory draw.

        A readout that has not learned yet needs some `images`, (N, ...) like those to come: learners choose the
        thresholds of deciding layers by up to 100 of them, as in a training.
        """
        phase = self._rules.phase
        layers = dict(self._model.layers)
        deciding = {name: layers[name] for name in self._spec.deciding}
        rules = {type(layer.conv.last_learner) for layer in deciding.values()}
        if images is not None and any(rule.initial_threshold is not Learner.initial_threshold for rule in rules):
            some = jnp.asarray(np.asarray(images)[:FITTING_IMAGES])
            latency = np.asarray(last_inputs(self._rules, self._model, some))
            for name, layer in deciding.items():
                threshold = layer.conv.last_learner.initial_threshold(layer, latency)
                layers[name] = jax.tree.map(as_array, layer.with_threshold(threshold))
        states = initial_learners(phase, layers, checks.seed(seed))
        learning = {}
        for name in phase.layers:
            kernels = best_kernels(layers[name], native=self._rules.native, learner=phase.learner)
            learning[name] = layers[name].packed(kernels)
        if not outside(learning, phase.learner):
            learning = {name: _bounded(layer) for name, layer in learning.items()}
        carry = Carry(learning, states, Tally(*np.zeros(5, np.int32)))
        key = key_of(len(self._model.layers), seed)
        memory = empty_memory(self._rules, self._spec, key) if self._rules.memory else None
        return jax.tree.map(jnp.asarray, StreamState(carry, memory))

    def learn(
        self, state: StreamState, image: ArrayLike, label: ArrayLike | None = None
    ) -> tuple[jax.Array, StreamState]:
        """The class decided for an image, () int32, -1 where silent, then the state once it has learned from its label.

        `label`, () integer, is -1 or None where it is not known: it only decides. Of several images (N, ...) with
        labels (N,), learned in their order, decisions are (N,). Raises InputError for images that the network does not
        take, for labels of no class, and where a new encoder or ramp is not fitted.
        """
        batch = is_batch(self._spec, image)
        check_image(self._spec, image, batch=batch)
        labels = jnp.asarray(self._labels(label, np.shape(image)[: int(batch)]), jnp.int32)
        if not batch:
            one = jnp.asarray(image)[None]
            decisions, learned = learn_images(self._rules, self._model, state, one, labels[None])
            return decisions[0], learned
        count = len(labels)
        missing = filled_up(count) - count
        pad = np.pad if isinstance(image, np.ndarray) else jnp.pad
        images = jnp.asarray(pad(image, [(0, missing), *[(0, 0)] * (np.ndim(image) - 1)]))
        labels = jnp.pad(labels, (0, missing), constant_values=-1)
        decisions, learned = learn_images(self._rules, self._model, state, images, labels)
        return decisions[:count], learned

    def _labels(self, label: Any, shape: tuple[int, ...]) -> Any:
        if label is None:
            return np.full(shape, -1)
        labels = label if isinstance(label, jax.Array) else np.asarray(label)
        checks.array("label", labels, None, "integers")
        if labels.shape != shape:
            raise InputError(f"`label` must have shape {shape}, one for each image, got {labels.shape}")
        values = checks.concrete_values(labels, jnp.integer)
        if values is not None and values.size and not -1 <= values.min() <= values.max() < self._spec.classes:
            got = f"{values.min()}..{values.max()}" if values.ndim else values
            raise InputError(f"`label` must lie in 0..{self._spec.classes - 1}, or be -1, got {got}")
        return labels

    def reward(self, state: StreamState, image: ArrayLike, reward: ArrayLike) -> tuple[jax.Array, StreamState]:
        """As `learn` from an image, from a reward for what is decided: () integer, 1 right, -1 wrong, 0 neither.

        Raises InputError where a learner needs labels (`Learner.rewarded`).
        """
        for name in self._rules.phase.layers:
            learner = self._model.layers[name].conv.last_learner
            if not learner.rewarded:
                kind = type(learner).__name__
                raise InputError(f"`reward` is for learners such as RSTDP, got {kind} of {name}: give `learn` a label")
        check_image(self._spec, image)
        return learn_reward(self._rules, self._model, state, jnp.asarray(image), jnp.asarray(reward, jnp.int32))

    def end_epoch(self, state: StreamState) -> StreamState:
        """The state once learners have done what follows an epoch, such as to anneal rates or to draw a new dropout.

        A stream has no epochs: without it rates stay as they are.
        """
        return end_epoch(self._rules, self._model, state)

    def network(self, state: StreamState) -> SpikingNetwork:
        """The network with what has been learned, rounded as `load` gives it; raises InputError where that is invalid.

        Outside of jit.
        """
        learned = TrainState({name: np.asarray(weights) for name, weights in self.start.weights().items()})
        convs = {name: conv for _, name, conv in self._spec.layers()}
        for name, layer in state.carry.layers.items():
            learned.keep_layer(name, convs[name], np.asarray(layer.weights), jax.tree.leaves(layer.conv))
        spec = learned.network(self._spec)
        return SpikingNetwork(
            spec,
            weights=rounded_weights(spec, learned.weights),
            class_names=self.start.class_names,
            initial=changed_leaves(self._spec, spec) | self.start.initial,
        )

    def save(self, state: StreamState, path: Path | str, settings: Mapping[str, Any] | None = None) -> None:
        """Writes `network` as an .npz file that `snnjax.load` and all commands read, with `settings`, JSON data.

        A stream from this file begins with an empty memory, and with new states of learners.
        """
        network = self.network(state)
        weights = {name: np.asarray(values) for name, values in network.weights().items()}
        spec = on_host(network.spec)
        shape = image_shape(spec)
        trained = Trained(spec, weights, shape, dict(settings or {}), network.class_names, network.initial)
        trained.save(path)


def check_memory(memory: int, replays: int) -> None:
    """Raises InputError unless images are kept and learned again, or neither."""
    checks.integer("memory", memory, 0)
    if checks.integer("replays", replays, 0) and not memory:
        raise InputError(f"`memory` must be at least 1 with `replays`, got 0 and {replays}")
    if memory and not replays:
        raise InputError("`replays` must be at least 1 with a `memory`, which has no effect else, got 0")


def _takes_native(network: Network) -> bool:
    return compiled.available() and network.time_steps <= native.MOST_STEPS and peers()[0].platform == "cpu"


def _bounded(layer: Any) -> Any:
    """A layer whose weights lie within the bounds of its rule, if it has any, marked as such."""
    return dataclasses.replace(layer, in_bounds=layer.conv.last_learner.bounds is not None)

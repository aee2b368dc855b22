"""Learning that continues: a network decides on images one by one, and learns from each."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from snnjax.core import checks
from snnjax.core.components import changed_leaves
from snnjax.core.devices import peers
from snnjax.core.errors import InputError, wrong_type
from snnjax.kernels import compiled, latency_dtype, native
from snnjax.layers.layer_kernels import best_kernels
from snnjax.learners import Learner, Tally
from snnjax.networks import Model, Network, SpikingNetwork
from snnjax.networks.decision import is_fitted
from snnjax.networks.graph import Known
from snnjax.networks.model import check_fitted, check_image, image_shape, is_batch, rounded_weights
from snnjax.networks.spiking_network import at_once, filled_up
from snnjax.runs.trained import Trained
from snnjax.steps.phase import Carry, Phase
from snnjax.steps.plain import Supervised
from snnjax.training.draws import key_of
from snnjax.training.epoch import outside
from snnjax.training.fitting import FITTING_IMAGES
from snnjax.training.placement import as_array
from snnjax.training.runners import initial_learners
from snnjax.training.state import TrainState


class Memory(NamedTuple):
    """What a stream keeps of earlier images.

    Attributes:
      inputs: (classes, M, C, H, W) latencies, what the first layer that learns reads; or a tree of such arrays.
      counts: (classes,) int32, images of each class so far, of which M are kept.
      key: raw `jax.random` key of the next draw, (2,) uint32.
    """

    inputs: Any
    counts: jax.Array
    key: jax.Array


class StreamState(NamedTuple):
    """What changes while a stream learns.

    Attributes:
      carry: the layers that learn, the states of their learners, and the `Tally` of decisions.
      memory: of earlier images; None where there is none.
    """

    carry: Carry
    memory: Memory | None


class _Rules(NamedTuple):
    """How a stream learns: programs are compiled for it. See `Stream`."""

    phase: Phase
    batch_size: int
    native: bool
    memory: int
    replays: int
    reservoir: bool


class Stream:
    """Learning image by image, from a trained network or a new one: `learn` decides, then learns from the label.

    It is the plain step of a training on one image: layers that learn from labels or rewards go on, in one pass, those
    before stay as they are. `learn`, `reward` and `end_epoch` are pure, jitted, and can be scanned and vmapped over
    streams, whose states are stacked, with images of their own or the same for all.

    Attributes:
      start: the network before the first image.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        memory: int = 0,
        replays: int = 0,
        *,
        reservoir: bool = False,
        batch_size: int = 100,
        native: bool | None = None,
    ):
        """Raises InputError where the network has an encoder or a decision to be fitted, or numbers are wrong.

        Args:
          network: as of `snnjax.load`; a new one is `SpikingNetwork(description)`.
          memory: M, images of each class that are kept, as latencies.
          replays: images, drawn from the memory, that are learned again after each image: of a class drawn among those
            seen so far, then of one of its images that are kept.
          reservoir: whether those kept are drawn among all of the class so far, each as likely; else they are the
            newest.
          batch_size: images learned, replays among them, after which supervised learners adapt, as of `Settings`.
          native: whether to take compiled kernels; None: where they can be had.
        """
        if not isinstance(network, SpikingNetwork):
            raise wrong_type("network", "a SpikingNetwork", network, "snnjax.load(run), or SpikingNetwork(description)")
        self.start = network
        spec = jax.tree.map(_on_host, network.spec)
        if is_fitted(spec.decision):
            kind = type(spec.decision).__name__
            raise InputError(f"`network` must have layers that learn from labels, got one whose {kind} is fitted")
        check_fitted(spec)
        memory = checks.integer("memory", memory, 0)
        if checks.integer("replays", replays, 0) and not memory:
            raise InputError(f"`memory` must be at least 1 with `replays`, got 0 and {replays}")
        if memory and not replays:
            raise InputError("`replays` must be at least 1 with a `memory`, which has no effect else, got 0")
        self._rules = _Rules(
            phase=_supervised_phase(spec),
            batch_size=checks.integer("batch_size", batch_size, 1),
            native=_takes_native(spec) if native is None else native,
            memory=memory,
            replays=replays,
            reservoir=reservoir,
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
            latency = np.asarray(_last_inputs(self._rules, self._model, some))
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
        return jax.tree.map(jnp.asarray, StreamState(carry, self._empty_memory(seed)))

    def _empty_memory(self, seed: int) -> Memory | None:
        rules = self._rules
        if not rules.memory:
            return None
        network = self._spec
        dtype = latency_dtype(network.time_steps)
        each = network.classes, rules.memory
        entering = _entering(network, rules.phase.first)
        inputs: Any = np.zeros((*each, *network.input_shapes[rules.phase.first]), dtype)
        if entering:
            inputs = Known({number: np.zeros((*each, *network.shapes[number]), dtype) for number in entering})
        return Memory(inputs, jnp.zeros(network.classes, jnp.int32), jnp.asarray(key_of(len(self._model.layers), seed)))

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
        shape = np.shape(image)[: int(batch)]
        labels = self._labels(label, shape)
        if not batch:
            return _learn_one(self._rules, self._model, state, jnp.asarray(image), jnp.asarray(labels, jnp.int32))
        (count,) = shape
        missing = filled_up(count) - count
        pad = np.pad if isinstance(image, np.ndarray) else jnp.pad
        images = pad(image, [(0, missing), *[(0, 0)] * (np.ndim(image) - 1)])
        labels = jnp.pad(jnp.asarray(labels, jnp.int32), (0, missing), constant_values=-1)
        decisions, state = _learn_several(self._rules, self._model, state, jnp.asarray(images), labels)
        return decisions[:count], state

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
        return _reward_one(self._rules, self._model, state, jnp.asarray(image), jnp.asarray(reward, jnp.int32))

    def end_epoch(self, state: StreamState) -> StreamState:
        """The state once learners have done what follows an epoch, such as to anneal rates or to draw a new dropout.

        A stream has no epochs: without it rates stay as they are.
        """
        return _end_epoch(self._rules, self._model, state)

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
        spec = jax.tree.map(_on_host, network.spec)
        shape = image_shape(spec)
        trained = Trained(spec, weights, shape, dict(settings or {}), network.class_names, network.initial)
        trained.save(path)


def _on_host(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf


def _takes_native(network: Network) -> bool:
    return compiled.available() and network.time_steps <= native.MOST_STEPS and peers()[0].platform == "cpu"


def _supervised_phase(network: Network) -> Phase:
    """The phase of a training in which layers learn supervised, image by image."""
    taught = [name for _, name, conv in network.layers() if any(learner.supervised for learner in conv.each_learner)]
    return Phase(tuple(taught), network.first_supervised, by_turns=network.reward_by_turns, supervised=True)


def _entering(network: Network, first: int) -> tuple[int, ...]:
    """The outputs that layers from stage `first` on are computed from; () where what this one reads is enough."""
    return network.graph.outputs_entering(first, len(network.stages) - 1)


def _bounded(layer: Any) -> Any:
    """A layer whose weights lie within the bounds of its rule, if it has any, marked as such."""
    return dataclasses.replace(layer, in_bounds=layer.conv.last_learner.bounds is not None)


@functools.partial(jax.jit, static_argnums=0)
def _last_inputs(rules: _Rules, model: Model, images: jax.Array) -> jax.Array:
    """What the deciding layers read of images, (N, C, H, W)."""

    def of_image(image: jax.Array) -> jax.Array:
        return model.forward(model.encode(image, native=rules.native))

    return jax.vmap(of_image)(images)


@functools.partial(jax.jit, static_argnums=0)
def _learn_one(
    rules: _Rules, model: Model, state: StreamState, image: jax.Array, label: jax.Array
) -> tuple[jax.Array, StreamState]:
    learn = _alone(functools.partial(_learn, rules))
    return learn(model, state, _inputs(rules, model, image), label)


@functools.partial(jax.jit, static_argnums=0)
def _learn_several(
    rules: _Rules, model: Model, state: StreamState, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, StreamState]:
    """Learns from images in their order; layers that do not learn take as many at once as the device does."""
    size = min(at_once(), len(images))
    learn = _alone(functools.partial(_learn, rules))

    def learn_block(state: StreamState, block: Any) -> tuple[StreamState, jax.Array]:
        images, labels = block
        inputs = jax.vmap(functools.partial(_inputs, rules, model))(images)

        def learn_next(state: StreamState, item: Any) -> tuple[StreamState, jax.Array]:
            decision, state = learn(model, state, *item)
            return state, decision

        return jax.lax.scan(learn_next, state, (inputs, labels))

    blocks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), (images, labels))
    state, decisions = jax.lax.scan(learn_block, state, blocks)
    return decisions.ravel(), state


@functools.partial(jax.jit, static_argnums=0)
def _reward_one(
    rules: _Rules, model: Model, state: StreamState, image: jax.Array, reward: jax.Array
) -> tuple[jax.Array, StreamState]:
    def learn(model: Model, state: StreamState, inputs: Any, reward: jax.Array) -> tuple[jax.Array, StreamState]:
        rule = _rule(rules, model)
        passed = rule.respond(state.carry, inputs, jnp.int32(-1))
        carry, result = rule.update_by_reward(state.carry, reward, passed)
        return result.decisions, state._replace(carry=carry)

    return _alone(learn)(model, state, _inputs(rules, model, image), reward)


@functools.partial(jax.jit, static_argnums=0)
def _end_epoch(rules: _Rules, model: Model, state: StreamState) -> StreamState:
    return state._replace(carry=_rule(rules, model).end_epoch(state.carry, jnp.bool_(True)))


def _rule(rules: _Rules, model: Model) -> Supervised:
    return Supervised(rules.phase, model, jnp.int32(rules.batch_size))


def _inputs(rules: _Rules, model: Model, image: jax.Array) -> Any:
    """What the layers that learn are computed from: the input of the first, or else `Known` outputs before it."""
    known = Known({0: model.encode(image, native=rules.native)})
    first = rules.phase.first
    entering = _entering(model.network, first)
    if not entering:
        return model.input_of(first, known)
    return Known({number: model.output_of(number, known) for number in entering})


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that under `jax.vmap` on a CPU takes one stream after the other: each as alone, bit for bit."""
    return jax.custom_batching.sequential_vmap(function) if peers()[0].platform == "cpu" else function


def _learn(
    rules: _Rules, model: Model, state: StreamState, inputs: Any, label: jax.Array
) -> tuple[jax.Array, StreamState]:
    """Decides on an image, then learns from it, and again from some in the memory; -1: only decides."""
    rule = _rule(rules, model)
    passed = rule.respond(state.carry, inputs, label)

    def teach(state: StreamState) -> StreamState:
        carry, _ = rule.update(state.carry, inputs, label, passed)
        if state.memory is None:
            return state._replace(carry=carry)
        carry, memory = _replay(rules, rule, carry, state.memory)
        return StreamState(carry, _store(rules, memory, inputs, label))

    return passed.decided.decision, jax.lax.cond(label >= 0, teach, lambda state: state, state)


def _replay(rules: _Rules, rule: Supervised, carry: Carry, memory: Memory) -> tuple[Carry, Memory]:
    """Learns again from images that are drawn from the memory, if it holds any."""
    held = jnp.minimum(memory.counts, rules.memory)
    key, *keys = jax.random.split(memory.key, rules.replays + 1)

    def learn(index: jax.Array, carry: Carry) -> Carry:
        of_class, of_place = jax.random.split(jnp.stack(keys)[index])
        label = jax.random.categorical(of_class, jnp.where(held > 0, 0.0, -jnp.inf)).astype(jnp.int32)
        place = jax.random.randint(of_place, (), 0, jnp.maximum(held[label], 1))
        inputs = jax.tree.map(lambda x: x[label, place], memory.inputs)
        return rule.update(carry, inputs, label, rule.respond(carry, inputs, label))[0]

    count = jnp.where(jnp.any(held > 0), rules.replays, 0)
    return jax.lax.fori_loop(0, count, learn, carry), memory._replace(key=key)


def _store(rules: _Rules, memory: Memory, inputs: Any, label: jax.Array) -> Memory:
    """The memory with one image more: in place of the oldest of its class, or of one that is drawn, or not at all."""
    count = memory.counts[label]
    key = memory.key
    place = count % rules.memory
    if rules.reservoir:
        key, now = jax.random.split(key)
        place = jnp.where(count < rules.memory, count, jax.random.randint(now, (), 0, count + 1))
    kept = jax.tree.map(lambda x, new: x.at[label, place].set(new, mode="drop"), memory.inputs, inputs)
    return Memory(kept, memory.counts.at[label].add(1), key)

"""Learning image by image: supervised learning from one image at a time, with a memory of earlier ones.

All functions are pure; the jitted ones are compiled for `Rules`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core.devices import one_by_one
from snnjax.kernels import use_backend
from snnjax.kernels.spikes import latency_dtype
from snnjax.networks import Model, Network
from snnjax.networks.graph import Activations
from snnjax.networks.spiking_network import at_once
from snnjax.training.job import Phase
from snnjax.training.learning import Carry, Supervised


class Rules(NamedTuple):
    """How a stream learns.

    Attributes:
      phase: the layers that learn, and the number of images after which supervised learners adapt.
      backend: the back end that computes, "xla" or "native".
      memory: M, the number of images of each class that are kept; the newest images are kept.
      replays: the number of images from the memory that are learned again after each new image.
    """

    phase: Phase
    backend: str
    memory: int
    replays: int


class Memory(NamedTuple):
    """The earlier images that a stream keeps.

    Attributes:
      inputs: (classes, M, C, H, W) latencies, the inputs of the first layer that learns; or a tree of such arrays.
      counts: (classes,) int32, the number of images of each class so far, of which at most M are kept.
      key: the raw `jax.random` key of the next draw, (2,) uint32.
    """

    inputs: Any
    counts: jax.Array
    key: jax.Array

    @property
    def places(self) -> int:
        """The number of images of each class that the memory can hold."""
        return np.shape(jax.tree.leaves(self.inputs)[0])[1]


class StreamState(NamedTuple):
    """Everything that changes while a stream learns.

    Attributes:
      carry: the layers that learn, the states of their learners, and the `DecisionCounts` of decisions.
      memory: the memory of earlier images; None if none are kept.
    """

    carry: Carry
    memory: Memory | None


def empty_memory(rules: Rules, network: Network, key: np.ndarray) -> Memory:
    """The memory before the first image, given its `key`."""
    dtype = latency_dtype(network.time_steps)
    each = network.classes, rules.memory
    first = rules.phase.first
    inputs: Any = np.zeros((*each, *network.input_shapes[first]), dtype)
    if outputs := _entering(network, first):
        inputs = Activations({number: np.zeros((*each, *network.shapes[number]), dtype) for number in outputs})
    # A raw key: a typed key cannot become a NumPy array, and a state with one could not be saved.
    return Memory(inputs, jnp.zeros(network.classes, jnp.int32), jnp.asarray(key))


def _entering(network: Network, first: int) -> tuple[int, ...]:
    """The outputs that the stages from `first` on depend on; () if the input of stage `first` is enough."""
    return network.graph.outputs_entering(first, len(network.stages) - 1)


def _by_back_end(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function of `Rules` to be computed by their back end.

    The back end is chosen when the function is traced, which may happen later, under `jax.vmap`.
    """

    @functools.wraps(function)
    def call(rules: Rules, *args: Any) -> Any:
        with use_backend(rules.backend):
            return function(rules, *args)

    return call


@functools.partial(jax.jit, static_argnums=0)
@_by_back_end
def last_inputs(rules: Rules, model: Model, images: jax.Array) -> jax.Array:
    """The inputs of the deciding layers for images, (N, C, H, W) latencies."""

    def of_image(image: jax.Array) -> jax.Array:
        return model.forward(model.encode(image))

    return jax.vmap(of_image)(images)


@functools.partial(jax.jit, static_argnums=0)
@_by_back_end
def learn_images(
    rules: Rules, model: Model, state: StreamState, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, StreamState]:
    """Learns from each image in turn; returns the decisions made before learning, (N,) int32, and the new state.

    Layers that do not learn process the images in groups of as many images as the device processes at once. On an image
    with label -1, the network only decides.
    """
    size = min(at_once(), len(images))
    learn = one_by_one(functools.partial(_learn, rules))  # the other streams must not change the bits of a stream

    def learn_group(state: StreamState, group: Any) -> tuple[StreamState, jax.Array]:
        images, labels = group
        inputs = jax.vmap(functools.partial(_inputs, rules, model))(images)

        def learn_next(state: StreamState, item: Any) -> tuple[StreamState, jax.Array]:
            decision, learned = learn(model, state, *item)
            return learned, decision

        return jax.lax.scan(learn_next, state, (inputs, labels))

    groups = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), (images, labels))
    learned, decisions = jax.lax.scan(learn_group, state, groups)
    return decisions.ravel(), learned


@functools.partial(jax.jit, static_argnums=0)
@_by_back_end
def learn_reward(
    rules: Rules, model: Model, state: StreamState, image: jax.Array, reward: jax.Array
) -> tuple[jax.Array, StreamState]:
    """Learns from the reward for the decision on one image; returns the decision, () int32, and the new state.

    `reward` is the one of `Supervised.update_by_reward`.
    """
    learn = one_by_one(functools.partial(_learn_reward, rules))
    return learn(model, state, _inputs(rules, model, image), reward)


@_by_back_end
def _learn_reward(
    rules: Rules, model: Model, state: StreamState, inputs: Any, reward: jax.Array
) -> tuple[jax.Array, StreamState]:
    rule = _rule(rules, model)
    passed = rule.respond(state.carry, inputs, jnp.int32(-1))
    carry, result = rule.update_by_reward(state.carry, reward, passed)
    return result.decisions, state._replace(carry=carry)


@functools.partial(jax.jit, static_argnums=0)
@_by_back_end
def end_epoch(rules: Rules, model: Model, state: StreamState) -> StreamState:
    """The state after the learners have ended an epoch."""
    return state._replace(carry=_rule(rules, model).end_epoch(state.carry, jnp.bool_(True)))


def _rule(rules: Rules, model: Model) -> Supervised:
    return Supervised(rules.phase, model)


def _inputs(rules: Rules, model: Model, image: jax.Array) -> Any:
    """The inputs of the layers that learn, for one image: see `ImageBatch.inputs`."""
    known = Activations({0: model.encode(image)})
    first = rules.phase.first
    outputs = _entering(model.network, first)
    if not outputs:
        return model.input_of(first, known)
    return Activations({number: model.output_of(number, known) for number in outputs})


@_by_back_end
def _learn(
    rules: Rules, model: Model, state: StreamState, inputs: Any, label: jax.Array
) -> tuple[jax.Array, StreamState]:
    """Decides on an image, then learns from it and from replayed images; if the label is -1, it only decides."""
    rule = _rule(rules, model)
    passed = rule.respond(state.carry, inputs, label)

    def teach(state: StreamState) -> StreamState:
        carry, _ = rule.update(state.carry, label, passed)
        if state.memory is None:
            return state._replace(carry=carry)
        carry, memory = _replay(rules, rule, carry, state.memory)
        return StreamState(carry, _store(rules, memory, inputs, label))

    return passed.decided.decision, jax.lax.cond(label >= 0, teach, lambda state: state, state)


def _replay(rules: Rules, rule: Supervised, carry: Carry, memory: Memory) -> tuple[Carry, Memory]:
    """Learns again from images that are drawn from the memory, if it holds any."""
    held = jnp.minimum(memory.counts, rules.memory)
    key, *keys = jax.random.split(memory.key, rules.replays + 1)

    def learn(index: jax.Array, carry: Carry) -> Carry:
        # Each replay has its own key; with a common key, all replays would draw the same image.
        of_class, of_place = jax.random.split(jnp.stack(keys)[index])
        label = jax.random.categorical(of_class, jnp.where(held > 0, 0.0, -jnp.inf)).astype(jnp.int32)
        place = jax.random.randint(of_place, (), 0, jnp.maximum(held[label], 1))
        inputs = jax.tree.map(lambda x: x[label, place], memory.inputs)
        return rule.update(carry, label, rule.respond(carry, inputs, label))[0]

    count = jnp.where(jnp.any(held > 0), rules.replays, 0)
    return jax.lax.fori_loop(0, count, learn, carry), memory._replace(key=key)


def _store(rules: Rules, memory: Memory, inputs: Any, label: jax.Array) -> Memory:
    """The memory with one more image, which replaces the oldest one of its class if the memory is full."""
    place = memory.counts[label] % rules.memory
    kept = jax.tree.map(lambda x, new: x.at[label, place].set(new), memory.inputs, inputs)
    return Memory(kept, memory.counts.at[label].add(1), memory.key)

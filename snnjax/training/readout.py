"""Fast forms of `SupervisedSTDP` of a single deciding layer: one call a slice on a CPU, or few kernels elsewhere."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import devices, kernels
from snnjax.forms import AT_ONCE, FAST
from snnjax.kernels import Spikes
from snnjax.kernels.native import STEPS, readout
from snnjax.layers import Conv, Form, Layer
from snnjax.learners import SupervisedSTDP, Tally
from snnjax.networks import Earliest, Model, Network
from snnjax.networks.decision import decide
from snnjax.training.programs import FastForm, Supervised, SupervisedCarry, outcome
from snnjax.training.state import Settings


def learn_at_once(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """As `programs.learn_supervised` with one image at a time, by compiled kernels."""
    (name,), (layers, states, tally) = model.names[model.last], carry
    layer, state = layers[name], states[name]
    learner, conv = cast(SupervisedSTDP, layer.conv.supervised), layer.conv
    numbers = learner.gap, state.get("threshold_rate", 0), *learner.bounds
    rates = jnp.concatenate([state["rates"], jnp.stack([jnp.asarray(each, jnp.float32) for each in numbers])])
    kind = dict(competition=learner.competition, one_sided=learner.one_sided, normalise=learner.normalise)
    found = readout.learn(
        layer.stored,
        state["excess"],
        latencies,
        labels,
        jnp.stack([start, count]),
        threshold=cast(Any, conv.threshold),
        sums=state["sums"],
        numbers=rates,
        classes=model.classes,
        non_targets=learner.non_targets,
        competitors=learner.competitors(layer),
        time_steps=model.time_steps,
        fractional=conv.fractional,
        fallback=cast(Earliest, model.decision).fallback,
        **kind,
    )
    layers = {name: dataclasses.replace(layer, stored=found.weights)}
    tally = counted(tally, outcome(found.decision, labels), start, count, batch_size)
    rule = Supervised(model, [name], model.last, False, batch_size)
    carry = rule.end_epoch((layers, {name: dict(state, excess=found.excess)}, tally), last)
    info = {key: getattr(found, key) for key in ("neuron", "time", "error", "label", "threshold")}
    return carry, (found.decision, {name: info})


def learn_in_few_kernels(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    batch: int,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """As `programs.learn_supervised`, of a layer in the form `FAST` or `AT_ONCE` within its bounds, on an accelerator.

    `start` and the number of images are multiples of `batch`. What learning does not need is computed after all images:
    decisions, and what the infos tell.
    """
    (name,), (layers, states, tally) = model.names[model.last], carry
    layer, state, numbers = layers[name], states[name], jnp.arange(len(latencies))
    shown, whose = (numbers >= start) & (numbers < count), jnp.maximum(labels, 0)
    learns = shown & (labels >= 0) & jnp.any(latencies < model.time_steps, axis=(1, 2, 3))
    images = jax.tree.map(lambda x: x.reshape(-1, batch, *x.shape[1:]), (latencies, whose, learns))
    # XLA makes fewer kernels of weights (F, K), and shares some between single images.
    begin = layer.stored.reshape(layer.conv.features, -1), state["excess"]
    learn_batch = functools.partial(_learn_batch, layer, state)
    (rows, excess), packed = jax.lax.scan(learn_batch, begin, images, unroll=4 if batch == 1 else 1)
    found = _Found.unpacked(packed.reshape(len(latencies), -1), layer)

    def decided(time: jax.Array, potential: jax.Array) -> jax.Array:
        return decide(model.decision, [Spikes(time, potential, time)], model.classes).decision  # by times alone

    decisions = jnp.where(shown, jax.vmap(decided)(found.times, found.potentials), 0)
    infos = {name: _infos(layer, found, shown, learns, whose)}
    layers, states = {name: dataclasses.replace(layer, stored=rows.reshape(layer.stored.shape))}, {**states}
    states[name] = dict(state, excess=excess)
    tally = counted(tally, outcome(decisions, labels), start, count, batch_size)
    rule = Supervised(model, [name], model.last, False, batch_size)
    return rule.end_epoch((layers, states, tally), last), (decisions, infos)


class _Found(NamedTuple):
    """What is known of B images after they were learned; all in float32, so that one array holds it: one kernel.

    Attributes:
      neuron, time, error: (B, n), of the neurons that learn.
      excess: (B, F), of the training thresholds afterwards.
      times, potentials: (B, F), of all neurons.
    """

    neuron: jax.Array
    time: jax.Array
    error: jax.Array
    excess: jax.Array
    times: jax.Array
    potentials: jax.Array

    def packed(self) -> jax.Array:
        return jnp.concatenate([x.reshape(len(x), -1).astype(jnp.float32) for x in self], axis=1)

    @classmethod
    def unpacked(cls, packed: jax.Array, layer: Layer) -> "_Found":
        features = layer.conv.features
        learn = layer.classes if layer.conv.supervised.competition else features
        return cls(*jnp.split(packed, np.cumsum([learn] * 3 + [features] * 2), axis=1))


def _learn_batch(layer: Layer, state: Any, carry: Any, images: Any) -> tuple[Any, jax.Array]:
    """Weights (F, K) and excess (F,) after a batch: latencies, labels and whether each is learned. `_Found`, packed."""
    (rows, excess), (latency, label, learns) = carry, images
    learner, (batch,), classes = cast(SupervisedSTDP, layer.conv.supervised), label.shape, layer.classes
    now = dataclasses.replace(layer, stored=rows.reshape(layer.stored.shape))

    def spikes_at(threshold: Any) -> Any:
        spikes = jax.vmap(lambda image: now.timed_spikes(image, threshold))(latency)
        return jax.tree.map(lambda x: x.reshape(batch, classes, -1), spikes)

    spikes, training = spikes_at(layer.conv.threshold), None
    after = jnp.broadcast_to(excess, (batch, *excess.shape))
    if learner.competitors(layer):
        training = spikes_at(layer.conv.threshold + excess)
        neuron = jnp.broadcast_to(jnp.arange(training.time.shape[2]), training.time.shape)
        time = jnp.where(neuron >= learner.non_targets, training.time, jnp.inf)
        (winner,) = kernels.of_earliest(time, training.potential, (neuron - learner.non_targets,))
        own = (label[:, None] == jnp.arange(classes)[None]) & learns[:, None]
        before = excess.reshape(classes, -1)[:, learner.non_targets :]
        after = kernels.balanced_in_order(before, own, winner, state["threshold_rate"])
        after = jnp.pad(after, ((0, 0), (0, 0), (learner.non_targets, 0))).reshape(batch, -1)
    group = jax.vmap(functools.partial(learner.group, layer))(spikes, training, label)
    error = jax.vmap(functools.partial(learner.errors, layer))(group)

    def of_all(values: jax.Array) -> jax.Array:
        """From (B, n) to (B, n, M): the neuron that learns for all of its class, or each for itself."""
        return jnp.broadcast_to(values[..., None], (*values.shape, layer.conv.features // values.shape[1]))

    step, place = of_all(group.spike), jnp.arange(layer.conv.features).reshape(1, *of_all(group.spike).shape[1:])
    moved = (of_all(group.neuron) == place) & learns[:, None, None]
    errors, moved, after = jax.lax.optimization_barrier((of_all(error), moved, after))  # together they are one kernel
    seen = jax.vmap(layer.padded)(latency)
    seen, step, errors, moved = (x.reshape(batch, -1) for x in (seen, step, errors, moved))
    sums = state["sums"] if learner.normalise else None
    rows = kernels.corrected_in_order(rows, seen, step, errors, moved, state["rates"], sums, bounds=learner.bounds)
    found = _Found(group.neuron, group.time, error, after, spikes.time, spikes.potential)
    return (rows, after[-1]), found.packed()


def _infos(layer: Layer, found: _Found, shown: jax.Array, learns: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """The infos of `SupervisedSTDP`, 0 of images that were not shown."""
    learner, nothing, own = cast(SupervisedSTDP, layer.conv.supervised), -shown.astype(jnp.int32), learns[:, None]
    thresholds = (found.excess + jnp.asarray(layer.conv.threshold, jnp.float32)).reshape(len(label), layer.classes, -1)
    thresholds = jnp.take_along_axis(thresholds, label[:, None, None], axis=1)[:, 0, learner.non_targets :]
    return dict(
        neuron=jnp.where(own, found.neuron.astype(jnp.int32), nothing[:, None]),
        time=jnp.where(own, found.time, 0),
        error=jnp.where(own, found.error, 0),
        label=jnp.where(learns, label, nothing),
        threshold=jnp.where(own, thresholds[:, : learner.competitors(layer)], 0),
    )


def counted(tally: Tally, outcomes: jax.Array, start: jax.Array, count: jax.Array, batch_size: jax.Array) -> Tally:
    """The tally after images start..count-1 with these outcomes (S,), of learners that do nothing after a batch."""
    total = tally.seen + count - start
    ended, rest = total // batch_size, total % batch_size
    begin, old = jnp.where(ended > 0, count - rest, start), ended == 0
    numbers = jnp.arange(len(outcomes))
    current = (numbers >= begin) & (numbers < count)
    right, wrong = (jnp.sum(current & each, dtype=jnp.int32) for each in (outcomes > 0, outcomes < 0))
    return Tally(right + old * tally.correct, wrong + old * tally.wrong, rest, tally.batch + ended, tally.epoch)


def fast_form(model: Model, first: int, by_turns: bool, settings: Settings) -> FastForm | None:
    """That of a single deciding `SupervisedSTDP` layer, where no others learn."""
    convs, batch = [layer.conv for layer in model.stage(model.last)], settings.update_batch
    if first < model.last or len(convs) > 1 or by_turns or type(model.decision) is not Earliest:
        return None
    if devices.peers()[0].platform != "cpu":
        return FastForm(learn_in_few_kernels, dict(batch=batch), batch, AT_ONCE if batch == 1 else FAST)
    fits = batch == 1 and settings.native and _suits(convs, model.decision, model.time_steps)
    return FastForm(learn_at_once, {}, 1, FAST) if fits else None


def deciding_form(network: Network, settings: Settings, _scores: bool) -> Form | None:
    """That of deciding `SupervisedSTDP` layers, by compiled kernels."""
    fits = settings.native and _suits(network.stages[-1].branches, network.decision, network.time_steps)
    return READOUT if fits else None


def _suits(convs: Sequence[Conv], decision: Any, time_steps: int) -> bool:
    """Whether compiled kernels can do what deciding layers need: bytes, no padding, no strides, `Earliest`."""
    plain = all(conv.padding in (0, (0, 0)) and conv.stride in (1, (1, 1)) for conv in convs)
    return plain and type(decision) is Earliest and time_steps <= STEPS


def _earliest(layer: Layer, latencies: jax.Array) -> Spikes:
    limits = dict(threshold=cast(Any, layer.conv.threshold), fractional=layer.conv.fractional)
    return readout.earliest_of_classes(
        latencies, layer.stored, classes=layer.classes, time_steps=layer.time_steps, **limits
    )


READOUT = FAST._replace(of_classes=_earliest)
"""As `FAST`; decisions of `Earliest` on blocks of images by compiled kernels."""

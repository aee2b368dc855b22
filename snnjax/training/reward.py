"""Fast forms of `RSTDP` where only deciding layers learn: by compiled kernels, which also decide, or in blocks."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.kernels import Spikes
from snnjax.kernels.native import STEPS, reward
from snnjax.layers import TAPS, Form, Layer
from snnjax.learners import RSTDP
from snnjax.networks import Majority, Model, Network
from snnjax.networks.decision import majority
from snnjax.training import blocks
from snnjax.training.programs import FastForm, Supervised, SupervisedCarry, outcome
from snnjax.training.state import Settings


def fast_form(model: Model, by_turns: bool, settings: Settings) -> FastForm | None:
    """That of deciding `RSTDP` layers, where no others learn: under `Majority`."""
    if settings.update_batch > 1 or not _suits(model, settings):
        return blocks.fast_form(model, by_turns, settings)
    return FastForm(learn_at_once, dict(by_turns=by_turns), 1, STRONGEST)


def deciding_form(network: Network, settings: Settings) -> Form | None:
    """That of deciding `RSTDP` layers, by compiled kernels."""
    return STRONGEST if _suits(network, settings) else None


def _suits(network: Network | Model, settings: Settings) -> bool:
    """Whether compiled kernels can do what deciding layers need: bytes, and `Majority`."""
    return settings.native and type(network.decision) is Majority and network.time_steps <= STEPS


def learn_at_once(
    carry: SupervisedCarry,
    model: Model,
    latencies: jax.Array,
    labels: jax.Array,
    start: jax.Array,
    count: jax.Array,
    last: jax.Array,
    batch_size: jax.Array,
    by_turns: bool,
) -> tuple[SupervisedCarry, tuple[jax.Array, Any]]:
    """As `programs.learn_supervised` with one image at a time, of deciding `RSTDP` layers in the form `TAPS`.

    Rates change after a batch only, so that each layer learns from the rest of a batch in one call.
    """
    names, size = model.names[model.last], len(latencies)
    rule = Supervised(model, names, model.last, by_turns, batch_size)

    def one_batch(learned: Any) -> Any:
        at, (layers, states, tally), (decisions, infos) = learned
        end, turns = jnp.minimum(count, at + batch_size - tally.seen), rule.turns(tally)
        found = {name: _learn(layers[name], states[name], latencies, labels, at, end, turns[name]) for name in names}
        layers = {name: dataclasses.replace(layers[name], weights=found[name].weights) for name in names}
        numbers = jnp.arange(size)
        now = (numbers >= at) & (numbers < end)
        votes = jnp.stack([found[name].vote for name in names])
        decided = jax.vmap(lambda each: majority(each, model.classes), in_axes=1)(votes)
        outcomes = jnp.where(now, outcome(decided, labels), 0)
        states, tally = rule.count_outcomes(layers, states, tally, outcomes, end - at)
        infos = {name: jnp.where(now, found[name].feature, infos[name]) for name in names}
        return end, (layers, states, tally), (jnp.where(now, decided, decisions), infos)

    nothing = jnp.zeros(size, jnp.int32), dict.fromkeys(names, jnp.zeros(size, jnp.int32))
    _, carry, (decisions, infos) = jax.lax.while_loop(lambda x: x[0] < count, one_batch, (start, carry, nothing))
    return rule.end_epoch(carry, last), (decisions, {name: dict(feature=each[:, None]) for name, each in infos.items()})


def _learn(
    layer: Layer, state: Any, latencies: jax.Array, labels: jax.Array, start: jax.Array, end: jax.Array, turn: Any
) -> reward.Rewarded:
    """One deciding layer learns from images start..end-1, if it is its `turn`; otherwise it votes only."""
    rule = cast(RSTDP, layer.conv.supervised)
    return reward.learn(
        layer.weights,
        latencies,
        jnp.where(turn, labels, -1),
        jnp.stack([start, end]),
        state["rates"],
        kept=state.get("kept"),
        bounds=rule.bounds,
        stabiliser=rule.stabiliser,
        **_place(layer),
    )


def _place(layer: Layer) -> dict[str, Any]:
    conv = layer.conv
    return dict(classes=layer.classes, time_steps=layer.time_steps, padding=conv.padding, stride=conv.stride)


def _strongest(layer: Layer, latencies: jax.Array) -> Spikes:
    potential = reward.strongest_of_classes(latencies, layer.weights, **_place(layer))
    return kernels.fire_at_last_step(potential[..., None, None], time_steps=layer.time_steps)


STRONGEST = TAPS._replace(of_classes=_strongest)
"""As `TAPS`; decisions of `Majority` on blocks of images by compiled kernels."""

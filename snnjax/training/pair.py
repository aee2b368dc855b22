"""A layer and the deciding layer after it, which both learn by reward: on a CPU one call learns from all images."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from snnjax.kernels.kernel import dispatch
from snnjax.kernels.learning import RewardLayer, learn_deep_by_reward
from snnjax.kernels.native import MAX_TIME_STEPS
from snnjax.layers.conv import is_wta
from snnjax.layers.pool import pooling
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP
from snnjax.learners.protocol import has_default_figures
from snnjax.networks import Majority, Model, Network
from snnjax.training.learning import Images, learn_intervals, learn_supervised
from snnjax.training.phase import Carry, ImageBatch, Phase, StepResult


def is_pair(phase: Phase, network: Network) -> bool:
    """Whether a layer with `WTA` and the deciding layer learn by `RSTDP`, and no other layer lies on their way."""
    last = len(network.stages) - 1
    if phase.first != last - 1 or len(phase.layers) != 2:
        return False
    convs = [conv for stage in network.stages[phase.first :] for conv in stage.branches]
    chain = network.graph.plain(last) and network.graph.sources(last) == (last,)
    if len(convs) != 2 or not chain or network.stages[phase.first].pointwise:
        return False
    rules = [conv.last_learner for conv in convs]
    by_reward = all(type(rule).learn is RSTDP.learn and not has_default_figures(rule) for rule in rules)
    before = convs[0]
    one_race = is_wta(before.competition) and before.one_threshold and before.monotone
    # The compiled call can drop out features of the deciding layer (`kept`), but not of the layer before it.
    undropped = by_reward and before.last_learner.dropout is None
    return undropped and one_race and type(network.decision) is Majority and network.time_steps <= MAX_TIME_STEPS


def learn_pair(phase: Phase, carry: Carry, model: Model, batch: ImageBatch) -> tuple[Carry, StepResult]:
    """As `learn_supervised`, of layers that are a pair."""

    def run_native(carry: Carry, model: Model, batch: ImageBatch) -> tuple[Carry, StepResult]:
        def learn(carry: Carry, turns: Mapping[str, Any], images: Images) -> tuple[dict[str, Layer], Any, StepResult]:
            layers, result = _learn_interval(phase, carry, model, turns, images)
            return layers, carry.states, result

        return learn_intervals(phase, carry, model, batch, learn)

    def xla(carry: Carry, model: Model, batch: ImageBatch) -> tuple[Carry, StepResult]:
        return learn_supervised(phase, carry, model, batch)

    return dispatch(phase.update_batch == 1, run_native, xla)(carry, model, batch)


def _learn_interval(
    phase: Phase, carry: Carry, model: Model, turns: Mapping[str, Any], images: Images
) -> tuple[dict[str, Layer], StepResult]:
    """Both layers learn from the images of one interval."""
    earlier, last = phase.layers
    before = carry.layers[earlier]
    deciding = carry.layers[last]
    competition: Any = before.conv.competition
    threshold: Any = before.conv.threshold
    first, second, vote, winners, feature = learn_deep_by_reward(
        _described(before, carry.states[earlier]),
        _described(deciding, carry.states[last]),
        images.inputs,
        images.labels,
        images.shown,
        jnp.stack([jnp.asarray(turn, jnp.int32) for turn in turns.values()]),
        threshold=threshold,
        winners=competition.winners,
        radius=competition.radius,
        classes=deciding.classes,
        time_steps=deciding.time_steps,
        kept=carry.states[last].get("kept"),
        pool=pooling(model.network.stages[phase.first].pool, before.conv.output_padding),
    )
    layers = {
        earlier: dataclasses.replace(before, weights=first),
        last: dataclasses.replace(deciding, weights=second),
    }
    infos: dict[str, Any] = {earlier: dict(feature=winners), last: dict(feature=feature[:, None])}
    return layers, StepResult(infos, vote)


def _described(layer: Layer, state: Mapping[str, jax.Array]) -> RewardLayer:
    conv = layer.conv
    rule = conv.last_learner
    return RewardLayer(layer.weights, state["rates"], rule.bounds, rule.stabiliser, conv.stride, conv.padding)

"""Variants of local_narrow for comparison: labels only in the third layer, SoftHebb first, and random feedback.

snnjax train --model experiments/local_variants.py:labels_last --dataset cifar10 --mirror
"""

import dataclasses

from snnjax import ImageSpec, Network
from snnjax.layers import Conv
from snnjax.networks import Stage, local_narrow, softhebb_narrow
from snnjax.networks.images import CIFAR10


def labels_last(images: ImageSpec = CIFAR10) -> Network:
    """The first two layers learn by SoftHebb, without labels, and the third layer by the error of its head."""
    without = softhebb_narrow(images)
    network = local_narrow(images)
    stages = (*without.stages[:2], *network.stages[2:])
    epochs = (*without.epochs[:2], *network.epochs[2:])
    return dataclasses.replace(network, name="labels_last", stages=stages, epochs=epochs)


def softhebb_first(images: ImageSpec = CIFAR10) -> Network:
    """Each layer learns by SoftHebb first, from 15,000 images in all epochs together, then by the error of its head."""
    without = softhebb_narrow(images)
    network = local_narrow(images)
    pairs = zip(without.stages[:-1], network.stages[:-1], network.epochs[:-1], strict=True)
    stages = [_softhebb_then_local(*pair) for pair in pairs]
    return dataclasses.replace(network, name="softhebb_first", stages=(*stages, network.stages[-1]))


def random_feedback(images: ImageSpec = CIFAR10) -> Network:
    """The error passes back from each head through fixed random weights."""
    network = local_narrow(images)
    stages = [_with_layer(stage, _random(_layer(stage))) for stage in network.stages[:-1]]
    return dataclasses.replace(network, name="random_feedback", stages=(*stages, network.stages[-1]))


def _layer(stage: Stage) -> Conv:
    (conv,) = stage.branches
    return conv


def _with_layer(stage: Stage, conv: Conv) -> Stage:
    return dataclasses.replace(stage, branches=(conv,))


def _softhebb_then_local(before: Stage, after: Stage, epochs: int) -> Stage:
    """A stage with the initial weights and the rule of `before`, followed by the rule and the ramp of `after`.

    Each rule has a phase with all epochs of the stage, so that SoftHebb's images are divided among the epochs.
    """
    soft = _layer(before)
    (rule,) = soft.each_learner
    rule = dataclasses.replace(rule, images=rule.images // epochs)
    learners = (rule, *_layer(after).each_learner)
    return _with_layer(after, dataclasses.replace(soft, learners=learners, ramp=_layer(after).ramp))


def _random(conv: Conv) -> Conv:
    (rule,) = conv.each_learner
    return dataclasses.replace(conv, learners=dataclasses.replace(rule, feedback="random"))

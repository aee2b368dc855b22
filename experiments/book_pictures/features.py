"""Pictures of an STDP layer: how its neurons fire and compete, and how its features develop."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from book_pictures import encoding, style
from snnjax import RSTDP, STDP, Conv, ImageSpec, Network, SpikingNetwork, kernels, stage
from snnjax.app import plots
from snnjax.data import digits
from snnjax.encoding import encode
from snnjax.kernels import Spikes, Winners
from snnjax.networks.features import drawn_back

STEPS = encoding.STEPS
FEATURES = 20
KERNEL = 5
MARGIN = 2
THRESHOLD = 15
WINNERS = 5
RADIUS = 3
CROP = 3  # pixels on each side that only the widest filters reach
RULE = STDP(doubling=200)
EPOCHS = 3
SEED = 1
MOMENTS = (0, 400, 700, 1000, 1500, 4000)  # training images, one entry for each row of the picture


class Course(NamedTuple):
    """The course of a layer that learns from N images."""

    weights: np.ndarray  # (N + 1, F, C, kh, kw), before the first image and after each image
    features: np.ndarray  # (N, k), the features that won, -1 for unused entries


class Competition(NamedTuple):
    """The response of a layer to one image, and the neurons that learn.

    Attributes:
      seen: the latencies of the padded input.
      spikes: the spikes of all neurons.
      inhibited: the spikes after lateral inhibition, at most one per position.
      winners: the neurons that learn.
    """

    seen: Any
    spikes: Spikes
    inhibited: Spikes
    winners: Winners


def compete(weights: Any, latency: Any) -> Competition:
    """Computes the padded input of the layer, its spikes before and after lateral inhibition, and the winners."""
    seen = kernels.pad(latency, MARGIN, time_steps=STEPS)
    spikes = kernels.integrate_and_fire(seen, weights, threshold=THRESHOLD, time_steps=STEPS)
    inhibited = kernels.pointwise_inhibition(spikes, time_steps=STEPS)
    winners = kernels.k_winners(inhibited, k=WINNERS, radius=RADIUS, time_steps=STEPS)
    return Competition(seen, spikes, inhibited, winners)


def _learn_from(state: Any, latency: Any) -> Any:
    """Learns from one image, for `jax.lax.scan`."""
    weights, number = state
    response = compete(weights, latency)
    weights = kernels.stdp(weights, response.seen, response.winners, RULE.rates(number), time_steps=STEPS)
    return (weights, number + 1), (weights, response.winners.feature)


@functools.cache
def course() -> Course:
    """Trains the layer on scikit-learn's digits, one image after another."""
    start = np.random.default_rng(SEED).normal(0.8, 0.05, (FEATURES, 6, KERNEL, KERNEL)).astype(np.float32)
    latencies = jax.jit(jax.vmap(encode))(digits().train_images)
    images = jnp.concatenate([latencies] * EPOCHS)
    _, (weights, features) = jax.jit(lambda first, inputs: jax.lax.scan(_learn_from, first, inputs))((start, 0), images)
    return Course(np.concatenate([start[None], weights]), np.asarray(features))


@functools.cache
def _network() -> Network:
    """A network that contains the layer, and a second layer that decides, as drawing functions require."""
    images = ImageSpec.of(digits())
    conv = Conv(FEATURES, kernel=KERNEL, padding=MARGIN, threshold=THRESHOLD, learners=RULE)
    stages = (stage(conv, pool=4), stage(Conv(images.classes, kernel=7, learners=RSTDP())))
    return Network("features", images.input_shape, images.classes, stages, encoder=digits().encoder)


def drawn(number: int) -> np.ndarray:
    """The features after `number` images as pixels, (F, 11, 11); 1 is the strongest contrast of the final features."""
    return _stimuli(number) / np.abs(_stimuli(len(course().features))).max(axis=(1, 2), keepdims=True)


@functools.cache
def _stimuli(number: int) -> np.ndarray:
    """The features after `number` images; features that have learned little are faint."""
    weights = _network().initial_weights() | {"layer1": course().weights[number]}
    features = drawn_back(SpikingNetwork(_network(), weights=weights))["layer1"]
    return (features.images * features.strengths[:, None, None])[:, CROP:-CROP, CROP:-CROP]


def show_feature(axis: Axes, image: np.ndarray, title: str = "") -> None:
    """Draws a feature: light for pixels that should be light, grey for pixels that do not matter."""
    axis.imshow(image, cmap="gray", vmin=-1, vmax=1)
    style.bare(axis, title)


def growing() -> bytes:
    """Features of a layer before learning and after increasing numbers of images: edges and bars emerge from grey."""
    figure = style.sheet(3.75, 0.01)
    for line, number in zip(figure.subplots(len(MOMENTS), 10), MOMENTS, strict=True):
        for axis, image in zip(line, drawn(number), strict=False):
            show_feature(axis, image)
        line[0].set_ylabel(f"{number:,}" if number else "before", rotation=0, ha="right", va="center")
    figure.suptitle("Ten features after different numbers of training images", fontsize=9.5)
    return plots.png(figure)


def spread() -> np.ndarray:
    """The mean w(1-w) of each feature, (N + 1, F), before the first image and after each image."""
    weights = course().weights
    return np.mean(weights * (1 - weights), axis=(2, 3, 4))


def convergence() -> bytes:
    """The mean w(1-w) of the features falls towards 0 while they learn; the weights end near 0 and 1."""
    figure = style.sheet(2.7)
    axes = figure.subplots(1, 2, width_ratios=(1.6, 1))
    curve = axes[0]
    weights = axes[1]
    curve.plot(spread(), color=style.QUIET, linewidth=0.6)
    curve.plot([], [], color=style.QUIET, label="one feature")
    curve.plot(spread().mean(axis=1), color=style.OFF, linewidth=2.2, label="mean of 20 features")
    curve.set(xlabel="images", ylabel="mean $w(1-w)$", ylim=(0, 0.3))
    curve.legend(loc="upper right")
    last = len(course().features)
    moments = ((0, "before", style.QUIET), (900, "after 900", style.ORANGE), (last, f"after {last:,}", style.OFF))
    for number, name, color in moments:
        values = course().weights[number].ravel()
        weights.hist(values, 40, (0, 1), histtype="step", linewidth=1.8, color=color, label=name)
    weights.set(xlabel="weight $w$", ylabel="synapses", yscale="log", ylim=(1, 1e5))
    weights.legend(loc="upper center", handlelength=1.2)
    return plots.png(figure)

"""The picture of the weight changes of the rule STDP, as the kernel computes them."""

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from book_pictures import style
from snnjax import STDP, kernels
from snnjax.app import plots
from snnjax.kernels import Spikes

STEPS = 15
FIRES = 7  # the step at which the neuron fires
WEIGHTS = ((0.5, style.ON), (0.2, style.OFF), (0.05, style.GREEN))
"""The weights before the change, with the colours in which their changes are drawn."""
UNIT = 1000  # changes are drawn in thousandths


def stdp_window() -> bytes:
    """The change in a weight over the spike time of its input, for three weights, and over the weight itself."""
    figure = style.sheet(2.7)
    over_time, over_weight = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
    draw_over_time(over_time)
    draw_over_weight(over_weight)
    return plots.png(figure)


def draw_over_time(axis: Axes) -> None:
    """Draws a point for each input spike time, in steps after the neuron's spike, and a point for a silent input."""
    latency = np.arange(STEPS + 1)  # the last input stays silent
    silent = STEPS - FIRES + 1
    for weight, color in WEIGHTS:
        found = UNIT * changes(np.full(latency.shape, weight), latency)
        axis.plot(latency[:-1] - FIRES, found[:-1], "o", color=color, markersize=4, label=f"w = {weight}")
        axis.plot(silent, found[-1], "o", color=color, markersize=4, markerfacecolor="white")
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.axvline(0.5, color="0.4", linestyle="--", linewidth=1)
    ticks = (-6, -3, 0, 3, 6, silent)
    axis.set_xticks(ticks, [*map(str, ticks[:-1]), "silent"])
    axis.set(xlabel="input fires, steps after the neuron's spike", ylabel="change in w, thousandths")
    axis.legend(loc="upper right")


def draw_over_weight(axis: Axes) -> None:
    """Draws the two values of the window over the weight."""
    weights = np.linspace(0, 1, 101)
    for latency, words in ((FIRES, "input in time"), (STEPS, "late or silent")):
        found = UNIT * changes(weights, np.full(weights.shape, latency))
        axis.plot(weights, found, color="0.2")
        axis.text(0.5, found[len(found) // 2] / 2, words, ha="center", va="center")
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.set(xlabel="weight w before the change")


def changes(weights: np.ndarray, latency: np.ndarray) -> np.ndarray:
    """The changes in weights (K,) of inputs (K,) after the first image of `STDP()`; the neuron fires at `FIRES`."""
    rule = STDP()
    spikes = Spikes(jnp.full((1, 1, 1), FIRES, jnp.uint8), jnp.ones((1, 1, 1), jnp.float32))
    winners = kernels.k_winners(spikes, k=1, radius=0, time_steps=STEPS)
    before = jnp.asarray(weights, jnp.float32).reshape(1, -1, 1, 1)
    inputs = jnp.asarray(latency, jnp.uint8).reshape(-1, 1, 1)
    rates = rule.rates(jnp.int32(0))
    after = kernels.stdp(before, inputs, winners, rates, time_steps=STEPS, bounds=rule.bounds)
    return np.ravel(after - before)

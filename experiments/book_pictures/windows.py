"""The picture of layers with ramps, each of which fires in the window after that of its inputs."""

import functools
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from book_pictures import style
from snnjax import Conv, Network, Pool, Settings, SupervisedSTDP, Trainer, stage
from snnjax.app import plots
from snnjax.data import digits
from snnjax.encoding import PIXELS
from snnjax.kernels import hebbian
from snnjax.layers import Ramp, Standardise
from snnjax.learners import SoftHebb
from snnjax.networks import Activations, Earliest, Model

STEPS = 255
IMAGE = 3  # index of a test image, which shows a seven
SHOWN = "layer2"  # the layer of the neuron in the upper part
WINDOWS = 3
KERNEL = 3


class Neuron(NamedTuple):
    """One neuron in the window of its inputs.

    Attributes:
      course: (T + 1,), the potential at the beginning of each time step and at the end.
      spike: the latency of its spike in the next window.
    """

    course: np.ndarray
    spike: int


def description() -> Network:
    """The network: two layers with ramps, and a readout."""

    def features(count: int) -> Conv:
        weights: Any = dict(weight_mean=0.0, weight_std=1.0)
        return Conv(count, KERNEL, padding=1, learners=SoftHebb(), ramp=Ramp(0.7), standardise=Standardise(), **weights)

    rule = SupervisedSTDP(gap=0.01)
    readout = Conv(50, 7, threshold=60.0, weight_mean=0.15, weight_std=0.01, fractional=True, learners=rule)
    stages = (stage(features(16), pool=Pool(2)), stage(features(32), pool=Pool(2)), stage(readout))
    decision = Earliest(fallback=True)
    return Network("windows", (1, 28, 28), 10, stages, encoder=PIXELS, time_steps=STEPS, decision=decision)


@functools.cache
def model() -> Model:
    """The network, trained on scikit-learn's digits."""
    trainer = Trainer(description(), digits(), Settings(epochs=(1, 1, 15), patience=0, shuffle=True))
    return trainer.trained(trainer.run(trainer.initial_state())).model


def followed(image: Any) -> Neuron:
    """The most strongly excited neuron of the second layer that fires in the middle of its window."""
    layer = model().layers[SHOWN].frozen()
    inputs = model().output_of(1, Activations({0: image}))
    fired = np.moveaxis(np.asarray(layer.responses(inputs)), 0, -1)
    threshold = np.asarray(layer.integrator.threshold)
    rise = np.asarray(layer.potentials(inputs)) + threshold
    middle = (fired > STEPS // 4) & (fired < STEPS // 2)
    strongest = np.where(middle, rise, -np.inf).argmax()
    place = np.unravel_index(strongest, rise.shape)
    patches = hebbian.reflected_patches(inputs.astype(np.float32), kernel=KERNEL, padding=1)
    latency = np.asarray(patches)[place[:2]]
    steps = np.arange(STEPS + 1)
    sums = np.maximum(steps[:, None] - latency, 0) @ np.asarray(layer.integrator.weights)[place[2]]
    return Neuron(sums - threshold[place[2]], int(fired[place]))


def windows() -> bytes:
    """A potential rises while the inputs fire, and meets the ramp in the next window; below it, all spikes."""
    image = model().encode(digits().test_images[IMAGE])
    figure = style.sheet(5.2, 0.02)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.3))
    _potential(above, followed(image))
    _raster(below, image)
    for axis in (above, below):
        for number in range(WINDOWS + 1):
            axis.axvline(number * STEPS, color="0.8", linewidth=1, zorder=0)
    names = (f"window {number + 1}" for number in range(WINDOWS))
    for number, name in enumerate(names):
        above.text((number + 0.5) * STEPS, 1.02, name, transform=above.get_xaxis_transform(), ha="center", va="bottom")
    below.set(xlabel="time step", xlim=(0, WINDOWS * STEPS), xticks=range(0, WINDOWS * STEPS + 1, STEPS))
    figure.align_ylabels()
    return plots.png(figure)


def _potential(axis: Axes, neuron: Neuron) -> None:
    """Draws the potential of a neuron in the window of its inputs, and in the next window up to its spike."""
    start = 2 * STEPS
    levels = np.asarray(model().layers[SHOWN].ramp.levels)
    steps = np.arange(STEPS)
    axis.plot(STEPS + np.arange(STEPS + 1), neuron.course, color=style.OFF, linewidth=2, label="potential")
    axis.plot([start, start + neuron.spike], [neuron.course[-1]] * 2, color=style.OFF, linewidth=2)
    axis.plot(start + steps, levels, color=style.GREEN, linewidth=2, label="ramp")
    star: Any = dict(color=style.ON, markersize=15, markeredgecolor="white", linestyle="none")
    axis.plot(start + neuron.spike, neuron.course[-1], "*", label=f"spike, at step {neuron.spike}", **star)
    axis.set(ylabel=f"potential of a\nneuron of {SHOWN}")
    axis.legend(loc="upper left")


def _raster(axis: Axes, image: Any) -> None:
    """Draws the spikes of the input, of both pooled layers and of the readout, each in its window."""
    known = Activations({0: image})
    readout = np.asarray(model().observe(image).latencies["layer3"], np.int64).ravel()
    rows = (
        ("input", 0, image, "0.25"),
        ("layer1", 1, model().output_of(1, known), style.OFF),
        ("layer2", 2, model().output_of(2, known), style.GREEN),
        ("readout", 2, readout, style.ON),
    )
    for place, (_, window, latencies, color) in enumerate(rows):
        latency = np.asarray(latencies, np.int64).ravel()
        fired = latency < STEPS
        heights = place + np.linspace(-0.4, 0.4, len(latency))
        axis.plot(window * STEPS + latency[fired], heights[fired], ".", markersize=1.5, color=color)
    first = int(readout.argmin())
    star: Any = dict(color=style.ON, markersize=15, markeredgecolor="white")
    height = len(rows) - 1 + np.linspace(-0.4, 0.4, len(readout))[first]
    axis.plot(2 * STEPS + readout[first], height, "*", **star)
    word = f"decides for {first // (len(readout) // 10)}"
    axis.text(2 * STEPS + readout[first] + 16, height, word, color=style.ON, va="center")
    axis.set_yticks(range(len(rows)), [row[0] for row in rows])
    axis.invert_yaxis()

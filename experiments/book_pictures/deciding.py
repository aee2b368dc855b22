"""Pictures of a trained network that decides: its spikes, and the race between its classes."""

import functools

import numpy as np
from matplotlib.axes import Axes

import snnjax
from book_pictures import encoding, style
from snnjax import SpikingNetwork, kernels
from snnjax.app import plots

NAME = "pretrained:goupy2024_ncg_mnist"
UNLABELLED = "0.7"  # colour of the classes that share one label


@functools.cache
def network() -> SpikingNetwork:
    """A network that is shipped with snnjax: target-time features, and a readout trained with labels."""
    return snnjax.load(NAME)


def raster() -> bytes:
    """All spikes of input, features and readout for one image; the first spike of the readout is the decision."""
    model = network().model
    steps = network().network.time_steps
    image = model.encode(encoding.digit())
    readout = model.observe(image).latencies["layer2"]
    layers = [np.asarray(each).reshape(len(each), -1) for each in (image, model.forward(image), readout)]
    decided = int(layers[-1].min())
    figure = style.sheet(4.2, 0.02)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(1.1, 1.6, 1))
    _dots(axes[0], layers[0][:1], style.ON, "on", 0)
    _dots(axes[0], layers[0][1:], style.OFF, "off", layers[0].shape[1])
    axes[0].legend(loc="upper left", markerscale=3, handletextpad=0)
    _dots(axes[1], layers[1], "0.25", "", 0)
    _dots(axes[2], layers[2], style.GREEN, "", 0, size=5)
    first = int(layers[2].argmin())
    axes[2].plot(decided, first, "*", color=style.ON, markersize=15, markeredgecolor="white")
    for axis, name in zip(axes, ("input", "features,\npooled", "readout"), strict=True):
        axis.axvline(decided, color=style.ON, linewidth=1, linestyle=":")
        axis.set(ylabel=f"{name}\n(neuron)", xlim=(0, steps))
    group = len(layers[2]) // network().network.classes
    axes[2].set_yticks(range(group // 2, len(layers[2]), 2 * group), range(0, network().network.classes, 2))
    axes[2].set_ylabel("readout\n(class)")
    word = f"decides for {first // group} at step {decided} "
    axes[2].text(decided - 3, first, word, color=style.ON, ha="right", va="center")
    axes[2].set_xlabel("time step")
    figure.align_ylabels()
    return plots.png(figure)


def _dots(axis: Axes, latency: np.ndarray, color: str, label: str, start: int, size: float = 1.5) -> None:
    """Draws a dot for each spike of neurons (F, N), which are numbered from `start`."""
    fired = style.fired(latency.ravel(), network().network.time_steps)
    axis.plot(fired, start + np.arange(len(fired)), ".", markersize=size, color=color, label=label)


def courses() -> np.ndarray:
    """The largest potential of each class at each step, as a share of the threshold: (classes, T)."""
    description = network().network
    model = network().model
    seen = model.forward(model.encode(encoding.digit()))
    potentials = kernels.potentials(seen, network().weights()["layer2"], time_steps=description.time_steps)
    shares = np.asarray(potentials).reshape(description.time_steps, description.classes, -1).max(axis=2).T
    return shares / np.max(np.asarray(description.stages[-1].branches[0].threshold))


def race() -> bytes:
    """The potentials of ten classes race to the threshold; the class that reaches it first is the decision."""
    potentials = courses()
    reached = np.where(potentials > 1, np.arange(potentials.shape[1]), potentials.shape[1])
    times = reached.min(axis=1)
    winner = int(times.argmin())
    step = int(times[winner])
    figure = style.sheet(2.9)
    axes = figure.subplots(1, 2, width_ratios=(1, 2.6))
    left = axes[0]
    axis = axes[1]
    style.show_digit(left, encoding.digit(), "image")
    left.set_xlabel(f"decision: {winner}", color=style.ON, fontsize=12)
    axis.axhline(1, color="0.4", linestyle="--", linewidth=1)
    axis.axvline(step, color=style.ON, linestyle=":", linewidth=1)
    ranks = np.argsort(-potentials[:, step], kind="stable")
    for rank, number in reversed([*enumerate(ranks)]):
        color = (style.ON, style.OFF, style.GREEN)[rank] if rank < 3 else UNLABELLED
        _runner(axis, potentials[number, : step + 1], color, f"class {number}" if rank < 3 else "the other classes")
    axis.plot(step, potentials[winner, step], "*", color=style.ON, markersize=17, markeredgecolor="white", zorder=5)
    axis.text(step - 3, 1.03, f"{winner} fires first, at step {step}", color=style.ON, ha="right", va="bottom")
    axis.set(xlabel="time step", ylabel="potential / threshold", ylim=(-0.02, 1.15), xlim=(step - 90, step + 10))
    handles, labels = axis.get_legend_handles_labels()
    lines = dict(zip(labels, handles, strict=True))
    names = [*(f"class {number}" for number in ranks[:3]), "the other classes"]
    axis.legend([lines[name] for name in names], names, loc="center left", bbox_to_anchor=(0, 0.5))
    return plots.png(figure)


def _runner(axis: Axes, course: np.ndarray, color: str, name: str) -> None:
    """Draws the potential of a class up to the time of the decision."""
    axis.plot(course, color=color, linewidth=2.2 if color != UNLABELLED else 1.5, label=name)

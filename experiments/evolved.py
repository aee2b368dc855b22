"""A rule for features as eleven numbers, from STDP on, and networks that learn by it: `discover.py` evolves them.

snnjax train --model experiments/evolved.py:found --dataset mnist    by the rule of the book
snnjax train --model experiments/evolved.py:own --dataset mnist      by that of runs/discover/found.json
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import Images, InputError, Network, TargetTime, component, stage
from snnjax.data import Dataset
from snnjax.kernels import plasticity
from snnjax.kernels.target_time import Patches, first_to_fire
from snnjax.layers.spiking import Layer
from snnjax.learners.protocol import Diagnosis, UpdateResult
from snnjax.networks import goupy2024_ncg

FOUND = Path(__file__).parent / "recorded" / "found_rule.json"
OWN = Path("runs/discover/found.json")
POOL = 10_000
"""Training images from which images are drawn."""
LEARNED = 2_000
"""Images that a draw learns from, at most."""
JUDGED = 4_000
"""Images that a draw is judged on, at most."""
FEATURES = 32
PATCHES = 20_000  # of an epoch
EPOCHS = (4, 20)
NUMBERS = {  # of the rule: where each starts, a step of it, and the bounds
    "causal.0": (1.0, 0.5, -5.0, 5.0),
    "causal.1": (1.0, 0.5, -5.0, 5.0),
    "causal.2": (1.0, 0.5, -5.0, 5.0),
    "late.0": (-0.75, 0.5, -5.0, 5.0),
    "late.1": (-0.75, 0.5, -5.0, 5.0),
    "silent": (-0.75, 0.5, -5.0, 5.0),
    "beta": (0.0, 0.5, 0.0, 5.0),
    "stabiliser": (1.0, 0.5, 0.0, 5.0),
    "target_time": (0.5, 0.15, 0.05, 1.0),
    "threshold_rate": (0.0, 0.5, 0.0, 5.0),
    "rivalry": (0.0, 0.5, 0.0, 5.0),
}

START = np.zeros(len(NUMBERS), np.float32)
"""The place of the start, in steps from it."""


@component
class Evolved(TargetTime):
    """STDP at the winner of a patch, with a window over time differences; the defaults are plain STDP.

    w += rate window(t - t_input) exp(-beta v) (4 w (1 - w))^stabiliser, where v is w for a window above 0 and 1 - w
    below it, of weights in 0..1. Thresholds move as those of `TargetTime`, which is one of these rules (`TARGET_TIMES`)
    but for what it does after quiet patches. It needs two features or more.

    Attributes:
      causal: the window for inputs that fired with the neuron, T/2 and T before it; linear between.
      late: the window for inputs that fired just after the neuron, and T/2 after it or later.
      silent: the window for inputs that did not fire.
      stabiliser: the power of the factor 4 w (1 - w) of changes.
      rivalry: how far the winner's threshold rises, and those of the others fall, F - 1 times less each.
    """

    beta: float = 0.0
    threshold_rate: float = 0.0
    causal: tuple[float, ...] = (1.0, 1.0, 1.0)
    late: tuple[float, ...] = (-0.75, -0.75)
    silent: float = -0.75
    stabiliser: float = 1.0
    rivalry: float = 0.0

    def update(self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Any) -> UpdateResult:
        positions = self.positions(state, state["shown"], layer.conv.output_size((latency.shape[1], latency.shape[2])))
        kernel = dict(kernel=layer.conv.kernel, stride=layer.conv.stride)
        patches = plasticity.patches(layer.padded(latency), positions, **kernel).reshape(len(positions), -1)
        steps = layer.time_steps
        rate = state["rates"][0]
        annealed = rate / self.rate

        def learn(learned: Any, patch: jax.Array) -> Any:
            weights, threshold = learned
            first = first_to_fire(patch, weights, threshold, time_steps=steps)
            winner = first[0]
            step = first[1]
            difference = step - patch.astype(jnp.int32)
            window = jnp.where(patch == steps, self.silent, self.window(difference / steps))
            old = weights[winner]
            weight = jnp.where(window > 0, old, 1 - old)
            change = rate * window * jnp.exp(-self.beta * weight) * (4 * old * (1 - old)) ** self.stabiliser
            weights = weights.at[winner].set(jnp.where(winner < 0, old, jnp.clip(old + change, *self.bounds)))
            won = jnp.where(jnp.arange(len(threshold)) == winner, 1, -1 / (len(threshold) - 1))
            moved = self.rivalry * won - self.threshold_rate * (step / steps - self.target_time)
            moved = jnp.maximum(threshold + annealed * moved, self.threshold_min)
            return (weights, jnp.where(winner < 0, threshold, moved)), (winner, step)

        rows = layer.weights.reshape(layer.conv.features, -1)
        (rows, threshold), (winners, times) = jax.lax.scan(
            learn, (rows, cast(jax.Array, layer.conv.threshold)), patches
        )
        layer = layer.with_weights(rows.reshape(layer.weights.shape))
        return self.learned(layer, state, Patches(rows, threshold, winners, times, state["quiet"]), 1)

    def window(self, difference: Any) -> jax.Array:
        """The window at differences of time, neuron minus input, in shares of T."""

        def near(place: float) -> jax.Array:
            return jnp.maximum(1 - 2 * jnp.abs(difference - place), 0)

        causal = sum(height * near(place) for height, place in zip(self.causal, (0, 0.5, 1), strict=True))
        return jnp.where(difference >= 0, causal, self.late[1] + (self.late[0] - self.late[1]) * near(0))

    def diagnose(self, layer: Layer, info: Any) -> Diagnosis:
        figures = super().diagnose(layer, info)
        return {name: value for name, value in figures.items() if name not in ("target_time", "threshold_drift")}


TARGET_TIMES = Evolved(
    causal=(1.0, 1.0, 1.0), late=(-1.0, -1.0), silent=-1.0, beta=1.0, stabiliser=0.0, threshold_rate=1.0, rivalry=1.0
)


def within(place: Any) -> np.ndarray:
    """The nearest place, in steps from the start, at which all numbers lie within their bounds."""
    start, step, low, high = np.array([*NUMBERS.values()]).T
    return np.clip(place, (low - start) / step, (high - start) / step)


def numbers_of(place: Any) -> dict[str, float]:
    """The numbers of the rule at a place, by name."""
    table = np.array([*NUMBERS.values()])
    values = table[:, 0] + table[:, 1] * np.asarray(place, np.float64)
    return dict(zip(NUMBERS, values.tolist(), strict=True))


def rule_of(place: Any) -> Evolved:
    """The rule at a place."""
    numbers: dict[str, Any] = {**numbers_of(place)}
    causal = tuple(numbers.pop(f"causal.{place}") for place in range(3))
    late = tuple(numbers.pop(f"late.{place}") for place in range(2))
    return Evolved(causal=causal, late=late, **numbers)


def evolved(images: Images, rule: Evolved, epochs: tuple[int, int] = EPOCHS, features: int = FEATURES) -> Network:
    """goupy2024_ncg with another rule for its features, of which it has fewer, and with fewer patches and epochs.

    The rates of the rule fall to a tenth.
    """
    network = goupy2024_ncg(images)
    first: Any = network.stages[0].branches[0]
    last: Any = network.stages[1].branches[0]
    patches = max(1, round(PATCHES / images.total))
    rule = dataclasses.replace(rule, annealing=0.1 ** (1 / max(epochs[0], 1)), patches=patches)
    learning = dataclasses.replace(first, features=features, learners=rule)
    deciding = dataclasses.replace(last, threshold=last.threshold * features / first.features)
    stages = stage(learning, pool=network.stages[0].pool), stage(deciding)
    return dataclasses.replace(network, name="evolved", stages=stages, epochs=epochs, patience=0)


def drawn(images: Dataset, seed: int) -> Dataset:
    """Some training images to learn from, and others that judge in the place of test images."""
    pool = np.random.default_rng(0).permutation(len(images.train_labels))[:POOL]
    order = np.random.default_rng(seed).permutation(pool)
    count = min(LEARNED, len(order) // 3)
    learned = images.part_fields("train", order[:count])
    judged = images.part_fields("train", order[count:][:JUDGED], into="test")
    return dataclasses.replace(images, **learned, **judged)


def start(images: Images) -> Network:
    """The network that learns by the rule from which evolution starts, plain STDP."""
    return evolved(images, Evolved())


def target_times(images: Images) -> Network:
    """The network that learns by target times, as one of the rules."""
    return evolved(images, TARGET_TIMES)


def found(images: Images) -> Network:
    """The network that learns by the rule of the book."""
    return _read(images, FOUND)


def own(images: Images) -> Network:
    """The network that learns by the rule that `discover.py` has found last."""
    return _read(images, OWN)


def _read(images: Images, path: Path) -> Network:
    if not path.is_file():
        raise InputError(f"there is no {path}: python experiments/discover.py makes it")
    network = evolved(images, Evolved())
    for name, value in json.loads(path.read_text()).items():
        network = network.vary(f"layer1.{name}", value)
    return network

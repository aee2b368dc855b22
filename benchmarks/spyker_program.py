"""Measured Spyker (github.com/ShahriarRezghi/Spyker): mozafari2018 built from its Python interface, on the CPU."""

import functools
import importlib.metadata
import sys
from typing import Any

import numpy as np
from programs import DOG, Learning, MeasuredProgram, Task, Work

sys.modules["torch"] = None  # type: ignore[assignment]  # Spyker would load it, and its threads
spyker = importlib.import_module("spyker")

# By layer; the third one decides, without threshold and pooling.
PADDINGS = (2, 1, 2)
THRESHOLDS = (15.0, 10.0)
POOLS = (2, 3)
WINNERS = ((5, 3), (8, 1), (1, 0))  # number and inhibition radius
FAINT = 0.02  # filter outputs up to this do not spike, as in Spyker's own examples


class Program(MeasuredProgram):
    """Spyker in batches of `batch` images."""

    def __init__(self, batch: int):
        self.batch = batch
        versions = dict(spyker=importlib.metadata.version("spyker"))
        self.about = dict(versions=versions, device=f"cpu: {spyker.max_threads()} threads")

    def phases(self, task: Task) -> dict[str, Work]:
        """The phases by their names in snnjax, with the weights of our network."""
        count = len(task.labels)
        steps = task.time_steps
        pixels = task.images.astype(np.float32)[:, None] / 255
        waves = (task.latencies[:, None] <= np.arange(steps)[:, None, None, None]).astype(np.uint8)  # spikes that stay
        train, test = np.split(waves, [count])
        filters = spyker.DoG(6, [spyker.DoGFilter(*sigmas) for _, *sigmas in DOG], pad=6)

        def batches(images: np.ndarray) -> list[np.ndarray]:
            return [images[start : start + self.batch] for start in range(0, len(images), self.batch)]

        def encode() -> np.ndarray:
            filtered = (spyker.threshold(filters(batch), FAINT) for batch in batches(pixels))
            return np.concatenate([spyker.code(batch, steps) for batch in filtered])

        def test_all(layers: list[Any]) -> np.ndarray:
            return np.concatenate([decide(layers, task.classes, batch)[0] for batch in batches(test)])

        def learn(phase: Learning, layers: list[Any]) -> np.ndarray:
            for number, (waves, labels) in enumerate(zip(batches(train), batches(task.labels), strict=True)):
                if phase.rewarded:
                    reward(layers, task.classes, waves, labels)
                else:
                    stdp(layers, phase.stage, waves, number * self.batch)
            return spyker.to_numpy(layers[phase.stage].kernel)

        def fresh() -> tuple[list[Any]]:
            layers = []
            for padding, weights in zip(PADDINGS, task.weights.values(), strict=True):
                layer = spyker.Conv(weights.shape[1], weights.shape[0], weights.shape[2], pad=padding)
                spyker.to_tensor(np.array(weights)).to(layer.kernel)
                layer.stdpconfig = [spyker.STDPConfig(0.004, -0.003)]
                layers.append(layer)
            rates = ((0.004, -0.003), (-0.004, 0.0005))  # reward, punishment
            layers[2].stdpconfig = [spyker.STDPConfig(*pair, False, 0.2, 0.8) for pair in rates]
            return (layers,)

        works = {"encode": Work(len(pixels), encode, outcome=lambda waves: steps - waves.sum(1, dtype=int))}
        for phase in task.learning:
            works[phase.name] = Work(count, functools.partial(learn, phase), fresh)
        return works | {"test": Work(len(test), test_all, fresh)}


def inputs(layers: list[Any], index: int, waves: np.ndarray) -> np.ndarray:
    """The input of a layer."""
    for layer, threshold, pool in zip(layers[:index], THRESHOLDS, POOLS, strict=False):
        waves = spyker.pool(spyker.fire(layer(waves), threshold), pool)
    return waves


def stdp(layers: list[Any], index: int, waves: np.ndarray, offset: int) -> None:
    """A batch of STDP, after `offset` images; the rates double every 500 images."""
    layer = layers[index]
    count, radius = WINNERS[index]
    if (offset + len(waves)) // 500 > offset // 500:
        positive = min(2 * layer.stdpconfig[0].positive, 0.15)
        layer.stdpconfig = [spyker.STDPConfig(positive, -0.75 * positive)]
    waves = inputs(layers, index, waves)
    potentials = spyker.inhibit(spyker.threshold(layer(waves), THRESHOLDS[index]))
    layer.stdp(waves, spyker.convwta(potentials, radius, count), spyker.fire(potentials))


def decide(layers: list[Any], classes: int, waves: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Any], np.ndarray]:
    """Decisions, -1 where silent; the last layer's input, its winners (at most one an image) and potentials."""
    waves = inputs(layers, 2, waves)
    count, radius = WINNERS[2]
    potentials = spyker.infinite(layers[2](waves))
    winners = spyker.convwta(potentials, radius, count)
    features = potentials.shape[2] // classes
    return np.array([won[0].z // features if won else -1 for won in winners]), waves, winners, potentials


def reward(layers: list[Any], classes: int, waves: np.ndarray, labels: np.ndarray) -> None:
    """A batch of R-STDP: a winner's `c` selects the rates of reward or punishment."""
    decisions, waves, winners, potentials = decide(layers, classes, waves)
    for won, wrong in zip(winners, decisions != labels, strict=True):
        for winner in won:
            winner.c = int(wrong)
    layers[2].stdp(waves, winners, spyker.fire(potentials))

"""Spyker under measurement: mozafari2018 built from its Python interface, in batches of any size.

Spyker: github.com/ShahriarRezghi/Spyker, its wheel on PyPI, on the CPU.
"""

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import programs
from programs import Learning, Task, Work

THRESHOLDS, POOLS = (15.0, 10.0), (2, 3)
"""Of the first two layers; the third decides."""
WINNERS = ((5, 3), (8, 1), (1, 0))
"""How many learn, and within which radius they keep others from it."""
PADDINGS = (2, 1, 2)
SIGMAS = tuple((first / 9, second / 9) for w in (3, 7, 13) for first, second in ((w, 2 * w), (2 * w, w)))
FAINT = 0.02
"""Filter outputs at most so large do not spike, as in Spyker's own examples."""


class Program(programs.Program):
    """Spyker in batches of `batch` images.

    Raises:
      ValueError: it is not installed.
    """

    def __init__(self, batch: int):
        sys.modules["torch"] = None  # type: ignore[assignment]  # Spyker would load it, and its memory would count
        try:
            self.spyker = importlib.import_module("spyker")
        except ImportError as error:
            raise ValueError(f"cannot start ({error}): pip install 'snnjax[spyker]'") from error
        self.batch = batch
        versions = dict(spyker=importlib.metadata.version("spyker"))
        self.about = dict(versions=versions, device=f"cpu: {self.spyker.max_threads()} threads")

    def prepare(self, task: Task) -> None:
        """The phases by their names in snnjax, with the weights of our network."""
        self.task, count, steps, spyker = task, len(task.labels), task.time_steps, self.spyker
        pixels = task.images.astype(np.float32)[:, None] / 255
        train, test = np.split(task.waves, [count])
        filters = spyker.DoG(6, [spyker.DoGFilter(*sigmas) for sigmas in SIGMAS], pad=6)

        def encode() -> np.ndarray:
            filtered = (spyker.threshold(filters(pixels[batch]), FAINT) for batch in self.batches(len(pixels)))
            return np.concatenate([spyker.code(each, steps) for each in filtered])

        def decide(layers: list[Any]) -> np.ndarray:
            winners = [won for batch in self.batches(len(test)) for won in self.decided(layers, test[batch])[1]]
            return self.classes_of(winners)

        def learn(phase: Learning, layers: list[Any]) -> np.ndarray:
            seen = 0
            for batch in self.batches(count):
                if phase.rewarded:
                    self.reward(layers, train[batch], task.labels[batch])
                else:
                    seen = self.stdp(layers, phase.stage, train[batch], seen)
            return spyker.to_numpy(layers[phase.stage].kernel)

        self.works = {"encode": Work(len(pixels), encode, lambda waves: steps - waves.sum(1, dtype=int))}
        for phase in task.learning:
            self.works[phase.name] = Work(count, functools.partial(learn, phase), np.asarray, lambda: (self.layers(),))
        self.works["test"] = Work(len(test), decide, np.asarray, lambda: (self.layers(),))

    def batches(self, count: int) -> Iterator[slice]:
        """The parts of `count` images."""
        return (slice(at, at + self.batch) for at in range(0, count, self.batch))

    def layers(self) -> list[Any]:
        """The three layers, with the weights and the first rates that all repeats start from."""
        spyker, made = self.spyker, []
        for at, (padding, weights) in enumerate(zip(PADDINGS, self.task.weights.values(), strict=True)):
            layer = spyker.Conv(weights.shape[1], weights.shape[0], weights.shape[2], pad=padding)
            spyker.to_tensor(np.array(weights)).to(layer.kernel)
            layer.stdpconfig = [spyker.STDPConfig(0.004, -0.003)]
            if at == 2:
                rates = ((0.004, -0.003), (-0.004, 0.0005))
                layer.stdpconfig = [spyker.STDPConfig(*each, False, 0.2, 0.8) for each in rates]
            made.append(layer)
        return made

    def reached(self, layers: list[Any], at: int, waves: np.ndarray) -> np.ndarray:
        """What enters a layer."""
        for layer, threshold, pool in zip(layers[:at], THRESHOLDS, POOLS, strict=False):
            waves = self.spyker.pool(self.spyker.fire(layer(waves), threshold), pool)
        return waves

    def stdp(self, layers: list[Any], at: int, waves: np.ndarray, seen: int) -> int:
        """A batch of STDP; takes and returns the images since the rates last doubled."""
        layer, (count, radius), spyker = layers[at], WINNERS[at], self.spyker
        seen += len(waves)
        if seen >= 500:
            seen -= 500
            positive = min(2 * layer.stdpconfig[0].positive, 0.15)
            layer.stdpconfig = [spyker.STDPConfig(positive, -0.75 * positive)]
        waves = self.reached(layers, at, waves)
        potentials = spyker.inhibit(spyker.threshold(layer(waves), THRESHOLDS[at]))
        layer.stdp(waves, spyker.convwta(potentials, radius, count), spyker.fire(potentials))
        return seen

    def decided(self, layers: list[Any], waves: np.ndarray) -> tuple[np.ndarray, list[Any], np.ndarray]:
        """What enters the last layer, its winners, one or none for each image, and its potentials."""
        waves = self.reached(layers, 2, waves)
        potentials = self.spyker.infinite(layers[2](waves))
        count, radius = WINNERS[2]
        return waves, self.spyker.convwta(potentials, radius, count), potentials

    def classes_of(self, winners: list[Any]) -> np.ndarray:
        """The decisions, -1 where silent."""
        features = len(self.task.weights["layer3"]) // self.task.classes
        return np.array([won[0].z // features if won else -1 for won in winners])

    def reward(self, layers: list[Any], waves: np.ndarray, labels: np.ndarray) -> None:
        """A batch of R-STDP: a winner's `c` chooses the rates, those of reward or of punishment."""
        waves, winners, potentials = self.decided(layers, waves)
        for won, wrong in zip(winners, self.classes_of(winners) != labels, strict=True):
            for each in won:
                each.c = int(wrong)
        layers[2].stdp(waves, winners, self.spyker.fire(potentials))

"""An epoch, slice by slice, so that progress is told without callbacks from compiled programs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from snnjax.layers import Layer
from snnjax.training.clock import Clock
from snnjax.training.spread import NETWORKS, Spread, place

SLICE = 1000
"""Images, about, between two reports of an epoch's progress."""


@dataclasses.dataclass
class Epoch:
    """One epoch after the other over the same images; each call learns from all of them in order."""

    spread: Spread
    clock: Clock
    carry: Any  # what learns, stacked; its first part is a layer, or layers by name
    learners: Mapping[str, int]  # the learner at work in each of these layers, by its place; "" for a single layer
    plain: Any  # the learning program
    fast: Any  # one that computes the same where all weights lie within their bounds
    inputs: np.ndarray  # latencies, (N, C, H, W) or (networks, N, C, H, W)
    report: Callable[[int, int], None]  # is told the numbers of images done, and of correct decisions among them
    labels: np.ndarray | None = None  # (N,) int32, of supervised learning
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the programs, stacked
    shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # those that all networks share
    batch: int = 1  # images seen with the same weights
    unit: int = 1  # the size of a slice is a multiple of it

    def __post_init__(self) -> None:
        self.carry, self.own = (place(each, self.spread.learning, NETWORKS) for each in (self.carry, self.own))
        layers, self._ready, apart = self._layers(), False, self.inputs.ndim == 5
        self._bounded = {name: at for name, at in self.learners.items() if _bounds(layers[name], at) is not None}
        self._total, self._slices = self.inputs.shape[int(apart)], list[Any]()
        count = max(1, round(self._total / SLICE))
        size = -(-self._total // (count * self.unit)) * self.unit
        for start in range(0, self._total, size):
            part = slice(start, min(start + size, self._total))
            piece = self.inputs[:, part] if apart else self.inputs[part]
            latencies = dict(latencies=self.spread.place(piece, size, apart, self.spread.learning))
            own, shared = (latencies, {}) if apart else ({}, latencies)
            if self.labels is not None:
                shared["labels"] = self.spread.place(self.labels[part], size, False, self.spread.learning)
            self._slices.append((part, own, shared))

    def __call__(self) -> tuple[Any, Any]:
        """Learns: the carry, and what the program found of each image, NumPy arrays (networks, N, ...)."""
        pieces = []
        for part, own, shared in self._slices:
            at, step = part.start, self.batch
            while at < part.stop:
                within = self.within()
                end = part.stop if within else min(at + step, part.stop)
                here = slice(at - part.start, end - part.start)
                numbers = dict(start=np.int32(here.start), count=np.int32(here.stop), last=np.bool_(end == self._total))
                args = (self.carry, {**self.own, **own}, {**self.shared, **shared, **numbers})
                images = (end - at) * self.spread.count
                self.carry, found = self.clock.run(images, self.fast if within else self.plain, *args)
                found = jax.tree.map(lambda x, here=here: np.asarray(x)[: self.spread.count, here], found)
                self.report(images, 0 if self.labels is None else int(np.sum(found[0] == self.labels[at:end])))
                pieces.append(found)
                at, step = end, 2 * step
        return self.carry, jax.tree.map(lambda *x: np.concatenate(x, axis=1), *pieces)

    def within(self) -> bool:
        """Whether all weights lie within their bounds. Initial ones may not; the first update of any pulls them in."""
        layers = self._layers()
        if not self._ready and not any(outside(each, self._bounded) for each in self.spread.unstacked(layers)):
            layers |= {name: dataclasses.replace(layers[name], within=True) for name in self._bounded}
            self.carry = (layers if isinstance(self.carry[0], dict) else layers[""], *self.carry[1:])
            self._ready = True
        return self._ready

    def _layers(self) -> dict[str, Layer]:
        return dict(self.carry[0]) if isinstance(self.carry[0], dict) else {"": self.carry[0]}


def _bounds(layer: Layer, learner: int) -> Any:
    return getattr(layer.conv.each_learner[learner], "bounds", None)


def outside(layers: Mapping[str, Layer], learners: Mapping[str, int]) -> bool:
    """Whether weights of some layers lie outside the bounds of their learners."""
    for name, at in learners.items():
        weights, (lower, upper) = layers[name].plain_weights(), _bounds(layers[name], at)
        if np.any((weights < lower) | (weights > upper)):
            return True
    return False

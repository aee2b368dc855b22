"""An epoch, slice by slice, so that progress is reported without callbacks from compiled programs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from snnjax.layers import Layer
from snnjax.training.foreign import check_decisions
from snnjax.training.spread import NETWORKS, Clock, Spread, has_own, place
from snnjax.training.state import Phase

SLICE = 1000
"""Images, about, between two reports of an epoch's progress."""


@dataclasses.dataclass
class Epoch:
    """One epoch after the other over the same images; each call learns from all of them in order."""

    spread: Spread
    phase: Phase
    carry: Any  # what learns, stacked; its first part is a layer, or layers by name
    inputs: np.ndarray  # latencies, (N, C, H, W) or (networks, N, C, H, W)
    report: Callable[[int, int], None]  # gets the numbers of images done, and of correct decisions among them
    batch: int  # images seen with the same weights
    plain: Any  # the learning program
    fast: Any  # one that computes the same where all weights lie within their bounds
    unit: int  # the size of a slice is a multiple of it
    labels: np.ndarray | None = None  # (N,) int32, of supervised learning
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the programs, stacked
    shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # those that all networks share

    def __post_init__(self) -> None:
        self.clock, self._within = Clock(self.phase.name), False
        mesh, own_inputs = self.spread.learning, has_own(self.inputs)
        self.carry, own = (place(each, mesh, NETWORKS) for each in (self.carry, self.own))
        self._total, self._slices = self.inputs.shape[int(own_inputs)], list[Any]()
        count = max(1, round(self._total / SLICE))
        size = -(-self._total // (count * self.unit)) * self.unit
        for start in range(0, self._total, size):
            apart, shared = dict(own), dict(self.shared)
            latencies = self.spread.place_images(self.inputs, start, size, mesh)
            (apart if own_inputs else shared)["latencies"] = latencies
            if self.labels is not None:
                shared["labels"] = self.spread.place_images(self.labels, start, size, mesh)
            self._slices.append((start, min(start + size, self._total), apart, shared))

    def __call__(self) -> tuple[Any, Any]:
        """Learns: the carry, and what the program found of each image, NumPy arrays (networks, N, ...)."""
        pieces = []
        for start, stop, own, shared in self._slices:
            at, step = start, self.batch
            while at < stop:
                within = self.within()
                end = stop if within else min(at + step, stop)
                here = slice(at - start, end - start)
                numbers = dict(start=np.int32(here.start), count=np.int32(here.stop), last=np.bool_(end == self._total))
                program, images = self.fast if within else self.plain, (end - at) * self.spread.count
                self.carry, found = self.clock.run(images, program, self.carry, own, shared | numbers)
                found = jax.tree.map(lambda x, here=here: np.asarray(x)[: self.spread.count, here], found)
                if self.labels is not None:
                    check_decisions(found[0], self.own["model"].classes)
                self.report(images, 0 if self.labels is None else int(np.sum(found[0] == self.labels[at:end])))
                pieces.append(found)
                at, step = end, 2 * step
        return self.carry, jax.tree.map(lambda *x: np.concatenate(x, axis=1), *pieces)

    def within(self) -> bool:
        """Whether all weights lie within their bounds. Initial ones may not; the first update of any pulls them in."""
        learner = self.phase.learner
        if not self._within and not any(outside(each, learner) for each in self.spread.unstacked(self.carry[0])):

            def mark(layer: Layer) -> Layer:
                return dataclasses.replace(layer, within=_bounds(layer, learner) is not None)

            self.carry = (_map_layers(mark, self.carry[0]), *self.carry[1:])
            self._within = True
        return self._within


def outside(layers: Any, learner: int) -> bool:
    """Whether weights of a layer, or of layers by name, lie outside the bounds of their learner number `learner`."""

    def one(layer: Layer) -> bool:
        bounds, weights = _bounds(layer, learner), layer.plain_weights()
        return bounds is not None and bool(np.any((weights < bounds[0]) | (weights > bounds[1])))

    return any(jax.tree.leaves(_map_layers(one, layers)))


def _map_layers(function: Callable[[Layer], Any], layers: Any) -> Any:
    return jax.tree.map(function, layers, is_leaf=lambda x: isinstance(x, Layer))


def _bounds(layer: Layer, learner: int) -> Any:
    return getattr(layer.conv.each_learner[learner], "bounds", None)

"""An epoch, slice by slice, so that progress is told without callbacks from compiled programs."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from snnjax.layers import Layer
from snnjax.training.clock import Clock
from snnjax.training.spread import Spread, learning_program

SLICE = 1000
"""Images, about, between two reports of an epoch's progress."""


class Program(NamedTuple):
    """A function of `snnjax.training.programs` with its settings."""

    function: Callable[..., Any]
    static: dict[str, Any]


class Epoch:
    """One epoch after the other over the same images; each call learns from all of them in order.

    Args:
      spread: how networks lie on the devices.
      clock: keeps the time.
      carry: what learns, as the programs take it: its first part are a layer, or layers by name.
      learners: the places of those at work among the learners of these layers, by name; "" for a single layer.
      plain: the program that learns.
      fast: one that does the same where all weights lie within their bounds.
      inputs: latencies that enter, (N, C, H, W), or (networks, N, C, H, W).
      labels: (N,) int32, of supervised learning.
      own: other arguments of the programs that each network has of its own.
      shared: those that all share.
      batch: images that are looked at with the same weights.
      unit: the size of a slice is a multiple of it.
      report: is told how many images are done, and how many of them were decided correctly.
    """

    def __init__(
        self,
        spread: Spread,
        clock: Clock,
        carry: Any,
        learners: dict[str, int],
        plain: Program,
        inputs: np.ndarray,
        *,
        fast: Program | None = None,
        labels: np.ndarray | None = None,
        own: dict[str, Any] | None = None,
        shared: dict[str, Any] | None = None,
        batch: int = 1,
        unit: int = 1,
        report: Callable[[int, int], None] = lambda images, correct: None,
    ):
        self.clock, self.carry = clock, carry
        self._spread, self._labels, self._batch, self._report = spread, labels, batch, report
        self._own, self._shared = own or {}, shared or {}
        layers = self._layers()
        self._bounded = {name: at for name, at in learners.items() if _bounds(layers[name], at) is not None}
        self._plain, self._fast = (
            learning_program(each.function, spread.mesh, tuple(sorted(each.static.items())))
            for each in (plain, fast or plain)
        )
        self._slices = list(self._cut(inputs, unit))
        self._ready = False

    def _cut(self, inputs: np.ndarray, unit: int) -> Any:
        """What images enter with, in slices of one size on the devices."""
        apart = inputs.ndim == 5
        total = inputs.shape[int(apart)]
        count = max(1, round(total / SLICE))
        size = -(-total // (count * unit)) * unit
        for start in range(0, total, size):
            piece = inputs[:, start : start + size] if apart else inputs[start : start + size]
            own, shared = dict[str, Any](), dict[str, Any]()
            (own if apart else shared)["latencies"] = self._spread.place(piece, size, apart)
            if self._labels is not None:
                shared["labels"] = self._spread.place(self._labels[start : start + size], size, False)
            yield start, min(size, total - start), own, shared

    def __call__(self) -> tuple[Any, Any]:
        """Learns: the carry, and what the program found of each image, NumPy arrays (N, ...) or (networks, N, ...)."""
        pieces = []
        for start, count, own, shared in self._slices:
            at, step = 0, self._batch
            while at < count:
                within = self.within()
                end = count if within else min(at + step, count)
                whole = start + end == self._slices[-1][0] + self._slices[-1][1]
                numbers = dict(start=np.int32(at), count=np.int32(end), last=np.bool_(whole))
                found = self._run(within, end - at, own, shared | numbers)
                part = (slice(self._spread.count), slice(at, end)) if self._spread.many else slice(at, end)
                pieces.append(jax.tree.map(lambda x, part=part: np.asarray(x)[part], found))
                self._tell(start + at, start + end, pieces[-1])
                at, step = end, 2 * step
        return self.carry, jax.tree.map(lambda *x: np.concatenate(x, axis=int(self._spread.many)), *pieces)

    def _run(self, within: bool, images: int, own: dict[str, Any], shared: dict[str, Any]) -> Any:
        program = self._fast if within else self._plain
        args = (self.carry, self._own | own, self._shared | shared)
        self.carry, found = self.clock.run(images * self._spread.count, program, *args)
        return found

    def _tell(self, start: int, end: int, found: Any) -> None:
        correct = 0 if self._labels is None else int(np.sum(found[0] == self._labels[start:end]))
        self._report((end - start) * self._spread.count, correct)

    def within(self) -> bool:
        """Whether all weights lie within their bounds. Initial ones may not; the first update of any pulls them in."""
        if not self._ready:
            layers = self._layers()
            if any(_outside(each, self._bounded) for each in self._spread.unstacked(layers)):
                return False
            known = {name: dataclasses.replace(layers[name], within=True) for name in self._bounded}
            first = layers | known
            self.carry = (first if isinstance(self.carry[0], dict) else first[""], *self.carry[1:])
            self._ready = True
        return True

    def _layers(self) -> dict[str, Layer]:
        return self.carry[0] if isinstance(self.carry[0], dict) else {"": self.carry[0]}


def _bounds(layer: Layer, at: int) -> Any:
    return getattr(layer.conv.each_learner[at], "bounds", None)


def _outside(layers: dict[str, Layer], learners: dict[str, int]) -> bool:
    """Whether weights of some layers lie outside the bounds of their learners."""
    for name, at in learners.items():
        weights, (lower, upper) = layers[name].plain_weights(), _bounds(layers[name], at)
        if bool(np.any((weights < lower) | (weights > upper))):
            return True
    return False

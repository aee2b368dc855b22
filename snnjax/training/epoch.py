"""Epochs, slice by slice, so that progress is reported without callbacks from compiled programs."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core import files
from snnjax.core.components import leaves, with_leaves
from snnjax.core.devices import AT_ONCE
from snnjax.core.errors import InputError
from snnjax.layers.spiking import Layer
from snnjax.networks.batches import decide_batch
from snnjax.steps import registry
from snnjax.steps.phase import Carry, Phase, StepResult
from snnjax.steps.plain import known_of
from snnjax.training.contracts import check_decisions
from snnjax.training.placement import NETWORKS, Placement, Timer, count_of, has_own, learning_program, place

EVERY = 30.0
"""Seconds between two states that are saved within an epoch."""
ALIGNED = 64
"""Slices of a multiple of this begin where a CPU device takes them without a copy, see `files.empty`."""


@dataclasses.dataclass(frozen=True)
class EpochImages:
    """The images that an epoch learns from.

    Attributes:
      inputs: (N, C, H, W), or (networks, N, C, H, W); or of 2N images, see `shown_order`. Or a tree of such arrays.
      labels: (N,) int32 of supervised learning, None elsewhere.
      order: of the number of an epoch: `shown_order`; those shown first are learned from, as many as the phase takes.
      batch_size: as of `Settings`, of supervised learning.
    """

    inputs: Any
    labels: np.ndarray | None = None
    order: Callable[[int], np.ndarray | None] = lambda epoch: None
    batch_size: int = 1


class EpochRunner:
    """Runs epochs over the same images; an epoch continues from the carry of the one before.

    Attributes:
      carry: of the layers that learn, stacked.
      model: the network without their weights, stacked; None where the layer alone is needed.
      timer: of the programs.
    """

    def __init__(
        self,
        *,
        phase: Phase,
        placement: Placement,
        step: Callable[..., Any],
        fast: registry.Step | None,
        carry: Carry,
        model: Any,
        images: EpochImages,
    ):
        """`step` defines the learning, `fast` computes the same faster, if given; trees are stacked."""
        self.placement = placement
        self.phase = phase
        self.images = images
        compiled = phase._replace(name="", epochs=0)  # programs do not depend on these
        self._plain = learning_program(step, compiled, placement.learning)
        self._fast = learning_program(fast.run, compiled, placement.learning) if fast else self._plain
        self._clips = fast is not None and fast.clips
        self.carry = place(carry, placement.learning, NETWORKS)
        self.model = place(model, placement.learning, NETWORKS)
        self.timer = Timer(phase.name)
        self._in_bounds = False
        order = images.order(0)
        self._count = count_of(images.inputs) if order is None else order.shape[-1]
        self.size = _slice_size(phase.images, phase.batch)
        self._starts = range(0, phase.images, self.size)
        size = sum(x.nbytes for x in jax.tree.leaves(images.inputs))
        once = order is None and size <= files.LARGE
        self._kept = {start: self.place_slice(start) for start in self._starts} if once else {}

    def place_slice(self, start: int, places: np.ndarray | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The images from number `start` in the order of `places`, as fields of a `Slice`: per network, and shared."""
        per_network: dict[str, Any] = {}
        shared: dict[str, Any] = {}
        several = places is not None and places.ndim == 2

        def put(name: str, values: Any, places: np.ndarray | None) -> None:
            placed = self.placement.place_images(values, start, self.size, self.placement.learning, places)
            (per_network if several or has_own(values) else shared)[name] = placed

        put("inputs", self.images.inputs, places)
        if self.images.labels is not None:
            put("labels", self.images.labels, None if places is None else places % self._count)
            shared["batch_size"] = np.int32(self.images.batch_size)
        return per_network, shared

    def run(
        self,
        number: int = 0,
        done: int = 0,
        before: Sequence[Mapping[str, np.ndarray]] = (),
        report: Callable[[int, int], None] = lambda images, correct: None,
        keep: Callable[[int, dict[str, np.ndarray]], None] = lambda done, results: None,
    ) -> tuple[Carry, StepResult]:
        """Learns in epoch `number`: the carry, and the results for each image, NumPy (networks, N, ...).

        Infos are in the order in which the images were shown, decisions in that of the data. An interrupted epoch
        continues after `done` images, whose results are `before`, by network and path. `report` gets the numbers of
        images done and of correct decisions among them; `keep` is called every `EVERY` seconds, between slices, with
        how many are done and their results.
        """
        before = before if done else ()
        places = self.images.order(number)
        numbers = np.arange(self._count) if places is None else places % self._count
        pieces: list[StepResult] = []
        kept = time.monotonic()
        for start in self._starts:
            stop = min(start + self.size, self.phase.images)
            if stop <= done:
                continue
            begin = time.perf_counter()
            per_network, shared = self._kept.get(start) or self.place_slice(start, places)
            self.timer.seconds += time.perf_counter() - begin
            for first, end, program in self._spans(max(start, done), stop):  # `done` may lie within a slice
                part = slice(first - start, end - start)
                last = np.bool_(end == self.phase.images)
                span = dict(start=np.int32(part.start), stop=np.int32(part.stop), last=last)
                images = (end - first) * self.placement.count
                given = self.carry, self.model, per_network, shared | span
                self.carry, result = self.timer.time_program(images, program, *given)
                pieces.append(self._learned(result, part))
                report(images, self._correct(pieces[-1], numbers[..., first:end]))
            if stop < self.phase.images and time.monotonic() - kept >= EVERY:
                keep(stop, leaves(_joined(pieces, before)))
                kept = time.monotonic()
        result = _joined(pieces, before)
        return self.carry, result if places is None else self._in_order_of_data(result, numbers)

    def test(self, timer: Timer, inputs: Any) -> np.ndarray:
        """Decisions on other images, (networks, N) int32, by the present weights of supervised layers.

        `inputs` are those of the phase for these images.
        """
        learned = {}
        for name, layer in self.carry.layers.items():
            kernels = self.model.layers[name].kernels
            if layer.kernels is not kernels:
                layer = self.placement.stack([x.packed(kernels) for x in self.placement.unstack(layer)])
            learned[name] = dataclasses.replace(layer, in_bounds=False)
        model = self.model.updated(learned)
        return self.placement.map(timer, decide_batch, model, known_of(inputs, self.phase.first), scores=False)[0]

    def _spans(self, first: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        """The images of each program: all that remain; few by the plain step, while weights lie out of bounds."""
        size = self.phase.batch
        while first < stop:
            if not self._clips:
                self.mark_bounded()
            fast = self._clips or self._in_bounds
            end = stop if fast else min(first + size, stop)
            yield first, end, self._fast if fast else self._plain
            first = end
            size *= 2

    def _learned(self, result: StepResult, part: slice) -> StepResult:
        """The results for some images of a slice, of all that a program returns."""
        size = self.phase.batch if self.phase.joint else 1  # joint learners report on batches
        rows = slice(part.start // size, -(-part.stop // size))
        return jax.tree.map(lambda x: np.asarray(x)[: self.placement.count, rows], result)

    def _correct(self, result: StepResult, numbers: np.ndarray) -> int:
        """How many decisions on images of these numbers are correct; 0 where there are no decisions."""
        if self.images.labels is None:
            return 0
        check_decisions(result.decisions, self.model.network.classes)
        return int(np.sum(result.decisions == self.images.labels[numbers]))

    def _in_order_of_data(self, result: StepResult, numbers: np.ndarray) -> StepResult:
        """Decisions from the order in which the images of these numbers were shown to that of the data."""
        if self.images.labels is None:
            return result
        back = np.broadcast_to(np.argsort(numbers, axis=-1), result.decisions.shape)
        return result._replace(decisions=np.take_along_axis(result.decisions, back, axis=1))

    def mark_bounded(self) -> None:
        """Marks the layers where all weights lie within their bounds; the first update clips initial ones."""
        layers = self.carry.layers
        learner = self.phase.learner
        if self._in_bounds or any(outside(x, learner) for x in self.placement.unstack(layers)):
            return
        marked = {
            name: dataclasses.replace(layer, in_bounds=layer.conv.each_learner[learner].bounds is not None)
            for name, layer in layers.items()
        }
        self.carry = self.carry._replace(layers=marked)
        self._in_bounds = True


def _slice_size(total: int, unit: int) -> int:
    """Images of a slice, about as many as `AT_ONCE` says, so that few are padded."""
    count = max(1, round(total / AT_ONCE["learned"]))
    aligned = math.lcm(unit, ALIGNED)
    unit = aligned if count > 1 and count * aligned <= total else unit
    return -(-total // (count * unit)) * unit


def _joined(pieces: Sequence[StepResult], before: Sequence[Mapping[str, np.ndarray]]) -> StepResult:
    """The results for the images of several pieces of an epoch, and `before` them, by path for each network."""
    if before:
        expected = leaves(pieces[0]).keys()
        for arrays in before:
            if arrays.keys() != expected:
                raise InputError(f"`results` must hold {', '.join(expected)}, got {', '.join(arrays)}")
        earlier = jax.tree.map(lambda *values: np.stack(values), *before)
        pieces = [with_leaves(pieces[0], earlier), *pieces]
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *pieces)


def outside(layers: Mapping[str, Layer], learner: int) -> bool:
    """Whether weights of layers lie outside the bounds of their learner number `learner`."""
    for layer in layers.values():
        bounds = layer.conv.each_learner[learner].bounds
        if bounds is not None and np.any((layer.weights < bounds[0]) | (layer.weights > bounds[1])):
            return True
    return False

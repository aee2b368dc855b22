"""Epochs, slice by slice, so that progress is reported without callbacks from compiled programs."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from snnjax.core import files
from snnjax.core.devices import AT_ONCE
from snnjax.core.errors import InputError
from snnjax.core.paths import leaves, with_leaves
from snnjax.networks.batches import decide_batch
from snnjax.training.contracts import check_decisions
from snnjax.training.learning import known_of
from snnjax.training.phase import Carry, Phase, StepResult
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
    """

    inputs: Any
    labels: np.ndarray | None = None
    order: Callable[[int], np.ndarray | None] = lambda epoch: None


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
        learn: Callable[..., Any],
        carry: Carry,
        model: Any,
        images: EpochImages,
    ):
        """`learn` is one of the functions of `snnjax.training.learning`; trees are stacked."""
        self.placement = placement
        self.phase = phase
        self.images = images
        compiled = phase._replace(name="", epochs=0)  # programs do not depend on these
        self._program = learning_program(learn, compiled, placement.learning)
        self.carry = place(carry, placement.learning, NETWORKS)
        self.model = place(model, placement.learning, NETWORKS)
        self.timer = Timer(phase.name)
        order = images.order(0)
        self._count = count_of(images.inputs) if order is None else order.shape[-1]
        self._slices = slices(phase)
        self.size = self._slices[0].stop
        size = sum(x.nbytes for x in jax.tree.leaves(images.inputs))
        once = order is None and size <= files.LARGE
        self._kept = {part.start: self.place_slice(part.start) for part in self._slices} if once else {}

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
        for start, stop in self._slices:
            if stop <= done:
                continue
            begin = time.perf_counter()
            per_network, shared = self._kept.get(start) or self.place_slice(start, places)
            self.timer.seconds += time.perf_counter() - begin
            first = max(start, done)  # `done` may lie within a slice
            part = slice(first - start, stop - start)
            last = np.bool_(stop == self.phase.images)
            span = dict(start=np.int32(part.start), stop=np.int32(part.stop), last=last)
            images = (stop - first) * self.placement.count
            given = self.carry, self.model, per_network, shared | span
            self.carry, result = self.timer.time_program(images, self._program, *given)
            pieces.append(self._learned(result, part))
            report(images, self._correct(pieces[-1], numbers[..., first:stop]))
            if stop < self.phase.images and time.monotonic() - kept >= EVERY:
                keep(stop, leaves(_joined(pieces, before)))
                kept = time.monotonic()
        result = _joined(pieces, before)
        return self.carry, result if places is None else self._in_order_of_data(result, numbers)

    def test(self, timer: Timer, inputs: Any) -> np.ndarray:
        """Decisions on other images, (networks, N) int32, by the present weights of supervised layers.

        `inputs` are those of the phase for these images.
        """
        model = self.model.updated(self.carry.layers)
        return self.placement.map(timer, decide_batch, model, known_of(inputs, self.phase.first), scores=False)[0]

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


class Part(NamedTuple):
    """Images of an epoch that a program learns from at once.

    Attributes:
      start: the number of the first one.
      stop: the number after that of the last one.
    """

    start: int
    stop: int


def slices(phase: Phase) -> list[Part]:
    """The slices of an epoch, about as long as `AT_ONCE` says, so that few images are padded; the first is the longest.

    They begin where groups of images that share weights begin and, of layers that adapt after each batch, each of them
    ends with a batch or holds a part of one.
    """
    about = AT_ONCE["learned"]
    total = phase.images
    if phase.supervised and phase.adapt_every > about:
        size = _round_up(-(-phase.adapt_every // round(phase.adapt_every / about)), phase.batch)
        size = min(size, total)
        batches = range(0, total, phase.adapt_every)
        starts = [start for first in batches for start in range(first, min(first + phase.adapt_every, total), size)]
    else:
        unit = min(phase.adapt_every, total) if phase.supervised else phase.batch
        count = max(1, round(total / about))
        if not phase.supervised and count > 1 and count * math.lcm(unit, ALIGNED) <= total:
            unit = math.lcm(unit, ALIGNED)
        size = _round_up(-(-total // count), unit)
        starts = list(range(0, total, size))
    stops = [*starts[1:], total]
    return [Part(start, stop) for start, stop in zip(starts, stops, strict=True)]


def _round_up(count: int, unit: int) -> int:
    """The least multiple of a unit that is at least the count."""
    return -(-count // unit) * unit


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

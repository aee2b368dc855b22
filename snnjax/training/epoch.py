"""What learns in the epochs of a phase: the program, what has been learned so far, and the images, batch by batch."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from snnjax.core import files
from snnjax.core.devices import BATCH_SIZES
from snnjax.core.errors import InputError
from snnjax.core.paths import leaves, with_leaves
from snnjax.networks.batches import decide_batch
from snnjax.training.contracts import check_decisions
from snnjax.training.learning import activations_of
from snnjax.training.phase import Carry, Phase, StepResult
from snnjax.training.placement import Placement, count_of, has_own, place
from snnjax.training.programs import NETWORKS, Timer, learning_program

ALIGNED = 64
"""Batches of a multiple of this begin where a CPU device uses them without a copy, see `files.empty`."""


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


class LearningPhase:
    """A phase with all that its epochs need; `loop.run_epoch` runs them one after the other.

    Attributes:
      program: learns from a batch, see `programs.learning_program`.
      carry: of the layers that learn, stacked; an epoch continues from that of the one before.
      model: the network without their weights, stacked; None if only the layer is needed.
      timer: of the program.
      batches: of an epoch.
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
        self.program = learning_program(learn, compiled, placement.learning)
        self.carry = place(carry, placement.learning, NETWORKS)
        self.model = place(model, placement.learning, NETWORKS)
        self.timer = Timer(phase.name)
        order = images.order(0)
        self._count = count_of(images.inputs) if order is None else order.shape[-1]
        self.batches = batches_of(phase)
        self.size = self.batches[0].stop
        size = sum(x.nbytes for x in jax.tree.leaves(images.inputs))
        once = order is None and size <= files.LARGE
        self._kept = {batch.start: self.place_batch(batch.start) for batch in self.batches} if once else {}

    def numbers(self, places: np.ndarray | None) -> np.ndarray:
        """The numbers of the images that are shown at these `places`, without regard to mirroring."""
        return np.arange(self._count) if places is None else places % self._count

    def place_batch(self, start: int, places: np.ndarray | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The images from number `start` in the order of `places`: fields of `ImageBatch`, per network and shared."""
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

    def place_next(self, start: int, places: np.ndarray | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """As `place_batch`; images that are shown in the same order in every epoch stay where they are."""
        return self._kept.get(start) or self.place_batch(start, places)

    def test(self, timer: Timer, inputs: Any) -> np.ndarray:
        """Decisions on other images, (networks, N) int32, by the present weights of supervised layers.

        `inputs` are those of the phase for these images.
        """
        model = self.model.updated(self.carry.layers)
        return self.placement.map(timer, decide_batch, model, activations_of(inputs, self.phase.first), scores=False)[0]

    def learned(self, result: StepResult, images: slice) -> StepResult:
        """The results for some images of a batch, of all that a program returns."""
        size = self.phase.minibatch_size or 1  # minibatch learners report on minibatches
        rows = slice(images.start // size, -(-images.stop // size))
        return jax.tree.map(lambda x: np.asarray(x)[: self.placement.count, rows], result)

    def correct(self, result: StepResult, numbers: np.ndarray) -> int:
        """How many decisions on images of these numbers are correct; 0 where there are no decisions."""
        if self.images.labels is None:
            return 0
        check_decisions(result.decisions, self.model.network.classes)
        return int(np.sum(result.decisions == self.images.labels[numbers]))

    def in_order_of_data(self, result: StepResult, numbers: np.ndarray) -> StepResult:
        """Decisions from the order in which the images of these numbers were shown to that of the data."""
        if self.images.labels is None:
            return result
        back = np.broadcast_to(np.argsort(numbers, axis=-1), result.decisions.shape)
        return result._replace(decisions=np.take_along_axis(result.decisions, back, axis=1))


class BatchRange(NamedTuple):
    """Which images of an epoch one call of a program learns from.

    Attributes:
      start: the number of the first one.
      stop: the number after that of the last one.
    """

    start: int
    stop: int


def batches_of(phase: Phase) -> list[BatchRange]:
    """The batches of an epoch, about as large as `BATCH_SIZES` says, so that few images are padded.

    The first is the largest. They begin where images that share weights, or a minibatch, begin. Of layers that adapt
    after an interval of `adapt_every` images, each batch ends with an interval or lies within one.
    """
    about = BATCH_SIZES["learned"]
    total = phase.images
    if phase.supervised and phase.adapt_every > about:
        size = _round_up(-(-phase.adapt_every // round(phase.adapt_every / about)), phase.update_batch)
        size = min(size, total)
        intervals = range(0, total, phase.adapt_every)
        starts = [start for first in intervals for start in range(first, min(first + phase.adapt_every, total), size)]
    else:
        unit = min(phase.adapt_every, total) if phase.supervised else phase.minibatch_size or phase.update_batch
        count = max(1, round(total / about))
        if not phase.supervised and count > 1 and count * math.lcm(unit, ALIGNED) <= total:
            unit = math.lcm(unit, ALIGNED)
        size = _round_up(-(-total // count), unit)
        starts = list(range(0, total, size))
    stops = [*starts[1:], total]
    return [BatchRange(start, stop) for start, stop in zip(starts, stops, strict=True)]


def _round_up(count: int, unit: int) -> int:
    """The least multiple of a unit that is at least the count."""
    return -(-count // unit) * unit


def joined(results: Sequence[StepResult], before: Sequence[Mapping[str, np.ndarray]]) -> StepResult:
    """The results for the images of several batches, and `before` them, by path for each network."""
    if before:
        expected = leaves(results[0]).keys()
        for arrays in before:
            if arrays.keys() != expected:
                raise InputError(f"`results` must hold {', '.join(expected)}, got {', '.join(arrays)}")
        earlier = jax.tree.map(lambda *values: np.stack(values), *before)
        results = [with_leaves(results[0], earlier), *results]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=1), *results)

"""A phase in which layers learn: its beginning, its batches of images, and the state of its learning."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from snnjax.core import devices, files
from snnjax.core.errors import InputError
from snnjax.core.paths import leaves, with_leaves
from snnjax.learners import DecisionCounts
from snnjax.networks import Model
from snnjax.networks.batches import decide_batch
from snnjax.training.contracts import check_decisions
from snnjax.training.job import Job, Phase
from snnjax.training.learning import Carry, StepResult, activations_of, learning_of, learning_program
from snnjax.training.placement import NETWORKS, Placement, count_of, has_own, place, to_32_bits
from snnjax.training.state import Settings, TrainState
from snnjax.training.timer import Timer

ALIGNED = 64
"""A CPU device uses batches without a copy if their size is a multiple of this number, see `files.empty`."""


def begin_phase(job: Job, phase: Phase, states: Sequence[TrainState], inputs: Any) -> "LearningPhase":
    """The phase, ready for its first epoch or resumed; `inputs` are the `StageCache.inputs` of its learning layers."""
    models = job.models(states)
    carries = []
    for index, state in enumerate(states):
        carry = carry_at_start(job, state, index)
        # A resumed phase continues with the rates and random keys that were saved, not with those of a new phase.
        carries.append(_resumed(carry, state.learning) if state.learning else carry)
    others = [_without_weights(model, phase.layers) for model in models]
    if phase.labelled:
        inputs = job.labelled_inputs(inputs)
    count = count_of(inputs) // (1 + job.settings.mirror)
    labels = job.data.train_labels.astype(np.int32) if phase.supervised or phase.labelled else None
    order = epoch_orders(job.settings, job.seeds, job.phases.index(phase), count)
    return LearningPhase(
        phase=phase,
        placement=job.placement,
        learn=learning_of(phase, job.network),
        carry=job.placement.stack(carries),
        model=job.placement.stack(others) if phase.supervised else None,
        images=EpochImages(inputs, count, labels, order),
    )


def _resumed(carry: Carry, arrays: Mapping[str, np.ndarray]) -> Carry:
    """The carry of a resumed phase: `carry` with the saved learner states and counts, `arrays`, keyed by path."""
    learners = with_leaves(carry.states, arrays)
    return carry._replace(states=learners, counts=with_leaves(carry.counts, arrays, "counts"))


def carry_at_start(job: Job, state: TrainState, index: int) -> Carry:
    """The carry of network `index` before the first image of the phase: its layers and new learner states."""
    phase = job.phases[state.phase]
    images_seen = 0  # the number of images from which the stage has learned in earlier phases
    if not phase.supervised:
        earlier = [other for other in job.phases[: state.phase] if other.first == phase.first]
        images_seen = sum(other.epochs * other.images for other in earlier)
    layers, learners = begin_learning(phase, job.model(state, index).layers, job.seeds[index], images_seen)
    return Carry(layers, learners, DecisionCounts(*np.zeros(5, np.int32)) if phase.supervised else None)


def begin_learning(
    phase: Phase, all_layers: Mapping[str, Any], seed: int, images_seen: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layers that learn in a phase, and the states of their learners before the first image, keyed by layer name.

    The weights are clipped to the bounds of the learners. `all_layers` are the layers of the network, and `images_seen`
    is the argument of `Learner.init`.
    """
    layers = {name: _clip_weights(all_layers[name], phase) for name in phase.layers}
    learners = {}
    for name, layer in layers.items():
        rules = layer.conv.each_learner
        key = key_of(list(all_layers).index(name), seed, phase.learner % len(rules))
        learners[name] = jax.tree.map(to_32_bits, rules[phase.learner].init(layer, key, images_seen))
    return layers, learners


def _clip_weights(layer: Any, phase: Phase) -> Any:
    """The layer with its weights clipped to the bounds of the learner that is used in the phase, if it has bounds."""
    # A layer may learn by several rules in turn, whose bounds may differ: the bounds of this phase's rule apply.
    bounds = layer.conv.each_learner[phase.learner].bounds
    if bounds is None:
        return layer
    lower, upper = map(np.float32, bounds)
    return layer.with_weights(np.clip(layer.weights, lower, upper))


def _without_weights(model: Model, names: Iterable[str]) -> Model:
    """The model without the weights of the layers `names`, which learn, because their program's carry holds them."""
    nothing: Any = np.zeros((0, 0, 0, 0), np.float32)
    return model.updated({name: dataclasses.replace(model.layers[name], weights=nothing) for name in names})


def key_of(number: int, seed: int, learner: int = 0) -> np.ndarray:
    """The random key of learner number `learner` of layer `number`, (2,) uint32."""
    # If a layer has several rules, each rule has its own key: with the same key they would draw the same numbers.
    number += learner << 16
    if seed < 1 << 32:
        return np.array([number, seed], np.uint32)
    return np.random.SeedSequence((number, seed)).generate_state(2)


def epoch_orders(
    settings: Settings, seeds: Sequence[int], phase: int, images: int
) -> Callable[[int], np.ndarray] | None:
    """`shown_order` as a function of the epoch; None if the images are shown in the order of the data."""
    if not (settings.shuffle or settings.mirror):
        return None
    return functools.partial(shown_order, settings, seeds, phase, images)


def shown_order(settings: Settings, seeds: Sequence[int], phase: int, images: int, epoch: int) -> np.ndarray:
    """The order in which images are shown: (images,) integers, or (networks, images) if the seeds differ.

    A number from `images` on stands for a mirror image. The order depends only on the settings, the seed, the numbers
    of the phase and of the epoch, and the number of images, so that a resumed training run continues in the same order.
    """

    def of_seed(seed: int) -> np.ndarray:
        random = np.random.default_rng((seed, phase, epoch))
        order = random.permutation(images)
        mirrored = random.integers(2, size=images)
        return (order if settings.shuffle else np.arange(images)) + images * settings.mirror * mirrored

    orders = {seed: of_seed(seed) for seed in seeds}
    return np.stack([orders[seed] for seed in seeds]) if len(orders) > 1 else orders[seeds[0]]


@dataclasses.dataclass(frozen=True)
class EpochImages:
    """The images that a phase learns from in each epoch.

    Attributes:
      inputs: (N, C, H, W), or (networks, N, C, H, W) if the inputs of the networks differ; with mirror images, 2N
        instead of N, see `shown_order`. `Activations` hold several arrays of this kind.
      count: N, the number of images without their mirror images.
      labels: (N,) int32, the classes, if layers learn from labels; otherwise None.
      order: a function of the epoch that returns the `shown_order` of its images; None for the order of the data. A
        phase that learns from fewer than N images learns from the images that are shown first.
    """

    inputs: Any
    count: int
    labels: np.ndarray | None = None
    order: Callable[[int], np.ndarray] | None = None

    def order_in(self, epoch: int) -> np.ndarray | None:
        """The order of the images in an epoch, see `shown_order`; None for the order of the data."""
        return None if self.order is None else self.order(epoch)

    def numbers(self, order: np.ndarray | None) -> np.ndarray:
        """The numbers of the images in the given order; a mirror image has the number of its original."""
        return np.arange(self.count) if order is None else order % self.count


class BatchRange(NamedTuple):
    """The range of images of an epoch from which one call of a program learns.

    Attributes:
      start: the number of the first image.
      stop: the number of the last image plus one.
    """

    start: int
    stop: int


class LearningPhase:
    """A phase with everything that its epochs need; `loop.run_epoch` runs one epoch.

    Attributes:
      phase: the layers that learn, and the number of images.
      placement: places networks and images on the devices.
      images: the images of an epoch.
      program: the jitted function that learns from a batch, see `learning.learning_program`.
      carry: the stacked carries of the networks, which pass from batch to batch and from epoch to epoch.
      model: the stacked networks without the weights of the layers that learn; None if a layer learns by itself.
      timer: measures the program.
      batches: the batches of an epoch.
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
        """`learn` is one of the functions of `snnjax.training.learning`; `carry` and `model` are stacked by network."""
        self.placement = placement
        self.phase = phase
        self.images = images
        compiled = phase._replace(name="", epochs=0)  # programs do not depend on these fields
        self.program = learning_program(learn, compiled, placement.learning_mesh)
        self.carry = place(carry, placement.learning_mesh, NETWORKS)
        self.model = place(model, placement.learning_mesh, NETWORKS)
        self.timer = Timer(phase.name)
        self.batches = batches_of(phase)
        size = sum(x.nbytes for x in jax.tree.leaves(images.inputs))
        once = images.order is None and size <= files.LARGE
        self._kept = {batch.start: self._place_batch(batch.start) for batch in self.batches} if once else {}

    def learn_batch(self, batch: BatchRange, first: int, order: np.ndarray | None) -> tuple[StepResult, int]:
        """Learns from a batch, beginning with image `first`; returns the results and the number of correct decisions.

        The method replaces `carry`. `order` is the order of all images of the epoch, or None.
        """
        begin = time.perf_counter()
        per_network, shared = self._kept.get(batch.start) or self._place_batch(batch.start, order)
        self.timer.seconds += time.perf_counter() - begin
        last = np.bool_(batch.stop == self.phase.images)
        shared = shared | dict(start=np.int32(first - batch.start), stop=np.int32(batch.stop - batch.start), last=last)
        images = (batch.stop - first) * self.placement.count
        arguments = self.carry, self.model, per_network, shared
        self.carry, result = self.timer.time_program(images, self.program, *arguments)
        size = self.phase.minibatch_size or 1  # minibatch learners report on minibatches
        learned = slice((first - batch.start) // size, -((batch.start - batch.stop) // size))
        result = jax.tree.map(lambda x: np.asarray(x)[: self.placement.count, learned], result)
        return result, self._correct(result, first, batch.stop, order)

    def _place_batch(self, start: int, order: np.ndarray | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The batch that begins with image `start`, as fields of `ImageBatch`: per network, and shared."""
        per_network: dict[str, Any] = {}
        shared: dict[str, Any] = {}
        orders_differ = order is not None and order.ndim == 2

        def put(name: str, values: Any, order: np.ndarray | None) -> None:
            mesh = self.placement.learning_mesh
            placed = self.placement.place_images(values, start, self.batches[0].stop, mesh, order)
            (per_network if orders_differ or has_own(values) else shared)[name] = placed

        put("inputs", self.images.inputs, order)
        if self.images.labels is not None:
            put("labels", self.images.labels, None if order is None else self.images.numbers(order))
        return per_network, shared

    def _correct(self, result: StepResult, first: int, stop: int, order: np.ndarray | None) -> int:
        """The number of correct decisions on the images `first` to `stop` - 1; 0 if there are no decisions."""
        if result.decisions is None:
            return 0
        check_decisions(result.decisions, self.model.network.classes)
        assert self.images.labels is not None
        numbers = self.images.numbers(order)[..., first:stop]
        return int(np.sum(result.decisions == self.images.labels[numbers]))

    def in_order_of_data(self, result: StepResult, order: np.ndarray | None) -> StepResult:
        """The results with decisions in the order of the data, given the order in which the images were shown."""
        if result.decisions is None or order is None:
            return result
        back = np.broadcast_to(np.argsort(self.images.numbers(order), axis=-1), result.decisions.shape)
        return result._replace(decisions=np.take_along_axis(result.decisions, back, axis=1))

    def test(self, timer: Timer, inputs: Any) -> np.ndarray:
        """The decisions on images that may differ from `images`, (networks, N) int32, with the current weights.

        `inputs` are the inputs of the phase for these images, and `timer` measures the call.
        """
        model = self.model.updated(self.carry.layers)
        return self.placement.map(timer, decide_batch, model, activations_of(inputs, self.phase.first), scores=False)[0]


def batches_of(phase: Phase) -> list[BatchRange]:
    """The batches of an epoch, of about the size in `devices.BATCH_SIZES`, chosen so that few images are padded.

    The first batch is the largest. A batch begins with a minibatch, or with a group of images that share weights. If
    layers adapt after an interval of `adapt_every` images, each batch consists of whole intervals or lies within one.
    """
    about = devices.BATCH_SIZES["learned"]
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
    """The smallest multiple of `unit` that is not smaller than `count`."""
    return -(-count // unit) * unit


def joined(results: Sequence[StepResult], before: Sequence[Mapping[str, np.ndarray]]) -> StepResult:
    """Concatenates the results of several batches along their images, after the results `before`.

    `before` holds, for each network, the saved results of earlier images, keyed by path. Raises InputError if their
    paths differ from the paths of `results`.
    """
    if before:
        expected = leaves(results[0]).keys()
        for arrays in before:
            if arrays.keys() != expected:
                raise InputError(f"`results` must hold {', '.join(expected)}, got {', '.join(arrays)}")
        earlier = jax.tree.map(lambda *values: np.stack(values), *before)
        results = [with_leaves(results[0], earlier), *results]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=1), *results)

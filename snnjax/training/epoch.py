"""Epochs, slice by slice, so that progress is reported without callbacks from compiled programs; and their makers."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core import files
from snnjax.core.components import leaves, with_leaves
from snnjax.core.errors import InputError
from snnjax.data import Dataset
from snnjax.layers.conv import Conv
from snnjax.layers.layer import BaseLayer, LayerKernels
from snnjax.layers.layer_kernels import XLA, best_kernels
from snnjax.layers.spiking import Layer
from snnjax.learners import Tally
from snnjax.networks import Model
from snnjax.networks.batches import decide_batch
from snnjax.steps import deciding, plain, registry
from snnjax.steps.plain import Carry, StepResult, Task
from snnjax.training import arguments
from snnjax.training import epoch_results as results
from snnjax.training.contracts import check_decisions
from snnjax.training.draws import key_of, shown_order
from snnjax.training.placement import NETWORKS, Placement, Timer, count_of, has_own, learning_program, place
from snnjax.training.stage_cache import StageCache, as_array
from snnjax.training.state import Phase, Settings, TrainState

SLICE = 1000
"""Images, about, between two reports of an epoch's progress."""
EVERY = 30.0
"""Seconds between two states that are saved within an epoch."""
ALIGNED = 64
"""Slices of a multiple of this begin where a CPU device takes them without a copy, see `files.empty`."""


@dataclasses.dataclass(frozen=True)
class Images:
    """The images that an epoch learns from.

    Attributes:
      inputs: (N, C, H, W), or (networks, N, C, H, W); or of 2N images, see `shown_order`. Or a tree of such arrays.
      labels: (N,) int32 of supervised learning, None elsewhere.
      order: of the number of an epoch: `shown_order`.
      most: images of an epoch that are learned from, those shown first; None: all.
      batch_size: as of `Settings`, of supervised learning.
    """

    inputs: Any
    labels: np.ndarray | None = None
    order: Callable[[int], np.ndarray | None] = lambda epoch: None
    most: int | None = None
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
        name: str,
        placement: Placement,
        task: Task,
        step: Callable[..., Any],
        fast: registry.Step | None,
        carry: Carry,
        model: Any,
        images: Images,
    ):
        """`step` defines the learning, `fast` computes the same faster, if given; trees are stacked."""
        self.placement = placement
        self.task = task
        self.images = images
        self._plain = learning_program(step, task, placement.learning)
        self._fast = learning_program(fast.run, task, placement.learning) if fast else self._plain
        self._clips = fast is not None and fast.clips
        self.carry = place(carry, placement.learning, NETWORKS)
        self.model = place(model, placement.learning, NETWORKS)
        self.timer = Timer(name)
        self._in_bounds = False
        order = images.order(0)
        self._count = count_of(images.inputs) if order is None else order.shape[-1]
        self._total = images.most or self._count
        self.size = _slice_size(self._total, task.batch)
        self._starts = range(0, self._total, self.size)
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
        batch = self.task.batch
        if done % batch or not 0 <= done < self._total:
            raise InputError(f"`shown` must be a multiple of {batch} below {self._total}, got {done}")
        places = self.images.order(number)
        numbers = np.arange(self._count) if places is None else places % self._count
        pieces: list[StepResult] = []
        kept = time.monotonic()
        for start in self._starts:
            stop = min(start + self.size, self._total)
            if stop <= done:
                continue
            begin = time.perf_counter()
            per_network, shared = self._kept.get(start) or self.place_slice(start, places)
            self.timer.seconds += time.perf_counter() - begin
            for first, end, program in self._spans(max(start, done), stop):  # `done` may lie within a slice
                part = slice(first - start, end - start)
                span = dict(start=np.int32(part.start), stop=np.int32(part.stop), last=np.bool_(end == self._total))
                images = (end - first) * self.placement.count
                self.carry, result = self.timer.run(images, program, self.carry, self.model, per_network, shared | span)
                pieces.append(self._learned(result, part))
                report(images, self._correct(pieces[-1], numbers[..., first:end]))
            if stop < self._total and time.monotonic() - kept >= EVERY:
                keep(stop, leaves(_joined(pieces, before)))
                kept = time.monotonic()
        result = _joined(pieces, before)
        return self.carry, result if places is None else self._in_order_of_data(result, numbers)

    def _spans(self, first: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        """The images of each program: all that remain; few by the plain step, while weights lie out of bounds."""
        size = self.task.batch
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
        size = self.task.batch if self.task.end else 1  # joint learners report on batches
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
        learner = self.task.learner
        if self._in_bounds or any(outside(x, learner) for x in self.placement.unstack(layers)):
            return
        marked = {
            name: dataclasses.replace(layer, in_bounds=layer.conv.each_learner[learner].bounds is not None)
            for name, layer in layers.items()
        }
        self.carry = self.carry._replace(layers=marked)
        self._in_bounds = True


@dataclasses.dataclass(frozen=True)
class PhaseRunners:
    """Makes the runner of each phase of networks of one structure.

    Attributes:
      cache: of the inputs of their stages.
      data: the data set.
      settings: of the training.
      seeds: of each network.
      plan: all phases, in order.
    """

    cache: StageCache
    data: Dataset
    settings: Settings
    seeds: Sequence[int]
    plan: tuple[Phase, ...]

    def check(self, state: TrainState) -> None:
        """Raises InputError unless the training can continue from a state."""
        arguments.check_state(self.cache.network, len(self.plan), state)
        if state.learning and state.phase < len(self.plan):
            fresh = results.learning_arrays(*self.fresh(state, 0))
            shapes = {name: array.shape for name, array in fresh.items()}
            arguments.check_shapes(self.cache.network, state, "learning", shapes)

    def layers(self, phase: Phase) -> tuple[str, ...]:
        """Names of the layers that learn in a phase."""
        if phase.layers:
            return phase.layers
        layers = self.cache.network.layers()
        return tuple(name for _, name, conv in layers if any(learner.supervised for learner in conv.each_learner))

    def joint(self, phase: Phase) -> Any:
        """The joint learner of a phase, None where layers learn alone."""
        joint = (conv.joint for _, name, conv in self.cache.network.layers() if name in phase.layers)
        return next(joint) if phase.end else None

    def images(self, phase: Phase) -> int:
        """The images of an epoch that a phase learns from."""
        images = len(self.cache.images[self.cache.learned_part(phase)])
        joint = self.joint(phase)
        return min(images, joint.images or images) if joint else images

    def task(self, phase: Phase) -> Task:
        """The task of a phase."""
        names = self.layers(phase)
        if joint := self.joint(phase):
            images = self.images(phase)
            batch = min(joint.batch, images)
            return Task(names, phase.stage, phase.learner, batch, end=phase.end, rest=images % batch)
        turns = not phase.layers and self.cache.network.reward_by_turns
        batch = min(self.settings.update_batch, self.images(phase))
        return Task(names, phase.stage, phase.learner, batch, turns)

    def fast_step(self, task: Task, model: Model) -> registry.Step | None:
        """The fast step of a task, if there is one."""
        return registry.fast_step(registry.Case(task, model, self.settings.native, self.cache.placement.platform))

    def uncompiled(self) -> list[str]:
        """Spiking layers that learn without compiled kernels: "layer1 (Rule)", ..."""
        network = self.cache.network
        zeros = {name: np.zeros(shape, np.float32) for name, shape in network.weight_shapes.items()}
        model = Model.of(network, zeros)  # shapes alone matter
        names = []
        for phase in self.plan:
            if phase.fits:
                continue
            task = self.task(phase)
            fast = self.fast_step(task, model)
            for name in task.names:
                layer = model.layers[name]
                compiled = fast.compiled if fast else self._kernels(layer, phase) is not XLA
                if not compiled:
                    names.append(_with_rule(name, layer.conv, phase))
        return names

    def one_by_one(self, first: int) -> list[str]:
        """Layers that learn from one image at a time on an accelerator, from phase `first` on: "layer1 (Rule)", ..."""
        if self.cache.placement.platform == "cpu":
            return []
        convs = {name: conv for _, name, conv in self.cache.network.layers()}
        names = []
        for phase in self.plan[first:]:
            if phase.fits or phase.end or not phase.epochs or self.task(phase).batch > 1:
                continue
            names += [_with_rule(name, convs[name], phase) for name in self.layers(phase)]
        return names

    def _kernels(self, layer: BaseLayer, phase: Phase) -> LayerKernels:
        """The kernels of a layer that learns in a phase, step by step as it is defined."""
        return best_kernels(layer, native=self.settings.native, learner=phase.learner)

    def of_phase(self, phase: Phase, states: Sequence[TrainState], inputs: Any) -> EpochRunner:
        """The runner of a phase's epochs, given the `StageCache.inputs` of the stages that learn in it."""
        task = self.task(phase)
        models = self.cache.models(states)
        fast = self.fast_step(task, models[0])
        carries = []
        for index, (model, state) in enumerate(zip(models, states, strict=True)):
            layers = {}
            for name in task.names:
                layer = model.layers[name]
                layers[name] = layer.packed(fast.kernels if fast else self._kernels(layer, phase))
            learners, tally = self.fresh(state, index)
            learned = with_leaves(learners, state.learning), with_leaves(tally, state.learning, "tally")
            carries.append(Carry(layers, *learned))
        others = [_without_weights(model, task.names) for model in models]
        shown = count_of(inputs) // (1 + self.settings.mirror)
        order = functools.partial(shown_order, self.settings, self.seeds, self.plan.index(phase), shown)
        labels = None
        if phase.end:
            step = plain.learn_jointly
            frozen: Any = self.cache.pack(others)
        elif phase.layers:
            step = plain.learn_unsupervised
            frozen = None
        else:
            step = plain.learn_supervised
            frozen = self.cache.pack(others, self.testing_kernels)
            labels = self.data.train_labels.astype(np.int32)
        most = self.images(phase) if phase.end else None
        images = Images(inputs, labels, order, most, self.settings.batch_size)
        return EpochRunner(
            name=phase.name,
            placement=self.cache.placement,
            task=task,
            step=step,
            fast=fast,
            carry=self.cache.placement.stack(carries),
            model=frozen,
            images=images,
        )

    def test(self, timer: Timer, runner: EpochRunner, inputs: Any) -> np.ndarray:
        """Decisions on the tested images, given the `inputs` of the supervised layers, by their present weights."""
        placement = self.cache.placement
        learned = {}
        for name, layer in runner.carry.layers.items():
            kernels = runner.model.layers[name].kernels
            if layer.kernels is not kernels:
                layer = placement.stack([x.packed(kernels) for x in placement.unstack(layer)])
            learned[name] = dataclasses.replace(layer, in_bounds=False)
        model = runner.model.updated(learned)
        known = plain.known_of(inputs, self.cache.network.first_supervised)
        return placement.map(timer, decide_batch, model, known, scores=False)[0]

    @functools.cached_property
    def testing_kernels(self) -> dict[str, Any]:
        """The kernels of layers by which the networks are tested after an epoch, by name."""
        return deciding.deciding_kernels(self.cache.network, native=self.settings.native)

    def fresh(self, state: TrainState, index: int) -> tuple[dict[str, Any], Tally | None]:
        """States of learners and the tally of network `index`, before the first image of a phase."""
        phase = self.plan[state.phase]
        layers = self.cache.model(state, index).layers
        shown = phase.branch * phase.epochs * len(self.cache.images[self.cache.learned_part(phase)])
        states = {}
        for name in self.layers(phase):
            learners = layers[name].conv.each_learner
            learner = learners[phase.learner]
            key = key_of(list(layers).index(name), self.seeds[index], phase.learner % len(learners))
            states[name] = jax.tree.map(as_array, learner.init(layers[name], key, shown))
        return states, None if phase.layers else Tally(*np.zeros(5, np.int32))


def _with_rule(name: str, conv: Conv, phase: Phase) -> str:
    """The layer of this name, with the rule by which it learns in a phase."""
    return f"{name} ({type(conv.each_learner[phase.learner]).__name__})"


def _without_weights(model: Model, names: Iterable[str]) -> Model:
    """The model without the weights of layers that learn, which are in the carry of their program."""
    nothing: Any = np.zeros((0, 0, 0, 0), np.float32)
    return model.updated({name: dataclasses.replace(model.layers[name], stored=nothing) for name in names})


def _slice_size(total: int, unit: int) -> int:
    """Images of a slice, about `SLICE`, so that few are padded."""
    count = max(1, round(total / SLICE))
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

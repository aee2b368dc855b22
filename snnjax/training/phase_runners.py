"""The runners of phases: what learns in each, by which step and kernels, and its test."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core.components import with_leaves
from snnjax.data import Dataset
from snnjax.layers.conv import Conv
from snnjax.layers.layer import BaseLayer, LayerKernels
from snnjax.layers.layer_kernels import XLA, best_kernels
from snnjax.learners import Tally
from snnjax.networks import Model
from snnjax.networks.batches import decide_batch
from snnjax.steps import deciding, plain, registry
from snnjax.steps.plain import Carry, Task
from snnjax.training import arguments
from snnjax.training import epoch_results as results
from snnjax.training.draws import key_of, shown_order
from snnjax.training.epoch import EpochImages, EpochRunner
from snnjax.training.placement import Timer, count_of
from snnjax.training.stage_cache import StageCache, as_array
from snnjax.training.state import Phase, Settings, TrainState


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
        images = EpochImages(inputs, labels, order, most, self.settings.batch_size)
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

"""Makes the runners of epochs: what learns in a phase, from what, and the states of its learners."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core.components import with_leaves
from snnjax.data import Dataset
from snnjax.learners import Tally
from snnjax.networks import Model, Network
from snnjax.networks.batches import decide_batch
from snnjax.steps import deciding, plain, registry
from snnjax.steps.plain import Carry, Task
from snnjax.training import arguments, results
from snnjax.training.epoch import EpochRunner, Images, shown_order
from snnjax.training.placement import Timer, has_own
from snnjax.training.stage_cache import StageCache, as_array
from snnjax.training.state import Phase, Settings, TrainState


@dataclasses.dataclass(frozen=True)
class EpochRunners:
    """Makes the runner of each phase of networks of one structure.

    Attributes:
      cache: of what enters their stages.
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

    @property
    def network(self) -> Network:
        """The first network."""
        return self.cache.network

    def check(self, state: TrainState) -> None:
        """Raises InputError unless the training can continue from a state."""
        arguments.check_state(self.network, len(self.plan), state)
        if state.learning and state.phase < len(self.plan):
            fresh = results.learning_arrays(*self.fresh(state, 0))
            shapes = {name: array.shape for name, array in fresh.items()}
            arguments.check_shapes(self.network, state, "learning", shapes)

    def layers(self, phase: Phase) -> tuple[str, ...]:
        """Names of the layers that learn in a phase."""
        if phase.layers:
            return phase.layers
        layers = self.network.layers()
        return tuple(name for _, name, conv in layers if any(each.supervised for each in conv.each_learner))

    def images(self, phase: Phase) -> int:
        """The images of an epoch that a phase learns from."""
        images = len(self.data.train_images)
        if not phase.end:
            return images
        convs = {name: conv for _, name, conv in self.network.layers()}
        return min(images, convs[phase.layers[0]].joint.images or images)

    def task(self, phase: Phase) -> Task:
        """The task of a phase."""
        names = self.layers(phase)
        if not phase.end:
            turns = not phase.layers and self.network.reward_by_turns
            return Task(names, phase.stage, phase.learner, self.settings.update_batch, turns)
        convs = {name: conv for _, name, conv in self.network.layers()}
        images = self.images(phase)
        batch = min(convs[names[0]].joint.batch, images)
        return Task(names, phase.stage, phase.learner, batch, end=phase.end, rest=images % batch)

    def of_phase(self, phase: Phase, states: Sequence[TrainState], inputs: np.ndarray) -> EpochRunner:
        """The runner of a phase's epochs, given what enters the first of the layers that learn in it."""
        task = self.task(phase)
        models = self.cache.models(states)
        platform = self.cache.placement.platform
        fast = registry.fast_step(registry.Case(task, models[0], self.settings.native, platform))
        carries = []
        for index, (model, state) in enumerate(zip(models, states, strict=True)):
            layers = {}
            for name in task.names:
                layer = model.layers[name]
                layers[name] = layer.packed(fast.kernels if fast else self.cache.kernels(layer, phase.learner))
            carries.append(Carry(layers, *self.learning(state, index)))
        others = [_without_weights(model, task.names) for model in models]
        shown = inputs.shape[int(has_own(inputs))] // (1 + self.settings.mirror)
        order = functools.partial(shown_order, self.settings, self.seeds, self.plan.index(phase), shown)
        if phase.end:
            learn = plain.learn_jointly
            frozen: Any = self.cache.pack(others)
            images = Images(inputs, order=order, most=self.images(phase))
        elif phase.layers:
            learn = plain.learn_unsupervised
            frozen = None
            images = Images(inputs, order=order)
        else:
            learn = plain.learn_supervised
            frozen = self.cache.pack(others, self.testing_kernels)
            labels = self.data.train_labels.astype(np.int32)
            images = Images(inputs, labels, order, batch_size=self.settings.batch_size)
        carry = self.cache.placement.stack(carries)
        return EpochRunner(phase.name, self.cache.placement, task, learn, fast, carry, frozen, images)

    def test(self, timer: Timer, runner: EpochRunner, inputs: np.ndarray) -> np.ndarray:
        """Decisions on the tested images, of which `inputs` enter the supervised layers, as these are now."""
        placement = self.cache.placement
        learned = {}
        for name, layer in runner.carry.layers.items():
            kernels = runner.model.layers[name].kernels
            if layer.kernels is not kernels:
                layer = placement.stack([each.packed(kernels) for each in placement.unstack(layer)])
            learned[name] = dataclasses.replace(layer, in_bounds=False)
        model = runner.model.updated(learned)
        return placement.map(timer, decide_batch, model, inputs, first=self.network.first_supervised)[0]

    @functools.cached_property
    def testing_kernels(self) -> dict[str, Any]:
        """The kernels of layers by which the networks are tested after an epoch, by name."""
        return deciding.deciding_kernels(self.network, native=self.settings.native, scores=False)

    def learning(self, state: TrainState, index: int = 0) -> tuple[Any, ...]:
        """What follows the layers in the carry of network `index`: states by layer, of labels a `Tally` besides."""
        fresh = self.fresh(state, index)
        if not state.learning:
            return fresh
        return tuple(with_leaves(part, state.learning, name) for part, name in zip(fresh, ("", "tally"), strict=False))

    def fresh(self, state: TrainState, index: int) -> tuple[Any, ...]:
        """As `learning`, before the first image of a phase."""
        phase = self.plan[state.phase]
        layers = self.cache.model(state, index).layers
        seen = phase.branch * phase.epochs * len(self.data.train_images)
        states = {}
        for name in self.layers(phase):
            key = key_of(list(layers).index(name), self.seeds[index])
            learner = layers[name].conv.each_learner[phase.learner]
            states[name] = jax.tree.map(as_array, learner.init(layers[name], key, seen))
        return (states,) if phase.layers else (states, Tally(*np.zeros(5, np.int32)))


def key_of(number: int, seed: int) -> np.ndarray:
    """The key of what layer `number` draws, (2,) uint32."""
    if seed < 1 << 32:
        return np.array([number, seed], np.uint32)
    return np.random.SeedSequence((number, seed)).generate_state(2)


def _without_weights(model: Model, names: Iterable[str]) -> Model:
    """The model without the weights of layers that learn, which are in the carry of their program."""
    nothing: Any = np.zeros((0, 0, 0, 0), np.float32)
    return model.updated({name: dataclasses.replace(model.layers[name], stored=nothing) for name in names})

"""The epochs of each phase: what learns, from what, by which programs."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from snnjax.data import Dataset
from snnjax.learners import Tally
from snnjax.networks import Model
from snnjax.training import fast, programs
from snnjax.training.epoch import Epoch, images_shown
from snnjax.training.outputs import Outputs, as_array
from snnjax.training.spread import has_own, learning_program
from snnjax.training.state import Phase, Settings, TrainState

States = list[TrainState]


class Epochs:
    """Makes the epochs of the phases of networks of one structure.

    Attributes:
      supervised_layers: names of the layers that learn supervised.
      testing_forms: the forms of layers by which the networks are tested after an epoch.
    """

    def __init__(
        self, outputs: Outputs, data: Dataset, settings: Settings, seeds: Sequence[int], plan: tuple[Phase, ...]
    ):
        self.outputs, self.data, self.settings, self.seeds, self.plan = outputs, data, settings, seeds, plan
        self.network, self.spread = outputs.network, outputs.spread
        self.convs = {name: conv for _, name, conv in self.network.layers()}
        learners = {name: conv.each_learner for name, conv in self.convs.items()}
        self.supervised_layers = [name for name, each in learners.items() if any(x.supervised for x in each)]
        self.testing_forms = fast.deciding(self.network, settings, scores=False)

    def of(self, phase: Phase, states: States, inputs: np.ndarray) -> Epoch:
        """The epochs of a phase, given what enters the first of the layers that learn in it."""
        kinds = self._jointly if phase.end else self._alone if phase.layers else self._supervised
        return kinds(phase, states, inputs)

    def learning(self, state: TrainState, at: int = 0) -> tuple[Any, ...]:
        """What follows the layers in the carry of network `at`: states by layer, of labels a `Tally` besides."""
        fresh = self.fresh(state, at)
        if not state.learning:
            return fresh
        return jax.tree.unflatten(jax.tree.structure(fresh), list(state.learning.values()))

    def fresh(self, state: TrainState, at: int) -> tuple[Any, ...]:
        """As `learning`, before the first image of a phase."""
        phase, layers = self.plan[state.phase], self.outputs.model(state, at).layers
        seen = phase.branch * phase.epochs * len(self.data.train_images)

        def init(name: str) -> Any:
            key = key_of(list(layers).index(name), self.seeds[at])
            learner = layers[name].conv.each_learner[phase.learner]
            return jax.tree.map(as_array, learner.init(layers[name], key, seen))

        states = {name: init(name) for name in phase.layers or self.supervised_layers}
        return (states,) if phase.layers else (states, Tally(*np.zeros(5, np.int32)))

    def images_of(self, phase: Phase) -> int:
        """The images of an epoch that a phase learns from."""
        images = len(self.data.train_images)
        most = self.convs[phase.layers[0]].joint.images if phase.end else None
        return min(images, most or images)

    def _order(self, phase: Phase, inputs: np.ndarray) -> Callable[[int], np.ndarray | None]:
        """`images_shown` in a phase, by epoch, given what its layers learn from."""
        images = inputs.shape[int(has_own(inputs))] // (1 + self.settings.mirror)
        return functools.partial(images_shown, self.settings, self.seeds, self.plan.index(phase), images)

    def mesh(self, found: programs.FastForm | None) -> Mesh:
        """The devices that learn: all that share batches, but for fast forms, which take a batch in one product."""
        return self.spread.batched if self.settings.update_batch > 1 and not found else self.spread.learning

    def _fast(self, found: programs.FastForm, mesh: Mesh) -> dict[str, Any]:
        """Arguments of an `Epoch` that learns by a fast form."""
        program = learning_program(found.function, mesh, **found.static)
        return dict(fast=program, unit=found.unit, clips=found.clips)

    def _alone(self, phase: Phase, states: States, inputs: np.ndarray) -> Epoch:
        """One layer learns, without labels."""
        carries, learner, batch, (name,) = [], phase.learner, self.settings.update_batch, phase.layers
        layers = [model.layers[name] for model in self.outputs.models(states)]
        found = fast.unsupervised(layers[0], learner, self.settings)
        mesh = self.mesh(found)
        plain = learning_program(programs.learn_unsupervised, mesh, which=learner, batch=batch)
        form = found.form if found else self.outputs.form(layers[0], learner)
        for at, (layer, state) in enumerate(zip(layers, states, strict=True)):
            carries.append(({name: layer.packed(form)}, *self.learning(state, at)))
        kinds: dict[str, Any] = dict(plain=plain, fast=plain, unit=batch, order=self._order(phase, inputs))
        if found:
            kinds |= self._fast(found, mesh)
        common = self.spread, mesh, phase, self.spread.stacked(carries), inputs, self.outputs.callback.advanced, batch
        return Epoch(*common, **kinds)

    def _jointly(self, phase: Phase, states: States, inputs: np.ndarray) -> Epoch:
        """Layers learn without labels, from whole batches."""
        carries, models, frozen = [], self.outputs.models(states), []
        learner = models[0].layers[phase.layers[0]].conv.joint
        form = {name: self.outputs.form(layer, 0) for name, layer in models[0].layers.items()}
        for at, (model, state) in enumerate(zip(models, states, strict=True)):
            layers = {name: model.layers[name].packed(form[name]) for name in phase.layers}
            carries.append((layers, *self.learning(state, at)))
            frozen.append(_without_weights(model, phase.layers))
        order, learned = self._order(phase, inputs), self.images_of(phase)
        batch = min(learner.batch, learned)
        static: dict[str, Any] = dict(first=phase.stage, end=phase.end, batch=batch)
        program = learning_program(programs.learn_jointly, self.spread.learning, rest=learned % batch, **static)
        common = self.spread, self.spread.learning, phase, self.spread.stacked(carries), inputs
        kinds: dict[str, Any] = dict(plain=program, fast=program, unit=batch, each=batch)
        own = dict(model=self.outputs.packed(frozen))
        report = self.outputs.callback.advanced
        return Epoch(*common, report, batch, **kinds, order=order, own=own, images=learned)

    def _supervised(self, phase: Phase, states: States, inputs: np.ndarray) -> Epoch:
        """All supervised layers learn."""
        models, batch = self.outputs.models(states), self.settings.update_batch
        carries, frozen, turns = [], [], dict(by_turns=self.network.reward_by_turns)
        forms = {name: self.outputs.form(models[0].layers[name], phase.learner) for name in self.supervised_layers}
        found = fast.supervised(models[0], phase.stage, settings=self.settings, **turns)
        mesh = self.mesh(found)
        plain = learning_program(programs.learn_supervised, mesh, first=phase.stage, batch=batch, **turns)
        kinds: dict[str, Any] = dict(plain=plain, fast=plain, unit=batch)
        if found:
            forms = dict.fromkeys(self.supervised_layers, found.form)
            kinds |= self._fast(found, mesh)
        for at, (model, state) in enumerate(zip(models, states, strict=True)):
            layers = {name: model.layers[name] for name in self.supervised_layers}
            carries.append(({n: x.packed(forms[n]) for n, x in layers.items()}, *self.learning(state, at)))
            frozen.append(_without_weights(model, layers))
        common = self.spread, mesh, phase, self.spread.stacked(carries), inputs, self.outputs.callback.advanced, batch
        own = dict(model=self.outputs.packed(frozen, self.testing_forms))
        shared, labels = dict(batch_size=np.int32(self.settings.batch_size)), self.data.train_labels.astype(np.int32)
        kinds |= dict(order=self._order(phase, inputs))
        return Epoch(*common, **kinds, labels=labels, own=own, shared=shared)


def key_of(number: int, seed: int) -> np.ndarray:
    """The key of what layer `number` draws, (2,) uint32."""
    if seed < 1 << 32:
        return np.array([number, seed], np.uint32)
    return np.random.SeedSequence((number, seed)).generate_state(2)


def _without_weights(model: Model, names: Iterable[str]) -> Model:
    """The model without the weights of layers that learn, which are in the carry of their program."""
    nothing: Any = np.zeros((0, 0, 0, 0), np.float32)
    return model.updated({name: dataclasses.replace(model.layers[name], stored=nothing) for name in names})

"""The training engine: takes one network, or many of one structure side by side, through the phases of their plan."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax import devices, processes
from snnjax.components import to_data
from snnjax.data import Dataset
from snnjax.errors import DivergedError, InputError, wrong_type
from snnjax.forms import FAST
from snnjax.kernels import native
from snnjax.layers import Layer
from snnjax.metrics import fractions
from snnjax.networks import Network
from snnjax.networks.decision import is_fitted
from snnjax.networks.model import check_fitted, rounded_weights
from snnjax.training import fast, fitting, foreign, origin, programs
from snnjax.training.diagnoses import by_layer, diagnose_decisions
from snnjax.training.epoch import Epoch
from snnjax.training.epochs import Epochs, States
from snnjax.training.outputs import Outputs
from snnjax.training.spread import Clock
from snnjax.training.state import Callback, Phase, Settings, TrainState, plan

EVERY = 30.0
"""Seconds between two states that are saved within an epoch."""


class Engine:
    """Trains networks that differ only in numbers and seeds; `run` continues from any states that it has saved."""

    def __init__(
        self,
        networks: Sequence[Network],
        data: Dataset,
        settings: Settings,
        seeds: Sequence[int] | None = None,
        callback: Callback | None = None,
        names: Sequence[str] = (),
    ):
        """Raises InputError if networks, data and settings do not fit, OSError if native kernels cannot be compiled.

        `seeds` are those of the initial weights of each network, by default the one in `settings`; `names` are what
        messages call each network.
        """
        for each in networks:
            check_types(each, data, settings, callback)
        self.networks = [with_encoder(each, data) for each in networks]
        self.seeds = [settings.seed] * len(networks) if seeds is None else list(seeds)
        several = [f"network {at}" for at in range(len(networks))] if len(networks) > 1 else [""]
        self.names = names or several
        self._check(data, settings)
        batch = min(settings.update_batch, len(data.train_images))
        self.network, self.data = self.networks[0], data
        self.settings = settings = dataclasses.replace(settings, update_batch=batch)
        self.plan, self.callback = plan(self.network, settings.epochs), callback or Callback()
        self.outputs = Outputs(self.networks, data, settings, self.callback)
        self.spread = self.outputs.spread
        self._convs = [{name: conv for _, name, conv in each.layers()} for each in self.networks]
        self._save: Callable[[States], None] = lambda states: None
        self.epochs = Epochs(self.outputs, data, settings, self.seeds, self.plan)

    def _check(self, data: Dataset, settings: Settings) -> None:
        if not self.networks or len(self.seeds) != len(self.networks):
            raise InputError(f"`seeds` must be one for each network, got {len(self.seeds)} of {len(self.networks)}")
        network = self.networks[0]
        network.check()
        to_data(network, {})  # what cannot be saved is refused before training
        if len({each.structure for each in self.networks}) > 1:
            raise InputError("`networks` must differ in numbers alone, got several structures: train them by a Sweep")
        if data.classes != network.classes:
            problem = f"the network has {network.classes} classes, {data.name} has {data.classes}"
            raise InputError(f"{problem}: make it with classes={data.classes}")
        foreign.check_parts(network, data.train_images)
        if len(self.networks) > 1 and settings.patience:
            raise InputError(f"`patience` must be 0 where several networks train, got {settings.patience}")
        if settings.mirror and (width := data.train_images.shape[2]) < 2:
            raise InputError(f"`mirror` takes images of at least 2 columns, those of {data.name} have {width}")
        if settings.native:
            native.check(network.time_steps)

    def initial_states(self) -> States:
        """The states before the first image."""
        return [TrainState(each.initial_weights(seed)) for each, seed in zip(self.networks, self.seeds, strict=True)]

    def check(self, state: TrainState) -> None:
        """Raises InputError unless this training can continue from a state."""

        def compare(group: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
            if (found := {name: array.shape for name, array in getattr(state, group).items()}) != shapes:
                raise InputError(f"`{group}` must hold {shapes} for {self.network.name}, got {found}")

        compare("weights", self.network.weight_shapes)
        if state.best:
            compare("best", self.network.weight_shapes)
        if not 0 <= state.phase <= len(self.plan) or min(state.done, state.shown) < 0:
            raise InputError(f"`phase` must lie in 0..{len(self.plan)}, got {state.phase}; `done` {state.done}")
        if state.learning and state.phase < len(self.plan):
            fresh = _flat(self.epochs.fresh(state, 0))
            compare("learning", {name: array.shape for name, array in fresh.items()})

    def run(self, states: States, save: Callable[[States], None] = lambda states: None) -> States:
        """Trains all networks, which are in the same phase, to the end; changes and returns the states.

        Of several processes, all go on from the states of the first. `save` is called after each epoch and each phase,
        and every `EVERY` seconds within an epoch, when `shown` is above 0. Before it is called, raises DivergedError
        where a learner has led weights or numbers out of their range, InputError where another part of a user's own
        has returned what it may not.
        """
        self._save = save
        self.outputs.forget()  # what an interrupted run has left: these states lack its diagnoses
        for state, first in zip(states, processes.share(states), strict=True):
            vars(state).update(vars(first))
        if states[0].phase < len(self.plan) and fitting.fit_encoders(self.outputs, states):
            save(states)
        while states[0].phase < len(self.plan):
            phase = self.plan[states[0].phase]
            for state in states:
                state.origin = state.origin or self.fingerprint
            last = self._fit_decision if is_fitted(self.network.decision) else self._learn_supervised
            learn = self._learn_unsupervised if phase.layers else last
            if not self._over(phase, states):
                for clocks in learn(phase, states):
                    over = self._over(phase, states)
                    for clock in clocks:
                        self.outputs.finish(clock, states, over)
                    if over and len(states) == 1:
                        self.callback.diagnosed(phase.name, states[0].diagnoses[phase.name])
                    save(states)
            for state in states:
                self.end_phase(state)
            save(states)
        self.outputs.forget()
        return states

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies sources, versions and device."""
        return origin.fingerprint(self.network, devices.name_of(devices.peers()[0]))

    def key(self, state: TrainState) -> str:
        """A hash of all that the layers of a state's phase depend on once they have learned; "" if that is unknown."""
        phase = self.plan[state.phase]
        before = [state.keys.get(name, "") for each in self.plan[: state.phase] for name in each.layers]
        known = all(before) and state.origin in ("", self.fingerprint) and len(self.networks) == 1
        if not phase.layers or not known:
            return ""
        digest = self.data.train_digest if phase.epochs else ""
        return origin.layer_key(self.fingerprint, self.network, phase, self.settings, digest, before)

    def end_phase(self, state: TrainState) -> None:
        """Ends a state's phase; its layers get a key if sources, versions and device were the same throughout."""
        layers = self.plan[state.phase].layers
        for name in layers:
            state.keys.pop(name, None)
        if key := self.key(state):
            state.keys |= dict.fromkeys(layers, key)
        state.phase, state.done, state.learning, state.origin = state.phase + 1, 0, {}, ""

    def _start(self, phase: Phase, states: States) -> None:
        each = self.epochs.images_of(phase)
        self.callback.started(phase.name, (each * (phase.epochs - states[0].done) - states[0].shown) * len(states))

    def _take(self, phase: Phase, states: States, carries: Iterable[Any]) -> None:
        """Takes what networks have learned into their states; raises DivergedError where that of some is invalid."""
        errors, cause = dict[int, str](), None
        for at, (state, (layers, *learned)) in enumerate(zip(states, carries, strict=True)):
            state.learning = _flat(learned)
            try:
                for name, layer in layers.items():
                    self._take_layer(phase, name, layer, state, at)
            except InputError as error:
                errors[at], cause = str(error), error
        if errors:
            raise DivergedError(errors) from cause

    def _take_layer(self, phase: Phase, name: str, layer: Layer, state: TrainState, at: int) -> None:
        """Takes a layer's weights and numbers into a state, and checks them."""
        weights: Any = np.ascontiguousarray(layer.weights)
        before = state.weights[name]
        state.keep_layer(name, self._convs[at][name], weights, jax.tree.leaves(layer.conv))
        learner, which = layer.conv.each_learner[phase.learner], f" ({self.names[at]})" if self.names[at] else ""
        foreign.check_learned(self.networks[at], name, state, learner, before, which)

    def _find(self, phase: Phase, state: TrainState, carry: Any, infos: Any) -> dict[str, Any]:
        """What each layer's learner finds in the `infos` of an epoch that a state has taken in; keeps the figures."""
        (layers, learned, *_), found = carry, dict[str, Any]()
        for name in phase.layers or self.epochs.supervised_layers:
            layer = dataclasses.replace(layers[name], stored=state.weights[name], form=FAST)
            learner = layer.conv.each_learner[phase.learner]
            kind = f"{type(learner).__name__} of {name}"
            found[name] = foreign.checked_diagnosis(kind, learner.diagnose(name, layer, infos[name]))
            scalars = foreign.checked_scalars(kind, learner.scalars(learned[name]))
            state.keep_figures(phase.name, name, found[name] | scalars)
        return found

    # A decision that is fitted

    def _fit_decision(self, phase: Phase, states: States) -> Iterator[list[Clock]]:
        """Fits the decision of each network to what its stages put out for the training images, then tests it."""
        inputs = {part: self.entering(part, states) for part in ("train", self.data.tested)}
        self.outputs.forget()
        clock, labels = Clock(phase.name), self.data.train_labels
        clocks = {"train": Clock("decisions, train"), self.data.tested: Clock(self.data.tested)}
        shown = np.tile(labels, 1 + self.settings.mirror)  # mirror images come after the images
        fitting.fit_decisions(self.outputs, states, clock, inputs["train"], shown)
        inputs["train"] = inputs["train"][:, : len(labels)]
        model, decided = self.outputs.packed(self.outputs.models(states)), {}
        for part, each in inputs.items():
            decided[part], _ = self.spread.map(clocks[part], programs.decide_batch, model, each, first=phase.stage)
            foreign.check_decisions(decided[part], self.network.classes)
        for state, trained, tested in zip(states, *decided.values(), strict=True):
            state.diagnoses[phase.name] = diagnose_decisions(self.data.names, trained, {})
            self._record(state, trained, tested)
        self._tell(states)
        yield [clock, *clocks.values()]

    def _pass(self, epoch: Epoch, phase: Phase, states: States) -> tuple[Any, Any]:
        """One epoch, from where it was broken off; every now and then `run` saves where it stands."""
        before = [np.stack(each) for each in zip(*(state.found.values() for state in states), strict=True)]
        saved = time.monotonic()

        def keep(shown: int, found: Callable[[], list[np.ndarray]]) -> None:
            nonlocal saved
            if time.monotonic() - saved < EVERY:
                return
            pieces = found()
            self._take(phase, states, self.spread.unstacked(epoch.carry))
            for at, state in enumerate(states):
                state.shown, state.found = shown, {str(place): piece[at] for place, piece in enumerate(pieces)}
            self.outputs.finish(epoch.clock, states, over=False)
            self._save(states)
            saved = time.monotonic()

        result = epoch(states[0].done, states[0].shown, before, keep)
        for state in states:
            state.shown, state.found = 0, {}
        return result

    # Layers that learn without labels

    def _learn_unsupervised(self, phase: Phase, states: States) -> Iterator[list[Clock]]:
        epoch = self.epochs.of(phase, states, self.outputs.entering("train", phase.stage, states))
        self._start(phase, states)
        while not self._over(phase, states):
            parts = self.spread.unstacked(self._pass(epoch, phase, states))
            self._take(phase, states, (carry for carry, _ in parts))
            for state, (carry, infos) in zip(states, parts, strict=True):
                state.diagnoses[phase.name] = by_layer(self._find(phase, state, carry, infos))
                state.done += 1
            yield [epoch.clock]

    # Layers that learn with labels

    def entering(self, part: str, states: States) -> np.ndarray:
        """What enters the first supervised stage, of "train" or the tested images."""
        first = self.network.first_supervised
        timed = first < len(self.network.stages) - 1 or self.network.decision.timed
        return self.outputs.entering(part, first, states, timed)

    def _learn_supervised(self, phase: Phase, states: States) -> Iterator[list[Clock]]:
        inputs = {part: self.entering(part, states) for part in ("train", self.data.tested)}
        self.outputs.forget()
        epoch, test_clock = self.epochs.of(phase, states, inputs["train"]), Clock(self.data.tested)
        self._start(phase, states)
        while not self._over(phase, states):
            carry, (decisions, infos) = self._pass(epoch, phase, states)
            parts = self.spread.unstacked((carry, infos))
            self._take(phase, states, (carried for carried, _ in parts))
            tested = self.test(test_clock, epoch.own["model"], carry[0], inputs[self.data.tested])
            decided = self.spread.unstacked((decisions, tested))
            for state, part, (trained, each) in zip(states, parts, decided, strict=True):
                found = self._find(phase, state, *part)
                state.diagnoses[phase.name] = diagnose_decisions(self.data.names, trained, found)
                self._record(state, trained, each)
            self._tell(states)
            yield [epoch.clock, test_clock]

    def _tell(self, states: States) -> None:
        records = [state.epochs[-1] for state in states]
        mean = jax.tree.map(lambda *each: float(np.mean(each)), *records)
        self.callback.tested(dict(mean, epoch=records[0]["epoch"]))

    def _record(self, state: TrainState, decisions: np.ndarray, tested: np.ndarray) -> None:
        """Ends a supervised epoch, given the decisions on the training images and on those tested."""
        decided = {"train": decisions, self.data.tested: tested}
        parts = {part: fractions(each, getattr(self.data, f"{part}_labels")) for part, each in decided.items()}
        state.epochs.append(dict(epoch=state.done, **parts))
        if state.best_epoch == state.done:
            state.best, state.best_numbers = dict(state.weights), dict(state.numbers)
        state.done += 1

    def test(self, clock: Clock, model: Any, layers: dict[str, Layer], inputs: np.ndarray) -> Any:
        """Decisions on the tested images by the `model` of an epoch with these supervised layers, from `entering`."""
        learned = {}
        for name, layer in layers.items():
            form = model.layers[name].form
            if layer.form is not form:
                layer = self.spread.stacked([each.packed(form) for each in self.spread.unstacked(layer)])
            learned[name] = dataclasses.replace(layer, within=False)
        updated, first = model.updated(learned), self.network.first_supervised
        return self.spread.map(clock, programs.decide_batch, updated, inputs, first=first)[0]

    def _over(self, phase: Phase, states: States) -> bool:
        state, patience = states[0], 0 if phase.layers else self.settings.patience
        return state.done >= phase.epochs or 0 < patience < state.done - 1 - state.best_epoch

    def test_best(self, states: States) -> list[dict[str, float]]:
        """`fractions` of the best network of each state on the test images."""
        decisions, _ = self.predict([state.trained for state in states], self.data.test_images)
        return [fractions(each, self.data.test_labels) for each in decisions]

    def predict(self, states: States, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decisions, (networks, N) int32, -1 where silent, and scores, (networks, N, classes) float32, on images.

        Those of the networks with `rounded_weights`, as they are saved. Raises InputError where a decision of a user's
        own returns what it may not.
        """
        rounded = []
        for state, network in zip(states, self.networks, strict=True):
            described = state.network(network)
            check_fitted(described)
            rounded.append(TrainState(rounded_weights(described, state.weights), state.numbers))
        forms = fast.deciding(self.network, self.settings, scores=True)
        models = self.outputs.packed(self.outputs.models(rounded), forms)
        static: dict[str, Any] = dict(first=0, encode=True, native=self.settings.native)
        decisions, scores = self.spread.map(Clock(""), programs.decide_batch, models, images, **static)
        foreign.check_decisions(decisions, self.network.classes)
        foreign.check_scores(scores)
        return decisions, scores


def check_types(network: object, data: object, settings: object, callback: object = None) -> None:
    """Raises InputError where an argument of a training is of another type."""
    if not isinstance(network, Network):
        made = "network.spec" if hasattr(network, "spec") else f"{getattr(network, '__name__', 'Network')}(...)"
        raise wrong_type("network", "a Network", network, made)
    if not isinstance(data, Dataset):
        arrays = "name, train_images, train_labels, test_images, test_labels"
        raise wrong_type("data", "a Dataset", data, f"snnjax.data.Dataset({arrays})")
    if not isinstance(settings, Settings):
        raise wrong_type("settings", "Settings", settings, "Settings(epochs=(...))")
    if not isinstance(callback, Callback | None):
        raise wrong_type("callback", "a Callback or None", callback)


def with_encoder(network: Network, data: Dataset) -> Network:
    """The network with an encoder: its own, or that of the data."""
    if network.encoder is not None:
        return network
    return dataclasses.replace(network, encoder=dataclasses.replace(data.encoder, time_steps=network.time_steps))


def _flat(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree by their paths, in order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}

"""The training loop: networks learn phase by phase and epoch by epoch."""

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from snnjax.core import checks, metrics
from snnjax.core.errors import InputError
from snnjax.core.paths import changed_leaves, leaves
from snnjax.data import Dataset
from snnjax.kernels import use_backend
from snnjax.layers.conv import Conv
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.batches import decide_batch
from snnjax.networks.images import with_encoder
from snnjax.networks.model import check_decides, check_fitted, rounded_weights
from snnjax.training import contracts, fitting
from snnjax.training import epoch_results as results
from snnjax.training.job import Job, Phase, check_shapes, check_types, check_weights
from snnjax.training.learning import Carry, StepResult, is_pair
from snnjax.training.learning_phase import LearningPhase, begin_phase, carry_at_start, joined
from snnjax.training.placement import blank_model
from snnjax.training.stage_cache import StageCache
from snnjax.training.start import WarmStart
from snnjax.training.state import Callback, Settings, States, TrainState
from snnjax.training.timer import Timer

State = TypeVar("State", TrainState, States)
"""The state of one network, or a list with the state of each of several networks."""


SAVE_INTERVAL_S = 30.0
"""The time between two saves within an epoch, in seconds."""


class Trainer:
    """Trains a network on a data set, or several networks side by side that differ only in numbers and seeds.

    `run` continues from any state that an earlier `run` has saved. Several networks stop together, so that
    `settings.patience` must be 0.

    Attributes:
      job: the networks, the data, the settings and the phases of the training run.
      warm_start: the layers of a trained network that the run starts with; None if it starts with initial weights.
      cache: keeps the inputs of each stage.

    Examples:
      >>> import snnjax
      >>> from snnjax import RSTDP, Conv, Network, Trainer, stage
      >>> network = Network("templates", (6, 28, 28), 10, (stage(Conv(20, kernel=28, learners=RSTDP())),), epochs=3)
      >>> trainer = Trainer(network, snnjax.data.digits().subset(200, 100))
      >>> state = trainer.run(trainer.initial_state())
      >>> state.epochs[-1]["test"]["accuracy"] > 0.5
      True
      >>> trained = trainer.trained(state)  # a SpikingNetwork
    """

    def __init__(
        self,
        network: Network | Sequence[Network],
        data: Dataset,
        settings: Settings | None = None,
        callback: Callback | None = None,
        start: SpikingNetwork | None = None,
        seeds: Sequence[int] | None = None,
        learn: Sequence[str] | None = None,
        add_classes: bool = False,
    ):
        """Raises InputError unless network, data and settings fit, OSError if `backend` native cannot be compiled.

        `settings` defaults to `Settings.of(network, data)`. `seeds` contains the seed of each network's initial
        weights; the default is the seed in the settings. `start` is a trained network, as `snnjax.load` returns it. Its
        encoder and its layers before the first supervised one are used as they are. If the data have the same classes,
        its later layers continue to learn. If the classes differ, these layers are reinitialised, unless `add_classes`
        is set: then they keep their neurons and get additional ones for the new classes. `learn` names the stages that
        learn; the default is the first supervised stage and all later ones. Raises InputError if the layers of `start`
        differ from those of the network.
        """
        networks: list[Any] = list(network) if isinstance(network, list | tuple) else [network]
        check_types(networks, data, settings, callback)
        self.warm_start = None
        if start is not None:
            if len(networks) > 1:
                raise InputError(f"`start` is for one network, got {len(networks)}")
            encoded = with_encoder(networks[0], data)
            self.warm_start = WarmStart.of(encoded, data.names, start, learn, add_classes)
            if self.warm_start.rules:
                layers = ", ".join(self.warm_start.frozen)
                warnings.warn(f"`start` gives {layers}, of other settings: {self.warm_start.rules}", stacklevel=2)
            networks = [self.warm_start.network]
        elif learn is not None or add_classes:
            raise InputError("`learn` (--learn) and `add_classes` (--add_classes) need `start` (--from), got none")
        if settings is None:
            settings = Settings.of(networks[0], data)
            if len(networks) > 1:
                settings = dataclasses.replace(settings, patience=0)
        seeds = [settings.seed] * len(networks) if seeds is None else list(seeds)
        frozen = () if self.warm_start is None else self.warm_start.frozen
        self.job = Job(networks, data, settings, seeds, callback or Callback(), frozen)
        self.cache = StageCache(self.job)

    @property
    def network(self) -> Network:
        """The network before it learns; the first one if there are several."""
        return self.job.network

    @property
    def data(self) -> Dataset:
        """The data set."""
        return self.job.data

    @property
    def settings(self) -> Settings:
        """The settings of the training run."""
        return self.job.settings

    @property
    def callback(self) -> Callback:
        """The callback that receives the events of the training run; it can be replaced."""
        return self.job.callback

    @callback.setter
    def callback(self, callback: Callback) -> None:
        self.job.callback = callback

    def _learned_before(self) -> list[str]:
        """The layers that learn thresholds or moments although they already have one per feature or channel."""
        learned = {name for phase in self.job.phases if phase.epochs for name in phase.layers}
        if self.warm_start is not None:
            learned -= self.warm_start.weights.keys()
        names = []
        for _, name, conv in self.job.network.layers():
            given = conv.own_thresholds and conv.threshold is not None and np.ndim(conv.threshold)
            moments = conv.minibatch and conv.standardise is not None and np.ndim(conv.standardise.mean)
            if name in learned and (given or moments):
                names.append(name)
        return names

    def initial_state(self, index: int = 0) -> TrainState:
        """The state of network `index` before the first image."""
        if learned := self._learned_before():
            problem = f"`network` has numbers that are learned in {', '.join(learned)}, as if it had learned already"
            warnings.warn(f"{problem}: to train it from the start, take `load(run).untrained`", stacklevel=2)
        state = TrainState(self.job.networks[index].initial_weights(self.job.seeds[index]))
        if self.warm_start is not None:
            state.weights = self.warm_start.put_into(state.weights)
        return state

    def run(self, state: State, save: Callable[[State], None] = lambda state: None, phases: int | None = None) -> State:
        """Trains to the end, starting from a state; changes this state and returns it.

        For several networks, `state` is a list with one state per network, all in the same phase. `save` is called with
        it after each epoch and phase, and every `SAVE_INTERVAL_S` seconds within an epoch, when `state.shown` is above
        0. Before a state is saved, DivergedError is raised if a learner has led weights or numbers out of their range,
        and InputError if another component is wrong. `phases` is the number of phases of the job after which to stop;
        by default all phases are run.
        """
        states: Any = [state] if isinstance(state, TrainState) else state
        keep = functools.partial(save, state)
        self.cache.clear()  # of an interrupted run's inputs: these states lack their diagnoses
        with use_backend(self.job.settings.backend):
            if states[0].phase < len(self.job.phases[:phases]) and fitting.fit_encoders(self.job, states):
                keep()
            for phase in self.job.phases[states[0].phase : phases]:
                if not self._is_over(phase, states):
                    self._run_phase(phase, states, keep)
                self._end_phase(phase, states)
                keep()
        self.cache.clear()
        return state

    def _end_phase(self, phase: Phase, states: States) -> None:
        if fitting.unfitted_ramp(self.job, phase, states):
            inputs = self._inputs(phase, states)[self.job.learned_part(phase)]
            fitting.fit_ramps(self.job, phase, states, inputs)
        for state in states:
            state.phase += 1
            state.done = 0
            state.learning = {}

    def _run_phase(self, phase: Phase, states: States, save: Callable[[], None]) -> None:
        if self.job.network.decision is None and not phase.layers:
            self.cache.diagnose_features(phase, states)
            return
        inputs = self._inputs(phase, states)
        if not phase.layers:
            timers = fitting.fit_decisions(self.job, phase, states, inputs)
            self._report(phase, states, timers)
            save()
            return
        learned_inputs = inputs[self.job.learned_part(phase)]
        if phase.supervised and not (states[0].done or states[0].shown):
            fitting.fit_thresholds(self.job, phase, states, learned_inputs)
        learning_phase = begin_phase(self.job, phase, states, learned_inputs)
        # An interrupted epoch has learned from some images already: without subtracting them, the progress bar would
        # not reach its end.
        remaining = phase.images * (phase.epochs - states[0].done) - states[0].shown
        self.job.callback.started(phase.name, remaining * len(states))
        keep = functools.partial(self._save_within, states, learning_phase, save)
        while not self._is_over(phase, states):
            before = [state.results for state in states]
            report = self.job.callback.advanced
            learned = run_epoch(
                learning_phase,
                epoch=states[0].done,
                images_done=states[0].shown,
                before=before,
                report=report,
                save=keep,
            )
            timers = self._record_epoch(states, learning_phase, learned, inputs)
            self._report(phase, states, timers)
            save()

    def _is_over(self, phase: Phase, states: States) -> bool:
        """Whether a phase has had all its epochs, or has not improved for too long."""
        state = states[0]
        patience = self.job.settings.patience if phase.supervised else 0
        # As in aidinattar/snn, a run stops once its best epoch lies more than `patience` epochs back.
        return state.done >= phase.epochs or 0 < patience < state.done - 1 - state.best_epoch

    def _inputs(self, phase: Phase, states: States) -> dict[str, Any]:
        """`StageCache.inputs` of a phase by part; only one part if the layers learn without labels."""
        learned = self.job.learned_part(phase)
        if not phase.supervised:
            return {learned: self.cache.inputs(phase, learned, states)}
        if self.job.unsupervised != learned:
            self.cache.clear(self.job.unsupervised)
        inputs = {part: self.cache.inputs(phase, part, states) for part in (learned, self.job.data.tested)}
        self.cache.clear()
        return inputs

    def _save_within(
        self, states: States, learning_phase: LearningPhase, save: Callable[[], None], images_done: int, result: Any
    ) -> None:
        """Saves an unfinished epoch, after `images_done` images, with their `result`."""
        self._record_learned(learning_phase.phase, states, learning_phase.carry, images_done, result)
        self.job.finish(learning_phase.timer, states, over=False)
        save()

    def _record_learned(
        self, phase: Phase, states: States, carry: Carry, images_done: int = 0, result: Any = ()
    ) -> list[Carry]:
        """Records in the states what the networks have learned, which it returns, one carry per network.

        In an unfinished epoch, `images_done` is the number of its images so far, and `result` is that for these images.
        """
        carries = self.job.placement.unstack(carry)
        results.record_learned(phase, states, self.job.networks, carries)
        for state, arrays in zip(states, self.job.placement.unstack(result), strict=True):
            state.shown = images_done
            state.results = dict(arrays)
        return carries

    def _record_epoch(
        self, states: States, learning_phase: LearningPhase, learned: tuple[Carry, StepResult], inputs: Any
    ) -> list[Timer]:
        """Ends an epoch of each network, given what `run_epoch` returned; tests supervised layers.

        Returns the timers of the epoch and of the test.
        """
        phase = learning_phase.phase
        timers = [learning_phase.timer]
        carries = self._record_learned(phase, states, learned[0])
        step_results = self.job.placement.unstack(learned[1])
        diagnoses = [results.record_figures(phase, *args) for args in zip(states, carries, step_results, strict=True)]
        if not phase.supervised:
            for state, diagnosis in zip(states, diagnoses, strict=True):
                state.diagnoses[phase.name] = diagnosis
                state.done += 1
            return timers
        timers.append(Timer(self.job.data.tested))
        tested = self.job.placement.unstack(learning_phase.test(timers[1], inputs[self.job.data.tested]))
        for state, result, decisions, diagnosis in zip(states, step_results, tested, diagnoses, strict=True):
            results.record_decisions(phase, state, self.job.data, result.decisions, decisions, diagnosis)
        return timers

    def _report(self, phase: Phase, states: States, timers: list[Timer]) -> None:
        over = self._is_over(phase, states)
        if phase.supervised:
            records = [state.epochs[-1] for state in states]
            mean = jax.tree.map(lambda *values: float(np.mean(values)), *records)
            self.job.callback.tested(dict(mean, epoch=records[0]["epoch"]))
        for timer in timers:
            self.job.finish(timer, states, over)
        if over and len(states) == 1:
            self.job.callback.diagnosed(phase.name, states[0].diagnoses[phase.name])

    def predict(self, state: TrainState | States, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decisions and scores of the best network of a state on N images like those of the data, as it is saved.

        (N,) int32, -1 where silent, and (N, classes) float32, the score of each class; of several states, (networks,
        N) and (networks, N, classes). Raises InputError if images are not of 0..255, where a state is from before
        the fit of an encoder, a ramp or a decision, or a custom decision returns invalid values.
        """
        checks.pixels("images", images, getattr(self.job.network.encoder, "scale", 1.0))
        states = [state] if isinstance(state, TrainState) else state
        rounded = []
        for best, network in zip([state.trained for state in states], self.job.networks, strict=True):
            learned = best.network(network)
            check_decides(learned)
            check_fitted(learned)
            rounded.append(TrainState(rounded_weights(learned, best.weights), best.learned_params))
        models = self.job.placement.stack(self.job.models(rounded))
        with use_backend(self.job.settings.backend):
            decisions, scores = self.job.placement.map(Timer(""), decide_batch, models, images, encode=True)
        contracts.check_decisions(decisions, self.job.network.classes)
        contracts.check_scores(scores)
        return (decisions[0], scores[0]) if isinstance(state, TrainState) else (decisions, scores)

    def test(self, state: TrainState) -> dict[str, Any]:
        """The result of the best network of a state on the test images.

        Returns accuracy, wrong and silent as fractions, and all else that `metrics.report` has, as in results.json.
        Raises InputError as `predict`.
        """
        return self.test_with_decisions(state)[0]

    def test_with_decisions(self, state: TrainState) -> tuple[dict[str, Any], np.ndarray]:
        """What `test` returns, and the decision on each test image, (N,) int32, -1 where silent."""
        decisions, scores = self.predict(state, self.job.data.test_images)
        return metrics.report(decisions, self.job.data.test_labels, scores), decisions

    def trained(self, state: TrainState, index: int = 0) -> SpikingNetwork:
        """The best network of a state of network `index`, ready to call on images."""
        best = state.trained
        untrained = self.job.networks[index]
        network = best.network(untrained)
        names = () if untrained.decision is None else self.job.data.names
        initial = changed_leaves(untrained, network)
        if self.warm_start is not None:
            initial |= self.warm_start.initial
        weights = rounded_weights(network, best.weights)
        return SpikingNetwork(network, weights=weights, class_names=names, initial=initial)

    def check_state(self, state: TrainState) -> None:
        """Raises InputError unless the training can continue from a state."""
        network = self.job.network
        check_weights(network, state)
        if state.learning and state.phase < len(self.job.phases):
            carry = carry_at_start(self.job, state, 0)
            fresh = results.learning_arrays(carry.states, carry.counts)
            shapes = {name: array.shape for name, array in fresh.items()}
            check_shapes(network, state, "learning", shapes)

    def layers_without_native(self) -> list[str]:
        """Spiking layers that learn without a compiled sequence kernel, with their rules: "layer1 (Rule)", ..."""
        layers = blank_model(self.job.network).layers
        names = []
        for phase in self.job.phases:
            if phase.update_batch == 1 and phase.layers and is_pair(phase, self.job.network):
                continue
            for name in phase.layers:
                layer = layers[name]
                learner = layer.conv.each_learner[phase.learner]
                if not layer.conv.ramped and not learner.supports_native(layer, phase.update_batch):
                    names.append(_with_rule(name, layer.conv, phase))
        return names

    def sequential_layers(self, state: TrainState) -> list[str]:
        """The layers, with their rules, that will learn from one image at a time on an accelerator, which is slow."""
        if self.job.placement.platform == "cpu":
            return []
        convs = {name: conv for _, name, conv in self.job.network.layers()}
        names = []
        for phase in self.job.phases[state.phase :]:
            if phase.update_batch == 1 and phase.epochs and not phase.minibatch_size:
                names += [_with_rule(name, convs[name], phase) for name in phase.layers]
        return names


def _with_rule(name: str, conv: Conv, phase: Phase) -> str:
    """The name of a layer, followed by the rule by which it learns in a phase."""
    return f"{name} ({type(conv.each_learner[phase.learner]).__name__})"


def run_epoch(
    learning_phase: LearningPhase,
    epoch: int = 0,
    images_done: int = 0,
    before: Sequence[Mapping[str, np.ndarray]] = (),
    report: Callable[[int, int], None] = lambda images, correct: None,
    save: Callable[[int, dict[str, np.ndarray]], None] = lambda images_done, results: None,
) -> tuple[Carry, StepResult]:
    """Learns from the images of an epoch; returns the carry and the results, NumPy arrays (networks, N, ...).

    Infos are in the order in which the images were shown, decisions in the order of the data.

    Args:
      learning_phase: the phase; its carry is replaced by the one after this epoch.
      epoch: the number of the epoch, counted from 0.
      images_done: the number of images that an interrupted epoch has learned from already.
      before: the results for these images, by network and path.
      report: is called after each batch with the number of its images and of the correct decisions on them.
      save: is called between batches, every `SAVE_INTERVAL_S` seconds, with the number of images done and the results.
    """
    before = before if images_done else ()
    order = learning_phase.images.order_in(epoch)
    results_of_batches: list[StepResult] = []
    saved = time.monotonic()
    for batch in learning_phase.batches:
        if batch.stop <= images_done:
            continue
        first = max(batch.start, images_done)  # an interrupted epoch may have ended within a batch
        result, correct = learning_phase.learn_batch(batch, first, order)
        report((batch.stop - first) * learning_phase.placement.count, correct)
        results_of_batches.append(result)
        if batch.stop < learning_phase.phase.images and time.monotonic() - saved >= SAVE_INTERVAL_S:
            save(batch.stop, leaves(joined(results_of_batches, before)))
            saved = time.monotonic()
    return learning_phase.carry, learning_phase.in_order_of_data(joined(results_of_batches, before), order)

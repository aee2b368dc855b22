"""The training loop: takes networks through the phases of their plan, epoch by epoch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core import checks
from snnjax.core.metrics import fractions
from snnjax.data import Dataset
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.batches import decide_batch
from snnjax.networks.model import check_fitted, rounded_weights
from snnjax.steps import deciding
from snnjax.steps.plain import Carry
from snnjax.training import arguments, contracts, fitting
from snnjax.training import epoch_results as results
from snnjax.training.epoch import EpochRunner
from snnjax.training.phase_runners import PhaseRunners
from snnjax.training.placement import Timer
from snnjax.training.stage_cache import StageCache
from snnjax.training.start import take
from snnjax.training.state import Callback, Phase, Settings, States, TrainState, plan


class Training:
    """Trains networks that differ only in numbers and seeds; `run` continues from any states that it has saved.

    Several stop together: `settings.patience` must be 0.

    Attributes:
      networks: the descriptions, with their encoders.
      plan: the phases of the training, in order.
      cache: of the inputs of each stage; its `callback` receives the training's events.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        data: Dataset,
        settings: Settings,
        seeds: Sequence[int] | None = None,
        callback: Callback | None = None,
    ):
        """Raises InputError if networks, data and settings do not fit, OSError if native kernels cannot be compiled.

        `seeds` are for the initial weights of each network, by default the one in `settings`.
        """
        arguments.check_types(networks, data, settings, callback)
        self.seeds = [settings.seed] * len(networks) if seeds is None else list(seeds)
        self.networks = [arguments.with_encoder(network, data) for network in networks]
        arguments.check_networks(self.networks, data, settings, self.seeds)
        self.network = self.networks[0]
        self.data = data
        self.settings = settings
        self.plan = plan(self.network, settings.epochs)
        self.cache = StageCache(self.networks, data, self.settings, callback or Callback())
        self.runners = PhaseRunners(self.cache, data, self.settings, self.seeds, self.plan)

    def initial_states(self) -> States:
        """The states before the first image."""
        return [TrainState(x.initial_weights(seed)) for x, seed in zip(self.networks, self.seeds, strict=True)]

    def run(self, states: States, save: Callable[[States], None] = lambda states: None) -> States:
        """Trains all networks, which are in the same phase, to the end; changes and returns the states.

        `save` is called after each epoch and phase, and within an epoch every `epoch.EVERY` seconds, when `shown` is
        above 0. Before that, raises DivergedError where a learner has led weights or numbers out of their range,
        InputError where another component is wrong.
        """
        cache = self.cache
        cache.clear()  # of an interrupted run's inputs: these states lack their diagnoses
        if states[0].phase < len(self.plan) and fitting.fit_encoders(cache, states):
            save(states)
        while states[0].phase < len(self.plan):
            phase = self.plan[states[0].phase]
            inputs = {} if self._is_over(phase, states) else self._inputs(phase, states)
            part = cache.learned_part(phase)
            if inputs and not (phase.layers or phase.fits or states[0].done or states[0].shown):
                fitting.fit_thresholds(cache, phase, states, inputs[part])
            runner = self._runner(phase, states, inputs[part]) if inputs and not phase.fits else None
            while not self._is_over(phase, states):
                if runner is None:
                    timers = fitting.fit_decisions(cache, self.data, phase, states, inputs)
                else:
                    before = [state.results for state in states]
                    keep = functools.partial(self._save_within, phase, states, runner, save)
                    learned = runner.run(states[0].done, states[0].shown, before, cache.callback.advanced, keep)
                    timers = self._take_epoch(phase, states, runner, learned, inputs)
                self._report(phase, states, timers)
                save(states)
            for state in states:
                state.phase += 1
                state.done = 0
                state.learning = {}
            save(states)
        cache.clear()
        return states

    def _is_over(self, phase: Phase, states: States) -> bool:
        """Whether a phase has had all its epochs, or has not improved for too long."""
        state = states[0]
        patience = 0 if phase.layers else self.settings.patience
        return state.done >= phase.epochs or 0 < patience < state.done - 1 - state.best_epoch

    def _inputs(self, phase: Phase, states: States) -> dict[str, Any]:
        """`inputs` of a phase by part: of one part alone where layers learn without labels."""
        learned = self.cache.learned_part(phase)
        if phase.layers:
            return {learned: self.inputs(phase, learned, states)}
        if self.cache.unsupervised != learned:
            self.cache.clear(self.cache.unsupervised)
        inputs = {part: self.inputs(phase, part, states) for part in (learned, self.data.tested)}
        self.cache.clear()
        return inputs

    def inputs(self, phase: Phase, part: str, states: States) -> Any:
        """What enters the layers that learn in a phase, of a part of the images, as of `StageCache.inputs`."""
        if phase.layers:
            return self.cache.inputs(part, phase.stage, states, last=max(phase.stage, phase.end - 1))
        last = len(self.network.stages) - 1
        timed = phase.stage < last or self.network.decision.timed
        return self.cache.inputs(part, phase.stage, states, last=max(phase.stage, last), timed=timed)

    def _runner(self, phase: Phase, states: States, inputs: Any) -> EpochRunner:
        """The runner of a phase's epochs, which begins."""
        remaining = self.runners.images(phase) * (phase.epochs - states[0].done) - states[0].shown
        runner = self.runners.of_phase(phase, states, inputs)
        self.cache.callback.started(phase.name, remaining * len(states))
        return runner

    def _save_within(
        self, phase: Phase, states: States, runner: EpochRunner, save: Callable[[States], None], shown: int, result: Any
    ) -> None:
        """Saves an unfinished epoch, after `shown` images, with their `result`."""
        self._take_learned(phase, states, runner.carry, shown, result)
        self.cache.finish(runner.timer, states, over=False)
        save(states)

    def _take_learned(
        self, phase: Phase, states: States, carry: Carry, shown: int = 0, result: Any = ()
    ) -> list[Carry]:
        """Takes what networks have learned into their states, with the results of an unfinished epoch; unstacked."""
        carries = self.cache.placement.unstack(carry)
        results.take_learned(phase, states, self.networks, carries)
        for state, arrays in zip(states, self.cache.placement.unstack(result), strict=True):
            state.shown = shown
            state.results = dict(arrays)
        return carries

    def _take_epoch(self, phase: Phase, states: States, runner: EpochRunner, learned: Any, inputs: Any) -> list[Timer]:
        """Ends an epoch of each network; tests supervised layers. Returns the timers of both."""
        timers = [runner.timer]
        carries = self._take_learned(phase, states, learned[0])
        step_results = self.cache.placement.unstack(learned[1])
        diagnoses = [results.take_figures(phase, *args) for args in zip(states, carries, step_results, strict=True)]
        if phase.layers:
            for state, diagnosis in zip(states, diagnoses, strict=True):
                state.diagnoses[phase.name] = diagnosis
                state.done += 1
            return timers
        timers.append(Timer(self.data.tested))
        tested = self.cache.placement.unstack(self.runners.test(timers[1], runner, inputs[self.data.tested]))
        for state, result, decisions, diagnosis in zip(states, step_results, tested, diagnoses, strict=True):
            results.take_decisions(phase, state, self.data, result.decisions, decisions, diagnosis)
        return timers

    def _report(self, phase: Phase, states: States, timers: list[Timer]) -> None:
        over = self._is_over(phase, states)
        if not phase.layers:
            records = [state.epochs[-1] for state in states]
            mean = jax.tree.map(lambda *values: float(np.mean(values)), *records)
            self.cache.callback.tested(dict(mean, epoch=records[0]["epoch"]))
        for timer in timers:
            self.cache.finish(timer, states, over)
        if over and len(states) == 1:
            self.cache.callback.diagnosed(phase.name, states[0].diagnoses[phase.name])

    def predict(self, states: Sequence[TrainState], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decisions, (networks, N) int32, -1 where silent, and scores, (networks, N, classes) float32, on images.

        Those of the networks with `rounded_weights`, as they are saved. Raises InputError where images are not of
        0..255, or a custom decision returns invalid values.
        """
        checks.pixels("images", images, getattr(self.network.encoder, "scale", 1.0))
        rounded = []
        for state, network in zip(states, self.networks, strict=True):
            described = state.network(network)
            check_fitted(described)
            rounded.append(TrainState(rounded_weights(described, state.weights), state.numbers))
        native = self.settings.native
        kernels = deciding.deciding_kernels(self.network, native=native)
        models = self.cache.pack(self.cache.models(rounded), kernels)
        decisions, scores = self.cache.placement.map(
            Timer(""), decide_batch, models, images, encode=True, native=native
        )
        contracts.check_decisions(decisions, self.network.classes)
        contracts.check_scores(scores)
        return decisions, scores

    def test_best(self, states: Sequence[TrainState]) -> list[dict[str, float]]:
        """`fractions` of the best network of each state on the test images."""
        decisions, _ = self.predict([state.trained for state in states], self.data.test_images)
        return [fractions(x, self.data.test_labels) for x in decisions]


class Trainer:
    """Trains one network on one data set; `run` continues from any state that it has left.

    Attributes:
      network: the description, as it is trained.
      plan: the phases, in order.
      taken: the first layers of a trained network, which do not learn; None: all layers learn.
    """

    def __init__(
        self,
        network: Network,
        data: Dataset,
        settings: Settings,
        callback: Callback | None = None,
        start: SpikingNetwork | None = None,
    ):
        """Raises InputError unless network, data and settings fit, OSError where native kernels do not compile.

        `start` is a trained network, as `snnjax.load` returns it: its encoder and its layers before the first that
        needs labels are taken as they are, and only the others learn. Raises InputError where it has no such layers, or
        others than the network.
        """
        self.taken = None
        if start is not None:
            arguments.check_types([network], data, settings, callback)
            self.taken = take(arguments.with_encoder(network, data), start)
            network = self.taken.network
        self.training = Training([network], data, settings, callback=callback)
        self.network = self.training.network
        self.plan = self.training.plan
        self.data = data
        self.settings = settings

    @property
    def callback(self) -> Callback:
        """Receives the training's events; another one may be set."""
        return self.training.cache.callback

    @callback.setter
    def callback(self, callback: Callback) -> None:
        self.training.cache.callback = callback

    def initial_state(self) -> TrainState:
        """The state before the first image, after the phases of the layers that are taken."""
        state = self.training.initial_states()[0]
        if self.taken is not None:
            state.weights |= self.taken.weights
            names = self.taken.weights.keys()
            state.phase = sum(bool(phase.layers) and names >= {*phase.layers} for phase in self.plan)
        return state

    def run(self, state: TrainState, save: Callable[[TrainState], None] = lambda state: None) -> TrainState:
        """Trains to the end from a state, which it changes and returns.

        `save` is called with it after each epoch and each phase, and every half minute within an epoch, where
        `state.shown` is above 0.
        """
        return self.training.run([state], lambda states: save(states[0]))[0]

    def predict(self, state: TrainState, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decisions and scores of the best network of a state on N images like those of the data.

        (N,) int32, -1 where silent, and (N, classes) float32, the score of each class. Raises InputError where
        the state is from before the fit of an encoder or a decision.
        """
        decisions, scores = self.training.predict([state.trained], images)
        return decisions[0], scores[0]

    def trained(self, state: TrainState) -> SpikingNetwork:
        """The best network of a state, ready to call on images."""
        best = state.trained
        network = best.network(self.network)
        return SpikingNetwork(network, weights=rounded_weights(network, best.weights))

    def uncompiled(self) -> list[str]:
        """Layers that learn without compiled kernels, with their rules."""
        return self.training.runners.uncompiled()

    def one_by_one(self, state: TrainState) -> list[str]:
        """Layers that learn from now on from one image at a time on an accelerator, which is slow, with their rules."""
        return self.training.runners.one_by_one(state.phase)

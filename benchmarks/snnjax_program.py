"""The measured programs of snnjax: the programs of its training engine, and whole training runs."""

import dataclasses
import functools
import operator
import os
import time
from typing import Any

import jax
import numpy as np
from programs import Learning, MeasuredProgram, Task, Work
from spikenn_program import Readout

from snnjax import InputError, Network, Trainer, data
from snnjax.core import devices
from snnjax.export import pytorch
from snnjax.kernels import backend
from snnjax.layers.spiking import Layer
from snnjax.learners import SupervisedSTDP, TargetTime
from snnjax.networks.batches import decide_batch, encode_batch, output_batch
from snnjax.networks.decision import is_fitted
from snnjax.networks.graph import Activations
from snnjax.runs.results_file import versions
from snnjax.training import fitting
from snnjax.training.job import Phase
from snnjax.training.learning_phase import LearningPhase, begin_phase
from snnjax.training.loop import run_epoch
from snnjax.training.placement import NETWORKS, Placement, count_of, place
from snnjax.training.stage_cache import StageCache
from snnjax.training.state import Settings, TrainState
from snnjax.training.timer import Timer

# Number of images from which each layer first learns: the given images repeatedly, up to ten times. With random
# weights, a different number of neurons would fire, on which the time depends.
PREPARED = 3000
Given = tuple[Network, data.Dataset, int, TrainState | None]
"""A task: network, images, `adapt_every` of the reward phase, and the state of the trained network, if any."""


class MeasuredPlacement(Placement):
    """A placement that adds each program that does not learn to `works`, as a separate phase."""

    def __init__(self, count: int, works: dict[str, Work]):
        super().__init__(count)
        self.works = works

    def map(
        self,
        timer: Timer,
        function: Any,
        models: Any,
        images: Any,
        report: Any = lambda *_: None,
        at_least: int = 0,
        **static: Any,
    ) -> Any:
        placed = place(models, self.mapping_mesh, NETWORKS)
        run = functools.partial(super().map, timer, function, placed, images, at_least=at_least, **static)
        outputs = run()
        work = Work(count_of(images), run, compile_seconds=timer.compile_seconds)
        work.outcome = operator.itemgetter(0)  # the output of the first network
        self.works[timer.name] = work
        return outputs


class Program(MeasuredProgram):
    """snnjax on one kind of device, with one back end."""

    networks = 1  # number of networks that train side by side, from the same state
    update_batch = 1

    def __init__(self, device: str, chosen: str = "xla"):
        self.device = devices.choose(device)
        self.backend = backend.resolve(chosen, 1)
        backend.use_backend(self.backend).__enter__()  # until the process ends
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_enable_compilation_cache", False)  # since compilation is measured too
        self.about = dict(versions=versions(), device=devices.name_of(self.device), platform=self.device.platform)
        self.about["backend"] = self.backend
        self.about["processor"] = devices.name_of(jax.devices("cpu")[0]).removeprefix("cpu: ")

    def phases(self, task: Given) -> dict[str, Work]:
        """The compiled phases, which start from the state in `task`. Without one, the network first learns a little."""
        network, images, _, trained = task
        if is_fitted(network.decision):
            raise InputError(f"`model` {network.name} has a fitted decision, which cannot be measured")
        self._begin(task)
        self.encoded = self._map("encode", self.images, encode_batch)[0]
        for number, phase in enumerate(self.job.phases):
            before = {*self.works}
            inputs = self.cache.inputs(phase, "train", [self.state] * self.networks)
            for name in self.works.keys() - before:
                self.works[name].once = True
            self.works[shown(phase.name)] = self._learn(number, phase, inputs, keep=not trained)
        self._test(self.encoded[len(images.train_images) :], output=0)
        return self.works

    def _begin(self, task: Given) -> None:
        """Prepares a training run and fits its encoders, without running any phase."""
        self.network, self.data, self.adapt_every, trained = task
        # No epochs are planned, so learners count the images that they have seen from 0 in every phase.
        epochs = (0,) * len(self.network.stages)
        settings = Settings(epochs, self.adapt_every, 0, update_batch=self.update_batch)
        trainer = Trainer([self.network] * self.networks, self.data, settings)
        self.job = trainer.job
        self.cache = StageCache(self.job)
        self.works = dict[str, Work]()
        self.state = trained or trainer.initial_state()
        self.job.placement = MeasuredPlacement(self.networks, self.works)
        fitting.fit_encoders(self.job, [self.state] * self.networks)
        self.images = np.concatenate([self.data.train_images, self.data.test_images])

    def _map(self, name: str, images: Any, kind: Any, **static: Any) -> Any:
        """Adds a phase that does not learn; returns its outputs."""
        model = self.job.placement.stack(self.job.models([self.state] * self.networks))
        return self.job.placement.map(Timer(name), kind, model, images, **static)

    def _test(self, latencies: np.ndarray, output: int) -> None:
        """Adds the phase "test", in which decisions are made from an output of each test image."""
        known = Activations({output: latencies})
        self._map("test", known, decide_batch, scores=False)
        self.works["test"].outcome = lambda result: result[0][0]  # the decisions

    def epochs(self, phase: Phase) -> int:
        """The number of epochs for which the network first learns in a phase."""
        return min(10, -(-PREPARED // len(self.data.train_images)))

    def _learn(self, number: int, phase: Phase, inputs: np.ndarray, keep: bool) -> Work:
        """An epoch of a learning phase; with `keep`, it first learns, and later phases start from the result."""

        def prepare() -> tuple[LearningPhase]:
            state = dataclasses.replace(self.state, phase=number)
            return (begin_phase(self.job, phase, [state] * self.networks, inputs),)

        def learned(result: Any) -> dict[str, Layer]:
            carry = self.job.placement.unstack(result[0])[0]
            return carry.layers

        (learning_phase,) = prepare()
        for _ in range(self.epochs(phase) if keep else 1):
            last_result = run_epoch(learning_phase)
        if keep:
            convs = {name: conv for _, name, conv in self.network.layers()}
            for name, layer in learned(last_result).items():
                self.state.keep_layer(name, convs[name], np.asarray(layer.weights), jax.tree.leaves(layer.conv))
        images = len(self.data.train_images)
        work = Work(images, run_epoch, prepare, compile_seconds=learning_phase.timer.compile_seconds)
        work.outcome = lambda result: list(learned(result).values())[-1].weights
        work.initial = lambda: self.state.weights[list(learned(last_result))[-1]]
        work.unit = phase.minibatch_size or phase.update_batch
        return work

    def task(self) -> Any:
        """The task for the other programs, after the network has learned."""
        network = self.network
        images = self.data
        blocks = pytorch.blocks_of(network)
        last = list(self.state.weights)[-1]
        learning = []
        for phase in self.job.phases:
            name = last if phase.supervised else phase.layers[0]
            names = network.names[phase.first]
            branch = () if phase.supervised or len(names) == 1 else (names.index(name),)
            learning.append(Learning(shown(phase.name), phase.first, blocks[name], branch, phase.supervised))
        learned = sum(any(conv.each_learner for conv in stage.branches) for stage in network.stages)
        described = (network.name, network.classes, network.time_steps, learned, learning)
        stimuli = (self.images, self.encoded, images.train_labels, images.test_labels)
        weights = {blocks[name]: value for name, value in self.state.weights.items()}
        return Task(*described, *stimuli, weights, self.adapt_every)

    def trained(self) -> TrainState:
        """The state of the trained network, from which all programs start."""
        return self.state

    def train(self, network: Network, images: data.Dataset, settings: Settings) -> dict[str, Any]:
        """Measures a whole training run: seconds, compile_seconds, accuracy, and ms_per_image by phase."""
        start = time.perf_counter()
        trainer = Trainer(network, images, settings)
        state = trainer.run(trainer.initial_state())
        seconds = time.perf_counter() - start
        compiling = sum(phase["compile_seconds"] for phase in state.phases)
        ms = {shown(phase["name"]): 1e3 * phase["seconds"] / phase["images"] for phase in state.phases}
        accuracy = state.epochs[-1]["test"]["accuracy"]
        return dict(seconds=seconds, compile_seconds=compiling, accuracy=accuracy, ms_per_image=ms)


class TargetTimeReadout(Program):
    """Target-time features, which first learn for as many epochs as in a training run, and a readout on them."""

    PHASES = ("encode", "one patch", "outputs", "learn", "test")

    def phases(self, task: Given) -> dict[str, Work]:
        """The compiled phases, named as in `PHASES`; raises InputError if the network has other rules."""
        network, images, *_ = task
        self.learners = [learner for _, _, conv in network.layers() for learner in conv.each_learner]
        if [type(learner) for learner in self.learners] != [TargetTime, SupervisedSTDP]:
            raise InputError(f"`model` {network.name} is not a SupervisedSTDP readout on TargetTime features")
        encode, patch, _, learn, _ = super().phases(task).values()
        patch.images *= self.learners[0].patches
        learned = learn.outcome
        learn.outcome = lambda result: by_neuron(learned(result))
        learn.initial = lambda: self.task().weights
        self.features = self._map("outputs", Activations({0: self.encoded}), output_batch, number=1)[0]
        self._test(self.features[len(images.train_images) :], output=1)
        works = (encode, patch, self.works["outputs"], learn, self.works["test"])
        self.works = dict(zip(self.PHASES, works, strict=True))
        return self.works

    def epochs(self, phase: Phase) -> int:
        return super().epochs(phase) if phase.supervised else self.network.epochs[phase.first]

    def task(self) -> Readout:
        """The task for another program, with these features and weights."""
        *_, (_, _, conv) = self.network.layers()
        rule = self.learners[1]
        images = self.data
        return Readout(
            latencies=self.features.reshape(len(self.features), -1),
            time_steps=self.network.time_steps,
            labels=images.train_labels,
            test_labels=images.test_labels,
            weights=by_neuron(list(self.state.weights.values())[1]),
            classes=images.classes,
            threshold=float(np.mean(np.asarray(conv.threshold))),
            gap=rule.gap,
            rates=(rule.ltp, rule.ltd),
            non_targets=rule.non_targets,
            competition=rule.competition,
            ranges=rule.one_sided,
            rescaled=rule.normalise,
            threshold_rate=rule.threshold_rate if rule.competition else 0.0,
        )


class SoftHebb(Program):
    """The first SoftHebb layer: learning in one epoch from the initial weights, and its outputs."""

    def phases(self, task: Given) -> dict[str, Work]:
        """The phases "learn" and "features"; raises InputError if there are no SoftHebb layers."""
        network = task[0]
        if not network.ramped:
            raise InputError(f"`model` {network.name} has no SoftHebb layers")
        self._begin(task)
        first = self.job.phases[0]
        pixels = self.cache.inputs(first, "train", [self.state])
        self.works["learn"] = self._learn(0, first, pixels, keep=False)
        if fitting.unfitted_ramp(self.job, first, [self.state]):
            fitting.fit_ramps(self.job, first, [self.state] * self.networks, pixels)
        self._map("features", Activations({0: pixels}), output_batch, number=1)
        return self.works


def by_neuron(weights: np.ndarray) -> np.ndarray:
    """Weights of a readout as (neurons, inputs)."""
    return weights.reshape(len(weights), -1)


def shown(phase: str) -> str:
    """The name of a phase in tables: STDP 1, STDP 3_2, R-STDP."""
    return phase.replace("layer", "")

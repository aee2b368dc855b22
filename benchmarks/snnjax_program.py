"""Measured snnjax: the programs of its training engine, and whole trainings."""

import dataclasses
import functools
import operator
import os
import time
from typing import Any

import jax
import numpy as np
from programs import Learning, MeasuredProgram, Task, Work

from snnjax import InputError, Network, Trainer, data
from snnjax.core import devices
from snnjax.kernels import native as compiled
from snnjax.layers.spiking import Layer
from snnjax.networks.batches import decide_batch, encode_batch, forward_batch
from snnjax.networks.decision import is_fitted
from snnjax.runs.results import versions
from snnjax.training import fitting
from snnjax.training.epoch import EpochRunner
from snnjax.training.loop import Training
from snnjax.training.placement import NETWORKS, Timer, has_own, place
from snnjax.training.state import Phase, Settings, TrainState

PREPARED = 3000  # images that each layer learns from first: the given ones repeatedly, up to ten times


class Program(MeasuredProgram):
    """snnjax on a kind of device, with the kernels of XLA or the native ones."""

    def __init__(self, device: str, native: bool = False):
        self.device = devices.choose(device)
        self.native = native
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_enable_compilation_cache", False)  # compilation is measured too
        if native:
            compiled.load()
        self.about = dict(versions=versions(), device=devices.name_of(self.device), platform=self.device.platform)
        self.about["processor"] = devices.name_of(jax.devices("cpu")[0]).removeprefix("cpu: ")

    def phases(self, task: tuple[Network, data.Dataset, int, TrainState | None]) -> dict[str, Work]:
        """The compiled phases. They start from the state in `task`; with none, the network learns a little first."""
        self.network, self.data, self.batch_size, trained = network, images, batch_size, _ = task
        if is_fitted(network.decision):
            raise InputError(f"`model` {network.name} has a decision that is fitted, which is not measured")
        # No epochs are planned, so learners count the images that they have seen from 0 in every phase.
        settings = Settings((0,) * len(network.stages), batch_size, patience=0, native=self.native)
        self.training = Training([network], images, settings)
        self.works = dict[str, Work]()
        self.state = trained or self.training.initial_states()[0]
        fitting.fit_encoders(self.training.cache, [self.state])
        count = len(images.train_images)
        stage = 0
        last = len(network.stages) - 1
        self.images = np.concatenate([images.train_images, images.test_images])
        self.encoded = self._map("encode", self.images, encode_batch, native=self.native)[0]
        inputs = self.encoded[:count]
        for number, phase in enumerate(self.training.plan):
            for end in range(stage + 1, phase.stage + 1):
                if network.stages[end - 1].activities:
                    continue
                timed = end < last or network.decision.timed
                title = f"{'outputs of' if timed else 'who fires in'} stage {end}"
                inputs = self._map(title, inputs, forward_batch, once=True, first=stage, last=end, timed=timed)
                stage = end
            self.works[shown(phase.name)] = self._learn(number, phase, inputs, keep=not trained)
        self._map("test", self.encoded[count:], decide_batch, self.training.runners.testing_kernels, first=0)
        self.works["test"].outcome = lambda found: found[0][0]  # the decisions
        return self.works

    def _map(
        self, name: str, images: np.ndarray, kind: Any, forms: Any = None, once: bool = False, **static: Any
    ) -> Any:
        """Adds a phase that does not learn; returns what it computes."""
        cache = self.training.cache
        placement = cache.placement
        timer = Timer(name)
        model = cache.pack(cache.models([self.state]), forms)
        placed = place(model, placement.mapping, NETWORKS)
        run = functools.partial(placement.map, timer, kind, placed, images, **static)
        found = run()
        work = Work(images.shape[int(has_own(images))], run, compile_seconds=timer.compile_seconds, once=once)
        work.outcome = operator.itemgetter(0)  # of the only network
        self.works[name] = work
        return found

    def epochs(self, phase: Phase) -> int:
        """How many epochs the network learns in a phase first."""
        return min(10, -(-PREPARED // len(self.data.train_images)))

    def _learn(self, number: int, phase: Phase, inputs: np.ndarray, keep: bool) -> Work:
        """An epoch of a phase that learns; `keep`: it has learned first, and later phases start from that."""

        def prepare() -> tuple[EpochRunner]:
            epoch = self.training.runners.of_phase(phase, [dataclasses.replace(self.state, phase=number)], inputs)
            epoch.is_in_bounds()  # a training finds that out once, not in each epoch
            return (epoch,)

        def learned(found: Any) -> dict[str, Layer]:
            (carry,) = self.training.cache.placement.unstack(found[0])
            return carry.layers

        (epoch,) = prepare()
        for _ in range(self.epochs(phase) if keep else 1):
            found = epoch.run()
        if keep:
            convs = {name: conv for _, name, conv in self.network.layers()}
            for name, layer in learned(found).items():
                self.state.keep_layer(name, convs[name], np.asarray(layer.weights), jax.tree.leaves(layer.conv))
        work = Work(len(self.data.train_images), EpochRunner.run, prepare, compile_seconds=epoch.timer.compile_seconds)
        work.outcome = lambda found: list(learned(found).values())[-1].weights
        return work

    def task(self) -> Task:
        """What the other programs do, now that the network has learned."""
        network = self.network
        images = self.data
        last = list(self.state.weights)[-1]
        learning = []
        for phase in self.training.plan:
            branch = (phase.branch,) if len(network.stages[phase.stage].branches) > 1 else ()
            learning.append(
                Learning(shown(phase.name), phase.stage, (*phase.layers, last)[0], branch, not phase.layers)
            )
        described = (network.name, network.classes, network.time_steps, len(network.stages), learning)
        stimuli = (self.images, self.encoded, images.train_labels, images.test_labels)
        return Task(*described, *stimuli, self.state.weights, self.batch_size)

    def trained(self) -> TrainState:
        """What the network has learned, from which all programs start."""
        return self.state

    def train(self, network: Network, images: data.Dataset, settings: Settings) -> dict[str, Any]:
        """A whole training from images to the last epoch: seconds, compile_seconds, accuracy, ms_per_image by phase."""
        start = time.perf_counter()
        trainer = Trainer(network, images, dataclasses.replace(settings, native=self.native))
        state = trainer.run(trainer.initial_state())
        seconds = time.perf_counter() - start
        compiling = sum(phase["compile_seconds"] for phase in state.phases)
        ms = {shown(each["name"]): 1e3 * each["seconds"] / each["images"] for each in state.phases}
        accuracy = state.epochs[-1]["test"]["accuracy"]
        return dict(seconds=seconds, compile_seconds=compiling, accuracy=accuracy, ms_per_image=ms)

    def device_memory(self) -> int | None:
        return None if self.device.platform == "cpu" else (self.device.memory_stats() or {}).get("peak_bytes_in_use")


def shown(phase: str) -> str:
    """The name of a phase in tables: STDP 1, STDP 3_2, R-STDP."""
    return phase.replace("layer", "")

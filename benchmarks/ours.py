"""snnjax under measurement: the functions that the trainer runs, and whole trainings."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from programs import Work

from snnjax import data, devices
from snnjax.app import runs
from snnjax.errors import InputError
from snnjax.kernels.native import load
from snnjax.networks import Network, SpikingNetwork, draw
from snnjax.training import progress, reward
from snnjax.training.trainer import (
    Batched,
    Clock,
    Phase,
    RewardEpoch,
    Settings,
    Trainer,
    encoding,
    judge,
    judge_state,
    method,
    plan,
)
from snnjax.training.unsupervised import stdp_epoch

PREPARED = 3000
"""Images that each layer learns from before anything is measured: those at hand again and again, up to ten times."""


class Program:
    """snnjax on a kind of device, on the kernels of XLA or on the compiled ones.

    Raises:
      ValueError: there is no device of this kind, or the kernels cannot be compiled.
    """

    def __init__(self, device: str, native: bool = False):
        self.device, self.native = devices.choose(device), native
        try:
            if native:
                load()
        except OSError as error:
            raise InputError(str(error)) from error
        self.about = dict(
            versions=runs.versions(),
            device=runs.device_name(self.device),
            platform=self.device.platform,
            processor=runs.device_name(jax.devices("cpu")[0]).removeprefix("cpu: "),
        )

    def prepare(self, task: tuple[Network, data.Dataset, int, dict[str, np.ndarray]]) -> dict[str, Work]:
        """The phases, compiled. They start from the weights in `task`; with none, the network learns a little first."""
        spec, images, batch_size, weights = task
        self.network, self.works, last = draw(spec, native=self.native), dict[str, Work](), len(spec.stages) - 1
        self.network.set_weights({name: jnp.asarray(value) for name, value in weights.items()})
        self.encoded = self._batched("encode", encoding(images.encoder, self.native), all_images(images))
        inputs, stage = self.encoded[: len(images.train_images)], 0
        for name, phase in phases_of(spec):
            for at in range(stage, phase.stage):
                if at < last - 1:
                    done, function = f"outputs of stage {at + 1}", method(self.network, "respond", at)
                else:
                    done, function = f"who fires in stage {last}", method(self.network, "reach", at, last)
                inputs = self._batched(done, function, inputs, once=True)
            stage = phase.stage
            if phase.layer:
                self.works[name] = stdp(self.network, phase.layer, inputs, warm=not weights)
            else:
                self.works[name] = rewarding(self.network, inputs, images.train_labels, batch_size, warm=not weights)
        self.works["test"] = deciding(self.network, self.encoded[len(images.train_images) :])
        return self.works

    def _batched(self, name: str, function: Callable[..., Any], inputs: np.ndarray, once: bool = False) -> np.ndarray:
        clock, state = Clock(name), jax.tree.map(jnp.array, nnx.state(self.network))
        run = Batched(function, state, inputs, clock)
        result = run(state, inputs)
        self.works[name] = Work(
            len(inputs), lambda: run(state, inputs), compile_seconds=clock.compile_seconds, once=once
        )
        return result

    def learned(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The weights that the phases start from, by layer, and the encoded images."""
        self.works["R-STDP"].prepare()  # puts the network back to where the phase starts
        return {name: np.asarray(value) for name, value in self.network.weights().items()}, self.encoded

    def train(self, spec: Network, images: data.Dataset, settings: Settings) -> dict[str, Any]:
        """A whole training from images to the last epoch: seconds in all, those of compilation, and the accuracy.

        And the milliseconds an image of each phase of it, by the names in the table.
        """
        start = time.perf_counter()
        trainer = Trainer(spec, images, dataclasses.replace(settings, native=self.native))
        state = trainer.run(trainer.initial_state())
        seconds = time.perf_counter() - start
        compiling = sum(phase["compile_seconds"] for phase in state.phases)
        phases = ((each["name"].replace("layer", ""), each) for each in state.phases)
        ms = {name: 1e3 * each["seconds"] / each["images"] for name, each in phases}
        accuracy = state.epochs[-1]["test"]["accuracy"]
        return dict(seconds=seconds, compile_seconds=compiling, accuracy=accuracy, ms_per_image=ms)

    def finish(self, result: Any) -> None:
        """Waits for the device."""
        jax.block_until_ready(result)
        jax.effects_barrier()

    def device_memory(self) -> int | None:
        """Bytes at most in use on an accelerator."""
        return None if self.device.platform == "cpu" else (self.device.memory_stats() or {}).get("peak_bytes_in_use")


def phases_of(spec: Network, epochs: tuple[int, ...] = ()) -> list[tuple[str, Phase]]:
    """The phases of a training with their names in the table: STDP 1, STDP 3_2, R-STDP."""
    return [(phase.name.replace("layer", ""), phase) for phase in plan(spec, epochs or (1,) * len(spec.stages))]


def all_images(images: data.Dataset) -> np.ndarray:
    """The training images, then the test images."""
    return np.concatenate([images.train_images, images.test_images])


def passes(images: int) -> range:
    """The epochs that make `PREPARED` images, at most ten."""
    return range(min(10, -(-PREPARED // images)))


def stdp(network: SpikingNetwork, layer: str, inputs: np.ndarray, warm: bool = True) -> Work:
    """An epoch of STDP of one layer, which learns a little before if `warm`."""
    clock, count = Clock(layer), len(inputs)
    shape = (*progress.split(count, 1), 1)
    valid = jnp.arange(np.prod(shape)).reshape(shape) < count
    latencies = jnp.asarray(np.resize(inputs, (*shape, *inputs.shape[1:])))
    graphdef, state = nnx.split(getattr(network, layer))
    state = jax.tree.map(jnp.array, state)  # a copy, which is donated
    compiled = clock.compile(stdp_epoch, graphdef, state, jnp.int32(0), latencies, valid)
    for number in passes(count) if warm else ():
        state, _ = compiled(state, jnp.int32(number * count), latencies, valid)
    nnx.update(getattr(network, layer), jax.tree.map(jnp.array, state))
    return Work(
        count,
        lambda state: compiled(state, jnp.int32(0), latencies, valid),
        lambda result: nnx.merge(graphdef, result[0]).weights(),
        lambda: (jax.tree.map(jnp.array, state),),
        clock.compile_seconds,
    )


def rewarding(
    network: SpikingNetwork, inputs: np.ndarray, labels: np.ndarray, batch_size: int, warm: bool = True
) -> Work:
    """An epoch of R-STDP of a network, which learns a little before if `warm`."""
    clock = Clock("R-STDP")
    epoch = RewardEpoch(network, inputs, labels, batch_size, clock)
    learning = reward.initial_state(network)
    for _ in passes(len(inputs)) if warm else ():
        learning, _ = epoch(learning)
    weights = network.weights()

    def prepare() -> tuple[reward.RewardState]:
        network.set_weights(weights)
        return (reward.initial_state(network),)

    def outcome(result: tuple[reward.RewardState, np.ndarray]) -> jax.Array:
        graphdef, _, frozen = reward.split(network)
        return list(nnx.merge(graphdef, result[0].weights, frozen).weights().values())[-1]

    return Work(len(inputs), epoch, outcome, prepare, clock.compile_seconds)


def deciding(network: SpikingNetwork, encoded: np.ndarray, chunk: int = 128) -> Work:
    """From encoded images to decisions, as many as `chunk` at a time on each device."""
    clock, state = Clock("test"), judge_state(network)
    run = Batched(judge(network, 0), state, encoded, clock, chunk=chunk, together=True)
    return Work(len(encoded), lambda: run(state, encoded)[0], compile_seconds=clock.compile_seconds)

"""Measures a step of learning by local errors, layer by layer, and a step of backpropagation: time, speed and memory.

Each step learns from a minibatch of random spikes; the layer below is not computed. The work of a layer is
counted as that of direct convolutions: one product forward, and one backward, for the gradient of its weights.
Winograd's tiles need fewer multiplications, so that a layer may exceed the machine's peak. Memory is that of XLA's
buffers for intermediate results.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import backpropagation
import common
import jax
import jax.numpy as jnp
import numpy as np
from common import Row

from snnjax import NETWORKS, InputError, Network
from snnjax.app import console, lookup, shared_options
from snnjax.app.main import command_options, protected
from snnjax.app.shared_options import option
from snnjax.data import Dataset
from snnjax.layers.ramp_layer import RampLayer
from snnjax.learners import LocalError, Signal
from snnjax.networks import Model
from snnjax.networks.images import CIFAR10

NAME = "local_errors"
PEAK_SIZE = 2048  # rows and columns of the matrices whose product determines the machine's peak rate
STOPPED = "Stopped."
COLUMNS = (
    "step",
    "forward, ms",
    "forward and backward, ms",
    "whole step, ms",
    "forward, GFLOP/s",
    "backward, GFLOP/s",
    "backward, share of the peak",
    "memory of a step, MB",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure a step of learning by local errors, layer by layer, and a step of backpropagation.

    $ python benchmarks/local_errors.py
    $ python benchmarks/local_errors.py --model experiments/local_variants.py:random_feedback
    """

    model: Annotated[str, option("NAME", help="a network whose layers learn by LocalError")] = "local_narrow"
    repeats: int = 5
    """number of measurements of each program, in turn; the shortest counts"""
    out: Annotated[Path | None, option("DIR", "runs/local_errors_TIME")] = None
    """folder to write into"""


class Program:
    """A compiled program with its arguments, and the bytes of its intermediate results, 0 if they are unknown."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.arguments = arguments
        self.compiled = jax.jit(function).lower(*arguments).compile()
        analysis = self.compiled.memory_analysis()
        self.memory = analysis.temp_size_in_bytes if analysis else 0

    def __call__(self) -> Any:
        return self.compiled(*self.arguments)


def activities(layer: RampLayer, latencies: jax.Array, rows: jax.Array) -> jax.Array:
    """The activities that the head of a layer reads, if the layer had these weights."""
    learner = layer.conv.last_learner
    assert isinstance(learner, LocalError)
    return layer.activities(latencies, rows, learner.block)


def forward(layer: RampLayer, latencies: jax.Array) -> jax.Array:
    """The activities that the head of a layer reads."""
    return activities(layer, latencies, layer.rows())


def gradient(layer: RampLayer, latencies: jax.Array, error: jax.Array) -> jax.Array:
    """The gradient of a layer's weights, given the gradient of the activities that its head reads."""
    backward = jax.vjp(lambda rows: activities(layer, latencies, rows), layer.rows())[1]
    return backward(error)[0]


def learn(layer: RampLayer, state: Any, latencies: jax.Array, signal: Signal) -> Any:
    """Returns the layer and the state of its learner after learning from a minibatch."""
    return layer.conv.last_learner.update(layer, state, latencies, None, signal)[:2]


def measured_layer(network: Network, name: str, repeats: int) -> Row:
    """Measures the seconds, operations and memory of a layer."""
    layer: Any = Model.of(network, network.initial_weights(0)).layers[name]
    learner = layer.conv.last_learner
    random = np.random.default_rng(0)
    shape = (learner.minibatch_size, *layer.input_shape)
    latencies = jnp.asarray(random.integers(0, network.time_steps + 1, shape), jnp.uint8)
    labels = jnp.asarray(random.integers(0, network.classes, len(latencies)), jnp.int32)
    signal = Signal(jnp.zeros_like(labels), labels, labels)
    state = learner.init(layer, np.zeros(2, np.uint32), 0)
    error = jnp.ones(jax.eval_shape(forward, layer, latencies).shape)
    programs = [
        Program(forward, layer, latencies),
        Program(gradient, layer, latencies, error),
        Program(learn, layer, state, latencies, signal),
    ]
    patches, sums = jax.eval_shape(RampLayer.batch_sums, layer, latencies)
    seconds = dict(zip(("forward", "gradient", "step"), common.shortest(programs, repeats), strict=True))
    return dict(seconds, operations=2.0 * sums.size * patches.shape[-1], memory=programs[-1].memory)


def measured_backpropagation(network: Network, repeats: int) -> Row:
    """Measures the seconds and memory of a backpropagation step with layers and a minibatch of the same sizes."""
    features = tuple(stage.branches[0].features for stage in network.stages[:-1])
    channels, *size = network.input_shape
    images = np.zeros((backpropagation.RULE.minibatch_size, *size, channels), np.uint8)
    labels = (np.arange(len(images)) % network.classes).astype(np.int32)
    data = Dataset("zeros", images, labels, images, labels, classes=network.classes)
    training = backpropagation.Training(backpropagation.Options(features=features), data, seed=0)
    key = jax.random.key(0)
    step = Program(training.update, training.variables, training.state, images, labels, key)
    (seconds,) = common.shortest([step], repeats)
    return dict(step=seconds, memory=step.memory)


def peak() -> float:
    """The rate at which two large float32 matrices are multiplied, in FLOP/s."""
    matrix = jnp.ones((PEAK_SIZE, PEAK_SIZE))
    product = Program(lambda left, right: jnp.matmul(left, right, precision="highest"), matrix, matrix)
    (seconds,) = common.shortest([product], repeats=5)
    return 2.0 * PEAK_SIZE**3 / seconds


def cells_of(name: str, row: Row, peak_rate: float) -> list[str]:
    """The cells of a line of the table."""
    step = f"{1e3 * row['step']:.0f}"
    memory = f"{row['memory'] / 1e6:.0f}"
    if "operations" not in row:
        return [name, "", "", step, "", "", "", memory]
    forward_rate = row["operations"] / row["forward"]
    backward_rate = row["operations"] / (row["gradient"] - row["forward"])
    return [
        name,
        f"{1e3 * row['forward']:.0f}",
        f"{1e3 * row['gradient']:.0f}",
        step,
        f"{forward_rate / 1e9:.0f}",
        f"{backward_rate / 1e9:.0f}",
        f"{backward_rate / peak_rate:.2f}",
        memory,
    ]


def run(options: Options) -> None:
    """Measures each layer, then backpropagation; prints and writes the table."""
    shared_options.check_least(options, repeats=1)
    network = lookup.find("model", options.model, NETWORKS)(CIFAR10)
    if not network.labelled:
        raise InputError(f"`model` must have layers that learn by LocalError, got {options.model}")
    out = common.output_folder(options.out, NAME)
    peak_rate = peak()
    rows = {name: measured_layer(network, name, options.repeats) for name in network.labelled}
    rows["backpropagation"] = measured_backpropagation(network, options.repeats)
    facts = common.about(model=options.model, peak=f"a matrix product reaches {peak_rate / 1e9:.0f} GFLOP/s")
    lines = [cells_of(name, row, peak_rate) for name, row in rows.items()]
    table = common.markdown(COLUMNS, lines, common.caption(facts))
    written = common.write(out, NAME, dict(about=facts, peak=peak_rate, steps=rows), table)
    console.screen().print(table, written, sep="\n", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and measures."""
    with command_options("python benchmarks/local_errors.py", Options, arguments, STOPPED) as chosen:
        run(chosen)


if __name__ == "__main__":
    with protected():
        main()

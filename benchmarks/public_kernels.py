"""Compares programs that are written with the public kernels with an epoch of the trainer.

For each layer, the seconds of learning from the same stimuli are measured in three ways: with `run_epoch`, which
training runs use; with one call of a sequence kernel; and with a hand-written `jax.lax.scan` over the kernels for
single stimuli.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np

from snnjax import Network, kernels, stage
from snnjax.app import console, shared_options
from snnjax.app.main import command_options, protected
from snnjax.kernels import use_backend
from snnjax.layers import WTA, Conv
from snnjax.learners import STDP, DecisionCounts, Learner, SupervisedSTDP
from snnjax.networks import Earliest
from snnjax.training.job import Phase
from snnjax.training.learning import Carry, learning_of
from snnjax.training.learning_phase import EpochImages, LearningPhase, begin_learning
from snnjax.training.loop import run_epoch
from snnjax.training.placement import Placement, model_of

CLASSES = 10
CONSTANT = STDP(doubling=10**9)  # its rates never change, so that all programs learn the same


class Case(NamedTuple):
    """A layer that learns.

    Attributes:
      conv: the description of the layer.
      shape: the shape of a stimulus, (C, H, W).
      time_steps: T.
      silent: the share of inputs that do not fire.
    """

    conv: Conv
    shape: tuple[int, int, int]
    time_steps: int = 15
    silent: float = 0.7


def _features(features: int, kernel: int, threshold: float, winners: int, radius: int) -> Conv:
    return Conv(features, kernel, threshold=threshold, competition=WTA(winners, radius), learners=CONSTANT)


CASES = {
    "30 of 6x5x5 on 28x28": Case(_features(30, 5, 15.0, 5, 3), (6, 32, 32), silent=0.85),
    "64 of 6x5x5 on 28x28": Case(_features(64, 5, 15.0, 5, 3), (6, 32, 32), silent=0.85),
    "250 of 30x3x3 on 14x14": Case(_features(250, 3, 10.0, 8, 1), (30, 16, 16)),
    "200 of 250x5x5 on 6x6": Case(_features(200, 5, 800.0, 1, 0), (250, 6, 6)),
    "NCG's readout, 50 of 128x6x6": Case(
        Conv(50, 6, threshold=200.0, fractional=True, weight_mean=0.3, learners=SupervisedSTDP()), (128, 6, 6), 255, 0.5
    ),
}


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Compare programs that are written with the public kernels with an epoch of the trainer."""

    images: int = 1000
    """number of stimuli, which are random latencies"""
    repeats: int = 5
    """number of measurements of each program, in turn; the shortest counts"""


class Programs:
    """The three programs for a layer. Each is a function without arguments that learns from all stimuli."""

    def __init__(self, case: Case, images: int):
        random = np.random.default_rng(0)
        latencies = random.integers(0, case.time_steps, (images, *case.shape))
        latencies[random.random(latencies.shape) < case.silent] = case.time_steps
        self.latencies = latencies.astype(np.uint8)
        self.labels = random.integers(0, CLASSES, images, np.int32)
        conv = case.conv
        decision = Earliest(fallback=True) if conv.last_learner.supervised else None
        network = Network("layer", case.shape, CLASSES, (stage(conv),), case.time_steps, decision=decision)
        self.model = model_of(network, network.initial_weights(0))
        self.layer = self.model.layers["layer1"]
        self.learner: Any = conv.last_learner
        self.settings: dict[str, Any] = dict(threshold=conv.threshold, time_steps=case.time_steps)

    def trainer(self) -> Callable[[], Any]:
        """An epoch of the trainer."""
        supervised = self.learner.supervised
        images = len(self.latencies)
        phase = Phase(("layer1",), images=images, supervised=supervised, adapt_every=images)
        counts = DecisionCounts(*np.zeros(5, np.int32)) if supervised else None
        carry = Carry(*begin_learning(phase, self.model.layers, 0), counts)
        placement = Placement(1)
        learning_phase = LearningPhase(
            phase=phase,
            placement=placement,
            learn=learning_of(phase, self.model.network),
            carry=placement.stack([carry]),
            model=placement.stack([self.model]) if supervised else None,
            images=EpochImages(self.latencies, images, self.labels if supervised else None),
        )
        return functools.partial(run_epoch, learning_phase)

    def sequence_kernel(self) -> Callable[[], Any]:
        """One call of a sequence kernel."""
        weights = jnp.asarray(self.layer.weights)
        latencies = jnp.asarray(self.latencies)
        if self.learner.supervised:
            labels = jnp.asarray(self.labels)
            state = self.learner.init(self.layer, np.zeros(2, np.uint32), 0)
            given = jnp.asarray(state["excess"]), latencies, labels, jnp.asarray(state["rates"])
            rule: dict[str, Any] = dict(
                gap=self.learner.gap, sums=jnp.asarray(state["sums"]), fractional=True, classes=CLASSES
            )
            learn = jax.jit(functools.partial(kernels.learn_readout, threshold_rate=10.0, **rule, **self.settings))
            return continued(lambda weights: learn(weights, *given), weights)
        competition = self.layer.conv.competition
        race = dict(k=competition.winners, radius=competition.radius)
        rates = jnp.array([self.learner.ltp, self.learner.ltd])
        learn = jax.jit(functools.partial(kernels.learn_stdp, **race, **self.settings))
        return continued(lambda weights: learn(weights, latencies, rates), weights)

    def hand_written(self) -> Callable[[], Any]:
        """A scan over the kernels for single stimuli."""
        latencies = jnp.asarray(self.latencies)
        if self.learner.supervised:
            return self._scan_of_learner(latencies)
        weights = jnp.asarray(self.layer.weights)
        competition = self.layer.conv.competition
        rule = dict(k=competition.winners, radius=competition.radius)
        rates = jnp.array([self.learner.ltp, self.learner.ltd])
        steps = self.settings["time_steps"]

        def step(weights: jax.Array, latency: jax.Array) -> tuple[jax.Array, jax.Array]:
            won = kernels.winners(latency, weights, **rule, **self.settings)
            return kernels.stdp(weights, latency, won, rates, time_steps=steps), won.feature

        learn = jax.jit(lambda weights, latencies: jax.lax.scan(step, weights, latencies))
        return continued(lambda weights: learn(weights, latencies), weights)

    def _scan_of_learner(self, latencies: jax.Array) -> Callable[[], Any]:
        """A scan over `forward` and `update` of a supervised learner, which use the kernels for single stimuli."""
        state = jax.tree.map(jnp.asarray, self.learner.init(self.layer, np.zeros(2, np.uint32), 0))
        layer = jax.tree.map(jnp.asarray, self.layer)
        labels = jnp.asarray(self.labels)
        learns = jnp.ones(len(labels), bool)

        def vote(spikes: kernels.Spikes) -> jax.Array:
            return jnp.argmin(spikes.time.reshape(CLASSES, -1).min(axis=1)).astype(jnp.int32)  # type: ignore[union-attr]

        learn = jax.jit(lambda *given: Learner.learn(self.learner, *given, vote=vote))
        return continued(lambda layer: learn(layer, state, latencies, labels, learns), layer)


def continued(learn: Callable[[Any], Any], learned: Any) -> Callable[[], Any]:
    """A program that continues from the result of its previous call, as the epochs of the trainer do."""
    last = [learned]

    def call() -> Any:
        result = learn(last[0])
        last[0] = result[0]
        return result

    return call


def run(options: Options) -> None:
    """Measures one layer after another; prints and writes the table."""
    shared_options.check_least(options, images=1, repeats=1)
    out = options.folder("public_kernels")
    rows = []
    lines = []
    with use_backend("auto"):
        for name, case in CASES.items():
            programs = Programs(case, options.images)
            called = programs.trainer(), programs.sequence_kernel(), programs.hand_written()
            seconds = common.shortest(called, options.repeats)
            trainer, sequence, scanned = seconds
            rows.append(dict(layer=name, trainer=trainer, sequence_kernel=sequence, hand_written=scanned))
            microseconds = (f"{1e6 * value / options.images:.0f}" for value in (trainer, sequence, scanned))
            lines.append([name, *microseconds, f"{sequence / trainer:.2f}", f"{scanned / trainer:.1f}"])
    worst = max(row["sequence_kernel"] / row["trainer"] for row in rows)  # type: ignore[operator]
    middle = statistics.median(row["hand_written"] / row["trainer"] for row in rows)  # type: ignore[operator]
    unit = f"microseconds per stimulus, {options.images:,} random stimuli"
    facts = common.about(stimuli=unit)
    head = ["layer", "trainer", "sequence kernel", "hand-written scan", "sequence / trainer", "scan / trainer"]
    table = common.markdown(head, lines, common.caption(facts))
    summary = dict(largest_sequence_ratio=worst, median_scan_ratio=middle)
    written = common.write(out, "public_kernels", dict(about=facts, layers=rows, summary=summary), table)
    console.screen().print(table, written, sep="\n", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and measures."""
    with command_options("python benchmarks/public_kernels.py", Options, arguments, common.STOPPED) as chosen:
        run(chosen)


if __name__ == "__main__":
    with protected():
        main()

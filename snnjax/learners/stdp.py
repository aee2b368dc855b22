"""STDP of the winners of a competition."""

import dataclasses
import functools
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.components import component, number, static
from snnjax.core.errors import InputError
from snnjax.kernels import Spikes, Winners
from snnjax.layers.conv import is_wta
from snnjax.layers.spiking import Layer
from snnjax.learners.protocol import Diagnosis, Learned, Learner, Signal, UpdateResult, convergence, count_wins


@component
class STDP(Learner):
    """STDP of the winners' features (Kheradpisheh et al. 2018), with rates that double periodically.

    The ratio of a- to a+ stays constant. The paper is [arXiv 1611.01421](https://arxiv.org/abs/1611.01421).

    Attributes:
      ltp: initial value of a+, the rate of potentiation.
      ltd: initial value of a-, the rate of depression, at most 0.
      doubling: the number of images after which the rates double. The rates for image i, counted from 0, are the
        initial ones times 2 to the power of floor((i + 1) / doubling).
      ltp_max: upper limit of a+.
      bounds: lower and upper bound of a weight.
      stabiliser: multiplies each change by (w - lower)(upper - w).
      pointwise: whether pointwise inhibition is applied to the input while the layer learns, as in Kheradpisheh et al.
        2018: only the earliest spike at each position is passed on; among equally early spikes, that of the lowest map.

    Examples:
      >>> from snnjax import STDP, WTA, Conv, Network, stage
      >>> learner = STDP(ltp=0.004, ltd=-0.003, doubling=200)
      >>> features = Conv(32, kernel=5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=learner)
      >>> network = Network("features", (6, 28, 28), 10, stages=(stage(features, pool=2),), decision=None)
      >>> network.shapes
      ((6, 28, 28), (32, 14, 14))
    """

    ltp: float = number(default=0.004, above=0)
    ltd: float = number(default=-0.003, maximum=0)
    doubling: int = number(default=500, minimum=1)
    ltp_max: float = number(default=0.15)
    bounds: tuple[float, float] = (0.0, 1.0)
    stabiliser: bool = static(default=True)
    pointwise: bool = static(default=False)

    _without_effect: ClassVar = {"seen": "rename it to `learning_input`"}

    def check(self) -> None:
        checks.bounds(self.bounds)
        if self.ltp > self.ltp_max:
            raise InputError(f"`ltp` must be at most `ltp_max` ({self.ltp_max}), got {self.ltp}")

    def rates(self, image: jax.Array) -> jax.Array:
        """(2,) float32 (a+, a-) for image number `image`, () integer, of a layer's training, counted from 0."""
        # The + 1 is the reference's: it counts an image before it learns from it, so that number 499 already has
        # doubled rates.
        doubled = optax.exponential_decay(1.0, 1, 2.0, staircase=True)((image + 1) / self.doubling)
        rate = jnp.minimum(self.ltp * doubled, self.ltp_max)
        return jnp.stack([rate, rate * (self.ltd / self.ltp)]).astype(jnp.float32)

    def init(self, layer: Layer, key: np.ndarray, images_seen: int) -> Any:
        """The number of images learned from, () int32, so that branches double their rates in step with their stage."""
        # As in the reference, the count of images runs on from branch to branch, but each branch begins with the
        # initial rates.
        return np.int32(images_seen % int(self.doubling))

    def forward(self, layer: Layer, state: Any, latency: jax.Array, label: jax.Array | None) -> Any:
        return super().forward(layer, state, self.learning_input(layer, latency), label)

    def update(
        self, layer: Layer, state: Any, latency: jax.Array, response: Any, signal: Signal | None
    ) -> UpdateResult:
        """The winners learn; info is their features, (k,) int32, -1 where no neuron won."""
        winners = cast(Winners, response.winners)
        rates = self.rates(state)
        layer = layer.learn(
            self.learning_input(layer, latency), winners, rates, bounds=self.bounds, stabiliser=self.stabiliser
        )
        return layer, state + 1, winners.feature

    def learn(
        self,
        layer: Layer,
        state: Any,
        latencies: jax.Array,
        labels: jax.Array | None,
        learns: jax.Array,
        *,
        update_batch: int = 1,
        vote: Any = None,
    ) -> Learned:
        """As the default, by `kernels.learn_stdp` if the winners are those of `WTA`."""
        conv = layer.conv
        competition = conv.competition
        if not is_wta(competition):
            return super().learn(layer, state, latencies, labels, learns, update_batch=update_batch, vote=vote)
        # The number of images learned before each one. Images that are skipped do not count: a resumed training run may
        # continue in the middle of a batch, and its rates would otherwise double too early.
        number = state + jnp.cumsum(learns, dtype=jnp.int32) - learns
        learned = kernels.learn_stdp(
            layer.weights,
            jax.vmap(functools.partial(self.learning_input, layer))(latencies),
            jax.vmap(self.rates)(number),
            learns,
            threshold=conv.threshold,
            k=competition.winners,
            radius=competition.radius,
            time_steps=layer.time_steps,
            bounds=self.bounds,
            stabiliser=self.stabiliser,
            stride=conv.stride,
            padding=conv.padding,
            update_batch=update_batch,
        )
        layer = dataclasses.replace(layer, weights=learned.weights)
        count = jnp.sum(learns, dtype=jnp.int32)
        return Learned(layer, state + count, learned.feature, winners=learned.feature)

    def supports_native(self, layer: Layer, update_batch: int) -> bool:
        conv = layer.conv
        races = is_wta(conv.competition) and conv.threshold is not None
        return races and update_batch == 1 and super().supports_native(layer, update_batch)

    def learning_input(self, layer: Layer, latency: jax.Array) -> jax.Array:
        """The input that is learned from."""
        if not self.pointwise:
            return latency
        spikes = Spikes(latency, jnp.ones(latency.shape, jnp.float32))  # all equally strong
        return kernels.pointwise_inhibition(spikes, time_steps=layer.time_steps).latency

    def scalars(self, state: Any) -> dict[str, float]:
        """The rate that the last image was learned with."""
        return dict(rate_plus=float(self.rates(jnp.int32(state - 1))[0]))

    def diagnose(self, layer: Layer, info: Any) -> Diagnosis:
        """Who has won, and how far the weights have converged."""
        return dict(
            silent=float(np.mean(np.all(info < 0, axis=1))),
            **count_wins(info, layer.conv.features),
            convergence=convergence(np.asarray(layer.weights), self.bounds),
        )

"""Soft winner-take-all Hebbian learning of layers with ramps."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core.components import component, number, static
from snnjax.kernels import hebbian
from snnjax.layers.ramp_layer import RampLayer
from snnjax.learners.protocol import Diagnosis, Learner, Signal, UpdateResult

SETTLED = 0.05  # distance of a weight vector's norm from 1 below which it has settled


class SoftResponse(NamedTuple):
    """The response of a layer with a ramp to a minibatch of B stimuli, N = B H' W' positions.

    Attributes:
      patches: (N, K) float32, the inputs of each position, standardised.
      sums: (N, F) float32.
    """

    patches: jax.Array
    sums: jax.Array


@component
class SoftHebb(Learner):
    """Soft winner-take-all Hebbian learning from minibatches (SoftHebb: Moraitis et al. 2022, Journé et al. 2023).

    At each position, the features compete through a softmax of their weighted sums u. The winner moves towards its
    input, all other features move away from it, and the norm of each weight vector converges to 1:

      a = +-softmax(inverse_temperature u), + for the largest u;
      change = sum of a (patch - u w), scaled so that its largest entry is 1;
      w += rate sqrt(| |w| - 1 |) change

    If the layer has `standardise`, its inputs are standardised by the moments of the minibatch, and its running moments
    follow these. Standardised minibatches without any contrast change no weights. The papers are [doi
    10.1088/2634-4386/aca710](https://doi.org/10.1088/2634-4386/aca710) and [arXiv
    2209.11883](https://arxiv.org/abs/2209.11883).

    Attributes:
      inverse_temperature: tau; the larger it is, the larger is the winner's share.
      rate: eta, the learning rate of the weights.
      momentum: the rate at which the running moments approach those of a minibatch.
      minibatch_size: B, the number of stimuli in a minibatch.
      images: the largest number of images to learn from in an epoch. These are the first ones shown, and should be of
        all classes (`shuffle`); None: all images.

    Examples:
      >>> from snnjax.layers import Conv, Ramp, Standardise
      >>> from snnjax.learners import SoftHebb
      >>> from snnjax.networks import Network, stage
      >>> conv = Conv(96, kernel=5, padding=2, ramp=Ramp(0.7), standardise=Standardise(), learners=SoftHebb(rate=0.08))
      >>> Network("features", (3, 32, 32), 10, stages=(stage(conv, pool=4),), decision=None).shapes
      ((3, 32, 32), (96, 8, 8))
    """

    inverse_temperature: float = number(default=1.0, above=0)
    rate: float = number(default=0.01, minimum=0)
    momentum: float = number(default=0.1, minimum=0, maximum=1)
    minibatch_size: int = static(default=10, minimum=1)
    images: int | None = static(default=None, minimum=1)
    _without_effect: ClassVar = {"batch": "rename it to `minibatch_size`"}

    def forward(self, layer: RampLayer, state: Any, latency: jax.Array, label: jax.Array | None) -> SoftResponse:
        """The response to a minibatch (B, C, H, W), standardised by its own moments."""
        patches, sums = layer.batch_sums(latency)
        return SoftResponse(*(x.reshape(-1, x.shape[-1]) for x in (patches, sums)))

    def update(
        self, layer: RampLayer, state: Any, latency: jax.Array, response: Any, signal: Signal | None
    ) -> UpdateResult:
        """Learns from a minibatch. Info: `wins` (F,) int32, of positions; `change` () float32, relative, of weights."""
        old = layer.rows()
        sums = response.sums
        signed = hebbian.soft_competition(sums, inverse_temperature=self.inverse_temperature)
        change = hebbian.hebbian_change(response.patches, sums, signed, old)
        new = hebbian.towards_unit_norm(old, change, rate=self.rate)
        info = dict(
            wins=jnp.bincount(jnp.argmax(sums, axis=1), length=len(new)).astype(jnp.int32),
            change=hebbian.relative_change(old, new),
        )
        return layer.with_all_weights(new).with_moments_of(latency, self.momentum), state, info

    def diagnose(self, layer: RampLayer, info: Any) -> Diagnosis:
        """Distance of the norms from 1, how evenly positions are won, and whether the layer has moved."""
        norms = np.linalg.norm(layer.weights.reshape(len(layer.weights), -1), axis=1)
        distances = np.abs(norms - 1)
        wins = info["wins"].sum(axis=0, dtype=np.int64)
        shares = wins / max(wins.sum(), 1)
        entropy = -np.sum(shares * np.log(np.where(shares > 0, shares, 1)))
        return dict(
            norm_distance=float(distances.mean()),
            norms=[float(norms.min()), float(norms.max())],
            settled=[int(np.sum(distances < SETTLED)), len(norms)],
            evenness=float(entropy / np.log(len(wins))) if len(wins) > 1 else 1.0,
            never_won=int(np.sum(wins == 0)),
            moved=float(info["change"].sum()),
            wins=wins.tolist(),
        )

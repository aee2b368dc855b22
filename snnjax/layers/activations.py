"""Real-valued layers: their activities from sums of inputs, and spikes from activities."""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.components import component, learnable
from snnjax.core.errors import InputError
from snnjax.kernels import hebbian
from snnjax.kernels.hebbian import Moments
from snnjax.kernels.spikes import linear_latency

Numbers = float | np.ndarray


@component
class Standardise:
    """Inputs of a real-valued layer, standardised channel by channel with running moments.

    A learner such as `SoftHebb` moves these towards the moments of each batch that it learns from.

    Attributes:
      epsilon: added to the variance.
      mean: the running mean, (C,) float32; before learning 0 for all channels.
      variance: the running variance, (C,) float32; before learning 1 for all channels.
    """

    epsilon: float = 1e-5
    mean: Numbers = learnable(default=0.0)
    variance: Numbers = learnable(default=1.0)

    def check(self) -> None:
        checks.number("epsilon", self.epsilon, above=True)
        shapes = np.shape(self.mean), np.shape(self.variance)
        if shapes[0] != shapes[1] or len(shapes[0]) > 1:
            raise InputError(f"`mean` and `variance` must be numbers, or (C,), got {shapes[0]} and {shapes[1]}")
        if not np.isfinite(self.mean).all() or not np.all(np.asarray(self.variance) >= 0):
            raise InputError("`mean` must be finite and `variance` at least 0, got others")

    def prepared(self, channels: int) -> "Standardise":
        """The same with moments of each channel, (C,) float32; raises InputError if their number differs."""
        if np.shape(self.mean) not in ((), (channels,)):
            raise InputError(f"`mean` and `variance` must be of {channels} channels, got {np.shape(self.mean)}")
        ones = np.ones(channels, np.float32)
        return dataclasses.replace(self, mean=ones * self.mean, variance=ones * self.variance)

    @property
    def moments(self) -> Moments:
        """The running moments."""
        return Moments(cast(jax.Array, self.mean), cast(jax.Array, self.variance))

    def __call__(self, values: jax.Array, moments: Moments | None = None) -> jax.Array:
        """Values (C, H, W) float32 by the moments given, of a batch, or by the running ones."""
        return hebbian.standardised(values, moments or self.moments, epsilon=self.epsilon)


@component
class Triangle:
    """Activities max(0, u - mean over the features)^power of weighted sums u (SoftHebb).

    Attributes:
      power: p.
    """

    power: float = 1.0

    def check(self) -> None:
        checks.number("power", self.power, above=True)

    def __call__(self, sums: jax.Array) -> jax.Array:
        """Activities >= 0 of weighted sums (..., F) float32, features last."""
        return hebbian.triangle(sums, power=self.power)


@component
class LatencyCode:
    """Activities of an image as latencies: the largest of all fires first, the others later, by their share of it."""

    def __call__(self, activities: jax.Array, *, time_steps: int) -> jax.Array:
        """From (F, H, W) float32 >= 0 to `kernels.linear_latency` of the shares; all are silent where all are 0."""
        largest = activities.max()
        return linear_latency(activities / jnp.where(largest > 0, largest, 1), time_steps=time_steps)


def activities_of(inputs: jax.Array, time_steps: int) -> jax.Array:
    """The input of a real-valued layer: activities as they are, latencies as 1 - latency / T, 0 of silence; float32."""
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        return inputs
    return 1 - inputs.astype(jnp.float32) / time_steps

"""The parts of a layer's description for neurons that fire in the window after that of their inputs."""

import dataclasses
from typing import cast

import jax
import numpy as np

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.core.components import component, fitted, learnable, number, static
from snnjax.core.errors import InputError
from snnjax.kernels import hebbian
from snnjax.kernels.hebbian import Moments

Numbers = float | np.ndarray


@component
class Standardise:
    """Standardises the inputs of a layer with a `ramp`, channel by channel, with running moments.

    The value of an input is the number of time steps left in its window, `remaining_steps`. A learner such as
    `SoftHebb` moves the moments towards those of each batch that it learns from.

    Attributes:
      epsilon: added to the variance, in squared time steps; the default is meant for windows of 255 time steps.
      mean: the running mean, (C,) float32; before learning 0 for all channels.
      variance: the running variance, (C,) float32; before learning 1 for all channels.

    Examples:
      >>> from snnjax.layers import Conv, Ramp, Standardise
      >>> from snnjax.learners import SoftHebb
      >>> conv = Conv(96, kernel=5, padding=2, ramp=Ramp(), standardise=Standardise(), learners=SoftHebb())
      >>> conv.prepared(channels=6, classes=10).standardise.mean.shape
      (6,)
    """

    epsilon: float = number(default=0.5, above=0)
    mean: Numbers = learnable(default=0.0)
    variance: Numbers = learnable(default=1.0, minimum=0)

    def check(self) -> None:
        shapes = np.shape(self.mean), np.shape(self.variance)
        if shapes[0] != shapes[1] or len(shapes[0]) > 1:
            raise InputError(f"`mean` and `variance` must be numbers, or (C,), got {shapes[0]} and {shapes[1]}")

    def prepared(self, channels: int) -> "Standardise":
        """The same component with moments for each channel, (C,) float32; raises InputError if they do not fit."""
        checks.scalar_or_vector("mean", self.mean, channels, "channels")
        ones = np.ones(channels, np.float32)
        return dataclasses.replace(self, mean=ones * self.mean, variance=ones * self.variance)

    @property
    def moments(self) -> Moments:
        """The running moments."""
        return Moments(cast(jax.Array, self.mean), cast(jax.Array, self.variance))

    @property
    def scale(self) -> jax.Array:
        """The factor of each channel in standardising, (C,) float32."""
        return jax.lax.rsqrt(self.moments.variance + self.epsilon)

    def __call__(self, values: jax.Array, moments: Moments) -> jax.Array:
        """Values (C, H, W) float32 standardised with the given moments, such as those of a batch."""
        return hebbian.standardised(values, moments, epsilon=self.epsilon)


@component
class Ramp:
    """A threshold that falls step by step, for neurons that fire in the window after that of their inputs.

    A neuron fires at the first time step t at which its potential, taken at the end of the previous window, is at least
    `levels[t]`. The levels are fitted to the potentials of training images after the layer has learned. They fall as
    (1 - t / T)^(1 / power), so that the input of the next layer is the potential to the power of `power`. A subclass
    with its own `fit` can define levels that fall differently.

    Attributes:
      power: p, the exponent.
      first: the fraction of the neurons with a potential above 0 that fire at the first time step.
      inhibition: whether the mean over the features at the same position is subtracted from each potential.
      dendrites: rows and columns of neighbouring positions that share a neuron, or one integer for both. The neuron has
        a dendrite for each position, and adds up the potentials of the dendrites that are above 0. With 1, each
        position has its own neuron.
      rise: the exponent q: an input that fires u time steps before the end of the window adds its weight times
        T (u / T)^q, where the factor is rounded to whole steps. If q is below 1, the current of the input decays after
        the spike. It applies only to deciding layers.
      levels: (T,) float32, above 0 and falling; they are fitted, except in deciding layers, whose neurons fire at the
        end of the window of their inputs.

    Examples:
      >>> import numpy as np
      >>> from snnjax.layers import Ramp
      >>> potentials = np.array([-1.0, 2.0, 4.0])
      >>> Ramp(power=1.0, first=0.0).fit(potentials, time_steps=4).levels.tolist()
      [4.0, 3.0, 2.0, 1.0]
    """

    power: float = number(default=1.0, above=0)
    first: float = number(default=0.01, minimum=0, maximum=1)
    inhibition: bool = static(default=True)
    dendrites: Pair = static(default=1, minimum=1)
    rise: float = static(default=1.0, above=0)
    levels: Numbers = fitted(default=0.0)

    def check(self) -> None:
        if self.fitted:
            checks.number("levels", self.levels, above=0, arrays=True)
        if self.fitted and np.any(np.diff(self.levels) > 0):
            raise InputError("`levels` must fall, got some that rise")

    @property
    def fitted(self) -> bool:
        """Whether the levels have been fitted."""
        return np.ndim(self.levels) > 0

    def check_levels(self, name: str, time_steps: int) -> None:
        """Raises InputError unless there are no levels yet, or one per time step; `name` is the name of the layer."""
        checks.scalar_or_vector(f"levels of {name}", self.levels, time_steps, "time steps")

    def rises(self, time_steps: int) -> np.ndarray:
        """The factor of a weight for an input that fires 0, 1, ..., T time steps before the end of the window.

        It is (T + 1,) float32, in whole steps: see `rise`.
        """
        shares = np.arange(time_steps + 1) / time_steps
        # Whole steps give exact sums in a readout with integer weights, like those of the exported C programs.
        return np.rint(time_steps * shares**self.rise).astype(np.float32)

    def fit(self, potential: np.ndarray, time_steps: int) -> "Ramp":
        """The same component with levels fitted to the potentials (...) float32 of training images."""
        above = potential[potential > 0]
        # The highest level is the same for all images. With the largest potential of each image as its highest level,
        # half of the spikes of a second layer came after step 242 of 255, so that most of the window was unused.
        highest = float(np.quantile(above, 1 - self.first)) if above.size else 1.0
        return dataclasses.replace(
            self, levels=kernels.ramp.ramp_levels(highest, power=self.power, time_steps=time_steps)
        )

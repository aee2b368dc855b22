"""Layers of neurons that fire in the window after that of their inputs."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from snnjax import kernels
from snnjax.core import checks, devices
from snnjax.core.components import static
from snnjax.kernels import Spikes, hebbian, neurons, winograd
from snnjax.kernels import ramp as ramp_kernels
from snnjax.kernels.local_error import PatchSettings, block_maxima, patch_sums, tiled_patch_sums
from snnjax.kernels.ramp import Integrator
from snnjax.layers.layer import BaseLayer
from snnjax.layers.pool import Pool, pooling
from snnjax.layers.ramp import Ramp

_FEW = 16  # with fewer channels, tiles are not faster
_POSITIONS = 4096  # input positions that a CPU computes at a time, so that their data stay in its cache


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RampLayer(BaseLayer):
    """A layer of neurons that fire in the window after that of their inputs: see `kernels.ramp`.

    Minibatch learners use `batch_sums`, `activities`, `rows`, `with_all_weights` and `with_moments_of`.

    Attributes:
      integrator: the arrays from which a `frozen` layer computes its potentials; otherwise None.
      classes: as in `Layer`. A deciding layer fires at the end of the window of its inputs.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.layers import Conv, Ramp, RampLayer
      >>> layer = RampLayer(Conv(4, kernel=3, ramp=Ramp()), weights=jnp.ones((4, 2, 3, 3)), time_steps=15)
      >>> latency = jnp.full((2, 6, 6), 7, jnp.uint8)
      >>> layer.potentials(latency).shape
      (4, 4, 4)
    """

    integrator: Integrator | None = dataclasses.field(default=None, kw_only=True)
    classes: int = static(default=0)
    monotone: ClassVar[bool] = False

    @property
    def ramp(self) -> Ramp:
        """The falling threshold."""
        assert self.conv.ramp is not None
        return self.conv.ramp

    @property
    def levels(self) -> jax.Array:
        """The levels of the ramp, (T,) float32."""
        return jnp.asarray(self.ramp.levels, jnp.float32)

    def batch_sums(self, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The patches of B inputs (B, C, H, W) at each position, and their weighted sums before inhibition.

        They are (B, H', W', K) and (B, H', W', F) float32, from `reflected_patches` and `weighted_sums` of
        `kernels.hebbian`. The inputs are `kernels.ramp.remaining_steps`; if the layer standardises its inputs, the
        moments of this batch are used.
        """
        values = self._remaining(batch)
        standardise = self.conv.standardise
        moments = hebbian.moments(values)

        def sums(values: jax.Array) -> tuple[jax.Array, jax.Array]:
            inputs = values if standardise is None else standardise(values, moments)
            patches = self._patches(inputs)
            return patches, hebbian.weighted_sums(patches, self.rows())

        return jax.vmap(sums)(values)

    def activities(self, batch: jax.Array, rows: jax.Array, block: int = 1) -> jax.Array:
        """The potentials of B inputs (B, C, H, W), or 0 for negative potentials: (B, H', W', F) float32.

        They are computed with the weights `rows`, (F, K) in the order of `rows()`, and are differentiable with respect
        to them. Inputs are standardised with the moments of this batch. Later layers read activities through the ramp,
        which rounds and limits them, and through pooling. With a `block` above 1, only the largest activity of each
        block x block positions is returned.
        """
        layer = self.with_all_weights(rows).with_moments_of(batch, 1.0).frozen()
        assert layer.integrator is not None
        weights, threshold, tiles = layer.integrator
        conv = self.conv

        def activities(values: jax.Array) -> jax.Array:
            if tiles is None:
                sums = patch_sums(values, weights, PatchSettings(conv.kernel, conv.stride, conv.padding))
            else:
                sums = tiled_patch_sums(values, tiles, conv.padding)
            potentials = jax.vmap(lambda stimulus: self._summed(stimulus - threshold[None, None]))(sums)
            return jnp.maximum(block_maxima(potentials, size=block), 0)

        groups = _groups(self._remaining(batch))
        found = jax.lax.map(activities, groups)
        return found.reshape(len(batch), *found.shape[2:])

    def _remaining(self, latency: jax.Array) -> jax.Array:
        remaining = kernels.ramp.remaining_steps(latency, time_steps=self.time_steps)
        if self.ramp.rise == 1:
            return remaining
        return jnp.asarray(self.ramp.rises(self.time_steps))[remaining.astype(jnp.int32)]

    def _patches(self, values: jax.Array) -> jax.Array:
        conv = self.conv
        return hebbian.reflected_patches(values, kernel=conv.kernel, stride=conv.stride, padding=conv.padding)

    def with_moments_of(self, batch: jax.Array, momentum: float | jax.Array) -> "RampLayer":
        """The layer with its running moments, if any, moved towards those of a batch (B, C, H, W).

        `momentum` is the fraction of the way, from 0 to 1.
        """
        standardise = self.conv.standardise
        if standardise is None:
            return self
        values = self._remaining(batch)
        moved = hebbian.moved_moments(standardise.moments, hebbian.moments(values), values, momentum=momentum)
        standardise = dataclasses.replace(standardise, **moved._asdict())
        # An earlier integrator has the old moments in its weights and thresholds, and `potentials` would still use it.
        return dataclasses.replace(self, conv=dataclasses.replace(self.conv, standardise=standardise), integrator=None)

    def with_weights(self, weights: jax.Array) -> "RampLayer":
        """The layer with other weights, as in `BaseLayer`; the result is not `frozen`."""
        return dataclasses.replace(super().with_weights(weights), integrator=None)

    def rows(self) -> jax.Array:
        """The weights with one row per feature, (F, K) float32, in the order of `hebbian.reflected_patches`."""
        return self.weights.transpose(0, 2, 3, 1).reshape(self.conv.features, -1)

    def with_all_weights(self, rows: jax.Array) -> "RampLayer":
        """The layer with new weights, (F, K) in the order of `rows`; raises InputError for another shape."""
        checks.array("rows", rows, "F K", "floats")
        features, channels, *kernel = self.weights.shape
        checks.shape("rows", rows, (features, channels * math.prod(kernel)), "`RampLayer.rows`")
        return self.with_weights(self._maps(rows))

    def _maps(self, rows: jax.Array) -> jax.Array:
        """The `rows`, (F, K), as weights (F, C, kh, kw)."""
        features, channels, *kernel = self.weights.shape
        return rows.reshape(features, *kernel, channels).transpose(0, 3, 1, 2)

    def frozen(self) -> "RampLayer":
        """The layer with an `integrator`, for use without learning; it uses tiles if they are faster.

        Standardising and inhibition are linear, so that they become part of the integrator's weights and thresholds.
        Because tiles round sums, a layer with its own `threshold`, whose weights are integers, does not use them.
        """
        weights = self.rows()
        threshold = jnp.zeros(len(weights))
        if self.ramp.inhibition:
            weights = weights - weights.mean(axis=0, keepdims=True)
        standardise = self.conv.standardise
        if standardise is not None:
            taps = math.prod(self.weights.shape[2:])
            weights = weights * jnp.tile(standardise.scale, taps)[None]
            threshold = jnp.sum(weights * jnp.tile(standardise.moments.mean, taps)[None], axis=1)
        tiles = None
        if self.conv.threshold is not None:
            threshold = threshold + jnp.asarray(self.conv.threshold)
        # With tiles, all layers of goupy2024_softhebb take 1.58 ms per image instead of 2.46 ms. During learning, tiles
        # pay off for the 128 stimuli of a minibatch of `LocalError`, but not for the ten of SoftHebb, because the
        # weights must be transformed after each minibatch, which takes 40 ms for the third layer.
        elif self._fits_tiles():
            tiles = winograd.tile_weights(self._maps(weights))
        return dataclasses.replace(self, integrator=Integrator(weights, threshold, tiles))

    def _fits_tiles(self) -> bool:
        _, channels, *kernel = self.weights.shape
        on_cpu = devices.local_devices()[0].platform == "cpu"
        return on_cpu and kernel == [3, 3] and self.conv.stride in (1, (1, 1)) and channels >= _FEW

    def potentials(self, inputs: jax.Array) -> jax.Array:
        """The potentials at the end of the window of the inputs (C, H, W): (H', W', F) float32."""
        integrator = self.integrator or self.frozen().integrator
        assert integrator is not None
        values = self._remaining(inputs)
        if integrator.tiles is None:
            sums = hebbian.weighted_sums(self._patches(values), integrator.weights)
        else:
            sums = winograd.tiled_sums(values, integrator.tiles, padding=self.conv.padding)
        return self._summed(sums - integrator.threshold[None, None])

    def _summed(self, potentials: jax.Array) -> jax.Array:
        """The potentials of neurons, (H', W', F), from the potentials of their dendrites, (H, W, F)."""
        dendrites = checks.pair("dendrites", self.ramp.dendrites, 1)
        if dendrites == (1, 1):
            return potentials
        down, right = dendrites
        height = potentials.shape[0] // down
        width = potentials.shape[1] // right
        blocks = jnp.maximum(potentials[: height * down, : width * right], 0).reshape(height, down, width, right, -1)
        return blocks.sum(axis=(1, 3))

    def responses(self, inputs: jax.Array) -> jax.Array:
        """The latencies of the neurons, (F, H', W') unsigned integers."""
        return jnp.moveaxis(kernels.ramp.fire_on_ramp(self.potentials(inputs), self.levels), -1, 0)

    def deciding_spikes(self, inputs: jax.Array) -> Spikes:
        """`Spikes` of (F, H', W') of a deciding layer, in which neurons above 0 at the end of the window fire."""
        return self.fire_at_end(self.potentials(inputs))

    def fire_at_end(self, potentials: jax.Array) -> Spikes:
        """`deciding_spikes` of `potentials`, (H', W', F)."""
        return neurons.fire_at_last_step(jnp.moveaxis(potentials, -1, 0), time_steps=self.time_steps)

    def outputs(self, inputs: jax.Array, pool: Pool | None) -> jax.Array:
        """This layer's part of the output of its stage: its `responses`, then `pooled`."""
        return ramp_kernels.fire_pooled_on_ramp(
            self.potentials(inputs), self.levels, pooling(pool, self.conv.output_padding)
        )


def _groups(inputs: jax.Array) -> jax.Array:
    """Inputs (B, C, H, W) in groups of G that are computed at once: (B / G, G, C, H, W)."""
    count, _, height, width = inputs.shape
    size = count
    if devices.local_devices()[0].platform == "cpu":
        largest = max(1, _POSITIONS // (height * width))
        # G is the largest divisor that fits. With the greatest common divisor, 128 stimuli with 7x7 maps would be
        # computed one by one.
        size = max(size for size in range(1, min(largest, count) + 1) if count % size == 0)
    return inputs.reshape(count // size, size, *inputs.shape[1:])

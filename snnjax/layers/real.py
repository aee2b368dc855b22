"""Layers of real-valued neurons."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from snnjax.core import checks, devices
from snnjax.kernels import hebbian, winograd
from snnjax.kernels.hebbian import Moments
from snnjax.layers.activations import activities_of
from snnjax.layers.layer import BaseLayer
from snnjax.layers.pool import Pool, pooled_maps

_FEW = 16  # channels: with fewer, tiles are not faster


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RealLayer(BaseLayer):
    """A layer of real-valued neurons. It takes latencies or, from such a layer, activities.

    Joint learners use `batch_sums`, `activated`, `with_all_rows` and `with_moments_of`.

    Attributes:
      tiles: `kernels.winograd.tile_weights`, by which `responses` are computed if given.
    """

    tiles: jax.Array | None = dataclasses.field(default=None, kw_only=True)
    monotone: ClassVar[bool] = False
    classes: ClassVar[int] = 0

    def sums(self, inputs: jax.Array, moments: Moments | None = None) -> tuple[jax.Array, jax.Array]:
        """The patches of the inputs (C, H, W) at each position of a real-valued layer, and its sums.

        (H', W', K) and (H', W', F) float32, as of `reflected_patches` and `weighted_sums` of `kernels.hebbian`; inputs
        are standardised by the `moments` given, if at all, or by running ones.
        """
        return self._sums_of(self._standardised(inputs, moments))

    def _standardised(self, inputs: jax.Array, moments: Moments | None = None) -> jax.Array:
        values = activities_of(inputs, self.time_steps)
        return values if self.conv.standardise is None else self.conv.standardise(values, moments)

    def _sums_of(self, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        conv = self.conv
        patches = hebbian.reflected_patches(values, kernel=conv.kernel, stride=conv.stride, padding=conv.padding)
        return patches, hebbian.weighted_sums(patches, self.rows())

    def batch_sums(self, batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`sums` of each of B inputs (B, C, H, W), standardised by the moments of this batch."""
        moments = hebbian.moments(activities_of(batch, self.time_steps))
        return jax.vmap(lambda inputs: self.sums(inputs, moments))(batch)

    def with_moments_of(self, batch: jax.Array, momentum: float | jax.Array) -> "RealLayer":
        """The layer with running moments moved by this share of the way to those of a batch (B, C, H, W), if any."""
        standardise = self.conv.standardise
        if standardise is None:
            return self
        values = activities_of(batch, self.time_steps)
        moved = hebbian.moved_moments(standardise.moments, hebbian.moments(values), values, momentum=momentum)
        standardise = dataclasses.replace(standardise, **moved._asdict())
        return dataclasses.replace(self, conv=dataclasses.replace(self.conv, standardise=standardise))

    def with_weights(self, weights: jax.Array) -> "RealLayer":
        """As of `BaseLayer`; without `tiles`."""
        return dataclasses.replace(super().with_weights(weights), tiles=None)

    def rows(self) -> jax.Array:
        """The weights as a row for each feature, (F, K) float32, in the order of `hebbian.reflected_patches`."""
        return self.weights.transpose(0, 2, 3, 1).reshape(self.conv.features, -1)

    def with_all_rows(self, rows: jax.Array) -> "RealLayer":
        """The layer with new weights, (F, K) in the order of `rows`; raises InputError for another shape."""
        features, channels, *kernel = self.weights.shape
        checks.array("rows", rows, "F K", "floats")
        checks.shape("rows", rows, (features, channels * math.prod(kernel)), "`RealLayer.rows`")
        weights = rows.reshape(features, *kernel, channels).transpose(0, 3, 1, 2)
        return self.with_weights(weights)

    def activated(self, sums: jax.Array) -> jax.Array:
        """The activities, (..., F, H', W') float32, of weighted sums, (..., H', W', F)."""
        return jnp.moveaxis(self.conv.activation(sums), -1, -3)

    def responses(self, inputs: jax.Array) -> jax.Array:
        """The activities of its neurons, (F, H', W') float32."""
        values = self._standardised(inputs)
        if self.tiles is None:
            return self.activated(self._sums_of(values)[1])
        return self.activated(winograd.tiled_sums(values, self.tiles, padding=self.conv.padding))

    def tiled(self) -> "RealLayer":
        """The layer, which does not learn, with `tiles` where it takes less time by them."""
        weights = self.weights
        fits = weights.shape[2:] == (3, 3) and self.conv.stride in (1, (1, 1))
        on_cpu = devices.peers()[0].platform == "cpu"
        if not (fits and on_cpu) or weights.shape[1] < _FEW:
            return self
        return dataclasses.replace(self, tiles=winograd.tile_weights(weights))

    def outputs(self, inputs: jax.Array, pool: Pool | None) -> jax.Array:
        """The part of its stage's output that is this layer's: `pooled` of `responses`."""
        return self.pooled(self.responses(inputs), pool)

    def pooled(self, responses: jax.Array, pool: Pool | None) -> jax.Array:
        """Responses of the layer, (F, H', W'), with its `output_padding`, then pooled."""
        rows, columns = checks.pair("output_padding", self.conv.output_padding, 0)
        padded = jnp.pad(responses, ((0, 0), (rows, rows), (columns, columns)))
        return pooled_maps(padded, pool, self.time_steps)

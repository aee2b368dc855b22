"""The base class of layers with weights."""

import dataclasses
from typing import Self

import jax

from snnjax.core import checks
from snnjax.core.components import static
from snnjax.kernels import pad
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool, pooled_maps


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BaseLayer:
    """A layer with its weights. Its methods accept one stimulus, (C, H, W); use `jax.vmap` for batches.

    Attributes:
      conv: the description; its numbers may be arrays, of shape () except for a `threshold` of (F,).
      weights: (F, C, kh, kw) float32.
      time_steps: T.
      input_shape: the shape (C, H, W) of the layer's input; () if the layer is not part of a `Model`.
    """

    conv: Conv
    weights: jax.Array
    time_steps: int = static()
    input_shape: tuple[int, ...] = dataclasses.field(default=(), kw_only=True, metadata=dict(static=True))

    def with_weights(self, weights: jax.Array) -> Self:
        """The layer with other weights, (F, C, kh, kw) float32; raises InputError for another shape."""
        checks.array("weights", weights, "F C kh kw", "floats")
        self.conv.check_shape(weights)
        return dataclasses.replace(self, weights=weights)

    def pooled(self, responses: jax.Array, pool: Pool | None) -> jax.Array:
        """The latencies of the layer, (F, H', W'), after adding its `output_padding` and pooling."""
        padded = pad(responses, self.conv.output_padding, time_steps=self.time_steps)
        return pooled_maps(padded, pool, self.time_steps)

"""A layer with its weights, and the kernels that compute it: the base of all layers."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Self

import jax

from snnjax.core import checks
from snnjax.core.components import static
from snnjax.core.errors import InputError
from snnjax.kernels import Spikes, Winners, pad
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool, pooled_maps


def _keep(weights: jax.Array) -> jax.Array:
    return weights


def _keep_all(weights: jax.Array, features: int) -> jax.Array:
    return weights


class LayerKernels(NamedTuple):
    """A layout of weights, and kernels that compute a layer: functions of (layer, latencies...); None: as it defines.

    Without any, a layer is computed as it is defined; tests hold the others to that. All are functions of modules, so
    that layers can be pickled.

    Attributes:
      pack: from weights (F, C, kh, kw) to this layout.
      unpack: its inverse, of (weights, F).
      latencies: of layers with a threshold.
      outputs: of (layer, latency, pool), of layers with a threshold.
      potentials: at the last step.
      winners: of layers with weights >= 0 and the competition `WTA`.
      learn: of (..., winners, rates, bounds=..., stabiliser=...): new weights of a layer `in_bounds`.
      timed_spikes: of (..., threshold), for deciding layers with a threshold under a timed decision.
      fires: of (layer, B inputs, pool): who fires at all, pooled latencies of the last step, or T where silent.
      of_classes: of (layer, B inputs, scores), of deciding layers: `Spikes` of (B, classes, 1, 1), those of the neuron
        of each class that matters to the decision; without `scores` maybe right for the class that wins alone.
    """

    pack: Callable[[jax.Array], jax.Array] = _keep
    unpack: Callable[[jax.Array, int], jax.Array] = _keep_all
    latencies: Callable[..., jax.Array] | None = None
    outputs: Callable[..., jax.Array] | None = None
    potentials: Callable[..., jax.Array] | None = None
    winners: Callable[..., Winners] | None = None
    learn: Callable[..., jax.Array] | None = None
    timed_spikes: Callable[..., Spikes] | None = None
    fires: Callable[..., jax.Array] | None = None
    of_classes: Callable[..., Spikes] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BaseLayer:
    """A layer with its weights. Its methods take one stimulus, (C, H, W); batches come from `jax.vmap`.

    Attributes:
      conv: the description; its numbers may be arrays, () each, but for a `threshold` of (F,).
      stored: the weights, float32, in the layout of `kernels`, which alone read it.
      time_steps: T.
      kernels: the layout of the weights, and the functions that compute the layer.
      input_shape: (C, H, W) of what the layer reads; () of a layer that is not part of a `Model`.
      in_bounds: whether all weights lie within the learner's bounds, so that `learn` changes winners' weights only.
    """

    conv: Conv
    stored: jax.Array
    time_steps: int = static()
    kernels: LayerKernels = static()  # noqa: RUF009
    input_shape: tuple[int, ...] = dataclasses.field(default=(), kw_only=True, metadata=dict(static=True))
    in_bounds: bool = dataclasses.field(default=False, kw_only=True, metadata=dict(static=True))

    @property
    def weights(self) -> jax.Array:
        """All weights, (F, C, kh, kw) float32."""
        return self.kernels.unpack(self.stored, self.conv.features)

    def with_weights(self, weights: jax.Array) -> Self:
        """The layer with other weights, (F, C, kh, kw) float32; raises InputError for another shape."""
        kernel = checks.pair("kernel", self.conv.kernel, 1)
        checks.array("weights", weights, "F C kh kw", "floats")
        if (weights.shape[0], *weights.shape[2:]) != (self.conv.features, *kernel):
            expected = f"({self.conv.features}, C, {kernel[0]}, {kernel[1]})"
            raise InputError(f"`weights` must have shape {expected}, got {weights.shape}")
        return dataclasses.replace(self, stored=self.kernels.pack(weights), in_bounds=False)

    def pooled(self, responses: jax.Array, pool: Pool | None) -> jax.Array:
        """Latencies of the layer, (F, H', W'), with its `output_padding`, then pooled."""
        padded = pad(responses, self.conv.output_padding, time_steps=self.time_steps)
        return pooled_maps(padded, pool, self.time_steps)

    def packed(self, kernels: LayerKernels) -> Self:
        """The same layer, computed by other kernels."""
        return dataclasses.replace(self, stored=kernels.pack(self.weights), kernels=kernels)

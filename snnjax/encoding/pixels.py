"""Pixels as latencies, without a filter."""

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.components import component, static
from snnjax.encoding.filters import planes
from snnjax.encoding.fitted import Filters
from snnjax.kernels.spikes import latency_dtype


@component
class Pixels:
    """Each pixel of each colour plane as one input, bright ones first, black ones silent.

    `encoder(image)` returns (1, H, W) or (3, H, W) latencies, min(floor((1 - p / 255) T), T - 1) of a pixel p above 0:
    with 255 time steps every value of 0..255 has its own.

    Attributes:
      time_steps: T.
    """

    time_steps: int = static(default=255)

    def check(self) -> None:
        """Raises TypeError or InputError for invalid settings."""
        checks.time_steps(self.time_steps)

    def __call__(self, image: jax.Array) -> jax.Array:
        """From an image of 0..255, any real dtype, to (C, H, W) unsigned integers, T where silent."""
        checks.array("image", image, None)
        self.output_shape(image.shape)
        pixels = jnp.moveaxis(jnp.atleast_3d(image.astype(jnp.float32)), -1, 0)
        step = jnp.floor((255 - jnp.clip(pixels, 0, 255)) * self.time_steps / 255)
        latency = jnp.where(pixels > 0, jnp.minimum(step, self.time_steps - 1), self.time_steps)
        return latency.astype(latency_dtype(self.time_steps))

    def bank(self, channels: int) -> Filters:
        """What each of the maps shows: grey pixels, or red, green and blue ones."""
        return Filters(np.ones((1, 1, 1)) if channels == 1 else np.eye(channels)[:, None, None], 0)

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(C, H, W) for images (H, W) or (H, W, 3); raises InputError for others."""
        return planes(image_shape), image_shape[0], image_shape[1]


PIXELS = Pixels()
"""Images (H, W) or (H, W, 3) as they are, T = 255."""

"""Encoders without filters: latencies of pixels, or of the first events of a recording."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.components import component, static
from snnjax.core.errors import InputError
from snnjax.encoding.encoder import rank_order
from snnjax.encoding.filters import FilterBank, planes
from snnjax.encoding.fitted import Filters
from snnjax.kernels.spikes import latency_dtype


@component
class Pixels:
    """Each pixel of each colour plane is an input: bright pixels fire early, black ones are silent.

    `encoder(image)` returns (1, H, W) or (3, H, W) latencies, min(floor((1 - p / 255) T), T - 1) for a pixel p above 0.
    With 255 time steps, each value in 0..255 has a different latency.

    Attributes:
      time_steps: T.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.encoding import Pixels
      >>> image = jnp.array([[0, 1], [128, 255]], jnp.uint8)
      >>> Pixels()(image).tolist()
      [[[255, 254], [127, 0]]]
    """

    time_steps: int = static(default=255, minimum=1)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Maps an image in 0..255, of any real dtype, to (C, H, W) unsigned integers, T for silent."""
        checks.array("image", image, None)
        self.output_shape(image.shape)
        pixels = jnp.moveaxis(jnp.atleast_3d(image.astype(jnp.float32)), -1, 0)
        # (255 - p) T is an integer, and its division by 255 is exact where it has no remainder. 1 - p / 255 would be
        # rounded, and `floor` might then give the step before.
        step = jnp.floor((255 - jnp.clip(pixels, 0, 255)) * self.time_steps / 255)
        latency = jnp.where(pixels > 0, jnp.minimum(step, self.time_steps - 1), self.time_steps)
        return latency.astype(latency_dtype(self.time_steps))

    def bank(self, channels: int) -> Filters:
        """A filter of one pixel for each map: grey, or red, green and blue."""
        return Filters(np.ones((1, 1, 1)) if channels == 1 else np.eye(channels)[:, None, None], 0)

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(C, H, W) for images of shape (H, W) or (H, W, 3); raises InputError for any other shape."""
        return planes(image_shape), image_shape[0], image_shape[1]


PIXELS = Pixels()
"""Images (H, W) or (H, W, 3) as they are, T = 255."""


@component
class EventEncoder:
    """First-spike latencies of a recording, given as an event picture: `encoder(picture)` returns (2, H, W).

    An event picture, (H, W, 2) in 0..255, contains the time of the first off event (channel 0) and of the first on
    event (channel 1) of each pixel: from 255 at the beginning of the recording's window down to 1 at its end; 0 if
    there was no event.

    Attributes:
      time_steps: T.
      equal_counts: whether equally many spikes occur at each step, as with `rank_order`; otherwise all steps have the
        same duration. On N-MNIST, both train equally well with windows of 50 ms, and equal counts better with windows
        of 105 ms.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.encoding import EventEncoder
      >>> picture = jnp.array([[[255, 0], [0, 128], [1, 0]]], jnp.uint8)  # three events
      >>> EventEncoder(time_steps=3)(picture).tolist()
      [[[0, 3, 2]], [[3, 1, 3]]]
    """

    time_steps: int = static(default=15, minimum=1)
    equal_counts: bool = static(default=True)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Maps an event picture of any real dtype to (2, H, W) unsigned integers, T for silent."""
        checks.array("image", image, "H W 2")
        self.output_shape(image.shape)
        return _latencies(image, self.time_steps, self.equal_counts)

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(2, H, W) for event pictures (H, W, 2); raises InputError for other images."""
        if len(image_shape) != 3 or image_shape[2] != 2:
            raise InputError(f"`image` must be an event picture, with axes (H W 2), got shape {image_shape}")
        return 2, image_shape[0], image_shape[1]

    @property
    def bank(self) -> FilterBank:
        """The filters of the two maps, of one pixel each: a change to darker, and a change to brighter."""
        return FilterBank.of([np.full((1, 1), sign) for sign in (-1.0, 1.0)])


@functools.partial(jax.jit, static_argnames=("time_steps", "equal_counts"))
def _latencies(image: jax.Array, time_steps: int, equal_counts: bool) -> jax.Array:
    first = jnp.moveaxis(image, -1, 0)
    if equal_counts:
        return rank_order(first.astype(jnp.float32), time_steps=time_steps)
    step = (255 - first.astype(jnp.int32)) * time_steps // 255
    return jnp.where(first > 0, step, time_steps).astype(latency_dtype(time_steps))


EVENTS = EventEncoder()
"""For event pictures (H, W, 2): two maps of the picture's size, T = 15."""

"""From an image to latencies in one step."""

import functools

import jax

from snnjax.components import component, static
from snnjax.encoding.filters import COLOURS, DIGITS, FilterBank, filter_image
from snnjax.encoding.latency import local_normalization, rank_order
from snnjax.kernels import checks
from snnjax.kernels import native as compiled


@functools.partial(jax.jit, static_argnames=("time_steps", "bank", "radius"))
def encode(image: jax.Array, *, time_steps: int = 15, bank: FilterBank = DIGITS, radius: int = 8) -> jax.Array:
    """Encodes an image as latencies: `filter_image`, `local_normalization`, and `rank_order` over all channels.

    Returns (F, H', W') unsigned integers, T where silent; constant images are silent but for their border. Raises
    TypeError or InputError for a wrong shape, T < 1 or a radius below 0.
    """
    maps = filter_image(image, bank=bank)
    return rank_order(local_normalization(maps, radius=radius), time_steps=time_steps)


@component
class Encoder:
    """The settings of `encode`: `encoder(image)` returns (F, H, W) latencies.

    Attributes:
      bank: the filters and their thresholds.
      time_steps: T.
      radius: of the local normalisation, in pixels.
    """

    bank: FilterBank = static(default=DIGITS)
    time_steps: int = static(default=15)
    radius: int = static(default=8)

    def check(self) -> None:
        """Raises TypeError or InputError for invalid settings."""
        if not isinstance(self.bank, FilterBank):
            raise TypeError(f"`bank` must be a FilterBank, got {type(self.bank).__name__}")
        checks.time_steps(self.time_steps)
        checks.integer("radius", self.radius, 0)

    def __call__(self, image: jax.Array, *, native: bool = False) -> jax.Array:
        """Encodes as `encode` does; `native` takes the rank order of `snnjax.kernels.native`, with equal results."""
        if native:
            maps = local_normalization(filter_image(image, bank=self.bank), radius=self.radius)
            return compiled.rank_order(maps, time_steps=self.time_steps)
        return encode(image, time_steps=self.time_steps, bank=self.bank, radius=self.radius)

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(F, H, W) of the latencies of images of this shape; raises as `FilterBank.output_shape` does."""
        return self.bank.output_shape(image_shape)


GREY = Encoder()
"""For images (H, W): six maps of the image's size, T = 15."""

COLOUR = Encoder(COLOURS, time_steps=20)
"""For images (H, W, 3): 18 maps, two rows and columns larger than the image, T = 20."""

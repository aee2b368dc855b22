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
    """Encodes an image as latencies: filters, thresholds, local normalisation, rank order over all channels.

    Args:
      image: (H, W) or (H, W, 3) of 0..255, any real dtype.
      time_steps: T.
      bank: the filters and their thresholds.
      radius: of the local normalisation, in pixels.

    Returns:
      (F, H, W) unsigned integer latencies, T where silent. A blank or constant image is silent but for its border.

    Raises:
      TypeError, InputError: wrong shape; T < 1.
    """
    maps = filter_image(image, bank=bank)
    return rank_order(local_normalization(maps, radius=radius), time_steps=time_steps)


@component
class Encoder:
    """The settings of `encode` in one place: `encoder(image)` is (F, H, W) latencies.

    Attributes:
      bank: the filters and their thresholds.
      time_steps: T.
      radius: of the local normalisation, in pixels.
    """

    bank: FilterBank = static(default=DIGITS)
    time_steps: int = static(default=15)
    radius: int = static(default=8)

    def check(self) -> None:
        """Raises TypeError or InputError where something is wrong."""
        if not isinstance(self.bank, FilterBank):
            raise TypeError(f"`bank` must be a FilterBank, got {type(self.bank).__name__}")
        checks.time_steps(self.time_steps)
        checks.integer("radius", self.radius, 0)

    def __call__(self, image: jax.Array, *, native: bool = False) -> jax.Array:
        """Encodes an image, as `encode` does.

        Args:
          image: as for `encode`.
          native: takes the compiled rank order of `snnjax.kernels.native`, on a CPU; the results are the same.
        """
        if native:
            maps = local_normalization(filter_image(image, bank=self.bank), radius=self.radius)
            return compiled.rank_order(maps, time_steps=self.time_steps)
        return encode(image, time_steps=self.time_steps, bank=self.bank, radius=self.radius)

    def output_shape(self, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(F, H, W) of the latencies of images of this shape; raises InputError where it does not fit."""
        return self.bank.output_shape(image_shape)


GREY = Encoder()
"""For images (H, W): six maps of the image's size, T = 15."""

COLOUR = Encoder(COLOURS, time_steps=20)
"""For images (H, W, 3): 18 maps, two rows and columns larger than the image, T = 20."""

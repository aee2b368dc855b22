"""From an image to the latencies of its first spikes (S1/C1): filters, thresholds, local normalisation, rank order.

Encoders that are fitted to the training images, `OnOff` and `Whitening`, make linear latencies of calibrated pixels.
Of a recording by an event camera, the first events are the spikes: see `EventEncoder`.

Wrong types and dtypes raise TypeError, wrong shapes and values InputError.

References:
  Mozafari et al. 2019, Bio-inspired digit recognition using reward-modulated STDP in deep convolutional networks.
  Kheradpisheh et al. 2018, STDP-based spiking deep convolutional neural networks for object recognition.
  Mozafari et al. 2018, First-spike-based visual categorization using reward-modulated STDP.
"""

from typing import Any

from snnjax.encoding.encoder import (
    COLOUR,
    DOG,
    GABOR,
    GREY,
    Encoder,
    encode,
    lateral_inhibition,
    local_normalization,
    max_pooling,
    rank_order,
)
from snnjax.encoding.filters import (
    COLOURS,
    DIGITS,
    GABORS,
    ON_OFF_DOGS,
    FilterBank,
    dog_kernel,
    filter_image,
    gabor_kernel,
)
from snnjax.encoding.fitted import ON_OFF, WHITENING, Filters, OnOff, Whitening, calibrate
from snnjax.encoding.protocol import FittedEncoder, ImageEncoder
from snnjax.encoding.unfiltered import EVENTS, PIXELS, EventEncoder, Pixels

ENCODERS: dict[str, Any] = dict(
    grey=GREY, colour=COLOUR, dog=DOG, gabor=GABOR, on_off=ON_OFF, whitening=WHITENING, pixels=PIXELS, events=EVENTS
)
"""By the names that the option `--encoder` takes."""

__all__ = [
    "COLOUR",
    "COLOURS",
    "DIGITS",
    "DOG",
    "ENCODERS",
    "EVENTS",
    "GABOR",
    "GABORS",
    "GREY",
    "ON_OFF",
    "ON_OFF_DOGS",
    "PIXELS",
    "WHITENING",
    "Encoder",
    "EventEncoder",
    "FilterBank",
    "Filters",
    "FittedEncoder",
    "ImageEncoder",
    "OnOff",
    "Pixels",
    "Whitening",
    "calibrate",
    "dog_kernel",
    "encode",
    "filter_image",
    "gabor_kernel",
    "lateral_inhibition",
    "local_normalization",
    "max_pooling",
    "rank_order",
]

"""From an image to the latencies of its first spikes (S1/C1): filters, thresholds, local normalisation, rank order.

Of a recording by an event camera, the first events are the spikes: see `EventEncoder`.

Wrong types and dtypes raise TypeError, wrong shapes and values InputError.

References:
  Mozafari et al. 2019, Bio-inspired digit recognition using reward-modulated STDP in deep convolutional networks.
  Kheradpisheh et al. 2018, STDP-based spiking deep convolutional neural networks for object recognition.
"""

from snnjax.encoding.encoder import COLOUR, GREY, Encoder, encode, lateral_inhibition, local_normalization, rank_order
from snnjax.encoding.events import EVENTS, EventEncoder
from snnjax.encoding.filters import COLOURS, DIGITS, FilterBank, dog_kernel, filter_image, gabor_kernel

__all__ = [
    "COLOUR",
    "COLOURS",
    "DIGITS",
    "EVENTS",
    "GREY",
    "Encoder",
    "EventEncoder",
    "FilterBank",
    "dog_kernel",
    "encode",
    "filter_image",
    "gabor_kernel",
    "lateral_inhibition",
    "local_normalization",
    "rank_order",
]

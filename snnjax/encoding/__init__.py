"""From an image to the latencies of its first spikes (S1/C1): filters, thresholds, local normalisation, rank order.

The encoders `OnOff` and `Whitening` are fitted to the training images, and convert calibrated pixels to linear
latencies. For recordings of an event camera, the spikes are the first events: see `EventEncoder`.

Wrong types and dtypes raise TypeError, wrong shapes and values InputError.

References:
  Mozafari et al. 2019, Bio-inspired digit recognition using reward-modulated STDP in deep convolutional networks.
  Kheradpisheh et al. 2018, STDP-based spiking deep convolutional neural networks for object recognition.
  Mozafari et al. 2018, First-spike-based visual categorization using reward-modulated STDP.
"""

from typing import Any

from snnjax.core import public
from snnjax.encoding.encoder import COLOUR as COLOUR
from snnjax.encoding.encoder import DOG as DOG
from snnjax.encoding.encoder import GABOR as GABOR
from snnjax.encoding.encoder import GREY as GREY
from snnjax.encoding.encoder import Encoder as Encoder
from snnjax.encoding.encoder import encode as encode
from snnjax.encoding.encoder import lateral_inhibition as lateral_inhibition
from snnjax.encoding.encoder import local_normalization as local_normalization
from snnjax.encoding.encoder import max_pooling as max_pooling
from snnjax.encoding.encoder import rank_order as rank_order
from snnjax.encoding.filters import COLOURS as COLOURS
from snnjax.encoding.filters import DIGITS as DIGITS
from snnjax.encoding.filters import GABORS as GABORS
from snnjax.encoding.filters import ON_OFF_DOGS as ON_OFF_DOGS
from snnjax.encoding.filters import FilterBank as FilterBank
from snnjax.encoding.filters import dog_kernel as dog_kernel
from snnjax.encoding.filters import filter_image as filter_image
from snnjax.encoding.filters import gabor_kernel as gabor_kernel
from snnjax.encoding.fitted import ON_OFF as ON_OFF
from snnjax.encoding.fitted import WHITENING as WHITENING
from snnjax.encoding.fitted import Filters as Filters
from snnjax.encoding.fitted import OnOff as OnOff
from snnjax.encoding.fitted import Whitening as Whitening
from snnjax.encoding.fitted import calibrate as calibrate
from snnjax.encoding.protocol import FittedEncoder as FittedEncoder
from snnjax.encoding.protocol import ImageEncoder as ImageEncoder
from snnjax.encoding.unfiltered import EVENTS as EVENTS
from snnjax.encoding.unfiltered import PIXELS as PIXELS
from snnjax.encoding.unfiltered import EventEncoder as EventEncoder
from snnjax.encoding.unfiltered import Pixels as Pixels
from snnjax.kernels.spikes import linear_latency as linear_latency

ENCODERS: dict[str, Any] = dict(
    grey=GREY, colour=COLOUR, dog=DOG, gabor=GABOR, on_off=ON_OFF, whitening=WHITENING, pixels=PIXELS, events=EVENTS
)
"""By the names that the option `--encoder` takes."""

__all__ = public.names(vars())

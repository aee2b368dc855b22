"""Export of trained networks as C99 programs for microcontrollers, with 1-bit to 8-bit weights and no allocation.

A program encodes an image, sorts the input spikes by time, and adds the weights of each spike's synapses to the
potentials of the next layer, until the network has decided. Its decisions are the same as those of the network that
`networks.quantise` returns.

A program can also learn classes image by image, with a readout from `integer_prototypes`. In Python, this readout
learns exactly the same.
"""

from snnjax.core import public
from snnjax.export.c._integer_prototypes import MOST_CLASSES as MOST_CLASSES
from snnjax.export.c._integer_prototypes import IntegerPrototypes as IntegerPrototypes
from snnjax.export.c._integer_prototypes import Ranking as Ranking
from snnjax.export.c._integer_prototypes import inputs_of as inputs_of
from snnjax.export.c._integer_prototypes import integer_prototypes as integer_prototypes
from snnjax.export.c._program import Program as Program
from snnjax.export.c._program import program as program
from snnjax.export.c._results import Results as Results
from snnjax.export.c._results import results as results
from snnjax.export.c._text import identifier as identifier

__all__ = public.names(vars())

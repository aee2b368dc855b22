"""Trained networks as programs in C99, for microcontrollers: integer weights of 1 to 8 bits, and no allocation.

A program takes an image, sorts the spikes of its encoder by time, and adds the weights that each spike meets to the
potentials of the next layer, until the network has decided. Its decisions are those of `networks.quantise`.

A program can also learn classes, image by image, by a readout that `integer_prototypes` makes and that learns the same
in Python.
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

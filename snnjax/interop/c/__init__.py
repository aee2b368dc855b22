"""Trained networks as programs in C99, for microcontrollers: integer weights of 1 to 8 bits, and no allocation.

A program takes an image, sorts the spikes of its encoder by time, and adds the weights that each spike meets to the
potentials of the next layer, until the network has decided. Its decisions are those of `networks.quantise`.
"""

from snnjax.interop.c.program import Program as Program
from snnjax.interop.c.program import program as program
from snnjax.interop.c.results import Results as Results
from snnjax.interop.c.results import results as results

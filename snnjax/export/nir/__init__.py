"""Networks as NIR, the Neuromorphic Intermediate Representation, which other simulators read.

NIR (Pedersen et al. 2024, Nature Communications 15:8122) has no neurons that fire once. With weights >= 0 they are not
needed: at step t a file's network sees all inputs with latency <= t, and neurons without memory decide anew, so that a
neuron that has fired stays on. A layer is a Conv2d, followed by neurons unless it decides: the output of the file is
the potential V(t) of the deciding layer.

Several readers take one threshold for a layer, compare by > or by >=, and add up float32 in any order. So weights are
rounded to multiples of a unit, thresholds to odd multiples of half of it: sums are exact, and none equals a threshold.
Thresholds go into biases, b = B - threshold, and all neurons of a layer have the threshold B, a power of two. Pooling
and joining of spikes are Conv2d nodes with weights of 1, since no other node is read by all.
"""

from snnjax.core import public
from snnjax.export.nir._network import BITS as BITS
from snnjax.export.nir._network import NEURONS as NEURONS
from snnjax.export.nir._network import decide as decide
from snnjax.export.nir._network import exportable as exportable
from snnjax.export.nir._network import to_nir as to_nir
from snnjax.export.nir._network import write as write
from snnjax.export.nir._nodes import TAU as TAU

__all__ = public.names(vars())

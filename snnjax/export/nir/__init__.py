"""Networks as NIR, the Neuromorphic Intermediate Representation, which other simulators read.

NIR (Pedersen et al. 2024, Nature Communications 15:8122) has no neurons that fire only once. With weights >= 0 they are
not needed: at step t, the exported network receives all inputs with latency <= t, and its neurons have no memory, so
that a neuron whose potential has crossed the threshold stays active. A layer is a Conv2d node, followed by neurons
unless it decides: the output of the graph is the potential V(t) of the deciding layer.

Programs that read NIR differ: some accept only one threshold per layer, some compare with > and some with >=, and they
sum float32 values in different orders. Therefore weights are rounded to multiples of a unit and thresholds to odd
multiples of half a unit, so that sums are exact and never equal a threshold. Thresholds are written as biases,
b = B - threshold, and all neurons of a layer have the threshold B, a power of two. Pooling and concatenation are Conv2d
nodes with weights of 1, since no other suitable node is supported by all readers.
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

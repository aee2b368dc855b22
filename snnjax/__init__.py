"""Convolutional spiking networks trained by STDP and reward, in JAX.

`snnjax.kernels` and `snnjax.encoding` are pure functions on single stimuli; `snnjax.layers` and `snnjax.networks` hold
weights in flax.nnx modules; `snnjax.training` trains them; `snnjax.pytorch` carries weights to and from the PyTorch
code; `snnjax.data`, `metrics`, `checkpoint`, `runs`, `plots` and `console` serve the experiments.
"""

from snnjax import kernels
from snnjax.encoding import Encoder, encode
from snnjax.networks import NETWORKS, Network, SpikingNetwork

__version__ = "0.1.0"

__all__ = ["NETWORKS", "Encoder", "Network", "SpikingNetwork", "__version__", "encode", "kernels"]

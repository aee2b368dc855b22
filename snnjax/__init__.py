"""Convolutional spiking networks trained by STDP and reward, in JAX.

`snnjax.kernels` and `snnjax.encoding` are pure functions on single stimuli; `snnjax.layers` and `snnjax.networks` hold
weights in flax.nnx modules; `snnjax.training` trains them; `snnjax.pytorch` carries weights to and from the PyTorch
code; `load` gives the network that a run has trained; the other modules serve the experiments.
"""

from snnjax import kernels
from snnjax.encoding import Encoder, encode
from snnjax.networks import NETWORKS, Network, SpikingNetwork
from snnjax.trained import load

__version__ = "0.1.0"

__all__ = ["NETWORKS", "Encoder", "Network", "SpikingNetwork", "__version__", "encode", "kernels", "load"]

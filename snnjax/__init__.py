"""Convolutional spiking networks with local learning, in JAX."""

from snnjax.kernels import Spikes
from snnjax.networks import SpikingNetwork, mozafari2018

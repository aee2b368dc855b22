"""Layers, spiking or real-valued: their descriptions, pooling, and the kernels that compute them."""

from snnjax.kernels.neurons import at_last_step as at_last_step
from snnjax.layers.activations import LatencyCode as LatencyCode
from snnjax.layers.activations import Standardise as Standardise
from snnjax.layers.activations import Triangle as Triangle
from snnjax.layers.conv import WTA as WTA
from snnjax.layers.conv import Conv as Conv
from snnjax.layers.layer import LayerKernels as LayerKernels
from snnjax.layers.pool import Pool as Pool
from snnjax.layers.real import RealLayer as RealLayer
from snnjax.layers.spiking import Layer as Layer

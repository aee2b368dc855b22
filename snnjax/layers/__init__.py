"""Layers, spiking or real-valued: their descriptions, pooling, and the kernels that compute them."""

from snnjax.layers.activations import LatencyCode, Standardise, Triangle
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.pool import Pool
from snnjax.layers.real import RealLayer
from snnjax.layers.spiking import Layer, at_last_step

__all__ = [
    "WTA",
    "Conv",
    "LatencyCode",
    "Layer",
    "LayerKernels",
    "Pool",
    "RealLayer",
    "Standardise",
    "Triangle",
    "at_last_step",
]

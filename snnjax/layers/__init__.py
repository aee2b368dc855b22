"""Descriptions of layers, pooling, and layers with weights."""

from snnjax.core import public
from snnjax.kernels.neurons import at_last_step as at_last_step
from snnjax.layers.conv import WTA as WTA
from snnjax.layers.conv import Conv as Conv
from snnjax.layers.pool import Pool as Pool
from snnjax.layers.ramp import Ramp as Ramp
from snnjax.layers.ramp import Standardise as Standardise
from snnjax.layers.ramp_layer import RampLayer as RampLayer
from snnjax.layers.spiking import Layer as Layer

__all__ = public.names(vars())

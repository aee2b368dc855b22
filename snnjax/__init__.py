"""Convolutional spiking networks with local learning, in JAX.

`snnjax.kernels` and `snnjax.encoding` are pure functions on single stimuli. A `Network` is data: stages of `Conv`
layers, each with learners such as `STDP` and `RSTDP`, an encoder and a decision. `Trainer` trains it, `Sweep` many of
its kind; `load` gives the network that a run has trained. `component` makes classes of your own part of all this.
"""

from snnjax import kernels
from snnjax.components import component, static
from snnjax.encoding import Encoder, encode
from snnjax.errors import InputError
from snnjax.layers import WTA, Conv, Layer, Pool
from snnjax.learners import RSTDP, STDP, Learner, Response, Signal, Tally
from snnjax.networks import NETWORKS, Majority, Model, Network, SpikingNetwork, stage
from snnjax.trained import load
from snnjax.training.state import Callback, Settings, TrainState
from snnjax.training.trainer import Sweep, Trainer

__version__ = "0.2.0"

__all__ = [
    "NETWORKS",
    "RSTDP",
    "STDP",
    "WTA",
    "Callback",
    "Conv",
    "Encoder",
    "InputError",
    "Layer",
    "Learner",
    "Majority",
    "Model",
    "Network",
    "Pool",
    "Response",
    "Settings",
    "Signal",
    "SpikingNetwork",
    "Sweep",
    "Tally",
    "TrainState",
    "Trainer",
    "__version__",
    "component",
    "encode",
    "kernels",
    "load",
    "stage",
    "static",
]

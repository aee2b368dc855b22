from . import (
    activations,
    app,
    data,
    defaults,
    devices,
    encoding,
    errors,
    files,
    forms,
    kernels,
    layers,
    learners,
    metrics,
    networks,
    pytorch,
    testing,
    trained,
    training,
)
from .activations import LatencyCode, Standardise, Triangle
from .components import component, static
from .encoding import Encoder, encode
from .errors import InputError
from .layers import WTA, Conv, Layer, Pool
from .learners import RSTDP, STDP, Learner, Response, Signal, SoftHebb, SupervisedSTDP, Tally, TargetTime
from .networks import NETWORKS, Earliest, LinearSVM, Majority, Model, Network, SpikingNetwork, stage
from .trained import load
from .training.state import Callback, Settings, TrainState
from .training.sweep import Sweep
from .training.trainer import Trainer

__version__: str

__all__ = [
    "NETWORKS",
    "RSTDP",
    "STDP",
    "WTA",
    "Callback",
    "Conv",
    "Earliest",
    "Encoder",
    "InputError",
    "LatencyCode",
    "Layer",
    "Learner",
    "LinearSVM",
    "Majority",
    "Model",
    "Network",
    "Pool",
    "Response",
    "Settings",
    "Signal",
    "SoftHebb",
    "SpikingNetwork",
    "Standardise",
    "SupervisedSTDP",
    "Sweep",
    "Tally",
    "TargetTime",
    "TrainState",
    "Trainer",
    "Triangle",
    "__version__",
    "activations",
    "app",
    "component",
    "data",
    "defaults",
    "devices",
    "encode",
    "encoding",
    "errors",
    "files",
    "forms",
    "kernels",
    "layers",
    "learners",
    "load",
    "metrics",
    "networks",
    "pytorch",
    "stage",
    "static",
    "testing",
    "trained",
    "training",
]

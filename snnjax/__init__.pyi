from . import (
    app,
    core,
    data,
    encoding,
    interop,
    kernels,
    layers,
    learners,
    networks,
    runs,
    steps,
    testing,
    training,
)
from .core.components import component, fitted, static
from .core.errors import InputError
from .encoding import Encoder, encode
from .layers import WTA, Conv, LatencyCode, Layer, Pool, Standardise, Triangle
from .learners import RSTDP, STDP, Learner, Response, Signal, SoftHebb, SupervisedSTDP, Tally, TargetTime
from .networks import NETWORKS, Earliest, Images, LinearSVM, Majority, Model, Network, SpikingNetwork, stage
from .runs import load
from .training.loop import Trainer
from .training.state import Callback, Settings, TrainState
from .training.sweep import Sweep

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
    "Images",
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
    "app",
    "component",
    "core",
    "data",
    "encode",
    "encoding",
    "fitted",
    "interop",
    "kernels",
    "layers",
    "learners",
    "load",
    "networks",
    "runs",
    "stage",
    "static",
    "steps",
    "testing",
    "training",
]

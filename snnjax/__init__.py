"""Convolutional spiking networks with local learning, in JAX.

`snnjax.kernels` and `snnjax.encoding` are pure functions on single stimuli. A `Network` is data: stages of `Conv`
layers, each with learners such as `STDP` and `SupervisedSTDP`, an encoder and a decision. `Trainer` trains it,
`Sweep` many of its kind; `load` gives the network that a run has trained. `component` makes custom classes part of all
this.
"""

import lazy_loader

__version__ = "0.7.0"

# What `__init__.pyi` imports is imported when it is first used: the command line answers before JAX is there.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

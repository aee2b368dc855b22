"""Convolutional spiking networks with local learning, in JAX.

`snnjax.kernels` and `snnjax.encoding` contain pure functions of single stimuli. A `Network` is a description: stages of
`Conv` layers, each with learners such as `STDP` and `SupervisedSTDP`, an encoder and a decision. `Trainer` trains a
network, and `Sweep` trains many variants of one. `load` returns the network that a run has trained. With `component`,
custom classes can be used in the same way as those of the library.
"""

import lazy_loader

__version__ = "0.7.0"

# What `__init__.pyi` imports is imported when it is first used: the command line answers before JAX is there.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

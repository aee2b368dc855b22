"""How layers learn: two pure functions and a state, as an optimizer is in optax.

`Learner` is the protocol; `STDP` and `RSTDP` are two that follow it. One of your own is a component with the same
functions, and needs nothing else: the trainer, sweeps, checkpoints and reports know learners by the protocol alone.
"""

from snnjax.learners.learner import Learner, Response, Signal, Tally
from snnjax.learners.reward import RSTDP
from snnjax.learners.stdp import STDP

__all__ = ["RSTDP", "STDP", "Learner", "Response", "Signal", "Tally"]

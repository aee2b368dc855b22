"""How layers learn: `Learner` is the protocol, `STDP` and `RSTDP` follow it, and so may learners of your own."""

from snnjax.learners.learner import Learner, Response, Signal, Tally
from snnjax.learners.reward import RSTDP
from snnjax.learners.stdp import STDP

__all__ = ["RSTDP", "STDP", "Learner", "Response", "Signal", "Tally"]

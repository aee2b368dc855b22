"""How layers learn: `Learner` is the protocol, `STDP` and `RSTDP` follow it, and so may learners of your own."""

from snnjax.learners.protocol import (
    SILENT,
    Diagnosis,
    Learned,
    Learner,
    Response,
    Signal,
    Tally,
    convergence,
    listed,
    percent,
)
from snnjax.learners.reward import RSTDP, strongest_of_class
from snnjax.learners.stdp import LEARNED, STDP

__all__ = [
    "LEARNED",
    "RSTDP",
    "SILENT",
    "STDP",
    "Diagnosis",
    "Learned",
    "Learner",
    "Response",
    "Signal",
    "Tally",
    "convergence",
    "listed",
    "percent",
    "strongest_of_class",
]

"""How layers learn: by `STDP`, `RSTDP`, `SupervisedSTDP` or learners of your own, all by the protocol `Learner`."""

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
from snnjax.learners.supervised import SupervisedSTDP

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
    "SupervisedSTDP",
    "Tally",
    "convergence",
    "listed",
    "percent",
    "strongest_of_class",
]

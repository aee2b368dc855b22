"""How layers learn: by `STDP`, `TargetTime`, `SoftHebb`, `RSTDP`, `SupervisedSTDP`, your own; see `Learner`."""

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
from snnjax.learners.reward import RSTDP, winner_of_class
from snnjax.learners.soft_hebb import SoftHebb
from snnjax.learners.stdp import LEARNED, STDP
from snnjax.learners.supervised import SupervisedSTDP
from snnjax.learners.target_time import TargetTime

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
    "SoftHebb",
    "SupervisedSTDP",
    "Tally",
    "TargetTime",
    "convergence",
    "listed",
    "percent",
    "winner_of_class",
]

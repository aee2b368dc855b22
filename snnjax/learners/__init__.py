"""Rules by which layers learn: `STDP`, `TargetTime`, `SoftHebb`, `RSTDP`, `SupervisedSTDP`, custom; see `Learner`."""

from snnjax.learners.protocol import (
    Diagnosis,
    Learner,
    Response,
    Signal,
    Tally,
    UpdateResult,
    convergence,
)
from snnjax.learners.reward import RSTDP, winner_of_class
from snnjax.learners.soft_hebb import SoftHebb
from snnjax.learners.stdp import STDP
from snnjax.learners.supervised import SupervisedSTDP
from snnjax.learners.target_time import TargetTime

__all__ = [
    "RSTDP",
    "STDP",
    "Diagnosis",
    "Learner",
    "Response",
    "Signal",
    "SoftHebb",
    "SupervisedSTDP",
    "Tally",
    "TargetTime",
    "UpdateResult",
    "convergence",
    "winner_of_class",
]

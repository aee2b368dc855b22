"""Rules by which layers learn: `STDP`, `TargetTime`, `SoftHebb`, `LocalError`, `RSTDP`, `SupervisedSTDP`,
`Prototypes`, custom; see `Learner`."""

from snnjax.core import public
from snnjax.core.components import learnable as learnable
from snnjax.learners.local_error import LocalError as LocalError
from snnjax.learners.protocol import DecisionCounts as DecisionCounts
from snnjax.learners.protocol import Diagnosis as Diagnosis
from snnjax.learners.protocol import Learned as Learned
from snnjax.learners.protocol import Learner as Learner
from snnjax.learners.protocol import Response as Response
from snnjax.learners.protocol import Signal as Signal
from snnjax.learners.protocol import UpdateResult as UpdateResult
from snnjax.learners.protocol import convergence as convergence
from snnjax.learners.protocol import winner_of_class as winner_of_class
from snnjax.learners.prototypes import Prototypes as Prototypes
from snnjax.learners.reward import RSTDP as RSTDP
from snnjax.learners.soft_hebb import SoftHebb as SoftHebb
from snnjax.learners.stdp import STDP as STDP
from snnjax.learners.supervised import SupervisedSTDP as SupervisedSTDP
from snnjax.learners.target_time import TargetTime as TargetTime

__all__ = public.names(vars())

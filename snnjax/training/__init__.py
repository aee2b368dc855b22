"""Training: settings, states, callbacks, sweeps and the workers that share them."""

from snnjax.core import public
from snnjax.training.cost import Cost as Cost
from snnjax.training.groups import varied as varied
from snnjax.training.loop import Trainer as Trainer
from snnjax.training.run_plan import RunPlan as RunPlan
from snnjax.training.state import Callback as Callback
from snnjax.training.state import Settings as Settings
from snnjax.training.state import TrainState as TrainState
from snnjax.training.sweep import Sweep as Sweep
from snnjax.training.sweep import SweepState as SweepState

__all__ = public.names(vars())

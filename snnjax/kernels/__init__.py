"""Pure, jitted kernels for single stimuli, batched with `jax.vmap`, and kernels for sequences of stimuli.

Arguments, unless a function says otherwise:

  latency: (C, H, W) integers in 0..T, the time steps at which the inputs fire; T stands for a silent input.
  weights: (F, C, kh, kw) float.
  time_steps: T >= 1.
  threshold: a finite number, or a () or (F,) array; with None, neurons with a potential above 0 at the last time step
    fire at that step.
  k: maximum number of winners, >= 1.
  radius: inhibition radius around a winner, in neurons, >= 0.
  kernel, window, stride, padding: rows and columns, or one integer for both; the padding is silent and is added on
    each side.

A wrong type or dtype raises TypeError. A wrong shape, a kernel or window larger than the (padded) map, and a number out
of range raise InputError, which is a ValueError. Latencies beyond `time_steps` and winners outside the layer raise
InputError too, but only if their values are known: values on an accelerator, and values under `jax.jit` or `jax.vmap`,
are not checked. A layer has H' = (H + 2 padding - kh) // stride + 1 rows of positions, and W' columns likewise.

For arrays on a CPU, `integrate_and_fire`, `latencies`, `timed_spikes`, `final_potentials`, `winners`, `stdp` and all
kernels for sequences use a compiled implementation. `use_backend("xla")` selects the implementation in XLA.
"""

from snnjax.core import public
from snnjax.kernels.backend import use_backend as use_backend
from snnjax.kernels.competition import Winners as Winners
from snnjax.kernels.competition import feature_inhibition as feature_inhibition
from snnjax.kernels.competition import k_winners as k_winners
from snnjax.kernels.competition import pointwise_inhibition as pointwise_inhibition
from snnjax.kernels.competition import strongest_feature as strongest_feature
from snnjax.kernels.compiled import final_potentials as final_potentials
from snnjax.kernels.compiled import integrate_and_fire as integrate_and_fire
from snnjax.kernels.compiled import latencies as latencies
from snnjax.kernels.compiled import stdp as stdp
from snnjax.kernels.compiled import timed_spikes as timed_spikes
from snnjax.kernels.compiled import winners as winners
from snnjax.kernels.decisions import earliest_of_classes as earliest_of_classes
from snnjax.kernels.decisions import final_latencies as final_latencies
from snnjax.kernels.decisions import strongest_of_classes as strongest_of_classes
from snnjax.kernels.learning import LearnedReward as LearnedReward
from snnjax.kernels.learning import LearnedSTDP as LearnedSTDP
from snnjax.kernels.learning import learn_reward as learn_reward
from snnjax.kernels.learning import learn_stdp as learn_stdp
from snnjax.kernels.neurons import Spikes as Spikes
from snnjax.kernels.neurons import fire as fire
from snnjax.kernels.neurons import potentials as potentials
from snnjax.kernels.plasticity import receptive_fields as receptive_fields
from snnjax.kernels.plasticity import reward_rates as reward_rates
from snnjax.kernels.readout import LearnedReadout as LearnedReadout
from snnjax.kernels.readout import learn_readout as learn_readout
from snnjax.kernels.spikes import Pooling as Pooling
from snnjax.kernels.spikes import latency_to_wave as latency_to_wave
from snnjax.kernels.spikes import pad as pad
from snnjax.kernels.spikes import pool as pool
from snnjax.kernels.spikes import wave_to_latency as wave_to_latency
from snnjax.kernels.supervised import desired_times as desired_times
from snnjax.kernels.target_time import LearnedTargetTime as LearnedTargetTime
from snnjax.kernels.target_time import learn_target_time as learn_target_time

__all__ = public.names(vars())

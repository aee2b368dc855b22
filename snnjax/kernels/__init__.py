"""Pure, jitted kernels on single stimuli; batches come from `jax.vmap`, sequences from `jax.lax.scan`.

Arguments, unless a function says otherwise:

  latency: (C, H, W) integers in 0..T, the steps at which the inputs fire; T is silence.
  weights: (F, C, kh, kw) float.
  time_steps: T >= 1.
  threshold: a finite number, or a () or (F,) array; None: neurons above 0 at the last step fire there.
  k: maximum number of winners, >= 1.
  radius: inhibition radius around a winner, in neurons, >= 0.
  kernel, window, stride, padding: rows and columns, or one integer for both; padding is silent, on each side.

A wrong type or dtype raises TypeError; a wrong shape, a kernel or window larger than the (padded) map and a number out
of range raise InputError, a ValueError. So do latencies beyond `time_steps` and winners beyond the positions of the
layer, where their values are known: values on an accelerator, and under `jax.jit` and `jax.vmap`, are not
checked. Positions of a layer are H' = (H - kh) // stride + 1 rows, and W' columns.
"""

from snnjax.kernels.competition import (
    Winners,
    early_winners,
    feature_inhibition,
    k_winners,
    pointwise_inhibition,
    strongest_feature,
)
from snnjax.kernels.hebbian import (
    Moments,
    hebbian_change,
    moments,
    moved_moments,
    pool_activities,
    reflected_patches,
    soft_competition,
    standardised,
    towards_unit_norm,
    triangle,
    weighted_sums,
)
from snnjax.kernels.neurons import (
    PositionSpikes,
    Spikes,
    final_potentials,
    final_potentials_of_block,
    fire,
    fire_at_last_step,
    first_spikes,
    integrate_and_fire,
    latencies,
    potentials,
    timed_spikes,
)
from snnjax.kernels.plasticity import (
    adapted_rates,
    causal_inputs,
    learned_in_order,
    learned_rows,
    patches,
    receptive_fields,
    reward_rates,
    set_rows,
    stdp,
)
from snnjax.kernels.readout import (
    balanced,
    balanced_in_order,
    corrected_in_order,
    desired_times,
    earliest,
    error_stdp,
    of_earliest,
    rescaled,
    search_spikes,
)
from snnjax.kernels.spikes import latency_dtype, latency_to_wave, linear_latency, pad, pool, wave_to_latency
from snnjax.kernels.target_time import Patches, first_to_fire, learn_patches
from snnjax.kernels.winograd import tile_weights, tiled_sums

__all__ = [
    "Moments",
    "Patches",
    "PositionSpikes",
    "Spikes",
    "Winners",
    "adapted_rates",
    "balanced",
    "balanced_in_order",
    "causal_inputs",
    "corrected_in_order",
    "desired_times",
    "earliest",
    "early_winners",
    "error_stdp",
    "feature_inhibition",
    "final_potentials",
    "final_potentials_of_block",
    "fire",
    "fire_at_last_step",
    "first_spikes",
    "first_to_fire",
    "hebbian_change",
    "integrate_and_fire",
    "k_winners",
    "latencies",
    "latency_dtype",
    "latency_to_wave",
    "learn_patches",
    "learned_in_order",
    "learned_rows",
    "linear_latency",
    "moments",
    "moved_moments",
    "of_earliest",
    "pad",
    "patches",
    "pointwise_inhibition",
    "pool",
    "pool_activities",
    "potentials",
    "receptive_fields",
    "reflected_patches",
    "rescaled",
    "reward_rates",
    "search_spikes",
    "set_rows",
    "soft_competition",
    "standardised",
    "stdp",
    "strongest_feature",
    "tile_weights",
    "tiled_sums",
    "timed_spikes",
    "towards_unit_norm",
    "triangle",
    "wave_to_latency",
    "weighted_sums",
]

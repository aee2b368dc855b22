"""Pure, jitted kernels on single stimuli; batches come from `jax.vmap`, sequences from `jax.lax.scan`."""

from snnjax.kernels.competition import (
    Winners,
    feature_inhibition,
    k_winners,
    pointwise_inhibition,
    strongest_feature,
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
    potentials,
)
from snnjax.kernels.plasticity import adapted_rates, learned_rows, receptive_fields, reward_rates, set_rows, stdp
from snnjax.kernels.search import early_winners
from snnjax.kernels.spikes import latency_dtype, latency_to_wave, pad, pool, wave_to_latency

__all__ = [
    "PositionSpikes",
    "Spikes",
    "Winners",
    "adapted_rates",
    "early_winners",
    "feature_inhibition",
    "final_potentials",
    "final_potentials_of_block",
    "fire",
    "fire_at_last_step",
    "first_spikes",
    "integrate_and_fire",
    "k_winners",
    "latency_dtype",
    "latency_to_wave",
    "learned_rows",
    "pad",
    "pointwise_inhibition",
    "pool",
    "potentials",
    "receptive_fields",
    "reward_rates",
    "set_rows",
    "stdp",
    "strongest_feature",
    "wave_to_latency",
]

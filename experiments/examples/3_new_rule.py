"""A plasticity rule of your own in place of STDP: winners learn the shape of their earliest inputs.

The rule here moves a winner's weights a part of the way to 1 where an input fired in the first third of the steps, to 0
where it fired later or not at all. It needs no bounds, and no a+ and a-.

python experiments/examples/3_new_rule.py
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import encode, kernels
from snnjax.data import digits

STEPS, KERNEL = 15, 5
images = digits().train_images[:400]
latencies = jax.jit(jax.vmap(encode))(images)


def fields(latency, winners):
    """What each winner sees: (k, C, kh, kw) input latencies. Silent winners (feature -1) see the corner."""

    def take(row, column):
        return jax.lax.dynamic_slice(latency, (0, row, column), (len(latency), KERNEL, KERNEL))

    return jax.vmap(take)(winners.row, winners.column)


def early_input_rule(weights, latency, winners, rate):
    """Moves each winner's weights towards the inputs that fired early."""
    early = fields(latency, winners) < STEPS // 3
    won = jnp.where(winners.feature < 0, len(weights), winners.feature)  # out of range: dropped
    return weights.at[won].set(weights[winners.feature] * (1 - rate) + rate * early, mode="drop")


def stdp_rule(weights, latency, winners, rate):
    """The rule of the library, for comparison."""
    return kernels.stdp(weights, latency, winners, rate * jnp.array([1.0, -0.75]), time_steps=STEPS)


@functools.partial(jax.jit, static_argnames="rule")
def learn(rule, weights, rate):
    """The same scan for every rule."""

    def step(weights, latency):
        spikes = kernels.integrate_and_fire(latency, weights, threshold=15, time_steps=STEPS)
        spikes = kernels.pointwise_inhibition(spikes, time_steps=STEPS)
        winners = kernels.k_winners(spikes, k=5, radius=3, time_steps=STEPS)
        return rule(weights, latency, winners, rate), winners.feature

    return jax.lax.scan(step, weights, latencies)


start = 0.8 + 0.05 * jax.random.normal(jax.random.key(0), (16, 6, KERNEL, KERNEL))
for rule in (early_input_rule, stdp_rule):
    weights, won = learn(rule, start, 0.05)
    wins = np.bincount(np.asarray(won)[won >= 0], minlength=16)
    print(
        f"{rule.__name__}: {np.sum(wins > 0)} of 16 features have won, weights {weights.min():.2f}..{weights.max():.2f}"
    )
    print("  wins by feature:", wins.tolist())

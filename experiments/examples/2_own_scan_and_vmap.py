"""Kernels inside your own `lax.scan` and `jax.vmap`: one layer learns by STDP, for many random starts at once.

python experiments/examples/2_own_scan_and_vmap.py
"""

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import encode, kernels
from snnjax.data import digits

STEPS = 15
images = digits().train_images[:300]
latencies = jax.jit(jax.vmap(encode))(images)


def learn_from(weights, latency):
    """STDP on one image: which neurons fire, which win, and how the winners' weights change."""
    spikes = kernels.integrate_and_fire(latency, weights, threshold=15, time_steps=STEPS)
    spikes = kernels.pointwise_inhibition(spikes, time_steps=STEPS)
    winners = kernels.k_winners(spikes, k=5, radius=3, time_steps=STEPS)
    weights = kernels.stdp(weights, latency, winners, jnp.array([0.15, -0.1125]), time_steps=STEPS)
    return weights, winners.feature


@jax.jit
def learn(key):
    """One network: a scan over all images, from random weights."""
    weights = 0.8 + 0.05 * jax.random.normal(key, (16, 6, 5, 5))
    return jax.lax.scan(learn_from, weights, latencies)


# Eight networks at once: nothing but `vmap` over their keys.
weights, won = jax.vmap(learn)(jax.random.split(jax.random.key(0), 8))
print(f"weights of {weights.shape[0]} networks: {weights.shape}, winners: {won.shape}")
for number, (learned, features) in enumerate(zip(np.asarray(weights), np.asarray(won), strict=True)):
    spread = float(np.mean(learned * (1 - learned)))
    used = len(np.unique(features[features >= 0]))
    print(f"network {number}: mean w(1-w) {spread:.3f}, {used} of 16 features have won")

"""16 random draws of a layer side by side: `jax.vmap` over keys trains them, and over images and weights tests them.

python experiments/examples/11_networks_side_by_side.py
"""

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import encode, kernels
from snnjax.data import digits

STEPS = 15
LAYER = dict(threshold=15, time_steps=STEPS, padding=2)
RATES = jnp.array([0.15, -0.1125])
images = jax.jit(jax.vmap(encode))(digits().train_images[:600])


def update(weights, latency):
    winners = kernels.winners(latency, weights, k=5, radius=3, **LAYER)
    return kernels.stdp(weights, latency, winners, RATES, time_steps=STEPS, padding=2), winners.feature


@jax.jit
def learn(key):
    return jax.lax.scan(update, 0.8 + 0.05 * jax.random.normal(key, (20, 6, 5, 5)), images[:500])


def outputs(weights, latency):
    return kernels.pool(kernels.latencies(latency, weights, **LAYER), 7, time_steps=STEPS)


if __name__ == "__main__":
    weights, won = jax.vmap(learn)(jax.random.split(jax.random.key(0), 16))  # (16, 20, 6, 5, 5)
    of_network = jax.vmap(outputs, in_axes=(None, 0))
    latencies = np.asarray(jax.jit(jax.vmap(of_network, in_axes=(0, None)))(weights, images[500:]))  # (16, 100, ...)
    for number, (features, fired) in enumerate(zip(np.asarray(won), latencies < STEPS, strict=True)):
        learned = len(np.unique(features[features >= 0]))
        print(f"network {number}: {learned} of 20 features have won, {fired.mean():.0%} of the outputs fire")

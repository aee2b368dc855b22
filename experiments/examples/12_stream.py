"""A stream without an end: a jitted step takes one image and the state, and can stop at any time.

python experiments/examples/12_stream.py
"""

import jax
import jax.numpy as jnp

from snnjax import encode, kernels
from snnjax.data import digits

STEPS = 15
LAYER = dict(threshold=15, time_steps=STEPS, padding=2)
BATCH = 100  # images that arrive together; `jax.lax.scan` takes them one after the other


def update(weights, image):
    latency = encode(image)
    winners = kernels.winners(latency, weights, k=5, radius=3, **LAYER)
    rates = jnp.array([0.1, -0.075])
    weights = kernels.stdp(weights, latency, winners, rates, time_steps=STEPS, padding=2)
    return weights, winners.feature


if __name__ == "__main__":
    learn = jax.jit(lambda weights, images: jax.lax.scan(update, weights, images))
    weights = 0.8 + 0.05 * jax.random.normal(jax.random.key(0), (20, 6, 5, 5))
    for start in range(0, 1400, BATCH):
        weights, won = learn(weights, digits().train_images[start : start + BATCH])
        settled = jnp.mean(weights * (1 - weights))  # 0 once all weights are 0 or 1
        print(f"{start + BATCH} images: {len(jnp.unique(won))} of 20 features won, mean w(1-w) {settled:.3f}")

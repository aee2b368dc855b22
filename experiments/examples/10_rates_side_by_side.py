"""64 learning rates side by side: `jax.vmap` maps a scan of STDP over rates.

python experiments/examples/10_rates_side_by_side.py
"""

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import kernels
from snnjax.data import digits
from snnjax.encoding import encode

STEPS = 15
LAYER = dict(threshold=15, time_steps=STEPS, padding=2)
latencies = jax.jit(jax.vmap(encode))(digits().train_images[:500])
initial = 0.8 + 0.05 * jax.random.normal(jax.random.key(0), (20, 6, 5, 5))


@jax.jit
def learn(rate):
    """The weights after 500 images, with potentiation at this rate, depression at 3/4 of it."""

    def update(weights, latency):
        winners = kernels.winners(latency, weights, k=5, radius=3, **LAYER)
        rates = rate * jnp.array([1.0, -0.75])
        return kernels.stdp(weights, latency, winners, rates, time_steps=STEPS, padding=2), None

    return jax.lax.scan(update, initial, latencies)[0]


if __name__ == "__main__":
    rates = np.geomspace(0.001, 0.5, 64, dtype=np.float32)
    weights = np.asarray(jax.vmap(learn)(rates))  # (64, 20, 6, 5, 5)
    settled = (weights * (1 - weights)).mean(axis=(1, 2, 3, 4))  # 0 once all weights are 0 or 1
    for rate, value in list(zip(rates, settled, strict=True))[::9]:
        print(f"a+ {rate:.4f}: mean w(1-w) {value:.3f}")

"""Measures single kernels on one stimulus at mozafari2018's shapes, on a CPU: python benchmarks/kernels.py"""

import statistics
import timeit
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import encode, kernels
from snnjax.app import console
from snnjax.app.main import protected
from snnjax.core import devices
from snnjax.data import digits
from snnjax.kernels import native

T = 15
RATES = jnp.array([0.004, -0.003])
LAYERS: tuple[Any, ...] = (  # threshold, winners, shape of the weights, padding, pooling window
    (15.0, dict(k=5, radius=3), (30, 6, 5, 5), 2, 2),
    (10.0, dict(k=8, radius=1), (250, 30, 3, 3), 1, 3),
)
TIMES: dict[str, list[str]] = {}
"""By kernel, microseconds of each layer."""
native_latencies = jax.jit(native.latencies, static_argnames=("features", "threshold", "time_steps"))
native_winners = jax.jit(native.winners, static_argnames=("features", "threshold", "k", "radius", "time_steps"))


def random(*shape: int) -> jax.Array:
    """The same random numbers each time."""
    return jnp.asarray(np.random.default_rng(0).random(shape, np.float32))


def timed(name: str, kernel: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """The result of a compiled kernel, whose median time to the end of the device's work goes into `TIMES`."""
    timer = timeit.Timer(lambda: jax.block_until_ready(kernel(*args, **settings)))
    timer.timeit(1)
    count = max(1, timer.autorange()[0] // 5)
    TIMES.setdefault(name, []).append(f"{1e6 * statistics.median(timer.repeat(5, count)) / count:,.1f}")
    return kernel(*args, **settings)


def main() -> None:
    """Prints a table of all kernels, by layer."""
    devices.choose("cpu")
    latency = timed("encode", encode, jnp.asarray(digits().train_images[0]), time_steps=T)
    for threshold, winner, shape, padding, window in LAYERS:
        high, noise = random(2, *shape)
        weights = 0.9 * (high < 0.3) + 0.1 * noise  # near 0 and 1, as learning leaves them
        seen = kernels.pad(latency, padding, time_steps=T)
        limits = dict(threshold=threshold, time_steps=T)
        native_limits = limits | dict(features=len(weights))
        taps = native.arrange(weights)
        spikes = timed("integrate_and_fire", kernels.integrate_and_fire, seen, weights, **limits)
        timed("first_spikes", kernels.first_spikes, seen, weights, **limits)
        timed("native latencies", native_latencies, seen, taps, **native_limits)
        timed("early_winners", kernels.early_winners, seen, weights, **limits, **winner)
        timed("native winners", native_winners, seen, taps, **native_limits, **winner)
        inhibited = timed("pointwise_inhibition", kernels.pointwise_inhibition, spikes, time_steps=T)
        winners = timed("k_winners", kernels.k_winners, inhibited, time_steps=T, **winner)
        timed("stdp", kernels.stdp, weights, seen, winners, RATES, time_steps=T)
        latency = timed("pool", kernels.pool, spikes.latency, window, time_steps=T)
    fired = jnp.pad(random(250, 4, 4) < 0.3, ((0, 0), (2, 2), (2, 2)))
    timed("final_potentials, layer 3", kernels.final_potentials, fired, random(200, 250, 5, 5))
    taps = random(5, 5, 200, 250)
    for images in (1, 32):
        name = f"final_potentials_of_block, layer 3, {images} images"
        timed(name, kernels.final_potentials_of_block, random(images, 250, 4, 4) < 0.3, taps, padding=2)
    rows = [[name, *times, *[""] * (2 - len(times))] for name, times in TIMES.items()]
    console.screen().print(console.table(("kernel", "layer 1, µs", "layer 2, µs"), [rows]))


if __name__ == "__main__":
    protected(main)

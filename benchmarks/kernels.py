"""Measures single kernels on one stimulus at mozafari2018's shapes, on a CPU: python benchmarks/kernels.py"""

import statistics
import timeit
from collections.abc import Callable
from types import SimpleNamespace
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
LAYERS: list[Any] = [  # arguments of potentials, those of winners, shape of the weights, padding, pooling window
    (dict(threshold=15.0, time_steps=T), dict(k=5, radius=3), (30, 6, 5, 5), 2, 2),
    (dict(threshold=10.0, time_steps=T), dict(k=8, radius=1), (250, 30, 3, 3), 1, 3),
]
native_latencies = jax.jit(native.latencies, static_argnames=("features", "threshold", "time_steps"))
native_winners = jax.jit(native.winners, static_argnames=("features", "threshold", "k", "radius", "time_steps"))
KERNELS: dict[str, Callable[[Any], Any]] = {
    "integrate_and_fire": lambda x: kernels.integrate_and_fire(x.latency, x.weights, **x.limits),
    "first_spikes": lambda x: kernels.first_spikes(x.latency, x.weights, **x.limits),
    "native latencies": lambda x: native_latencies(x.latency, x.taps, features=len(x.weights), **x.limits),
    "early_winners": lambda x: kernels.early_winners(x.latency, x.weights, **x.limits, **x.wta),
    "native winners": lambda x: native_winners(x.latency, x.taps, features=len(x.weights), **x.limits, **x.wta),
    "pointwise_inhibition": lambda x: kernels.pointwise_inhibition(x.spikes, time_steps=T),
    "k_winners": lambda x: kernels.k_winners(x.inhibited, time_steps=T, **x.wta),
    "stdp": lambda x: kernels.stdp(x.weights, x.latency, x.winners, jnp.array([0.004, -0.003]), time_steps=T),
    "pool": lambda x: kernels.pool(x.spikes.latency, x.pool, time_steps=T),
}


def random(*shape: int) -> jax.Array:
    """The same random numbers each time."""
    return jnp.asarray(np.random.default_rng(0).random(shape, np.float32))


def time(kernel: Callable[..., Any], *args: Any, **settings: Any) -> str:
    """The median time of a compiled kernel to the end of the device's work."""
    timer = timeit.Timer(lambda: jax.block_until_ready(kernel(*args, **settings)))
    timer.timeit(1)
    count = max(1, timer.autorange()[0] // 5)
    return f"{1e6 * statistics.median(timer.repeat(5, count)) / count:,.1f}"


def main() -> None:
    """Prints a table of all kernels, by layer."""
    devices.choose("cpu")
    image = jnp.asarray(digits().train_images[0])
    latency = encode(image, time_steps=T)
    columns = []
    for limits, wta, shape, padding, pool in LAYERS:
        high, noise = random(2, *shape)
        weights = 0.9 * (high < 0.3) + 0.1 * noise  # near 0 and 1, as learning leaves them
        x = SimpleNamespace(weights=weights, taps=native.arrange(weights), limits=limits, wta=wta, pool=pool)
        x.latency = kernels.pad(latency, padding, time_steps=T)
        x.spikes = KERNELS["integrate_and_fire"](x)
        x.inhibited = KERNELS["pointwise_inhibition"](x)
        x.winners = KERNELS["k_winners"](x)
        latency = KERNELS["pool"](x)
        columns.append([time(kernel, x) for kernel in KERNELS.values()])
    rows = [list(row) for row in zip(KERNELS, *columns, strict=True)]
    fired = jnp.pad(random(250, 4, 4) < 0.3, ((0, 0), (2, 2), (2, 2)))
    rows += [["encode", time(encode, image, time_steps=T), ""]]
    rows += [["final_potentials, layer 3", time(kernels.final_potentials, fired, random(200, 250, 5, 5)), ""]]
    for images in (1, 32):
        block = random(images, 250, 4, 4) < 0.3
        taken = time(kernels.final_potentials_of_block, block, random(5, 5, 200, 250), padding=2)
        rows.append([f"final_potentials_of_block, layer 3, {images} images", taken, ""])
    console.screen().print(console.table(("kernel", "layer 1, µs", "layer 2, µs"), [rows]))


if __name__ == "__main__":
    protected(main)

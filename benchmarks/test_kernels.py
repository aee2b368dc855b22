"""Single kernels on one stimulus at mozafari2018's shapes: python -m pytest benchmarks --benchmark-only"""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import encode, kernels
from snnjax.data import digits
from snnjax.kernels import native

pytest.importorskip("pytest_benchmark", reason="needs pip install 'snnjax[benchmark]'")

T = 15
LAYERS: dict[str, Any] = {  # arguments of potentials, those of winners, shape of the weights, padding, pooling window
    "layer 1": (dict(threshold=15.0, time_steps=T), dict(k=5, radius=3), (30, 6, 5, 5), 2, 2),
    "layer 2": (dict(threshold=10.0, time_steps=T), dict(k=8, radius=1), (250, 30, 3, 3), 1, 3),
}
native_latencies = jax.jit(native.latencies, static_argnames=("features", "threshold", "time_steps"))
native_winners = jax.jit(native.winners, static_argnames=("features", "threshold", "k", "radius", "time_steps"))
KERNELS: dict[str, Callable[[Any], Any]] = {
    "integrate_and_fire": lambda x: kernels.integrate_and_fire(x.latency, x.weights, **x.limits),
    "first_spikes": lambda x: kernels.first_spikes(x.latency, x.weights, **x.limits),
    "native_latencies": lambda x: native_latencies(x.latency, x.taps, features=len(x.weights), **x.limits),
    "early_winners": lambda x: kernels.early_winners(x.latency, x.weights, **x.limits, **x.wta),
    "native_winners": lambda x: native_winners(x.latency, x.taps, features=len(x.weights), **x.limits, **x.wta),
    "pointwise_inhibition": lambda x: kernels.pointwise_inhibition(x.spikes, time_steps=T),
    "k_winners": lambda x: kernels.k_winners(x.inhibited, time_steps=T, **x.wta),
    "stdp": lambda x: kernels.stdp(x.weights, x.latency, x.winners, jnp.array([0.004, -0.003]), time_steps=T),
    "pool": lambda x: kernels.pool(x.spikes.latency, x.pool, time_steps=T),
}


@pytest.fixture(scope="module")
def stimuli() -> dict[str, SimpleNamespace]:
    """The input of each layer, its weights, and what its kernels make of them one after the other."""
    latency, found = encode(digits().train_images[0], time_steps=T), {}
    for name, (limits, wta, shape, padding, pool) in LAYERS.items():
        high, noise = random(2, *shape)
        weights = 0.9 * (high < 0.3) + 0.1 * noise  # near 0 and 1, as learning leaves them
        x = SimpleNamespace(weights=weights, taps=native.arrange(weights), limits=limits, wta=wta, pool=pool)
        x.latency = kernels.pad(latency, padding, time_steps=T)
        x.spikes = KERNELS["integrate_and_fire"](x)
        x.inhibited = KERNELS["pointwise_inhibition"](x)
        x.winners = KERNELS["k_winners"](x)
        latency, found[name] = KERNELS["pool"](x), x
    return found


def random(*shape: int) -> jax.Array:
    """The same random numbers each time."""
    return jnp.asarray(np.random.default_rng(0).random(shape, np.float32))


def timed(benchmark: Any, kernel: Callable[..., Any], *args: Any) -> Any:
    """Measures a compiled kernel to the end of the device's work."""
    jax.block_until_ready(kernel(*args))
    return benchmark(lambda: jax.block_until_ready(kernel(*args)))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_layer(benchmark: Any, stimuli: Any, kernel: str, name: str) -> None:
    found = timed(benchmark, KERNELS[kernel], stimuli[name])
    if "winners" in kernel:
        assert found.feature.tolist() == stimuli[name].winners.feature.tolist()


def test_encode(benchmark: Any) -> None:
    timed(benchmark, lambda image: encode(image, time_steps=T), jnp.asarray(digits().train_images[0]))


def test_final_potentials(benchmark: Any) -> None:
    spiked = jnp.pad(random(250, 4, 4) < 0.3, ((0, 0), (2, 2), (2, 2)))
    timed(benchmark, kernels.final_potentials, spiked, random(200, 250, 5, 5))


@pytest.mark.parametrize("images", [1, 32])
def test_final_potentials_of_block(benchmark: Any, images: int) -> None:
    kernel = functools.partial(kernels.final_potentials_of_block, padding=2)
    timed(benchmark, kernel, random(images, 250, 4, 4) < 0.3, random(5, 5, 200, 250))

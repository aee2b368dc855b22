"""Single kernels on one stimulus at mozafari2018's shapes: python -m pytest benchmarks --benchmark-only"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax import encode, kernels
from snnjax.data import digits
from snnjax.kernels import Winners, native

pytest.importorskip("pytest_benchmark", reason="needs pip install 'snnjax[benchmark]'")

T = 15
LAYERS: dict[str, dict[str, Any]] = {
    "layer 1": dict(shape=(30, 6, 5, 5), padding=2, threshold=15.0, k=5, radius=3, pool=2),
    "layer 2": dict(shape=(250, 30, 3, 3), padding=1, threshold=10.0, k=8, radius=1, pool=3),
}
DECISION, BLOCK = (200, 250, 5, 5), 32
"""Weights of the decision layer, and the images whose potentials it computes together."""


@pytest.fixture(scope="module")
def stimuli() -> dict[str, dict[str, Any]]:
    """What enters each layer, its weights, and what its kernels make of them one after the other."""
    draw = np.random.default_rng(0)
    latency, found = encode(digits().train_images[0], time_steps=T), {}
    for name, layer in LAYERS.items():
        # Weights near 0 and 1, as learning leaves them.
        high = draw.random(layer["shape"]) < 0.3
        weights = jnp.asarray(np.where(high, 0.9, 0) + 0.1 * draw.random(layer["shape"]), jnp.float32)
        latency = kernels.pad(latency, layer["padding"], time_steps=T)
        spikes = kernels.integrate_and_fire(latency, weights, threshold=layer["threshold"], time_steps=T)
        inhibited = kernels.pointwise_inhibition(spikes, time_steps=T)
        winners = kernels.k_winners(inhibited, k=layer["k"], radius=layer["radius"], time_steps=T)
        found[name] = dict(latency=latency, weights=weights, spikes=spikes, inhibited=inhibited, winners=winners)
        latency = kernels.pool(spikes.latency, layer["pool"], time_steps=T)
    return found


def timed(benchmark: Any, function: Callable[..., Any], *args: Any, **static: Any) -> Any:
    """Measures a kernel to the end of the device's work, compiled before."""

    def run() -> Any:
        return jax.block_until_ready(function(*args, **static))

    run()
    return benchmark(run)


def test_encode(benchmark: Any) -> None:
    timed(benchmark, encode, jnp.asarray(digits().train_images[0]), time_steps=T)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kernel", [kernels.integrate_and_fire, kernels.first_spikes], ids=lambda f: f.__name__)
def test_neurons(benchmark: Any, stimuli: Any, kernel: Any, name: Any) -> None:
    given = stimuli[name]
    timed(benchmark, kernel, given["latency"], given["weights"], threshold=LAYERS[name]["threshold"], time_steps=T)


@pytest.mark.parametrize("name", LAYERS)
def test_early_winners(benchmark: Any, stimuli: Any, name: Any) -> None:
    layer, given = LAYERS[name], stimuli[name]
    settings = {key: layer[key] for key in ("threshold", "k", "radius")}
    winners: Winners = timed(
        benchmark, kernels.early_winners, given["latency"], given["weights"], time_steps=T, **settings
    )
    assert winners.feature.tolist() == given["winners"].feature.tolist()


@pytest.mark.parametrize("name", LAYERS)
def test_native_winners(benchmark: Any, stimuli: Any, name: Any) -> None:
    layer, given = LAYERS[name], stimuli[name]
    settings = {key: layer[key] for key in ("threshold", "k", "radius")}
    find = jax.jit(functools.partial(native.winners, features=len(given["weights"]), time_steps=T, **settings))
    winners: Winners = timed(benchmark, find, given["latency"], native.arrange(given["weights"]))
    assert winners.feature.tolist() == given["winners"].feature.tolist()


@pytest.mark.parametrize("name", LAYERS)
def test_native_latencies(benchmark: Any, stimuli: Any, name: Any) -> None:
    given = stimuli[name]
    settings = dict(features=len(given["weights"]), threshold=LAYERS[name]["threshold"], time_steps=T)
    run = jax.jit(functools.partial(native.latencies, **settings))
    timed(benchmark, run, given["latency"], native.arrange(given["weights"]))


@pytest.mark.parametrize("name", LAYERS)
def test_pointwise_inhibition(benchmark: Any, stimuli: Any, name: Any) -> None:
    timed(benchmark, kernels.pointwise_inhibition, stimuli[name]["spikes"], time_steps=T)


@pytest.mark.parametrize("name", LAYERS)
def test_k_winners(benchmark: Any, stimuli: Any, name: Any) -> None:
    settings = {key: LAYERS[name][key] for key in ("k", "radius")}
    timed(benchmark, kernels.k_winners, stimuli[name]["inhibited"], time_steps=T, **settings)


@pytest.mark.parametrize("name", LAYERS)
def test_stdp(benchmark: Any, stimuli: Any, name: Any) -> None:
    given, rates = stimuli[name], jnp.array([0.004, -0.003])
    timed(benchmark, kernels.stdp, given["weights"], given["latency"], given["winners"], rates, time_steps=T)


@pytest.mark.parametrize("name", LAYERS)
def test_pool(benchmark: Any, stimuli: Any, name: Any) -> None:
    timed(benchmark, kernels.pool, stimuli[name]["spikes"].latency, LAYERS[name]["pool"], time_steps=T)


def test_final_potentials(benchmark: Any) -> None:
    draw = np.random.default_rng(0)
    spiked = jnp.pad(jnp.asarray(draw.random((250, 4, 4)) < 0.3), ((0, 0), (2, 2), (2, 2)))
    timed(benchmark, kernels.final_potentials, spiked, jnp.asarray(draw.random(DECISION, np.float32)))


@pytest.mark.parametrize("images", [1, BLOCK])
def test_final_potentials_of_block(benchmark: Any, images: Any) -> None:
    draw = np.random.default_rng(0)
    features, channels, *kernel = DECISION
    spiked = jnp.asarray(draw.random((images, channels, 4, 4)) < 0.3)
    taps = jnp.asarray(draw.random((*kernel, features, channels), np.float32))
    timed(benchmark, kernels.final_potentials_of_block, spiked, taps, padding=2)

"""Public kernels that take a compiled form by themselves: XLA's forms judge them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from conftest import assert_close

from snnjax import Images, InputError, SpikingNetwork, kernels
from snnjax.data import digits
from snnjax.encoding import GREY
from snnjax.kernels import compiled, native, neurons, plasticity
from snnjax.kernels.native import ramp

pytestmark = pytest.mark.usefixtures("compiler")
RNG = np.random.default_rng(0)
IMAGES = 3
NETWORKS = 2
FEATURES = 5
SIZE = (2, 6, 5)
WEIGHTS = np.float32(RNG.integers(-16, 49, (NETWORKS, FEATURES, 2, 3, 2)) / 64)
RATES = np.float32([0.5, -0.25])


def latencies_of(time_steps):
    """Latencies of images, exactly T where silent."""
    values = RNG.integers(0, time_steps + 3, (IMAGES, *SIZE)).clip(max=time_steps)
    return values.astype(kernels.latency_dtype(time_steps))


def padded(latency, time_steps):
    return kernels.pad(latency, (1, 2), time_steps=time_steps)


def by_xla(kernel):
    """A kernel of a layer with padding, as XLA has it."""

    def call(latency, weights, *, time_steps, padding, **settings):
        return kernel(padded(latency, time_steps), weights, time_steps=time_steps, **settings)

    return call


def competition(time_steps):
    return dict(k=3, radius=1, time_steps=time_steps)


def won_by_xla(latency, weights, threshold, time_steps):
    spikes = neurons.integrate_and_fire(latency, weights, threshold=threshold, time_steps=time_steps)
    return kernels.k_winners(kernels.strongest_feature(spikes, time_steps=time_steps), **competition(time_steps))


def winners_by_xla(latency, weights, *, threshold, time_steps, padding):
    return found(won_by_xla(padded(latency, time_steps), weights, threshold, time_steps))


def found(winners):
    """Without the places that nobody won, which hold anything."""
    places = winners.feature, winners.row, winners.column, winners.latency
    return [jnp.where(winners.valid, place, -1) for place in places]


def winners(latency, weights, *, threshold, time_steps, padding):
    won = kernels.winners(latency, weights, threshold=threshold, padding=padding, **competition(time_steps))
    return found(won)


def learned(latency, weights, **layer):
    """The weights after one update by the layer's winners."""
    won = kernels.winners(latency, weights, k=3, radius=1, **layer)
    return kernels.stdp(weights, latency, won, RATES, time_steps=layer["time_steps"], padding=layer["padding"])


def learned_by_xla(latency, weights, *, time_steps, padding, threshold):
    inputs = padded(latency, time_steps)
    won = won_by_xla(inputs, weights, threshold, time_steps)
    return plasticity.stdp(weights, inputs, won, RATES, time_steps=time_steps)


def below_zero(latency, weights, **layer):
    """The winners of weights all below 0: where a threshold is below 0 too, nothing but them may win."""
    return winners(latency, -jnp.abs(weights) / 128, **layer)


def below_zero_by_xla(latency, weights, **layer):
    return winners_by_xla(latency, -jnp.abs(weights) / 128, **layer)


CASES = {
    "integrate_and_fire": (kernels.integrate_and_fire, by_xla(neurons.integrate_and_fire)),
    "latencies": (kernels.latencies, by_xla(neurons.latencies)),
    "timed_spikes": (kernels.timed_spikes, by_xla(neurons.timed_spikes)),
    "winners": (winners, winners_by_xla),
    "winners of weights below 0": (below_zero, below_zero_by_xla),
    "stdp": (learned, learned_by_xla),
}
THRESHOLDS = {"one": 1.0, "below zero": -0.5, "of features": np.float32([1, -0.25, 2, 0, 0.5]), "none": None}


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("case", CASES)
def test_images_and_networks_are_mapped_in_one_call(case, threshold):
    """Also of weights below 0."""
    kernel, expected = CASES[case]
    for time_steps in (5, 255):
        images = latencies_of(time_steps)
        layer = dict(threshold=THRESHOLDS[threshold], time_steps=time_steps, padding=(1, 2))

        def of_all(kernel, images=images, layer=layer):
            of_network = jax.vmap(lambda latency, weights: kernel(latency, weights, **layer), in_axes=(0, None))
            return jax.jit(jax.vmap(of_network, in_axes=(None, 0)))(images, WEIGHTS)

        assert_close(of_all(kernel), of_all(expected))


def calls(function, *args, platform="cpu"):
    """The compiled kernels that a program calls on a platform, in order."""
    allowed = CUSTOM if platform == "cpu" else []
    program = jax.export.export(jax.jit(function), platforms=[platform], disabled_checks=allowed)(*args)
    text = program.mlir_module()
    return [part.split("(")[0] for part in text.split("stablehlo.custom_call @snnjax_")[1:]]


KERNELS = ("latencies", "winners", "stdp", "potentials", "rank_order", "ramp")
CUSTOM = [jax.export.DisabledSafetyCheck.custom_call(f"snnjax_{name}") for name in KERNELS]
STEPS = 5


def fire(latency, weights):
    return kernels.latencies(latency, weights, threshold=1.0, time_steps=STEPS)


def test_they_are_called_where_they_suit_alone(monkeypatch):
    mapped = jax.vmap(jax.vmap(fire, in_axes=(0, None)), in_axes=(None, 0))
    images = latencies_of(STEPS)
    assert calls(mapped, images, WEIGHTS) == ["latencies"]
    assert calls(mapped, images, WEIGHTS, platform="cuda") == []
    strided = lambda x: kernels.latencies(x, WEIGHTS[0], threshold=1.0, time_steps=STEPS, stride=2)  # noqa: E731
    assert calls(strided, images[0]) == []
    assert calls(fire, images[0], WEIGHTS[0].astype(np.float16)) == []
    compiled.available.cache_clear()
    try:
        monkeypatch.setenv(compiled.SWITCH, "xla")
        assert calls(fire, images[0][:, 1:], WEIGHTS[0]) == []
        compiled.available.cache_clear()
        monkeypatch.setenv(compiled.SWITCH, "no")
        with pytest.raises(InputError, match=r"^SNNJAX_KERNELS must be xla, or not be set, got 'no'"):
            fire(images[0][:, 2:], WEIGHTS[0])
    finally:
        compiled.available.cache_clear()


def test_ramps_of_images_and_networks_are_mapped_in_one_call():
    """With levels of each network, pooled in windows that overlap."""
    potential = np.float32(RNG.integers(-4, 9, (NETWORKS, IMAGES, 7, 5, FEATURES)) / 4)
    levels = np.float32([[2, 1.5, 1, 0.5, 0.25], [1.75, 1.5, 1.25, 1, 0.75]])

    def mapped(potential, levels):
        pooling = native.Pooling(3, 2, (1, 1))
        of_network = jax.vmap(lambda one, levels: ramp.fire_on_ramp(one, levels, pooling), in_axes=(0, None))
        return jax.vmap(of_network)(potential, levels)

    assert calls(mapped, potential, levels) == ["ramp"]
    for network, images in enumerate(potential):
        fired = kernels.fire_on_ramp(images, levels[network]).transpose(0, 3, 1, 2)
        pooled = [kernels.pool(image, 3, stride=2, padding=1, time_steps=STEPS) for image in fired]
        np.testing.assert_array_equal(mapped(potential, levels)[network], pooled)


def test_latencies_beyond_the_last_step_are_silent_whatever_their_dtype():
    """Under `jax.jit`, which hides their values; outside of it they are refused."""
    latency = latencies_of(STEPS)[0]
    expected = fire(latency, WEIGHTS[0])
    late = np.where(latency == STEPS, 255, latency)
    for given in (late.astype(np.uint8), late.astype(np.int32) + 45 * (late == 255)):
        np.testing.assert_array_equal(jax.jit(fire)(given, WEIGHTS[0]), expected)


def test_networks_follow_the_same_rules():
    """One that gives its images to a GPU, and one with derivatives."""
    network = SpikingNetwork(dataclasses.replace(tiny.plain(Images()), encoder=GREY))
    image = digits().test_images[0]
    assert calls(jax.vmap(network), image[None])
    assert calls(jax.vmap(network), image[None], platform="cuda") == []

    def strength(weights):
        features = SpikingNetwork(network.spec, weights=weights).features(image)
        return jnp.sum(features.astype(jnp.float32))

    gradient = jax.grad(strength)(network.weights())
    assert gradient.keys() == network.weights().keys()
    latency = np.asarray(GREY(image))
    for dtype in (np.uint8, np.int32, np.uint16):
        assert network.predict(latency.astype(dtype)) == network(image)


@pytest.mark.parametrize("case", ["integrate_and_fire", "latencies", "timed_spikes", "winners"])
def test_plain_numbers_are_taken_without_jit(case):
    kernel, _ = CASES[case]
    latency = latencies_of(STEPS)[0]
    given = dict(threshold=1.0, time_steps=STEPS, padding=(1, 2))
    expected = kernel(latency, WEIGHTS[0], **given)
    with jax.disable_jit():
        assert_close(kernel(latency, WEIGHTS[0], **given), expected)


def test_derivatives_are_those_of_xla():
    latency = latencies_of(STEPS)[0]

    def strength(kernel):
        return lambda weights: kernel(latency, weights, threshold=1.0, time_steps=STEPS).potential.sum()

    gradient = jax.grad(strength(kernels.integrate_and_fire))(WEIGHTS[0])
    assert_close(gradient, jax.grad(strength(neurons.integrate_and_fire))(WEIGHTS[0]))
    assert np.abs(gradient).max() > 0


def test_a_forgotten_padding_is_refused_under_jit():
    latency = latencies_of(STEPS)[0]

    @jax.jit
    def learn(weights, latency):
        won = kernels.winners(latency, weights, threshold=1.0, k=2, radius=0, time_steps=STEPS, padding=1)
        return kernels.stdp(weights, latency, won, RATES, time_steps=STEPS)

    expected = "`winners` must be of a layer with 4x4 positions, got one with 6x6: give the `padding`"
    with pytest.raises(InputError, match=f"^{expected}"):
        learn(WEIGHTS[0], latency)

"""Public kernels with a compiled implementation, which that of XLA judges, and the choice between both."""

import dataclasses
import functools
import pathlib
import traceback
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from conftest import assert_close

from snnjax import ImageSpec, InputError, SpikingNetwork, kernels
from snnjax.data import digits
from snnjax.encoding import GREY
from snnjax.kernels import backend, native, neurons, plasticity
from snnjax.kernels.competition import early_winners
from snnjax.kernels.ramp import fire_pooled_on_ramp
from snnjax.kernels.target_time import update_weights
from snnjax.training import timer

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
    return values.astype(kernels.spikes.latency_dtype(time_steps))


def padded(latency, time_steps):
    return kernels.pad(latency, (1, 2), time_steps=time_steps)


def by_xla(kernel):
    """A kernel of a layer with padding, as XLA has it."""

    def call(latency, weights, *, time_steps, padding, **settings):
        return kernel(padded(latency, time_steps), weights, time_steps=time_steps, **settings)

    return call


def competition(time_steps):
    return dict(k=3, radius=1, time_steps=time_steps)


def won_by_xla(latency, weights, *, threshold, time_steps, stride):
    firing = dict(threshold=threshold, time_steps=time_steps, stride=stride)
    spikes = neurons.integrate_and_fire(latency, weights, **firing)
    return kernels.k_winners(kernels.strongest_feature(spikes, time_steps=time_steps), **competition(time_steps))


def winners_by_xla(latency, weights, *, padding, **layer):
    return found(won_by_xla(padded(latency, layer["time_steps"]), weights, **layer))


def found(winners):
    """Without the places that nobody won, which hold anything."""
    places = winners.feature, winners.row, winners.column, winners.latency
    return [jnp.where(winners.valid, place, -1) for place in places]


def winners(latency, weights, **layer):
    return found(kernels.winners(latency, weights, k=3, radius=1, **layer))


def learned(latency, weights, **layer):
    """The weights after one update by the layer's winners."""
    won = kernels.winners(latency, weights, k=3, radius=1, **layer)
    return kernels.stdp(
        weights, latency, won, RATES, **{key: layer[key] for key in ("time_steps", "padding", "stride")}
    )


def learned_by_xla(latency, weights, *, padding, **layer):
    inputs = padded(latency, layer["time_steps"])
    won = won_by_xla(inputs, weights, **layer)
    return plasticity.stdp(weights, inputs, won, RATES, time_steps=layer["time_steps"], stride=layer["stride"])


def below_zero(latency, weights, **layer):
    """The winners of weights all below 0: where a threshold is below 0 too, nothing but them may win."""
    return winners(latency, -jnp.abs(weights) / 128, **layer)


def below_zero_by_xla(latency, weights, **layer):
    return winners_by_xla(latency, -jnp.abs(weights) / 128, **layer)


CASES = {
    "integrate_and_fire": (kernels.integrate_and_fire, by_xla(neurons.integrate_and_fire)),
    "latencies": (kernels.latencies, by_xla(neurons.latencies)),
    "timed_spikes": (kernels.timed_spikes, by_xla(neurons.timed_spikes)),
    "times within steps": (
        functools.partial(kernels.timed_spikes, fractional=True),
        by_xla(functools.partial(neurons.timed_spikes, fractional=True)),
    ),
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
    for time_steps, stride in ((5, 1), (5, (2, 3)), (255, 1)):
        images = latencies_of(time_steps)
        layer = dict(threshold=THRESHOLDS[threshold], time_steps=time_steps, stride=stride, padding=(1, 2))

        def of_all(kernel, images=images, layer=layer):
            of_network = jax.vmap(lambda latency, weights: kernel(latency, weights, **layer), in_axes=(0, None))
            return jax.jit(jax.vmap(of_network, in_axes=(None, 0)))(images, WEIGHTS)

        assert_close(of_all(kernel), of_all(expected))


def calls(function, *args, platform="cpu"):
    """The C++ functions that a program calls on a platform, in order."""
    allowed = CUSTOM if platform == "cpu" else []
    program = jax.export.export(jax.jit(function), platforms=[platform], disabled_checks=allowed)(*args)
    text = program.mlir_module()
    return [part.split("(")[0] for part in text.split("stablehlo.custom_call @snnjax_")[1:]]


KERNELS = (
    *("latencies", "winners", "stdp", "potentials", "rank_order", "ramp"),
    *("learn_readout", "earliest_of_classes", "learn_target_time"),
)
CUSTOM = [jax.export.DisabledSafetyCheck.custom_call(f"snnjax_{name}") for name in KERNELS]
STEPS = 5


def fire(latency, weights):
    return kernels.latencies(latency, weights, threshold=1.0, time_steps=STEPS)


def test_the_pooling_of_latencies_is_settings():
    latency = latencies_of(STEPS)[0]
    with pytest.raises(InputError, match=r"^`pool` must be kernels\.Pooling.* got 2: write kernels\.Pooling\(2\)"):
        kernels.latencies(latency, WEIGHTS[0], threshold=1.0, time_steps=STEPS, pool=2)


def test_few_frames_lie_between_a_kernel_and_its_compiled_implementation(monkeypatch):
    """The check of arguments, the kernel, the choice of a back end, and the call, in two files."""
    frames = {}
    foreign_call = jax.ffi.ffi_call

    def call(name, *args, **settings):
        stack = [frame for frame in traceback.extract_stack() if "/snnjax/kernels/" in frame.filename]
        frames.setdefault(name, [f"{pathlib.Path(frame.filename).name} {frame.name}" for frame in stack])
        return foreign_call(name, *args, **settings)

    monkeypatch.setattr(jax.ffi, "ffi_call", call)
    sequence = WEIGHTS[0], latencies_of(STEPS)[:, :, 1:]  # of a shape for which no program has been compiled before
    kernels.learn_stdp(*sequence, RATES, threshold=1.0, k=1, radius=0, time_steps=STEPS)
    labels = np.zeros(IMAGES, np.int32)
    kernels.learn_reward(*sequence, labels, RATES, RATES, classes=FEATURES, time_steps=STEPS)
    for name in ("learn_stdp", "learn_reward"):
        called = "kernel.py check_and_call", f"learning.py {name}", "kernel.py run", "kernel.py run_native"
        assert frames[f"snnjax_{name}"] == [*called]


def test_only_supported_layers_are_computed_by_compiled_code():
    mapped = jax.vmap(jax.vmap(fire, in_axes=(0, None)), in_axes=(None, 0))
    images = latencies_of(STEPS)
    assert calls(mapped, images, WEIGHTS) == ["latencies"]
    assert calls(mapped, images, WEIGHTS, platform="cuda") == []
    assert calls(fire, images[0], WEIGHTS[0].astype(np.float16)) == []


def test_the_context_chooses_the_back_end(monkeypatch):
    """Also of a program that has been compiled in another one; the innermost context holds."""
    image = latencies_of(STEPS)[0]
    program = jax.jit(fire)
    called = lambda: "snnjax_latencies" in program.lower(image, WEIGHTS[0]).as_text()  # noqa: E731
    assert called()
    with kernels.use_backend("xla"):
        assert not called()
        with kernels.use_backend("native"):
            assert called()
        assert not called()
    assert called()
    with pytest.raises(InputError, match="`backend` must be one of auto, xla, native, got 'cpu'"):
        kernels.use_backend("cpu")
    monkeypatch.setattr(native, "load", mock.Mock(side_effect=OSError("no compiler")))
    with pytest.raises(OSError, match="no compiler"):
        kernels.use_backend("native")


def test_programs_that_are_kept_by_key_are_those_of_a_back_end(monkeypatch):
    monkeypatch.setattr(timer, "PROGRAMS", {})
    program = jax.jit(fire)
    for chosen in ("xla", "native", "auto", "xla"):
        with kernels.use_backend(chosen):
            timer.Timer("").time_program(IMAGES, program, latencies_of(STEPS)[0], WEIGHTS[0])
    assert ["snnjax_latencies" in kept.as_text() for kept in timer.PROGRAMS.values()] == [False, True]


def test_the_environment_variable_is_checked(monkeypatch):
    monkeypatch.setattr(backend, "_context", jax.make_user_context("no"))
    with pytest.raises(InputError, match="`SNNJAX_BACKEND` must be one of auto, xla, native, got 'no'"):
        fire(latencies_of(STEPS)[0][:, 2:], WEIGHTS[0])


def test_the_environment_variable_of_version_0_6_is_refused(monkeypatch):
    """Unless the present one is set too, which is then followed."""
    monkeypatch.setenv("SNNJAX_KERNELS", "xla")
    monkeypatch.delenv("SNNJAX_BACKEND", raising=False)
    with pytest.raises(InputError, match="the environment variable `SNNJAX_KERNELS` is now `SNNJAX_BACKEND`: set that"):
        backend.current()
    monkeypatch.setenv("SNNJAX_BACKEND", "xla")
    assert backend.current() == "auto"  # it was read when snnjax was imported


def test_arrays_on_a_cpu_are_computed_by_compiled_code_whatever_the_default_device(monkeypatch):
    """What begins on the default device, such as a training, follows that."""
    monkeypatch.setattr("snnjax.core.devices.local_devices", lambda: [mock.Mock(platform="gpu")])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    image = latencies_of(STEPS)[0][:, 1:]  # of a shape for which no program has been compiled before
    assert calls(fire, image, WEIGHTS[0]) == ["latencies"]
    assert backend.resolve("auto", STEPS) == "xla"
    with pytest.raises(InputError, match="`backend` native needs a CPU, got the device gpu"):
        backend.resolve("native", STEPS)


def test_ramps_of_images_and_networks_are_mapped_in_one_call():
    """With levels of each network, pooled in windows that overlap."""
    potential = np.float32(RNG.integers(-4, 9, (NETWORKS, IMAGES, 7, 5, FEATURES)) / 4)
    levels = np.float32([[2, 1.5, 1, 0.5, 0.25], [1.75, 1.5, 1.25, 1, 0.75]])

    def mapped(potential, levels):
        pooling = kernels.Pooling(3, 2, (1, 1))
        of_network = jax.vmap(lambda one, levels: fire_pooled_on_ramp(one, levels, pooling), in_axes=(0, None))
        return jax.vmap(of_network)(potential, levels)

    assert calls(mapped, potential, levels) == ["ramp"]
    for network, images in enumerate(potential):
        fired = kernels.ramp.fire_on_ramp(images, levels[network]).transpose(0, 3, 1, 2)
        pooled = [kernels.pool(image, 3, stride=2, padding=1, time_steps=STEPS) for image in fired]
        np.testing.assert_array_equal(mapped(potential, levels)[network], pooled)


MANY = 30
"""Time steps, so many that XLA's implementation of `latencies` sorts inputs."""
BEYOND = {
    "255": (np.uint8, 255, 0),
    "256, which is 0 in a byte": (np.int32, 256, 0),
    "65,536": (np.int32, 65536, 0),
    "negative, which is late in a byte": (np.int16, MANY, -3),
}


@pytest.mark.parametrize("case", BEYOND)
def test_latencies_out_of_range_are_silent_or_of_the_first_step(case):
    """Under `jax.jit` and `jax.vmap`, which hide their values, and in derivatives; outside of them they are refused."""
    dtype, silence, first = BEYOND[case]
    layer = dict(threshold=1.0, time_steps=MANY)
    latency = np.array(latencies_of(MANY)[0])
    latency.flat[:2] = MANY, 0  # whatever was drawn
    given = np.select([latency == MANY, latency == 0], [silence, first], latency.astype(int)).astype(dtype)
    won = kernels.winners(latency, WEIGHTS[0], k=3, radius=0, **layer)
    won = dataclasses.replace(won, latency=won.latency.at[0].set(MANY))
    late = dataclasses.replace(won, latency=won.latency.astype(dtype).at[0].set(silence))

    def of_all(latency, won):
        strength = lambda weights: kernels.integrate_and_fire(latency, weights, **layer).potential.sum()  # noqa: E731
        return dict(
            latencies=kernels.latencies(latency, WEIGHTS[0], **layer),
            by_xla=neurons.latencies(latency, WEIGHTS[0], **layer),
            timed=kernels.timed_spikes(latency, WEIGHTS[0], **layer),
            winners=found(kernels.winners(latency, WEIGHTS[0], k=3, radius=1, **layer)),
            learned=kernels.stdp(WEIGHTS[0], latency, won, RATES, time_steps=MANY),
            learned_by_xla=plasticity.stdp(WEIGHTS[0], latency, won, RATES, time_steps=MANY),
            pooled=kernels.spikes.mean_pool(latency, 2, time_steps=MANY).astype(int),
            remaining=kernels.ramp.remaining_steps(latency, time_steps=MANY),
            gradient=jax.grad(strength)(WEIGHTS[0]),
        )

    expected = of_all(latency, won)
    with pytest.raises(InputError, match="`latency` must hold time steps"):
        kernels.latencies(given, WEIGHTS[0], **layer)
    assert_close(jax.jit(of_all)(given, late), expected)
    mapped = jax.vmap(of_all)(*jax.tree.map(lambda x: x[None], (jnp.asarray(given), late)))
    assert_close(jax.tree.map(lambda x: x[0], mapped), expected)


PRECISIONS = {"float16": (np.float16, False), "float32 under x64": (np.float32, True)}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_thresholds_take_the_dtype_of_the_weights(precision):
    """The potential is the nearest number to 0.1 in that dtype, and above another number that rounds to it."""
    dtype, x64 = PRECISIONS[precision]
    weights = np.full((2, 1, 1, 1), 0.1, dtype)
    threshold = np.nextafter(np.float64(weights[0]).item(), 0)
    if not x64:
        threshold = np.float32(threshold - 1e-6)
    assert threshold < np.float64(weights[0])
    assert dtype(threshold) == weights[0]
    latency = np.zeros((1, 1, 1), np.uint8)

    def fired(threshold, time_steps=STEPS):
        layer = dict(threshold=threshold, time_steps=time_steps)
        competing = dict(k=1, radius=0, **layer)
        potentials = kernels.potentials(latency, weights, time_steps=time_steps)
        spikes = kernels.integrate_and_fire(latency, weights, **layer)
        return dict(
            integrate_and_fire=spikes.latency,
            latencies=kernels.latencies(latency, weights, **layer),
            timed=kernels.timed_spikes(latency, weights, fractional=True, **layer).latency,
            fire=kernels.fire(potentials, threshold=threshold).latency,
            winners=kernels.winners(latency, weights, **competing).latency,
            early=early_winners(latency, weights, **competing).latency,
        )

    def strength(weights):
        return kernels.integrate_and_fire(latency, weights, threshold=threshold, time_steps=STEPS).potential.sum()

    with jax.enable_x64(x64):
        for time_steps in (STEPS, 30):
            steps = functools.partial(fired, time_steps=time_steps)
            for of in (threshold, np.full(2, threshold)):
                given = {"direct": steps(of), "jit": jax.jit(steps)(of), "vmap": jax.vmap(steps)(np.stack([of] * 2))}
                for path, silent in jax.tree.leaves_with_path(given):
                    assert np.all(silent == time_steps), jax.tree_util.keystr(path)
        assert not jax.grad(strength)(weights).any()


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_bounds_and_rates_take_the_dtype_of_the_weights(precision):
    """So an update keeps it, whatever the dtype of the numbers, and computes as with numbers of that dtype."""
    dtype, x64 = PRECISIONS[precision]
    latency = latencies_of(STEPS)[0]
    weights = WEIGHTS[0].astype(dtype)
    won = kernels.winners(latency, WEIGHTS[0], threshold=1.0, k=3, radius=0, time_steps=STEPS)

    def learned(rates, bounds):
        inputs = latency.ravel()[:12]
        error = jnp.linspace(-1, 1, FEATURES).astype(rates.dtype)
        rows = weights.reshape(FEATURES, -1)
        return dict(
            stdp=kernels.stdp(weights, latency, won, rates, time_steps=STEPS, bounds=bounds),
            by_xla=plasticity.stdp(weights, latency, won, rates, time_steps=STEPS, bounds=bounds),
            error_stdp=kernels.supervised.error_stdp(rows, inputs, inputs[:FEATURES], error, rates, bounds=bounds),
            patches=update_weights(rows[0], inputs, inputs[0], rate=rates[0], beta=1, bounds=bounds, time_steps=STEPS),
        )

    with jax.enable_x64(x64):
        own = learned(RATES.astype(dtype), (dtype(0.1), dtype(0.7)))
        wide = RATES.astype(np.float64 if x64 else np.float32), (np.float64(0.1), np.float64(0.7))
        mapped = jax.vmap(learned)(*jax.tree.map(lambda x: np.stack([x]), wide))
        for name, found in own.items():
            assert found.dtype == dtype, name
            for other in (learned(*wide), jax.jit(learned)(*wide), jax.tree.map(lambda x: x[0], mapped)):
                assert_close(other[name], np.asarray(found))
        gradient = jax.grad(lambda weights: learned_sum(weights, latency, won, wide))(weights)
    assert gradient.dtype == dtype
    assert np.isfinite(gradient).all()


def learned_sum(weights, latency, won, rates_and_bounds):
    rates, bounds = rates_and_bounds
    return kernels.stdp(weights, latency, won, rates, time_steps=STEPS, bounds=bounds).sum()


@pytest.mark.parametrize("threshold", [-0.5, np.float32([-1, -0.25, 2, 0, 0.5])])
def test_below_a_threshold_of_0_neurons_fire_at_time_0(threshold):
    """Potentials begin at 0, above such a threshold. Times and derivatives are finite, by both forms."""
    latency = latencies_of(STEPS)[0]
    layer = dict(threshold=threshold, time_steps=STEPS, fractional=True)
    for kernel in (kernels.timed_spikes, neurons.timed_spikes):
        spikes = jax.jit(functools.partial(kernel, **layer))(latency, WEIGHTS[0])
        assert np.all((spikes.time >= 0) & (spikes.time <= 1))
        at_once = (spikes.latency == 0) & np.reshape(np.broadcast_to(threshold, FEATURES) < 0, (-1, 1, 1))
        assert at_once.any()
        assert not np.any(spikes.time * at_once)
        gradient = jax.grad(lambda weights: kernel(latency, weights, **layer).time.sum())(WEIGHTS[0])
        assert np.isfinite(gradient).all()


def test_networks_follow_the_same_rules():
    """One that gives its images to a GPU, and one with derivatives."""
    network = SpikingNetwork(dataclasses.replace(tiny.plain(ImageSpec()), encoder=GREY))
    image = digits().test_images[0]
    assert calls(jax.vmap(network), image[None])
    assert calls(jax.vmap(network), image[None], platform="cuda") == []

    def strength(weights):
        features = SpikingNetwork(network.network, weights=weights).features(image)
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

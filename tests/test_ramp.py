"""How a deep layer spikes: its latencies are those of neurons that are simulated spike by spike."""

import dataclasses
import functools

import jax
import judge
import numpy as np
import pytest
from documents import blocks

from snnjax import kernels, load
from snnjax.core import checks
from snnjax.core.errors import InputError, InputTypeError
from snnjax.kernels import hebbian, local_error, winograd
from snnjax.layers import Conv, Pool, Ramp, Standardise
from snnjax.layers.pool import pooled_maps
from snnjax.learners import SupervisedSTDP
from snnjax.networks import Earliest, Network, SpikingNetwork, quantise, stage
from snnjax.networks.quantisation import integer_layers

RNG = np.random.default_rng(0)
CLOSE = 1e-4  # of a level: potentials as near to it as this may be on either side


# The simulation


def end_of_window(conv, weights, latency, time_steps):
    """Potentials (F, H', W') float64 of neurons at the end of the window in which their inputs (C, H, W) spike.

    They are the sums of what their dendrites have above 0, one at each place of the kernel.
    """
    rows, columns = checks.pair("padding", conv.padding, 0)
    padded = np.pad(latency, ((0, 0), (rows, rows), (columns, columns)), mode="reflect")
    stride = checks.pair("stride", conv.stride, 1)
    strength = weights.astype(np.float64)
    current = np.zeros(conv.features)
    if conv.standardise is not None:
        mean, variance = (np.float64(moment)[:, None, None] for moment in conv.standardise.moments)
        strength = strength / np.sqrt(variance + conv.standardise.epsilon)
        current = (strength * mean).sum(axis=(1, 2, 3))
    potential = np.zeros((conv.features, *conv.positions(latency.shape[1:])))
    slope = np.zeros_like(potential)
    for step in range(time_steps):
        for channel, row, column in np.argwhere(padded == step):
            for i, j in np.ndindex(weights.shape[2:]):
                y, late = divmod(row - i, stride[0])
                x, right = divmod(column - j, stride[1])
                if late == right == 0 and 0 <= y < slope.shape[1] and 0 <= x < slope.shape[2]:
                    slope[:, y, x] += strength[:, channel, i, j]
        potential += slope
    potential -= current[:, None, None]
    if conv.ramp.inhibition:
        potential -= potential.mean(axis=0)
    threshold = np.zeros(conv.features)
    if conv.threshold is not None:
        threshold = threshold + conv.threshold
    branches = np.maximum(potential - threshold[:, None, None], 0)
    height, width = checks.pair("dendrites", conv.ramp.dendrites, 1)
    rows, columns = conv.output_size(latency.shape[1:])
    blocks = branches[:, : rows * height, : columns * width].reshape(-1, rows, height, columns, width)
    return blocks.sum(axis=(2, 4))


def next_window(potential, levels):
    """The steps at which neurons fire as their threshold falls from level to level; silent ones at T."""
    latency = np.full(potential.shape, len(levels))
    for step, level in enumerate(levels):
        latency[(latency == len(levels)) & (potential >= level)] = step
    return latency


def output_of(conv, pool, latency, time_steps):
    """The earliest spikes of windows of neurons (F, H, W), beyond whose borders it is silent."""
    padded = judge.pad(latency, checks.pair("padding", conv.output_padding, 0), time_steps)
    if pool is None:
        return padded
    window = checks.pair("window", pool.window, 1)
    stride = checks.pair("stride", pool.stride or window, 1)
    return judge.pool(padded, window, time_steps, stride, checks.pair("padding", pool.padding, 0))


# Networks


@functools.cache
def deep(time_steps):
    """Four layers with ramps, each of another geometry, with levels that fit to the images, and these, (N, C, H, W)."""

    random = np.random.default_rng(0)  # of its own, so that other tests do not matter

    def layer(channels, features, kernel, **settings):
        moments = random.uniform(0.2, 0.4, (2, channels)) * [[time_steps], [time_steps**2]]
        standardise = Standardise(0.5, *moments.astype(np.float32))
        return Conv(features, kernel, weight_mean=0.0, standardise=standardise, **settings)

    last = Conv(4, (6, 1), threshold=3.0, weight_mean=0.5, learners=SupervisedSTDP())
    stages = [
        stage(layer(3, 16, 5, padding=2, ramp=Ramp(0.7)), pool=Pool(3, stride=2, padding=1)),
        stage(layer(16, 24, 3, padding=1, ramp=Ramp(1.4), output_padding=(0, 1))),
        stage(layer(24, 16, 3, stride=2, padding=(1, 0), ramp=Ramp(first=0.1, inhibition=False), threshold=0.25)),
        stage(layer(16, 5, 1, ramp=Ramp(dendrites=(1, 2)), output_padding=(1, 0)), pool=Pool((2, 1), 1, (1, 0))),
        stage(last),
    ]
    outputs = random.integers(0, time_steps + 1, (3, 3, 12, 10)).astype(kernels.spikes.latency_dtype(time_steps))
    images = outputs
    network = Network("deep", (3, 12, 10), 2, tuple(stages), time_steps=time_steps, decision=Earliest(fallback=True))
    weights = network.initial_weights(0)
    for number, name in enumerate(network.ramped):
        conv = stages[number].branches[0]
        potential = np.stack([end_of_window(conv, weights[name], latency, time_steps) for latency in outputs])
        conv = dataclasses.replace(conv, ramp=conv.ramp.fit(potential, time_steps))
        stages[number] = dataclasses.replace(stages[number], branches=(conv,))
        fired = next_window(potential, conv.ramp.levels)
        outputs = np.stack([output_of(conv, stages[number].pool, latency, time_steps) for latency in fired])
    return SpikingNetwork(dataclasses.replace(network, stages=tuple(stages)), weights=weights), images


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0))
def computed(model, image):
    """What layers read, their latencies, their outputs as they are, frozen and by XLA; and what the readout reads."""
    layers = []
    inputs = image
    for number, name in enumerate(model.network.ramped):
        layer = model.layers[name]
        pool = model.network.stages[number].pool
        outputs = [form.outputs(inputs, pool) for form in (layer, layer.frozen())]
        with kernels.use_backend("xla"):
            outputs.append(layer.outputs(inputs, pool))
        layers.append((inputs, layer.responses(inputs), outputs))
        inputs = outputs[0]
    return layers, model.forward(image)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("bits", "time_steps"),
    [
        pytest.param(8, 255, marks=pytest.mark.slow),
        (2, 15),
        (None, 15),
        pytest.param(None, 300, marks=pytest.mark.slow),
    ],
)
def test_each_spike_is_simulated(bits, time_steps):
    """On both back ends, all latencies are the same, since sums of integers are exact.

    Sums of floats are not: a potential that is all but a level may fire on either side of it, one step from the other.
    """
    network, images = deep(time_steps)
    model = (quantise(network, bits) if bits else network).model
    layers, last = jax.tree.map(np.asarray, computed(model, images))
    for (inputs, responses, outputs), name, described in zip(layers, model.layers, model.network.stages, strict=False):
        conv = model.layers[name].conv
        for image, latency in enumerate(inputs):
            potential = end_of_window(conv, np.asarray(model.layers[name].weights), latency, time_steps)
            room = 0 if bits else CLOSE * np.abs(potential)
            early, late = (next_window(potential + way * room, conv.ramp.levels) for way in (1, -1))
            assert len(np.unique(early)) > 3
            assert np.mean(early != late) < 0.05
            assert np.all(late - early <= 1)
            assert np.all((early <= responses[image]) & (responses[image] <= late))
            first, second = (output_of(conv, described.pool, fired, time_steps) for fired in (early, late))
            for form in outputs:
                assert np.all((first <= form[image]) & (form[image] <= second))
                assert form.dtype == kernels.spikes.latency_dtype(time_steps)
    if bits:
        np.testing.assert_array_equal(last, layers[-1][2][0])


def test_thresholds_make_up_for_rounded_weights():
    """What a neuron adds up of mean inputs is what it was, within half a unit, also when weights are rounded twice."""
    mean = np.float32(RNG.integers(20, 200, 8))
    standardise = Standardise(mean=mean, variance=400 + 0 * mean)
    ramp = Ramp(levels=kernels.ramp.ramp_levels(20.0, power=1.0, time_steps=255))
    conv = Conv(12, 3, ramp=ramp, standardise=standardise, weight_mean=0.0)
    weights = np.float32(RNG.normal(size=(12, 8, 3, 3)))
    readout = stage(Conv(6, 1, threshold=1.0, learners=SupervisedSTDP()))
    described = Network("rounded", (8, 3, 3), 3, (stage(conv), readout), time_steps=255, decision=Earliest())
    found = SpikingNetwork(described, weights=dict(layer1=weights, layer2=np.ones((6, 12, 1, 1), np.float32)))
    inhibited = (weights - weights.mean(axis=0)) / np.sqrt(400 + standardise.epsilon)
    exact = np.einsum("fcij, c -> f", inhibited, np.float64(mean))
    for network in (found, quantise(found, 8)):
        layer = integer_layers(network, 3)["layer1"]
        rounded = np.einsum("fcij, c -> f", layer.weights, np.float64(mean))
        assert np.abs(rounded - exact / layer.units).max() > 10  # of the weights alone
        np.testing.assert_allclose(rounded - layer.threshold, 0, atol=1.01)


def test_the_program_of_the_page_simulates_a_network_exactly():
    """Of three layers with dendrites and means, and a readout of all of them, on ten pictures in colour."""
    program = [text for _, text in blocks("experiments/docs/learn/depth.md") if "def simulate(" in text]
    definitions = program[0].split("\n\n\nimages = ")[0].replace("quantise(trainer.trained(state), bits=8)", "shipped")
    shipped = load("pretrained:softhebb_narrow_cifar10")
    names = dict(shipped=shipped, np=np)
    exec(definitions, names)
    coarse = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3))
    images = np.uint8(coarse.repeat(8, axis=1).repeat(8, axis=2))
    simulated = [names["simulate"](shipped, image) for image in images]
    decisions = [decision for _, decision in simulated]
    np.testing.assert_array_equal(decisions, shipped(images))
    assert len({*decisions}) > 2
    for number in (1, 2, 3):
        outputs = np.stack([outputs[number - 1] for outputs, _ in simulated])
        np.testing.assert_array_equal(outputs, shipped.features(images, number))
        assert np.mean(outputs < 255) > 0.05


# Parts


def test_neurons_fire_at_the_first_level_that_they_reach():
    """Also at one of several equal levels, and at the first and the last one."""
    for time_steps in (1, 7, 255, 256):
        levels = kernels.ramp.ramp_levels(2.0, power=0.7, time_steps=time_steps)
        levels[3:5] = levels[3:4]
        potential = np.concatenate([levels, np.nextafter(levels, np.float32(-9)), np.float32([9, 0, -1])])[None]
        expected = [next((step for step, level in enumerate(levels) if x >= level), time_steps) for x in potential[0]]
        found = kernels.ramp.fire_on_ramp(potential, levels)
        np.testing.assert_array_equal(found, [expected])
        assert found.dtype == kernels.spikes.latency_dtype(time_steps)


@pytest.mark.parametrize(
    ("potential", "levels"), [("float16", "float16"), ("float16", "float32"), ("float32", "float16")]
)
def test_potentials_and_levels_of_other_dtypes_fire_by_xla(compiler, potential, levels):
    """The compiled implementation only reads float32, whichever of the two is another dtype."""
    potentials = np.arange(-8, 24).reshape(4, 4, 2).astype(potential) / 8
    falling = np.linspace(2, 0.5, 7).astype(levels)
    with kernels.use_backend("native"):
        found = kernels.ramp.fire_pooled_on_ramp(potentials, falling, kernels.Pooling(2))
    fired = kernels.ramp.fire_on_ramp(potentials, falling).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, kernels.pool(fired, 2, time_steps=7))
    assert len(np.unique(found)) > 2


def test_levels_are_checked_before_potentials_are_pooled():
    def fire(levels):
        return kernels.ramp.fire_pooled_on_ramp(np.zeros((4, 4, 2), np.float32), levels, kernels.Pooling(2))

    with pytest.raises(InputError, match="`levels` must fall from step to step"):
        fire(np.float32([0.5, 1, 2]))
    with pytest.raises(InputError, match="`levels` must not be empty"):
        fire(np.float32([]))
    with pytest.raises(InputTypeError, match="`levels` must hold floats, got dtype int64"):
        fire(np.arange(3)[::-1])


@pytest.mark.parametrize("pool", [Pool(2, mean=True), Pool((3, 2), stride=(2, 1), padding=(1, 0), mean=True)])
def test_averaging_neurons_are_simulated(pool):
    """Each adds up its spikes with equal weights; then a level falls by one step's worth of all, step by step."""
    steps = 15
    latency = RNG.integers(0, steps + 1, (3, 6, 5)).astype(np.uint8)
    found = pooled_maps(latency, pool, steps)
    rows, columns = checks.pair("padding", pool.padding, 0)
    padded = np.pad(latency, ((0, 0), (rows, rows), (columns, columns)), constant_values=steps)
    height, width = checks.pair("window", pool.window, 1)
    down, right = checks.pair("stride", pool.stride or pool.window, 1)
    for feature, row, column in np.ndindex(found.shape):
        seen = padded[feature, row * down : row * down + height, column * right : column * right + width]
        potential = sum(np.count_nonzero(seen <= step) for step in range(steps))
        levels = [(steps - step) * height * width for step in range(steps)]
        fires = [step for step in range(steps) if potential >= levels[step]]
        assert found[feature, row, column] == min(fires, default=steps)


@pytest.mark.parametrize("power", [0.7, 1.0, 1.4])
def test_what_remains_of_the_window_is_a_power_of_the_potential(power):
    """Rounded down, and at most all of it."""
    levels = kernels.ramp.ramp_levels(3.0, power=power, time_steps=20)
    assert levels.dtype == np.float32
    potential = np.float32(RNG.uniform(0, 4, 200))
    exact = np.minimum(20 * (potential / 3.0) ** power, 20)
    remaining = kernels.ramp.remaining_steps(kernels.ramp.fire_on_ramp(potential, levels), time_steps=20)
    np.testing.assert_array_equal(remaining, np.floor(exact))


def test_levels_are_fitted_to_potentials_above_zero():
    potential = np.float32(np.concatenate([RNG.uniform(0.001, 5, 1000), -np.ones(500)])).reshape(5, 3, 10, 10)
    ramp = Ramp(first=0.2).fit(potential, 31)
    fired = kernels.ramp.fire_on_ramp(potential, ramp.levels)
    assert np.mean(fired[potential > 0] == 0) == pytest.approx(0.2, abs=0.002)
    assert ramp.fitted
    assert not Ramp().fitted
    np.testing.assert_array_equal(
        Ramp().fit(-potential[:0], 4).levels, kernels.ramp.ramp_levels(1.0, power=1, time_steps=4)
    )


@pytest.mark.parametrize(
    ("shape", "padding"), [((20, 7, 9), 1), ((16, 8, 8), 1), ((3, 5, 6), 0), ((16, 4, 3), (2, 0)), ((2, 3, 3), 0)]
)
def test_sums_by_tiles_are_those_of_patches(shape, padding):
    maps = np.float32(RNG.random(shape))
    weights = np.float32(RNG.normal(size=(5, shape[0], 3, 3)))
    patches = hebbian.reflected_patches(maps, kernel=3, padding=padding)
    expected = hebbian.weighted_sums(patches, weights.transpose(0, 2, 3, 1).reshape(5, -1))
    found = winograd.tiled_sums(maps, winograd.tile_weights(weights), padding=padding)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("shape", "padding"), [((20, 7, 9), 1), ((16, 8, 8), 1), ((3, 5, 6), 0)])
@pytest.mark.parametrize("tiled", [False, True])
def test_sums_of_batches_have_the_gradient_of_weighted_sums(shape, padding, tiled):
    maps = np.float32(RNG.random((6, *shape)))
    weights = np.float32(RNG.normal(size=(5, shape[0], 3, 3)))
    settings = local_error.PatchSettings(3, padding=padding)

    def rows(weights):
        return weights.transpose(0, 2, 3, 1).reshape(5, -1)

    def found_sums(weights):
        if tiled:
            return local_error.tiled_patch_sums(maps, winograd.tile_weights(weights), padding)
        return local_error.patch_sums(maps, rows(weights), settings)

    patches = settings.patches(maps)
    expected, expected_gradient = jax.vjp(lambda weights: hebbian.weighted_sums(patches, rows(weights)), weights)
    found, gradient = jax.vjp(found_sums, weights)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    error = np.float32(RNG.normal(size=expected.shape))
    for wanted, got in zip(expected_gradient(error), gradient(error), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())

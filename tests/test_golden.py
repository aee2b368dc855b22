"""Recorded results of the reference simulator: the kernels and the judge must both give them."""

import pathlib
import types

import judge
import numpy as np
import pytest

from snnjax.encoding import COLOUR, DIGITS, dog_kernel, encode, gabor_kernel, lateral_inhibition, local_normalization
from snnjax.kernels import (
    PositionSpikes,
    Spikes,
    Winners,
    early_winners,
    final_potentials,
    first_spikes,
    integrate_and_fire,
    k_winners,
    pointwise_inhibition,
    pool,
    stdp,
)

LAYERS = range(40)
DOGS = [(n, first / 9, second / 9) for n in (3, 7, 13) for first, second in ((n, 2 * n), (2 * n, n))]
ANGLES = [22.5, 67.5, 112.5, 157.5]
PARAMS = ("time_steps", "kernel", "threshold", "k", "radius", "ltp", "ltd", "stabiliser", "lower", "upper")


@pytest.fixture(params=LAYERS)
def layer(request, golden):
    """Layer number NNN: its arrays and its settings, by name."""
    prefix = f"layer/{request.param:03d}/"
    arrays = {name.removeprefix(prefix): array for name, array in golden.items() if name.startswith(prefix)}
    settings = dict(zip(PARAMS, arrays.pop("params").tolist(), strict=True))
    settings |= {name: int(settings[name]) for name in ("time_steps", "k", "radius")}
    settings["threshold"] = None if np.isnan(settings["threshold"]) else settings["threshold"]
    return types.SimpleNamespace(
        **arrays,
        **settings,
        rates=(settings["ltp"], settings["ltd"]),
        rule=dict(bounds=(settings["lower"], settings["upper"]), stabiliser=bool(settings["stabiliser"])),
        competition={name: settings[name] for name in ("k", "radius", "time_steps")},
    )


def embedded(array, shape, fill=0):
    """An array in the corner of a larger one, so that all layers share few compiled programs.

    Silent neurons and zero weights around a layer change nothing.
    """
    margins = [(0, more - size) for more, size in zip(shape, array.shape, strict=True)]
    return np.pad(array, margins, constant_values=fill)


def embedded_inputs(layer):
    latency = embedded(layer.latency_in, (6, 14, 14), layer.time_steps)
    return latency, embedded(layer.weights, (20, 6, *layer.weights.shape[2:]))


def embedded_spikes(latency, potential, time_steps):
    shape = (20, 12, 12)[-latency.ndim :]
    return embedded(latency, shape, time_steps), embedded(potential, shape)


def corner(array, like):
    """The part of an embedded result that belongs to the layer."""
    return np.asarray(array)[tuple(map(slice, like.shape[-np.ndim(array) :]))]


def assert_close(values, expected):
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def assert_winners(winners, expected):
    places = np.stack([winners.feature, winners.row, winners.column], axis=-1)
    np.testing.assert_array_equal(places[np.asarray(winners.valid)], expected)


def test_spikes(layer):
    latency, weights = embedded_inputs(layer)
    spikes = integrate_and_fire(latency, weights, threshold=layer.threshold, time_steps=layer.time_steps)
    np.testing.assert_array_equal(corner(spikes.latency, layer.latency_out), layer.latency_out)
    assert_close(corner(spikes.potential, layer.latency_out), layer.potential_at_spike)


def test_final_potentials(layer):
    latency, weights = embedded_inputs(layer)
    potentials = final_potentials(latency < layer.time_steps, weights)
    assert_close(corner(potentials, layer.final_potentials), layer.final_potentials)


def test_inhibition_and_winners(layer):
    spikes = Spikes(*embedded_spikes(layer.latency_out, layer.potential_at_spike, layer.time_steps))
    inhibited = pointwise_inhibition(spikes, time_steps=layer.time_steps)
    np.testing.assert_array_equal(corner(inhibited.latency, layer.latency_inhibited), layer.latency_inhibited)
    assert_winners(k_winners(inhibited, **layer.competition), layer.winners)


def test_winners_of_first_spikes(layer):
    latency, weights = embedded_inputs(layer)
    first = first_spikes(latency, weights, threshold=layer.threshold, time_steps=layer.time_steps)
    feature, latency, potential = (corner(array, layer.latency_out) for array in vars(first).values())
    first = PositionSpikes(embedded(feature, (12, 12)), *embedded_spikes(latency, potential, layer.time_steps))
    assert_winners(k_winners(first, **layer.competition), layer.winners)


@pytest.mark.parametrize("layer", range(0, 40, 5), indirect=True)
def test_early_winners(layer):
    settings = dict(threshold=layer.threshold, **layer.competition)
    assert_winners(early_winners(layer.latency_in, layer.weights, **settings), layer.winners)


def test_learning(layer):
    feature, row, column = layer.winners.T
    winners = Winners(feature, row, column, layer.latency_out[feature, row, column])
    rates, settings = np.float32(layer.rates), dict(time_steps=layer.time_steps, **layer.rule)
    assert_close(stdp(layer.weights, layer.latency_in, winners, rates, **settings), layer.weights_after)


def test_pooling(layer):
    pooled = pool(layer.latency_out, 2, time_steps=layer.time_steps)
    np.testing.assert_array_equal(pooled, layer.pooled2)
    pooled = pool(layer.latency_out, 3, stride=2, padding=1, time_steps=layer.time_steps)
    np.testing.assert_array_equal(pooled, layer.pooled3_stride2_pad1)


def test_judge(layer):
    movie = judge.potentials(layer.latency_in, layer.weights, layer.time_steps)
    assert_close(movie[-1], layer.final_potentials)
    latency, potential = judge.fire(movie, layer.threshold)
    np.testing.assert_array_equal(latency, layer.latency_out)
    assert_close(potential, layer.potential_at_spike)
    inhibited = judge.pointwise_inhibition(latency, potential, layer.time_steps)
    np.testing.assert_array_equal(inhibited[0], layer.latency_inhibited)
    winners = judge.k_winners(*inhibited, **layer.competition)
    np.testing.assert_array_equal(winners, layer.winners)
    won = [(winner, latency[winner]) for winner in winners]
    settings = dict(time_steps=layer.time_steps, **layer.rule)
    assert_close(judge.stdp(layer.weights, layer.latency_in, won, layer.rates, **settings), layer.weights_after)
    np.testing.assert_array_equal(judge.pool(latency, (2, 2), layer.time_steps), layer.pooled2)
    pooled = judge.pool(latency, (3, 3), layer.time_steps, stride=(2, 2), padding=(1, 1))
    np.testing.assert_array_equal(pooled, layer.pooled3_stride2_pad1)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("dog", [dog_kernel, judge.dog_kernel])
def test_dog_kernels(golden, number, dog):
    assert_close(dog(*DOGS[number]), golden[f"filters/dog{number}"])


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("gabor", [gabor_kernel, judge.gabor_kernel])
def test_gabor_kernels(golden, angle, gabor):
    assert_close(gabor(5, angle, 4.0), golden[f"filters/gabor5_{angle}"])


def test_the_filters_of_digits(golden):
    for number, weights in enumerate(DIGITS.weights):
        kernel = golden[f"filters/dog{number}"]
        margin = (13 - len(kernel)) // 2
        assert_close(weights, np.pad(kernel, margin))


@pytest.mark.parametrize("number", range(24))
def test_encoding(golden, number):
    np.testing.assert_array_equal(encode(golden["encode/images"][number]), golden["encode/latency"][number])


@pytest.mark.parametrize("number", range(6))
def test_encoding_of_colour(number):
    """Of the reference with equal values kept in order; its own sort leaves them in any."""
    with np.load(pathlib.Path(__file__).parent / "golden" / "colour.npz") as recorded:
        np.testing.assert_array_equal(COLOUR(recorded["images"][number]), recorded["latency"][number])


@pytest.mark.parametrize("number", range(24))
def test_encoding_of_the_judge(golden, number):
    filtered = judge.filter_image(golden["encode/images"][number], [judge.dog_kernel(*dog) for dog in DOGS], [50] * 6)
    latency = judge.rank_order(judge.local_normalization(filtered, radius=8), time_steps=15)
    np.testing.assert_array_equal(latency, golden["encode/latency"][number])


def test_local_normalization(golden):
    maps, expected = golden["local_normalization/input"][0], golden["local_normalization/radius3"][0]
    assert_close(local_normalization(maps, radius=3), expected)
    assert_close(judge.local_normalization(maps, radius=3), expected)


def test_lateral_inhibition(golden):
    maps, percents = golden["local_normalization/input"][0], golden["lateral_inhibition/percents"]
    assert_close(lateral_inhibition(maps, percents), golden["lateral_inhibition/output"][0])
    assert_close(judge.lateral_inhibition(maps, percents), golden["lateral_inhibition/output"][0])

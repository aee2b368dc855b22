"""Recorded results of the reference simulator: the kernels must give them, which other tests hold to the judge."""

import pathlib
import types

import numpy as np
import pytest

from snnjax import kernels
from snnjax.encoding import COLOUR, DIGITS, dog_kernel, encode, gabor_kernel, lateral_inhibition, local_normalization
from snnjax.kernels import Spikes, Winners, neurons
from snnjax.kernels.neurons import PositionSpikes

DOGS = [(n, first / 9, second / 9) for n in (3, 7, 13) for first, second in ((n, 2 * n), (2 * n, n))]
PARAMS = ("time_steps", "kernel", "threshold", "k", "radius", "ltp", "ltd", "stabiliser", "lower", "upper")
MOST = 6  # winners of any layer
MAPS = (20, 12, 12)  # no layer has more features, or larger ones


@pytest.fixture(params=range(40))
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
        rates=np.float32((settings["ltp"], settings["ltd"])),
        rule=dict(bounds=(settings["lower"], settings["upper"]), stabiliser=bool(settings["stabiliser"])),
    )


def embedded(array, shape, fill=0):
    """An array in the corner of a larger one, so that all layers share few compiled programs.

    Silent neurons and zero weights around a layer change nothing.
    """
    margins = [(0, more - size) for more, size in zip(shape[-array.ndim :], array.shape, strict=True)]
    return np.pad(array, margins, constant_values=fill)


def corner(array, like):
    """The part of an embedded result that belongs to the layer."""
    return np.asarray(array)[tuple(map(slice, like.shape[-np.ndim(array) :]))]


def assert_close(values, expected):
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_kernels(layer):
    steps, firing = layer.time_steps, dict(threshold=layer.threshold, time_steps=layer.time_steps)
    inputs, weights = embedded(layer.latency_in, (6, 16, 16), steps), embedded(layer.weights, (20, 6, 5, 5))
    spikes = kernels.integrate_and_fire(inputs, weights, **firing)
    first = kernels.strongest_feature(spikes, time_steps=steps)
    np.testing.assert_array_equal(corner(spikes.latency, layer.latency_out), layer.latency_out)
    assert_close(corner(spikes.potential, layer.latency_out), layer.potential_at_spike)
    assert_close(corner(neurons.final_potentials(inputs < steps, weights), layer.latency_out), layer.final_potentials)

    spikes = Spikes(embedded(layer.latency_out, MAPS, steps), embedded(layer.potential_at_spike, MAPS))
    inhibited = kernels.pointwise_inhibition(spikes, time_steps=steps)
    np.testing.assert_array_equal(corner(inhibited.latency, layer.latency_inhibited), layer.latency_inhibited)
    feature, latency, potential = (corner(array, layer.latency_out) for array in vars(first).values())
    places = PositionSpikes(embedded(feature, MAPS), embedded(latency, MAPS, steps), embedded(potential, MAPS))
    number = len(layer.winners)
    for left in (inhibited, places):
        winners = kernels.k_winners(left, k=MOST, radius=layer.radius, time_steps=steps)
        won = np.stack([winners.feature, winners.row, winners.column], axis=-1)[np.asarray(winners.valid)]
        np.testing.assert_array_equal(won[:number], layer.winners)
        assert number == min(layer.k, int(winners.valid.sum()))

    for window, settings, expected in (
        (2, {}, layer.pooled2),
        (3, dict(stride=2, padding=1), layer.pooled3_stride2_pad1),
    ):
        pooled = kernels.pool(spikes.latency, window, time_steps=steps, **settings)
        np.testing.assert_array_equal(corner(pooled, expected), expected)

    feature, row, column = np.pad(layer.winners, ((0, MOST - number), (0, 0))).T
    learning = Winners(
        np.where(np.arange(MOST) < number, feature, -1), row, column, layer.latency_out[feature, row, column]
    )
    learned = kernels.stdp(weights, inputs, learning, layer.rates, time_steps=steps, **layer.rule)
    assert_close(corner(learned, layer.weights_after), layer.weights_after)


def test_filters_normalization_and_lateral_inhibition(golden):
    for number, (dog, weights) in enumerate(zip(DOGS, DIGITS.weights, strict=True)):
        expected = golden[f"filters/dog{number}"]
        assert_close(dog_kernel(*dog), expected)
        assert_close(weights, np.pad(expected, (13 - len(expected)) // 2))
    for angle in (22.5, 67.5, 112.5, 157.5):
        assert_close(gabor_kernel(5, angle, 4.0), golden[f"filters/gabor5_{angle}"])
    maps, percents = golden["local_normalization/input"][0], golden["lateral_inhibition/percents"]
    assert_close(local_normalization(maps, radius=3), golden["local_normalization/radius3"][0])
    assert_close(lateral_inhibition(maps, percents), golden["lateral_inhibition/output"][0])


def test_encoding(golden):
    """In colour it is that of the reference with equal values kept in order; its own sort leaves them in any."""
    for image, expected in zip(golden["encode/images"], golden["encode/latency"], strict=True):
        np.testing.assert_array_equal(encode(image), expected)
    with np.load(pathlib.Path(__file__).parent / "golden" / "colour.npz") as recorded:
        for image, expected in zip(recorded["images"], recorded["latency"], strict=True):
            np.testing.assert_array_equal(COLOUR(image), expected)

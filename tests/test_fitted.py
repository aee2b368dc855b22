"""Encoders that are fitted to the training images: calibrated on and off centres, whitening, linear latencies."""

import dataclasses
from unittest import mock

import jax
import judge
import numpy as np
import pytest
from refusals import assert_refused

from snnjax import RSTDP, STDP, Conv, Network, Pool, SpikingNetwork, stage
from snnjax.core import devices
from snnjax.encoding import ON_OFF, WHITENING, OnOff, Whitening, fitted
from snnjax.kernels.spikes import linear_latency
from snnjax.networks.features import drawn_back

RNG = np.random.default_rng(0)
SMOOTH = np.cumsum(RNG.integers(-9, 10, (7, 14, 11, 3)), axis=2).clip(-120, 120).astype(np.int32)
COLOURS = np.uint8(128 + SMOOTH)
GREYS = COLOURS[..., 0]
SMALL = Whitening(window=5, epsilon=0.02)
PATCHES = 5_000
with mock.patch.object(fitted, "PATCHES", PATCHES):
    FITTED = {
        "on_off": (ON_OFF.fit(GREYS), GREYS),
        "on_off of colours": (OnOff(window=5, centre=0.5, surround=3.0, time_steps=15).fit(COLOURS), COLOURS),
        "whitening": (SMALL.fit(GREYS), GREYS),
        "whitening of colours": (dataclasses.replace(SMALL, time_steps=300).fit(COLOURS), COLOURS),
    }
ON, WHITE = FITTED["on_off"][0], FITTED["whitening"][0]
maps = jax.jit(lambda encoder, image: encoder.maps(image))


@pytest.fixture(autouse=True)
def few_patches(monkeypatch):
    monkeypatch.setattr(fitted, "PATCHES", PATCHES)


@pytest.fixture(params=["on_off", "whitening of colours"])
def case(request):
    return FITTED[request.param]


def planes(image: np.ndarray) -> np.ndarray:
    """(C, H, W) of 0..1."""
    return np.moveaxis(np.atleast_3d(image), -1, 0) / 255


def judged(encoder, image: np.ndarray) -> np.ndarray:
    """The maps before calibration, from the definition."""
    if isinstance(encoder, OnOff):
        grey = np.atleast_3d(image).mean(axis=2)
        return judge.on_off(grey, encoder.window, encoder.centre, encoder.surround)
    filtered = np.stack([judge.replicated(planes(image), each) for each in encoder.filters])
    return np.maximum(np.concatenate([filtered, -filtered]), 0)


def test_linear_latency():
    values = np.float32([1, 0.75, 0.74, 0.01, 1e-30, 0, -1, 7, np.nan])
    np.testing.assert_array_equal(linear_latency(values, time_steps=4), [0, 1, 1, 3, 3, 4, 4, 0, 4])
    values = np.float32(np.arange(65) / 64)
    for time_steps, dtype in ((1, np.uint8), (15, np.uint8), (255, np.uint8), (256, np.uint16)):
        latency = linear_latency(values, time_steps=time_steps)
        np.testing.assert_array_equal(latency, judge.linear_latency(values, time_steps))
        assert latency.dtype == dtype


@pytest.mark.parametrize("name", FITTED)
def test_latencies_are_linear_in_the_range_of_the_training_images(name):
    """Of the maps of the definition; those of other images are clipped; near-ties may go either way."""
    encoder, images = FITTED[name]
    train = np.stack([judged(encoder, image) for image in images])
    for image in images[:2]:
        np.testing.assert_allclose(maps(encoder, image), judged(encoder, image), rtol=1e-4, atol=2e-6)
    for image in (images[0], images[-1], 255 - images[1], np.zeros_like(images[0])):
        latency = np.asarray(encoder(image))
        values = judge.calibrate(judged(encoder, image), train)
        expected = judge.linear_latency(values, encoder.time_steps)
        place = (1 - values) * encoder.time_steps
        sure = (values > 1e-5) & (np.abs(place - np.round(place)) > 1e-2) | (values == 1)
        np.testing.assert_array_equal(latency[sure], expected[sure])
        assert np.abs(np.int64(latency) - expected).max() <= 1
        assert sure.sum() >= (values > 0).sum() / 2
        assert latency.dtype == (np.uint8 if encoder.time_steps <= 255 else np.uint16)


@pytest.mark.parametrize(("share", "images"), [(0.4, GREYS), (1.0, COLOURS)], ids=["grey", "colour"])
def test_whitening_filters(images, share, monkeypatch):
    """The impulse responses of the whitening of the patches drawn."""
    monkeypatch.setattr(fitted, "PATCHES", 2000)
    monkeypatch.setattr(fitted, "PATCHES_AT_ONCE", 300)
    filters = fitted.whitening_filters(images, 5, 0.02, share)
    places = np.random.default_rng(0).integers(0, (7, 10, 7), (2000, 3))
    patches = np.stack([planes(images[at][row : row + 5, column : column + 5]) for at, row, column in places])
    np.testing.assert_allclose(filters, judge.whitening(255 * patches, 0.02, share), rtol=1e-3, atol=1e-4)
    assert filters.dtype == np.float32


def test_a_fit_is_the_same_each_time_for_floats_and_in_parts(case, monkeypatch):
    """The last part is filled up."""
    encoder, images = case
    assert encoder.fit(images) == encoder
    assert encoder.fit(np.float32(images)) == encoder
    monkeypatch.setattr(fitted, "MAPS_AT_ONCE", 3 * encoder.maximum.nbytes)
    again = encoder.fit(images)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(encoder), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert encoder.output_shape(images.shape[1:]) == encoder.maximum.shape


def test_features_behind_a_fitted_encoder_are_drawn_back(case):
    """In grey or colour."""
    encoder, images = case
    first = Conv(3, kernel=3, padding=1, threshold=1, learners=STDP())
    stages = (stage(first, first, pool=Pool(2)), stage(Conv(2, kernel=3, learners=RSTDP())))
    shape = encoder.output_shape(images.shape[1:])
    network = SpikingNetwork(Network("two", shape, 2, stages, time_steps=encoder.time_steps, encoder=encoder))
    for drawn in drawn_back(network).values():
        assert drawn.images.shape[3:] == images.shape[3:]
        np.testing.assert_allclose((drawn.images**2).reshape(len(drawn.images), -1).sum(axis=1), 1, rtol=1e-5)
    if images.ndim == 4:
        one = np.zeros((3, 6, 3, 3), np.float32)
        one[0, 4, 1, 1] = 1  # the negative part of green
        network.set_weights(dict(layer1_1=one))
        drawn = drawn_back(network)["layer1_1"]
        middle = -np.moveaxis(encoder.filters[1], 0, -1)
        assert np.corrcoef(drawn.images[0][1:6, 1:6].ravel(), middle.ravel())[0, 1] > 0.95
        assert tuple(drawn.origin) == (-3, -3)


def test_batches_are_images_one_by_one(case, compilations):
    """With arrays as arguments: other numbers compile nothing."""
    encoder, images = case
    np.testing.assert_allclose(jax.vmap(encoder.maps)(images[:3]), [maps(encoder, x) for x in images[:3]], atol=1e-6)
    encode = jax.jit(lambda encoder, images: devices.map_each(encoder, images))
    np.testing.assert_array_equal(encode(encoder, images), np.stack([encoder(image) for image in images]))
    assert compilations(lambda: encode(encoder.fit(images[:5]), images)) <= 2, "no program but those of the fit"


@pytest.mark.parametrize("plain", [ON_OFF, SMALL])
def test_constant_images_and_pixels_are_silent(plain):
    """Whatever their brightness: filters sum to 0, but for rounding."""
    images = np.stack([GREYS[0], *(np.full((14, 11), level, np.uint8) for level in (90, 255, 31)), *GREYS[1:4]])
    images[:, 7:] = 77
    encoder = plain.fit(images)
    encoded = np.stack([encoder(image) for image in images])
    assert np.all(encoded[1:4, :, :3] == 255)
    assert np.all(encoded[:, :, 11:] == 255)
    assert np.any(encoded < 255)


def test_bad_input():
    assert_refused(
        (lambda: OnOff(window=4), "`window` must be odd, got 4"),
        (lambda: OnOff(surround=1.0), "`centre` and `surround` must differ, got 1.0 for both"),
        (lambda: ON_OFF(GREYS[0]), "`encoder` must be fitted .* call OnOff.fit"),
        (lambda: ON_OFF.fit(GREYS[:1]), "`images` must differ .*, got 1 that are all alike"),
        (lambda: WHITENING.fit(GREYS[:, :8]), r"`image` .*at least 9 rows .*got shape \(8, 11\)"),
        (lambda: OnOff(minimum=np.zeros((2, 3, 3))), "`minimum` and `maximum` must have one shape"),
        (lambda: dataclasses.replace(WHITE, window=7), r"`filters` .*7, 7\) of .*, got \(1, 1, 5, 5\)"),
    )

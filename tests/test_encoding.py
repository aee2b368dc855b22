"""From images to latencies."""

import jax
import judge
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import assert_refused

from snnjax.encoding import COLOUR, DOG, EVENTS, GABOR, GABORS, GREY, PIXELS, Encoder, FilterBank, Pixels, encode
from snnjax.encoding.encoder import lateral_inhibition, local_normalization, max_pooling, rank_order
from snnjax.encoding.filters import dog_kernel, filter_image, gabor_kernel
from snnjax.kernels import use_backend
from snnjax.layers.pool import Pool

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 12, 9), np.uint8)
MAPS = np.float32(RNG.integers(0, 65, (3, 2, 6, 5)) / 64)
PERCENTS = np.float32([0.5, 0.25, 0.125])
BANK = FilterBank.of([dog_kernel(3, 1 / 3, 2 / 3), gabor_kernel(5, 22.5)], threshold=(50.0, -20.0), absolute=True)
KERNELS = [np.float64(x) for x in (dog_kernel(3, 1 / 3, 2 / 3), dog_kernel(5, 6 / 9, 3 / 9), gabor_kernel(7, 30, 4))]


def drawn(*cases):
    """Maps and a setting of one of the cases, each a shape and a setting: as few programs as there are cases."""
    return st.sampled_from(cases).flatmap(lambda case: st.tuples(judge.dyadic(case[0]), st.just(case[1])))


@pytest.mark.parametrize(
    ("size", "threshold", "settings", "scale"),
    [
        ((1, 1), (50.0, -5.0, -100.0), dict(absolute=True), 1.0),
        ((9, 31), (50.0, -5.0, -100.0), dict(), 0.5),
        ((3, 70), None, dict(padding=5), 1.0),
    ],
    ids=["pixel", "below a tile", "three tiles"],  # of 32 columns
)
def test_filter_image(size, threshold, settings, scale):
    image = RNG.integers(0, 256, size, np.uint8)
    thresholds = np.broadcast_to(-np.inf if threshold is None else threshold, 3)
    spare = settings.get("padding", 3) - 3
    expected = judge.filter_image(np.pad(image, spare) * scale, KERNELS, thresholds)
    filtered = filter_image(image, bank=FilterBank.of(KERNELS, threshold, **settings), scale=scale)
    expected = np.abs(expected) if "absolute" in settings else expected
    np.testing.assert_allclose(filtered, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-7, 255.0])
def test_multiples_of_a_kernel_are_told_from_others_at_any_scale(scale):
    on, gabors = dog_kernel(5, 3 / 9, 6 / 9), [gabor_kernel(5, angle) for angle in (20.0, 70.0)]
    kernels = [np.zeros((3, 3), np.float32), on, -2 * on, *gabors]
    bank = FilterBank.of([scale * kernel for kernel in kernels], threshold=-1e9)
    image = RNG.integers(0, 256, (9, 31), np.uint8)
    expected = judge.filter_image(image, [np.array(kernel) for kernel in bank.kernels], [-1e9] * 5)
    np.testing.assert_allclose(filter_image(image, bank=bank), expected, rtol=1e-4, atol=1e-2 * scale)


@pytest.mark.parametrize(
    ("encoder", "image_shape", "shape"),
    [
        (GREY, (28, 28), (6, 28, 28)),
        (COLOUR, (7, 9), (18, 9, 11)),
        (Encoder(BANK, 300), (1, 8), (2, 1, 8)),
        (GABOR, (28, 30), (4, 5, 5)),
        (Encoder(BANK, pool=Pool((2, 3), padding=1)), (25, 27), (2, 13, 9)),
        (PIXELS, (5, 7, 3), (3, 5, 7)),
        (EVENTS, (5, 7, 2), (2, 5, 7)),
    ],
)
def test_encoders_know_their_output(encoder, image_shape, shape):
    latency = jax.eval_shape(encoder, jax.ShapeDtypeStruct(image_shape, np.uint8))
    assert (latency.shape, latency.dtype.itemsize) == (shape, 1 + (encoder.time_steps > 255))
    assert encoder.output_shape(image_shape) == shape


def test_outputs_at_the_threshold_pass():
    image = np.uint8([[24, 25, 26]])
    filtered = filter_image(image, bank=FilterBank.of([np.full((1, 1), 2.0), np.full((1, 1), -2.0)], (50.0, -50.0)))
    np.testing.assert_array_equal(filtered, [[[0, 50, 52]], [[-48, -50, 0]]])


@given(drawn(((2, 4, 5), 0), ((2, 4, 5), 1), ((1, 7, 3), 3), ((3, 1, 2), 8)))
def test_local_normalization(case):
    maps, radius = case
    normalized = local_normalization(maps, radius=radius)
    np.testing.assert_allclose(normalized, judge.local_normalization(maps, radius), rtol=1e-5)


def test_dim_neighbourhoods_are_normalised_beside_bright_ones():
    maps = np.full((1, 64, 64), 1e-5, np.float32)
    maps[0, 0, 0] = 100
    np.testing.assert_allclose(local_normalization(maps, radius=30), judge.local_normalization(maps, 30), rtol=1e-4)


@given(drawn(((2, 3, 4), 5), ((40,), 15), ((5, 1), 1), ((1,), 15), ((200,), 300)), st.sampled_from([1, 12]))
def test_rank_order(case, ties):
    maps, time_steps = case
    intensities = np.float32(np.floor(maps * ties))
    for chosen in ("xla", "auto"):
        with use_backend(chosen):
            latency = rank_order(intensities, time_steps=time_steps)
        np.testing.assert_array_equal(latency, judge.rank_order(intensities, time_steps))
    assert latency.dtype == (np.uint16 if time_steps > 255 else np.uint8)


def test_encoding_is_its_steps_one_after_the_other():
    normalized = local_normalization(filter_image(IMAGES[0], bank=BANK), radius=2)
    encoder = Encoder(BANK, time_steps=5, radius=2)
    for found in (encode(IMAGES[0], time_steps=5, bank=BANK, radius=2), encoder(IMAGES[0]), encoder(IMAGES[0] * 1.0)):
        np.testing.assert_array_equal(found, rank_order(normalized, time_steps=5))


def test_the_encoder_of_objects_is_its_steps_one_after_the_other():
    """Of Mozafari et al. 2018: absolute Gabors, pooling, lateral inhibition, rank order, pointwise inhibition."""
    image = RNG.integers(0, 256, (60, 44), np.uint8)
    gabors = [gabor_kernel(5, angle) for angle in (67.5, 112.5, 157.5, 202.5)]
    assert FilterBank.of(gabors, absolute=True, reflect=True) == GABORS
    inhibition = np.float32([0.15, 0.12, 0.1, 0.07, 0.05])
    pooled = max_pooling(filter_image(image, bank=GABORS, scale=1 / 255), 7, stride=6, padding=3)
    inhibited = lateral_inhibition(pooled, inhibition)
    latency = np.asarray(GABOR(image))
    ranked = judge.rank_order(np.asarray(inhibited), 15)
    np.testing.assert_array_equal(latency, judge.pointwise_inhibition(ranked, np.asarray(inhibited), 15)[0])
    reflected = np.pad(image, 2, mode="reflect")
    expected = np.abs(judge.filter_image(reflected / 255, gabors, [-np.inf] * 4))[:, 2:-2, 2:-2]
    np.testing.assert_allclose(pooled, judge.max_pooling(expected, (7, 7), (6, 6), (3, 3)), rtol=1e-5)
    assert np.all(np.asarray(GABOR(np.full((60, 44), 97, np.uint8))) == 15), "nothing is seen in a flat picture"


def test_outputs_below_0_are_silent():
    """Also where they outweigh their neighbours, and a quotient of two of them would be positive."""
    image = np.full((9, 9), 255, np.uint8)
    image[4, 4] = 0
    bank = FilterBank.of([np.full((1, 1), -1.0), np.full((1, 1), 1.0)])
    latency = np.asarray(encode(image, bank=bank, radius=1))
    assert np.all(latency[0] == 15)
    assert np.any(latency[1] < 15)


def test_pixels_fire_in_the_order_of_their_brightness():
    latency = Pixels(5)(np.float32([[255, 204, 203, 1e-6], [0, -3, 300, 52]]))
    assert latency.tolist() == [[[0, 1, 1, 4], [5, 5, 0, 3]]]


CONTRACTS = {
    "max_pooling": (lambda x: max_pooling(x, 3, stride=2, padding=1), [MAPS]),
    "lateral_inhibition": (lateral_inhibition, [MAPS, np.stack([PERCENTS, PERCENTS / 2, PERCENTS / 4])]),
    "encode": (lambda x: encode(x, time_steps=5, bank=BANK, radius=2), [IMAGES]),
}


@pytest.mark.parametrize("kernel", CONTRACTS)
def test_contract(kernel, contract):
    contract(*CONTRACTS[kernel])


LARGE = FilterBank.of([np.ones((11, 11))], padding=0)


def test_bad_input():
    assert_refused(
        (lambda: dog_kernel(4, 1.0, 2.0), "`window` must be odd, got 4"),
        (lambda: FilterBank.of([np.ones((4, 4))]), "`kernels` .*odd.*got 4 rows"),
        (lambda: FilterBank((((np.nan,),),)), "`kernels` must be finite"),
        (lambda: Encoder(time_steps=0), "`time_steps` must be at least 1, got 0"),
        (lambda: Encoder(inhibition=(0.1, np.nan)), "`inhibition` must be finite, got nan"),
        (lambda: GABOR.output_shape((2, 9)), r"`image` must have more than 2 rows .*got shape \(2, 9\)"),
        (lambda: Encoder(pool=Pool(13)).output_shape((12, 9)), "the map of 12x9, got 13x13"),
        (lambda: filter_image(IMAGES[0, :10], bank=LARGE), r"`image` .*more than 10 rows .*\(10, 9\)"),
        (lambda: lateral_inhibition(MAPS[0], PERCENTS[0]), r"`percents` .*\(D\), got shape \(\)"),
    )


FLAT = np.stack([np.full((28, 28), value, np.uint8) for value in (40, 128, 255)])
BLACK_AND_WHITE = RNG.choice(np.uint8([0, 255]), (5, 8, 8))


@pytest.mark.parametrize(
    ("encoder", "images"),
    [(GREY, BLACK_AND_WHITE), (DOG, FLAT), (GABOR, np.float32(BLACK_AND_WHITE) * np.float32(0.3))],
    ids=["grey", "dog", "gabor"],
)
def test_ties_do_not_hang_on_how_many_images_are_encoded(encoder, images):
    one_by_one = np.stack([encoder(image) for image in images])
    np.testing.assert_array_equal(jax.jit(jax.vmap(encoder))(images), one_by_one)


def test_equal_surroundings_have_equal_intensities():
    """Of an image that is turned over or transposed, so that its sums are in another order."""
    image = RNG.integers(0, 256, (28, 28), np.uint8)

    @jax.jit
    def intensities(image):
        return local_normalization(jax.numpy.maximum(filter_image(image), 0), radius=8)

    expected = np.asarray(intensities(image))
    np.testing.assert_array_equal(intensities(image.T), expected.transpose(0, 2, 1))
    np.testing.assert_array_equal(intensities(image[::-1]), expected[:, ::-1])

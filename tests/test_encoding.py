"""From images to latencies."""

import dataclasses
import json

import jax
import judge
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax.core.components import from_data, to_data
from snnjax.encoding import (
    COLOUR,
    DOG,
    GABOR,
    GABORS,
    GREY,
    Encoder,
    FilterBank,
    dog_kernel,
    encode,
    filter_image,
    gabor_kernel,
    lateral_inhibition,
    local_normalization,
    max_pooling,
    rank_order,
)
from snnjax.layers.pool import Pool

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 12, 9), np.uint8)
MAPS = np.float32(RNG.integers(0, 65, (3, 2, 6, 5)) / 64)
PERCENTS = np.float32([0.5, 0.25, 0.125])
BANK = FilterBank.of([dog_kernel(3, 1 / 3, 2 / 3), gabor_kernel(5, 22.5)], threshold=(50.0, -20.0), absolute=True)

maps = st.sampled_from([(2, 4, 5), (1, 7, 3), (3, 1, 2)]).flatmap(judge.dyadic)


@pytest.mark.parametrize(("window", "sigmas"), [(3, (1 / 3, 2 / 3)), (5, (6 / 9, 3 / 9)), (15, (13 / 9, 26 / 9))])
def test_dog_kernel(window, sigmas):
    kernel = dog_kernel(window, *sigmas)
    np.testing.assert_allclose(kernel, judge.dog_kernel(window, *sigmas), rtol=1e-6, atol=1e-7)
    assert kernel.dtype == np.float32


@pytest.mark.parametrize("orientation", [0, 30, 90, 157.5, 300])
@pytest.mark.parametrize(("window", "div"), [(3, 4.0), (7, 3.25)])
def test_gabor_kernel(window, orientation, div):
    kernel = gabor_kernel(window, orientation, div)
    np.testing.assert_allclose(kernel, judge.gabor_kernel(window, orientation, div), rtol=1e-6, atol=1e-7)
    assert kernel.dtype == np.float32


def test_smaller_kernels_sit_in_the_middle_of_the_largest():
    kernels = [np.full((1, 1), 3.0), np.full((3, 3), 2.0), np.ones((7, 7))]
    weights = FilterBank.of(kernels).weights
    assert weights.shape == (3, 7, 7)
    for weight, kernel in zip(weights, kernels, strict=True):
        margin = (7 - len(kernel)) // 2
        np.testing.assert_array_equal(weight[margin : 7 - margin, margin : 7 - margin], kernel)
        assert weight.sum() == kernel.sum()


@pytest.mark.parametrize("size", [(1, 1), (9, 31), (5, 32), (4, 33), (3, 70)])  # around 32 columns, one tile
@pytest.mark.parametrize("absolute", [False, True])
def test_filter_image(size, absolute):
    image = RNG.integers(0, 256, size, np.uint8)
    kernels = [judge.dog_kernel(3, 1 / 3, 2 / 3), judge.dog_kernel(5, 6 / 9, 3 / 9), judge.gabor_kernel(7, 30, 4)]
    thresholds = (50.0, -5.0, -100.0)
    expected = judge.filter_image(image, kernels, thresholds)
    filtered = filter_image(image, bank=FilterBank.of(kernels, thresholds, absolute))
    np.testing.assert_allclose(filtered, np.abs(expected) if absolute else expected, rtol=1e-5, atol=1e-3)
    padded = filter_image(image, bank=FilterBank.of(kernels, thresholds, absolute, padding=5))
    assert padded.shape == (3, size[0] + 4, size[1] + 4)
    np.testing.assert_allclose(padded[:, 2:-2, 2:-2], filtered, rtol=1e-5, atol=1e-3)
    expected = judge.filter_image(image, kernels, [-np.inf] * 3)
    no_threshold = filter_image(image, bank=FilterBank.of(kernels, absolute=absolute))
    np.testing.assert_allclose(no_threshold, np.abs(expected) if absolute else expected, rtol=1e-5, atol=1e-3)
    one_threshold = filter_image(image, bank=FilterBank.of(kernels, 50))
    np.testing.assert_allclose(one_threshold, np.where(expected < 50, 0, expected), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-7, 1.0, 255.0])
def test_multiples_of_a_kernel_are_told_from_others_at_any_scale(scale):
    on, gabors = dog_kernel(5, 3 / 9, 6 / 9), [gabor_kernel(5, angle) for angle in (20.0, 70.0)]
    kernels = [np.zeros((3, 3), np.float32), on, -2 * on, *gabors]
    bank = FilterBank.of([scale * kernel for kernel in kernels], threshold=-1e9)
    image = RNG.integers(0, 256, (40, 35), np.uint8)
    expected = judge.filter_image(image, [np.array(kernel) for kernel in bank.kernels], [-1e9] * 5)
    np.testing.assert_allclose(filter_image(image, bank=bank), expected, rtol=1e-4, atol=1e-2 * scale)


def test_colour_planes_are_added_and_outputs_copied():
    image = RNG.integers(0, 256, (9, 12, 3), np.uint8)
    bank = FilterBank.of([dog_kernel(3, 1 / 3, 2 / 3), dog_kernel(5, 6 / 9, 3 / 9)], (40.0, -10.0), copies=3)
    expected = judge.filter_image(image.sum(axis=2), [np.array(kernel) for kernel in bank.kernels], [40.0, -10.0])
    filtered = filter_image(image, bank=bank)
    np.testing.assert_allclose(filtered, np.repeat(expected, 3, axis=0), rtol=1e-5, atol=1e-3)
    assert bank.weights.shape == (6, 5, 5)
    np.testing.assert_array_equal(bank.weights[3], bank.weights[5])


@pytest.mark.parametrize(
    ("encoder", "image_shape"),
    [
        (GREY, (28, 28)),
        (COLOUR, (32, 32, 3)),
        (COLOUR, (7, 9)),
        (Encoder(BANK, 5), (1, 8)),
        (DOG, (9, 9)),
        (GABOR, (28, 30)),
        (GABOR, (20, 20, 3)),
        (Encoder(BANK, pool=Pool((2, 3), padding=1)), (25, 27)),
    ],
)
def test_an_encoder_is_encode_with_its_settings(encoder, image_shape):
    image = RNG.integers(0, 256, image_shape, np.uint8)
    latency = encoder(image)
    assert latency.shape == encoder.output_shape(image_shape)
    assert latency.max() == encoder.time_steps
    settings = {each.name: getattr(encoder, each.name) for each in dataclasses.fields(encoder)}
    np.testing.assert_array_equal(latency, encode(image, **settings))


def test_outputs_at_the_threshold_pass():
    image = np.uint8([[24, 25, 26]])
    filtered = filter_image(image, bank=FilterBank.of([np.full((1, 1), 2.0), np.full((1, 1), -2.0)], (50.0, -50.0)))
    np.testing.assert_array_equal(filtered, [[[0, 50, 52]], [[-48, -50, 0]]])


@given(maps, st.sampled_from([0, 1, 3, 8]))
def test_local_normalization(maps, radius):
    normalized = local_normalization(maps, radius=radius)
    np.testing.assert_allclose(normalized, judge.local_normalization(maps, radius), rtol=1e-5)


@pytest.mark.parametrize("radius", [1, 8, 30])
def test_dim_neighbourhoods_are_normalised_beside_bright_ones(radius):
    maps = np.full((1, 64, 64), 1e-5, np.float32)
    maps[0, 0, 0] = 100
    normalized = local_normalization(maps, radius=radius)
    np.testing.assert_allclose(normalized, judge.local_normalization(maps, radius), rtol=1e-4)


@given(maps, st.sampled_from([1, 2, 3]))
def test_lateral_inhibition(maps, radius):
    percents = PERCENTS[:radius]
    np.testing.assert_array_equal(lateral_inhibition(maps, percents), judge.lateral_inhibition(maps, percents))


@given(maps, st.sampled_from([((1, 1), (1, 1), (0, 0)), ((2, 3), (1, 2), (2, 1)), ((3, 2), (4, 1), (3, 0))]))
def test_max_pooling(maps, how):
    window, stride, padding = how
    pooled = max_pooling(maps, window, stride=stride, padding=padding)
    np.testing.assert_array_equal(pooled, judge.max_pooling(maps, window, stride, padding))


@given(
    st.sampled_from([(2, 3, 4), (40,), (5, 1), (1,)]).flatmap(
        lambda shape: judge.dyadic(shape) | judge.arrays(shape, st.integers(0, 99), np.float32)
    ),
    st.sampled_from([1, 5, 15]),
)
def test_rank_order(intensities, time_steps):
    latency = rank_order(intensities, time_steps=time_steps)
    np.testing.assert_array_equal(latency, judge.rank_order(intensities, time_steps))
    assert latency.dtype == np.uint8


@pytest.mark.parametrize(
    ("intensities", "latency"),
    [
        ([0, 0, 0, 0, 0, 0, 0, 0], [3, 3, 3, 3, 3, 3, 3, 3]),  # blank
        ([0, 7, 0, 0, 0, 9, 0, 0], [3, 1, 3, 3, 3, 0, 3, 3]),  # fewer than T
        ([2, 2, 2, 2, 2, 2, 2, 2], [0, 0, 1, 1, 2, 2, 3, 3]),  # all equal; the last n - T bin are silent
        ([1, 2, 2, 2, 1, 1, 2, 0], [2, 0, 0, 1, 2, 3, 1, 3]),  # equal values on both sides of a step
    ],
)
def test_rank_order_by_hand(intensities, latency):
    np.testing.assert_array_equal(rank_order(np.float32(intensities), time_steps=3), latency)


def test_rank_order_of_many_values():
    intensities = np.float32(RNG.integers(0, 50, (6, 28, 28)))
    np.testing.assert_array_equal(rank_order(intensities, time_steps=15), judge.rank_order(intensities, 15))
    latency = rank_order(intensities, time_steps=300)
    np.testing.assert_array_equal(latency, judge.rank_order(intensities, 300))
    assert latency.dtype == np.uint16


@pytest.mark.parametrize("size", [(28, 28), (1, 1), (5, 40)])
def test_blank_and_constant_images(size):
    assert np.all(encode(np.zeros(size, np.uint8)) == 15)
    constant = encode(np.full(size, 200, np.uint8))
    assert constant.shape == (6, *size)
    assert np.all(constant[:, 6:-6, 6:-6] == 15)


def test_encoding_is_its_steps_one_after_the_other():
    settings = dict(time_steps=5, bank=BANK, radius=2)
    for image in IMAGES:
        normalized = local_normalization(filter_image(image, bank=BANK), radius=2)
        latency = encode(image, **settings)
        np.testing.assert_array_equal(latency, rank_order(normalized, time_steps=5))
        np.testing.assert_array_equal(encode(np.float32(image), **settings), latency)


def test_the_encoder_of_objects_is_its_steps_one_after_the_other():
    """Of Mozafari et al. 2018: absolute Gabors, pooling, lateral inhibition, rank order, pointwise inhibition."""
    image = RNG.integers(0, 256, (60, 44), np.uint8)
    gabors = [gabor_kernel(5, angle) for angle in (67.5, 112.5, 157.5, 202.5)]
    filtered = filter_image(image, bank=FilterBank.of(gabors, absolute=True, reflect=True), scale=1 / 255)
    inhibition = np.float32([0.15, 0.12, 0.1, 0.07, 0.05])
    inhibited = lateral_inhibition(max_pooling(filtered, 7, stride=6, padding=3), inhibition)
    latency = GABOR(image)
    assert latency.shape == (4, 10, 8)
    ranked = np.asarray(rank_order(inhibited, time_steps=15))
    np.testing.assert_array_equal(latency, judge.pointwise_inhibition(ranked, np.asarray(inhibited), 15)[0])
    np.testing.assert_array_equal(dataclasses.replace(GABOR, pointwise=False)(image), ranked)
    assert np.all(np.sum(latency < 15, axis=0) <= 1)
    reflected = np.pad(image, 2, mode="reflect")
    expected = np.abs(judge.filter_image(reflected / 255, gabors, [-np.inf] * 4))[:, 2:-2, 2:-2]
    pooled = judge.max_pooling(expected, (7, 7), (6, 6), (3, 3))
    np.testing.assert_allclose(inhibited, judge.lateral_inhibition(pooled, inhibition), rtol=1e-5)
    other = GABOR(np.repeat(image[..., None], 3, axis=2))
    np.testing.assert_array_equal(other, latency)  # the sum of three equal planes is in the same order


def test_a_scale_comes_before_thresholds():
    image = IMAGES[0]
    bank = dataclasses.replace(BANK, threshold=(50.0, 20.0))
    scaled = dataclasses.replace(bank, threshold=(25.0, 10.0))
    np.testing.assert_array_equal(encode(image, bank=scaled, scale=0.5), encode(image, bank=bank))
    assert np.any(encode(image, bank=bank, scale=0.5) != encode(image, bank=bank))


def test_outputs_below_0_are_silent():
    """Also where they outweigh their neighbours, and a quotient of two of them would be positive."""
    image = np.full((9, 9), 255, np.uint8)
    image[4, 4] = 0
    latency = encode(image, bank=FilterBank.of([np.full((1, 1), -1.0), np.full((1, 1), 1.0)]), radius=1)
    assert np.all(latency[0] == 15)
    assert np.any(latency[1] < 15)


CONTRACTS = {
    "max_pooling": (lambda x: max_pooling(x, 3, stride=2, padding=1), [MAPS]),
    "encode objects": (lambda x: GABOR(x), [IMAGES]),
    "local_normalization": (lambda x: local_normalization(x, radius=2), [MAPS]),
    "lateral_inhibition": (lateral_inhibition, [MAPS, np.stack([PERCENTS, PERCENTS / 2, PERCENTS / 4])]),
    "rank_order": (lambda x: rank_order(x, time_steps=5), [MAPS]),
    "filter_image": (lambda x: filter_image(x, bank=BANK), [IMAGES]),
    "encode": (lambda x: encode(x, bank=BANK), [IMAGES]),
}


@pytest.mark.parametrize("kernel", CONTRACTS)
def test_contract(kernel, contract):
    contract(*CONTRACTS[kernel])


def test_encoders_can_be_saved_compared_and_traced():
    """They are components, all structure; they are shown without their numbers."""
    encoder, arrays = Encoder(BANK, time_steps=5), {}
    again = from_data(json.loads(json.dumps(to_data(encoder, arrays))), arrays)
    assert (again, hash(again), arrays) == (encoder, hash(encoder), {})
    assert jax.tree.leaves(encoder) == []
    encoded = jax.jit(lambda encoder, image: encoder(image))(again, IMAGES[0])
    np.testing.assert_array_equal(encoded, encoder(IMAGES[0]))
    bank = "FilterBank(2 kernels up to 5x5, threshold=(50.0, -20.0))"
    steps = "radius=8, pool=None, inhibition=(), pointwise=False, scale=1.0"
    assert repr(encoder) == f"Encoder(bank={bank}, time_steps=5, {steps})"
    again = from_data(json.loads(json.dumps(to_data(GABOR, arrays))), arrays)
    assert (again, hash(again), arrays) == (GABOR, hash(GABOR), {})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dog_kernel(4, 1.0, 2.0), ValueError, "`window` must be odd, got 4"),
        (lambda: dog_kernel(0, 1.0, 2.0), ValueError, "`window` must be at least 1, got 0"),
        (lambda: dog_kernel(3.0, 1.0, 2.0), TypeError, "`window` must be an integer, got 3.0"),
        (lambda: dog_kernel(3, 0.0, 2.0), ValueError, "`sigma1` and `sigma2` must be positive .*got 0.0 and 2.0"),
        (lambda: dog_kernel(3, 1.0, 1.0), ValueError, "`sigma1` and `sigma2` must be .*differ, got 1.0 and 1.0"),
        (lambda: gabor_kernel(4, 0.0), ValueError, "`window` must be odd, got 4"),
        (lambda: gabor_kernel(5, 0.0, div=0), ValueError, "`div` must be positive, got 0"),
        (lambda: FilterBank.of([np.ones((4, 4))]), ValueError, "`kernels` .*odd.*got .*4"),
        (lambda: FilterBank.of([np.ones((3, 3))], padding=-1), ValueError, "`padding` must be at least 0, got -1"),
        (lambda: FilterBank.of([np.ones((3, 3))], copies=0), ValueError, "`copies` must be at least 1, got 0"),
        (lambda: FilterBank.of([]), ValueError, "`kernels` must be one filter or several, as tuples, got "),
        (lambda: FilterBank.of([np.ones(3)]), ValueError, r"`kernels` must have axes \(n n\), got shape \(3,\)"),
        (lambda: FilterBank(()), ValueError, "`kernels` must be one filter or several, as tuples, got "),
        (lambda: FilterBank((((1.0,),),), copies=0), ValueError, "`copies` must be at least 1, got 0"),
        (lambda: FilterBank((((1.0, 2.0), (3.0, 4.0)),)), ValueError, r"`kernels` .*, got 2 rows of shapes \[\(2,\)\]"),
        (lambda: FilterBank(((1.0,),)), ValueError, r"`kernels` .*, got 1 rows of shapes \[\(\)\]"),
        (lambda: FilterBank((((np.nan,),),)), ValueError, "`kernels` and `threshold` must be finite"),
        (lambda: FilterBank((((1.0,),),), np.inf), ValueError, "`kernels` and `threshold` must be finite"),
        (lambda: FilterBank((((1.0,),),), (1.0, 2.0)), ValueError, "`threshold` must be one number or 1, got 2"),
        (lambda: Encoder(time_steps=0), ValueError, "`time_steps` must be at least 1, got 0"),
        (lambda: dataclasses.replace(GREY, radius=-1), ValueError, "`radius` must be at least 0, got -1"),
        (lambda: Encoder("grey"), TypeError, "`bank` must be a FilterBank, got 'grey'"),
        (lambda: Encoder(pool=2), TypeError, r"`pool` must be a Pool or None, got 2: write Pool\(...\)"),
        (lambda: Encoder(inhibition=0.1), TypeError, "`inhibition` must be a tuple of numbers, got 0.1"),
        (lambda: Encoder(inhibition=(0.1, np.nan)), ValueError, "`inhibition` must be finite numbers, got "),
        (lambda: Encoder(scale=0), ValueError, "`scale` must be positive and finite, got 0"),
        (lambda: Encoder(scale="1/255"), TypeError, "`scale` must be a number, got '1/255'"),
        (lambda: GABOR.output_shape((0, 9)), ValueError, r"`image` must have more than 2 rows .*got shape \(0, 9\)"),
        (lambda: FilterBank.of([np.ones((129, 129))]), ValueError, "`kernels` must have at most 127 rows, got 129"),
        (lambda: encode(IMAGES[0].tolist()), TypeError, "`image` must be an array, got list"),
        (
            lambda: Encoder(pool=Pool(13)).output_shape((12, 9)),
            ValueError,
            "the pooling window must fit into the map of 12x9, got 13x13",
        ),
        (lambda: max_pooling(MAPS[0], 7), ValueError, "`window` must fit into the map of 6x5, got 7x7"),
        (lambda: max_pooling(MAPS[0], 0), ValueError, "`window` must be at least 1, got 0"),
        (lambda: max_pooling(IMAGES, 2), TypeError, "`maps` must hold floats, got dtype uint8"),
        (lambda: COLOUR.output_shape((32, 32, 4)), ValueError, r"`image` .*got shape \(32, 32, 4\)"),
        (
            lambda: filter_image(IMAGES[0], bank=FilterBank.of([np.ones((11, 11))], padding=0)),
            ValueError,
            r"`image` must have more than 10 rows and columns, got shape \(12, 9\)",
        ),
        (lambda: filter_image(IMAGES), ValueError, r"`image` .*\(H W\), got shape \(3, 12, 9\)"),
        (lambda: filter_image(IMAGES[0].tolist()), TypeError, "`image` must be an array.*got list"),
        (lambda: encode(IMAGES[0, 0]), ValueError, r"`image` .*\(H W\), got shape \(9,\)"),
        (lambda: encode(IMAGES[0], time_steps=0), ValueError, "`time_steps` must be at least 1, got 0"),
        (lambda: encode(IMAGES[0], radius=-1), ValueError, "`radius` must be at least 0, got -1"),
        (lambda: local_normalization(IMAGES, radius=1), TypeError, "`maps` must hold floats, got dtype uint8"),
        (lambda: local_normalization(MAPS, radius=1), ValueError, r"`maps` .*got shape \(3, 2, 6, 5\)"),
        (lambda: local_normalization(MAPS[0], radius=-1), ValueError, "`radius` must be at least 0, got -1"),
        (lambda: local_normalization(MAPS[0], radius=0.5), TypeError, "`radius` must be an integer, got 0.5"),
        (lambda: lateral_inhibition(IMAGES, PERCENTS), TypeError, "`maps` must hold floats, got dtype uint8"),
        (lambda: lateral_inhibition(MAPS[0], PERCENTS[0]), ValueError, r"`percents` .*\(D\), got shape \(\)"),
        (lambda: rank_order(IMAGES, time_steps=5), TypeError, "`intensities` must hold floats, got dtype uint8"),
        (lambda: rank_order([1.0], time_steps=5), TypeError, "`intensities` must be an array.*got list"),
        (lambda: rank_order(MAPS, time_steps=0), ValueError, "`time_steps` must be at least 1, got 0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        jax.block_until_ready(call())


FLAT = np.stack([np.full((28, 28), value, np.uint8) for value in (40, 128, 255)])
BLACK_AND_WHITE = RNG.choice(np.uint8([0, 255]), (5, 8, 8))


@pytest.mark.parametrize("encoder", [GREY, DOG, GABOR], ids=["grey", "dog", "gabor"])
@pytest.mark.parametrize("images", [FLAT, BLACK_AND_WHITE, np.float32(BLACK_AND_WHITE) * np.float32(0.3)])
def test_ties_do_not_hang_on_how_many_images_are_encoded(encoder, images):
    one_by_one = np.stack([encoder(image) for image in images])
    np.testing.assert_array_equal(jax.vmap(encoder)(images), one_by_one)
    np.testing.assert_array_equal(jax.vmap(encoder)(images[:2]), one_by_one[:2])


def test_equal_surroundings_have_equal_intensities():
    """Of an image that is turned over or transposed, so that its sums are in another order."""
    image = RNG.integers(0, 256, (28, 28), np.uint8)

    def intensities(image):
        return np.asarray(local_normalization(np.maximum(filter_image(image), 0), radius=8))

    expected = intensities(image)
    np.testing.assert_array_equal(intensities(image.T), expected.transpose(0, 2, 1))
    np.testing.assert_array_equal(intensities(image[::-1]), expected[:, ::-1])
    np.testing.assert_array_equal(intensities(image[:, ::-1]), expected[:, :, ::-1])


@pytest.mark.parametrize("value", [1, 97, 200, 255])
def test_gabor_filters_see_nothing_in_a_flat_picture(value):
    assert np.all(GABOR(np.full((64, 80), value, np.uint8)) == 15)
    assert np.all(filter_image(np.full((20, 20), value, np.uint8), bank=GABORS) == 0)

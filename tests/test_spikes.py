"""Latencies and waves, padding and pooling."""

import jax.numpy as jnp
import judge
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax.kernels import latency_dtype, latency_to_wave, pad, pool, wave_to_latency

MAPS = [((2, 4, 5), 5), ((1, 7, 3), 15), ((3, 5, 5), 1)]  # shape, T
POOLS = [  # window, stride, padding
    ((2, 2), None, (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((2, 3), (1, 2), (0, 1)),
    ((3, 1), (3, 3), (2, 0)),
]
RNG = np.random.default_rng(0)
LATENCY = RNG.integers(0, 6, (3, 2, 4, 5), np.uint8)

maps = st.sampled_from(MAPS).flatmap(lambda case: st.tuples(judge.latencies(*case), st.just(case[1])))


@given(maps)
def test_waves_and_latencies_hold_the_same(case):
    latency, time_steps = case
    wave = latency_to_wave(latency, time_steps=time_steps)
    np.testing.assert_array_equal(wave, judge.wave(latency, time_steps))
    np.testing.assert_array_equal(wave_to_latency(wave), latency)
    np.testing.assert_array_equal(wave_to_latency(np.float32(wave)), judge.first_steps(np.asarray(wave)))


@given(maps, st.sampled_from([(0, 0), (1, 1), (2, 1)]))
def test_padding_is_silent(case, padding):
    latency, time_steps = case
    padded = pad(latency, padding, time_steps=time_steps)
    np.testing.assert_array_equal(padded, judge.pad(latency, padding, time_steps))
    assert padded.dtype == latency.dtype


@given(maps, st.sampled_from(POOLS))
def test_pooling_is_the_maximum_of_the_wave(case, pooling):
    (latency, time_steps), (window, stride, padding) = case, pooling
    pooled = pool(latency, window, stride=stride, padding=padding, time_steps=time_steps)
    np.testing.assert_array_equal(pooled, judge.pool(latency, window, time_steps, stride, padding))
    assert pooled.dtype == latency.dtype


def test_one_integer_stands_for_rows_and_columns():
    pooled = pool(LATENCY[0], 3, stride=2, padding=1, time_steps=5)
    np.testing.assert_array_equal(pooled, pool(LATENCY[0], (3, 3), stride=(2, 2), padding=(1, 1), time_steps=5))
    np.testing.assert_array_equal(pad(LATENCY[0], 2, time_steps=5), pad(LATENCY[0], (2, 2), time_steps=5))


@pytest.mark.parametrize(
    ("time_steps", "dtype"),
    [(1, "uint8"), (255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "uint32")],
)
def test_the_dtype_holds_silence(time_steps, dtype):
    assert latency_dtype(time_steps) == dtype
    assert jnp.iinfo(latency_dtype(time_steps)).max >= time_steps


def test_more_steps_than_a_byte_counts():
    latency = np.array([[[0, 255, 256, 299, 300]]], np.uint16)
    assert wave_to_latency(latency_to_wave(latency, time_steps=300)).dtype == np.uint16
    np.testing.assert_array_equal(wave_to_latency(latency_to_wave(latency, time_steps=300)), latency)
    np.testing.assert_array_equal(pool(latency, (1, 2), time_steps=300, padding=(0, 1)), [[[0, 255, 299]]])


CONTRACTS = {
    "latency_to_wave": (lambda x: latency_to_wave(x, time_steps=5), [LATENCY]),
    "wave_to_latency": (wave_to_latency, [np.moveaxis(judge.wave(LATENCY, 5), 0, 1)]),
    "pad": (lambda x: pad(x, (1, 2), time_steps=5), [LATENCY]),
    "pool": (lambda x: pool(x, (2, 3), stride=(1, 2), padding=1, time_steps=5), [LATENCY]),
}


@pytest.mark.parametrize("kernel", CONTRACTS)
def test_contract(kernel, contract):
    contract(*CONTRACTS[kernel])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: pad(x[0], 1, time_steps=5), ValueError, r"`latency` .*\(C H W\), got shape \(4, 5\)"),
        (lambda x: pad(x / 2, 1, time_steps=5), TypeError, "`latency` must hold integer .*got dtype float"),
        (lambda x: pad(x.tolist(), 1, time_steps=5), TypeError, "`latency` must be an array.*got list"),
        (lambda x: pad(x, -1, time_steps=5), ValueError, "`padding` must be at least 0, got -1"),
        (lambda x: pad(x, 0.5, time_steps=5), TypeError, "`padding` must be an integer, got 0.5"),
        (lambda x: pad(x, (1, 2, 3), time_steps=5), ValueError, r"`padding` .* got \(1, 2, 3\)"),
        (lambda x: pad(x, 1, time_steps=0), ValueError, "`time_steps` must be at least 1, got 0"),
        (lambda x: pad(x, 1, time_steps=True), TypeError, "`time_steps` must be an integer, got True"),
        (lambda x: pool(x[None], 2, time_steps=5), ValueError, r"`latency` .*\(C H W\), got shape \(1, 2, 4, 5\)"),
        (lambda x: pool(x / 2, 2, time_steps=5), TypeError, "`latency` must hold integer .*got dtype float"),
        (lambda x: pool(x, 0, time_steps=5), ValueError, "`window` must be at least 1, got 0"),
        (lambda x: pool(x, (2, 6), time_steps=5), ValueError, "`window` must fit .*4x5, got 2x6"),
        (lambda x: pool(x, 2, stride=0, time_steps=5), ValueError, "`stride` must be at least 1, got 0"),
        (lambda x: pool(x, 2, padding=-1, time_steps=5), ValueError, "`padding` must be at least 0, got -1"),
        (lambda x: pool(x, 2, time_steps=0), ValueError, "`time_steps` must be at least 1, got 0"),
        (lambda x: latency_to_wave(x / 2, time_steps=5), TypeError, "`latency` must hold integer .*got dtype float"),
        (lambda x: latency_to_wave(x, time_steps=0), ValueError, "`time_steps` must be at least 1, got 0"),
        (lambda x: latency_to_wave(x, time_steps=2.5), TypeError, "`time_steps` must be an integer, got 2.5"),
        (lambda x: latency_to_wave(x.tolist(), time_steps=5), TypeError, "`latency` must be an array.*got list"),
        (lambda x: latency_to_wave(x, time_steps=300), ValueError, "300.*got dtype uint8"),
        (lambda x: pad(x, 1, time_steps=300), ValueError, "300.*got dtype uint8"),
        (lambda x: wave_to_latency(x[:0]), ValueError, "`time_steps` must be at least 1, got 0"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(LATENCY[0])

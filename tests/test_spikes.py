"""Latencies and waves, padding and pooling."""

import judge
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from snnjax.kernels import latency_dtype, latency_to_wave, pad, pool, wave_to_latency

CASES = [  # shape, T, window, stride, padding
    ((2, 4, 5), 5, 2, None, 0),
    ((2, 4, 5), 5, (2, 3), (1, 2), (0, 1)),
    ((1, 7, 3), 1, 3, 2, 1),
    ((1, 7, 3), 1, (3, 1), (3, 3), (2, 0)),
]


@given(st.sampled_from(CASES).flatmap(lambda case: st.tuples(st.just(case), judge.latencies(*case[:2]))))
def test_latencies_waves_and_pooling_are_those_of_the_judge(case):
    """One integer stands for rows and columns; pooling is the maximum of the wave."""
    (_, time_steps, window, stride, padding), latency = case
    wave = latency_to_wave(latency, time_steps=time_steps)
    np.testing.assert_array_equal(wave, judge.wave(latency, time_steps), strict=True)
    np.testing.assert_array_equal(wave_to_latency(wave), latency, strict=True)
    np.testing.assert_array_equal(wave_to_latency(np.float32(wave)), latency, strict=True)
    size, steps, margins = (tuple(np.broadcast_to(x, 2)) for x in (window, stride or window, padding))
    padded = pad(latency, padding, time_steps=time_steps)
    np.testing.assert_array_equal(padded, judge.pad(latency, margins, time_steps), strict=True)
    pooled = pool(latency, window, stride=stride, padding=padding, time_steps=time_steps)
    np.testing.assert_array_equal(pooled, judge.pool(latency, size, time_steps, steps, margins))
    assert pooled.dtype == latency.dtype


def test_the_dtype_holds_silence_and_more_steps_than_a_byte_counts():
    dtypes = {1: "uint8", 255: "uint8", 256: "uint16", 65535: "uint16", 65536: "uint32"}
    assert {time_steps: latency_dtype(time_steps).name for time_steps in dtypes} == dtypes
    latency = np.array([[[0, 255, 256, 299, 300]]], np.uint16)
    found = wave_to_latency(latency_to_wave(latency, time_steps=300))
    np.testing.assert_array_equal(found, latency, strict=True)
    np.testing.assert_array_equal(pool(latency, (1, 2), time_steps=300, padding=(0, 1)), [[[0, 255, 299]]])

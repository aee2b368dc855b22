"""The network for objects, on pictures of any size."""

import dataclasses

import numpy as np
import pytest

from snnjax import Images, Pool
from snnjax.core.errors import InputError
from snnjax.encoding import GABOR
from snnjax.networks import mozafari2018_objects


@pytest.mark.parametrize(
    ("size", "map_size", "kernel", "threshold"),
    [
        ((160, 250), (27, 42), 24, 230.4),
        ((128, 128), (32, 32), 29, 336.4),
        ((64, 48, 3), (32, 24), 22, 193.6),
        ((5, 9), (5, 9), 4, 6.4),
    ],
)
def test_pooling_kernel_and_threshold_grow_with_the_picture(size, map_size, kernel, threshold):
    network = mozafari2018_objects(Images(size, 3))
    (conv,) = network.stages[0].branches
    assert (network.input_shape, conv.features, conv.kernel) == ((4, *map_size), 30, kernel)
    assert conv.threshold == pytest.approx(threshold)
    network.check()
    published = mozafari2018_objects(Images((128, 128), 2), kernel=31 / 32, threshold=160 / 31**2)
    (conv,) = published.stages[0].branches
    assert (conv.kernel, conv.threshold) == (31, pytest.approx(160))
    assert published.encoder == dataclasses.replace(GABOR, pool=Pool(5, stride=4, padding=2))


@pytest.mark.parametrize(("name", "value"), [("kernel", 1.01), ("kernel", 0), ("threshold", np.inf)])
def test_shares_that_cannot_be_are_refused(name, value):
    with pytest.raises(InputError, match=f"`{name}` must .*above 0.*, got {value}"):
        mozafari2018_objects(Images((40, 40), 2), **{name: value})

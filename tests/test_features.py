"""Features drawn back into the image: where a weight of a deep layer ends up."""

import dataclasses

import numpy as np
import pytest
from shipped import shipped

from snnjax.app.features import drawn_back
from snnjax.encoding import Encoder, FilterBank
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Network, SpikingNetwork, stage

POINT = np.zeros((3, 3))
POINT[1, 1] = 1
ENCODER = Encoder(FilterBank.of([POINT]))
"""Sees the image as it is, one map."""


def single(shape: tuple[int, ...], *at: int) -> np.ndarray:
    """Weights of which one counts."""
    weights = np.zeros(shape)
    weights[at] = 1
    return weights


@pytest.mark.parametrize("stride", [1, 2])
def test_deep_weights_go_through_pooling_strides_and_branches(stride):
    """The pixel of a chain of single weights is where arithmetic says, for branches of either kernel size alike."""
    small = Conv(2, kernel=3, padding=1, stride=stride, threshold=1, learners=STDP())
    shifted = dict(padding=2 - stride, output_padding=1)  # the same place by less padding of the input
    large = Conv(3, kernel=5, stride=stride, threshold=1, learners=STDP(), **shifted)
    last = Conv(2, kernel=3, padding=1, learners=RSTDP())
    spec = Network("deep", (1, 36, 36), 2, (stage(small, large, pool=Pool(3)), stage(last)), encoder=ENCODER)
    weights = dict(layer1_1=single((2, 1, 3, 3), 1, 0, 1, 1), layer1_2=single((3, 1, 5, 5), 2, 0, 2, 2))
    for channel in (1, 4):  # the features of either branch that look at the pixel below them
        weights["layer2"] = single((2, 5, 3, 3), 0, channel, 2, 1)
        drawn = drawn_back(SpikingNetwork(spec, weights=weights))
        image, origin = drawn["layer2"].images[0], drawn["layer2"].origin
        bright = np.argwhere(image > 0.5 * image.max()) + origin
        np.testing.assert_allclose(bright.mean(axis=0), [stride * (1 * 3 + 1), stride * (0 * 3 + 1)])
        assert (np.ptp(bright, axis=0) == 2 * stride).all(), "all places of the pooling window"
        assert tuple(drawn["layer2"].pitch) == (3 * stride, 3 * stride)


@pytest.mark.parametrize("name", ["mozafari2018", "goupy2024_ncg", "mozafari2018_objects"])
def test_shipped_networks_are_drawn(name):
    """One of each kind of encoder: none, fitted, Gabor filters."""
    spec = shipped(name)
    spec, weights = dataclasses.replace(spec, encoder=spec.encoder or Encoder()), spec.initial_weights()
    drawn = drawn_back(SpikingNetwork(spec, weights=weights))
    assert drawn.keys() == weights.keys()
    for layer, each in drawn.items():
        assert len(each.images) == len(weights[layer])
        np.testing.assert_allclose((each.images**2).sum(axis=(1, 2)), 1, rtol=1e-6)

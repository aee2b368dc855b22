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


def drawn_of(spec: Network, weights: dict[str, np.ndarray]) -> dict:
    return drawn_back(SpikingNetwork(dataclasses.replace(spec, encoder=ENCODER), weights=weights))


def test_a_weight_of_the_first_layer_is_a_pixel():
    spec = Network("one", (1, 9, 9), 2, (stage(Conv(2, kernel=3, padding=1, learners=RSTDP())),))
    drawn = drawn_of(spec, dict(layer1=single((2, 1, 3, 3), 0, 0, 2, 0)))["layer1"]
    brightest = np.unravel_index(np.argmax(drawn.images[0]), drawn.images[0].shape)
    assert (brightest + drawn.origin).tolist() == [1, -1], "one row below the neuron, one column left"
    assert not drawn.images[1].any(), "weights that are all alike show nothing"
    assert tuple(drawn.pitch) == (1, 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_deep_weights_go_through_pooling_strides_and_branches(stride):
    """The pixel of a chain of single weights is where arithmetic says, for branches of either kernel size alike."""
    small = Conv(2, kernel=3, padding=1, stride=stride, threshold=1, learners=STDP())
    shifted = dict(padding=2 - stride, output_padding=1)  # the same place by less padding of the input
    large = Conv(3, kernel=5, stride=stride, threshold=1, learners=STDP(), **shifted)
    last = Conv(2, kernel=3, padding=1, learners=RSTDP())
    spec = Network("deep", (1, 36, 36), 2, (stage(small, large, pool=Pool(3)), stage(last)))
    weights = dict(layer1_1=single((2, 1, 3, 3), 1, 0, 1, 1), layer1_2=single((3, 1, 5, 5), 2, 0, 2, 2))
    for channel in (1, 4):  # the features of either branch that look at the pixel below them
        weights["layer2"] = single((2, 5, 3, 3), 0, channel, 2, 1)
        drawn = drawn_of(spec, weights)
        image, origin = drawn["layer2"].images[0], drawn["layer2"].origin
        bright = np.argwhere(image > 0.5 * image.max()) + origin
        np.testing.assert_allclose(bright.mean(axis=0), [stride * (1 * 3 + 1), stride * (0 * 3 + 1)])
        assert (np.ptp(bright, axis=0) == 2 * stride).all(), "all places of the pooling window"
        assert tuple(drawn["layer2"].pitch) == (3 * stride, 3 * stride)


@pytest.mark.parametrize("name", ["mozafari2018", "goupy2024_ncg", "kheradpisheh2018", "mozafari2018_objects"])
def test_shipped_networks_are_drawn(name):
    """One of each kind of encoder: none, fitted, differences of Gaussians, Gabor filters."""
    spec = shipped(name)
    spec, weights = dataclasses.replace(spec, encoder=spec.encoder or Encoder()), spec.initial_weights()
    drawn = drawn_back(SpikingNetwork(spec, weights=weights))
    assert drawn.keys() == weights.keys()
    for layer, each in drawn.items():
        assert len(each.images) == len(weights[layer])
        np.testing.assert_allclose((each.images**2).sum(axis=(1, 2)), 1, rtol=1e-6)


def test_weights_of_other_maps_are_refused():
    """An encoder of one map before a network of two."""
    spec = Network("one", (2, 9, 9), 2, (stage(Conv(2, kernel=3, learners=RSTDP())),))
    with pytest.raises(ValueError, match="`weights` must have 1 channels, got 2"):
        drawn_of(spec, dict(layer1=np.zeros((2, 2, 3, 3))))

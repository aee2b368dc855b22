"""Inhibition and winners."""

import dataclasses

import judge
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnjax.kernels import (
    PositionSpikes,
    Spikes,
    competition,
    feature_inhibition,
    k_winners,
    pointwise_inhibition,
    strongest_feature,
)

MAPS = [((4, 3, 5), 5), ((6, 5, 4), 15), ((5, 1, 1), 1)]  # shape, T
RNG = np.random.default_rng(0)
LATENCY = RNG.integers(0, 6, (3, 4, 5, 3), np.uint8)
SPIKES = Spikes(LATENCY, np.float32(RNG.integers(1, 9, LATENCY.shape) / 4 * (LATENCY < 5)))
PLACES = PositionSpikes(RNG.integers(0, 4, (3, 5, 3), np.int32), SPIKES.latency[:, 0], SPIKES.potential[:, 0])
INHIBITED = np.array([[True, False, False, True], [False] * 4, [True] * 4])


@dataclasses.dataclass(frozen=True)
class Case:
    latency: np.ndarray
    potential: np.ndarray
    time_steps: int

    @property
    def spikes(self):
        return Spikes(self.latency, self.potential)


@st.composite
def cases(draw):
    """Spikes of few different potentials, so that many are equal."""
    shape, time_steps = draw(st.sampled_from(MAPS))
    latency = draw(judge.latencies(shape, time_steps))
    potential = draw(judge.dyadic(shape, low=1))
    return Case(latency, np.where(latency < time_steps, potential, np.float32(0)), time_steps)


def neurons(winners):
    """The winners as the judge lists them; everything beyond them must be empty."""
    feature, row, column = map(np.asarray, (winners.feature, winners.row, winners.column))
    number = int(winners.valid.sum())
    assert winners.valid[:number].all()
    return [tuple(map(int, place)) for place in zip(feature[:number], row[:number], column[:number], strict=True)]


def assert_spikes(spikes, expected):
    np.testing.assert_array_equal(spikes.latency, expected[0])
    np.testing.assert_array_equal(spikes.potential, expected[1])


@given(cases())
def test_pointwise_inhibition(case):
    latency, potential = judge.pointwise_inhibition(case.latency, case.potential, case.time_steps)
    assert_spikes(pointwise_inhibition(case.spikes, time_steps=case.time_steps), (latency, potential))
    strongest = strongest_feature(case.spikes, time_steps=case.time_steps)
    assert_spikes(strongest, (latency.min(axis=0), potential.max(axis=0)))
    fired = latency.min(axis=0) < case.time_steps
    np.testing.assert_array_equal(np.asarray(strongest.feature)[fired], latency.argmin(axis=0)[fired])


@given(cases(), st.sampled_from([1, 3, 8]), st.integers(0, 3))
def test_winners(case, k, radius):
    settings = dict(k=k, radius=radius, time_steps=case.time_steps)
    winners = k_winners(case.spikes, **settings)
    expected = judge.k_winners(case.latency, case.potential, **settings)
    assert neurons(winners) == expected
    assert winners.feature.shape == (k,)
    won = [case.latency[neuron] for neuron in expected]
    np.testing.assert_array_equal(winners.latency, won + [case.time_steps] * (k - len(won)))


@given(cases(), st.sampled_from([1, 3, 8]), st.integers(0, 3))
def test_winners_among_what_pointwise_inhibition_leaves(case, k, radius):
    settings = dict(k=k, radius=radius, time_steps=case.time_steps)
    inhibited = judge.pointwise_inhibition(case.latency, case.potential, case.time_steps)
    places = strongest_feature(case.spikes, time_steps=case.time_steps)
    assert neurons(k_winners(places, **settings)) == judge.k_winners(*inhibited, **settings)


@given(cases())
def test_an_accelerator_finds_the_same_first_neuron(case):
    """In the one reduction that it has for it."""
    index = np.random.default_rng(0).permutation(case.latency.size).astype(np.int32).reshape(case.latency.shape)
    found = [first(case.latency, case.potential, index) for first in (competition._first, competition._first_at_once)]
    assert found[0] == found[1]


@given(cases(), st.sampled_from([1, 3, 8]), st.integers(0, 3))
def test_winners_keep_apart(case, k, radius):
    winners = neurons(k_winners(case.spikes, k=k, radius=radius, time_steps=case.time_steps))
    assert len(winners) <= k
    assert len({feature for feature, _, _ in winners}) == len(winners)
    pairs = [(one, other) for one in winners for other in winners if one < other]
    assert not radius or all(judge.distance(one, other) > radius for one, other in pairs)


@given(cases())
def test_feature_inhibition(case):
    inhibited = np.arange(len(case.latency)) % 2 == 0
    spikes = feature_inhibition(case.spikes, inhibited, time_steps=case.time_steps)
    np.testing.assert_array_equal(spikes.latency[1::2], case.latency[1::2])
    np.testing.assert_array_equal(spikes.potential[1::2], case.potential[1::2])
    assert np.all(spikes.latency[::2] == case.time_steps)
    assert not spikes.potential[::2].any()


def test_times_come_before_potentials_and_potentials_before_places():
    latency = np.array([[[2, 1, 1, 1]]], np.uint8)
    potential = np.float32([[[9, 3, 4, 4]]])
    assert neurons(k_winners(Spikes(latency, potential), k=1, radius=0, time_steps=3)) == [(0, 0, 2)]


def test_potentials_that_differ_in_their_last_bit():
    potential = np.float32([1000, 1000, np.nextafter(np.float32(1000), np.float32(2000)), 1000]).reshape(4, 1, 1)
    spikes = Spikes(np.zeros((4, 1, 1), np.uint8), potential)
    assert neurons(k_winners(spikes, k=4, radius=0, time_steps=15)) == [(f, 0, 0) for f in (2, 0, 1, 3)]
    assert strongest_feature(spikes, time_steps=15).feature.item() == 2


def test_nobody_wins_among_silent_neurons():
    silent = Spikes(np.full((2, 3, 3), 15, np.uint8), np.zeros((2, 3, 3), np.float32))
    assert not k_winners(silent, k=4, radius=1, time_steps=15).valid.any()


CONTRACTS = {
    "strongest_feature": (lambda s: strongest_feature(s, time_steps=5), [SPIKES]),
    "pointwise_inhibition": (lambda s: pointwise_inhibition(s, time_steps=5), [SPIKES]),
    "feature_inhibition": (lambda s, i: feature_inhibition(s, i, time_steps=5), [SPIKES, INHIBITED]),
    "k_winners": (lambda s: k_winners(s, k=3, radius=1, time_steps=5), [SPIKES]),
    "k_winners of places": (lambda p: k_winners(p, k=3, radius=1, time_steps=5), [PLACES]),
}


@pytest.mark.parametrize("kernel", CONTRACTS)
def test_contract(kernel, contract):
    contract(*CONTRACTS[kernel])


def test_another_radius_compiles_nothing(compilations):
    spikes = Spikes(SPIKES.latency[0], SPIKES.potential[0])
    k_winners(spikes, k=2, radius=1, time_steps=5)
    assert compilations(lambda: k_winners(spikes, k=2, radius=2, time_steps=5)) == 0


COMPETITIONS = [
    lambda spikes, time_steps=5: strongest_feature(spikes, time_steps=time_steps),
    lambda spikes, time_steps=5: pointwise_inhibition(spikes, time_steps=time_steps),
    lambda spikes, time_steps=5: feature_inhibition(spikes, np.zeros(4, bool), time_steps=time_steps),
    lambda spikes, time_steps=5: k_winners(spikes, k=1, radius=0, time_steps=time_steps),
]


@pytest.mark.parametrize("compete", COMPETITIONS, ids=["strongest", "pointwise", "features", "k_winners"])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f, x, p: f(Spikes(x[0], p)), ValueError, r"`spikes.latency` .*\(F H W\), got shape \(5, 3\)"),
        (lambda f, x, p: f(Spikes(x / 2, p)), TypeError, "`spikes.latency` must hold integer .*got dtype float"),
        (lambda f, x, p: f(Spikes(x, p[0])), ValueError, r"`spikes.potential` .*\(F H W\), got shape \(5, 3\)"),
        (lambda f, x, p: f(Spikes(x, x)), TypeError, "`spikes.potential` must hold floats, got dtype uint8"),
        (lambda f, x, p: f(Spikes(x, p), 0), ValueError, "`time_steps` must be at least 1, got 0"),
        (lambda f, x, p: f(Spikes(x, p), 1.5), TypeError, "`time_steps` must be an integer, got 1.5"),
    ],
)
def test_bad_input(compete, call, error, message):
    with pytest.raises(error, match=message):
        call(compete, SPIKES.latency[0], SPIKES.potential[0])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(k=0), ValueError, "`k` must be at least 1, got 0"),
        (dict(k=2.0), TypeError, "`k` must be an integer, got 2.0"),
        (dict(radius=-1), ValueError, "`radius` must be at least 0, got -1"),
        (dict(radius=1.5), TypeError, "`radius` must be an integer, got 1.5"),
    ],
)
def test_bad_settings(settings, error, message):
    spikes = Spikes(SPIKES.latency[0], SPIKES.potential[0])
    with pytest.raises(error, match=message):
        k_winners(spikes, **dict(k=1, radius=0, time_steps=5) | settings)


@pytest.mark.parametrize(
    ("latency", "potential", "error", "message"),
    [
        (PLACES.latency, PLACES.potential[0], ValueError, r"`spikes.latency` .*\(H W\), got shape \(3, 5, 3\)"),
        (PLACES.latency[0] / 2, PLACES.potential[0], TypeError, "`spikes.latency` must hold integer .*got dtype float"),
        (PLACES.latency[0], PLACES.potential[0, 0], ValueError, r"`spikes.potential` .*\(H W\), got shape \(3,\)"),
        (PLACES.latency[0], PLACES.latency[0], TypeError, "`spikes.potential` must hold floats, got dtype uint8"),
    ],
)
def test_bad_places(latency, potential, error, message):
    places = PositionSpikes(PLACES.feature[0], latency, potential)
    with pytest.raises(error, match=message):
        k_winners(places, k=1, radius=0, time_steps=5)


def test_bad_number_of_features():
    spikes = Spikes(SPIKES.latency[0], SPIKES.potential[0])
    with pytest.raises(ValueError, match="`inhibited` must have 4 entries, got 3"):
        feature_inhibition(spikes, np.zeros(3, bool), time_steps=5)

"""What kernels refuse before they compile anything: known values out of range, arrays in place of plain settings."""

import dataclasses
import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from snnjax import STDP, ImageSpec, Settings, SpikingNetwork, Trainer, component, cost, kernels, number, static
from snnjax.core import checks
from snnjax.core.components import learnable
from snnjax.core.errors import InputError, InputTypeError
from snnjax.encoding import GREY, encode, rank_order
from snnjax.kernels import Spikes, Winners, competition, first_spikes, neurons, plasticity, target_time

T = 5
LATENCY = np.arange(72, dtype=np.uint8).reshape(2, 6, 6) % (T + 1)
FLAT = LATENCY.ravel()
WEIGHTS = np.full((3, 2, 3, 3), 0.5, np.float32)
MATRIX = np.full((3, 72), 0.5, np.float32)
SPIKES = Spikes(LATENCY, np.ones(LATENCY.shape, np.float32))
WINNERS = Winners(np.int32([2, -1, 0]), np.int32([3, 99, 0]), np.int32([1, -7, 2]), np.uint8([2, 99, 3]))
ROWS = np.full((3, 2, 3, 3), 0.5, np.float32)
RATES = np.float32([0.5, -0.25])
VALUES = np.ones((2, 6, 6), np.float32)
STEPS = dict(time_steps=T)
LIMIT = dict(threshold=1.0, time_steps=T)
FIRING = dict(threshold=1.0, time_steps=T, stride=1)
LEARNING = dict(stabiliser=True, stride=1, time_steps=T)

CALLS = {
    "pad": (kernels.pad, [LATENCY], dict(padding=1, time_steps=T)),
    "timed_spikes": (kernels.timed_spikes, [LATENCY, WEIGHTS], FIRING | dict(fractional=True)),
    "latencies": (neurons.latencies, [LATENCY, WEIGHTS], FIRING),
    "early_winners": (competition.early_winners, [LATENCY, WEIGHTS], FIRING | dict(k=2, radius=1)),
    "search_spikes": (first_spikes.search_spikes, [FLAT, MATRIX], LIMIT | dict(fractional=True)),
    "k_winners": (kernels.k_winners, [SPIKES], dict(k=2, radius=1, time_steps=T)),
    "causal_inputs": (plasticity.causal_inputs, [LATENCY, WINNERS], dict(kernel=3, stride=1, time_steps=T)),
    "stdp": (kernels.stdp, [WEIGHTS, LATENCY, WINNERS, RATES], LEARNING),
    "first_to_fire": (target_time.first_to_fire, [FLAT, MATRIX, np.ones(3, np.float32)], STEPS),
    "final_potentials": (neurons.final_potentials, [LATENCY < T, WEIGHTS], dict(stride=1)),
    "encode": (encode, [9 * VALUES[0]], dict(time_steps=T, radius=2)),
    "rank_order": (rank_order, [VALUES], STEPS),
    "kernels.latencies": (kernels.latencies, [LATENCY, WEIGHTS], LIMIT | dict(stride=1, padding=1)),
    "kernels.winners": (kernels.winners, [LATENCY, WEIGHTS], LIMIT | dict(stride=1, padding=1, k=2, radius=1)),
}  # fmt: skip
NUMBERS = {"threshold", "gap", "rate", "threshold_rate", "target_time"}
"""Settings that may be arrays, as the radius of winners may: programs are not compiled for them."""
LATER = "which is known when the program is compiled, got a traced"
STATIC = "make it a static argument of `jax.jit`, or a `static` field of its component"


@pytest.mark.parametrize("name", CALLS)
def test_arrays_in_place_of_plain_settings_are_refused(name):
    """In one line, which says what to do, traced or not.

    What is right passes, even where places that nobody won hold arbitrary numbers.
    """
    function, arrays, settings = CALLS[name]
    for setting in settings.keys() - (NUMBERS | {"radius"} if "winners" in name else NUMBERS):

        def call(value, setting=setting):
            return function(*arrays, **settings | {setting: value})

        given = np.asarray(jax.tree.leaves(settings[setting])[0])
        kind = "True or False" if given.dtype == bool else "a plain integer"
        with pytest.raises(InputTypeError, match=rf"^`{setting}` must be {kind}, {LATER} \w+\[\]: {STATIC}"):
            jax.eval_shape(call, given)
        with pytest.raises(InputTypeError, match=rf"^`{setting}` must be {kind}, got an array .*{setting}.item"):
            call(given)
    assert jax.tree.leaves(jax.eval_shape(lambda: function(*arrays, **settings)))


def test_settings_that_are_not_hashable_are_refused():
    for value, got in (([1, 1], "[1, 1]: write (1, 1)"), ({}, "dict")):
        with pytest.raises(InputTypeError) as caught:
            kernels.pad(LATENCY, value, time_steps=T)
        assert str(caught.value) == f"`padding` must be hashable, since programs are compiled for it, got {got}"


TIMED = [name for name, call in CALLS.items() if "time_steps" in call[2] and name not in ("encode", "rank_order")]


@pytest.mark.parametrize("name", TIMED)
def test_latencies_beyond_the_time_steps_are_refused(name):
    """Where they are known: traced ones cost nothing."""
    function, arrays, settings = CALLS[name]
    late = jax.tree.map(lambda x: x + (x == T).astype(x.dtype), arrays)
    argument = r"`(latency|spikes\.latency|patch|patches)`"
    for given in (late, jax.tree.map(jnp.asarray, late)):
        with pytest.raises(InputError, match=rf"^{argument} must hold time steps 0\.\.4, or 5 if silent, got 6: give"):
            function(*given, **settings)
    if name == "pad":
        with pytest.raises(InputError, match=rf"^{argument} must hold time steps 0\.\.4, or 5 if silent, got -1"):
            function(LATENCY.astype(np.int32) - 1, **settings)


PADDED = Winners(np.int32([1]), np.int32([4]), np.int32([0]), np.uint8([2]))  # of a layer with a padding of 1


@pytest.mark.parametrize(
    ("call", "argument", "give"),
    [
        (lambda x: kernels.receptive_fields(x, PADDED, kernel=3), "winners", "padded `maps`"),
        (lambda x: kernels.stdp(WEIGHTS, x, PADDED, RATES, time_steps=T), "winners", "`padding` and the `stride`"),
    ],
)
def test_winners_beyond_the_map_are_refused(call, argument, give):
    """They would learn from the inputs of others, at the border, or compiled kernels look outside of the array."""
    places = "must lie on the 4x4 positions of the layer, got row and column 4, 0: give the "
    with pytest.raises(InputError, match=f"^`{argument}` {places}{give}"):
        call(LATENCY)
    if "padded" in give:
        jax.eval_shape(call, np.pad(LATENCY, ((0, 0), (1, 1), (1, 1)), constant_values=T))


SHORT = Winners(*(np.int32([0, 1]),) * 4)
BEYOND = Winners(np.int32([3]), *(np.int32([0]),) * 3)
IN_ORDER = WEIGHTS, np.zeros((2, 1), int), np.zeros((2, 2, 2, 3, 3), bool), RATES


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda: kernels.plasticity.set_rows(WEIGHTS, SHORT, ROWS), InputError, "rows"),
        (lambda: kernels.stdp(WEIGHTS[:1], LATENCY, SHORT, RATES, **STEPS), InputError, "winners.feature"),
        (lambda: kernels.stdp(WEIGHTS, LATENCY, BEYOND, RATES, **STEPS), InputError, "winners.feature"),
        (lambda: plasticity.learned_in_order(*IN_ORDER), InputError, "causal"),
        (lambda: encode(np.full((8, 8), np.nan)), InputError, "image"),
        (lambda: encode(np.eye(8)), InputError, "image"),
        (lambda: encode(np.eye(8, dtype=np.uint8)), InputError, "image"),
        (lambda: encode(np.ma.masked_array(np.eye(8))), InputTypeError, "image"),
    ],
)
def test_wrong_rows_winners_and_images_are_refused(call, error, argument):
    with pytest.raises(error, match=rf"^`{argument}` must "):
        call()


@pytest.mark.parametrize(("dtype", "write"), [("uint16", ", scaled to 0..255"), ("int32", ", "), ("bool", " [*] 255")])
def test_images_of_other_dtypes_are_refused_under_jit_too(dtype, write):
    images = np.eye(28, dtype=dtype)[None]
    network = SpikingNetwork(dataclasses.replace(tiny.plain(ImageSpec()), encoder=GREY))
    trainer = Trainer(network.network, tiny.images(), Settings((0, 1)))
    for call, given in (
        (encode, images[0]),
        (jax.jit(encode), images[0]),
        (jax.vmap(encode), images),
        (network, images[0]),
        (jax.jit(network), images[0]),
        (functools.partial(cost, network), images),
        (functools.partial(trainer.predict, trainer.initial_state()), images),
    ):
        expected = rf"uint8, or floats in 0..255, got dtype {dtype}: write images?.astype\(np.float32\){write}"
        with pytest.raises(InputTypeError, match=f"^`images?` must be {expected}"):
            call(given)


def test_black_pictures_and_recordings_may_hold_small_bytes():
    """Under jit values are unknown; outside only pictures of several ones and zeros are refused."""
    ones = np.eye(8, dtype=np.uint8)
    assert jax.jit(encode)(ones).shape == (6, 8, 8)
    checks.pixels("image", np.stack([ones, ones], axis=-1))
    for picture in (0 * ones, ones * ones[3], 2 * ones):
        encode(picture)
    with pytest.raises(InputError, match=r"^`image` must hold values in 0..255, got values in 0..1: multiply it"):
        encode(ones)


def test_values_of_arrays_on_accelerators_are_not_copied(monkeypatch):
    """Which would wait for the device at every call."""
    array = jnp.asarray(LATENCY)
    np.testing.assert_array_equal(checks.concrete_values(array), LATENCY)
    monkeypatch.setattr(type(array), "devices", lambda self: [types.SimpleNamespace(platform="gpu")])
    assert checks.concrete_values(array) is None
    np.testing.assert_array_equal(checks.concrete_values(LATENCY), LATENCY)


@component
class Limited(STDP):
    """A rule whose fields have limits of all kinds."""

    share: float = number(default=0.5, minimum=0, maximum=1)
    step: float = number(default=0.1, above=0, below=2)
    gain: float = number(default=1.0)
    decay: float | None = number(default=None, above=0, maximum=1)
    delay: int = number(default=2, minimum=1, maximum=5)
    window: int | tuple[int, int] = static(default=3, minimum=1)
    images: int | None = static(default=None, minimum=1)
    merge: str = static(default="max", one_of=("max", "mean"))
    counts: float | np.ndarray = learnable(default=0.0, minimum=0)


def test_fields_within_their_limits_are_taken():
    made = Limited(share=1, step=np.float32(1.5), decay=1.0, delay=5, window=[2, 1], counts=np.ones(3))
    assert (made.share, made.window, made.delay) == (1.0, (2, 1), 5)
    assert dataclasses.replace(made, decay=None, images=None).decay is None
    assert jax.tree.map(lambda x: x - 10, Limited(share=0.25)).share == -9.75  # JAX rebuilds it without checks


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(share=-0.5), "`share` must lie in 0..1, got -0.5"),
        (dict(share=np.nan), "`share` must lie in 0..1, got nan"),
        (dict(share="a"), "`share` must be a number, got 'a'"),
        (dict(share=np.ones(2)), "`share` must be a number, got an array"),
        (dict(step=0), "`step` must be finite and above 0 and below 2, got 0.0"),
        (dict(step=2.0), "`step` must be finite and above 0 and below 2, got 2.0"),
        (dict(gain=np.inf), "`gain` must be finite, got inf"),
        (dict(decay=0.0), "`decay` must be None, or lie above 0 and up to 1, got 0.0"),
        (dict(delay=6), "`delay` must be at most 5, got 6"),
        (dict(delay=2.0), "`delay` must be an integer, got 2.0: write 2"),
        (dict(window=0), "`window` must be at least 1, got 0"),
        (dict(window=(1, 2, 3)), "`window` must be one integer or two"),
        (dict(window=(1, 0)), "`window` must be at least 1, got 0"),
        (dict(images=0), "`images` must be at least 1, got 0"),
        (dict(images=True), "`images` must be an integer, got True"),
        (dict(merge="maxx"), "`merge` must be one of max, mean, got 'maxx': did you mean 'max'?"),
        (dict(counts=np.array([1.0, -2.0])), "`counts` must be finite and at least 0, got -2.0"),
    ],
)
def test_fields_beyond_their_limits_are_refused(given, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        Limited(**given)


@pytest.mark.parametrize(
    ("default", "message"),
    [
        (2, r"`share` must lie in 0\.\.1, got 2"),
        (None, "`share` must be a number, got None"),
        ("half", "`share` must be a number, got 'half'"),
    ],
)
def test_a_default_that_its_field_would_refuse_is_refused_with_the_class(default, message):
    class Doubtful:
        share: float = number(default=default, minimum=0, maximum=1)

    with pytest.raises(InputError, match=f"^default of a field of Doubtful: {message}"):
        component(Doubtful)

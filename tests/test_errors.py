"""Errors that users see: each names the argument, what came, and what to write instead."""

import dataclasses
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import own_classes as own
import pytest
import tiny

import snnjax
from snnjax import RSTDP, STDP, Conv, Network, Settings, Sweep, Trainer, component, stage
from snnjax.core import errors
from snnjax.core.errors import InputError
from snnjax.encoding import Pixels
from snnjax.networks import ImageSpec, SpikingNetwork
from snnjax.runs.trained import Trained

DIGITS = tiny.images()
NETWORK = tiny.plain(ImageSpec())
DECIDING = NETWORK.stages[1].branches[0]
SETTINGS = Settings((1, 1), adapt_every=20)


def changed(first: Conv = tiny.FIRST, deciding: Conv = DECIDING, **changes) -> Network:
    stages = stage(first, pool=7), stage(deciding)
    return dataclasses.replace(NETWORK, **dict(stages=stages) | changes)


WRONG_TYPES = [
    (lambda: stage(DECIDING, pool=True), "pool", "True"),
    (lambda: Conv("-2", 5), "features", "'-2': write -2"),
    (lambda: Conv(2, 5, threshold=[1.0, 2.0]), "threshold", "(1.0, 2.0): write np.array([...])"),
    (lambda: Conv(2, 5, learners=STDP), "learners", "the class STDP: write STDP(...)"),
    (lambda: changed(stages=(DECIDING,)), "stages", "Conv: write (stage(Conv("),
    (lambda: SpikingNetwork(NETWORK).predict([1]), "latency", "list"),
    (lambda: Trainer(NETWORK, DIGITS.train_images, SETTINGS), "data", "an array float32[40,28,28]: write snnjax."),
    (lambda: Trainer(SpikingNetwork(NETWORK), DIGITS, SETTINGS), "network", "SpikingNetwork: write network.network"),
]
WRONG_VALUES = [
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": 1}]), "patience", "5"),
    (lambda: Conv(2, 5, threshold=np.ones((2, 1))), "threshold", "shape (2, 1)"),
    (lambda: Settings((1,), patience=10**5000), "patience", "int"),
    (lambda: Conv(2, 5, threshold=np.array([1, -(2**31) - 1])), "threshold", "an array int64[2]"),
]


@pytest.mark.parametrize(("make", "argument", "got"), WRONG_TYPES + WRONG_VALUES)
def test_wrong_arguments_are_named(make, argument, got):
    """A wrong type is a TypeError too, and both are ValueErrors, which commands show as one line."""
    with pytest.raises(InputError) as caught:
        make()
    assert isinstance(caught.value, TypeError) == any(make is row[0] for row in WRONG_TYPES)
    assert f"`{argument}` must " in str(caught.value)
    assert f"got {got}" in str(caught.value)


def test_lists_and_numbers_of_numpy_are_as_good_as_pythons():
    learners = [STDP(doubling=np.int64(50)), RSTDP(bounds=[0, 1])]
    first = Conv(np.uint8(4), np.int32(5), padding=[2, 2], threshold=np.float64(15), learners=learners)
    stages = [stage(first, pool=np.int64(7)), stage(DECIDING)]
    found = Network("plain", [np.int64(6), 28, 28], np.int64(10), stages, epochs=[1, np.int64(2)])
    learners = STDP(doubling=50), RSTDP(bounds=(0.0, 1.0))
    expected = changed(Conv(4, 5, padding=(2, 2), threshold=15.0, learners=learners), epochs=(1, 2))
    assert found == expected
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert type(found.classes) is int
    assert Settings((2**31 - 1,), seed=np.uint64(2**64 - 1)).seed == 2**64 - 1
    settings = Settings([np.int64(1), 2], adapt_every=np.int32(7), seed=np.uint8(3))
    assert settings == Settings((1, 2), 7, seed=3)
    assert json.loads(json.dumps(dataclasses.asdict(settings)))["epochs"] == [1, 2]
    assert Settings(epochs=3).epochs == Settings(epochs=np.int64(3)).epochs == (3,)
    single = dataclasses.replace(expected, stages=expected.stages[1:], input_shape=(4, 4, 4), epochs=3)
    assert single.epochs == (3,)
    assert own.Sized(sizes=3).sizes == 3, "fields of custom components stay as they are"


def test_long_and_deep_values_are_shown_by_their_type():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert [*map(errors.shown, ("x" * 60, deep, "x" * 58))] == ["str", "list", repr("x" * 58)]


def own_part(base: type, *settings, **members):
    """A component like one of another class, but for some members; known until the next one is made."""
    return component(type("Part", (base,), members | dict(__module__=__name__)))(*settings)


def rule(change, **members) -> Callable[[], Network]:
    """Makes the network, its first layer learning by a rule that `change` is the update of."""

    def update(self, layer, state, latency, response, signal):
        layer, state = change(layer, state)
        return layer, state, response.winners.feature

    def init(self, layer, key, images_seen):
        return np.zeros(3, np.float32)

    members = dict(update=update, init=init) | members
    return lambda: changed(dataclasses.replace(tiny.FIRST, learners=own_part(own.Hebb, **members)))


def same(layer, state):
    return layer, state


def with_weights(change):
    return lambda layer, state: (layer.with_weights(change(layer.weights)), state)


def higher(layer, state):
    return layer.with_threshold(layer.conv.threshold * 1e6), state


def encoded(dtype: str) -> Callable[[], Network]:
    first = dataclasses.replace(tiny.FIRST, threshold=3.0)
    members = dict(__call__=lambda self, image: jnp.asarray(image, dtype)[None])
    return lambda: changed(first, input_shape=(1, 28, 28), encoder=own_part(Pixels, 15, **members))


def decided(**members) -> Callable[[], Network]:
    deciding = dataclasses.replace(DECIDING, threshold=1.0)
    return lambda: changed(deciding=deciding, decision=own_part(own.First, **members))


def of_number(number: float):
    return lambda self, spikes, classes: jnp.full(classes, number)


@pytest.mark.parametrize(
    ("make", "part", "got"),
    [
        (encoded("float32"), "encoder(image)", "got float32 of shape (1, 28, 28): write .astype(jnp.uint8)"),
        (lambda: changed(encoder=Pixels(15)), "encoder", "images 28 high, 28 wide are encoded as (1, 28, 28)"),
        (decided(scores=of_number(1)), "decision.scores(...)`", "got int32 of shape (10,): write .astype(jnp.float32)"),
        (rule(same, forward=lambda *_: None), "update` of Part of layer1 fails: 'NoneType'", "must return a Response"),
        (rule(same, update=lambda self, layer, state, *_: (layer, state, "")), "update` of Part", "JAX type: return "),
        (rule(with_weights(lambda x: x[:1])), "weights` must have shape (4, C, 5, 5)", "got (1, 6, 5, 5)"),
        (rule(lambda layer, state: (layer, (state, state))), "update(...)[1]` of Part of layer1", "got "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_own_parts_that_return_what_they_may_not_are_refused_before_training(make, part, got):
    with pytest.raises(InputError) as caught:
        Trainer(make(), DIGITS, SETTINGS)
    assert f"`{part}" in str(caught.value)
    assert got in str(caught.value)


INVALID = "^`update` of Part left layer1 invalid in epoch 1: "
OUTSIDE = r"`weights` must lie within its `bounds`, 0\.\.1, got "


@pytest.mark.parametrize(
    ("make", "backend", "message"),
    [
        (encoded("uint8"), "xla", r"^`encoder\(image\)` must be 0\.\.14, or 15 if silent, got 2\d\d"),
        (rule(with_weights(lambda x: x * np.inf)), "xla", rf"{INVALID}`weights` must be finite, got (inf|nan): use"),
        (rule(with_weights(lambda x: x + 1 / 16)), "xla", rf"{INVALID}{OUTSIDE}3\S*\.\.3\S*: cl"),
        (rule(with_weights(lambda x: x - 1)), "native", rf"{INVALID}{OUTSIDE}-39\.\S*\.\.-3\S*: cl"),
        (rule(higher), "xla", f"{INVALID}`threshold` must be finite, got inf"),
        (decided(decide=lambda *_: jnp.int32(10)), "xla", r"`decision\.decide\(scores\)` must be .*, got 10\.\.10"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_own_parts_that_leave_their_range_stop_the_training_before_it_is_saved(make, backend, message):
    trainer = Trainer(make(), DIGITS, dataclasses.replace(SETTINGS, backend=backend))
    saved: list[int] = []
    with pytest.raises(InputError, match=message):
        trainer.run(trainer.initial_state(), lambda state: saved.append(state.phase))
    assert saved == ([0, 1] if "decide" in message else [])


def test_scores_that_metrics_cannot_compare_are_refused():
    for number, got in ((-1000.0, r"-1000.*: use jnp.maximum\("), (np.nan, "nan: do not divide by")):
        trainer = Trainer(decided(scores=of_number(number))(), DIGITS, SETTINGS)
        with pytest.raises(InputError, match=rf"^`decision.scores\S+` must be finite and at least 0, got {got}"):
            trainer.predict(trainer.initial_state(), DIGITS.test_images)


def test_a_layer_may_begin_beyond_the_bounds_of_its_rule_which_may_report_numbers_of_numpy():
    def diagnose(self, layer, info):
        return dict(wins=np.bincount(info.ravel() + 1), last=np.float32(0.5))

    first = dataclasses.replace(rule(same, diagnose=diagnose)().stages[0].branches[0], weight_mean=1.0)
    state = tiny.trained(changed(first), DIGITS, dataclasses.replace(SETTINGS, epochs=(1, 0)))
    assert state.weights["layer1"].max() == 1, "weights are clipped when a phase begins"
    diagnosis = json.loads(json.dumps(state.diagnoses["Part layer1"]))
    assert (sum(diagnosis["wins"]["layer1"]), diagnosis["last"]) == (80, dict(layer1=0.5))


def test_the_folder_of_a_sweep_names_its_files(tmp_path):
    path = tmp_path / "sweep"
    path.mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no weights\.npz: .*--resume"):
        snnjax.load(path)
    (path / "sweep.json").touch()
    with pytest.raises(FileNotFoundError, match=r"is the folder of a sweep, .*weights_000\.npz$"):
        Trained.read(path)


def test_the_unique_end_of_a_path_names_a_number():
    """Where several numbers have this end, these are listed."""
    for path, whole in (("ltp", "layer1.learners.ltp"), ("punish.1", "layer2.learners.punish.1")):
        assert NETWORK.vary(path, 0.125) == NETWORK.vary(whole, 0.125)
        assert NETWORK.vary(path, 0.125).hyperparameters()[whole] == 0.125
    with pytest.raises(InputError, match=r"^`competition\.radius` must name one of layer1\.\S+, layer2\.\S+radius$"):
        NETWORK.vary("competition.radius", 1)
    with pytest.raises(InputError, match=r"^did you mean `layer1\.learners\.ltp`\? `layer1\.lpt` must name"):
        NETWORK.vary("layer1.lpt", 1)

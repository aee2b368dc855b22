"""Errors that users see: each names the argument, what came, and what to write instead."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import own_classes as own
import pytest
import tiny

import snnjax
from snnjax import NETWORKS, RSTDP, STDP, WTA, Conv, Network, Settings, Sweep, Trainer, component, stage
from snnjax.core import errors
from snnjax.core.errors import InputError
from snnjax.encoding import COLOUR, EVENTS, GREY
from snnjax.kernels import Winners
from snnjax.learners import Learner, Response
from snnjax.networks import Images, SpikingNetwork
from snnjax.runs.trained import Trained

DIGITS = tiny.images()
NETWORK = tiny.plain(Images())
DECIDING = NETWORK.stages[1].branches[0]
SETTINGS = Settings((1, 1), batch_size=20)


def changed(first: Conv = tiny.FIRST, deciding: Conv = DECIDING, **changes) -> Network:
    stages = stage(first, pool=7), stage(deciding)
    return dataclasses.replace(NETWORK, **dict(stages=stages) | changes)


WRONG_TYPES = [
    (lambda: stage(), "branches", "(): write stage(Conv("),
    (lambda: stage(DECIDING, pool=True), "pool", "True"),
    (lambda: Settings(epochs=3), "epochs", "3: write epochs=(3,)"),
    (lambda: Conv("-2", 5), "features", "'-2': write -2"),
    (lambda: Conv(2, 5, threshold=[1.0, 2.0]), "threshold", "(1.0, 2.0): write np.array([...])"),
    (lambda: Conv(2, 5, learners=STDP), "learners", "the class STDP: write STDP(...)"),
    (lambda: changed(stages=(DECIDING,)), "stages", "Conv: write (stage(Conv("),
    (lambda: SpikingNetwork(NETWORKS["deep2024"]), "spec", "function: write deep2024(...)"),
    (lambda: SpikingNetwork(NETWORK).predict([1]), "latency", "list"),
    (lambda: STDP(ltp=True), "ltp", "True"),
    (lambda: Trainer(NETWORK, DIGITS.train_images, SETTINGS), "data", "an array float32[40,28,28]: write snnjax."),
    (lambda: Trainer(SpikingNetwork(NETWORK), DIGITS, SETTINGS), "network", "SpikingNetwork: write network.spec"),
    (lambda: Trainer(NETWORK, DIGITS, SETTINGS, print), "callback", "builtin"),
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, dict(seed=1)), "variants", "dict"),
]
WRONG_VALUES = [
    (lambda: SpikingNetwork(NETWORK)(DIGITS.test_images[0]), "encoder", "None: give the Network one"),
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": 1}]), "patience", "5"),
    (lambda: changed(epochs=3), "epochs", "3"),
    (lambda: Conv(2, 5, threshold=np.ones((2, 1))), "threshold", "shape (2, 1)"),
    (lambda: Settings((1,), seed=2**64), "seed", "18446744073709551616"),
    (lambda: Settings((1,), patience=10**5000), "patience", "int"),
    (lambda: WTA(2**31), "winners", "2147483648"),
    (lambda: Conv(2, 5, threshold=10**400), "threshold", "int"),
    (lambda: Conv(2, 5, threshold=np.array([1, -(2**31) - 1])), "threshold", "an array int64[2]"),
    (lambda: NETWORK.initial_weights(-1), "seed", "-1"),
]


@pytest.mark.parametrize(("make", "argument", "got"), WRONG_TYPES + WRONG_VALUES)
def test_wrong_arguments_are_named(make, argument, got):
    """A wrong type is a TypeError too, and both are ValueErrors, which commands show as one line."""
    with pytest.raises(InputError) as caught:
        make()
    assert isinstance(caught.value, TypeError) == any(make is row[0] for row in WRONG_TYPES)
    assert f"`{argument}` must " in str(caught.value)
    assert f"got {got}" in str(caught.value)


def test_numbers_that_their_type_just_holds_are_taken():
    assert RSTDP(bounds=(0.0, np.inf)).bounds == (0.0, np.inf)
    assert WTA(1, radius=2**31 - 1).radius == 2**31 - 1
    assert Settings((2**31 - 1,), seed=np.uint64(2**64 - 1)).seed == 2**64 - 1
    assert Conv(2, 5, threshold=np.array([1, -(2**31)])).threshold[1] == -(2**31)
    assert len(DIGITS.share(0.5, 2**64 - 1).train_images) == 20


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
    settings = Settings([np.int64(1), 2], batch_size=np.int32(7), seed=np.uint8(3))
    assert settings == Settings((1, 2), 7, seed=3)
    assert json.loads(json.dumps(dataclasses.asdict(settings)))["epochs"] == [1, 2]
    assert NETWORK.vary("layer1.threshold", np.int64(9)).hyperparameters()["layer1.threshold"] == 9.0


def test_the_nearest_name_is_asked_for():
    message = str(errors.unknown("dataset", "MNITS", ("digits", "mnist"), ", or an .npz file"))
    assert message == "`dataset` must be one of digits, mnist, or an .npz file, got 'MNITS': did you mean 'mnist'?"
    assert str(errors.unknown("dataset", "letters", ("digits", "mnist"))).endswith("got 'letters'")


def test_values_in_messages():
    """Arrays by dtype and shape, traced or not; long or deep values by their type."""
    seen = []
    jax.eval_shape(jax.vmap(lambda x: seen.append(errors.shown(x)) or x), jax.ShapeDtypeStruct((2, 3), np.float32))
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    values = jnp.zeros((3, 4), jnp.int32), np.float32(1), "x" * 60, deep
    assert seen == ["a traced float32[3]"]
    assert [*map(errors.shown, values)] == ["an array int32[3,4]", "float32", "str", "list"]
    assert errors.shown("x" * 58) == repr("x" * 58)


@component
class Code:
    """An encoder that returns other values than its time steps, or floats."""

    dtype: str = snnjax.static(default="uint8")
    time_steps: int = snnjax.static(default=15)

    def __call__(self, image):
        return jnp.asarray(image, self.dtype)[None]

    def output_shape(self, image_shape):
        return (1, *image_shape)


@component
class Choice(own.First):
    """A decision of any kind."""

    kind: str = snnjax.static(default="")
    amount: float = 0.0
    decision: int = 0
    timed = True

    def scores(self, spikes, classes):
        scores = spikes.potential.reshape(classes, -1).max(axis=1) + self.amount
        return scores.astype(int) if self.kind == "integers" else scores

    def decide(self, scores):
        return scores.sum() if self.kind == "float" else jnp.asarray(self.decision, jnp.int32)


@component
class Short:
    """A competition that returns columns of another number than its features."""

    def __call__(self, spikes, *, time_steps):
        return Winners(*(jnp.zeros(size, jnp.int32) for size in (2, 3, 2, 2)))


UPDATED = {
    "weights": lambda layer, state, info: (layer.with_weights(layer.weights[:1]), state, info),
    "replaced": lambda layer, state, info: (dataclasses.replace(layer, weights=layer.weights), state, info),
    "state": lambda layer, state, info: (layer, (state, state), info),
}


@component
class Rule(Learner):
    """A learner of any kind; by its numbers it leaves the range of one or the other."""

    kind: str = snnjax.static(default="")
    factor: float = 1.0
    step: float = 0.0
    rise: float = 1.0
    amount: float = 1.0
    fall: float = 0.0
    bounds = (0.0, 1.0)

    def check(self):
        if self.amount < -20:
            raise InputError(f"`amount` must be at least -20, got {self.amount}")

    def init(self, layer, key, seen):
        return np.zeros(3, np.float32)

    def forward(self, layer, state, latency, label):
        return None if self.kind == "none" else Response(layer.winners(latency))

    def update(self, layer, state, latency, response, signal):
        info = response.winners.feature
        if self.kind in UPDATED:
            return UPDATED[self.kind](layer, state, info)
        learner = dataclasses.replace(self, amount=self.amount - self.fall)
        conv = dataclasses.replace(layer.conv, threshold=layer.conv.threshold * self.rise, learners=learner)
        layer = layer.with_weights(layer.weights * self.factor + self.step)
        return dataclasses.replace(layer, conv=conv), state, info

    def end_epoch(self, state):
        return state[:1] if self.kind == "end" else state

    def diagnose(self, layer, info):
        wins = np.bincount(info.ravel() + 1)
        figures = super().diagnose(layer, info) | dict(wins=wins, last=np.float32(0.5))
        return dict(kind=Rule) if self.kind == "object" else figures


def rule(kind: str = "", **numbers: float) -> Network:
    return changed(dataclasses.replace(tiny.FIRST, learners=Rule(kind, **numbers)))


def encoded(**settings: str) -> Network:
    return changed(dataclasses.replace(tiny.FIRST, threshold=3.0), input_shape=(1, 28, 28), encoder=Code(**settings))


def competing(competition: Short) -> Network:
    return changed(dataclasses.replace(tiny.FIRST, competition=competition))


def decided(kind: str = "", **numbers: float) -> Network:
    return changed(deciding=dataclasses.replace(DECIDING, threshold=1.0), decision=Choice(kind, **numbers))


@pytest.mark.parametrize(
    ("network", "part", "got"),
    [
        (encoded(dtype="float32"), "encoder(image)", "got float32 of shape (1, 28, 28): write .astype(jnp.uint8)"),
        (changed(encoder=Code()), "encoder", "takes (6, 28, 28), images of (28, 28) become (1, 28, 28)"),
        (decided("integers"), "decision.scores(...)`", "got int32 of shape (10,): write .astype(jnp.float32)"),
        (decided("float"), "decision.decide(scores)`", "got float32 of shape (): write .astype(jnp.int32)"),
        (competing(Short()), "competition(...) of layer1.row`", "of shape (2,), got int32 of shape (3,)"),
        (rule("none"), "update` of Rule of layer1 fails: 'NoneType'", "`forward` must return a Response: write "),
        (rule("weights"), "weights` must have shape (4, C, 5, 5)", "got (1, 6, 5, 5)"),
        (rule("replaced"), "update` of Rule of layer1 fails", "write `layer.with_weights(...)` or "),
        (rule("state"), "update(...)[1] of Rule of layer1, the state,`", "got "),
        (rule("end"), "end_epoch(state) of Rule of layer1`", "got float32 of shape (1,)"),
        (rule("object"), "diagnose` of Rule of layer1", "got the class Rule"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_own_parts_that_return_what_they_may_not_are_refused_before_training(network, part, got):
    with pytest.raises(InputError) as caught:
        Trainer(network, DIGITS, SETTINGS)
    assert f"`{part}" in str(caught.value)
    assert got in str(caught.value)


INVALID = "`update` of Rule left layer1 invalid in epoch 1: "


@pytest.mark.parametrize(
    ("network", "native", "message"),
    [
        (encoded(), False, r"^`encoder\(image\)` must be 0\.\.14, or 15 where silent, got 2\d\d"),
        (rule(factor=np.inf), False, rf"^{INVALID}`weights` must be finite, got (inf|nan): take smaller rates"),
        (rule(step=1 / 16), False, rf"^{INVALID}`weights` must lie within its `bounds`, 0\.\.1, got 3\S*\.\.3\S*: cl"),
        (rule(step=-1), True, rf"^{INVALID}`weights` must lie within its `bounds`, 0\.\.1, got -39\.\S*\.\.-3\S*: cl"),
        (rule(rise=1e6), False, f"^{INVALID}`threshold` must be finite, got inf"),
        (rule(fall=1), False, f"^{INVALID}`amount` must be at least -20, got -39"),
        (decided(decision=10), False, r"`decision\.decide\(scores\)` must be 0\.\.9, or -1, got 10\.\.10"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_own_parts_that_leave_their_range_stop_the_training_before_it_is_saved(network, native, message):
    trainer = Trainer(network, DIGITS, dataclasses.replace(SETTINGS, native=native))
    saved: list[int] = []
    with pytest.raises(InputError, match=message):
        trainer.run(trainer.initial_state(), lambda state: saved.append(state.phase))
    assert saved == ([0, 1] if "decide" in message else [])


def test_scores_that_metrics_cannot_compare_are_refused():
    for amount, got in ((-1000.0, r"-\d+.*: take jnp.maximum\("), (np.nan, "nan: divide by no sum")):
        trainer = Trainer(decided(amount=amount), DIGITS, SETTINGS)
        with pytest.raises(InputError, match=rf"^`decision.scores\S+` must be finite and at least 0, got {got}"):
            trainer.predict(trainer.initial_state(), DIGITS.test_images)


def test_a_sound_rule_may_begin_beyond_its_bounds_and_say_numbers_of_numpy_of_itself():
    network = rule()
    first = dataclasses.replace(network.stages[0].branches[0], weight_mean=1.0)
    trainer = Trainer(changed(first), DIGITS, dataclasses.replace(SETTINGS, epochs=(1, 0)))
    state = trainer.run(trainer.initial_state())
    assert state.weights["layer1"].max() > 1.1
    diagnosis = state.diagnoses["Rule layer1"]
    assert (sum(diagnosis["wins"]["layer1"]), diagnosis["last"]) == (80, dict(layer1=0.5))
    assert json.loads(json.dumps(diagnosis)) == diagnosis


def test_the_folder_of_a_sweep_names_its_best_network(tmp_path):
    path = tmp_path / "sweep"
    with pytest.raises(FileNotFoundError, match=r"there is no run .*sweep$"):
        snnjax.load(path)
    path.mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no weights\.npz: .*--resume"):
        snnjax.load(path)
    epochs = [[dict(test=dict(accuracy=accuracy))] for accuracy in (0.5, 0.9, 0.7)]
    networks = [dict(weights=f"weights_{at:03d}.npz", epochs=each, best_epoch=0) for at, each in enumerate(epochs)]
    for text, named in {
        json.dumps(dict(networks=networks)): r"weights_001\.npz, the best",
        json.dumps(dict(networks=[])): r"weights_000\.npz",
        "[" * 100_000: r"weights_000\.npz",
    }.items():
        (path / "sweep.json").write_text(text)
        with pytest.raises(FileNotFoundError, match=f"is the folder of a sweep, .* take one of its files, .*{named}$"):
            Trained.read(path)


@pytest.mark.parametrize(
    ("encoder", "right", "given"),
    [(GREY, (28, 28), (5, 28, 28)), (COLOUR, (26, 26, 3), (5, 26, 26, 3)), (EVENTS, (28, 28, 2), (28, 28))],
    ids=["several grey", "several colour", "no events"],
)
def test_images_of_another_shape_are_refused(encoder, right, given):
    """By the shape of an image, not of what becomes of it."""
    shape = encoder.output_shape(right)
    network = SpikingNetwork(changed(encoder=encoder, time_steps=encoder.time_steps, input_shape=shape))
    with pytest.raises(InputError) as caught:
        network(np.zeros(given, np.uint8))
    assert str(caught.value).startswith(f"`image` must have shape {right}, got {given}: ")
    assert jax.eval_shape(jax.vmap(network), np.zeros((2, *right), np.uint8)).shape == (2,)


def test_the_unique_end_of_a_path_names_a_number():
    """Where several numbers have this end, these are listed."""
    for path, whole in {
        "ltp": "layer1.learners.ltp",
        "punish.1": "layer2.learners.punish.1",
    }.items():
        value = 2 * NETWORK.hyperparameters()[whole]
        assert NETWORK.vary(path, value) == NETWORK.vary(whole, value), path
        assert NETWORK.vary(path, value).hyperparameters()[whole] == value
    with pytest.raises(InputError, match=r"^`competition\.radius` must name one of layer1\.\S+, layer2\.\S+radius$"):
        NETWORK.vary("competition.radius", 1)
    with pytest.raises(InputError, match=r"^did you mean `layer1\.learners\.ltp`\? `layer1\.lpt` must name"):
        NETWORK.vary("layer1.lpt", 1)

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
from snnjax.core.errors import InputError, InputTypeError
from snnjax.encoding import COLOUR, EVENTS, GREY
from snnjax.kernels import Winners
from snnjax.learners import Learner, Response
from snnjax.networks import Images, SpikingNetwork
from snnjax.runs.trained import Trained
from snnjax.training.state import Callback

DIGITS = tiny.images()
NETWORK = tiny.plain(Images())
DECIDING = NETWORK.stages[1].branches[0]
SETTINGS = Settings((1, 1), batch_size=20)


def changed(first: Conv = tiny.FIRST, deciding: Conv = DECIDING, **changes) -> Network:
    stages = stage(first, pool=7), stage(deciding)
    return dataclasses.replace(NETWORK, **dict(stages=stages) | changes)


WRONG_TYPES = [
    (lambda: stage(), "branches", "(): write stage(Conv("),
    (lambda: stage((DECIDING, DECIDING)), "branches", "tuple: write stage(Conv("),
    (lambda: stage(DECIDING, pool=True), "pool", "True"),
    (lambda: Settings(epochs=3), "epochs", "3: write epochs=(3,)"),
    (lambda: Settings((1,), seed=True), "seed", "True"),
    (lambda: Settings((1,), native=1), "native", "1"),
    (lambda: Conv("-2", 5), "features", "'-2': write -2"),
    (lambda: Conv(2, 5, threshold=[1.0, 2.0]), "threshold", "(1.0, 2.0): write np.array([...])"),
    (lambda: Conv(2, 5, weight_mean="0.8"), "weight_mean", "'0.8'"),
    (lambda: Conv(2, 5, learners=STDP), "learners", "the class STDP: write STDP(...)"),
    (lambda: changed(stages=stage(DECIDING)), "stages", "Stage: write (stage("),
    (lambda: changed(stages=(DECIDING,)), "stages", "Conv: write (stage(Conv("),
    (lambda: changed(name=2), "name", "2"),
    (lambda: changed(reward_by_turns="yes"), "reward_by_turns", "'yes'"),
    (lambda: changed(epochs=(1, "2")), "epochs", "'2': write 2"),
    (lambda: SpikingNetwork(NETWORKS["deep2024"]), "spec", "function: write deep2024(...)"),
    (lambda: SpikingNetwork(NETWORK).predict([1]), "latency", "list"),
    (lambda: STDP(ltp=True), "ltp", "True"),
    (lambda: STDP(doubling=500.0), "doubling", "500.0: write 500"),
    (lambda: STDP(bounds=0.5), "bounds", "0.5"),
    (lambda: RSTDP(reward=(0.1,)), "reward", "(0.1,)"),
    (lambda: Trainer(NETWORK, DIGITS.train_images, SETTINGS), "data", "an array float32[40,28,28]: write snnjax."),
    (lambda: Trainer(SpikingNetwork(NETWORK), DIGITS, SETTINGS), "network", "SpikingNetwork: write network.spec"),
    (lambda: Trainer(NETWORK, DIGITS, (1, 1)), "settings", "(1, 1): write Settings("),
    (lambda: Trainer(NETWORK, DIGITS, SETTINGS, print), "callback", "builtin"),
    (lambda: Trainer(NETWORK, DIGITS, SETTINGS, Callback), "callback", "the class Callback"),
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, dict(seed=1)), "variants", "dict"),
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"layer1.radius": "3"}]), "layer1.radius", "'3'"),
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": "3"}]), "seed", "'3'"),
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": 1}], at_once="4"), "at_once", "'4': write 4"),
]
WRONG_VALUES = [
    (lambda: SpikingNetwork(NETWORK)(DIGITS.test_images[0]), "encoder", "None: give the Network one"),
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": 1}]), "patience", "5"),
    (lambda: changed(input_shape=(6, 28)), "input_shape", "(6, 28)"),
    (lambda: changed(epochs=3), "epochs", "3"),
    (lambda: Conv(2, 5, threshold=np.ones(3)), "threshold", "shape (3,)"),
    (lambda: Conv(2, 5, threshold=np.ones((2, 1))), "threshold", "shape (2, 1)"),
    (lambda: Settings((1,), seed=2**64), "seed", "18446744073709551616"),
    (lambda: Settings((1,), batch_size=2**31), "batch_size", "2147483648"),
    (lambda: Settings((1,), patience=10**5000), "patience", "int"),
    (lambda: Settings((2**31,)), "epochs", "2147483648"),
    (lambda: WTA(2**31), "winners", "2147483648"),
    (lambda: WTA(1, radius=2**31), "radius", "2147483648"),
    (lambda: STDP(ltp=1e39), "ltp", "1e+39"),
    (lambda: Conv(2, 5, threshold=10**400), "threshold", "int"),
    (lambda: Conv(2, 5, threshold=np.array([1.0, 1e39])), "threshold", "an array float64[2]"),
    (lambda: Conv(2, 5, threshold=np.array([1, -(2**31) - 1])), "threshold", "an array int64[2]"),
    (lambda: Conv(2, 5, padding=2**31), "padding", "2147483648"),
    (lambda: NETWORK.initial_weights(-1), "seed", "-1"),
    (lambda: DIGITS.share(0.5, -1), "seed", "-1"),
    (lambda: DIGITS.hold_out(0.5, 2**64), "seed", "18446744073709551616"),
    (lambda: DIGITS.augment(0.5, -1), "seed", "-1"),
    (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"layer1.radius": 1e10}]), "radius", "10000000000"),
]


@pytest.mark.parametrize(
    ("error", "make", "argument", "got"),
    [
        *((InputTypeError, *row) for row in WRONG_TYPES),
        *((InputError, *row) for row in WRONG_VALUES),
    ],
)
def test_wrong_arguments_are_named(error, make, argument, got):
    """A wrong type is a TypeError too, and both are ValueErrors, which commands show as one line."""
    with pytest.raises(error) as caught:
        make()
    assert issubclass(InputTypeError, InputError)
    assert issubclass(InputTypeError, TypeError)
    assert (type(caught.value) is InputTypeError) == (error is InputTypeError)
    assert f"`{argument}` must " in str(caught.value)
    assert f"got {got}" in str(caught.value)


def test_numbers_that_their_type_just_holds_are_taken():
    assert RSTDP(bounds=(0.0, np.inf)).bounds == (0.0, np.inf)
    assert WTA(1, radius=2**31 - 1).radius == 2**31 - 1
    assert Settings((2**31 - 1,), seed=np.uint64(2**64 - 1)).seed == 2**64 - 1
    assert Conv(2, 5, threshold=np.array([1, -(2**31)])).threshold[1] == -(2**31)
    assert len(DIGITS.share(0.5, 2**64 - 1).train_images) == 20
    assert len(DIGITS.augment(0.5, 2**64 - 1).train_images) == 60


def test_lists_and_numbers_of_numpy_are_as_good_as_pythons():
    first = Conv(
        np.uint8(4),
        np.int32(5),
        padding=[2, 2],
        threshold=np.float64(15),
        competition=WTA(np.int64(2), radius=np.int64(3)),
        learners=[STDP(doubling=np.int64(50)), RSTDP(bounds=[0, 1])],
    )
    stages = [stage(first, pool=np.int64(7)), stage(DECIDING)]
    found = Network("plain", [np.int64(6), 28, 28], np.int64(10), stages, epochs=[1, np.int64(2)])
    learners = STDP(doubling=50), RSTDP(bounds=(0.0, 1.0))
    expected = changed(dataclasses.replace(tiny.FIRST, padding=(2, 2), learners=learners), epochs=(1, 2))
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
    values = np.zeros((3, 4)), jnp.zeros(3, jnp.int32), np.zeros((), bool), np.float32(1), np.ndarray, "x" * 60, deep
    assert [*seen, *map(errors.shown, values)] == [
        "a traced float32[3]",
        "an array float64[3,4]",
        "an array int32[3]",
        "an array bool[]",
        "float32",
        "the class ndarray",
        "str",
        "list",
    ]
    assert errors.shown("x" * 58) == repr("x" * 58)


ENCODED = {
    "float": lambda image: jnp.zeros((1, 28, 28)),
    "shape": lambda image: jnp.zeros((28, 28), jnp.uint8),
}


@component
class Code:
    """An encoder of any kind."""

    kind: str = snnjax.static(default="")
    time_steps: int = snnjax.static(default=15)

    def __call__(self, image):
        return ENCODED.get(self.kind, lambda image: jnp.asarray(image, jnp.uint8)[None])(image)

    def output_shape(self, image_shape):
        return 1 if self.kind == "number" else (1, *image_shape)


@component
class Choice(own.First):
    """A decision of any kind."""

    kind: str = snnjax.static(default="")
    amount: float = 0.0
    decision: int = 0
    timed = True

    def scores(self, spikes, classes):
        if self.kind in ("one", "integers"):
            return jnp.zeros(1 if self.kind == "one" else classes, int if self.kind == "integers" else float)
        return spikes.potential.reshape(classes, -1).max(axis=1) + self.amount

    def decide(self, scores):
        decision = jnp.asarray(self.decision, jnp.int32)
        return dict(all=scores[0], float=scores.sum()).get(self.kind, decision)


@component
class Nobody:
    """A competition that returns no `Winners`, or too few of their parts."""

    kind: str = snnjax.static(default="")

    def __call__(self, spikes, *, time_steps):
        sizes = 2, 3, 2, 2
        return spikes.latency if self.kind == "latency" else Winners(*(jnp.zeros(size, jnp.int32) for size in sizes))


UPDATED = {
    "two": lambda layer, state, info: (layer, state),
    "weights": lambda layer, state, info: (layer.with_weights(layer.weights[:1]), state, info),
    "replaced": lambda layer, state, info: (dataclasses.replace(layer, weights=layer.weights), state, info),
    "state": lambda layer, state, info: (layer, (state, state), info),
    "dtype": lambda layer, state, info: (layer, state.astype(jnp.int32), info),
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
        winners = layer.winners(latency)
        return dict(winners=winners, none=None).get(self.kind, Response(winners))

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
        return dict(nothing=None, object=dict(kind=Rule)).get(self.kind, figures)


@component
class Unfinished(Learner):
    """A learner that does not learn yet."""


def rule(kind: str = "", **numbers: float) -> Network:
    return changed(dataclasses.replace(tiny.FIRST, learners=Rule(kind, **numbers)))


def encoded(kind: str) -> Network:
    return changed(dataclasses.replace(tiny.FIRST, threshold=3.0), input_shape=(1, 28, 28), encoder=Code(kind))


def decided(kind: str = "", **numbers: float) -> Network:
    return changed(deciding=dataclasses.replace(DECIDING, threshold=1.0), decision=Choice(kind, **numbers))


def competing(kind: str) -> Network:
    return changed(dataclasses.replace(tiny.FIRST, competition=Nobody(kind)))


@pytest.mark.parametrize(
    ("network", "part", "got"),
    [
        (changed(dataclasses.replace(tiny.FIRST, learners=Unfinished())), "update(self, layer,", "which returns"),
        (encoded("float"), "encoder(image)", "got float32 of shape (1, 28, 28): write .astype(jnp.uint8)"),
        (encoded("shape"), "encoder(image)", "got uint8 of shape (28, 28)"),
        (encoded("number"), "encoder.output_shape(...)`", "got 1"),
        (changed(encoder=Code()), "encoder", "takes (6, 28, 28), images of (28, 28) become (1, 28, 28)"),
        (decided("one"), "decision.scores(...)` must be float32 of shape (10,)", "got float32 of shape (1,)"),
        (decided("integers"), "decision.scores(...)`", "got int32 of shape (10,): write .astype(jnp.float32)"),
        (decided("all"), "decision.decide(scores)` must be int32 of shape ()", "got float32 of shape (10,)"),
        (decided("float"), "decision.decide(scores)`", "got float32 of shape (): write .astype(jnp.int32)"),
        (competing("latency"), "competition(...) of layer1`", "must be kernels.Winners, got "),
        (competing("rows"), "competition(...) of layer1.row`", "of shape (2,), got int32 of shape (3,)"),
        (rule("winners"), "forward` must return a Response", "write Response(winners)"),
        (rule("none"), "update` of Rule of layer1 fails: 'NoneType'", "`forward` must return a Response: write "),
        (rule("two"), "update of Rule of layer1`", "got a tuple of 2"),
        (rule("weights"), "weights` must have shape (4, C, 5, 5)", "got (1, 6, 5, 5)"),
        (rule("replaced"), "update` of Rule of layer1 fails", "write `layer.with_weights(...)` or "),
        (rule("state"), "update(...)[1] of Rule of layer1, the state,`", "got "),
        (rule("dtype"), "update(...)[1] of Rule of layer1, the state,`", "got int32 of shape (3,): write .astype("),
        (rule("end"), "end_epoch(state) of Rule of layer1`", "got float32 of shape (1,)"),
        (rule("nothing"), "diagnose of Rule of layer1`", "got None"),
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
        (encoded(""), False, r"^`encoder\(image\)` must be 0\.\.14, or 15 where silent, got 2\d\d"),
        (encoded(""), True, r"^`encoder\(image\)` must be 0\.\.14, or 15 where silent, got 2\d\d"),
        (rule(factor=np.inf), False, rf"^{INVALID}`weights` must be finite, got (inf|nan): take smaller rates"),
        (rule(step=-1), False, rf"^{INVALID}`weights` must lie within its `bounds`, 0\.\.1, got -39\.\S*\.\.-3\S*: cl"),
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


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (-1000.0, r"^`decision.scores\(\.\.\.\)` must be finite and at least 0, got -\d+.*: take jnp.maximum\("),
        (np.nan, r"^`decision.scores\(\.\.\.\)` must be finite and at least 0, got nan: divide by no sum"),
    ],
    ids=["negative", "nan"],
)
def test_scores_that_metrics_cannot_compare_are_refused(amount, message):
    trainer = Trainer(decided(amount=amount), DIGITS, SETTINGS)
    with pytest.raises(InputError, match=message):
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


@component
class Halved:
    """An encoder of every other pixel."""

    time_steps: int = snnjax.static(default=15)

    def __call__(self, image):
        return jnp.where(image[None, ::2, ::2] > 0, 0, 15).astype(jnp.uint8)

    def output_shape(self, image_shape):
        return (1, image_shape[0] // 2, image_shape[1] // 2)


@pytest.mark.parametrize(
    ("encoder", "right", "given", "words"),
    [
        (GREY, (28, 28), (5, 28, 28), "have shape (28, 28), got (5, 28, 28): resize it, for a batch use jax.vmap"),
        (COLOUR, (26, 26, 3), (5, 26, 26, 3), "have shape (26, 26, 3), got (5, 26, 26, 3): "),
        (EVENTS, (28, 28, 2), (28, 28), "have shape (28, 28, 2), got (28, 28): "),
        (Halved(), (56, 56), (48, 48), "become an input of shape (1, 28, 28), got (48, 48), which becomes (1, 24, 24)"),
    ],
    ids=["several grey", "several colour", "no events", "of its own"],
)
def test_images_of_another_shape_are_refused(encoder, right, given, words):
    """By the shape of an image, not of what becomes of it."""
    shape = encoder.output_shape(right)
    network = SpikingNetwork(changed(encoder=encoder, time_steps=encoder.time_steps, input_shape=shape))
    with pytest.raises(InputError) as caught:
        network(np.zeros(given, np.uint8))
    assert str(caught.value).startswith(f"`image` must {words}")
    assert jax.eval_shape(jax.vmap(network), np.zeros((2, *right), np.uint8)).shape == (2,)


def test_the_unique_end_of_a_path_names_a_number():
    """Where several numbers have this end, these are listed."""
    for path, whole in {
        "ltp": "layer1.learners.ltp",
        "learners.ltp": "layer1.learners.ltp",
        "punish.1": "layer2.learners.punish.1",
        "layer1.ltp": "layer1.learners.ltp",
    }.items():
        value = 2 * NETWORK.hyperparameters()[whole]
        assert NETWORK.vary(path, value) == NETWORK.vary(whole, value), path
        assert NETWORK.vary(path, value).hyperparameters()[whole] == value
    with pytest.raises(InputError, match=r"^`competition\.radius` must name one of layer1\.\S+, layer2\.\S+radius$"):
        NETWORK.vary("competition.radius", 1)
    with pytest.raises(InputError, match=r"^did you mean `layer1\.learners\.ltp`\? `layer1\.lpt` must name"):
        NETWORK.vary("layer1.lpt", 1)

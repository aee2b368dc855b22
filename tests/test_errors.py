"""Error messages, read aloud: the argument, what came, what was expected, and what to write instead."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import own_classes as own
import pytest

import snnjax
from snnjax import NETWORKS, RSTDP, STDP, WTA, Conv, Network, Settings, Sweep, Trainer, component, data, stage
from snnjax.core import errors
from snnjax.core.errors import InputError, InputTypeError
from snnjax.encoding import COLOUR, EVENTS, GREY, Encoder
from snnjax.kernels import Winners, pad
from snnjax.learners import Learner, Response
from snnjax.networks import SpikingNetwork
from snnjax.runs.trained import Trained
from snnjax.training.build import network_for
from snnjax.training.state import Callback

DIGITS = data.digits().first(24, 24)
FIRST = Conv(4, 5, padding=2, threshold=15.0, competition=WTA(2, radius=3), learners=STDP())
DECIDING = Conv(20, 7, learners=RSTDP())
NETWORK = Network("two", (6, 28, 28), 10, (stage(FIRST, pool=4), stage(DECIDING)))
SETTINGS = Settings((1, 1), batch_size=12)


def changed(first: Conv = FIRST, deciding: Conv = DECIDING, **changes) -> Network:
    stages = stage(first, pool=4), stage(deciding)
    return dataclasses.replace(NETWORK, **dict(stages=stages) | changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stage(), r"`branches` must be one Conv layer or several, got \(\): write stage\(Conv\(\.\.\.\)\)"),
        (lambda: stage((FIRST, FIRST)), r"`branches` must be Conv layers, got tuple: write stage\(Conv\("),
        (lambda: stage(STDP()), "`branches` must be Conv layers, got STDP"),
        (lambda: stage(FIRST, pool="2"), "`pool` must be an integer, a Pool or None, got '2'"),
        (lambda: stage(FIRST, pool=2.0), "`pool` must be an integer, a Pool or None, got 2.0"),
        (lambda: Settings(epochs=3), r"`epochs` must be a tuple of integers, .*, got 3: write epochs=\(3,\)$"),
        (lambda: Settings(epochs="3"), r"`epochs` must be a tuple of integers, .*, got '3': write epochs=\(3,\)$"),
        (lambda: Settings((1, "2")), "`epochs` must be an integer, got '2': write 2$"),
        (lambda: Settings((1,), seed=1.5), "`seed` must be an integer, got 1.5"),
        (lambda: Settings((1,), seed=True), "`seed` must be an integer, got True"),
        (lambda: Settings((1,), native=1), "`native` must be True or False, got 1"),
        (lambda: Conv("20", 5), "`features` must be an integer, got '20': write 20$"),
        (lambda: Conv(20.0, 5), "`features` must be an integer, got 20.0: write 20$"),
        (lambda: Conv(20, 5.5), "`kernel` must be an integer, got 5.5$"),
        (lambda: Conv(2, 5, threshold=[1.0, 2.0]), r"`threshold` must be a number, .*write np.array\(\[\.\.\.\]\)"),
        (lambda: Conv(2, 5, threshold=np.ones(3)), r"`threshold` must have shape \(\) or \(2,\), got shape \(3,\)"),
        (lambda: Conv(2, 5, weight_mean="0.8"), "`weight_mean` must be a number, got '0.8'"),
        (lambda: Conv(2, 5, learners=STDP), r"`learners` must be an instance .*, got the class STDP: write STDP\("),
        (lambda: Conv(2, 5, competition=WTA), "`competition` must be an instance .*, got the class WTA: write WTA"),
        (lambda: changed(encoder=Encoder), "`encoder` must be an instance .*, got the class Encoder: write Encoder"),
        (lambda: changed(stages=stage(DECIDING)), r"`stages` must be a tuple of stages, got Stage: write \(stage\("),
        (lambda: changed(stages=(DECIDING,)), r"`stages` must be a tuple of stages, got Conv: write \(stage\(Conv\("),
        (lambda: changed(stages=()), r"`stages` must be a tuple of stages, got \(\)"),
        (lambda: changed(classes=10.0), "`classes` must be an integer, got 10.0: write 10$"),
        (lambda: changed(classes="10"), "`classes` must be an integer, got '10': write 10$"),
        (lambda: changed(deciding=Conv(4, 7)), "layer2, which decides, must have .*, got no learner and 4 features"),
        (lambda: SpikingNetwork(NETWORKS["deep2024"]), r"`spec` must be a Network, got .* write deep2024\("),
        (lambda: SpikingNetwork(NETWORK, seed=0.5), "`seed` must be an integer, got 0.5"),
        (lambda: SpikingNetwork(NETWORK)(DIGITS.test_images[0]), "`encoder` must be given to take images, got None: "),
        (lambda: SpikingNetwork(NETWORK).predict([1]), r"`latency` must be an array of axes \(C H W\), got list"),
        (lambda: changed(name=2), "`name` must be a string, got 2"),
        (lambda: changed(input_shape=(6, 28)), r"`input_shape` must be \(channels, rows, columns\), got \(6, 28\)"),
        (lambda: changed(epochs=3), "`epochs` must be one for each of 2 stages, got 3"),
        (lambda: changed(epochs=(1, "2")), "`epochs` must be an integer, got '2': write 2"),
        (lambda: changed(reward_by_turns="yes"), "`reward_by_turns` must be True or False, got 'yes'"),
        (lambda: STDP(ltp="0.1"), "`ltp` must be a number, got '0.1'"),
        (lambda: STDP(ltp=True), "`ltp` must be a number, got True"),
        (lambda: STDP(doubling=500.0), "`doubling` must be an integer, got 500.0: write 500"),
        (lambda: STDP(bounds=0.5), "`bounds` must be two numbers, got 0.5"),
        (lambda: RSTDP(reward=(0.1,)), r"`reward` must be two numbers, got \(0.1,\)"),
        (lambda: own.Hebb(rate="fast"), "`rate` must be a number, got 'fast'"),
        (lambda: Trainer(NETWORK, DIGITS.train_images, SETTINGS), r"`data` must be .*, got an array .*: write snn"),
        (lambda: Trainer(NETWORKS["deep2024"], DIGITS, SETTINGS), r"`network` must be a Network, got .* deep2024\("),
        (lambda: Trainer(SpikingNetwork(NETWORK), DIGITS, SETTINGS), "`network` must be .*: write network.spec"),
        (lambda: Trainer(NETWORK, DIGITS, (1, 1)), r"`settings` must be Settings, got \(1, 1\): write Settings\("),
        (lambda: Trainer(NETWORK, DIGITS, SETTINGS, print), "`callback` must be a Callback or None, got builtin"),
        (lambda: Trainer(NETWORK, DIGITS, SETTINGS, Callback), "`callback` must be .*, got the class Callback"),
        (lambda: Sweep(NETWORK, DIGITS, SETTINGS, dict(seed=1)), "`variants` must be a list of dicts, got dict"),
        (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"layer1.radius": "3"}]), "`layer1.radius` must be a number, .*'3'"),
        (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": "3"}]), "`seed` must be an integer, got '3'"),
        (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": 1}], at_once="4"), "`at_once` must be an .*: write 4"),
        (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": 1}]), "`patience` must be 0 in a sweep, .* got 5"),
    ],
)  # fmt: skip
def test_wrong_types_are_named(make, message):
    """In one line for commands: as `InputError`."""
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Settings((1,), seed=2**64), "`seed` must be at most 18446744073709551615, got 18446744073709551616"),
        (lambda: Settings((1,), batch_size=2**31), "`batch_size` must be at most 2147483647, got 2147483648"),
        (lambda: Settings((1,), update_batch=2**31), "`update_batch` must be at most 2147483647"),
        (lambda: Settings((1,), patience=10**5000), "`patience` must be at most 2147483647, got int"),
        (lambda: Settings((2**31,)), "`epochs` must be at most 2147483647"),
        (lambda: WTA(2**31), "`winners` must fit into int32, got 2147483648"),
        (lambda: WTA(1, radius=2**31), "`radius` must fit into int32"),
        (lambda: STDP(doubling=2**31), "`doubling` must fit into int32"),
        (lambda: STDP(ltp=1e39), r"`ltp` must fit into float32, got 1e\+39"),
        (lambda: RSTDP(reward=(1e39, 0.1)), "`reward` must fit into float32"),
        (lambda: Conv(2, 5, threshold=10**400), "`threshold` must fit into int32, got int"),
        (lambda: Conv(2, 5, threshold=np.array([1.0, 1e39])), r"`threshold` must fit .*, got an array float64\[2\]"),
        (lambda: Conv(2, 5, padding=2**31), "`padding` must be at most 2147483647"),
        (lambda: Conv(2, 5, competition=WTA(3)), "`winners` of the competition must be at most .*, got 3 of 2"),
        (lambda: NETWORK.initial_weights(-1), "`seed` must be at least 0, got -1"),
        (lambda: NETWORK.initial_weights(2**64), "`seed` must be at most"),
        (lambda: DIGITS.share(0.5, -1), "`seed` must be at least 0, got -1"),
        (lambda: DIGITS.hold_out(0.5, 2**64), "`seed` must be at most"),
        (lambda: DIGITS.augment(0.5, -1), "`seed` must be at least 0, got -1"),
        (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"seed": 2**64}]), "`seed` must be at most"),
        (lambda: Sweep(NETWORK, DIGITS, SETTINGS, [{"layer1.radius": 1e10}]), "`radius` must fit into int32"),
        (lambda: pad(np.zeros((1, 2, 2), np.uint8), 2**31, time_steps=3), "`padding` must be at most"),
    ],
)  # fmt: skip
def test_numbers_that_their_type_does_not_hold_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_numbers_that_their_type_just_holds_are_taken():
    assert RSTDP(bounds=(0.0, np.inf)).bounds == (0.0, np.inf)
    assert WTA(1, radius=2**31 - 1).radius == 2**31 - 1
    assert Settings((1,), seed=np.uint64(2**64 - 1)).seed == 2**64 - 1
    assert len(DIGITS.share(0.5, 2**64 - 1).train_images) == len(DIGITS.augment(0.5, 2**64 - 1).train_images) // 3


def test_wrong_types_are_type_errors_too():
    with pytest.raises(TypeError):
        Conv("20", 5)
    assert issubclass(InputTypeError, InputError)


def test_lists_and_numbers_of_numpy_are_as_good_as_pythons():
    found = Network(
        "two",
        [np.int64(6), 28, 28],
        np.int64(10),
        [
            stage(
                Conv(
                    np.uint8(4),
                    np.int32(5),
                    padding=[2, 2],
                    threshold=np.float64(15),
                    competition=WTA(np.int64(2), radius=np.int64(3)),
                    learners=[STDP(doubling=np.int64(50)), RSTDP(bounds=[0, 1])],
                ),
                pool=np.int64(4),
            ),
            stage(DECIDING),
        ],
        epochs=[1, np.int64(2)],
    )
    learners = STDP(doubling=50), RSTDP(bounds=(0.0, 1.0))
    expected = changed(dataclasses.replace(FIRST, padding=(2, 2), learners=learners), epochs=(1, 2))
    assert found == expected
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert type(found.classes) is int
    settings = Settings([np.int64(1), 2], batch_size=np.int32(7), seed=np.uint8(3))
    assert settings == Settings((1, 2), 7, seed=3)
    assert json.loads(json.dumps(dataclasses.asdict(settings)))["epochs"] == [1, 2]
    assert NETWORK.vary("layer1.threshold", np.int64(9)).hyperparameters()["layer1.threshold"] == 9.0


def test_the_nearest_name_is_asked_for():
    message = str(errors.unknown("dataset", "mnits", ("digits", "mnist"), ", or an .npz file"))
    assert message == "`dataset` must be one of digits, mnist, or an .npz file, got 'mnits': did you mean 'mnist'?"
    assert str(errors.unknown("dataset", "MNIST", ("digits", "mnist"))).endswith("got 'MNIST': did you mean 'mnist'?")
    assert str(errors.unknown("dataset", 5, ["digits"])) == "`dataset` must be one of digits, got 5"
    for path, meant in {
        "layer1.treshold": "layer1.threshold",
        "layer1.raduis": "layer1.competition.radius",
        "layer1.competition.raduis": "layer1.competition.radius",
        "layer2.rewrad.0": "layer2.learners.reward.0",
    }.items():
        with pytest.raises(InputError, match=f"^did you mean `{meant}`\\? `{path}` must name one of layer\\d.features"):
            NETWORK.vary(path, 1.0)
    with pytest.raises(InputError, match=r"must name one of layer1\.((?!layer2).)*$"):
        NETWORK.vary("layer1.xyz", 1.0)
    with pytest.raises(InputError, match=r"^`xyz` must name one of layer1\.features"):
        NETWORK.vary("xyz", 1.0)


WRONG = {
    "float": lambda image: jnp.zeros((1, 28, 28)),
    "shape": lambda image: jnp.zeros((28, 28), jnp.uint8),
    "wide": lambda image: jnp.zeros((1, 28, 28), jnp.int32),
    "two": lambda image: (jnp.zeros((1, 28, 28), jnp.uint8),) * 2,
}


@component
class Code:
    """An encoder of any kind."""

    kind: str = snnjax.static(default="")
    time_steps: int = snnjax.static(default=15)

    def __call__(self, image):
        return WRONG[self.kind](image) if self.kind else jnp.asarray(image, jnp.uint8)[None]

    def output_shape(self, image_shape):
        return 1 if self.kind == "number" else (1, *image_shape)


@component
class Choice(own.First):
    """A decision of any kind."""

    kind: str = snnjax.static(default="")
    timed = True

    def scores(self, spikes, classes):
        if self.kind in ("one", "integers"):
            return jnp.zeros(1 if self.kind == "one" else classes, int if self.kind == "integers" else float)
        amount = dict(negative=-1000.0, nan=jnp.nan).get(self.kind, 0.0)
        return spikes.potential.reshape(classes, -1).max(axis=1) + amount

    def decide(self, scores):
        decided = dict(all=scores[0], float=scores.sum(), beyond=jnp.int32(10)).get(self.kind)
        return jnp.int32(0) if decided is None else decided


@component
class Nobody:
    """A competition that returns no `Winners`, or too few of their parts."""

    kind: str = snnjax.static(default="")

    def __call__(self, spikes, *, time_steps):
        if self.kind == "latency":
            return spikes.latency
        return Winners(
            jnp.zeros(2, jnp.int32), jnp.zeros(3, jnp.int32), jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.uint8)
        )


@component
class Rule(Learner):
    """A learner of any kind."""

    kind: str = snnjax.static(default="")
    amount: float = 1.0
    bounds = (0.0, 1.0)

    def init(self, layer, key, seen):
        return np.zeros(3, np.float32)

    def forward(self, layer, state, latency, label):
        winners = layer.winners(latency)
        return dict(winners=winners, none=None, latency=latency).get(self.kind, Response(winners))

    def update(self, layer, state, latency, response, signal):
        conv, info = layer.conv, response.winners.feature
        if self.kind == "two":
            return layer, state
        if self.kind == "weights":
            return layer.with_weights(layer.weights[:1]), state, info
        if self.kind == "replaced":
            return dataclasses.replace(layer, weights=layer.weights), state, info
        if self.kind == "state":
            return layer, (state, state), info
        if self.kind == "dtype":
            return layer, state.astype(jnp.int32), info
        if self.kind == "nan":
            return layer.with_weights(layer.weights * jnp.nan), state, info
        if self.kind == "below":
            return layer.with_weights(layer.weights - self.amount), state, info
        if self.kind == "above":
            return layer.with_weights(layer.weights + 1 / 16), state, info
        if self.kind == "threshold":
            return (
                dataclasses.replace(layer, conv=dataclasses.replace(conv, threshold=conv.threshold * 1e6)),
                state,
                info,
            )
        if self.kind == "amount":
            learner = dataclasses.replace(self, amount=self.amount - 1)
            return dataclasses.replace(layer, conv=dataclasses.replace(conv, learners=learner)), state, info
        return layer, state, info

    def check(self):
        if self.amount < -20:
            raise InputError(f"`amount` must be at least -20, got {self.amount}")

    def end_epoch(self, state):
        return state[:1] if self.kind == "end" else state

    def diagnose(self, layer, info):
        if self.kind == "nothing":
            return None
        if self.kind == "object":
            return dict(kind=Rule)
        return dict(super().diagnose(layer, info), wins=np.bincount(info.ravel() + 1), last=np.float32(0.5))


@component
class Unfinished(Learner):
    """A learner that does not learn yet."""


def rule(kind: str) -> Network:
    return changed(dataclasses.replace(FIRST, learners=Rule(kind)))


def encoded(kind: str) -> Network:
    return changed(dataclasses.replace(FIRST, threshold=3.0), input_shape=(1, 28, 28), encoder=Code(kind))


def decided(kind: str) -> Network:
    return changed(deciding=dataclasses.replace(DECIDING, threshold=1.0), decision=Choice(kind))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (changed(dataclasses.replace(FIRST, learners=Unfinished())),
         r"^Unfinished must have a method `update\(self, layer, state, latency, response, signal\)`, which returns "),
        (encoded("float"), r"`encoder\(image\)` must be uint8 of shape \(1, 28, 28\), got float32 .*astype\("),
        (encoded("shape"), r"`encoder\(image\)` must be uint8 of shape \(1, 28, 28\), got uint8 of shape \(28, 28\)"),
        (encoded("wide"), r"`encoder\(image\)` must be uint8 .*, got int32 .*: write \.astype\(jnp\.uint8\)"),
        (encoded("two"), r"`encoder\(image\)` must be uint8 .*, got uint8 .* and uint8"),
        (encoded("number"), r"`encoder.output_shape\(\.\.\.\)` must be \(C, H, W\), got 1"),
        (changed(encoder=Code()), r"the network takes \(6, 28, 28\), images of \(28, 28\) become \(1, 28, 28\): make"),
        (decided("one"), r"`decision.scores\(\.\.\.\)` must be float32 of shape \(10,\), got float32 of shape \(1,\)"),
        (decided("integers"), r"`decision.scores\(\.\.\.\)` must be float32 .*, got int32 .*astype\(jnp.float32\)"),
        (decided("all"), r"`decision.decide\(scores\)` must be int32 of shape \(\), got float32 of shape \(10,\)"),
        (decided("float"), r"`decision.decide\(scores\)` must be int32 of shape \(\), got float32 .*\(jnp.int32\)"),
        (changed(dataclasses.replace(FIRST, competition=Nobody("latency"))),
         r"`competition\(\.\.\.\) of layer1` must be kernels\.Winners, got "),
        (changed(dataclasses.replace(FIRST, competition=Nobody())),
         r"`competition\(\.\.\.\) of layer1\.row` must be int32 of shape \(2,\), got int32 of shape \(3,\)"),
        (rule("winners"), r"'Winners' .* `forward` must return a Response: write Response\(winners\)$"),
        (rule("none"), r"^`update` of Rule of layer1 fails: 'NoneType' .* `forward` must return a Response: write .*$"),
        (rule("latency"), r"has no attribute winners: `forward` must return a Response: write Response\(winners\)$"),
        (rule("two"), r"`update of Rule of layer1` must be \(layer, state, info\), got a tuple of 2$"),
        (rule("weights"), r"`update` of Rule of layer1: `weights` must have shape \(4, C, 5, 5\), got \(1, 6, 5, 5\)"),
        (rule("replaced"), r"`update` of Rule of layer1 fails: .* 'weights': write `layer.with_weights\(\.\.\.\)` or "),
        (rule("state"), r"`update\(\.\.\.\)\[1\] of Rule of layer1, the state,` must be "),
        (rule("dtype"), r"the state,` must be float32 of shape \(3,\), got int32 .*astype\(jnp.float32\)"),
        (rule("end"), r"`end_epoch\(state\) of Rule of layer1` must be float32 of shape \(3,\), got .*\(1,\)"),
        (rule("nothing"), "`diagnose of Rule of layer1` must be a dict of figures, got None"),
        (rule("object"), "`diagnose` of Rule of layer1 must be JSON data .*: got the class Rule"),
    ],
)  # fmt: skip
def test_own_parts_that_return_what_they_may_not_are_refused_before_training(network, message):
    with pytest.raises(InputError, match=message):
        Trainer(network, DIGITS, SETTINGS)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (encoded(""), r"`encoder\(image\)` must be 0\.\.14, or 15 where silent, got 2\d\d"),
        (decided("beyond"), r"`decision.decide\(scores\)` must be 0\.\.9, or -1, got 10\.\.10"),
        (
            rule("nan"),
            "`update` of Rule left layer1 invalid in epoch 1: `weights` must be finite, got nan: take smaller rates",
        ),
        (
            rule("below"),
            r"left layer1 invalid in epoch 1: `weights` must lie within its `bounds`, 0\.\.1, got -2\S*\.\.-2\S*: clip",
        ),
        (rule("above"), r"layer1 invalid .*: `weights` must lie within its `bounds`, 0\.\.1, got 2\S*\.\.2\S*: clip"),
        (
            rule("threshold"),
            "`update` of Rule left layer1 invalid in epoch 1: `threshold` must be finite, got inf",
        ),
        (rule("amount"), "`update` of Rule left layer1 invalid in epoch 1: `amount` must be at least -20, got -23"),
    ],
)
@pytest.mark.parametrize("native", [False, True], ids=["xla", "native"])
def test_own_parts_that_leave_their_range_stop_the_training_before_it_is_saved(network, message, native):
    trainer, saved = Trainer(network, DIGITS, dataclasses.replace(SETTINGS, native=native)), []
    with pytest.raises(InputError, match=message):
        trainer.run(trainer.initial_state(), lambda state: saved.append(state.phase))
    assert saved == ([0, 1] if "decide" in message else [])


def test_initial_weights_may_lie_beyond_the_bounds_until_they_learn():
    trainer = Trainer(changed(dataclasses.replace(FIRST, learners=Rule(), weight_mean=1.0)), DIGITS, SETTINGS)
    weights = trainer.run(trainer.initial_state()).weights["layer1"]
    assert weights.max() > 1.1


def test_what_a_rule_says_of_itself_may_hold_numbers_of_numpy():
    trainer = Trainer(rule(""), DIGITS, SETTINGS)
    state = trainer.run(trainer.initial_state())
    found = state.diagnoses["Rule layer1"]
    assert (sum(found["wins"]["layer1"]), found["last"]) == (48, dict(layer1=0.5))
    assert json.loads(json.dumps(found)) == found


def test_the_folder_of_a_sweep_names_its_best_network(tmp_path):
    path = tmp_path / "sweep"
    with pytest.raises(FileNotFoundError, match=r"there is no run .*sweep$"):
        snnjax.load(path)
    path.mkdir()
    with pytest.raises(
        FileNotFoundError,
        match=r"holds no weights\.npz: a run writes it last; `resume`, or its command with --resume, finishes one",
    ):
        snnjax.load(path)
    epochs = [[dict(test=dict(accuracy=x))] for x in (0.5, 0.9, 0.7)]
    networks = [dict(weights=f"weights_{at:03d}.npz", epochs=each, best_epoch=0) for at, each in enumerate(epochs)]
    for text, named in {
        json.dumps(dict(networks=networks)): r"weights_001\.npz, the best",
        json.dumps(dict(networks=[])): r"weights_000\.npz",
        "[" * 100_000: r"weights_000\.npz",
    }.items():
        (path / "sweep.json").write_text(text)
        with pytest.raises(FileNotFoundError, match=f"is the folder of a sweep, .* take one of its files, .*{named}$"):
            Trained.read(path)


def test_a_network_keeps_its_own_encoder_and_time_steps():
    own_code, shape, classes = Encoder(time_steps=9, radius=3), (6, 28, 28), 10
    assert network_for(lambda _: changed(encoder=own_code, time_steps=9), DIGITS).encoder == own_code
    slow = network_for(lambda _: changed(time_steps=30), DIGITS)
    assert (slow.time_steps, slow.encoder) == (30, Encoder(time_steps=30))
    usual = network_for(lambda images: changed(input_shape=images.input_shape, classes=images.classes), DIGITS)
    assert (usual.input_shape, usual.classes, usual.encoder) == (shape, classes, DIGITS.encoder)
    with pytest.raises(InputError, match=r"the network takes \(6, 28, 28\), images of \(28, 28\) become \(1, 28, 28\)"):
        network_for(lambda _: changed(encoder=Code()), DIGITS)


def test_only_maps_that_are_too_small_want_larger_images():
    with pytest.raises(InputError, match=r"the kernel must fit into .*: take a larger `size`$"):
        network_for(lambda _: changed(deciding=dataclasses.replace(DECIDING, kernel=8)), DIGITS)
    with pytest.raises(InputError, match=r"^`threshold` must be finite, got nan$"):
        network_for(lambda _: changed(dataclasses.replace(FIRST, threshold=np.nan)), DIGITS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, r"`<lambda>\(images\)` must be a Network, got None$"),
        (lambda _: 3, r"`<lambda>\(images\)` must be a Network, got 3$"),
        (
            lambda: NETWORK,
            r"`model` must be a function of `Images`, with .*, got <lambda>\(\): too many positional arg",
        ),
        (lambda a, b: NETWORK, r"with defaults for .*, got <lambda>\(a, b\): missing a required argument: 'b'$"),
    ],
)
def test_functions_that_make_no_network_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        network_for(make, DIGITS)


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
        (GREY, (28, 28), (48, 48), "have shape (28, 28), got (48, 48): resize it, for a batch use jax.vmap"),
        (GREY, (28, 28), (5, 28, 28), "have shape (28, 28), got (5, 28, 28): resize it, for a batch use jax.vmap"),
        (COLOUR, (26, 26, 3), (28, 28, 3), "have shape (26, 26, 3), got (28, 28, 3): "),
        (COLOUR, (26, 26, 3), (5, 26, 26, 3), "have shape (26, 26, 3), got (5, 26, 26, 3): "),
        (EVENTS, (28, 28, 2), (28, 28), "have shape (28, 28, 2), got (28, 28): "),
        (Halved(), (56, 56), (48, 48), "become an input of shape (1, 28, 28), got (48, 48), which becomes (1, 24, 24)"),
    ],
)
def test_images_of_another_shape_are_refused(encoder, right, given, words):
    """By the shape of an image, not of what becomes of it."""
    shape = encoder.output_shape(right)
    network = SpikingNetwork(changed(encoder=encoder, time_steps=encoder.time_steps, input_shape=shape))
    with pytest.raises(InputError, match="^`image` must " + re.escape(words)):
        network(np.zeros(given, np.uint8))
    assert network(np.zeros(right, np.uint8)).shape == ()
    assert jax.vmap(network)(np.zeros((2, *right), np.uint8)).shape == (2,)


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
    with pytest.raises(InputError, match=r"^`bounds\.0` must name one of layer1\S+bounds\.0, layer2\S+bounds\.0$"):
        NETWORK.vary("bounds.0", 0.1)


def test_the_variants_of_a_sweep_whose_weights_leave_their_range_are_named():
    settings, two = Settings((1, 1), patience=0), [{"layer1.amount": 0.0}, {"layer1.amount": 1e30, "seed": 2}]
    for variants, name in ((two, "layer1.amount=1e+30, seed=2"), ([{}], "seed=0")):
        records = Sweep(rule("below"), DIGITS, settings, variants).run().done
        *others, last = (records[at] for at in range(len(variants)))
        assert last["error"].startswith(f"{name}: `update` of Rule left layer1 invalid in epoch 1: ")
        assert last["epochs"] == []
        assert all(each["epochs"] for each in others)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("negative", r"^`decision.scores\(\.\.\.\)` must be finite and at least 0, got -\d+.*: take jnp.maximum\("),
        ("nan", r"^`decision.scores\(\.\.\.\)` must be finite and at least 0, got nan: divide by no sum"),
    ],
)
def test_scores_that_metrics_cannot_compare_are_refused(kind, message):
    trainer = Trainer(decided(kind), DIGITS, SETTINGS)
    with pytest.raises(InputError, match=message):
        trainer.predict(trainer.initial_state(), DIGITS.test_images)


def test_arrays_in_messages():
    """By dtype and shape, traced or not."""
    seen = []
    jax.jit(lambda x: seen.append(errors.shown(x)))(jnp.zeros(3, jnp.int32))
    jax.vmap(lambda x: seen.append(errors.shown(x)) or x)(jnp.zeros((2, 3)))
    assert seen == ["a traced int32[3]", "a traced float32[3]"]
    assert errors.shown(jnp.zeros((3, 4))) == "an array float32[3,4]"
    assert errors.shown(np.zeros((), bool)) == "an array bool[]"
    assert errors.shown(np.float32(1)) == "float32"
    assert errors.shown(np.ndarray) == "the class ndarray"

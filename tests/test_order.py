"""Images in a new order each epoch, mirrored or not at random: what is learned, resumed, swept and kept."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
from test_sweep import Gain, assert_as_alone
from test_trainer import BRANCHES, DECIDING, LATE, SHALLOW, SINGLE, assert_same

from snnjax.app.commands import train
from snnjax.app.options import Data, Epochs, Machine
from snnjax.app.options import Network as Named
from snnjax.core import files, metrics
from snnjax.core.errors import InputError
from snnjax.data import Dataset, digits
from snnjax.layers.conv import Conv
from snnjax.learners import RSTDP, SupervisedSTDP, TargetTime
from snnjax.networks import NETWORKS, Earliest, Network, stage
from snnjax.training import epoch as epoch_module
from snnjax.training.draws import shown_order
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings, TrainState
from snnjax.training.sweep import Sweep

BOTH = dict(shuffle=True, mirror=True)
LITTLE = digits().first(60, 30)
TIMED = Network(
    "timed",
    (6, 28, 28),
    10,
    (stage(Conv(4, kernel=5, threshold=5, weight_mean=0.5, learners=TargetTime()), pool=4), stage(DECIDING)),
)
READOUT = Network(
    "readout",
    (6, 28, 28),
    10,
    (stage(Conv(50, kernel=28, threshold=100, weight_mean=0.3, weight_std=0.01, learners=SupervisedSTDP())),),
    decision=Earliest(fallback=True),
)
FROZEN = RSTDP(reward=(0, 0), punish=(0, 0), bounds=(0, 1))


def trained(network: Network, data: Dataset, settings: Settings) -> TrainState:
    trainer = Trainer(network, data, settings)
    return trainer.run(trainer.initial_state())


def shown(data: Dataset, places: np.ndarray) -> Dataset:
    """The images of a data set as an epoch shows them."""
    both = np.concatenate([data.train_images, data.train_images[:, :, ::-1]])
    return dataclasses.replace(
        data, train_images=both[places], train_labels=data.train_labels[places % len(data.train_labels)]
    )


def test_each_image_comes_once_in_an_order_of_the_seed_the_phase_and_the_epoch():
    settings, orders = Settings((1,), **BOTH), []
    for seed, phase, epoch in itertools.product((0, 1), (0, 1), (0, 1)):
        order = shown_order(settings, [seed], phase, 1000, epoch)
        np.testing.assert_array_equal(order, shown_order(settings, [seed, seed], phase, 1000, epoch))
        np.testing.assert_array_equal(np.sort(order % 1000), np.arange(1000))
        assert 400 < np.sum(order >= 1000) < 600, "about half of them mirrored"
        orders.append(order)
    assert len({tuple(order) for order in orders}) == len(orders)
    several = shown_order(settings, [0, 1], 1, 1000, 1)
    np.testing.assert_array_equal(several, [orders[3], orders[7]])
    shuffled = shown_order(Settings((1,), shuffle=True), [0], 0, 1000, 0)
    np.testing.assert_array_equal(shuffled, orders[0] % 1000)
    mirrored = shown_order(Settings((1,), mirror=True), [0], 0, 1000, 0)
    np.testing.assert_array_equal(mirrored % 1000, np.arange(1000))
    assert shown_order(Settings((1,)), [0, 1], 0, 1000, 0) is None


@pytest.mark.parametrize("how", [dict(shuffle=True), dict(mirror=True), BOTH], ids=str)
@pytest.mark.parametrize("network", [SINGLE, SHALLOW, TIMED, READOUT], ids=lambda each: each.name)
def test_an_epoch_is_one_of_the_images_in_that_order(network, how, monkeypatch):
    """To the last bit, as if the data had come so; by each rule, in slices of which one is short."""
    monkeypatch.setattr(epoch_module, "SLICE", 32)
    epochs = (1,) if len(network.stages) == 1 else (1, 0)
    settings = Settings(epochs, batch_size=20, patience=0, seed=3)
    found = trained(network, LITTLE, dataclasses.replace(settings, **how))
    places = shown_order(dataclasses.replace(settings, **how), [3], 0, 60, 0)
    expected = trained(network, shown(LITTLE, places), settings)
    for name, weights in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], weights)
    assert found.epochs == expected.epochs
    assert np.any(found.weights["layer1"] != trained(network, LITTLE, settings).weights["layer1"])
    for name in set(expected.diagnoses) - {"outputs of stage 1"}:
        assert found.diagnoses[name] == expected.diagnoses[name]


def test_decisions_stay_with_their_images_and_labels():
    """A network that does not learn decides as in any order; each image as it was shown in that epoch."""
    network = Network("frozen", (6, 28, 28), 10, (stage(Conv(50, kernel=28, learners=FROZEN)),))
    settings = Settings((3,), batch_size=20, patience=0, **BOTH)
    trainer = Trainer(network, LITTLE, settings)
    state, heard = trainer.initial_state(), []
    trainer.callback.advanced = lambda images, correct: heard.append(correct)
    trainer.run(state)
    for number, epoch in enumerate(state.epochs):
        places = shown_order(settings, [0], 0, 60, number)
        data = shown(LITTLE, places)
        decisions, _ = trainer.predict(TrainState(state.weights), data.train_images)
        assert epoch["train"] == metrics.fractions(decisions, data.train_labels)
        assert epoch["train"]["accuracy"] * 60 in heard
    assert len({epoch["train"]["accuracy"] for epoch in state.epochs}) > 1, "mirrored alike in each epoch"
    (layer_inputs,) = [trainer.training.supervised_inputs("train", [state])]
    assert len(layer_inputs) == 120, "the images, then their mirror images"


@pytest.mark.parametrize(("network", "epochs"), [(BRANCHES, (2, 1, 2)), (LATE, (0, 2, 2))], ids=["branches", "late"])
def test_a_run_resumed_in_the_middle_goes_on_in_the_same_order(network, epochs, tmp_path):
    """From every file that was saved, by a new trainer, to the last bit."""
    saved = []

    def save(state):
        saved.append(tmp_path / f"{len(saved)}.npz")
        files.save_checkpoint(saved[-1], *state.flatten())

    settings = Settings(epochs, batch_size=20, patience=0, **BOTH)
    first = Trainer(network, LITTLE, settings)
    whole = copy.deepcopy(first.run(first.initial_state(), save))
    for path in saved:
        state = TrainState.unflatten(*files.load_checkpoint(path))
        assert_same(Trainer(network, LITTLE, settings).run(state), whole)
    assert len(saved) > 4
    plain = trained(network, LITTLE, dataclasses.replace(settings, shuffle=False, mirror=False))
    assert any(np.any(plain.weights[name] != weights) for name, weights in whole.weights.items())


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_each_network_of_a_sweep_has_the_order_that_it_has_alone(native, monkeypatch):
    """Different seeds have different orders; one network has latencies of its own besides."""
    monkeypatch.setattr(epoch_module, "SLICE", 32)
    settings = Settings((2, 2), batch_size=20, patience=0, native=native, **BOTH)
    others = [dict(seed=2), {"layer1.threshold": 9.0, "seed": 2}, dict(seed=2)]  # as many, so that they share programs
    for variants in ([dict(seed=3), dict(seed=1), dict(seed=3)], others):
        check_sweep(Sweep(SHALLOW, LITTLE, settings, variants))


def check_sweep(sweep: Sweep) -> None:
    """Each network ends with the weights that it ends with alone, to the last bit."""
    weights: dict[int, dict[str, np.ndarray]] = {}
    state = sweep.run(keep=lambda at, network, state: weights.update({at: state.weights}) or {})
    assert len(sweep.groups()) == 1
    assert_as_alone(sweep, state, weights, *range(len(sweep.networks)))


@pytest.mark.slow
def test_latencies_of_their_own_come_in_orders_of_their_own():
    network = dataclasses.replace(SHALLOW, encoder=Gain())
    variants = [dict(seed=1), {"seed": 2, "encoder.gain": 0.5}, {"seed": 1, "encoder.gain": 0.7}]
    settings = Settings((1, 2), batch_size=20, patience=0, **BOTH)
    check_sweep(Sweep(network, LITTLE, settings, variants))
    check_sweep(Sweep(network, LITTLE, settings, variants[::2]))


def test_more_epochs_in_new_orders_compile_nothing(compilations):
    settings = Settings((1, 1), batch_size=20, patience=0, **BOTH)
    trained(SHALLOW, LITTLE, settings)
    longer = dataclasses.replace(settings, epochs=(3, 3), seed=1)
    assert compilations(lambda: trained(SHALLOW, LITTLE, longer).epochs) == 0


def test_layers_that_learned_in_another_order_are_not_reused():
    keys = []
    for how in ({}, dict(shuffle=True), dict(mirror=True), BOTH):
        trainer = Trainer(SHALLOW, LITTLE, Settings((1, 1), **how))
        keys.append(trainer.training.key(trainer.initial_state()))
    assert len({*keys}) == 4
    assert all(keys)


def test_recordings_and_colour_are_mirrored_too():
    """Left to right, whatever else an image holds."""
    for channels in ((2,), (3,)):
        images = np.random.default_rng(0).integers(0, 256, (6, 8, 9, *channels), np.uint8)
        data = Dataset("odd", images, np.arange(6) % 2, images, np.arange(6) % 2, 2)
        network = Network("n", data.input_shape, 2, (stage(Conv(4, kernel=3, learners=RSTDP())),))
        network = dataclasses.replace(network, time_steps=data.encoder.time_steps)
        trainer = Trainer(network, data, Settings((1,), mirror=True))
        found = trainer.training.supervised_inputs("train", [trainer.initial_state()])
        swapped = dataclasses.replace(data, train_images=images[:, :, ::-1])
        other = Trainer(network, swapped, Settings((1,)))
        np.testing.assert_array_equal(found[6:], other.training.supervised_inputs("train", [other.initial_state()]))
        np.testing.assert_array_equal(other.training.supervised_inputs("test", [other.initial_state()]), found[:6])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(shuffle=1), "`shuffle` must be True or False, got 1"),
        (dict(mirror=None), "`mirror` must be True or False, got None"),
    ],
)
def test_other_than_true_and_false_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Settings((1,), **change)


def test_images_of_one_column_have_no_mirror_image():
    images = np.zeros((4, 9, 1), np.uint8)
    data = Dataset("thin", images, np.arange(4) % 2, images, np.arange(4) % 2, 2)
    network = Network("n", (6, 9, 1), 2, (stage(Conv(4, kernel=(3, 1), learners=RSTDP())),))
    Trainer(network, data, Settings((1,), shuffle=True))
    with pytest.raises(InputError, match="`mirror` takes images of at least 2 columns, those of thin have 1"):
        Trainer(network, data, Settings((1,), mirror=True))


def test_few_images_take_more_epochs_unless_the_networks_depend_on_their_number(monkeypatch):
    """Whatever the network's own patience, which stays."""
    network = dataclasses.replace(SHALLOW, name="own", patience=7, epochs=(1, 2))

    def suited(images):
        return dataclasses.replace(network, epochs=(1, 2 if images.count == 60 else 3))

    for make, epochs, batch in ((lambda images: network, (167, 100), 100), (suited, (1, 2), 1000)):
        monkeypatch.setitem(NETWORKS, "own", make)
        settings = train.prepare(Named(model="own"), Data(train_images=60), Epochs(), Machine())[0].settings
        assert (settings.epochs, settings.batch_size, settings.patience) == (epochs, batch, 7)


@pytest.mark.parametrize(("own", "given", "expected"), [(True, None, True), (True, False, False), (False, True, True)])
def test_a_network_has_an_order_and_a_patience_of_its_own(monkeypatch, own, given, expected):
    """Unless others are given; few images change neither."""
    network = dataclasses.replace(SHALLOW, name="own", shuffle=own, patience=7, epochs=(1, 2))
    monkeypatch.setitem(NETWORKS, "own", lambda images: network)
    trainer, *_ = train.prepare(Named(model="own"), Data(train_images=60), Epochs(shuffle=given), Machine())
    assert (trainer.settings.shuffle, trainer.settings.mirror, trainer.settings.patience) == (expected, False, 7)
    with pytest.raises(InputError, match="`patience` must be at least 0, got -1"):
        dataclasses.replace(network, patience=-1).check()
    with pytest.raises(InputError, match="`shuffle` must be True or False, got 1"):
        dataclasses.replace(network, shuffle=1)


def test_the_published_networks_learn_in_the_order_of_the_data():
    """As the reference does, whose figures they are compared with."""
    seed = ("mozafari2018", "deep2024", "deepr2024", "deepr2024_2", "inception2024", "majority2024")
    assert {(NETWORKS[name]().shuffle, NETWORKS[name]().patience) for name in seed} == {(False, None)}

"""Images in a new order each epoch, mirrored or not at random: what is learned and kept."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
import tiny
from tiny import images, labelled, plain, trained

from snnjax import ImageSpec
from snnjax.app import planning
from snnjax.app.shared_options import Data, Epochs, Machine
from snnjax.app.shared_options import Network as Named
from snnjax.core.devices import BATCH_SIZES
from snnjax.data import Dataset
from snnjax.kernels import native
from snnjax.layers.conv import Conv
from snnjax.learners import RSTDP
from snnjax.networks import NETWORKS, Network, stage
from snnjax.training.learning_phase import epoch_orders, shown_order
from snnjax.training.loop import Trainer
from snnjax.training.state import Settings

pytestmark = pytest.mark.slow

BOTH = dict(shuffle=True, mirror=True)
LITTLE = images()
PLAIN = plain(ImageSpec())


def settings_of(epochs: tuple[int, ...], **others) -> Settings:
    return Settings(epochs, **dict(adapt_every=20, patience=0) | others)


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
        np.testing.assert_array_equal(np.sort(order % 1000), np.arange(1000))
        assert 400 < np.sum(order >= 1000) < 600, "about half of them mirrored"
        orders.append(order)
    assert len({tuple(order) for order in orders}) == len(orders)
    np.testing.assert_array_equal(shown_order(settings, [1, 1], 1, 1000, 1), orders[7])
    np.testing.assert_array_equal(shown_order(settings, [0, 1], 1, 1000, 1), [orders[3], orders[7]])
    shuffled = shown_order(Settings((1,), shuffle=True), [0], 0, 1000, 0)
    np.testing.assert_array_equal(shuffled, orders[0] % 1000)
    mirrored = shown_order(Settings((1,), mirror=True), [0], 0, 1000, 0)
    np.testing.assert_array_equal(mirrored % 1000, np.arange(1000))
    assert epoch_orders(Settings((1,)), [0, 1], 0, 1000) is None


@pytest.mark.parametrize(
    ("network", "how"),
    [(PLAIN, dict(shuffle=True, backend="xla")), (labelled(ImageSpec()), BOTH)],
    ids=["STDP and R-STDP, of XLA", "STDP and labels"],
)
def test_an_epoch_is_one_of_the_images_in_that_order(network, how, monkeypatch):
    """To the last bit, as if the data had come so; by each rule, in batches of which one is short."""
    monkeypatch.setitem(BATCH_SIZES, "learned", 12)
    for phase, epochs in enumerate([(1, 0), (0, 1)]):
        settings = settings_of(epochs, seed=3, **how)
        found = trained(network, LITTLE, settings)
        order = shown_order(settings, [3], phase, 40, 0)
        in_order = dataclasses.replace(settings, shuffle=False, mirror=False)
        expected = trained(network, shown(LITTLE, order), in_order)
        jax.tree.map(np.testing.assert_array_equal, found.weights, expected.weights)
        assert found.epochs == expected.epochs
        layer = f"layer{phase + 1}"
        assert np.any(found.weights[layer] != network.initial_weights(3)[layer])
        for name in set(expected.diagnoses) - {"outputs of stage 1"}:
            assert found.diagnoses[name] == expected.diagnoses[name]


@pytest.mark.parametrize("channels", [2, 3], ids=["recordings", "colour"])
def test_recordings_and_colour_are_mirrored_too(channels):
    """Left to right, whatever else an image holds; test images are not."""
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 9, channels), np.uint8)
    data = Dataset("odd", pictures, np.arange(6) % 2, pictures, np.arange(6) % 2, 2)
    network = Network("n", data.input_shape, 2, (stage(Conv(4, kernel=3, learners=RSTDP())),))
    network = dataclasses.replace(network, time_steps=data.encoder.time_steps)

    def inputs(data: Dataset, part: str, mirror: bool) -> np.ndarray:
        trainer = Trainer(network, data, Settings((1,), mirror=mirror))
        return trainer.cache.inputs(trainer.job.phases[-1], part, [trainer.initial_state()])

    swapped = dataclasses.replace(data, test_images=pictures[:, :, ::-1])
    expected = [inputs(swapped, part, mirror=False) for part in ("train", "test")]
    np.testing.assert_array_equal(inputs(data, "train", mirror=True), np.concatenate(expected))
    np.testing.assert_array_equal(inputs(data, "test", mirror=True), expected[0], "tested as they are")


def test_the_command_and_python_have_the_same_defaults(monkeypatch):
    """The network's own epochs, order and patience stay unless others are given, on few images too."""
    own = dataclasses.replace(PLAIN, name="own", shuffle=True, patience=7, epochs=(1, 2))
    silent = dataclasses.replace(PLAIN, name="own", epochs=())
    many = shown(LITTLE, np.arange(5000) % 40)
    for data, network, epochs, batch, patience in (
        (LITTLE, own, (1, 2), 100, 7),
        (many, own, (1, 2), 1000, 7),
        (LITTLE, silent, (250, 100), 100, 0),
        (many, silent, (1, 10), 1000, 5),
    ):
        monkeypatch.setattr("snnjax.data.load", lambda *_, data=data: data)
        monkeypatch.setitem(NETWORKS, "own", lambda images, network=network: network)
        for given in (None, False):
            chosen = Named(model="own"), Data(), Epochs(shuffle=given), Machine()
            settings = planning.plan_run(*chosen, out=None)[0].trainer().settings
            assert (settings.epochs, settings.adapt_every, settings.patience) == (epochs, batch, patience)
            assert (settings.shuffle, settings.mirror) == (given is None and network.shuffle, False)
        in_python = Trainer(network, data).settings
        assert (
            in_python
            == Settings.of(network, data).resolved([network])
            == dataclasses.replace(settings, shuffle=network.shuffle)
        )


def test_no_cpp_is_compiled_for_xla(monkeypatch):
    monkeypatch.setattr("snnjax.data.load", lambda *_: LITTLE)
    monkeypatch.setattr(native, "load", lambda: pytest.fail("compiled"))
    network = Named(model=f"{tiny.__file__}:plain")
    plan, _ = planning.plan_run(network, Data(), Epochs(), Machine(backend="xla"), out=None)
    assert plan.settings.backend == "xla"

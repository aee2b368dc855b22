"""Trainings that start from a trained network: its layers are taken as they are, or it is refused."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

import snnjax
from snnjax import RSTDP, STDP, Conv, InputError, Network, Settings, SpikingNetwork, TargetTime, Trainer, stage
from snnjax.core.components import component, learnable
from snnjax.runs.run_folder import RunFolder

IMAGES = tiny.images()
PLAIN = tiny.plain(snnjax.ImageSpec())
FIRST, LAST = PLAIN.stages
CONV = FIRST.branches[0]
THRESHOLDS = dataclasses.replace(
    CONV, threshold=9.0, learners=TargetTime(threshold_min=0.5), competition=Conv(1, 1).competition
)
DEEPER = Conv(20, kernel=2, threshold=2, learners=STDP())


def trainer_of(network: Network, *epochs: int, **others) -> Trainer:
    return Trainer(network, IMAGES, Settings(epochs, adapt_every=20, patience=0, seed=1), **others)


def test_layers_are_taken_with_learned_thresholds_and_a_deeper_layer_learns(tmp_path):
    """Stopped within the deeper layer, the run ends as one that was not."""
    network = dataclasses.replace(PLAIN, stages=(stage(THRESHOLDS, pool=7), LAST))
    first = trainer_of(network, 1, 0)
    trained = first.trained(first.run(first.initial_state()))
    taken = trained.model.layers["layer1"]
    assert np.unique(taken.conv.threshold).size > 1
    readout = dataclasses.replace(LAST.branches[0], kernel=3, learners=RSTDP(bounds=(0.0, 1.0)))
    other_rule = dataclasses.replace(THRESHOLDS, learners=TargetTime(threshold_min=0.25))
    deeper = dataclasses.replace(PLAIN, stages=(stage(other_rule, pool=7), stage(DEEPER), stage(readout)), epochs=())
    trainer = trainer_of(deeper, 1, 2, 1, start=trained)
    with RunFolder(tmp_path / "whole", trainer) as run:
        results = run.run()
    rule = "with layer1.learners.threshold_min 0.5 (now 0.25)"
    source = run.settings["start"]
    assert run.notes == [f"layer1 as learned by {source}, {rule}", "reinitialised: layer2, layer3 (other layers)"]
    layers = dict(frozen=["layer1"], continued=[], anew=["layer2", "layer3"])
    names = list(map(str, range(10)))
    assert results["start"] == dict(source=source, sha256=source[7:], class_names=names, **layers)
    names = {phase["name"] for phase in results["phases"]}
    assert "STDP layer2" in names
    assert not [name for name in names if "layer1" in name]
    found = snnjax.load(tmp_path / "whole").model.layers["layer1"]
    jax.tree.map(np.testing.assert_array_equal, (found.conv, found.weights), (taken.conv, taken.weights))

    def stop(state):
        stopped.save(state)
        raise KeyboardInterrupt

    with RunFolder(tmp_path / "stopped", trainer) as stopped, pytest.raises(KeyboardInterrupt):
        trainer.run(stopped.start(), stop)
    with RunFolder(tmp_path / "stopped", trainer, resume=True) as run:
        assert run.run()["epochs"] == results["epochs"]


def changed(first: Conv = CONV, pool: int = 7, **others) -> Network:
    return dataclasses.replace(PLAIN, **dict(stages=(stage(first, pool=pool), LAST)) | others)


LARGE = changed(pool=7, input_shape=(6, 30, 30))
ALONE = dataclasses.replace(PLAIN, stages=(stage(dataclasses.replace(LAST.branches[0], kernel=28)),), epochs=(1,))


@pytest.mark.parametrize(
    ("network", "difference"),
    [
        (changed(dataclasses.replace(CONV, features=5)), r"layer1\.features 4 \(now 5\)$"),
        (changed(dataclasses.replace(CONV, threshold=40)), r"layer1\.threshold 50\.0 \(now 40\.0\)"),
        (changed(dataclasses.replace(CONV, threshold=np.full(4, 50.0))), r"layer1\.threshold 50\.0 \(now \{'array'"),
        (changed(pool=6), r"stage1\.pool\.window 7 \(now 6\)"),
        (changed(stages=(stage(CONV, CONV, pool=7), LAST)), r"layer1 \{.* \(now None\)"),
        (changed(time_steps=9), r"time_steps 15 \(now 9\), encoder\.time_steps 15 \(now 9\)"),
        (LARGE, r"input 6x28x28 \(now 6x30x30\)"),
    ],
)
def test_differences_are_named(finished, network, difference):
    more = [(0, 0)] + 2 * [(0, network.input_shape[1] - 28)]
    images = {part: np.pad(getattr(IMAGES, part), more) for part in ("train_images", "test_images")}
    data = dataclasses.replace(IMAGES, **images)
    with pytest.raises(InputError, match=rf"`start` \(--from\) must fit layer1.* of plain, it has {difference}"):
        Trainer(network, data, Settings((1,) * len(network.stages)), start=snnjax.load(finished))


def test_networks_without_common_layers_are_refused(finished):
    trained = snnjax.load(finished)
    with pytest.raises(InputError, match=r"must share layers before the readout with the network, got plain for"):
        trainer_of(ALONE, 1, start=trained)
    with pytest.raises(TypeError, match=r"`start` must be a SpikingNetwork, got .*: write snnjax\.load\(run\)"):
        trainer_of(PLAIN, 1, 1, start=finished)


def test_what_a_rule_has_learned_is_no_difference(finished):
    """A number, too, such as one threshold of all features."""
    trained = snnjax.load(finished)
    place = "stages.0.branches.0.threshold"
    learned = changed(dataclasses.replace(CONV, threshold=40.0), encoder=trained.network.encoder)
    start = SpikingNetwork(learned, weights=trained.weights(), initial={place: 50.0})
    trainer = trainer_of(PLAIN, 1, 1, start=start)
    assert trainer.network.stages[0].branches[0].threshold == 40.0


# Layers that go on


def of_classes(*names: str) -> snnjax.data.Dataset:
    """The images of these classes, with these names in place of numbers."""
    parts = {}
    for part in ("train", "test"):
        labels = getattr(IMAGES, f"{part}_labels")
        kept = np.isin(labels, [int(name[-1]) for name in names])
        order = {int(name[-1]): number for number, name in enumerate(names)}
        parts[f"{part}_images"] = getattr(IMAGES, f"{part}_images")[kept]
        parts[f"{part}_labels"] = np.array([order[label] for label in labels[kept]], np.int32)
    return snnjax.data.Dataset("some", **parts, class_names=names)


def trained_on(data: snnjax.data.Dataset, **others) -> SpikingNetwork:
    network = PLAIN.with_classes(data.classes)
    trainer = Trainer(network, data, Settings((1, 1), adapt_every=20, patience=0, seed=1), **others)
    return trainer.trained(trainer.run(trainer.initial_state()))


def neurons(network: SpikingNetwork, name: str) -> np.ndarray:
    """The weights of the neurons of a class."""
    weights = np.asarray(network.weights()["layer2"])
    return weights.reshape(network.network.classes, -1, *weights.shape[1:])[network.class_names.index(name)]


def test_a_readout_goes_on_with_the_same_classes_in_any_order():
    first = trained_on(of_classes("a1", "b2", "c3"))
    data = of_classes("c3", "a1", "b2")
    trainer = Trainer(first.untrained, data, Settings((1, 1), adapt_every=20, patience=0), start=first)
    state = trainer.initial_state()
    assert [phase.layers for phase in trainer.job.phases] == [("layer2",)]
    begun = SpikingNetwork(trainer.network, weights=state.weights, class_names=data.names)
    for name in data.names:
        np.testing.assert_array_equal(neurons(begun, name), neurons(first, name))
    ended = trainer.trained(trainer.run(state))
    assert not np.array_equal(ended.weights()["layer2"], begun.weights()["layer2"])
    np.testing.assert_array_equal(ended.weights()["layer1"], first.weights()["layer1"])


def test_new_classes_get_neurons_of_their_own():
    first = trained_on(of_classes("b1", "d2"))
    data = of_classes("a0", "b1", "c3", "d2")
    network = first.untrained.with_classes(4)
    how = dict(settings=Settings((1, 1), adapt_every=20, patience=0, seed=3), start=first)
    trainer = Trainer(network, data, **how, add_classes=True)
    begun = SpikingNetwork(trainer.network, weights=trainer.initial_state().weights, class_names=data.names)
    for name in ("b1", "d2"):
        np.testing.assert_array_equal(neurons(begun, name), neurons(first, name))
    drawn = SpikingNetwork(network, weights=network.initial_weights(3), class_names=data.names)
    for name in ("a0", "c3"):
        np.testing.assert_array_equal(neurons(begun, name), neurons(drawn, name))
    anew = Trainer(network, data, **how)
    assert anew.warm_start.why == "other classes, with a0, c3: --add_classes would keep what was learned"
    np.testing.assert_array_equal(anew.initial_state().weights["layer2"], drawn.weights()["layer2"])


def test_the_stages_that_are_named_go_on():
    """With their learned thresholds."""
    data = of_classes("a0", "b1")
    network = dataclasses.replace(PLAIN, stages=(stage(THRESHOLDS, pool=7), LAST)).with_classes(2)
    settings = Settings((1, 1), adapt_every=20, patience=0)
    trainer = Trainer(network, data, settings)
    first = trainer.trained(trainer.run(trainer.initial_state()))
    again = Trainer(network, data, settings, start=first, learn=("stage1", "stage2"))
    assert [phase.layers for phase in again.job.phases] == [("layer1",), ("layer2",)]
    learned = first.network.stages[0].branches[0].threshold
    np.testing.assert_array_equal(again.network.stages[0].branches[0].threshold, learned)
    ended = again.trained(again.run(again.initial_state()))
    assert not np.array_equal(ended.network.stages[0].branches[0].threshold, learned)
    assert ended.untrained == first.untrained
    for name, weights in first.weights().items():
        assert not np.array_equal(ended.weights()[name], weights)


@component
class Counting(RSTDP):
    """A rule with a number that it learns for each neuron."""

    wins: float | np.ndarray = learnable(default=0.0)


def test_numbers_of_neurons_move_and_grow_with_the_classes():
    """Whatever they are; and a run says that classes come in another order."""
    data = of_classes("a0", "c2", "b1")
    counting = dataclasses.replace(LAST.branches[0], features=4, learners=Counting(wins=np.arange(4.0)))
    network = dataclasses.replace(PLAIN, classes=2, stages=(FIRST, stage(counting)), encoder=data.encoder)
    with pytest.raises(InputError, match=r"`learners\.wins` of a layer that decides must be one number"):
        network.with_classes(3)
    first = SpikingNetwork(network, class_names=("b1", "a0"), initial={"stages.1.branches.0.learners.wins": 0.0})
    trainer = Trainer(first.untrained.with_classes(3), data, Settings((1, 1)), start=first, add_classes=True)
    assert trainer.network.stages[1].branches[0].learners.wins.tolist() == [2, 3, 0, 0, 0, 1]
    weights = first.weights()["layer2"]
    np.testing.assert_array_equal(trainer.initial_state().weights["layer2"][[4, 5, 0, 1]], weights)
    sentences = ["new neurons for c2", "classes are in another order than there: neurons move with their classes"]
    assert trainer.warm_start.notes("there")[2:] == sentences


def test_a_layer_that_learned_from_reward_may_stay_as_it_is():
    """Then the others take no turns with it."""
    rewarded = Conv(20, kernel=2, threshold=2, learners=RSTDP())
    stages = FIRST, stage(rewarded), stage(dataclasses.replace(LAST.branches[0], kernel=3))
    network = dataclasses.replace(PLAIN, stages=stages, epochs=(), reward_by_turns=True, encoder=IMAGES.encoder)
    first = SpikingNetwork(network)
    trainer = trainer_of(network, 0, 0, 1, start=first, learn=("stage3",))
    assert [(phase.layers, phase.first, phase.by_turns) for phase in trainer.job.phases] == [(("layer3",), 2, False)]
    ended = trainer.trained(trainer.run(trainer.initial_state())).weights()
    assert not np.array_equal(ended["layer3"], first.weights()["layer3"])
    assert [phase.by_turns for phase in trainer_of(network, 0, 0, 1, start=first).job.phases] == [True]


@pytest.mark.parametrize(
    ("names", "options", "error"),
    [
        (("a0", "c2"), dict(add_classes=True), r"`add_classes` \(--add_classes\) must keep .*, the data lack b1"),
        (("a0", "b1"), dict(learn=("stage1",)), r"`learn` \(--learn\) must name stage2 too, got stage1: .* must learn"),
        (("a0", "b1"), dict(learn=("stage3",)), "`learn` must be .*stage1.*stage2.*stage3"),
        (("a0", "b1"), dict(add_classes=True), "is for data with new classes, got those of `start`"),
    ],
)
def test_what_cannot_go_on_is_refused(names, options, error):
    first = trained_on(of_classes("a0", "b1"))
    with pytest.raises(InputError, match=error):
        Trainer(first.untrained, of_classes(*names), start=first, **options)
    with pytest.raises(InputError, match=r"`learn` .* need `start` \(--from\), got none"):
        Trainer(first.untrained, of_classes("a0", "b1"), **options)

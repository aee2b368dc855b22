"""Whole trainings of small networks: they learn, stop, and continue from any state as if they had never stopped."""

import collections
import copy
import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import own_classes
import pytest
import tiny
from refusals import assert_refused
from same import assert_same_state

from snnjax import ImageSpec, component, load
from snnjax.core import files, metrics
from snnjax.core.errors import InputError
from snnjax.encoding import Pixels
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.pool import Pool
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, convergence
from snnjax.learners.protocol import default_figures
from snnjax.networks import NETWORKS, Flatten, Input, Network, SpikingNetwork, stage
from snnjax.networks.graph import Activations
from snnjax.runs import RunFolder
from snnjax.training import epoch_results, learning_phase
from snnjax.training.advice import describe, describe_winners, diagnose_decisions, diagnose_outputs
from snnjax.training.groups import named
from snnjax.training.learning_phase import key_of
from snnjax.training.loop import Trainer
from snnjax.training.run_plan import network_for
from snnjax.training.state import Callback, Settings, TrainState
from snnjax.training.sweep import Sweep

SHAPE = (6, 28, 28)
SHALLOW = tiny.plain(ImageSpec())
BRANCHES = tiny.branches(ImageSpec())
DECIDING = SHALLOW.stages[-1].branches[0]
REWARDED = RSTDP(bounds=(0, 1))
"""Initial weights lie within its bounds: no other program learns until they do."""
BOTH = dataclasses.replace(tiny.FIRST, learners=(tiny.FIRST.learners, REWARDED))
BY_TURNS = Network("by turns", SHAPE, 10, (stage(BOTH, pool=7), stage(DECIDING)), reward_by_turns=True)
LATE_STAGES = (
    stage(dataclasses.replace(tiny.FIRST, learners=REWARDED), pool=7),
    stage(Conv(6, kernel=2, threshold=2, competition=WTA(4, radius=1), learners=tiny.FIRST.learners)),
    stage(Conv(20, kernel=3, learners=dataclasses.replace(REWARDED, dropout=0.25, floor=0.25, by_epoch=True))),
)
LATE = Network("late", SHAPE, 10, LATE_STAGES)
"""A stage that learns by STDP after one that learns by reward alone."""
DATA = tiny.images()


def test_a_run_that_failed_begins_anew_or_continues_as_if_it_had_not_stopped(tmp_path):
    """By the same trainer, which keeps no outputs of layers of the run that failed, or by a new one.

    Images come in orders of the epochs; the features of the next epoch that may fire are part of the state.
    """
    data = DATA.subset(20, 40)  # and their mirror images: the encoder is compiled for 40
    settings = Settings((0, 2, 2), adapt_every=10, patience=0, update_batch=8, shuffle=True, mirror=True)
    trainer = Trainer(LATE, data, settings)
    initial = trainer.initial_state()
    expected = trainer.run(trainer.initial_state())
    for name, weights in expected.weights.items():
        assert np.any(weights != initial.weights[name]), f"{name} has learned nothing"
    for at in range(len(trainer.job.phases) + 4):
        trainer = Trainer(LATE, data, settings)
        saved = []

        def fail(state):
            files.save_checkpoint(tmp_path / "saved.npz", *state.flatten())
            saved.append(state)
            if len(saved) > at:
                raise OSError("the disk is full")

        with pytest.raises(OSError, match="the disk is full"):
            trainer.run(trainer.initial_state(), fail)
        state = TrainState.unflatten(*files.load_checkpoint(tmp_path / "saved.npz"))
        assert_same_state(trainer.run(copy.deepcopy(state)), expected)
        assert_same_state(Trainer(LATE, data, settings).run(state), expected)
    different = Trainer(LATE, data, dataclasses.replace(settings, seed=1)).initial_state()
    assert_same_state(trainer.run(copy.deepcopy(different)), Trainer(LATE, data, settings).run(different))


@pytest.mark.slow
def test_a_layer_that_waits_for_its_turn_stays_outside_the_bounds():
    """The decision layer learns from the second batch on, and its initial weights reach above its bounds till then."""
    for adapt_every in (16, 1000):
        state = tiny.trained(BY_TURNS, DATA, Settings((1, 2), adapt_every=adapt_every, patience=0))
        assert state.weights["layer2"].max() <= DECIDING.learners.bounds[1], adapt_every


def test_bounds_that_allow_other_kernels_are_no_mere_numbers():
    """Weights that may become negative need other programs, whichever network comes first in a sweep."""
    settings = Settings((1, 1), adapt_every=20, patience=0)
    path = "layer1.learners.bounds.0"
    rough = dataclasses.replace(tiny.FIRST, threshold=3, learners=STDP(ltp=0.1, ltd=-0.3, stabiliser=False))
    last = dataclasses.replace(DECIDING, learners=REWARDED)
    network = dataclasses.replace(SHALLOW, stages=(stage(rough, pool=7), stage(last)))
    states = []
    for group in Sweep(network, DATA, settings, [{path: 0.0}, {path: -1.0}]).groups():
        trainer = group.trainer(DATA, settings, None, [0])
        states.append(trainer.run(trainer.initial_state()).trained)
    other = network.vary(path, -1.0)
    alone = tiny.trained(other, DATA, settings).trained
    for name, weights in alone.weights.items():
        np.testing.assert_allclose(states[1].weights[name], weights, atol=1e-6)
    assert alone.weights["layer1"].min() < -0.5 < states[0].weights["layer1"].min()
    with pytest.raises(ValueError, match="`networks` must differ only in numbers"):
        Trainer([network, other], DATA, settings)


@pytest.mark.parametrize(
    ("accuracies", "patience", "length", "best"),
    [
        ([0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.9, 0.9], 2, 6, 2),
        ([0.5, 0.7, 0.7, 0.6, 0.1, 0.2, 0.9, 0.9], 0, 8, 7),
    ],
)
def test_patience_and_the_best_network(monkeypatch, accuracies, patience, length, best):
    """Stops when the best epoch lies more than `patience` back; among equals the later network is the best."""
    script = iter(accuracies)

    def fractions(decisions, labels):
        truth = metrics.fractions(decisions, labels)
        return dict(truth, accuracy=next(script)) if labels is DATA.test_labels else truth

    monkeypatch.setattr(epoch_results, "fractions", fractions)
    trainer = Trainer(SHALLOW, DATA, Settings((2, 8), adapt_every=20, patience=patience))
    seen = []
    state = trainer.run(trainer.initial_state(), lambda state: seen.append(dict(state.weights)))
    assert (len(state.epochs), state.best_epoch) == (length, best)
    jax.tree.map(np.testing.assert_array_equal, state.best, {name: seen[3 + best][name] for name in state.best})
    assert any(np.any(seen[3][name] != seen[2 + length][name]) for name in state.best), "all epochs are alike"


def test_callbacks_hear_of_every_image_and_of_what_phases_show():
    promised, heard, epochs, right, shown = {}, collections.Counter(), [], [], {}

    def advanced(images, correct):
        heard[[*promised][-1]] += images
        right.append(correct)

    callback = Callback()
    callback.started = promised.__setitem__
    callback.advanced = advanced
    callback.tested = epochs.append
    callback.diagnosed = shown.__setitem__
    trainer = Trainer(SHALLOW, DATA, Settings((2, 3), adapt_every=20), callback)
    state = trainer.run(trainer.initial_state())
    images = {"encode": 80, "STDP layer1": 80, "outputs of stage 1": 40, "outputs of stage 1, test": 40}
    assert heard == promised == images | {"R-STDP": 120}
    assert epochs == state.epochs
    assert right[-3:] == [round(40 * each["train"]["accuracy"]) for each in state.epochs]
    assert {phase["name"]: phase["images"] for phase in state.phases} == dict(heard, test=120)
    assert state.diagnoses == shown
    assert shown.keys() == {"STDP layer1", "outputs of stage 1", "R-STDP"}
    learned = shown["STDP layer1"]
    assert 0 < sum(learned["wins"]["layer1"]) <= 40 * 2, "of one epoch, two winners to an image"
    assert learned["convergence"]["layer1"] == convergence(state.weights["layer1"])
    model = SpikingNetwork(trainer.network, weights=state.weights).model
    latencies = jax.vmap(lambda image: model.output_of(1, Activations({0: model.encode(image)})))(DATA.train_images)
    share = np.mean(np.array(latencies) < SHALLOW.time_steps)
    assert shown["outputs of stage 1"]["firing"]["layer1"] == pytest.approx(share)


WIDE = dataclasses.replace(DATA, train_labels=np.arange(40) % 11, classes=11)
LOW = dataclasses.replace(DATA, train_images=DATA.train_images[:, 1:], test_images=DATA.test_images[:, 1:])


def test_bad_arguments_are_named():
    assert_refused(
        (lambda: Trainer(SHALLOW, DATA, Settings((1, 2, 3))), r"`epochs` must be 2 numbers for plain, got 3"),
        (lambda: Settings((1, 1), adapt_every=0), "`adapt_every` .*got 0"),
        (lambda: Settings((1, 1), seed=-1), "`seed` .*got -1"),
        (
            lambda: Trainer(SHALLOW, WIDE, Settings((1, 1))),
            "`classes` of the network must be 11, got 10: digits has 11",
        ),
        (
            lambda: Trainer(SHALLOW, LOW, Settings((1, 1))),
            r"accepts inputs of shape \(6, 28, 28\), .*encoded as \(6, 27, 28\)",
        ),
        (
            lambda: Trainer([SHALLOW, SHALLOW], DATA, Settings((1, 1)), seeds=[1]),
            "`seeds` must have one value for each of 2 networks, got 1",
        ),
    )


def test_seeds_of_up_to_64_bits_draw_keys_that_differ():
    """Those below 2**32 are the keys that they were before."""
    assert key_of(3, 2**32 - 1).tolist() == [3, 2**32 - 1]
    assert named({"seed": 2**64 - 1}) == "seed=18446744073709551615"
    seeds = (0, 1, 2**32, 2**32 + 1, 2**64 - 1)
    keys = [key_of(*each) for each in itertools.product((0, 1), seeds, (0, 1))]
    assert {(key.dtype, key.shape) for key in keys} == {(np.dtype(np.uint32), (2,))}
    assert len({(*key.tolist(),) for key in keys}) == len(keys)


def test_a_branch_continues_from_the_images_of_the_one_before():
    trainer = Trainer(BRANCHES, DATA, Settings((1, 3, 1)))
    state = trainer.initial_state()
    for phase, shown in enumerate((0, 0, 3 * 40 % 50)):
        state.phase = phase
        assert [*learning_phase.carry_at_start(trainer.job, state, 0).states.values()] == [shown]


def test_a_trained_network_is_trained_again_by_its_recipe(tmp_path):
    """Its description holds the thresholds that it has learned, from which nothing fires."""
    network = dataclasses.replace(network_for(NETWORKS["goupy2024_s2stdp"], DATA), epochs=(1, 2))
    trainer = Trainer(network, DATA)
    with RunFolder(tmp_path / "run", trainer) as run:
        results = run.run()
    loaded = load(tmp_path / "run")
    assert loaded.network != trainer.network
    with pytest.warns(UserWarning, match=r"numbers that are learned in layer1.*`load\(run\)\.untrained`"):
        Trainer(loaded.network, DATA).initial_state()
    again = Trainer(loaded.untrained, DATA)
    assert again.network == trainer.network
    state = again.run(again.initial_state())
    assert state.epochs == results["epochs"]
    assert again.test(state) == results["test"]


def test_each_learner_of_a_layer_has_a_key_of_its_own(monkeypatch):
    trainer = Trainer(BY_TURNS, DATA, Settings((1, 1), update_batch=2**31 - 1, backend="xla"))
    assert trainer.job.phases[0].update_batch == 40, "of no more images than there are"
    assert trainer.layers_without_native() == ["layer1 (STDP)", "layer1 (RSTDP)", "layer2 (RSTDP)"]
    for rule in (STDP, RSTDP):
        monkeypatch.setattr(rule, "init", lambda self, layer, key, seen: key)
    assert learning_phase.carry_at_start(trainer.job, trainer.initial_state(), 0).states["layer1"].tolist() == [0, 0]
    keys = learning_phase.carry_at_start(trainer.job, dataclasses.replace(trainer.initial_state(), phase=1), 0).states
    assert {name: key.tolist() for name, key in keys.items()} == dict(layer1=[1 << 16, 0], layer2=[1, 0])


def test_metrics_by_hand():
    decisions = np.array([0, 1, 0, -1, 1, 2, -1, 0])
    labels = np.array([0, 1, 1, 2, 2, 2, 0, 0])
    assert metrics.fractions(decisions, labels) == dict(accuracy=0.5, wrong=0.25, silent=0.25)
    scores = np.eye(3)[decisions] * (decisions >= 0)[:, None] + 0.5 * (labels == 2)[:, None]
    report = metrics.report(decisions, labels, scores)
    assert report["confusion_matrix"] == [[2, 0, 0], [1, 1, 0], [0, 1, 1]], "labels in rows"
    classes = report["classes"]
    assert (classes["precision"], classes["images"]) == ([2 / 3, 0.5, 1], [3, 2, 3])
    assert classes["recall"] == pytest.approx([2 / 3, 1 / 2, 1 / 3])
    assert report["f1"] == pytest.approx(np.mean([2 / 3, 0.5, 0.5]))
    # Class 1 against the rest: 1 and -1 for its images; -1, 0, 0.75, -0.6, 0, -1 for the others.
    assert classes["roc_auc"][1] == pytest.approx((6 + 1) / 12)
    assert report["roc_auc"] == pytest.approx(np.mean(classes["roc_auc"]))
    one_class = metrics.report(np.ones(2, int), np.ones(2, int), np.ones((2, 2)))
    assert (one_class["roc_auc"], one_class["f1"]) == (None, 1), "classes without images count for nothing"


# What phases show, in figures and words


def figures_of(conv: Conv, weights: np.ndarray, info: np.ndarray) -> tuple[dict[str, Any], str]:
    """Figures and sentences."""
    layer = Layer(conv, weights, SHALLOW.time_steps)
    figures = conv.learners.diagnose(layer, info)
    return figures, "; ".join(describe("layer1", layer, conv.learners, figures))


def test_plainly_bad_thresholds_are_named():
    """Too low in the branch whose neurons nearly all fire."""
    won = np.full((10, 2), -1)
    won[0] = 1
    assert "15 is too high" in figures_of(tiny.FIRST, np.full(4, 0.8), won)[1]
    branches = stage(tiny.FIRST, dataclasses.replace(tiny.FIRST, threshold=0.01), pool=7)
    network = dataclasses.replace(SHALLOW, stages=(branches, SHALLOW.stages[1]))
    fired = np.arange(10 * 8 * 49).reshape(10, 8, 7, 7) % 3 == 0
    fired[:, 4:] = True
    diagnosis = diagnose_outputs(network, 0, fired, {})
    assert [word for word in diagnosis["words"] if "too" in word] == [
        "the threshold 0.01 of layer1_2 is too low: nearly every neuron fires"
    ]
    assert diagnosis["firing"] == dict(layer1_1=pytest.approx(1 / 3, abs=0.01), layer1_2=1.0)
    assert diagnosis["silent"] == 0
    assert "50 of layer1 is too high" in diagnose_outputs(SHALLOW, 0, np.zeros((10, 4, 7, 7), bool), {})["words"][-1]


def test_figures_by_hand():
    won = np.array([[0, 1], [0, -1], [0, 3], [-1, -1]])
    figures, words = figures_of(tiny.FIRST, np.array([0.0, 1.0, 0.5, 0.5]), won)
    assert (figures["wins"], figures["silent"], figures["never_won"]) == ([3, 1, 0, 1], 0.25, 1)
    assert figures["convergence"] == pytest.approx(0.125)
    assert "1 of 4 features never won (2); 0 won more than 5 times" in words
    assert "0.125, not converged yet" in words
    assert "0.000, converged" in figures_of(tiny.FIRST, np.ones(4), won)[1]
    conv = Conv(3, kernel=3, learners=RSTDP(bounds=(0.2, 0.8)))
    figures, words = figures_of(conv, np.array([0.2, 0.8, 0.5, 0.2]), dict(feature=np.zeros((4, 1), int)))
    assert figures["convergence"] == pytest.approx(0.0625)
    assert "2 of 3 features of layer1 never won (1, 2)" in words
    diagnosis = diagnose_decisions(["cat", "dog", "owl"], np.array([0, 0, -1, 2]), dict(words=[words]))
    assert (diagnosis["silent"], diagnosis["decided"], diagnosis["never_decided"]) == (0.25, [2, 0, 1], 1)
    assert "1 of 3 classes were never predicted (dog)" in diagnosis["words"]


def test_custom_rules_are_diagnosed_by_their_winners():
    """Five of 32 features win almost always; a tenth of the images is silent; half of the weights are at a bound."""
    layer = Layer(Conv(32, kernel=3, threshold=15), np.zeros((32, 1, 3, 3)), SHALLOW.time_steps)
    layer = dataclasses.replace(layer, weights=np.where(np.arange(32) < 16, 0.995, 0.5)[:, None, None, None])
    won = np.tile([3, 8, 9, 20, 31], (100, 1))
    won[0] = range(5)
    won[90:] = -1
    figures = default_figures(layer, (0.0, 1.0), won)
    assert (figures["at_bounds"], figures["silent_images"], figures["never_won"]) == (0.5, 0.1, 23)
    assert figures["weights_mean"] == pytest.approx(0.7475)
    assert (figures["wins"][3], sum(figures["wins"])) == (90, 450)
    words = "; ".join(describe_winners("layer1", layer, figures))
    assert "10.0 % of the images had no winner in layer1" in words
    assert "5 won more than 5 times as often as the mean (3, 8, 9, 20, 31)" in words
    assert "50 % of the weights of layer1 lie at their bounds" in words
    assert "most features never win" in words
    silent = default_figures(layer, None, np.full((10, 2), -1))
    assert "at_bounds" not in silent
    assert describe_winners("layer1", layer, silent)[-1] == "the threshold 15 of layer1 is too high: try a lower one"
    assert default_figures(layer, (-np.inf, 0.6), None).keys() == {"weights_mean", "at_bounds"}


@component
class WithFigures(own_classes.Hebb):
    """One whose info holds nothing of the winners, and which adds figures."""

    def update(self, layer, state, latency, response, signal):
        layer, state, _ = super().update(layer, state, latency, response, signal)
        return layer, state, dict(mean=latency.mean())

    def diagnose(self, layer, info):
        return dict(lateness=info["mean"].mean(), wins=[1, 2, 3, 4])


def test_winners_of_custom_rules_are_counted_whatever_they_report():
    """Of features and of readouts; a rule's own figures replace them. Rules of the library have theirs alone."""
    network = tiny.with_first(tiny.plain(ImageSpec()), learners=own_classes.Hebb())
    last = Conv(20, kernel=4, learners=own_classes.Teacher())
    custom = dataclasses.replace(network, stages=(network.stages[0], stage(last)))
    trainer = Trainer(custom, DATA, Settings((1, 1), patience=0, update_batch=3))
    state = trainer.run(trainer.initial_state())
    features = state.diagnoses["Hebb layer1"]
    readout = state.diagnoses["Teacher"]
    assert 0 < features["silent_images"]["layer1"] < 1
    assert sum(features["wins"]["layer1"]) >= round(40 * (1 - features["silent_images"]["layer1"]))
    assert state.curves["Hebb layer1"]["layer1"]["at_bounds"] == [features["at_bounds"]["layer1"]]
    decided = np.reshape(readout["wins"]["layer2"], (10, 2)).sum(axis=1)
    assert decided.tolist() == readout["decided"], "the neuron that a vote follows is of the class decided for"
    assert readout["silent_images"]["layer2"] == readout["silent"]
    assert any("features of layer2 never won" in words for words in readout["words"])

    own = tiny.trained(tiny.with_first(network, learners=WithFigures()), DATA, Settings((1, 0), update_batch=3))
    found = own.diagnoses["WithFigures layer1"]
    assert found["wins"] == dict(layer1=[1, 2, 3, 4])
    assert found["silent_images"] == features["silent_images"]
    assert any(words.startswith("lateness of layer1 is ") for words in found["words"])
    plain = tiny.trained(tiny.plain(ImageSpec()), DATA, Settings((1, 1), patience=0))
    assert not any("silent_images" in figures for figures in plain.diagnoses.values())


def test_a_first_stage_that_pools_or_joins_is_predicted_as_it_is_called():
    """Under a decision that asks only who fires."""
    for join, kernel in (
        (dict(inputs=Input("encoder", pool=Pool(2))), 14),
        (dict(inputs="encoder", join=Flatten()), 1),
    ):
        last = stage(Conv(20, kernel, weight_mean=0.5, learners=REWARDED), **join)
        description = Network("first", (1, 28, 28), 10, (last,), encoder=Pixels(15))
        trainer = Trainer(description, DATA, Settings((1,), adapt_every=20))
        state = trainer.run(trainer.initial_state())
        decisions, _ = trainer.predict(state, DATA.test_images)
        network = trainer.trained(state)
        assert decisions[:8].tolist() == [int(network(image)) for image in DATA.test_images[:8]]
        assert len({*decisions[:8].tolist()}) > 1, "the case tells nothing"


def test_several_networks_are_trained_and_described_each_by_itself():
    networks = [SHALLOW, SHALLOW.vary("layer1.threshold", 5.0)]
    trainer = Trainer(networks, DATA, Settings((1, 1), patience=0))
    states = trainer.run([trainer.initial_state(index) for index in range(2)])
    assert [trainer.trained(state, index).network.stages for index, state in enumerate(states)] == [
        network.stages for network in networks
    ]
    for refused, message in (
        (lambda: Trainer([], DATA), "got none"),
        (
            lambda: Trainer(networks, DATA, Settings((1, 1))),
            "`patience` must be 0, got 5: several networks stop together",
        ),
        (lambda: Trainer(networks, DATA, start=trainer.trained(states[0])), "`start` is for one network, got 2"),
    ):
        with pytest.raises(InputError, match=message):
            refused()

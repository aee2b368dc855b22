"""Trainings that start from a trained network: its layers are taken as they are, or it is refused."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

import snnjax
from snnjax import RSTDP, STDP, Conv, InputError, Network, Settings, SpikingNetwork, TargetTime, Trainer, stage
from snnjax.runs.run_folder import RunFolder

IMAGES = tiny.images()
PLAIN = tiny.plain(snnjax.Images())
FIRST, LAST = PLAIN.stages
CONV = FIRST.branches[0]
THRESHOLDS = dataclasses.replace(
    CONV, threshold=9.0, learners=TargetTime(threshold_min=0.5), competition=Conv(1, 1).competition
)
DEEPER = Conv(20, kernel=2, threshold=2, learners=STDP())


def trainer_of(spec: Network, *epochs: int, **others) -> Trainer:
    return Trainer(spec, IMAGES, Settings(epochs, batch_size=20, patience=0, seed=1), **others)


def test_layers_are_taken_with_learned_thresholds_and_a_deeper_layer_learns(tmp_path):
    """Stopped within the deeper layer, the run ends as one that was not."""
    spec = dataclasses.replace(PLAIN, stages=(stage(THRESHOLDS, pool=7), LAST))
    first = trainer_of(spec, 1, 0)
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
    assert run.notes == [f"layer1 as learned by {run.settings['start']}, {rule}; without labels, layer2 will learn"]
    assert results["taken"] == dict(layer1=run.settings["start"])
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
    other = SpikingNetwork(trained.spec, weights={name: x[::-1] for name, x in trained.weights().items()})
    for start, got in ((None, "None"), (other, "sha256")):
        with pytest.raises(InputError, match=rf"other settings or data: it had start sha256:.* \(now {got}"):
            RunFolder(tmp_path / "stopped", trainer_of(deeper, 1, 2, 1, start=start), resume=True)
    with RunFolder(tmp_path / "stopped", trainer, resume=True) as run:
        assert run.run()["epochs"] == results["epochs"]


def changed(first: Conv = CONV, pool: int = 7, **others) -> Network:
    return dataclasses.replace(PLAIN, **dict(stages=(stage(first, pool=pool), LAST)) | others)


LARGE = changed(pool=7, input_shape=(6, 30, 30))
ALONE = dataclasses.replace(PLAIN, stages=(stage(dataclasses.replace(LAST.branches[0], kernel=28)),), epochs=(1,))


@pytest.mark.parametrize(
    ("spec", "difference"),
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
def test_differences_are_named(finished, spec, difference):
    more = [(0, 0)] + 2 * [(0, spec.input_shape[1] - 28)]
    images = {part: np.pad(getattr(IMAGES, part), more) for part in ("train_images", "test_images")}
    data = dataclasses.replace(IMAGES, **images)
    with pytest.raises(InputError, match=rf"`start` \(--from\) must fit layer1.* of plain, it has {difference}"):
        Trainer(spec, data, Settings((1,) * len(spec.stages)), start=snnjax.load(finished))


def test_networks_without_common_layers_are_refused(finished):
    trained = snnjax.load(finished)
    with pytest.raises(
        InputError, match=r"must share layers that learn without labels with the network, got plain for"
    ):
        trainer_of(ALONE, 1, start=trained)
    with pytest.raises(TypeError, match=r"`start` must be a SpikingNetwork, got .*: write snnjax\.load\(run\)"):
        trainer_of(PLAIN, 1, 1, start=finished)


def test_what_a_rule_has_learned_is_no_difference(finished):
    """A number, too, such as one threshold of all features."""
    trained = snnjax.load(finished)
    place = "stages.0.branches.0.threshold"
    learned = changed(dataclasses.replace(CONV, threshold=40.0), encoder=trained.spec.encoder)
    start = SpikingNetwork(learned, weights=trained.weights(), initial={place: 50.0})
    trainer = trainer_of(PLAIN, 1, 1, start=start)
    assert trainer.network.stages[0].branches[0].threshold == 40.0


def test_the_recipe_of_a_run_that_took_layers_is_that_of_the_start(finished):
    spec = dataclasses.replace(PLAIN, stages=(stage(THRESHOLDS, pool=7), LAST))
    first = trainer_of(spec, 1, 0)
    trained = first.trained(first.run(first.initial_state()))
    second = trainer_of(spec, 1, 0, start=trained)
    again = second.trained(second.run(second.initial_state()))
    assert again.recipe == trained.recipe == first.network

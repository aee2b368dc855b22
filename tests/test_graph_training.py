"""Trainings of networks whose stages read several earlier ones, and what is kept in between."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_graph import SECOND, SHAPE, Rarely, T, skipping
from tiny import FIRST

from snnjax import Settings, Trainer, component, static
from snnjax.encoding import PIXELS
from snnjax.layers import Conv, Pool
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Input, Model, Network, stage
from snnjax.networks.graph import Activations

ENCODER = dataclasses.replace(PIXELS, time_steps=T)


@component
class Shades:
    """Six maps of pixels, each darker than the one before: compiled in less time than filters."""

    time_steps: int = static(default=T)

    def __call__(self, image):
        return jnp.concatenate([ENCODER(image * share) for share in np.linspace(1, 0.5, 6, dtype=np.float32)])

    def output_shape(self, image_shape):
        return (6, *image_shape)


REWARD = RSTDP(bounds=(0.0, 1.0))
"""Initial weights lie within its bounds: no other program learns until they do."""
LAST = Conv(20, kernel=4, learners=REWARD)
POOLED = dataclasses.replace(LAST, kernel=3)


CASES = {
    "concatenated": skipping(last=POOLED, threshold=100),
    "own": skipping(Rarely(), POOLED, threshold=44),
    # The last layer learns without labels first, then both layers by reward: training goes back to an earlier stage.
    "back": Network(
        "back",
        SHAPE,
        10,
        (
            stage(FIRST, pool=4),
            stage(dataclasses.replace(SECOND, learners=REWARD), inputs=(Input("encoder", pool=Pool(4)), "stage1")),
            stage(dataclasses.replace(LAST, threshold=9, learners=(STDP(), REWARD)), inputs=("stage1", "stage2")),
        ),
    ),
    "fixed behind a supervised one": Network(
        "fixed",
        SHAPE,
        10,
        (
            stage(FIRST, pool=4),
            stage(Conv(64, 3, padding=1, threshold=1, learners=REWARD)),
            stage(Conv(64, 1, threshold=0.5, weights=np.eye(64)[:, :, None, None]), pool=2),
            stage(POOLED),
        ),
    ),
}


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param("concatenated", "native", marks=pytest.mark.slow),
        ("own", "native"),
        pytest.param("back", "xla", marks=pytest.mark.slow),
        ("fixed behind a supervised one", "native"),
    ],
)
def test_what_enters_the_last_phase_is_what_the_model_computes(name, backend, compiler):
    """For training and for test images; a decision that asks only who fires gets the same ones."""
    network = dataclasses.replace(CASES[name], encoder=Shades())
    data = tiny.images()
    trainer = Trainer(network, data, Settings((1,) * len(network.stages), adapt_every=20, backend=backend))
    entered = {}
    inputs = trainer.cache.inputs

    def recorded(phase, part, states):
        entered[part] = inputs(phase, part, states)
        return entered[part]

    trainer.cache.inputs = recorded
    state = trainer.run(trainer.initial_state())
    first = network.first_supervised
    if not network.graph.outputs_entering(first, len(network.stages) - 1):
        model = jax.tree.map(jnp.asarray, Model.of(trainer.network, state.weights))
        for part, images in dict(train=data.train_images, test=data.test_images).items():
            expected = [model.input_of(first, Activations({0: model.encode(x)})) for x in images[:3]]
            same = np.asarray(entered[part])[0, :3] < network.time_steps, np.asarray(expected) < network.time_steps
            np.testing.assert_array_equal(*same)
            assert 0 < np.mean(same) < 1, "the case tells nothing"
    decisions, _ = trainer.predict(state, data.test_images)
    assert state.epochs[state.best_epoch]["test"]["accuracy"] == np.mean(decisions == data.test_labels)


def test_a_stage_that_passes_on_what_it_reads_changes_nothing():
    first, last = stage(FIRST, pool=7), stage(LAST)
    initial = Network("plain", SHAPE, 10, (first, last)).initial_weights()["layer2"]
    learned = []
    for stages in ((first, last), (first, stage(inputs="stage1"), last)):
        network = Network("plain", SHAPE, 10, stages, encoder=Shades())
        (deciding,) = network.deciding
        trainer = Trainer(network, tiny.images(), Settings((1,) * len(stages), adapt_every=20))
        state = trainer.initial_state()
        state.weights = state.weights | {deciding: initial}
        state = trainer.run(state)
        learned.append((state.weights["layer1"], state.weights[deciding]))
        assert np.any(state.weights[deciding] != initial), "nothing is learned"
    jax.tree.map(np.testing.assert_array_equal, *learned)


def test_outputs_that_a_later_stage_reads_are_kept_while_others_learn():
    late = stage(dataclasses.replace(LAST, kernel=7), inputs=("stage1", "stage3"))
    stages = stage(FIRST, pool=4), stage(SECOND), stage(SECOND), late
    network = Network("late", SHAPE, 10, stages, encoder=Shades())
    trainer = Trainer(network, tiny.images(), Settings((1, 1, 1, 1)))
    state = trainer.run(trainer.initial_state())
    images = {record["name"]: record["images"] for record in state.phases}
    assert images["outputs of stage 1"] == len(tiny.images().train_images), "computed once"


def test_what_a_stage_reads_joined_is_computed_once_for_all_its_layers():
    both = stage(SECOND, SECOND, inputs=("stage1", Input("encoder", Pool(4))))
    last = stage(dataclasses.replace(LAST, kernel=7))
    network = Network("both", SHAPE, 10, (stage(FIRST, pool=4), both, last), encoder=Shades())
    trainer = Trainer(network, tiny.images(), Settings((1, 1, 0)))
    state = trainer.run(trainer.initial_state())
    images = {record["name"]: record["images"] for record in state.phases}
    assert images["inputs of stage 2"] == len(tiny.images().train_images)

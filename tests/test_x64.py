"""Under JAX_ENABLE_X64 networks learn, decide and count as without: what they compute with has 32 bits."""

import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
from command import ENVIRONMENT

from snnjax import Network, Settings, Trainer, cost
from snnjax.data import Dataset
from snnjax.encoding import GREY, Pixels
from snnjax.kernels.backend import resolve
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP
from snnjax.networks import ImageSpec, goupy2024_softhebb, ncg_scales, stage

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (2, 20, 14, 14), np.uint8)
DATA = Dataset("noise", PICTURES[0], np.arange(20) % 4, PICTURES[1], np.arange(20) % 4)
IMAGES = ImageSpec.of(DATA)


def with_features(network: Network, count: int) -> Network:
    """The network with so many features in all layers that learn without labels, and thresholds to match."""
    stages = []
    share = 1.0
    for each in network.stages:
        (conv,) = each.branches
        if conv.last_learner.supervised:
            conv = dataclasses.replace(conv, threshold=conv.threshold * share)
        else:
            share = count / conv.features
            conv = dataclasses.replace(conv, features=count)
        stages.append(dataclasses.replace(each, branches=(conv,)))
    return dataclasses.replace(network, stages=tuple(stages))


FIRST = dataclasses.replace(tiny.FIRST, threshold=10)
REWARDED = dataclasses.replace(
    FIRST, features=6, kernel=3, padding=1, threshold=3, competition=WTA(3), learners=(FIRST.learners, RSTDP())
)
DECIDING = Conv(8, kernel=3, learners=RSTDP(dropout=0.3))
ALONE = Conv(8, kernel=5, learners=RSTDP(bounds=(0.0, 1.0)))
DEEP = Network("deep", IMAGES.input_shape, 4, (stage(FIRST, pool=2), stage(REWARDED, pool=2), stage(DECIDING)))
NETWORKS = {
    "one layer by reward": Network("alone", (1, 14, 14), 4, (stage(ALONE),), encoder=Pixels(15)),
    "STDP and two layers by reward": DEEP,
    "graph of target times": with_features(ncg_scales(IMAGES), 8),
    "SoftHebb": goupy2024_softhebb(IMAGES, features=(4, 6, 8)),
}
SLOW = list(NETWORKS)[1:]


def results(description: Network, backend: str) -> dict[str, np.ndarray]:
    """What a network learns, how it decides, what that costs, and the latencies of an encoder that filters."""
    epochs = (1,) * (len(description.stages) - 1) + (2,)
    trainer = Trainer(description, DATA, Settings(epochs, adapt_every=10, patience=0, backend=backend))
    initial = trainer.initial_state().weights
    state = trainer.run(trainer.initial_state())
    for name, weights in state.weights.items():
        assert np.any(weights != initial[name]), f"{name} has learned nothing"
    network = trainer.trained(state)
    counted = cost(network, DATA.test_images, backend=backend)
    arrays = dict(state.flatten()[0], decisions=counted.decisions, operations=counted.effective_operations)
    if backend == "xla":
        arrays["decided"] = np.asarray(jax.jit(jax.vmap(network))(DATA.test_images))
        arrays["encoded"] = np.asarray(jax.jit(jax.vmap(GREY))(DATA.test_images))
    return jax.tree.map(np.asarray, arrays)


def all_results(name: str) -> dict[str, np.ndarray]:
    """By XLA and, if there is a compiler, by compiled code."""
    found: dict[str, np.ndarray] = {}
    for backend in {"xla", resolve("auto", NETWORKS[name].time_steps)}:
        found |= {f"{key}, {backend}": value for key, value in results(NETWORKS[name], backend).items()}
    return found


@pytest.mark.parametrize("name", ["one layer by reward", *(pytest.param(x, marks=pytest.mark.slow) for x in SLOW)])
def test_networks_learn_decide_and_count_as_without_x64(name, tmp_path):
    """In a process of its own: the setting holds from the start of JAX on."""
    path = tmp_path / "results.npz"
    subprocess.run([sys.executable, __file__, name, path], check=True, env=ENVIRONMENT | dict(JAX_ENABLE_X64="1"))
    with np.load(path) as found:
        expected = all_results(name)
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, key, strict=True)


if __name__ == "__main__":
    assert jax.numpy.arange(1).dtype == np.int64
    np.savez(sys.argv[2], **all_results(sys.argv[1]))

"""Networks whose stages read several earlier ones, against what was recorded from the PyTorch code."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from snnjax.data import digits
from snnjax.encoding import encode
from snnjax.learners import Signal
from snnjax.networks import Model, Network, deeper2024, resnet2024
from snnjax.networks.graph import Activations

GRAPHS = np.load(pathlib.Path(__file__).parent / "golden" / "graphs.npz")
RECORDED = {
    "deeper2024/None": deeper2024(),
    "resnet2024/logical_and": resnet2024(),
    "resnet2024/logical_or": resnet2024(merge="logical_or"),
}
SHARES = dict(deeper2024=(0.9, 0.08, 0.06, 0.02), resnet2024=(0.3, 0.15, 0.08))
"""Of strong weights in each layer that learns without labels."""
DECIDING = 0.1


def drawn_weights(network: Network) -> dict[str, np.ndarray]:
    """Those that were recorded: weak and strong ones, equally many strong ones for all features; sums are exact."""
    random = np.random.RandomState(0)  # whose stream never changes
    shares = iter(SHARES[network.name])
    weights: dict[str, np.ndarray] = {}
    for _, name, conv in network.layers():
        shape = network.weight_shapes[name]
        if conv.weights is not None:
            weights[name] = np.asarray(conv.weights, np.float32)
            continue
        deciding = name in network.deciding
        share = DECIDING if deciding else next(shares)
        weak, strong = (52, 204) if deciding else (0, 224)
        ranks = random.uniform(size=(shape[0], int(np.prod(shape[1:])))).argsort(axis=1).argsort(axis=1)
        weights[name] = np.float32(np.where(ranks < share * ranks.shape[1], strong, weak) / 256).reshape(shape)
    return weights


STEPS = "resnet2024/logical_and"
"""Its single steps show what its decisions show."""


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x == STEPS)) for x in RECORDED])
def test_decisions_are_those_of_the_pytorch_code(name):
    """And the potentials behind them, summed over each map of the deciding layer: all sums are exact."""
    network = RECORDED[name]
    model = jax.tree.map(jnp.asarray, Model.of(network, drawn_weights(network)))
    (last,) = network.deciding

    @jax.jit
    def decided(image):
        latency = encode(image)
        read = model.forward(latency)
        return model.predict(latency).decision, model.layers[last].potentials(read).sum(axis=(1, 2))

    decisions, potentials = jax.lax.map(decided, digits().test_images[:20])
    np.testing.assert_array_equal(decisions, GRAPHS[f"{name}/decisions"])
    np.testing.assert_array_equal(potentials, GRAPHS[f"{name}/potentials"])


@pytest.mark.parametrize("name", [STEPS, pytest.param("deeper2024/None", marks=pytest.mark.slow)])
def test_single_steps_are_those_of_the_pytorch_code(name):
    network = RECORDED[name]
    model = jax.tree.map(jnp.asarray, Model.of(network, drawn_weights(network)))
    learning = [(number, layer) for number, layer, conv in network.layers() if conv.each_learner]
    for image in (0, 1):
        latency = encode(digits().test_images[image])
        for place, (number, layer_name) in enumerate(learning, 1):
            step = f"{name}/{image}/{place}"
            layer = model.layers[layer_name]
            read = model.input_of(number, Activations({0: latency}))
            learner = layer.conv.last_learner
            state = jax.tree.map(jnp.asarray, learner.init(layer, np.zeros(2, np.uint32), 0))
            response = learner.forward(layer, state, read, None)
            signal = None
            if layer_name in network.deciding:
                vote = model.predict(latency).decision
                signal = Signal(jnp.int32(1 if image % 2 == 0 else -1), jnp.int32(0), vote)
            after, *_ = learner.update(layer, state, read, response, signal)
            before, weights = np.float64(layer.weights), np.float64(after.weights)
            changed = np.flatnonzero((weights != before).any(axis=(1, 2, 3)))
            assert changed.tolist() == GRAPHS[f"{step}/features"].tolist(), step
            if signal is None:
                places = zip(*(np.asarray(x).tolist() for x in dataclasses.astuple(response.winners)[:3]), strict=True)
                assert [list(x) for x in places if x[0] >= 0] == GRAPHS[f"{step}/winners"].tolist(), step
            means, squares = GRAPHS[f"{step}/means"], GRAPHS[f"{step}/squares"]
            np.testing.assert_allclose(weights[changed].mean(axis=(1, 2, 3)), means, atol=1e-6)
            np.testing.assert_allclose((weights[changed] ** 2).mean(axis=(1, 2, 3)), squares, atol=1e-6)

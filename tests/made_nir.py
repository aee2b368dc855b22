"""Networks to export to NIR, and a judge that runs a graph by the equations of its nodes."""

import dataclasses

import jax
import numpy as np

from snnjax import STDP, Conv, Network, Pool, SpikingNetwork, SupervisedSTDP, kernels, stage
from snnjax.data import digits
from snnjax.encoding import OnOff
from snnjax.export.nir import TAU
from snnjax.layers.ramp import Ramp
from snnjax.learners import SoftHebb
from snnjax.networks import NETWORKS, Activations, Concatenate, Earliest, EarliestSpike, Input, LatestSpike
from snnjax.training.run_plan import network_for

DENSITIES = dict(goupy2024_ncg=0.2, mozafari2018=0.4)  # of weights that are not 0, so that features differ


def made(name, time_steps=None):
    """A published network for digits with random weights, under which decisions vary; thresholds differ by feature."""
    data = digits()
    encoder = OnOff(time_steps=time_steps) if name == "goupy2024_ncg" and time_steps else None
    network = network_for(NETWORKS[name], data, encoder)
    if hasattr(network.encoder, "fit"):
        network = dataclasses.replace(network, encoder=network.encoder.fit(data.train_images))
    random = np.random.default_rng(2)
    weights = {}
    for layer, shape in network.weight_shapes.items():
        weights[layer] = np.float32(random.random(shape) * (random.random(shape) < DENSITIES[name]))
    first, *others, last = network.stages
    if last.branches[0].threshold is not None:
        threshold = last.branches[0].threshold / 5
        last = stage(dataclasses.replace(last.branches[0], threshold=threshold, fractional=False))  # whatever T
    (conv,) = first.branches
    thresholds = (conv.threshold * random.uniform(0.9, 1.1, conv.features)).astype(np.float32)
    first = dataclasses.replace(first, branches=(dataclasses.replace(conv, threshold=thresholds),))
    network = dataclasses.replace(network, stages=(first, *others, last))
    return SpikingNetwork(network, weights=weights, class_names=[f"digit {number}" for number in range(10)])


def decided(network, latency):
    """The decisions of snnjax."""
    model = network.model
    return np.asarray(jax.jit(jax.vmap(lambda image: model.predict(image).decision))(latency))


def judged(graph, frames):
    """Potentials (N, T, F, H, W) by the nodes' equations, from inputs (N, T, C, H, W)."""
    values = {}
    for name in sorted(graph.nodes, key=lambda name: len(ancestors(graph, name))):
        node = graph.nodes[name]
        sources = [values[source] for source, target in graph.edges if target == name]
        kind = type(node).__name__
        if kind == "Input":
            values[name] = frames.reshape(-1, *frames.shape[2:])
        elif kind == "Conv2d":
            padding = [(int(side), int(side)) for side in node.padding]
            stride = tuple(map(int, node.stride))
            sums = jax.lax.conv_general_dilated(sources[0], node.weight, stride, padding, precision="highest")
            values[name] = np.asarray(sums) + node.bias[:, None, None]
        elif kind == "Output":
            return sources[0].reshape(*frames.shape[:2], *sources[0].shape[1:])
        else:
            values[name] = (sum(sources) > node.v_threshold).astype(np.float32)
    raise AssertionError("no output")


def ancestors(graph, name):
    """The nodes that a node depends on."""
    sources = {source for source, target in graph.edges if target == name}
    return sources.union(*(ancestors(graph, source) for source in sources))


FIRST = Conv(6, 5, padding=2, threshold=9.5, learners=STDP())
SECOND = Conv(5, 3, padding=1, stride=2, threshold=4.0, learners=STDP())
LAST = Conv(20, 6, threshold=30.0, learners=SupervisedSTDP(0.05, -0.1))
SMALL = dataclasses.replace(LAST, kernel=3, threshold=12.0)
POOLED = Pool(3, stride=2, padding=1)
GRAPHS = {
    "chain": (stage(FIRST, pool=POOLED), stage(LAST)),
    "strides": (
        stage(Conv(6, 3, padding=(1, 2), stride=(1, 2), threshold=6.0, learners=STDP()), pool=Pool(2, stride=(2, 1))),
        stage(Conv(5, 3, padding=(1, 0), threshold=9.0, learners=STDP()), pool=Pool(2, stride=(2, 1))),
        stage(dataclasses.replace(LAST, kernel=3, threshold=15.0)),
    ),
    "oblong": (
        stage(
            Conv(6, (3, 4), padding=(1, 2), stride=(1, 2), threshold=6.0, learners=STDP()), pool=Pool((2, 1), (2, 1))
        ),
        stage(Conv(5, (3, 1), padding=(1, 0), threshold=3.0, learners=STDP()), pool=Pool((2, 4), stride=(2, 1))),
        stage(dataclasses.replace(LAST, kernel=(3, 4), threshold=15.0)),
    ),
    "branches": (
        stage(FIRST, dataclasses.replace(FIRST, kernel=3, padding=0, output_padding=1, threshold=3.0), pool=2),
        stage(LAST),
    ),
    "concatenation": (
        stage(FIRST, pool=2),
        stage(SECOND),
        stage(SMALL, inputs=("stage2", Input("stage1", pool=Pool(2)))),
    ),
    "earliest": (
        stage(FIRST, pool=2),
        stage(dataclasses.replace(FIRST, threshold=4.0)),
        stage(LAST, inputs=("stage1", "stage2"), join=EarliestSpike()),
    ),
    "latest": (
        stage(FIRST, pool=2),
        stage(dataclasses.replace(FIRST, threshold=4.0)),
        stage(inputs=("stage1", "stage2"), join=LatestSpike(), pool=2),
        stage(SMALL),
    ),
    "encoder": (
        stage(FIRST),
        stage(dataclasses.replace(LAST, kernel=12), inputs=("encoder", "stage1"), join=Concatenate()),
    ),
}


LEVELS = kernels.ramp.ramp_levels(12.0, power=1.0, time_steps=9)
RAMPED = stage(Conv(6, 3, ramp=Ramp(levels=LEVELS), learners=SoftHebb()), pool=2)
AROUND = Input("encoder", pool=Pool(4, stride=2))
BEHIND = {
    "one": ((RAMPED, stage(FIRST), stage(dataclasses.replace(LAST, kernel=5))), 1),
    "beside": ((RAMPED, stage(FIRST), stage(dataclasses.replace(LAST, kernel=5), inputs=("stage2", "stage1"))), 2),
    "around": ((RAMPED, stage(FIRST), stage(dataclasses.replace(LAST, kernel=5), inputs=("stage2", AROUND))), 2),
}
"""Stages of which the first has a ramp, and the one, from 0, with which the export begins."""


def network_of(stages, size=(12, 12), **changes):
    """A network on 2 maps of a size, with random weights where none are given."""
    settings = dict(time_steps=9, decision=Earliest(fallback=True)) | changes
    network = Network("made", (2, *size), 4, tuple(stages), **settings)
    random = np.random.default_rng(3)
    weights = {name: random.random(shape, np.float32) for name, shape in network.weight_shapes.items()}
    given = {name: conv.weights for _, name, conv in network.layers() if conv.weights is not None}
    return SpikingNetwork(network, weights=weights | given)


def random_latencies(network, count=12):
    description = network.network
    return (
        np.random.default_rng(4)
        .integers(0, description.time_steps + 1, (count, *description.input_shape))
        .astype(np.uint8)
    )


def cumulative(latency, time_steps):
    """What the network sees at each step: (N, T, C, H, W) float32 from latencies (N, C, H, W)."""
    steps = np.arange(time_steps).reshape(-1, 1, 1, 1)
    return (latency[:, None] <= steps).astype(np.float32)


def latencies_of(network, images):
    """The latencies (N, C, H, W) of images (N, H, W)."""
    return np.asarray(jax.jit(lambda images: jax.lax.map(network.model.encode, images))(images))


def responses_of(network, latency):
    """What snnjax makes of latencies (N, C, H, W): potentials of the deciding layer (N, T, F, H, W), and decisions."""
    model = network.model
    (layer,) = model.stage(model.last)

    @jax.jit
    def response(image):
        inputs = layer.padded(model.input_of(model.last, Activations({0: image})))
        how = dict(time_steps=network.network.time_steps, stride=layer.conv.stride)
        return kernels.potentials(inputs, layer.weights, **how), model.predict(image).decision

    potentials, decisions = zip(*(response(image) for image in latency), strict=True)
    return np.stack(potentials), np.stack(decisions)


def read_by(reader, graph, frames):
    """Potentials (N, T, F, H, W) by norse or snntorch, which takes one step of all images after the other."""
    import torch

    if reader == "norse":
        import norse.torch

        model = norse.torch.from_nir(graph, dt=TAU)
    else:
        from snntorch.import_nir import import_from_nir

        model = import_from_nir(graph)
    state = None
    outputs = []
    with torch.no_grad():
        for step in range(frames.shape[1]):
            output, state = model(torch.from_numpy(frames[:, step]), state)
            outputs.append(output.numpy())
    return np.stack(outputs, axis=1)

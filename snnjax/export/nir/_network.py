"""A network as a NIR graph: its rounded weights and thresholds, its nodes, and how a reader decides with them."""

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from snnjax.core import checks, files
from snnjax.core.errors import InputError, optional_package
from snnjax.export.nir._nodes import TAU, Builder, Convolution, Neuron, Source, common_threshold, square
from snnjax.kernels import exact
from snnjax.layers.conv import Conv
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.decision import Earliest, Majority
from snnjax.networks.graph import name_of, number_of
from snnjax.networks.joins import Concatenate, EarliestSpike, LatestSpike
from snnjax.networks.model import check_decides, check_fitted, rounded_weights
from snnjax.networks.network import output_shape
from snnjax.networks.stage import ENCODER, Input

if TYPE_CHECKING:
    from nir import NIRGraph

NEURONS = ("IF", "LIF")
BITS = 12
"""Weights are rounded to the power of two at or above the largest one, divided by 2^BITS; coarser in large layers."""
_JOINS = (Concatenate, EarliestSpike, LatestSpike)


def to_nir(network: SpikingNetwork, neuron: Neuron = "IF") -> "NIRGraph":
    """Exports a network as a NIR graph, whose metadata contains all that a reader needs to know.

    The graph is that of the network which `exportable` returns. IF neurons have no leak, so that each time step of each
    image must be a separate sample. LIF neurons forget within a time step of `TAU` seconds, so that the time steps of
    an image follow each other.

    The metadata contains the texts `recipe` and `note`, `time_steps`, `classes`, and `class_names`, a JSON list. If the
    first spike decides, it also contains `threshold`, (F,) float32, `fallback`, whether V(T - 1) decides if all neurons
    are silent, and `fractional`, whether spikes have times within a time step. Raises as `exportable` does, InputError
    for an unknown `neuron`, and MissingPackageError if the package nir is not installed.

    Examples:
      >>> import snnjax
      >>> from snnjax.export.nir import to_nir
      >>> graph = to_nir(snnjax.load("pretrained:goupy2024_ncg_mnist"))
      >>> sorted(graph.nodes)
      ['input', 'layer1', 'layer1_neurons', 'layer2', 'output', 'stage1_pool', 'stage1_pool_neurons']
      >>> graph.metadata["time_steps"], graph.metadata["classes"]
      (255, 10)
    """
    checks.one_of("neuron", neuron, NEURONS)
    builder = Builder(_package(), neuron)
    exported = exportable(network)
    description = exported.network
    weights = {name: np.asarray(value) for name, value in exported.weights().items()}
    outputs = [builder.add_input(description.input_shape)]
    for number in range(len(description.stages)):
        source = _add_joined(builder, description, number, outputs)
        outputs.append(_add_stage(builder, description, number, source, weights))
    builder.add_output(outputs[-1])
    words = _note(network.network, description, chain=builder.is_chain)
    return builder.graph(dict(note=words) | _metadata(exported, neuron, network.network))


def write(network: SpikingNetwork, path: Path | str, neuron: Neuron = "IF") -> str:
    """Writes a network to a NIR file, atomically; returns a note for the user, "" if there is nothing to say.

    The note says at which stage the file begins if layers with ramps are left out, and that not all readers can run the
    graph if its nodes do not form a chain. nir 1.0.4 can also read the file. Raises FileExistsError if the file exists,
    and the same errors as `to_nir`.

    Examples:
      >>> import tempfile
      >>> import snnjax
      >>> from snnjax.export.nir import write
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     note = write(snnjax.load("pretrained:goupy2024_ncg_mnist"), f"{folder}/digits.nir")
      >>> note  # there is nothing to say
      ''
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} already exists: delete it, or name another file")
    package = _package()
    graph = to_nir(network, neuron)
    with files.atomic_write(path) as temporary:
        package.write(temporary, graph)
        _remove_resets(temporary)
    return graph.metadata["note"]


def exportable(network: SpikingNetwork) -> SpikingNetwork:
    """The part of a network that NIR can express, with weights and thresholds rounded as in its file.

    NIR cannot express ramps. The part starts after the last stage with a ramp, at the first stage whose input
    determines the decision. If no layer has a ramp, it is the whole network. Raises InputError if its stages cannot be
    expressed, if the network has parts that are not fitted, or if weights are not finite.

    Examples:
      >>> import snnjax
      >>> from snnjax.export.nir import exportable
      >>> network = snnjax.load("pretrained:softhebb_narrow_cifar10")  # three layers with ramps, and a readout
      >>> exportable(network).network.shapes  # of the input and the output of the readout
      ((528, 4, 4), (100, 1, 1))
    """
    checks.instance("network", network, SpikingNetwork, "a SpikingNetwork", "snnjax.load(...)")
    description = network.network
    check_decides(description)
    check_fitted(description)
    _check_decision(description)
    first = _first_stage(description)
    _check_squares(description, first)
    weights = {
        name: value.astype(np.float64) for name, value in rounded_weights(description, network.weights()).items()
    }
    for number, name, conv in description.layers():
        if number >= first and description.stages[number].pointwise:
            got = "True: NIR has no inhibition between neurons that fire once"
            raise InputError(
                f"`pointwise` of stage {number + 1} of {description.name} must be False for NIR, got {got}"
            )
        if number >= first and name not in description.deciding:
            _check_hidden(description, name, conv, weights[name])
    rounded = {}
    stages = []
    for names, stage in zip(description.names[first:], description.stages[first:], strict=True):
        branches = []
        for name, conv in zip(names, stage.branches, strict=True):
            decides = name in description.deciding
            rounded[name], threshold = _rounded(weights[name], conv.threshold, decides=decides)
            branches.append(dataclasses.replace(conv, threshold=threshold))
        stages.append(dataclasses.replace(stage, branches=tuple(branches)))
    if not first:
        description = dataclasses.replace(description, stages=tuple(stages))
        return SpikingNetwork(description, weights=rounded, class_names=network.class_names)
    tail = _tail(description, first, stages)
    renamed = dict(zip((name for _, name, _ in tail.layers()), rounded.values(), strict=True))
    return SpikingNetwork(tail, weights=renamed, class_names=network.class_names)


def decide(potentials: np.ndarray, metadata: dict[str, Any]) -> np.ndarray:
    """The classes (N,), -1 for none, from potentials (N, T, F, H, W), according to the recipe of a file.

    Examples:
      >>> import numpy as np
      >>> from snnjax.export.nir import decide
      >>> potentials = np.zeros((1, 15, 4, 1, 1))  # of an image: 15 time steps, four neurons
      >>> potentials[0, 9:, 2] = 1.5  # the third neuron, the first of the second class
      >>> decide(potentials, dict(classes=2))  # or the metadata of the graph that was run
      array([1])
    """
    values = potentials.reshape(*potentials.shape[:3], -1)
    last = _of_classes(values[:, -1], metadata).max(axis=2)
    decided = np.where(last.max(axis=1) > 0, last.argmax(axis=1), -1)
    if "threshold" not in metadata:
        return decided
    threshold = np.reshape(metadata["threshold"], (-1, 1))
    before = np.pad(values, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
    fires = values > threshold
    step = fires.argmax(axis=1)[:, None]
    at_spike = np.take_along_axis(values, step, axis=1)[:, 0]
    below = np.take_along_axis(before, step, axis=1)[:, 0]
    fraction = (threshold - below) / np.where(at_spike > below, at_spike - below, 1) * bool(metadata["fractional"])
    time = np.where(fires.any(axis=1), step[:, 0] + fraction, np.inf)
    for image, first in enumerate(time.min(axis=(1, 2))):
        if np.isfinite(first):
            competing = np.where(time[image] == first, at_spike[image], -np.inf)
            decided[image] = _of_classes(competing[None], metadata).max(axis=2).argmax()
        elif not metadata["fallback"]:
            decided[image] = -1
    return decided


def _of_classes(values: np.ndarray, metadata: dict[str, Any]) -> np.ndarray:
    """Values (N, F, positions) as (N, classes, values of a class)."""
    return values.reshape(len(values), int(metadata["classes"]), -1)


def _tail(network: Network, first: int, stages: list[Any]) -> Network:
    """The network of the stages from `first` on. The joined input of its first stage is its encoded image."""
    inputs = () if stages[0].branches else (Input(ENCODER),)
    moved = [dataclasses.replace(stages[0], inputs=inputs, join=Concatenate())]
    for stage in stages[1:]:
        reads = [dataclasses.replace(each, stage=name_of(number_of(each.stage) - first)) for each in stage.inputs]
        moved.append(dataclasses.replace(stage, inputs=tuple(reads)))
    shape = network.input_shapes[first]
    return dataclasses.replace(
        network, input_shape=shape, stages=tuple(moved), epochs=network.epochs[first:], encoder=None
    )


def _first_stage(network: Network) -> int:
    """The stage, from 0, at which the export begins; raises InputError if a later stage has a join that NIR lacks."""
    graph = network.graph
    last = len(network.stages) - 1
    first = 0
    for number, stage in enumerate(network.stages):
        if stage.ramped:
            first = number + 1
    while first > 0 and graph.outputs_entering(first, last):  # the last stage has none, so that the loop ends
        first += 1
    for number in range(first + (first > 0), last + 1):
        join = network.stages[number].join
        if type(join) not in _JOINS:
            names = ", ".join(kind.__name__ for kind in _JOINS)
            got = type(join).__name__
            raise InputError(
                f"`join` of stage {number + 1} of {network.name} must be one of {names} for NIR, got {got}"
            )
    return first


def _check_decision(network: Network) -> None:
    """Raises InputError unless a single layer decides, from potentials that a reader can compare."""
    if type(network.decision) not in (Majority, Earliest):
        got = type(network.decision).__name__
        raise InputError(f"`decision` of {network.name} must be Earliest or Majority for NIR, got {got}")
    if len(network.deciding) != 1:
        got = f"{len(network.deciding)}: readers of NIR take one output"
        raise InputError(f"{network.name} must have one layer that decides for NIR, got {got}")
    if network.stages[-1].ramped:
        raise InputError(
            f"`ramp` of the layer of {network.name} that decides must be None for NIR: use another readout"
        )


def _check_hidden(network: Network, name: str, conv: Conv, weights: np.ndarray) -> None:
    """Raises InputError unless the inputs fired so far determine which neurons of a layer have fired."""
    if weights.min() < 0:
        why = "NIR has no neurons that fire once, and this one could fall silent again"
        raise InputError(f"`weights` of {name} of {network.name} must be at least 0, got {weights.min():.4g}: {why}")
    if conv.threshold is None:
        raise InputError(f"`threshold` of {name} of {network.name} must be a number for NIR, got None")


def _check_squares(network: Network, first: int) -> None:
    """Raises InputError if NIR cannot express a kernel or a pooling window, from stage `first` on."""
    for number, stage in enumerate(network.stages[first:], first):
        size = network.input_shapes[number][1:]
        for name, conv in zip(network.names[number], stage.branches, strict=True):
            square(size, f"`kernel` of {name} of {network.name}", conv.kernel, conv.stride, conv.padding)
        begins_joined = 0 < first == number  # the input of the file is the joined input of this stage
        reads = [] if begins_joined else network.graph.reads(number)
        pools = [(network.shapes[output], each.pool) for output, each in reads]
        unpooled = dataclasses.replace(stage, pool=None)
        pools.append((output_shape(unpooled, network.input_shapes[number], joined=True), stage.pool))
        for shape, pool in pools:
            if pool is not None:
                name = f"`window` of a pool of stage {number + 1} of {network.name}"
                square(shape[1:], name, pool.window, pool.stride or pool.window, pool.padding)


def _rounded(weights: np.ndarray, threshold: Any, *, decides: bool) -> tuple[np.ndarray, Any]:
    """The weights, float32, as multiples of a unit, and the threshold, reduced to an odd multiple of half that unit.

    All sums of a neuron, with its bias unless it `decides`, are exact in float32. Sums of the rounded weights that are
    above the given threshold are also above the returned one.
    """
    largest = float(np.abs(weights).max())
    unit = 2.0 ** (math.ceil(math.log2(largest)) - BITS) if largest else 2.0**-BITS
    given = np.zeros(1) if threshold is None else np.asarray(threshold, np.float64)
    while True:
        multiples = np.rint(weights / unit) * unit
        # Thresholds lie half a unit between sums: some readers fire at V > threshold, some at V >= threshold, and sums
        # could be equal. This changed 0 and 1 of 360 decisions of two networks.
        limits = np.floor(given / unit) * unit + unit / 2
        sums = np.abs(multiples).sum(axis=(1, 2, 3))
        numbers = [sums.max() / 2, np.abs(limits).max()]
        if not decides:
            level = common_threshold(sums, limits)
            numbers += [2 * level, np.abs(level - limits).max(), sums.max()]
        if max(numbers) <= unit / 2 * 2.0**exact.MANTISSA:
            break
        unit *= 2
    values = multiples.astype(np.float32)
    if threshold is None:
        return values, None
    return values, limits.astype(np.float32) if np.ndim(threshold) else float(limits)


def _add_joined(builder: Builder, network: Network, number: int, outputs: list[str]) -> str:
    """Adds the pooling and the join of the inputs of stage `number`; returns the node of the joined input."""
    sources = []
    for index, (output, each) in enumerate(network.graph.reads(number), 1):
        source = outputs[output]
        if each.pool is not None:
            source = builder.add_pool(f"stage{number + 1}_input{index}", source, each.pool)
        sources.append(source)
    if len(sources) == 1:
        return sources[0]
    join = network.stages[number].join
    name = f"stage{number + 1}_join"
    if isinstance(join, Concatenate):
        return builder.add_concatenation(name, list(map(Source, sources)))
    return builder.add_count(name, sources, len(sources) if isinstance(join, LatestSpike) else 1)


def _add_stage(builder: Builder, network: Network, number: int, source: str, weights: dict[str, np.ndarray]) -> str:
    """Adds the layers and the pooling of a stage; returns the node of its output."""
    stage = network.stages[number]
    branches = []
    for name, conv in zip(network.names[number], stage.branches, strict=True):
        windows = checks.pair("stride", conv.stride, 1), checks.pair("padding", conv.padding, 0)
        convolution = Convolution(name, source, weights[name], *windows)
        if name in network.deciding:
            return builder.add_convolution(convolution)
        threshold = np.broadcast_to(np.asarray(conv.threshold, np.float64), conv.features)
        node = builder.add_layer(name, [convolution], threshold)
        branches.append(Source(node, checks.pair("output_padding", conv.output_padding, 0)))
    output = source
    if len(branches) > 1 or any(branch.padding != (0, 0) for branch in branches):
        output = builder.add_concatenation(f"stage{number + 1}_branches", branches)
    elif branches:
        output = branches[0].node
    return output if stage.pool is None else builder.add_pool(f"stage{number + 1}", output, stage.pool)


def _metadata(exported: SpikingNetwork, neuron: Neuron, whole: Network) -> dict[str, Any]:
    """The metadata of `to_nir` except the note."""
    network = exported.network
    described = network if len(network.stages) == len(whole.stages) else dataclasses.replace(network, encoder=None)
    metadata: dict[str, Any] = dict(
        recipe=_recipe(described, neuron, whole.encoder),
        time_steps=network.time_steps,
        classes=network.classes,
        class_names=json.dumps(exported.class_names),
    )
    (conv,) = network.stages[-1].branches
    if isinstance(network.decision, Earliest) and conv.threshold is not None:
        metadata["threshold"] = np.float32(np.broadcast_to(conv.threshold, conv.features))
        metadata |= dict(fallback=network.decision.fallback, fractional=conv.fractional)
    return metadata


def _note(whole: Network, part: Network, *, chain: bool) -> str:
    """Which stages a file leaves out, and whether only some readers can run it; "" if neither applies."""
    notes = []
    if first := len(whole.stages) - len(part.stages):
        how = f"snnjax computes them by model.input_of({first}, Activations({{0: latency}}))"
        shape = f"latencies of shape {part.input_shape}"
        notes.append(f"The file begins with the {shape} that stage {first + 1} of {whole.name} reads: {how}.")
    if not chain:
        wrong = "norse 1.1, sinabs 3.1 and spyx 1.0 run them in the wrong order, without an error"
        notes.append(f"The nodes do not form a chain: {wrong}; snnTorch 1.0 and SpikingJelly 2.0 run them correctly.")
    return " ".join(notes)


_STEPS = {
    "IF": "The IF neurons must start from 0 at each step: pass each step of each image as a separate sample.",
    "LIF": "Simulate the steps one after the other with dt = {tau} s, the time constant tau of the LIF neurons, which"
    " forget within a step: an image lasts {seconds:g} s.",
}


def _recipe(network: Network, neuron: Neuron, encoder: Any) -> str:
    """How a reader gets from an image to a decision, as text. `encoder` is the encoder of the whole network."""
    made = ""
    if encoder is not None:
        before = "" if network.encoder is not None else " and the stages before the file, which its note names"
        made = f" snnjax computes them from an image by the encoder {_named(encoder)}{before}."
    features = network.stages[-1].branches[0].features
    lines = (
        f"Input: latencies {network.input_shape}, the step of the spike of each input, {network.time_steps} where it is"
        f" silent.{made}",
        f"At each step t = 0..{network.time_steps - 1} the input is 1.0 where latency <= t, else 0.0: all spikes so"
        " far.",
        _STEPS[neuron].format(tau=TAU, seconds=TAU * network.time_steps),
        f"Output: V(t), the potentials of {network.names[-1][0]}, {network.shapes[-1]}. Feature f, the first axis,"
        f" belongs to class f // {features // network.classes}.",
        _decision(network),
    )
    return "\n".join(lines)


def _named(encoder: Any) -> str:
    """An encoder and its settings as text, without fitted arrays."""
    if not dataclasses.is_dataclass(encoder):
        return type(encoder).__name__
    fields = {field.name: getattr(encoder, field.name) for field in dataclasses.fields(encoder)}
    settings = [f"{name}={value}" for name, value in fields.items() if not isinstance(value, np.ndarray | jax.Array)]
    return f"{type(encoder).__name__}({', '.join(settings)})"


def _decision(network: Network) -> str:
    """The line of the recipe about the decision."""
    largest = f"the largest V({network.time_steps - 1}), in a tie the lowest class"
    last = f"the class of {largest}, if it is above 0, otherwise none"
    conv = network.stages[-1].branches[0]
    if not isinstance(network.decision, Earliest) or conv.threshold is None:
        return f"Decision: {last}."
    fires = "a neuron fires at the first t with V(t) > threshold[f], which the metadata have"
    if conv.fractional:
        fires += ", at the time t + (threshold[f] - V(t-1)) / (V(t) - V(t-1)), with V(-1) = 0"
    silent = last if network.decision.fallback else "none"
    equal = "at equal times the largest V(t) at its t, then the lowest class"
    return f"Decision: {fires}. The class of the earliest; {equal}. If no neuron fires: {silent}."


def _package() -> Any:
    """The package nir; raises MissingPackageError if it is not installed."""
    with optional_package("NIR needs the package nir", "'snnjax[nir]'"):
        import nir
    return nir


def _remove_resets(path: Path) -> None:
    """Removes v_reset, which is 0 by default, from the neurons in a file, because nir 1.0.4 does not accept it."""
    import h5py

    with h5py.File(path, "r+") as file:
        for node in file["node/nodes"].values():
            if "v_reset" in node:
                del node["v_reset"]

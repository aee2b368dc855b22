"""Runs an exported network in other simulators, and compares decisions and potentials with those of snnjax."""

import contextlib
import dataclasses
import importlib.metadata
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import snnjax
from snnjax import SpikingNetwork, kernels
from snnjax.app import console, names, parts
from snnjax.app.main import call, protected
from snnjax.app.options import option
from snnjax.interop import nir as exchange
from snnjax.networks import Known

AT_ONCE = 64  # samples of one step that a simulator takes together


@dataclasses.dataclass(frozen=True)
class Readers:
    """Export a trained network to NIR, and run it in each reader of NIR that is installed.

    $ python experiments/nir_readers.py --run runs/goupy2024_ncg_digits

    The readers need different versions of the package nir: install each in an environment of its own.
    """

    run: Annotated[Path, option("DIR")]
    """folder of a run, or its weights.npz"""
    images: Annotated[int, option("N")] = 20
    """use only the first N test images"""
    dataset: Annotated[str, option("NAME", help=names.NAMES)] = "digits"
    data_dir: Annotated[Path | None, option("DIR", "none")] = None
    """folder of the files of the data set"""


def cumulative(latency: np.ndarray, time_steps: int) -> np.ndarray:
    """What the network sees at each step: (N, T, C, H, W) float32 from latencies (N, C, H, W)."""
    steps = np.arange(time_steps).reshape(-1, 1, 1, 1)
    return (latency[:, None].astype(np.int64) <= steps).astype(np.float32)


def potentials_of(network: SpikingNetwork, latency: np.ndarray) -> np.ndarray:
    """The potentials of the deciding layer in snnjax, (N, T, F, H, W), from latencies (N, C, H, W)."""
    model = network.model
    steps = network.spec.time_steps
    (layer,) = model.stage(model.last)

    @jax.jit
    def potentials(image: jax.Array) -> jax.Array:
        inputs = layer.padded(model.input_of(model.last, Known({0: image})))
        return kernels.potentials(inputs, layer.weights, time_steps=steps, stride=layer.conv.stride)

    return np.stack([np.asarray(potentials(jnp.asarray(image))) for image in latency])


def step_by_step(model: Callable[..., Any], frames: np.ndarray) -> np.ndarray:
    """Potentials (N, T, F, H, W) of a PyTorch model that takes one step of all images after the other."""
    import torch

    state = None
    outputs = []
    with torch.no_grad():
        for step in range(frames.shape[1]):
            frame = torch.from_numpy(frames[:, step])
            output, state = model(frame, state)
            outputs.append(output.numpy())
    return np.stack(outputs, axis=1)


def as_samples(run: Callable[[np.ndarray], np.ndarray], frames: np.ndarray) -> np.ndarray:
    """Potentials (N, T, F, H, W) by a function that takes samples of one step, (B, C, H, W) to (B, F, H, W)."""
    samples = frames.reshape(-1, *frames.shape[2:])
    missing = -len(samples) % AT_ONCE  # always as many, for readers that compile
    padded = np.concatenate([samples, np.zeros((missing, *samples.shape[1:]), np.float32)])
    outputs = np.concatenate([run(padded[start : start + AT_ONCE]) for start in range(0, len(padded), AT_ONCE)])
    return outputs[: len(samples)].reshape(*frames.shape[:2], *outputs.shape[1:])


def _torch_samples(model: Callable[..., Any], frames: np.ndarray) -> np.ndarray:
    """As `as_samples`, of a PyTorch model that returns potentials, alone or with its state."""
    import torch

    def run(samples: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            output = model(torch.from_numpy(samples))
        return (output[0] if isinstance(output, tuple) else output).numpy()

    return as_samples(run, frames)


def norse_samples(graph: Any, frames: np.ndarray) -> np.ndarray:
    import norse.torch

    return _torch_samples(norse.torch.from_nir(graph), frames)


def norse_steps(graph: Any, frames: np.ndarray) -> np.ndarray:
    import norse.torch

    return step_by_step(norse.torch.from_nir(graph, dt=exchange.TAU), frames)


def snntorch_steps(graph: Any, frames: np.ndarray) -> np.ndarray:
    from snntorch.import_nir import import_from_nir

    return step_by_step(import_from_nir(graph), frames)


def sinabs_samples(graph: Any, frames: np.ndarray) -> np.ndarray:
    import sinabs
    import sinabs.nir

    model = sinabs.nir.from_nir(graph, num_timesteps=1)

    def run(samples: Any) -> Any:
        sinabs.reset_states(model)
        return model(samples)

    return _torch_samples(run, frames)


def spikingjelly_samples(graph: Any, frames: np.ndarray) -> np.ndarray:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return _torch_samples(import_from_nir(graph, dt=1.0), frames)  # r = 1 / dt


def spyx_samples(graph: Any, frames: np.ndarray) -> np.ndarray:
    """Neurons of spyx fire one step late, so that each sample lasts one step more than there are layers of neurons."""
    import spyx.nir

    layers = sum(type(node).__name__ == "LIF" for node in graph.nodes.values())

    def run(samples: np.ndarray) -> np.ndarray:
        held = jnp.repeat(jnp.moveaxis(samples, 1, -1)[None], layers + 1, axis=0)
        return np.moveaxis(np.asarray(spyx.nir.from_nir(graph, held, dt=exchange.TAU)[1][-1]), -1, 1)

    return as_samples(run, frames)


def jaxpike_samples(graph: Any, frames: np.ndarray) -> np.ndarray:
    """Jaxpike takes the names of paddings alone, and tau above dt, by which V becomes V (1 - exp(-dt / tau))."""
    import jaxpike
    import jaxpike.nir

    tau = 1.0001
    for node in graph.nodes.values():
        if type(node).__name__ == "LIF":
            node.tau = tau * exchange.TAU * np.ones_like(node.tau)
            node.v_threshold = node.v_threshold * -np.expm1(-1 / tau)
        if type(node).__name__ == "Conv2d" and np.any(node.padding):
            node.padding = "same"
    model = jaxpike.nir.from_nir(graph, dt_seconds=exchange.TAU)
    compiled = jax.jit(lambda samples: jaxpike.unroll(model, samples)[0])

    def run(samples: np.ndarray) -> np.ndarray:
        return np.moveaxis(np.asarray(compiled(jnp.moveaxis(samples, 1, -1)[None])[0]), -1, 1)

    return as_samples(run, frames)


class Reader(NamedTuple):
    """A simulator that reads NIR.

    Attributes:
      package: its name.
      form: how it gets the steps, in words.
      neuron: the nodes that it needs.
      run: potentials (N, T, F, H, W) from a graph and its inputs (N, T, C, H, W).
    """

    package: str
    form: str
    neuron: exchange.Neuron
    run: Callable[[Any, np.ndarray], np.ndarray]


READERS = (
    Reader("norse", "steps as samples", "IF", norse_samples),
    Reader("norse", "step by step", "LIF", norse_steps),
    Reader("snntorch", "step by step", "LIF", snntorch_steps),
    Reader("sinabs", "steps as samples", "IF", sinabs_samples),
    Reader("spikingjelly", "steps as samples", "IF", spikingjelly_samples),
    Reader("spyx", "steps as samples, held", "LIF", spyx_samples),
    Reader("jaxpike", "steps as samples", "LIF", jaxpike_samples),
)
HEAD = ("reader", "form", "nodes", "same decisions", "largest difference of V(t)")


def version(package: str) -> str:
    """The version of a package, "" where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def compare(reader: Reader, path: Path, frames: np.ndarray, expected: np.ndarray) -> tuple[str, ...]:
    """A row of the table: a reader on the file of its kind of neurons."""
    import nir

    graph = nir.read(path)
    title = f"{reader.package} {version(reader.package)}"
    with contextlib.redirect_stdout(io.StringIO()):  # some print how they import
        potentials = reader.run(nir.read(path), frames)
    same = int((exchange.decide(potentials, graph.metadata) == exchange.decide(expected, graph.metadata)).sum())
    largest = f"{np.abs(potentials - expected).max():.3g}"
    return title, reader.form, reader.neuron, f"{same} of {len(frames)}", largest


def rows(network: SpikingNetwork, latency: np.ndarray) -> Iterator[tuple[str, ...]]:
    """The rows of all readers that are installed, given the latencies (N, C, H, W) of images."""
    exported = exchange.exportable(network)
    expected = potentials_of(exported, latency)
    frames = cumulative(latency, network.spec.time_steps)
    with tempfile.TemporaryDirectory() as folder:
        for reader in READERS:
            if not version(reader.package):
                continue
            path = Path(folder) / f"{reader.neuron}.nir"
            if not path.exists():
                exchange.write(network, path, reader.neuron)
            try:
                yield compare(reader, path, frames, expected)
            except Exception as error:  # of any kind, by code of others
                words = str(error).splitlines() or [type(error).__name__]
                yield f"{reader.package} {version(reader.package)}", reader.form, reader.neuron, words[0], ""


def latencies_of(network: SpikingNetwork, images: np.ndarray) -> np.ndarray:
    """The latencies (N, C, H, W) with which the export of a network begins, from images (N, H, W)."""
    model = network.model
    first = len(network.spec.stages) - len(exchange.exportable(network).spec.stages)
    compute = jax.jit(lambda image: model.input_of(first, Known({0: model.encode(image)})))
    return np.stack([np.asarray(compute(image)) for image in images])


def run(chosen: Readers) -> None:
    """Exports, runs all readers, and prints the table."""
    parts.check_least(chosen, images=1)
    network = snnjax.load(chosen.run)
    data = snnjax.data.load(chosen.dataset, chosen.data_dir).first(None, chosen.images)
    if note := exchange.to_nir(network).metadata["note"]:
        print(note)
    latency = latencies_of(network, data.test_images)
    title = f"{network.spec.name}, {len(latency)} images of {data.name}, {network.spec.time_steps} steps"
    tools = ", ".join(f"{package} {version(package)}" for package in ("nir", "nirtorch") if version(package))
    console.screen().print(console.table(HEAD, [rows(network, latency)], f"{title}; {tools}", left=3))


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and compares."""
    call("python experiments/nir_readers.py", Readers, arguments, run)


if __name__ == "__main__":
    protected(main)

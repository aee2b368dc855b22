"""Measures the phases of a training in milliseconds an image, alone or side by side with the PyTorch reference.

python benchmarks/throughput.py                      snnjax on scikit-learn's digits, within a minute
python benchmarks/throughput.py --reference DIR      also the reference, in a checkout of github.com/aidinattar/snn
"""

import copy
import dataclasses
import datetime
import functools
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table
from simple_parsing import field

from snnjax import console, data, devices, runs
from snnjax.networks import NETWORKS, Network, SpikingNetwork, draw
from snnjax.training import progress, reward
from snnjax.training.trainer import Batched, Clock, Phase, RewardEpoch, method, network_for, plan
from snnjax.training.unsupervised import stdp_epoch

PREPARED = 3000
"""Images that each layer learns from before anything is measured: those at hand again and again, up to ten times."""
REFERENCES = {
    "mozafari2018": "MozafariMNIST2018",
    "deep2024": "DeepSNN",
    "deepr2024": "DeepRSNN",
    "deepr2024_2": "DeepRSNN2",
    "inception2024": "InceptionSNN",
    "majority2024": "MajoritySNN",
}
"""The reference's classes by the names of our networks."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure, on what, and against what."""

    network: str = field(default="mozafari2018", help=f"the network: {', '.join(NETWORKS)}")
    dataset: str = field(default="digits", help=f"the data set: {', '.join(data.DATASETS)}")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for all but digits")
    images: int = field(default=300, help="use the first so many training and as many test images")
    repeats: int = field(default=3, help="how often each phase is measured")
    reference: Path | None = field(default=None, help="checkout of github.com/aidinattar/snn to measure side by side")
    out: Path | None = field(default=None, help="JSON file to write the measurements to (runs/throughput_TIME.json)")


@dataclasses.dataclass
class Work:
    """One phase of one program, and how long it took.

    Attributes:
      images: that one run goes over.
      run: what is measured, with the arguments that `prepare` returns.
      outcome: from what `run` returns to what both programs should agree on, an array.
      prepare: fresh arguments, with the weights that all repeats start from.
      clock: keeps the seconds of compilation.
      cache: it computes once what later phases need, where the reference computes it anew for each image.
      ms: milliseconds an image of each repeat.
    """

    images: int
    run: Callable[..., Any]
    outcome: Callable[[Any], Any] = np.asarray
    prepare: Callable[[], tuple[Any, ...]] = tuple
    clock: Clock = dataclasses.field(default_factory=lambda: Clock(""))
    cache: bool = False
    ms: list[float] = dataclasses.field(default_factory=list)

    def measure(self) -> Any:
        """Runs to the end of the device's work, and notes the time."""
        args = self.prepare()
        start = time.perf_counter()
        result = jax.block_until_ready(self.run(*args))
        jax.effects_barrier()
        self.ms.append((time.perf_counter() - start) / self.images * 1e3)
        return result


def phases_of(spec: Network) -> list[tuple[str, Phase]]:
    """The phases of a training with their names in the table: STDP 1, STDP 3_2, R-STDP."""
    return [(phase.name.replace("layer", ""), phase) for phase in plan(spec, (1,) * len(spec.stages))]


def measured_here(network: SpikingNetwork, images: data.Dataset, batch_size: int) -> dict[str, Work]:
    """The phases of snnjax, compiled. The network learns a little first, and the phases start from what it learned."""
    works: dict[str, Work] = {}
    last = len(network.spec.stages) - 1

    def batched(name: str, function: Callable[..., Any], inputs: np.ndarray, cache: bool = False) -> np.ndarray:
        clock, state = Clock(name), jax.tree.map(jnp.array, nnx.state(network))
        run = Batched(function, state, inputs, clock)
        works[name] = Work(len(inputs), lambda: run(state, inputs), clock=clock, cache=cache)
        return run(state, inputs)

    encoded = batched("encode", lambda _, image: images.encoder(image), all_images(images))
    inputs, stage = encoded[: len(images.train_images)], 0
    for name, phase in phases_of(network.spec):
        for at in range(stage, phase.stage):
            if at < last - 1:
                inputs = batched(f"outputs of stage {at + 1}", method(network, "respond", at), inputs, cache=True)
            else:
                inputs = batched(f"who fires in stage {last}", method(network, "reach", at, last), inputs, cache=True)
        stage = phase.stage
        if phase.layer:
            works[name] = stdp(network, phase.layer, inputs)
        else:
            works[name] = rewarding(network, inputs, images.train_labels, batch_size)
    batched("test", method(network, "__call__"), encoded[len(images.train_images) :])
    return works


def all_images(images: data.Dataset) -> np.ndarray:
    """The training images, then the test images."""
    return np.concatenate([images.train_images, images.test_images])


def passes(images: int) -> range:
    """The epochs that make `PREPARED` images, at most ten."""
    return range(min(10, -(-PREPARED // images)))


def stdp(network: SpikingNetwork, layer: str, inputs: np.ndarray) -> Work:
    """An epoch of STDP of one layer, which has learned a little."""
    clock, count = Clock(layer), len(inputs)
    shape = progress.split(count, 1)
    valid = jnp.arange(np.prod(shape)).reshape(shape) < count
    latencies = jnp.asarray(np.resize(inputs, (*shape, *inputs.shape[1:])))
    graphdef, state = nnx.split(getattr(network, layer))
    state = jax.tree.map(jnp.array, state)  # a copy, which is donated
    compiled = clock.compile(stdp_epoch, graphdef, state, jnp.int32(0), latencies, valid)
    for number in passes(count):
        state, _ = compiled(state, jnp.int32(number * count), latencies, valid)
    nnx.update(getattr(network, layer), jax.tree.map(jnp.array, state))
    return Work(
        count,
        lambda state: compiled(state, jnp.int32(0), latencies, valid),
        lambda result: jax.tree.leaves(result[0])[0],
        lambda: (jax.tree.map(jnp.array, state),),
        clock,
    )


def rewarding(network: SpikingNetwork, inputs: np.ndarray, labels: np.ndarray, batch_size: int) -> Work:
    """An epoch of R-STDP of a network that has learned a little."""
    clock = Clock("R-STDP")
    epoch = RewardEpoch(network, inputs, labels, batch_size, clock)
    learning = reward.initial_state(network)
    for _ in passes(len(inputs)):
        learning, _ = epoch(learning)
    weights = network.weights()

    def prepare() -> tuple[reward.RewardState]:
        network.set_weights(weights)
        return (reward.initial_state(network),)

    return Work(len(inputs), epoch, lambda result: jax.tree.leaves(result[0].weights)[-1], prepare, clock)


class Reference:
    """The PyTorch program in a folder, imported from there.

    Raises:
      ValueError: it is no checkout, has no such network, or lacks a package.
    """

    def __init__(self, folder: Path, network: str):
        if not (folder / "model" / "mozafari2018.py").is_file():
            raise ValueError(f"`reference` {folder} is no checkout of aidinattar/snn: it has no model/mozafari2018.py")
        if network not in REFERENCES:
            raise ValueError(f"the reference has no network {network!r}, only {', '.join(REFERENCES)}")
        os.environ["TQDM_DISABLE"] = "1"  # read on import: it draws nested bars
        sys.path.insert(0, str(folder.resolve()))
        modules = ("torch", f"model.{network.removesuffix('_2')}", "s1c1", "SpykeTorch.utils")
        try:
            self.torch, model, self.s1c1, self.utils = map(importlib.import_module, modules)
        except ImportError as error:
            raise ValueError(f"the reference cannot start ({error}): pip install 'snnjax[benchmark]'") from error
        self.torch.set_grad_enabled(False)
        self.build = getattr(model, REFERENCES[network])

    def encoder(self, time_steps: int) -> Callable[[np.ndarray], Any]:
        """From an image, bytes or floats of 0..1, to a byte wave."""
        kernels = [
            self.utils.DoGKernel(window, first / 9, second / 9)
            for window in (3, 7, 13)
            for first, second in ((window, 2 * window), (2 * window, window))
        ]
        return self.s1c1.S1C1(self.utils.Filter(kernels, padding=6, thresholds=50), timesteps=time_steps)

    def measured(self, network: SpikingNetwork, images: data.Dataset, batch_size: int) -> dict[str, Work]:
        """The phases by their names in snnjax, with the weights of our network."""
        spec, last = network.spec, len(network.spec.stages)
        encoder, pixels, count = self.encoder(spec.time_steps), all_images(images), len(images.train_images)
        pixels = pixels if pixels.dtype == np.uint8 else pixels / 255
        train, test = self.torch.stack([encoder(image) for image in pixels]).tensor_split([count])
        labels, test_labels = (self.torch.tensor(y) for y in (images.train_labels, images.test_labels))
        model = self.build(spec.input_shape[0], spec.classes, device="cpu", tensorboard=False)
        for name, value in network.weights().items():
            convolution(model, name).load_weight(self.torch.tensor(np.asarray(value)))

        def learn(phase: Phase, model: Any) -> Any:
            if not phase.layer:
                for at in range(0, count, batch_size):
                    model.train_rl(train[at : at + batch_size], labels[at : at + batch_size], layer_idx=last)
            elif len(spec.stages[phase.stage].branches) > 1:
                model.train_unsupervised(train, phase.stage + 1, phase.branch)
            else:
                model.train_unsupervised(train, phase.stage + 1)
            return convolution(model, phase.layer or [name for _, name, _ in spec.layers()][-1]).weight

        def decisions(_: Any) -> np.ndarray:
            outcomes = (model.eval()(wave, last) for wave in test)  # majority2024 adds its branches' votes
            return np.array([int(each[0] if isinstance(each, tuple) else each) for each in outcomes])

        def fresh() -> tuple[Any]:
            return (copy.deepcopy(model),)

        def latencies(waves: list[Any]) -> np.ndarray:
            return spec.time_steps - np.stack(waves).sum(1, dtype=int)

        works = {"encode": Work(len(pixels), lambda: [encoder(image) for image in pixels], latencies)}
        for name, phase in phases_of(spec):
            works[name] = Work(count, functools.partial(learn, phase), np.asarray, fresh)
        works["test"] = Work(len(test), lambda model: model.test(test, test_labels, layer_idx=last), decisions, fresh)
        return works


def convolution(model: Any, layer: str) -> Any:
    """The reference's convolution that is our layer: block3_2 for layer3_2."""
    return getattr(model, layer.replace("layer", "block"))["conv"]


def alike(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of latencies, weights or decisions that agree."""
    return float(np.isclose(ours, theirs, atol=1e-3).mean())


def records(programs: dict[str, dict[str, Work]], network: str) -> list[dict[str, Any]]:
    """The measurements: those of all phases of the one program, then of the other."""
    rows = []
    for program, works in programs.items():
        for phase, work in works.items():
            median, theirs = statistics.median(work.ms), programs.get("reference", {}).get(phase)
            row = dict(network=network, phase=phase, program=program, ms_per_image=median)
            row["ratio"] = statistics.median(theirs.ms) / median if theirs else None
            row |= dict(min=min(work.ms), max=max(work.ms), compile_seconds=work.clock.compile_seconds)
            rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], same: dict[str, float]) -> Table:
    """The measurements side by side; `same` holds the share of each phase's outcome that agrees."""
    programs = list(dict.fromkeys(row["program"] for row in rows))
    shown = Table(title="milliseconds an image: median (min..max)", title_justify="left")
    shown.add_column("phase")
    for name in (*programs, *(("ratio", "alike") if same else ()), "compiling s"):
        shown.add_column(name, justify="right", overflow="fold")
    for phase in dict.fromkeys(row["phase"] for row in rows):
        found = {row["program"]: row for row in rows if row["phase"] == phase}
        times = [
            f"{row['ms_per_image']:.3g} ({row['min']:.3g}..{row['max']:.3g})" if row else ""
            for row in map(found.get, programs)
        ]
        ours = found["snnjax"]
        compared = [f"{ours['ratio']:.1f}", f"{same[phase]:.1%}"] if phase in same else [""] * 2 * bool(same)
        shown.add_row(phase, *times, *compared, f"{ours['compile_seconds']:.1f}")
    return shown


def prepare(options: Options) -> tuple[Network, data.Dataset, Reference | None]:
    """Network, images and reference.

    Raises:
      ValueError, OSError: options or data are bad.
    """
    if options.network not in NETWORKS:
        raise ValueError(f"`network` must be one of {', '.join(NETWORKS)}, got {options.network!r}")
    for name in ("images", "repeats"):
        if getattr(options, name) < 1:
            raise ValueError(f"`{name}` must be at least 1, got {getattr(options, name)}")
    reference = Reference(options.reference, options.network) if options.reference else None
    images = data.load(options.dataset, options.data_dir).first(options.images, options.images)
    if reference and images.train_images.ndim > 3:
        raise ValueError(f"`reference` is measured on grey images only, those of {images.name} have colours")
    return network_for(NETWORKS[options.network], images), images, reference


def output_file(out: Path | None) -> Path:
    """Where to write, tried now and not after all the work.

    Raises:
      OSError: it cannot be written.
    """
    out = out or Path("runs") / f"throughput_{datetime.datetime.now():%Y%m%d-%H%M%S}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.open("a").close()
    return out


def say_where(
    screen: Console, where: jax.Device, spec: Network, images: data.Dataset, repeats: int, reference: Reference | None
) -> None:
    """Prints what is about to be measured, the versions, the processors and the date."""
    versions = runs.versions()
    counts = f"{len(images.train_images)} training and {len(images.test_images)} test images"
    screen.print(f"[bold]{spec.name}[/] on {images.name}: {counts}, {repeats} repeats, {datetime.date.today()}")
    screen.print(f"snnjax on {runs.device_name(where)}")
    if reference:
        versions["torch"] = reference.torch.__version__
        threads = reference.torch.get_num_threads()
        screen.print(f"reference on {runs.device_name(jax.devices('cpu')[0])}, {threads} threads")
    screen.print(", ".join(f"{name} {version}" for name, version in versions.items()))
    if (load := os.getloadavg()[0]) > 1:
        screen.print(f"[yellow]Others are at work here (load average {load:.1f}): times and ratios mean little.[/]")


def notes(programs: dict[str, dict[str, Work]]) -> str:
    """What is not like for like, and what the ratios of a single epoch would be."""
    cached, single = 0.0, []
    for phase, work in programs["snnjax"].items():
        ours, theirs = statistics.median(work.ms), programs["reference"].get(phase)
        if work.cache:
            cached += ours
        elif theirs and cached and phase != "test":
            single.append(f"{phase} {statistics.median(theirs.ms) / (ours + cached):.1f}")
    return f"""ratio: reference / snnjax. alike: share of latencies, learned weights and decisions that agree.
Not like for like:
1. snnjax learns from the outputs of frozen layers, computed once for all epochs in the phases without a ratio; the
   reference computes them anew for every image. Ratios with all that counted in one epoch: {", ".join(single)}.
2. Compilation, once a run, is apart.
3. The reference's phases but encode start from byte waves that its own encoder made before."""


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    try:
        where = devices.choose("auto")
        spec, images, reference = prepare(options)
        out = output_file(options.out)
    except (ValueError, OSError) as error:
        console.fail(error)
    screen = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    say_where(screen, where, spec, images, options.repeats, reference)
    network, batch_size = draw(spec), min(1000, len(images.train_images))
    programs = {"snnjax": measured_here(network, images, batch_size)}
    if reference:
        programs["reference"] = reference.measured(network, images, batch_size)
    results: dict[str, dict[str, Any]] = {}
    for _ in range(options.repeats):
        results = {name: {p: work.measure() for p, work in works.items()} for name, works in programs.items()}
    outcomes = {name: {p: works[p].outcome(r) for p, r in results[name].items()} for name, works in programs.items()}
    same = {p: alike(outcomes["snnjax"][p], theirs) for p, theirs in outcomes.get("reference", {}).items()}
    rows = records(programs, spec.name)
    screen.print(table(rows, same))
    if reference:
        screen.print(notes(programs))
    out.write_text(json.dumps(rows, indent=1) + "\n")
    screen.print(f"written to {out}")
    if reference and same["test"] < 0.9:
        console.fail(f"the programs do not compute the same: only {same['test']:.1%} of the decisions agree", 1)


if __name__ == "__main__":
    main()

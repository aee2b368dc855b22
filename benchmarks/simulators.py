"""Compares STDP across simulators: each trains with its own published recipe on the same images, one after another.

The programs in the folder recipes document each recipe and the changes made to it.
"""

import collections
import dataclasses
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import tomllib
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import common
import numpy as np
import simulator_tables
from common import Row

from snnjax import data
from snnjax.app import console
from snnjax.app.main import command_options, protected
from snnjax.app.shared_options import option
from snnjax.core import files
from snnjax.core.errors import unknown

RECIPES = Path(__file__).parent / "recipes"
SETTINGS = RECIPES / "simulators.toml"
ERRORS = 12  # number of last lines of a failed program to keep
STARTING = 300.0  # seconds for the imports and the compilation of a program
GRACE = 2.5  # a program that exceeds its budget by this factor is killed
FEW = 20  # minimum number of training images per class for a comparison of readouts
PARTS = ("train", "test")
STRENGTHS = (0.01, 0.1, 1.0)  # values of C for the linear readout; the best one on held-out images is used
STRONGEST = 1000.0  # larger values of C are tried up to this one, as long as they are better


class Protocol(NamedTuple):
    """The images that every simulator receives, and the time that it may take."""

    dataset: str
    train: int
    test: int
    seconds: float  # for training and testing with all seeds
    seeds: int

    def words(self) -> str:
        """A description of the images and the time limit."""
        return f"{self.train:,} training and {self.test:,} test images, at most {self.seconds:g} s for each recipe"


PROTOCOLS = {
    "digits": Protocol("digits", 1437, 360, 60, 1),
    "small": Protocol("mnist", 6000, 10_000, 600, 3),
    "full": Protocol("mnist", 60_000, 10_000, 6 * 3600, 1),
}


class Recipe(NamedTuple):
    """A program that trains and tests one network of one simulator.

    Attributes:
      program: the name of the program's file in the folder recipes.
      environment: the name of the virtual environment that has the simulator; "" is the one that runs snnjax.
      arguments: arguments of the program, in addition to those that all programs receive.
      checkout: the GitHub repository that the program imports if the simulator is in no package registry.
      given: the name of the recipe from whose features the program learns.
      untrained: whether the unsupervised layers keep their initial weights, as a control.
    """

    program: str
    environment: str = ""
    arguments: tuple[str, ...] = ()
    checkout: str = ""
    given: str = ""
    untrained: bool = False


class Environment(NamedTuple):
    """The packages of a virtual environment; `no_deps` are installed last, without their dependencies."""

    packages: tuple[str, ...] = ()
    no_deps: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare accuracy, time and memory of STDP across simulators, each with its own published recipe.

    $ python benchmarks/simulators.py --protocol digits         every simulator for at most a minute
    $ python benchmarks/simulators.py --data_dir DIR            6,000 images of MNIST, ten minutes each
    """

    protocol: Literal["digits", "small", "full"] = "small"
    """digits: scikit-learn's digits, a minute each; small: 6,000 images of MNIST, ten minutes each, up to three seeds;
    full: 60,000 images, hours"""
    only: Annotated[tuple[str, ...], option("NAME ...", "all")] = ()
    """names of the recipes to run, as in the table"""
    data_dir: Annotated[Path | None, option("DIR", "the cache folder, downloaded if need be")] = None
    """folder of MNIST"""
    checkouts: Annotated[Path | None, option("DIR", "none")] = None
    """folder with checkouts, as DIR/OWNER/NAME, of simulators that are in no package registry"""
    seconds: Annotated[float | None, option("S", "those of the protocol")] = None
    """time limit of a recipe for training and testing with all its seeds"""
    seeds: Annotated[int | None, option("N", "those of the protocol")] = None
    """number of seeds of a recipe, if the time suffices for all of them"""
    out: Annotated[Path | None, option("DIR", "runs/simulators_PROTOCOL")] = None
    """folder to write into; the same command continues there"""


def settings() -> tuple[dict[str, Environment], dict[str, Recipe], dict[str, str]]:
    """Reads simulators.toml: environments, recipes by name, and the reasons why simulators have no recipe."""
    with SETTINGS.open("rb") as file:
        content = tomllib.load(file)
    environments = {name: Environment(**tuples(table)) for name, table in content["environments"].items()}
    recipes = {name: Recipe(**tuples(table)) for name, table in content["recipes"].items()}
    return environments, recipes, content["without"]


def tuples(table: Row) -> Row:
    """Converts the lists in a table of a TOML file to tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def write_images(path: Path, protocol: Protocol, data_dir: Path | None) -> None:
    """Writes the images of a protocol for all programs: training and test images, each in a fixed random order."""
    source = data.load(protocol.dataset, data_dir)
    chosen = np.random.default_rng(0).permutation(len(source.train_images))[: protocol.train]
    tested = np.random.default_rng(1).permutation(len(source.test_images))[: protocol.test]  # some use only the first
    arrays = dict(
        train_images=np.rint(source.train_images[chosen]).astype(np.uint8),
        train_labels=source.train_labels[chosen],
        train_numbers=chosen,
        test_images=np.rint(source.test_images[tested]).astype(np.uint8),
        test_labels=source.test_labels[tested],
    )
    with files.atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def python_of(name: str, environment: Environment) -> Path:
    """The Python of a virtual environment in the cache folder, which is created if it does not exist.

    Raises RuntimeError if that fails.
    """
    if not name:
        return Path(sys.executable)
    digest = hashlib.sha256(f"{sys.version} {environment}".encode()).hexdigest()[:12]
    folder = files.cache_folder() / "simulators" / f"{name}-{digest}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *environment.packages])
        if environment.no_deps:
            run([*pip, "--no-deps", *environment.no_deps])
        complete.touch()
    return python


def run(command: Sequence[str], seconds: float | None = None, **variables: str) -> None:
    """Runs a program with these environment variables, and prints its output.

    Raises RuntimeError with its last lines if it fails, or if it takes too long.
    """
    env = os.environ | variables
    lines = collections.deque[str](maxlen=ERRORS)
    late = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds or threading.TIMEOUT_MAX, end)
        timer.daemon = True
        timer.start()
        try:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                print(f"  {lines[-1]}", flush=True)
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise RuntimeError(f"it was stopped after {seconds:.0f} s, because it did not stop itself")
    if status:
        raise RuntimeError(" / ".join(line for line in lines if line) or f"it ended with status {status}")


class Benchmark:
    """The recipes of a command, whose results are in a folder with a file for each recipe and seed."""

    def __init__(self, options: Options):
        self.options = options
        protocol = PROTOCOLS[options.protocol]
        self.protocol = protocol._replace(
            seconds=options.seconds or protocol.seconds, seeds=options.seeds or protocol.seeds
        )
        self.environments, self.recipes, self.without = settings()
        for name in options.only:
            if name not in self.recipes:
                raise unknown("only", name, self.recipes)
        self.out = options.out or Path("runs") / f"simulators_{options.protocol}"
        self.out.mkdir(parents=True, exist_ok=True)
        self.images = self.out / "images.npz"
        if not self.images.exists():
            write_images(self.images, self.protocol, options.data_dir)

    def run_all(self) -> Iterator[str]:
        """Runs the recipes that have no result yet, and writes a result or a reason; yields the name of each recipe."""
        chosen = self.options.only or tuple(self.recipes)
        for number, name in enumerate(chosen, 1):
            for seed in range(self.seeds_of(name)):
                path = self.result_of(name, seed)
                if not path.exists() or "reason" in files.read_json(path):
                    print(f"{name}, seed {seed}: recipe {number} of {len(chosen)}", flush=True)
                    self.run_recipe(name, seed, path)
                if seed == 0 and not self.time_for_all(name):
                    break
            self.compare_features(name)
            yield name

    def seeds_of(self, name: str) -> int:
        """The number of seeds of a recipe, if the time suffices for all of them; a control has one."""
        return 1 if self.recipes[name].untrained else self.protocol.seeds

    def time_for_all(self, name: str) -> bool:
        """Whether all seeds of a recipe would finish in the time of the protocol, given the result of the first."""
        first = files.read_json(self.result_of(name, 0))
        if not first.get("finished"):
            return False
        return simulator_tables.seconds_of(first) * self.seeds_of(name) <= self.protocol.seconds

    def result_of(self, name: str, seed: int) -> Path:
        """The result file of a recipe and a seed."""
        return self.out / f"{re.sub('[^a-z0-9]+', '_', name.lower())}-{seed}.json"

    def features_of(self, name: str) -> Path:
        """The file with the features of a recipe for its first seed."""
        return self.result_of(name, 0).with_suffix(".features.npz")

    def run_recipe(self, name: str, seed: int, path: Path) -> None:
        """Runs a recipe, which writes its result; writes the reason if it cannot."""
        recipe = self.recipes[name]
        seconds = self.protocol.seconds
        try:
            python = python_of(recipe.environment, self.environments.get(recipe.environment, Environment()))
            command = [str(python), str(RECIPES / recipe.program), *recipe.arguments]
            if recipe.checkout:
                command += ["--checkout", str(self.checkout(recipe.checkout))]
            if recipe.given:
                if not self.features_of(recipe.given).exists():
                    raise RuntimeError(f"it learns from the features of {recipe.given}, which has written none")
                command += ["--given", str(self.features_of(recipe.given))]
            if recipe.untrained:
                command += ["--untrained"]
            command += ["--images", str(self.images), "--seed", str(seed), "--seconds", str(seconds)]
            if seed == 0:
                command += ["--features", str(self.features_of(name))]
            with tempfile.TemporaryDirectory() as cache:  # an empty cache: each seed starts without compiled programs
                written = Path(cache) / "result.json"
                run([*command, "--out", str(written)], GRACE * seconds + STARTING, XDG_CACHE_HOME=cache)
                result = files.read_json(written)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            files.write_json(path, dict(name=name, seed=seed, reason=str(error)))
            return
        files.write_json(path, result | dict(name=name))

    def checkout(self, repository: str) -> Path:
        """The folder of the checkout of a repository; raises RuntimeError if there is none."""
        folder = (self.options.checkouts or Path("checkouts")) / repository
        if not folder.is_dir():
            where = "--checkouts DIR" if self.options.checkouts is None else str(folder)
            raise RuntimeError(f"no registry has it: clone github.com/{repository} as DIR/{repository}, {where}")
        return folder

    def compare_features(self, name: str) -> None:
        """Adds to a result the accuracy of a linear readout on the features, if the recipe has written any."""
        path = self.result_of(name, 0)
        result = files.read_json(path)
        features = self.features_of(name)
        if features.exists() and "readout" not in result:
            with np.load(features) as arrays:
                if min(np.bincount(arrays["train_labels"], minlength=10)) < FEW:
                    return  # training ran out of time
                result["readout"] = linear_readout(**arrays)
            files.write_json(path, result)

    def readout_of_pixels(self) -> Row:
        """The accuracy of the same readout on the pixels of the images, which features should exceed."""
        path = self.out / "pixels.json"
        if not path.exists():
            with np.load(self.images) as images:
                train, test = (flat(images[f"{part}_images"]) for part in PARTS)
                files.write_json(path, linear_readout(train, images["train_labels"], test, images["test_labels"]))
        return files.read_json(path)

    def results(self) -> list[Row]:
        """All results, in the order of the recipes."""
        paths = [self.result_of(name, seed) for name in self.recipes for seed in range(self.protocol.seeds)]
        return [files.read_json(path) for path in paths if path.exists()]


def flat(images: np.ndarray) -> np.ndarray:
    """Images as rows of pixels in 0..1."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def linear_readout(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, test_labels: np.ndarray
) -> Row:
    """The test accuracy of scikit-learn's logistic regression on features, with the best C on held-out images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    def accuracy(strength: float, train: tuple[Any, Any], test: tuple[Any, Any]) -> float:
        model = make_pipeline(MaxAbsScaler(), LogisticRegression(C=strength, max_iter=300))
        return float(model.fit(*train).score(*test))

    train, held_out, train_classes, held_out_classes = train_test_split(
        train_features, train_labels, test_size=1 / 6, random_state=0, stratify=train_labels
    )

    def score(strength: float) -> float:
        return accuracy(strength, (train, train_classes), (held_out, held_out_classes))

    scores = {strength: score(strength) for strength in STRENGTHS}
    best = max(scores, key=scores.__getitem__)
    while best == max(scores) < STRONGEST:
        scores[10 * best] = score(10 * best)
        best = max(scores, key=scores.__getitem__)
    return dict(
        accuracy=accuracy(best, (train_features, train_labels), (test_features, test_labels)),
        strength=best,
        features=train_features.shape[1],
        train_images=len(train_labels),
        test_images=len(test_labels),
    )


def write_tables(benchmark: Benchmark, out: Path) -> str:
    """Writes all results and their tables; returns the tables."""
    results = benchmark.results()
    about = common.about(protocol=benchmark.options.protocol, images=benchmark.protocol.words())
    pixels = benchmark.readout_of_pixels()
    content = dict(about=about, without=benchmark.without, pixels=pixels, results=results)
    parts = [
        simulator_tables.results_table(results, common.caption(about)),
        simulator_tables.features_table(results, pixels),
        simulator_tables.recipes_table(results),
        "\n".join(f"- {line}" for line in simulator_tables.reasons(results, benchmark.without)),
    ]
    table = "\n".join(parts)
    common.write(out, "simulators", content, table)
    return table


def compare(options: Options) -> None:
    """Runs all recipes that have no result yet, then writes and prints the tables."""
    benchmark = Benchmark(options)
    with files.lock(benchmark.out):
        for _ in benchmark.run_all():
            table = write_tables(benchmark, benchmark.out)
    screen = console.screen()
    written = f"{benchmark.out}: simulators.json, simulators.md"
    screen.print(table, written, sep="\n", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and compares."""
    program = "python benchmarks/simulators.py"
    with command_options(program, Options, arguments, "Stopped; the same command continues.") as chosen:
        compare(chosen)


if __name__ == "__main__":
    with protected():
        main()

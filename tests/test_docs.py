"""The texts for users: their commands take their options, what they name exists, and code and commands run.

A document is run from top to bottom in a folder of its own, in which there are finished runs, and placeholders such as
DIR are folders with little data. Commands of benchmarks and of scripts in experiments are only read: tests of their own
run most of these.
"""

import contextlib
import dataclasses
import glob
import importlib
import importlib.util
import inspect
import io
import pathlib
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from statistics import median
from typing import Any

import backpropagation
import discover
import jax
import local_errors
import made_events
import microcontroller
import notebooks
import numpy as np
import pytest
import results
import scaling
import simulators
import throughput
from book_tables import descriptions, recorded, speed
from conftest import made_once
from documents import DOCUMENTS, ROOT, all_commands, blocks, code, commands, masked, prose, rows, text_of
from made_files import in_colour, png, write_idx
from PIL import Image
from shipped import ALIKE

import snnjax
from snnjax import data, kernels
from snnjax.app import lookup, names, plots
from snnjax.app.main import COMMANDS, main, parse
from snnjax.core import codec, components
from snnjax.kernels import backend

SCRIPTS = {
    "benchmarks/simulators.py": simulators.Options,
    "benchmarks/local_errors.py": local_errors.Options,
    "benchmarks/backpropagation.py": backpropagation.Options,
    "benchmarks/throughput.py": throughput.Options,
    "benchmarks/scaling.py": scaling.Options,
    "benchmarks/microcontroller.py": microcontroller.Options,
    "experiments/discover.py": discover.Search,
    "experiments/results.py": results.Results,
}
OTHERS = (
    "python3 -m venv|python -m pytest|python experiments/(few_labels|new_classes).py$|python experiments/examples/|"
    "dask (scheduler|worker) |jupyter lab |mkdocs build |tensorboard --logdir runs$|git clone |cc |./teach "
)
"""What CI does before these tests run, or other tests do."""
FINISHED = (
    "snnjax train",
    "snnjax train --model mozafari2018",
    "snnjax train --dataset mnist",
)
ELSEWHERE = ("export_nir", *ALIKE)
"""Pages of which test_nir.py runs the code, and of networks that are like others in all but numbers."""
NOTEBOOKS = [f"experiments/docs/{page}" for page in notebooks.PAGES.values()]
"""Pages whose code test_notebooks.py runs."""
PICTURE = in_colour(png(0))
"""In place of drawings, which take longer than all else; test_report.py has them."""
FROM_FIXTURE = "from_fixture"  # a file in a finished run that a document may train again
PACKAGES = [
    f"snnjax.{name}"
    for name in (
        "kernels",
        "encoding",
        "data",
        "learners",
        "layers",
        "networks",
        "runs",
        "export.c",
        "export.nir",
        "export.page",
        "export.pytorch",
        "app",
    )
]
EXTRAS = {*tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]}


def options_of(line: str) -> Any:
    """What a command makes of its options; None if it is a program of others."""
    words = [word for word in shlex.split(line) if word != "--no-compile"]  # an option of pip
    if words[0] == "snnjax":
        return parse(COMMANDS[words[1]], words[2:], line)
    if words[0] == "python" and words[1] in SCRIPTS:
        return parse(SCRIPTS[words[1]], words[2:], line)
    if words[:4] == ["pip", "install", "-q", "-e"]:
        path, _, extras = words[4].partition("[")
        assert (ROOT / path / "pyproject.toml").is_file()
        assert {*extras.removesuffix("]").split(",")} - {""} <= EXTRAS
    else:
        assert re.match(OTHERS, line), line
    return None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_command_is_one_that_there_is(document):
    for line in all_commands(document):
        options_of(line)


@pytest.fixture(scope="module")
def known_options() -> set[str]:
    """All options of the commands, as their help lists them."""
    with contextlib.redirect_stdout(io.StringIO()) as help_text:
        for kind in [*COMMANDS.values(), *SCRIPTS.values()]:
            with contextlib.suppress(SystemExit):
                parse(kind, ["--help"], "")
    return {*re.findall(r"(?<![\w-])--\w+", help_text.getvalue())}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_the_text_names_exists(document, known_options):
    """Options, extras, files of the project."""
    for each in code(document):
        if not each.startswith(("pip ", "--no-compile", "snnjax --help")):
            assert {*re.findall(r"(?<![\w-])--[\w-]+", each)} <= known_options, each
        if re.fullmatch(r"(tests|snnjax|experiments|benchmarks)/[\w/.]+", each):
            assert (ROOT / each).exists(), each
    assert {*re.findall(r"extras?(?: such as)? `(\w+)`", prose(document))} <= EXTRAS


def links_of(document: str) -> list[str]:
    """The links and pictures of a document."""
    return ["".join(found) for found in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", prose(document))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_pictures_exist(document):
    for link in links_of(document):
        path, _, section = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not re.match("https?://", link):
            assert target.exists(), link
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if section else []
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert not section or section in slugs, link


def assert_signatures(shown: str) -> None:
    """Components and settings are shown with all arguments, and a default where there is one."""
    known = (*components.TYPES.values(), snnjax.Settings)
    kinds = [kind for kind in known if getattr(snnjax, kind.__name__, None) is kind]
    assert {snnjax.Conv, snnjax.STDP, snnjax.SupervisedSTDP, snnjax.Settings} <= {*kinds}
    for kind in kinds:
        parameters = inspect.signature(kind).parameters
        first = next((f"{name}:" for name in parameters), ")")
        signature = shown[shown.index(f"{kind.__name__}({first}") :][:2000]
        for name, parameter in parameters.items():
            equals = "" if parameter.default is inspect.Parameter.empty else " = "
            assert re.search(rf"[( ]{name}: [\w.|\[\], ]+{equals}", signature), (kind, name)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_has_all_public_names(tmp_path):
    (command,) = [line for line in all_commands("experiments/docs/contributing/index.md") if line.startswith("mkdocs ")]
    words = [*shlex.split(command), "--site-dir", tmp_path]  # --quiet would hide warnings
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    site = "".join(path.read_text() for path in (tmp_path / "reference").glob("*.html"))
    assert_signatures(re.sub(r"\s+|&para;", " ", re.sub("<[^>]*>", "", site)).replace("( ", "("))
    for package in (snnjax, *map(importlib.import_module, PACKAGES)):
        for name in dir(package):
            public = getattr(package, name)
            if inspect.isfunction(public) or inspect.isclass(public):
                places = package.__name__, public.__module__
                shown = any(f'id="{place}.{name}"' in site for place in places)
                assert shown or not public.__module__.startswith("snnjax."), name


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout with little data behind the names that the documents use, and in the cache, and with finished runs."""
    return made_once(tmp_path_factory, "checkout", write_checkout)


def write_checkout(path):
    backend.unavailable()  # compiles the kernels for all documents
    path.mkdir()
    (path / "experiments").symlink_to(ROOT / "experiments")
    write_data(path, path / "cache" / "snnjax" / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        patch.setattr(plots, "png", lambda figure: PICTURE)
        patch.chdir(path)
        for line in FINISHED:
            run(line)
    for finished in (path / "runs").iterdir():
        (finished / FROM_FIXTURE).touch()


def write_data(path, cache):
    """Writes pictures, recordings and public data sets, of digits."""
    digits = data.digits()
    images = digits.train_images[:60].astype(np.uint8)
    labels = digits.train_labels[:60].astype(np.uint8)
    (cache / "cifar10").mkdir(parents=True)
    for folder in (path / "DIR", cache / "mnist", cache / "fashion_mnist"):
        write_idx(folder, images, labels)
    colours = np.random.default_rng(0).integers(0, 256, (60, 1 + 3 * 32 * 32), np.uint8)
    colours[:, 0] = labels
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        (cache / "cifar10" / name).write_bytes(colours.tobytes())
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        for pictures in ("PICTURES", "NEW_PICTURES"):
            file = path / pictures / ("zero", "one", "two")[label % 3] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
        for name in (str(label), "a"):
            more = path / "MORE_CLASSES" / name / f"{number}.png"
            more.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(more)
    for seed, part in enumerate(("Train", "Test")):
        made_events.write_nmnist(path / "RECORDINGS", part, images[:40], labels[:40], seed)


@pytest.fixture
def folder(tmp_path, monkeypatch, checkout):
    """A copy of the checkout to work in."""
    shutil.copytree(checkout, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(plots, "png", lambda figure: PICTURE)
    types_of_components = dict(components.TYPES)  # two documents define EarlyInputs
    monkeypatch.setattr(components, "TYPES", types_of_components)
    monkeypatch.setattr(codec, "TYPES", types_of_components)
    monkeypatch.setitem(sys.modules, "snippets", types.ModuleType("snippets"))
    monkeypatch.setattr(lookup, "_imported", {})  # files whose components another document has registered
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("1_own_rule", None)  # as its component is forgotten too
    jax.config.update("jax_default_device", None)


def run(line: str) -> None:
    """Runs a command in this process, on few images and for an epoch a stage: of options the last counts."""
    if not importlib.util.find_spec("torch"):
        line = line.replace(".pth", ".pth.npz")  # as the text says that weights can travel
    _, name, *words = shlex.split(line)
    if name in ("train", "sweep"):
        chosen = options_of(line)
        model = chosen.network.model or names.DEFAULT_MODEL
        stages = chosen.training.epochs or lookup.find("model", model, snnjax.NETWORKS)().epochs
        words += ["--train_images", "40", "--test_images", "20", "--epochs", *["1"] * len(stages)]
        words += ["--seeds", "2"] * (name == "sweep")
    if name == "train":
        folder = chosen.run.out or pathlib.Path("runs") / f"{model}_{chosen.data.dataset}"
        if (folder / FROM_FIXTURE).exists():
            shutil.rmtree(folder)
    main([name, *(path for word in words for path in sorted(glob.glob(word)) or [word])])


@pytest.mark.slow
@pytest.mark.parametrize("document", [each for each in DOCUMENTS if pathlib.Path(each).stem not in ELSEWHERE])
def test_commands_and_snippets_run(document, folder):
    """From top to bottom, but for sweeps by several processes, which test_workers.py has."""
    names: dict[str, Any] = dict(__name__="snippets")
    printed = ""
    for language, text in blocks(document):
        if language == "python" and document not in NOTEBOOKS:
            with jax.numpy_rank_promotion("allow"), contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(text, document, "exec"), names)
            printed = output.getvalue()
        elif language == "" and printed and "/learn/" in document:
            assert masked(text) == masked(printed)
            printed = ""
        elif language == "sh":
            for line in commands(text):
                if line.startswith("snnjax ") and not {"--workers", "--scheduler"} & {*shlex.split(line)}:
                    print("$", line)
                    run(line)
    for network in (each for each in names.values() if isinstance(each, snnjax.Network)):
        network.initial_weights(0)  # which bounds may exclude
    if document == "experiments/docs/start/report.md":
        kept = {row[0].strip("`") for row in rows(document, "file")}
        left = {path.name for path in (folder / "runs/goupy2024_ncg_digits").iterdir()}
        assert kept == left - {"checkpoint.previous.npz"}


def test_the_main_page_and_the_citation_are_of_this_version():
    major, minor, _ = snnjax.__version__.split(".")
    assert f"Version** {major}.{minor} " in text_of("README.md")
    for document in ("README.md", "experiments/docs/reference/index.md"):
        assert f"version = {{{snnjax.__version__}}}" in text_of(document)


def test_speed_on_the_main_page_is_that_of_the_benchmarks():
    """The least and the most over the networks that the reference has, without the exception."""
    measured = {row.network: row for row in speed.measured()}
    assert [*measured] == [*names.RECORDED]
    exception = measured.pop(speed.EXCEPTION)
    rows = measured.values()
    epochs = [value for row in rows for value in (*row.stdp_epochs, median(row.epochs["R-STDP"]))]
    trainings = [median(row.training) for row in rows]
    tests = [median(row.speed_ups["test"]) for row in rows]
    seconds = [median(row.seconds) for row in rows]
    words = " ".join(text_of("README.md").split())
    assert words.count(f"{min(trainings):.0f} to {max(trainings):.0f} times as fast") == 2  # at the top and in Speed
    assert f"single epochs {min(epochs):.0f} to {max(epochs):.0f} times" in words
    assert f"resnet2024, which is {median(exception.training):,.0f} times" in words
    assert f"Testing is {min(tests):.0f} to {max(tests):.0f} times as fast" in words
    assert f"takes {min(seconds):.0f} to {max(seconds):.0f} seconds" in words


def test_the_accuracies_at_the_top_of_the_main_page_are_recorded():
    def row(network, source):
        recorded_rows = recorded.recorded("results")["rows"]
        runs = [each for each in recorded_rows if (each["network"], each["data"]) == (network, source)]
        return max(runs, key=lambda each: (each["train_images"], each["seeds"]))

    words = " ".join(text_of("README.md").split())
    mnist = row("goupy2024_ncg", "mnist")
    cifar10 = row("goupy2024_softhebb", "cifar10-jpeg")
    training = f"after a training run of {mnist['seconds']} seconds"
    assert f"**{mnist['mean']:.1f} %** test accuracy on MNIST, {training}" in words
    assert f"**{cifar10['mean']:.1f} %** test accuracy on CIFAR-10" in words


def test_recorded_trainings_have_the_epochs_that_the_pages_state():
    for run in recorded.recorded("throughput")["runs"]:
        for network in run["networks"]:
            for training in network["protocol"]:
                first, *further, reward = training["epochs"]
                assert (first, {*further} - {0}, reward) == (2, {4}, 20)
                assert (training["train_images"], training["test_images"]) == (6000, 2000)


def test_every_kernel_has_an_example():
    examples = "".join(text for _, text in blocks("experiments/docs/reference/kernels.md"))
    exported = {name for name, value in vars(kernels).items() if callable(value) and not isinstance(value, type)}
    assert len(exported) > 20
    assert [name for name in exported if f"kernels.{name}(" not in examples] == []


PROGRAMS = ("Strongest", "Changed")
"""What only steps see."""


def test_all_fields_of_public_classes_are_explained():
    names = [each.name for each in pkgutil.walk_packages(snnjax.__path__, "snnjax.") if ".app" not in each.name]
    found = {each for name in names for each in vars(importlib.import_module(name)).values() if isinstance(each, type)}
    lacking = {}
    for kind in found:
        fields = getattr(kind, "_fields", ())
        if dataclasses.is_dataclass(kind):
            fields = [each.name for each in dataclasses.fields(kind)]
        ours = kind.__module__.startswith("snnjax.") and kind.__name__[0] != "_" and kind.__name__ not in PROGRAMS
        table = kind.__module__.startswith("snnjax.data.") and not hasattr(snnjax.data, kind.__name__)
        if not ours or table:  # which no user sees
            continue
        texts = [descriptions.attributes_of(each) for each in kind.__mro__]
        explained = re.findall(r"^  (\w[\w, ]*): ", "\n".join(texts), re.MULTILINE)
        known = {name for names in explained for name in names.split(", ")}
        lacking[f"{kind.__module__}.{kind.__name__}"] = {*fields} - known
    assert len(lacking) > 50
    assert {name: fields for name, fields in lacking.items() if fields} == {}

"""The texts for users: all commands and snippets in them run, and what they name exists.

A document is run from top to bottom in a folder of its own, in which placeholders such as DIR are folders with little
data. Commands that take long run with the options of `SHORTER` after their own, of which the last counts.
"""

import ast
import contextlib
import functools
import importlib.util
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import accelerators
import jax
import made_events
import numpy as np
import processes
import pytest
import replicate
import results
import scaling
import throughput
from documents import (
    DOCUMENTS,
    LINKED,
    PAGES,
    PROJECT,
    ROOT,
    all_commands,
    blocks,
    code,
    commands,
    file_names,
    prose,
    rows,
    text_of,
)
from PIL import Image
from test_cli import write_idx

import snnjax
from snnjax import data
from snnjax.app import options
from snnjax.app.main import COMMANDS, main, parse
from snnjax.core import components

BENCHMARKS: dict[str, Any] = dict(
    throughput=throughput,
    scaling=scaling,
    accelerators=accelerators,
    processes=processes,
)
EXPERIMENTS = dict(results=(results, results.Results), replicate=(replicate, replicate.Replicate))
"""Scripts, and their options."""
EXTRAS = {*PROJECT["optional-dependencies"]}
FEW = ["--train_images", "40", "--test_images", "20"]
SHORTER: dict[str, list[str]] = {
    "train": FEW,
    "sweep": [*FEW, "--seeds", "2"],
    "replicate": [*FEW, "--model", "mozafari2018", "--seeds", "1", "--reward_epochs", "1"],
    "results": ["--rows", "goupy2024_ncg:digits", "--seeds", "1", "--epochs", "1", "1", "--kernels", "xla", *FEW],
    "throughput": ["--short", "--images", "12", "--repeats", "1", "--device", "cpu"],
    "scaling": ["--axes", "images", "--points", "1", "--repeats", "1", "--images", "20"],
    "processes": ["--processes", "1", *FEW, "--device", "cpu"],
    "accelerators": ["--model", "goupy2024_ncg", "--update_batch", "1", "--chips", "h100", "--device", "cpu"],
}
"""By command: what is added to what a document says of it; trainings get one epoch a stage besides."""


# What is done about each command. A rule gets its words; the working folder is that of the document.


def nothing(words: list[str]) -> None:
    """What CI does before these tests run, or other tests do: environments, Dask, web pages, programs of others."""


def installation(words: list[str]) -> None:
    """Not repeated here: its extras exist, and its folder is that of the project."""
    path, _, extras = words[-1].partition("[")
    assert (ROOT / path / "pyproject.toml").is_file()
    assert {*extras.removesuffix("]").split(",")} - {""} <= EXTRAS


def clone(words: list[str]) -> None:
    """A repository that the recorded runs name, or the benchmark of readouts."""
    recorded = json.loads((ROOT / "experiments" / "reference.json").read_text())
    named = f"{recorded['how']} {throughput.__doc__}"
    assert re.search(re.escape(words[2].removeprefix("https://")) + r"\b", named)


def process(words: list[str]) -> None:
    """Not run: each waits for the others. tests/test_processes.py has them meet."""
    at = words.index("snnjax")
    chosen = parse(COMMANDS[words[at + 1]], words[at + 2 :], "process")
    assert chosen.processes.distributed is not None


def command(words: list[str]) -> None:
    """In this process. Without torch weights travel as .npz, as the text says that they can."""
    if not importlib.util.find_spec("torch"):
        words = [each.replace(".pth", ".pth.npz") for each in words]
    if "--scheduler" not in words:  # tests/test_workers.py has one
        main([*words[1:], *shorter(words[1], words)])


def benchmark(words: list[str]) -> None:
    """Each study and kind of kernels once, without the programs that are not here.

    tests/test_throughput.py has them take part where they are.
    """
    for option in {"--reference", "--spikenn"} & {*words}:
        at = words.index(option)
        words = words[:at] + words[at + 2 :]
    for option, module in {"--spyker": "spyker", "--pytorch": "torch"}.items():
        words = [each for each in words if each != option or importlib.util.find_spec(module)]
    if words[1].endswith("accelerators.py") and not importlib.util.find_spec("jax_plugins"):
        return  # without their compilers
    if first_time(words[1], *(words[words.index(each) + 1] for each in ("--study", "--kernels") if each in words)):
        program([*words[1:], *shorter(pathlib.Path(words[1]).stem, words)])


def experiment(words: list[str]) -> None:
    """In this process, once: what makes it quick makes all tables the same."""
    name = pathlib.Path(words[1]).stem
    if first_time(name):
        module, _ = EXPERIMENTS[name]
        module.main([*words[2:], *shorter(name, words)])


def first_time(*key: str) -> bool:
    """Whether nothing of this name has run in the folder of the document."""
    mark = pathlib.Path("ran", "-".join(key).replace("/", "-"))
    fresh = not mark.exists()
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    return fresh


RULES: dict[str, Callable[[list[str]], None]] = {
    r"python3 -m venv \.venv|python -m pytest": nothing,
    r"dask (scheduler|worker) .*|pdoc .*|tensorboard --logdir runs": nothing,
    r"pip install -q -e \S+": installation,
    r"git clone .*": clone,
    r"snnjax .*": command,
    r"(taskset -c [01]|srun -N 8 -n 8) snnjax .*": process,
    r"python benchmarks/\w+\.py.*": benchmark,
    r"python experiments/\w+\.py.*": experiment,
}
"""A pattern for whole commands, and what is done about them."""


def rule(line: str) -> Callable[[list[str]], None]:
    (found,) = [each for pattern, each in RULES.items() if re.fullmatch(pattern, line)]
    return found


def program(words: list[str]) -> None:
    """Runs a Python program to its end."""
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def shorter(name: str, words: list[str]) -> list[str]:
    """What makes a command quick."""
    if name not in ("train", "sweep"):
        return SHORTER.get(name, [])
    if "--epochs" in words:
        given = words[words.index("--epochs") + 1 :]
        count = next((at for at, word in enumerate(given) if not word.isdigit()), len(given))
    else:
        model = words[words.index("--model") + 1] if "--model" in words else options.Network().model
        count = len(snnjax.NETWORKS[model]().epochs)
    return [*SHORTER[name], "--epochs", *["1"] * count]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkout to work in, with little data behind the names that the documents use, and in the cache."""
    for name in ("experiments", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    digits = data.digits()
    images, labels = digits.train_images[:60].astype(np.uint8), digits.train_labels[:60].astype(np.uint8)
    cache = tmp_path / "cache" / "snnjax" / "data"
    cache.mkdir(parents=True)
    for path in (tmp_path / "DIR", cache / "mnist", cache / "fashion_mnist"):
        write_idx(path, images, labels)
    (cache / "cifar10").mkdir()
    colours = np.random.default_rng(0).integers(0, 256, (60, 1 + 3 * 32 * 32), np.uint8)
    colours[:, 0] = labels
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        (cache / "cifar10" / name).write_bytes(colours.tobytes())
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "PICTURES" / ("zero", "one", "two")[label % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    for seed, part in enumerate(("Train", "Test")):
        made_events.write_nmnist(tmp_path / "RECORDINGS", part, images[:40], labels[:40], seed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(components, "_TYPES", dict(components._TYPES))  # two documents define EarlyInputs
    monkeypatch.setitem(sys.modules, "snippets", types.ModuleType("snippets"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("3_own_rule", None)  # as its component is forgotten too
    jax.config.update("jax_default_device", None)


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_snippets_run(document, folder):
    """From top to bottom, and then the files are there of which the text speaks."""
    names: dict[str, Any] = dict(__name__="snippets")
    for block in blocks(document):
        if block.language == "python":
            with jax.numpy_rank_promotion("allow"):
                exec(compile(block.text, document, "exec"), names)
        elif block.language == "sh":
            for line in commands(block.text):
                print("$", line)
                rule(line)(shlex.split(line))
    for network in (each for each in names.values() if isinstance(each, snnjax.Network)):
        network.initial_weights(0)  # which bounds may exclude
    left = {each for path in folder.rglob("*") for each in (path.name, str(path.relative_to(folder)))}
    there = left | {each for path in ROOT.glob("*/*") for each in (path.name, str(path.relative_to(ROOT)))}
    assert [name for name in file_names(document) if name not in there] == []
    if document == "experiments/README.md":
        kept = {row[0].strip("`") for row in rows(document, "file")}
        assert kept == {each.name for each in (folder / "runs/goupy2024_ncg_digits").iterdir()} - {PREVIOUS}


PREVIOUS = "checkpoint.previous.npz"


# What holds without running anything.


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_command_is_one_that_there_is(document):
    """Exactly one rule runs it, and it takes the options."""
    for line in all_commands(document):
        words = shlex.split(line)
        what = rule(line)
        if what is command:
            parse(COMMANDS[words[1]], words[2:], line)
        elif what is experiment:
            parse(EXPERIMENTS[pathlib.Path(words[1]).stem][1], words[2:], line)
        elif what is benchmark:
            parse(BENCHMARKS[pathlib.Path(words[1]).stem].Options, words[2:], line)
        else:
            what(words)


def test_a_command_that_no_rule_knows_fails():
    for line in ("make", "snnjax", "python -m pytest tests", "python experiments", "curl x"):
        with pytest.raises(ValueError, match="values to unpack"):
            rule(line)
    assert commands("a b  # c\nc \\\n  d && .venv/bin/e 'f g'\n") == ["a b", "c d", "e 'f g'"]
    assert shorter("train", ["train", "--model", "deep2024"]) == [*FEW, "--epochs", "1", "1", "1", "1"]
    assert shorter("train", ["train", "--epochs", "2", "4", "9", "--out", "x"]) == [*FEW, "--epochs", "1", "1", "1"]


@functools.cache
def options_of(name: str) -> set[str]:
    """All options of a command or a benchmark, as its help lists them."""
    kinds = {**COMMANDS, **{name: kind for name, (_, kind) in EXPERIMENTS.items()}}
    kind = kinds[name] if name in kinds else BENCHMARKS[name].Options
    with contextlib.redirect_stdout(io.StringIO()) as help_text, contextlib.suppress(SystemExit):
        parse(kind, ["--help"], name)
    return {*re.findall(r"(?<![\w-])--\w+", help_text.getvalue())}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_the_text_names_exists(document):
    """Commands and options, also those that stand alone, which some command must have; imports, extras, programs."""
    known = set().union(*map(options_of, [*COMMANDS, *BENCHMARKS, *EXPERIMENTS]))
    for each in code(document):
        named = {*re.findall(r"(?<![\w-])--[\w-]+", each)}
        if each.startswith("snnjax ") and each != "snnjax --help":
            assert named <= options_of(each.split()[1]), each
        elif found := re.match(r"(?:python )?(benchmarks|experiments)/(\w+)\.py", each):
            assert (ROOT / found[1] / f"{found[2]}.py").is_file()
            assert named <= (options_of(found[2]) if named else set()), each
        elif not each.startswith(("pip ", "snnjax --help")):
            assert named <= known, each
    for block in blocks(document):
        if block.language == "python":
            statements = ast.walk(ast.parse(block.text))
            imports = [each for each in statements if isinstance(each, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), document, "exec"), {})
    extras = re.findall(r"extras?(?: such as)? `(\w+)`", prose(document))
    groups = re.findall(r"pip install [^`]*\[([\w,]+)\]", prose(document))
    assert {*extras, *(each for group in groups for each in group.split(","))} <= EXTRAS
    if document in PAGES:
        rooms = ("tests/", "snnjax/", "experiments/", "benchmarks/")
        assert [x for x in file_names(document) if x.startswith(rooms) and not (ROOT / x).exists()] == []


def slug(heading: str) -> str:
    """A heading as the end of an address."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", LINKED)
def test_links_and_pictures_exist(document):
    links = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text_of(document))
    assert links
    for link in map("".join, links):
        if re.match("https?://", link):
            continue
        path, _, section = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if section:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert section in map(slug, headings), link

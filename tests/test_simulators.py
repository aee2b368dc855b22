"""The benchmark of STDP across simulators: what it runs, what it keeps, and its tables."""

import json
import re
import sys

import numpy as np
import pytest
import simulator_tables
import simulators
from command import unboxed

RESULT = dict(
    assignment="most active neurons",
    neuron="LIF",
    time_steps=100,
    spikes="many",
    recipe="examples/mnist.py",
    url="https://example.org",
    licence="MIT",
    version="1.0",
    accuracy=0.5,
    train_images=90,
    train_presentations=90,
    train_seconds=3.0,
    label_seconds=None,
    label_images=None,
    test_images=10,
    test_images_planned=10,
    test_seconds=0.5,
    peak_memory_mb=100.0,
    spikes_per_image=None,
    synops_per_image=1234.5,
    recipe_statements=12,
    finished=True,
)

PROGRAM = """
import json, pathlib, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
name = "broken" if "--broken" in options else "whole"
count = pathlib.Path(options["--images"]).with_name(f"{name}-{options['--seed']}.count")
count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
if "--broken" in options:
    print("no such neuron", file=sys.stderr)
    raise SystemExit(3)
result = json.loads(pathlib.Path(__file__).with_name("result.json").read_text())
pathlib.Path(options["--out"]).write_text(json.dumps(result | dict(finished=options["--seed"] != "1")))
"""

TABLE = """
[environments.missing]
packages = ["./neurons-1.0-py3-none-any.whl"]

[recipes.whole]
program = "program.py"

[recipes.broken]
program = "program.py"
arguments = ["--broken", "yes"]

[recipes."not installed"]
program = "program.py"
environment = "missing"

[recipes.elsewhere]
program = "program.py"
checkout = "owner/name"

[recipes.readout]
program = "program.py"
given = "broken"

[without]
Another = "it has no recipe."
"""


@pytest.fixture
def recipes(tmp_path, monkeypatch):
    """A folder of recipes that take no time, and the arguments of the benchmark that write results next to it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    (folder / "result.json").write_text(json.dumps(RESULT))
    (folder / "simulators.toml").write_text(TABLE)
    monkeypatch.setattr(simulators, "RECIPES", folder)
    monkeypatch.setattr(simulators, "SETTINGS", folder / "simulators.toml")
    return ["--protocol", "digits", "--out", str(tmp_path / "out")]


def results_of(folder, name):
    return json.loads((folder / "out" / f"{name}.json").read_text())


def test_each_recipe_leaves_a_result_or_a_reason_and_the_rest_continue(recipes, tmp_path, capsys):
    simulators.main([*recipes, "--seeds", "3"])
    out = tmp_path / "out"
    content = json.loads((out / "simulators.json").read_text())
    names = ["whole", "whole", "whole", "broken", "not installed", "elsewhere", "readout"]
    assert [result["name"] for result in content["results"]] == names
    reasons = {result["name"]: result["reason"] for result in content["results"] if "reason" in result}
    assert reasons["broken"] == "no such neuron"
    assert "neurons-1.0" in reasons["not installed"]
    assert "clone github.com/owner/name" in reasons["elsewhere"]
    assert reasons["readout"] == "it learns from the features of broken, which has written none"
    table = (out / "simulators.md").read_text()
    assert "| whole | 50.0 ± 0.0 | most active neurons | 90 | 3 |  | 30 | 50 | 100 |  | 1,234 | 12 |" in table
    assert "- Another: it has no recipe." in table
    assert table in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "seeds"), [("6", 1), ("8", 2)])  # each seed takes 3.5 s
def test_seeds_share_the_time_of_the_protocol(recipes, tmp_path, seconds, seeds):
    """All of them run, or only one."""
    simulators.main([*recipes, "--only", "whole", "--seeds", "2", "--seconds", seconds])
    assert len(json.loads((tmp_path / "out" / "simulators.json").read_text())["results"]) == seeds


def test_what_is_measured_is_not_measured_again(recipes, tmp_path):
    chosen = ["--only", "whole", "broken"]
    for _ in range(2):
        simulators.main([*recipes, *chosen])
    counts = {name: (tmp_path / "out" / f"{name}-0.count").read_text() for name in ("whole", "broken")}
    assert counts == dict(whole="1", broken="2"), "what has failed is tried again"


def test_all_get_the_same_images(recipes, tmp_path):
    simulators.main([*recipes, "--only", "whole"])
    with np.load(tmp_path / "out" / "images.npz") as images:
        assert images["train_images"].shape == (1437, 28, 28)
        assert images["test_images"].shape == (360, 28, 28)
        assert images["train_images"].dtype == np.uint8
        assert sorted(images["train_numbers"]) == [*range(1437)]
        assert sorted(np.unique(images["train_labels"])) == [*range(10)]


def test_a_program_that_does_not_stop_is_ended(tmp_path):
    with pytest.raises(RuntimeError, match="it was stopped after 1 s"):
        simulators.run([sys.executable, "-c", "import time; time.sleep(60)"], 1)


def test_features_are_compared_by_one_readout():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = rng.normal(size=(120, 5)).astype(np.float32)
    features[:, 0] += 20 * labels
    found = simulators.linear_readout(features, labels, features[:30], labels[:30])
    assert found["accuracy"] == 1
    assert (found["features"], found["train_images"], found["test_images"]) == (5, 120, 30)
    table = simulator_tables.features_table([RESULT | dict(name="whole", readout=found)], found | dict(accuracy=0.5))
    assert "| whole | 5 | 120 | 30 | 100.0 ± 0.0 |" in table
    assert "| the pixels, without a network | 5 | 120 | 30 | 50.0 ± 17.9 |" in table


def test_the_strength_of_the_readout_grows_as_long_as_it_helps():
    """Classes in a row need large weights."""
    labels = np.arange(300) % 9
    features = labels[:, None] + np.random.default_rng(0).normal(0, 0.1, (300, 1))
    found = simulators.linear_readout(features.astype(np.float32), labels, features, labels)
    assert found["strength"] > max(simulators.STRENGTHS)
    assert found["accuracy"] > 0.99


def test_too_few_features_are_not_compared(recipes, tmp_path):
    simulators.main([*recipes, "--only", "whole"])
    arrays = dict(train_features=np.ones((30, 2)), train_labels=np.arange(30) % 10)
    np.savez(tmp_path / "out" / "whole-0.features.npz", **arrays, test_features=np.ones((1, 2)), test_labels=[1])
    simulators.main([*recipes, "--only", "whole"])
    assert "readout" not in results_of(tmp_path, "whole-0")


def test_a_result_that_is_cut_short_says_so():
    planned = dict(train_presentations_planned=200, test_images_planned=40)
    row = RESULT | dict(name="slow", finished=False, label_images=30, label_seconds=2.0, **planned)
    table = simulator_tables.results_table([row])
    assert "| slow | 50.0 ± 31.0 of 10 | most active neurons; from 30 images | 90 of 200 | 3 | 2 |" in table


RUN = """
import sys
sys.path.insert(0, FOLDER)
import recipe
RUN = recipe.Run("numpy", simulator="none")
# recipe
def learn(index):
    '''What is not a statement.'''
    if OWN_CRITERION:
        RUN.enough()


for index in RUN.phase("train", RUN.presentations(120), 30):
    learn(index)
# end
labels = RUN.train_labels[:0]
for index in RUN.phase("test", range(len(RUN.test_labels)), 7):
    labels = RUN.test_labels[: index.stop]
RUN.finish(labels, spikes=3)
"""


@pytest.mark.parametrize(
    ("seconds", "criterion", "shown", "finished"),
    [("60", False, "120 of 120", True), ("60", True, "30 of 30", True), ("0", False, "30 of 120", False)],
)
def test_a_recipe_ends_with_its_images_its_criterion_or_its_time(tmp_path, seconds, criterion, shown, finished):
    images = {f"{part}_images": np.zeros((60, 28, 28), np.uint8) for part in ("train", "test")}
    labels = {f"{part}_labels": np.arange(60) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "images.npz", **images, **labels)
    program = tmp_path / "program.py"
    program.write_text(RUN.replace("FOLDER", repr(str(simulators.RECIPES))).replace("OWN_CRITERION", str(criterion)))
    options = ["--images", str(tmp_path / "images.npz"), "--out", str(tmp_path / "out.json"), "--seconds", seconds]
    simulators.run([sys.executable, str(program), *options])
    result = json.loads((tmp_path / "out.json").read_text())
    assert f"{result['train_presentations']} of {result['train_presentations_planned']}" == shown
    assert result["finished"] == finished
    assert result["test_images"] == (60 if seconds == "60" else 7)
    assert (result["accuracy"], result["spikes_per_image"], result["recipe_statements"]) == (1, 3, 5)


def test_the_recipes_that_exist_are_those_of_the_table():
    environments, recipes, _ = simulators.settings()
    programs = {path.name for path in simulators.RECIPES.glob("*.py")} - {"recipe.py"}
    assert {recipe.program for recipe in recipes.values()} == programs
    assert {recipe.environment for recipe in recipes.values()} - {""} == environments.keys()
    assert {recipe.given for recipe in recipes.values()} - {""} <= recipes.keys()
    for environment in environments.values():
        for package in environment.packages + environment.no_deps:
            assert re.fullmatch(r"[\w.-]+==[\w.]+", package), "the version is pinned"


def test_an_unknown_recipe_is_refused(recipes, capsys):
    with pytest.raises(SystemExit, match="2"):
        simulators.main([*recipes, "--only", "hole"])
    assert "did you mean 'whole'?" in unboxed(capsys.readouterr().err)


@pytest.mark.slow
def test_a_network_of_snnjax_is_a_recipe(tmp_path):
    arguments = ["--protocol", "digits", "--only", "snnjax kheradpisheh2018", "--out", str(tmp_path)]
    simulators.main([*arguments, "--seconds", "600"])  # a minute is too short for slow machines
    (result,) = json.loads((tmp_path / "simulators.json").read_text())["results"]
    assert result["accuracy"] > 0.9
    assert result["readout"]["accuracy"] > 0.9
    assert result["finished"]
    assert result["spikes_per_image"] > 1_000

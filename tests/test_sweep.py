"""Many networks at once: each comes to what it comes to alone."""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
import sweep as script
from test_trainer import compiled_once  # noqa: F401  (a fixture that all tests here use)

from snnjax import checkpoint, data, devices, files
from snnjax.layers import RSTDP, STDP, Conv
from snnjax.networks import NETWORKS, Network, stage
from snnjax.training.sweep import Sweep, parameters, plain
from snnjax.training.trainer import Settings, Trainer

IMAGES = data.digits().first(40, 30)
FEATURES = Conv(12, kernel=5, padding=2, threshold=15, winners=4, radius=3, stdp=STDP(doubling=15))
SECOND = Conv(8, kernel=3, padding=1, threshold=3, winners=3, radius=1, stdp=STDP(doubling=15))
REWARDED = dataclasses.replace(SECOND, rstdp=RSTDP(bounds=(0.0, 1.0)))
DECISION = Conv(20, kernel=3, padding=1, rstdp=RSTDP())
STAGES = {
    "one": (stage(FEATURES, pool=4), stage(DECISION)),
    "branches": (stage(FEATURES, pool=2), stage(SECOND, SECOND, pool=2), stage(DECISION)),
    "votes": (stage(FEATURES, pool=4), stage(DECISION, dataclasses.replace(DECISION, kernel=1, padding=0), DECISION)),
    "mixed": (stage(FEATURES, pool=2), stage(REWARDED, SECOND, pool=2), stage(DECISION)),
    "first": (stage(dataclasses.replace(FEATURES, rstdp=RSTDP(bounds=(0.0, 1.0))), pool=4), stage(DECISION)),
    "rewarded": (stage(FEATURES, pool=2), stage(REWARDED, pool=2), stage(DECISION)),
}
VARIANTS = [
    {"seed": 3},
    {"seed": 1, "layer1.threshold": 9.0, "layer1.winners": 2, "layer1.radius": 1},
    {"seed": 3, "layer1.ltp": 0.02, "layer1.ltd": -0.01, "layer1.winners": 6},
]


def network(name: str) -> Network:
    return Network(name, (6, 28, 28), 10, STAGES[name])


@pytest.mark.parametrize(("name", "native"), [(name, False) for name in STAGES if name != "first"] + [("first", True)])
def test_each_network_comes_to_what_it_comes_to_alone(name, native):
    """Bit for bit; their number is odd, so that a device has one more than the other."""
    spec = network(name)
    last = f"{list(parameters(spec))[-1].split('.')[0]}."
    known = parameters(spec)
    variants = [{key: value for key, value in each.items() if key in known} for each in VARIANTS]
    variants = [*variants[:2], {**variants[2], f"{last}reward_ltp": 0.01, f"{last}punish_ltd": 0.002}]
    settings = Settings((2,) * len(spec.stages), batch_size=15, patience=0, native=native)
    results = Sweep(spec, IMAGES, settings, variants).run()
    assert [result["variant"] for result in results] == variants
    assert len({json.dumps(result["epochs"]) for result in results}) == 3
    for variant, result in zip(variants[1:], results[1:], strict=True):
        alone = Trainer(plain(spec, variant), IMAGES, dataclasses.replace(settings, seed=variant["seed"]))
        state = alone.run(alone.initial_state())
        assert result["epochs"] == state.epochs
        for layer, weights in state.weights.items():
            np.testing.assert_array_equal(result["weights"][layer], weights)


def test_side_by_side_as_on_an_accelerator(monkeypatch):
    """Under `jax.vmap` all networks and images go together; sums may round otherwise."""
    settings, variants = Settings((2, 2), batch_size=15), VARIANTS[:2]
    alone = Sweep(network("one"), IMAGES, settings, variants).run()
    jax.clear_caches()
    monkeypatch.setattr(devices, "map_images", lambda function, images: jax.vmap(function)(images))
    together = Sweep(network("one"), IMAGES, settings, variants).run()
    jax.clear_caches()
    for one, other in zip(alone, together, strict=True):
        for layer, weights in one["weights"].items():
            assert (np.abs(weights - other["weights"][layer]) < 1e-5).mean() > 0.9


def test_more_networks_compile_no_more(compilations):
    spec, settings = network("one"), Settings((1, 1), batch_size=15)
    counts = [
        compilations(lambda n=n: [Sweep(spec, IMAGES, settings, VARIANTS[1:] * n).run()[0]["weights"]]) for n in (1, 3)
    ]
    assert counts[1] <= counts[0]


def test_what_may_vary_and_how_it_is_now():
    learned = dict(threshold=3, winners=3, radius=1, ltp=0.004, ltd=-0.003)
    rates = dict(reward_ltp=0.004, reward_ltd=-0.003, punish_ltp=-0.004, punish_ltd=0.0005)
    layers = dict(layer1=learned | dict(threshold=15, winners=4, radius=3), layer2_1=learned, layer2_2=learned)
    layers |= dict(layer3=rates)
    expected = {f"{layer}.{key}": value for layer, each in layers.items() for key, value in each.items()}
    assert parameters(network("branches")) == {"seed": 0, **expected}
    rewarded = parameters(network("rewarded"))
    assert "layer2.threshold" not in rewarded
    assert "layer2.reward_ltp" in rewarded
    assert not [name for name in parameters(network("mixed")) if name.startswith("layer2_2.")]


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], "`variants` must hold at least one"),
        ([{"layer1.kernel": 3}], r"must name some of seed, layer1.threshold, .*, got 'layer1.kernel'"),
        ([{"layer1.winners": 0}], "`layer1.winners` must be an integer of at least 1, got 0"),
        ([{"layer1.winners": float("inf")}], "`layer1.winners` must be a number, got inf"),
        ([{"layer1.radius": 1.5}], "`layer1.radius` must be an integer of at least 0, got 1.5"),
        ([{"layer1.threshold": -1.0}], "`layer1.threshold` must be a number above 0, got -1"),
        ([{"layer2.reward_ltp": float("nan")}], "`layer2.reward_ltp` must be a number, got nan"),
        ([{"seed": -1}], "`seed` must be an integer of at least 0, got -1"),
    ],
)
def test_bad_variants(variants, message):
    with pytest.raises(ValueError, match=message):
        Sweep(network("one"), IMAGES, Settings((1, 1)), variants)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The command in a folder of its own, with a small network."""
    monkeypatch.setitem(NETWORKS, "tiny", lambda shape, classes: dataclasses.replace(network("one"), epochs=(1, 1)))
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    monkeypatch.chdir(tmp_path)
    small = ["--model", "tiny", "--epochs", "1", "1", "--train_images", "40", "--test_images", "30", "--device", "cpu"]
    return lambda *arguments: script.main([*small, "--out", "swept", *arguments])


def test_the_command_keeps_what_is_finished(run, capsys):
    run("--vary", "layer1.threshold=9,15", "--seeds", "2", "--at_once", "3", "--alone", "1")
    printed = capsys.readouterr().out
    assert "4 networks, 4 to be trained" in printed
    assert "1 came to the very same accuracies" in printed
    first = json.loads(pathlib.Path("swept/sweep.json").read_text())
    assert [program["networks"] for program in first["programs"]] == [3, 1]
    assert [each["variant"]["layer1.threshold"] for each in first["networks"]] == [9, 9, 15, 15]
    weights, _ = checkpoint.load(pathlib.Path("swept") / first["networks"][1]["weights"])
    assert {name: value.shape for name, value in weights.items()} == {"layer1": (12, 6, 5, 5), "layer2": (20, 12, 3, 3)}
    assert pathlib.Path("swept/sweep.png").stat().st_size > 1000
    run("--vary", "layer1.threshold=9,15", "--seeds", "3")
    assert "6 networks, 2 to be trained" in capsys.readouterr().out
    second = json.loads(pathlib.Path("swept/sweep.json").read_text())
    assert second["networks"][:4] == first["networks"]
    assert len(second["networks"]) == 6
    run("--vary", "layer1.threshold=9,15", "--seeds", "2", "--alone", "1")
    assert "4 networks, 0 to be trained" in capsys.readouterr().out
    assert json.loads(pathlib.Path("swept/sweep.json").read_text()) == second, "nothing is trained again"


def test_a_folder_holds_one_sweep_at_a_time(run, capsys):
    pathlib.Path("swept").mkdir()
    with files.lock(pathlib.Path("swept")), pytest.raises(SystemExit):
        run()
    assert "another run is writing into swept" in capsys.readouterr().err
    assert not list(pathlib.Path("swept").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "layer1.threshold"], "`vary` must be a name and its values, as layer1.threshold=10,15"),
        (["--vary", "seed=1,2"], "`vary` must name each hyperparameter once, and no seed"),
        (["--vary", "layer1.radius=1,2", "layer1.radius=3"], "must name each hyperparameter once"),
        (["--vary", "layer1.radius=1,1"], "`vary` must give values that differ"),
        (["--epochs", "1", "0"], "`epochs` must end with at least 1 of the reward phase, got (1, 0)"),
        (["--vary", "layer1.kernel=3"], "`vary` must name some of seed, layer1.threshold"),
        (["--seeds", "0"], "`seeds` must be at least 1, got 0"),
        (["--at_once", "0"], "`at_once` must be at least 1, got 0"),
        (["--model", "none"], "`model` must be one of"),
    ],
)
def test_bad_options(run, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_another_sweep_is_not_overwritten(run, capsys):
    run()
    with pytest.raises(SystemExit):
        run("--batch_size", "7")
    assert "holds a sweep of other settings (batch_size)" in capsys.readouterr().err

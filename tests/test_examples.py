"""The examples run, and say what they are there to show; parts of one's own do all that the library's own do."""

import json
import pathlib
import re
import runpy
import shutil
import sys
from functools import partial

import jax
import numpy as np
import pytest
from made_examples import prepare_omniglot, prepare_spoken_digits, write_omniglot, write_spoken_digits
from made_files import png
from scipy.io import wavfile
from sklearn.svm import SVC, LinearSVC

import snnjax
from snnjax.app import plots
from snnjax.core import codec, components, files
from snnjax.core.errors import InputError
from snnjax.data import digits
from snnjax.testing import check_learner

EXAMPLES = pathlib.Path(__file__).parents[1] / "experiments" / "examples"
OWN = {
    "1_own_rule": ("layer1.learners.rate", [0.05, 0.2, 0.5], "EarlyInputs layer1"),
    "5_own_readout": ("layer2.learners.late", [0.7, 0.9, 0.95], "TargetTime layer1"),
    "7_optax_rule": ("layer1.learners.rate", [0.03, 0.1, 0.3], "AdamInputs layer1"),
}
"""Of each example of a part of one's own: the path of its own number, the values of its sweep, its first phase."""


def percents(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"(\d+\.\d)%", text)]


def output(name: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the example of this name prints, with these arguments."""
    with jax.numpy_rank_promotion("allow"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least", "shown"),
    [
        ("2_own_network", 50, "((6, 28, 28), (32, 7, 7), (100, 5, 5))"),
        ("3_features_for_a_classifier", 85, "random weights"),
        ("4_two_classes_of_pictures", 80, "the label is"),
        ("8_skip_connection", 95, "%"),
        ("9_readout_over_depths", 97, "%"),
        ("11_delayed_reward", 80, "epoch  1"),
        ("12_presynaptic_traces", 90, "random weights"),
        ("13_from_a_paper", 90, "random weights"),
    ],
)
def test_networks_learn(name, least, shown, capsys):
    printed = output(name, capsys)
    assert shown in printed
    assert percents(printed)[-1] > max(percents(printed)[0], least)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("10_rates_side_by_side", "a+ 0.0010: mean w(1-w) 0.16", "a+ 0.5000: mean w(1-w) 0.001"),
    ],
)
def test_composed_kernels_learn(name, first, last, capsys):
    lines = output(name, capsys).splitlines()
    assert lines[0].startswith(first)
    assert lines[-1].startswith(last)


@pytest.mark.slow
def test_a_loss_of_ones_own(capsys):
    printed = output("16_loss_of_a_layer", capsys)
    heads = percents(printed)
    assert heads[1] > heads[0] > 50
    assert heads[4] > heads[3] > 50
    assert min(heads[2], heads[5]) > 93
    rule = runpy.run_path(str(EXAMPLES / "16_loss_of_a_layer.py"))["MarginError"]
    check_learner(rule(minibatch_size=3))


@pytest.mark.slow
def test_characters_are_learned_from_one_drawing_each(tmp_path, capsys):
    write_omniglot(tmp_path)
    printed = output("15_one_example", capsys, str(tmp_path), "--runs", "3")
    assert printed.count("20 characters, 1 to learn") == 4
    assert max(percents(printed)) < 15


def test_prepared_drawings_are_those_of_the_folder(tmp_path, capsys):
    write_omniglot(tmp_path / "stored")
    prepare_omniglot(tmp_path / "stored", tmp_path / "prepared")
    background = runpy.run_path(str(EXAMPLES / "15_one_example.py"))["background"]
    for part in ("small1", "small2"):
        stored, prepared = (
            [{drawing.tobytes() for drawing in character} for alphabet in read.values() for character in alphabet]
            for read in (background(tmp_path / "stored", part), background(tmp_path / "prepared", part))
        )
        assert len(stored) == len(prepared) == 20
        assert all(character in prepared for character in stored)


@pytest.mark.parametrize("missing", ["run07", "images_background_small2"])
def test_data_that_are_missing_are_described(missing, tmp_path, capsys):
    write_omniglot(tmp_path)
    shutil.rmtree(tmp_path / missing)
    with pytest.raises(SystemExit, match=f"{tmp_path} does not contain the data that --help names"):
        output("15_one_example", capsys, str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("flat", dict(make_model=partial(LinearSVC, C=0.03))),
        ("flat", dict(make_model=SVC)),
        ("convolutional", dict(steps=100)),
        ("spiking", dict(network="softhebb_narrow")),
        ("spiking", dict(network="local_narrow")),
    ],
)
def test_spoken_digits_of_a_new_speaker_are_recognised(method, settings, tmp_path):
    write_spoken_digits(tmp_path)
    example = runpy.run_path(str(EXAMPLES / "14_spoken_digits.py"))
    sounds = example["recordings"](tmp_path)
    maps = np.stack([example["log_mel"](sound) for sound in sounds.values()])
    digits = np.array([int(name[0]) for name in sounds])
    new = np.array(["anna" in name for name in sounds])
    with jax.numpy_rank_promotion("allow"):
        decide = example[method](maps[~new], digits[~new], 0, **settings)
        found = decide(maps[new])
    assert np.mean(found == digits[new]) > 0.9


def test_prepared_recordings_are_those_of_the_folder(tmp_path):
    write_spoken_digits(tmp_path / "stored", recordings=1)
    pytest.importorskip("tensorflow")
    prepare_spoken_digits(tmp_path / "stored", tmp_path / "prepared")
    recordings = runpy.run_path(str(EXAMPLES / "14_spoken_digits.py"))["recordings"]
    stored, prepared = recordings(tmp_path / "stored"), recordings(tmp_path / "prepared")
    assert stored.keys() == prepared.keys()
    for name, sound in stored.items():
        np.testing.assert_array_equal(prepared[name], sound)


def test_recordings_that_are_missing_are_described(tmp_path, capsys):
    with pytest.raises(SystemExit):
        output("14_spoken_digits", capsys, str(tmp_path))
    assert f"{tmp_path} contains no files such as 7_jackson_32.wav" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["stereo", "rate", "silence"])
def test_recordings_of_another_kind_are_refused(wrong, tmp_path, capsys):
    write_spoken_digits(tmp_path, recordings=1)
    sound = np.random.default_rng(0).integers(-9, 9, 4000, np.int16)
    samples = dict(stereo=np.stack([sound, sound], 1), rate=sound, silence=0 * sound)
    wavfile.write(tmp_path / "3_anna_0.wav", 44100 if wrong == "rate" else 8000, samples[wrong])
    with pytest.raises(SystemExit, match=r"3_anna_0\.wav must be mono, at 8000 Hz, and not silent"):
        output("14_spoken_digits", capsys, str(tmp_path))


@pytest.mark.slow
def test_own_features(capsys):
    printed = output("6_own_features", capsys)
    (oblique,) = re.findall(r"products of components of layer1 are (0\.\d+) off", printed)
    assert float(oblique) < 0.1
    assert percents(printed)[-1] > 93
    rule = runpy.run_path(str(EXAMPLES / "6_own_features.py"))["PrincipalComponents"]
    check_learner(rule(minibatch_size=3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rule", "deciding"),
    [("11_delayed_reward", "DelayedReward", True), ("12_presynaptic_traces", "TraceSTDP", False)],
)
def test_rules_with_traces_keep_the_contract(name, rule, deciding):
    check_learner(runpy.run_path(str(EXAMPLES / f"{name}.py"))[rule](), deciding=deciding)


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_own_parts_learn_and_are_swept_reported_and_loaded(name, tmp_path, monkeypatch):
    path, values, first_phase = OWN[name]
    known, script = components.TYPES, str(EXAMPLES / f"{name}.py")
    types = dict(known)
    monkeypatch.setattr(components, "TYPES", types)
    monkeypatch.setattr(codec, "TYPES", types)
    monkeypatch.setattr(plots, "png", lambda figure: png(0))  # drawings take longer than all else
    main = runpy.run_path(script)["main"]
    run, sweep = tmp_path / "run", tmp_path / "sweep"
    with jax.numpy_rank_promotion("allow"):
        main(tmp_path)
    results = json.loads((run / "results.json").read_text())
    assert results["test"]["accuracy"] > 0.4
    assert first_phase in [phase["name"] for phase in results["phases"]]
    assert results["hyperparameters"][path] in values

    networks = json.loads((sweep / "sweep.json").read_text())["networks"]
    (short,) = networks[0]["variant"]
    assert [each["variant"][short] for each in networks] == values
    paths = [run / "weights.npz", *(sweep / f"weights_{at:03}.npz" for at in (0, 1, 2))]
    found, first, second, third = (files.load_checkpoint(each)[0] for each in paths)
    assert np.mean(found["layer1"] * (1 - found["layer1"])) < 0.1, "weights move to their bounds"
    assert any((first[layer] != third[layer]).any() for layer in first), "the number makes a difference"
    assert found.keys() == second.keys() >= {"layer1", "layer2"}
    for layer, array in second.items():  # of the same network, side by side with others
        np.testing.assert_array_equal(found[layer], array, err_msg=layer)

    page = (run / "report.html").read_text()
    pictures = {each.name for each in (run / "pictures").iterdir()}
    assert pictures >= {"history.png", "confusion.png", "weights.png", "features_layer1.png", "features_layer2.png"}
    assert page.count("data:image/png;base64,") == len(pictures)
    assert f"{results['test']['accuracy']:.2%}" in page

    types = dict(known)
    monkeypatch.setattr(components, "TYPES", types)
    monkeypatch.setattr(codec, "TYPES", types)
    with pytest.raises(InputError, match="unknown to this program: import the module that defines it first"):
        snnjax.load(run)
    runpy.run_path(script)
    network, data = snnjax.load(run), digits().subset(None, 200)
    decisions = jax.jit(lambda images: jax.lax.map(network, images))(data.test_images)
    assert np.mean(np.asarray(decisions) == data.test_labels) == results["test"]["accuracy"]
    assert snnjax.load(paths[-1]).network.hyperparameters()[path] == values[-1]


def test_the_page_on_papers_shows_the_network_of_its_example():
    page = (EXAMPLES.parent / "docs" / "howto" / "from_a_paper.md").read_text()
    (shown,) = re.findall(r"^(def falez2019.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert shown in (EXAMPLES / "13_from_a_paper.py").read_text()


def test_every_example_is_run():
    tested = re.findall(r'^.*"(\d+_\w+)"', pathlib.Path(__file__).read_text(), re.M)
    assert {*tested} == {path.stem for path in EXAMPLES.glob("*.py")}

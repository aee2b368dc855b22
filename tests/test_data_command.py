"""`snnjax data` and `snnjax doctor`."""

import os
import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
from command import Command, refused
from PIL import Image
from test_cli import tiny, write_idx
from test_folder import fill

from snnjax import data
from snnjax.networks import NETWORKS


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A cache folder with a small MNIST, and a folder to work in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    digits = data.digits().first(20, None)
    folder = tmp_path / "cache" / "snnjax" / "data" / "mnist"
    folder.parent.mkdir(parents=True)
    write_idx(folder, digits.train_images.astype(np.uint8), digits.train_labels.astype(np.uint8))
    return tmp_path


def test_all_sets_are_listed(sets, capsys):
    Command("data").main([])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("│ ")]
    rows = {words[1]: words for words in lines if words[1] != "│"}  # a long path is folded
    assert rows.keys() == {*data.DATASETS}
    assert "built" in rows["digits"]
    assert "cache:" in rows["mnist"]
    assert "absent" in rows["cifar10"]


def test_a_set_is_looked_at_and_stored(sets, capsys):
    Command("data").main(["mnist", "--out", "mine.npz"])
    out = capsys.readouterr().out
    assert "Dataset(mnist: 20 training and 20 test images of 28x28" in out
    counts = np.bincount(data.load("mnist").train_labels, minlength=10)
    assert cells(out)[1:] == [[str(name), str(count), str(count)] for name, count in enumerate(counts)]
    stored, images = data.load("mine.npz"), data.load("mnist")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(images, name))
    assert "already exists" in refused(Command("data"), capsys, "mnist", "--out", "mine.npz")
    assert "`out` stores one data set, got 2" in refused(Command("data"), capsys, "mnist", "digits", "--out", "x.npz")
    assert "`dataset` must be one of digits" in refused(Command("data"), capsys, "minst")


def cells(text: str) -> list[list[str]]:
    """The rows of a table."""
    return [re.split(" *[│┃] *", line)[1:-1] for line in text.splitlines() if line[:1] in ("│", "┃")]


def test_many_classes_are_counted_in_short(sets, capsys):
    images, names = np.full((70, 5, 5), 9, np.uint8), tuple(f"[b]{number}" for number in range(35))
    labels = np.repeat(np.arange(35, dtype=np.int32), 2)
    data.Dataset("many", images, labels, images[::2], labels[::2], 35, class_names=names).save("many.npz")
    Command("data").main(["many.npz"])
    head, *rows = cells(capsys.readouterr().out)
    assert head == ["class", "training", "test"]
    assert rows == [*([name, "2", "1"] for name in names[:30]), ["5 more", "10", "5"]]


def test_a_folder_of_pictures_is_looked_at(sets, capsys):
    fill(sets / "pets" / "train", dict(cat=4, dog=6))
    fill(sets / "pets" / "test", dict(cat=2, dog=2))
    fill(sets / "pets" / "val", dict(cat=3, dog=1))
    for path in (sets / "pets").rglob("*.png"):
        Image.new("RGB", (9, 7), (90, 20, 20)).save(path)
    Command("data").main(["folder", "--data_dir", "pets", "--size", "12", "--group", "[0-5]", "--out", "pets.npz"])
    out = capsys.readouterr().out
    assert cells(out) == [["class", "training", "test", "validation"], ["cat", "4", "2", "3"], ["dog", "6", "2", "1"]]
    assert "the pictures are taken in colour; --no_colour takes them as grey" in out
    assert "18 of 18 pictures: enlarged, the smallest from 9x7" in out
    stored = data.load("pets.npz")
    assert len(np.unique(stored.train_groups)) == 6
    assert sorted(stored.test_files) == ["test/cat/0.png", "test/cat/1.png", "test/dog/0.png", "test/dog/1.png"]
    Command("data").main(["folder", "--data_dir", "pets", "--no_colour"])
    assert "of 7x9, 2 classes" in capsys.readouterr().out


def test_a_cached_set_is_trained_without_a_folder_named(sets, capsys, monkeypatch):
    """And tested again from any other folder."""
    monkeypatch.setitem(NETWORKS, "tiny", tiny)
    short = ["--model", "tiny", "--train_images", 20, "--test_images", 20, "--epochs", 0, 0, "--validation", 0]
    Command("train").main(["--dataset", "mnist", "--out", "run", *short])
    (sets / "elsewhere").mkdir()
    os.chdir(sets / "elsewhere")
    capsys.readouterr()
    Command("evaluate").main([sets / "run", "--device", "cpu"])
    assert "on 20 test images of mnist" in capsys.readouterr().out


@pytest.fixture(scope="module")
def doctor():
    """What the doctor says, and the exit status."""
    return subprocess.run([sys.executable, "-m", "snnjax", "doctor"], capture_output=True, text=True, check=False)


def test_the_doctor_looks_at_all(doctor):
    assert doctor.stderr == ""
    for words in (
        "versions",
        "device",
        "kernels",
        "auto takes",
        "cache folder",
        "data: digits",
        "built in",
        "tensorboardX",
    ):
        assert words in doctor.stdout


def test_the_doctor_finds_what_fails(tmp_path):
    """No C++ compiler on the path, and a cache folder that cannot be."""
    (tmp_path / "file").touch()
    paths = dict(PATH=str(tmp_path), CXX="", XDG_CACHE_HOME=str(tmp_path / "file"), HOME=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "snnjax", "doctor"], capture_output=True, text=True, env=os.environ | paths, check=False
    )
    said = " ".join(done.stdout.split())
    assert re.search(
        "FAILS cache folder nothing can be kept in .* set XDG_CACHE_HOME absent kernels auto takes XLA's: nothing", said
    )
    assert "ok data: digits built in" in said
    assert done.returncode == 1


def test_the_examples_in_the_scripts_are_the_commands(monkeypatch, capsys):
    """Each script in experiments/ is the command of its name."""
    scripts = pathlib.Path(__file__).parents[1] / "experiments"
    for name in ("train", "evaluate", "predict", "sweep", "report", "convert"):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(scripts / f"{name}.py"), run_name="__main__")
        assert caught.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: snnjax {name} ")

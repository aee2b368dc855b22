"""`snnjax data`, `snnjax doctor` and `snnjax export`."""

import importlib.util
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
from command import Command, refused
from made_files import FILES, fill, idx

import snnjax
from snnjax import data
from snnjax.app.commands import doctor
from snnjax.app.commands.data import MOST
from snnjax.data import digits
from snnjax.networks.quantisation import quantise


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A cache folder with a small MNIST, and a folder to work in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "cache" / "snnjax" / "data" / "mnist"
    folder.mkdir(parents=True)
    for name, array in FILES.items():
        (folder / name).write_bytes(idx(array))
    return tmp_path


def cells(text: str) -> list[list[str]]:
    """The rows of a table."""
    return [re.split(" *[│┃] *", line)[1:-1] for line in text.splitlines() if line[:1] in ("│", "┃")]


def test_all_sets_are_listed(sets, capsys):
    Command("data").main([])
    rows = {row[0]: row[1:] for row in cells(capsys.readouterr().out)[1:] if row[0]}  # a long path is folded
    assert rows.keys() == {*data.DATASETS}
    assert rows["mnist"][:5] == ["60,000", "10,000", "28x28", "10", "12"]
    assert rows["mnist"][5].startswith("cache:")
    assert rows["digits"] == ["1,437", "360", "28x28", "10", "", "built in"]
    assert rows["cifar10"] == ["50,000", "10,000", "32x32x3", "10", "170", "absent"]


def test_a_set_is_looked_at_and_stored(sets, capsys):
    names = tuple(f"[b]{number}" for number in range(MOST + 5))
    images = np.full((2 * len(names), 5, 5), 9, np.uint8)
    labels = np.arange(2 * len(names), dtype=np.int32) // 2
    many = data.Dataset("many", images, labels, images[::2], labels[::2], class_names=names)
    many.save("many.npz")
    Command("data").main(["many.npz", "--out", "mine.npz"])
    rows = cells(capsys.readouterr().out)[1:]
    assert rows == [*([name, "2", "1"] for name in names[:MOST]), ["5 more", "10", "5"]]
    assert data.load("mine.npz").digest == many.digest


def test_a_folder_of_pictures_is_looked_at(sets, capsys):
    for part, counts in dict(train=dict(cat=4, dog=6), test=dict(cat=2, dog=2), val=dict(cat=3, dog=1)).items():
        fill(sets / "pets" / part, counts)
    where = ["folder", "--data_dir", "pets", "--out", "pets.npz"]
    Command("data").main([*where, "--size", "12", "--colour", "--group", "[0-5]"])
    out = capsys.readouterr().out
    assert cells(out) == [["class", "training", "test", "validation"], ["cat", "4", "2", "3"], ["dog", "6", "2", "1"]]
    assert ", 12 high, 12 wide, in colour, 2 classes" in out
    assert "18 of 18 pictures: enlarged, the smallest from 7 high, 9 wide" in out
    stored = data.load("pets.npz")
    assert len(np.unique(stored.train_groups)) == 6
    assert sorted(stored.test_files) == ["test/cat/0.png", "test/cat/1.png", "test/dog/0.png", "test/dog/1.png"]


def test_the_doctor_finds_what_fails(tmp_path, capsys, monkeypatch):
    """No C++ compiler on the path, a cache folder that cannot be; the system has no fcntl, which stops no command."""
    monkeypatch.setitem(doctor.EXTRAS, "more", ("no_such_package", "for nothing"))
    Command("doctor").main([])  # ends well although an optional part is absent
    out, err = capsys.readouterr()
    assert re.search("absent +no_such_package", out)
    assert ("FAILS" in out, err) == (False, "")
    (tmp_path / "file").touch()
    paths = dict(PATH=str(tmp_path), CXX="", XDG_CACHE_HOME=str(tmp_path / "file"), HOME=str(tmp_path))
    code = "import sys; sys.modules['fcntl'] = None; import snnjax.runs.run_folder, snnjax.app.main as x; x.main()"
    command = [sys.executable, "-c", code, "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | paths)
    said = " ".join(done.stdout.split())
    for words in ("FAILS cache folder nothing can be kept in", "absent back end auto is xla", "ok data: digits"):
        assert words in said, done
    assert done.returncode == 1


def test_the_examples_in_the_scripts_are_the_commands(monkeypatch, capsys):
    """Each script in experiments/ is the command of its name."""
    for name in ("train", "evaluate", "predict", "sweep", "report", "convert"):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(str(pathlib.Path(__file__).parents[1] / "experiments" / f"{name}.py"), run_name="__main__")
        assert capsys.readouterr().out.startswith(f"usage: snnjax {name} ")


NCG = "pretrained:goupy2024_ncg_mnist"
COMPILER = shutil.which("gcc") or shutil.which("cc")


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_a_program_in_c_decides_as_the_network(tmp_path, capsys):
    Command("export").main([NCG, "--to", "c", "--bits", 4, "--out", tmp_path / "made"])
    out = capsys.readouterr().out
    assert f"{tmp_path}/made/goupy2024_ncg.c: C99, weights of 4 bits" in out
    subprocess.run(out.splitlines()[-1].split(), cwd=tmp_path, check=True)
    images = digits().test_images[:20].round().astype("uint8")
    done = subprocess.run([tmp_path / "classify"], input=images.tobytes(), capture_output=True, check=True)
    decided = [int(line.split()[0]) for line in done.stdout.splitlines()]
    expected = snnjax.cost(quantise(snnjax.load(NCG), 4), images).decisions[:, -1]
    assert decided == expected.tolist()


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "goupy2024_ncg.h").write_text("mine")
    said = refused(Command("export"), capsys, NCG, "--to", "c", "--out", tmp_path)
    assert "goupy2024_ncg.h already exists: delete it, or name another folder (--out) or name (--name)" in said
    assert [path.name for path in tmp_path.iterdir()] == ["goupy2024_ncg.h"]
    assert (tmp_path / "goupy2024_ncg.h").read_text() == "mine"


@pytest.mark.skipif(importlib.util.find_spec("nir") is None, reason="needs the package nir")
def test_nir_is_written_once(tmp_path, capsys):
    Command("export").main([NCG, "--to", "nir", "--neuron", "LIF", "--out", tmp_path])
    assert f"{tmp_path}/goupy2024_ncg.nir: the network" in capsys.readouterr().out
    assert "already exists" in refused(Command("export"), capsys, NCG, "--to", "nir", "--out", tmp_path)

"""`snnjax export`: the files that it writes, and what it refuses."""

import importlib.util
import shutil
import subprocess

import pytest
from command import Command, refused

import snnjax
from snnjax.data import digits
from snnjax.networks.quantisation import quantise

NCG = "pretrained:goupy2024_ncg_mnist"
COMPILER = shutil.which("gcc") or shutil.which("cc")


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_a_program_in_c_decides_as_the_network(tmp_path, capsys):
    Command("export").main([NCG, "--to", "c", "--bits", 4, "--out", tmp_path / "made"])
    out = capsys.readouterr().out
    assert f"{tmp_path}/made/goupy2024_ncg.c: C99, weights of 4 bits" in out
    command = out.splitlines()[-1].partition(" makes a program")[0].split()
    subprocess.run([*command, "-o", tmp_path / "program"], check=True)
    images = digits().test_images[:20].round().astype("uint8")
    done = subprocess.run([tmp_path / "program"], input=images.tobytes(), capture_output=True, check=True)
    decided = [int(line.split()[0]) for line in done.stdout.splitlines()]
    expected = snnjax.cost(quantise(snnjax.load(NCG), 4), images).decisions[:, -1]
    assert decided == expected.tolist()


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_two_networks_of_one_program_have_two_names(tmp_path):
    for name in ("mine", "yours"):
        Command("export").main([NCG, "--to", "c", "--bits", 1, "--name", name, "--out", tmp_path])
    main = '#include "mine.h"\n#include "yours.h"\nint main(void) { return MINE_CLASSES != YOURS_CLASSES; }\n'
    (tmp_path / "main.c").write_text(main)
    files = [tmp_path / f"{name}.c" for name in ("main", "mine", "yours")]
    subprocess.run([COMPILER, "-O1", *files, "-o", tmp_path / "program"], check=True)
    subprocess.run([tmp_path / "program"], check=True)


def test_wrong_names_are_refused(tmp_path, capsys):
    given = NCG, "--to", "c", "--name", "../mine", "--out", tmp_path
    assert "`name` must begin with a letter" in refused(Command("export"), capsys, *given)
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "goupy2024_ncg.h").write_text("mine")
    said = refused(Command("export"), capsys, NCG, "--to", "c", "--out", tmp_path)
    assert "goupy2024_ncg.h already exists: delete it, or name another folder (--out) or name (--name)" in said
    assert [path.name for path in tmp_path.iterdir()] == ["goupy2024_ncg.h"]
    assert (tmp_path / "goupy2024_ncg.h").read_text() == "mine"


def test_networks_that_cannot_be_said_are_refused(tmp_path, capsys):
    given = "pretrained:kheradpisheh2018_mnist", "--out", tmp_path
    assert "LinearSVM" in refused(Command("export"), capsys, *given, "--to", "c")
    assert "`bits` must be" in refused(Command("export"), capsys, NCG, "--to", "c", "--bits", 9, "--out", tmp_path)
    new = tmp_path / "new"
    said = refused(Command("export"), capsys, NCG, "--to", "c", "--neuron", "LIF", "--out", new)
    assert "`neuron` is for --to nir, got LIF" in said
    said = refused(Command("export"), capsys, NCG, "--to", "nir", "--bits", 3, "--out", new)
    assert "`bits` is for --to c" in said
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(importlib.util.find_spec("nir") is not None, reason="the package is there")
def test_a_missing_package_is_named(tmp_path, capsys):
    said = refused(Command("export"), capsys, NCG, "--to", "nir", "--out", tmp_path)
    assert "pip install 'snnjax[nir]'" in said


@pytest.mark.skipif(importlib.util.find_spec("nir") is None, reason="needs the package nir")
def test_nir_is_written_once(tmp_path, capsys):
    Command("export").main([NCG, "--to", "nir", "--neuron", "LIF", "--out", tmp_path])
    assert f"{tmp_path}/goupy2024_ncg.nir: the network" in capsys.readouterr().out
    assert "already exists" in refused(Command("export"), capsys, NCG, "--to", "nir", "--out", tmp_path)

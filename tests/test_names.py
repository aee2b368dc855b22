"""Names of classes from a folder of pictures to what a run, a report and the commands show."""

import dataclasses
import json
import re
from html import escape

import numpy as np
import pytest
import tiny
from command import Command
from PIL import Image

import snnjax
from snnjax.app import plots, report
from snnjax.core.errors import printable
from snnjax.data.names import shortened
from snnjax.networks import Images
from snnjax.runs.results_file import read_results
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.sweep_folder import SweepFolder
from snnjax.runs.trained import Trained
from snnjax.training.loop import Trainer
from snnjax.training.sweep import Sweep

NAMES = ("<b>&", r"[red]$\x$", "cat 2", "cat 10", "a name that is longer than any picture has room for", *"ABCDE")
FILES = tuple(f"{number}.png" for number in range(40))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, its images as from a folder of pictures, and its trainer."""
    images = dataclasses.replace(tiny.images(), class_names=NAMES, test_files=FILES)
    spec = dataclasses.replace(tiny.plain(Images.of(images)), encoder=images.encoder)
    trainer = Trainer(spec, images, snnjax.Settings((0, 0), patience=0))
    run = tmp_path_factory.mktemp("named") / "run"
    with RunFolder(run, trainer, {}, draw=report.draw_run) as folder:
        folder.run()
    return run, images, trainer


def test_a_run_keeps_the_names(trained):
    run, images, trainer = trained
    assert json.loads((run / "results.json").read_text())["class_names"] == list(NAMES)
    assert snnjax.load(run).class_names == NAMES
    page = (run / "report.html").read_text()
    assert [name for name in NAMES if escape(name) in page] == [*NAMES]
    assert "<b>&" not in page
    sweep = Sweep(trainer.network, images, trainer.settings, [dict(seed=0)])
    with SweepFolder(run.parent / "sweep", sweep) as folder:
        (record,) = folder.run()
    assert Trained.read(run.parent / "sweep" / record["weights"]).class_names == NAMES


def test_pictures_show_the_names(trained):
    run, images, _ = trained
    network = snnjax.load(run)
    drawn = dict(report.figures(read_results(run), network, images, [3]))
    short = [shortened(name, plots.MOST_LETTERS) for name in NAMES]
    (axis,) = drawn["confusion"].axes
    assert [each.get_text() for each in axis.get_xticklabels()] == [*short, "(silent)"]
    assert [each.get_text() for each in axis.get_yticklabels()] == short
    (axis,) = drawn["features_layer2"].axes
    assert [each.get_text()[:9] for each in axis.get_yticklabels()] == [f"class {name}"[:9] for name in NAMES]
    decision = network.class_name(network(images.test_images[3]))
    title = f"test image 3 (3.png), label {NAMES[images.test_labels[3]]}: "
    title += "the network stays silent" if decision == "(silent)" else f"class {decision}"
    assert drawn["image_00003"].get_suptitle() == title


def test_long_names_are_shortened_and_all_are_printable():
    assert shortened("abcdefghijklmnopqrstuvwxyz", 9) == "abcd…wxyz"
    assert len(shortened("abcdefghijklmnopqrstuvwxyz", 10)) == 10
    assert printable("a\x1b[1m\n\x85\u202e\u2028\udcffz") == "a?[1m?????z"
    assert printable("Ä 猫\u202f.png") == "Ä 猫\u202f.png"


def test_commands_print_the_names(trained, tmp_path, capsys):
    run, images, _ = trained
    images.save(tmp_path / "pets.npz")
    Command("evaluate").main([run, "--dataset", tmp_path / "pets.npz", "--out", tmp_path / "e.json"])
    assert json.loads((tmp_path / "e.json").read_text())["class_names"] == list(NAMES)
    Image.fromarray(images.test_images[0].astype(np.uint8)).save(tmp_path / "0.png")
    Command("predict").main([run, tmp_path / "0.png"])
    for out in capsys.readouterr().out.split("0.png: "):
        assert [name for name in NAMES[:4] if re.search(rf"[|│] {re.escape(name)} +[|│]", out)] == [*NAMES[:4]]
    dataclasses.replace(images, class_names=NAMES[::-1]).save(tmp_path / "other.npz")
    with pytest.raises(SystemExit):
        Command("evaluate").main([run, "--dataset", tmp_path / "other.npz"])
    assert "the network's classes are <b>&, [red]$" in capsys.readouterr().err

"""Names of classes from a folder of pictures to what a run, a report and the commands show."""

import dataclasses
import itertools
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
from snnjax.runs.results import read_results
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


def called(name: str, capsys, *arguments) -> str:
    capsys.readouterr()
    Command(name).main(arguments)
    return capsys.readouterr().out


def test_a_run_keeps_the_names(trained, tmp_path):
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
    (tmp_path / "results.json").write_text(json.dumps(read_results(run) | dict(class_names=["a", "b"])))
    with pytest.raises(snnjax.InputError, match=r"results\.json is damaged"):
        read_results(tmp_path)


def labels(axis) -> list[str]:
    return [each.get_text() for each in axis.get_ticklabels()]


def test_pictures_show_the_names(trained):
    run, images, _ = trained
    results, network = read_results(run), snnjax.load(run)
    drawn = dict(report.figures(results, network, images, [0, 3]))
    short = [shortened(name, plots.MOST_LETTERS) for name in NAMES]
    (axis,) = drawn["confusion"].axes
    assert (labels(axis.xaxis), labels(axis.yaxis)) == ([*short, "(silent)"], short)
    (rows,) = drawn["features_layer2"].axes
    assert [each[:9] for each in labels(rows.yaxis)] == [f"class {name}"[:9] for name in NAMES]
    for number in (0, 3):
        figure, label = drawn[f"image_{number:05}"], images.names[images.test_labels[number]]
        seen = report.observe(network.model, images.test_images[number])
        decision = network.class_name(network(images.test_images[number]))
        named = f"test image {number} ({images.test_files[number]}), label {label}"
        silent = decision == "(silent)"
        title = f"{named}: the network stays silent" if silent else f"{named}: class {decision}"
        assert figure.get_suptitle() == title
        assert report.decided(seen.decided, NAMES) in title
        assert labels(figure.axes[1].xaxis)[:2] == [*NAMES[:2]]


@pytest.mark.parametrize("names", [[f"class {n:03} of many" for n in range(60)], ["x" * 200] * 2, ["ÄÖ", "ß"]])
def test_names_fit_into_a_confusion_matrix(names):
    """Labels lie within the figure, beside each other, and the matrix keeps most of the room."""
    count = len(names)
    test = dict(confusion_matrix=np.eye(count, dtype=int).tolist(), classes=dict(images=[1] * count))
    figure = plots.confusion_picture(test, names)
    figure.draw_without_rendering()
    (axis,), whole = figure.axes, figure.bbox
    for ticks, low, high in ((axis.xaxis, "x0", "x1"), (axis.yaxis, "y0", "y1")):
        boxes = sorted((each.get_window_extent() for each in ticks.get_ticklabels()), key=lambda box: getattr(box, low))
        assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 for box in boxes)
        assert all(getattr(a, high) <= getattr(b, low) + 1 for a, b in itertools.pairwise(boxes))
    assert axis.get_window_extent().width > whole.width / 2


def test_long_names_are_shortened_and_all_are_printable():
    assert shortened("short") == "short"
    assert shortened("abcdefghijklmnopqrstuvwxyz", 9) == "abcd…wxyz"
    assert len(shortened("abcdefghijklmnopqrstuvwxyz", 10)) == 10
    assert printable("a\x1b[1m\n\x85\u202e\u2028\udcffz") == "a?[1m?????z"
    assert printable("Ä 猫\u202f\u3000.png") == "Ä 猫\u202f\u3000.png"


def test_commands_print_the_names(trained, tmp_path, capsys):
    run, images, _ = trained
    images.save(tmp_path / "pets.npz")
    out = called("evaluate", capsys, run, "--dataset", tmp_path / "pets.npz", "--out", tmp_path / "e.json")
    assert [name for name in NAMES[:4] if re.search(rf"[|│] {re.escape(name)} +[|│]", out)] == [*NAMES[:4]]
    assert json.loads((tmp_path / "e.json").read_text())["class_names"] == list(NAMES)
    picture = images.test_images[0].astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "0.png")
    out = called("predict", capsys, run, tmp_path / "0.png")
    network = snnjax.load(run)
    decision = network.class_name(network(picture))
    assert ("0.png: the network stays silent" if decision == "(silent)" else f"0.png: class {decision}\n") in out
    assert [name for name in NAMES[:4] if re.search(rf"[|│] {re.escape(name)} +[|│]", out)] == [*NAMES[:4]]
    dataclasses.replace(images, class_names=NAMES[::-1]).save(tmp_path / "other.npz")
    with pytest.raises(SystemExit):
        called("evaluate", capsys, run, "--dataset", tmp_path / "other.npz")
    assert "the network's classes are <b>&, [red]$" in capsys.readouterr().err

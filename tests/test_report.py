"""The page of a run and the page that compares runs, for their readers; how both come about is in test_use.py."""

import copy
import dataclasses
import datetime
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import own_classes as own
import pytest
from markupsafe import escape
from rich.console import Console
from test_cli import tiny

from snnjax import Images, InputError, Settings, SpikingNetwork, Trainer, component, data, stage
from snnjax.app import comparisons, console, page, plots, report
from snnjax.runs.results import misclassified, read_results
from snnjax.runs.run_folder import RunFolder
from snnjax.training.state import FORMAT


def test_spikes_have_the_colours_of_the_tutorial():
    """Early ones are dark."""
    image = data.digits().test_images[0]
    network = dataclasses.replace(tiny(Images()), encoder=data.digits().encoder)
    seen = report.observe(SpikingNetwork(network).model, image)
    figure = plots.activity_picture(image, seen, network, "one")
    (maps,) = [axis for axis in figure.axes if axis.get_title().startswith("input: ")]
    notebook = (Path(__file__).parents[1] / "experiments" / "tutorial.ipynb").read_text()
    assert f'TIME = dict(cmap=\\"{maps.images[0].get_cmap().name}\\"' in notebook


class Page(html.parser.HTMLParser):
    """What a page holds; fails where tags do not match, where it names something outside, or runs a program."""

    VOID = ("meta", "img", "wbr")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.links, self.ids, self.images, self.text = list[str](), list[str](), list[str](), [], ""
        self.cells: list[tuple[str, bool]] = []
        self.feed(text)
        assert self.open == []
        assert not re.search(r"url\(|@import|https?:", text)

    def handle_starttag(self, tag, pairs):
        attributes = dict(pairs)
        assert tag not in ("script", "link", "iframe", "object")
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img":
            self.images.append(attributes)
        if tag == "td":
            self.cells.append(("", attributes.get("class") == "best"))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.open += [tag] * (tag not in self.VOID)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" not in self.open:
            self.text += text
        if "td" in self.open:
            known, best = self.cells.pop()
            self.cells.append((known + text, best))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a short run, with a name that asks for care."""
    digits = data.digits().first(40, 40)
    trainer = Trainer(tiny(Images()), digits, Settings((1, 3), batch_size=40, patience=0))
    path = tmp_path_factory.mktemp("runs") / 'it\'s <b> & "more"'
    with RunFolder(path, trainer, dict(dataset="digits"), draw=report.draw_run) as folder:
        folder.run()
    return path


@pytest.fixture
def results(run) -> dict:
    return read_results(run)


def test_the_page_links_to_its_sections(run):
    seen = Page((run / "report.html").read_text())
    assert seen.links == [f"#{name}" for name in seen.ids]
    assert seen.ids[:5] == ["result", "use-the-network", "accuracy-by-epoch", "confusion", "classes"]
    assert len(seen.ids) == 15


def test_the_figures_of_each_epoch_are_kept_and_drawn(run, results):
    (stdp,), (reward,) = results["curves"]["STDP layer1"].values(), results["curves"]["R-STDP"].values()
    assert {name: len(values) for name, values in stdp.items()} == dict.fromkeys(stdp, 1)
    assert {name: len(values) for name, values in reward.items()} == dict.fromkeys(reward, 3)
    last = results["diagnoses"]["R-STDP"]
    assert reward["convergence"][-1] == last["convergence"]["layer2"]
    assert reward["rate_plus_after_reward"][-1] == pytest.approx(0.004 * results["epochs"][-1]["train"]["wrong"])
    figure = plots.curves_picture(reward, "R-STDP: layer2")
    drawn = {axis.get_title(): axis.lines[0].get_ydata().tolist() for axis in figure.axes if axis.lines}
    assert list(drawn.values()) == list(reward.values())
    assert {"mean w(1-w)", "features that never won", "rate a+ after reward"} <= {*drawn}
    wins = last["wins"]["layer2"]
    (axis,) = plots.wins_picture(wins, results["class_names"], "wins of layer2").axes
    assert axis.images[0].get_array().tolist() == np.reshape(wins, (10, -1)).tolist()
    wins = results["diagnoses"]["STDP layer1"]["wins"]["layer1"]
    bars = plots.wins_picture(wins, [], "wins of layer1").axes[0].patches
    heights = [bar.get_height() for bar in bars]
    assert heights == sorted(wins, reverse=True)


def test_pictures_are_described_and_have_their_size(run):
    images = Page((run / "report.html").read_text()).images
    assert len(images) == len(list((run / "pictures").iterdir())) >= 6
    for image in images:
        assert image["src"].startswith("data:image/png;base64,")
        assert len(image["alt"]) > 10
        assert 200 < int(image["width"]) <= 100 * plots.WIDTH
        assert 100 < int(image["height"]) < 3000
    assert len({image["alt"] for image in images}) == len(images)


def test_misclassified_test_images_are_listed_and_drawn(run, results):
    """The silent ones too; all in results.json, the first on the page, and by file where that is known."""
    found = results["misclassified"]
    assert len(found) == round(40 * (1 - results["test"]["accuracy"])) > 0
    labels = data.digits().first(40, 40).test_labels
    assert [each["label"] for each in found] == [str(labels[each["image"]]) for each in found]
    assert all(each["decision"] != each["label"] and each["file"] is None for each in found)
    seen = Page((run / "report.html").read_text())
    at = seen.ids.index("misclassified")
    assert seen.ids[at - 1] == "classes"
    assert sum("misclassified" in path.name for path in (run / "pictures").iterdir()) == 1
    names = tuple(f"set/<b>{number}.png" for number in range(60))
    images = np.zeros((60, 5, 4, 3), np.uint8)
    shown = data.Dataset("set", images, np.arange(60) % 2, images, np.arange(60) % 2, test_files=names)
    listed = misclassified(np.full(60, -1), shown)
    assert listed[7] == dict(image=7, file="set/<b>7.png", label="1", decision="(silent)")
    seen = Page(report.run_page(results | dict(misclassified=listed), run))
    assert "set/<b>49.png" in seen.text
    assert "set/<b>50.png" not in seen.text
    assert "The first 50 of 60; results.json has all." in seen.text
    titles = [axis.get_title() for axis in plots.misclassified_picture(images, listed).axes if axis.images]
    assert len(titles) == 24
    assert titles[1] == "set/<b>1.png\n1\nas (silent)"
    assert "misclassified" not in Page(report.run_page(results | dict(misclassified=[]), run)).ids


def test_the_page_says_how_the_run_was_made(run, results):
    seen = Page(report.run_page(results, run))
    assert "The command that made this run" not in seen.text, "the library made it"
    for text in ("40 test images", "1 3, by stage", results["device"], results["finished"][:16]):
        assert text in seen.text
    ended = datetime.datetime.fromisoformat(results["finished"])
    assert abs((datetime.datetime.now(datetime.UTC) - ended).total_seconds()) < 3600
    command = "snnjax train --out 'a<b>' --data_dir there"
    seen = Page(report.run_page(results | dict(command=command), run))
    assert f"The command that made this run\n{command}" in seen.text
    source = dict(dataset="folder", data_dir="/there", size=[32], colour=False, imports=["/a b/rules.py"])
    seen = Page(report.run_page(results | dict(settings=results["settings"] | source), run))
    assert "--import '/a b/rules.py'" in seen.text
    assert "import rules  # /a b/rules.py" in seen.text
    assert 'snnjax.data.load("folder", "/there", size=(32, 32), colour=False)' in seen.text


def test_the_page_says_how_to_use_the_network(run, results, capsys):
    text = report.run_page(results, run)
    commands, program = re.findall(r'<pre tabindex="0"><code>(.*?)</code>', text, re.S)
    quoted = "'" + str(run).replace("'", "'\"'\"'") + "'"
    assert html.unescape(commands).splitlines() == [
        f"snnjax evaluate {quoted}",
        f"snnjax predict {quoted} IMAGE.png",
        f"snnjax report {quoted} --images 3",
    ]
    exec(html.unescape(program), {})
    assert int(capsys.readouterr().out) in range(-1, 10)
    del results["settings"]["dataset"]
    assert "--images 3 --dataset DATA.npz" in report.run_page(results, run), "the run does not say where its data are"


@pytest.mark.parametrize("found", [None, FORMAT - 1])
def test_results_of_another_format_are_refused(results, tmp_path, found):
    (tmp_path / "results.json").write_text(json.dumps(results | dict(format=found)))
    line = rf"results\.json was written by another version of snnjax \(format {found}, now {FORMAT}\): read it"
    with pytest.raises(InputError, match=line):
        read_results(tmp_path)


def test_runs_without_epochs_or_diagnoses_have_a_page(run, results):
    results |= dict(epochs=[], best_epoch=-1, diagnoses={})
    seen = Page(report.run_page(results, run))
    assert "best epochnone" in seen.text
    assert "what-the-phases-show" not in seen.ids


@component
class Tiring(own.Hebb):
    """Its layer gets a higher threshold with every image."""

    def update(self, layer, state, latency, response, signal):
        layer, state, info = super().update(layer, state, latency, response, signal)
        conv = dataclasses.replace(layer.conv, threshold=layer.conv.threshold + 0.25)
        return dataclasses.replace(layer, conv=conv), state, info


def test_numbers_that_training_has_changed_are_shown_twice(results, tmp_path):
    assert results["trained_hyperparameters"] == {}, "these learners change none"
    head, rows = report.numbers(results)
    assert head == ["number", "at the start"]
    assert ["layer1.threshold", "15"] in rows
    network, digits = tiny(Images()), data.digits().first(40, 40)
    first = dataclasses.replace(network.stages[0].branches[0], learners=Tiring())
    network = dataclasses.replace(network, stages=(stage(first, pool=7), network.stages[1]))
    with RunFolder(tmp_path / "run", Trainer(network, digits, Settings((2, 0))), draw=report.draw_run) as folder:
        found = folder.run()
    assert found["trained_hyperparameters"] == {"layer1.threshold": 15 + 2 * 40 / 4}
    head, rows = report.numbers(found)
    assert head == ["number", "at the start", "after training"]
    assert ["layer1.threshold", "15", "35"] in rows
    assert ["layer1.stride", "1", "1"] in rows


@pytest.mark.parametrize(("seconds", "words"), [(3.21, "3.2 s"), (200, "3 min"), (8000, "2 h 13 min")])
def test_durations(seconds, words):
    assert report.duration(seconds) == words


def test_the_course_of_a_run_ends_with_its_last_phase(results):
    course = comparisons.course(results)
    assert course.epochs == [1, 2, 3]
    assert course.tested == [epoch["test"]["accuracy"] for epoch in results["epochs"]]
    assert course.train == [epoch["train"]["accuracy"] for epoch in results["epochs"]]
    total = sum(phase["seconds"] + phase["compile_seconds"] for phase in results["phases"])
    assert course.seconds[-1] == pytest.approx(total)
    reward = sum(phase["seconds"] for phase in results["phases"] if phase["name"] in ("R-STDP", "test"))
    np.testing.assert_allclose(np.diff(course.seconds), reward / 3)
    assert course.seconds[0] == pytest.approx(total - reward * 2 / 3)


def variants(results: dict) -> dict[str, dict]:
    """Runs of three, one, many and no epochs, by name."""
    found = {name: copy.deepcopy(results) for name in ("runs/three", "_one", "$5 <many> $", "none")}
    found["_one"] |= dict(epochs=results["epochs"][:1], best_epoch=0)
    found["$5 <many> $"]["epochs"] *= 40
    found["none"] |= dict(epochs=[], best_epoch=-1)
    found["_one"]["settings"]["seed"], found["none"]["network"] = 77, "other"
    found["none"]["hyperparameters"] = {"layer1.threshold": 12.0, "layer9.threshold": 1.0}
    found["_one"]["test"] = results["test"] | dict(accuracy=0.98765)
    return found


def test_one_figure_shows_all_runs_over_epochs_and_time(results):
    found = variants(results)
    courses = {name: comparisons.course(each) for name, each in found.items()}
    by_epoch, by_time = comparisons.comparison_picture(courses).axes
    for axis, over in ((by_epoch, "epochs"), (by_time, "seconds")):
        lines = axis.get_lines()
        assert len(lines) == 2 * len(found)
        for at, course in enumerate(courses.values()):
            train, test = lines[2 * at : 2 * at + 2]
            assert (train.get_linestyle(), test.get_linestyle()) == ("--", "-")
            assert train.get_color() == test.get_color()
            np.testing.assert_array_equal(test.get_xdata(), getattr(course, over))
            np.testing.assert_allclose(test.get_ydata(), 100 * np.array(course.tested))
            np.testing.assert_allclose(train.get_ydata(), 100 * np.array(course.train))
    assert courses["none"] == (
        [0],
        [courses["none"].seconds[0]],
        [pytest.approx(np.nan, nan_ok=True)],
        courses["none"].tested,
        "test",
    )


def test_many_runs_have_colours_of_their_own(results):
    course = comparisons.course(results)
    figure = comparisons.comparison_picture({f"run {at}": course for at in range(25)})
    assert len({tuple(line.get_color()) for line in figure.axes[0].get_lines()}) == 25
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][2:] == [f"run {at}" for at in range(25)]


def test_the_comparison_marks_the_best_and_shows_what_differs(results):
    found = variants(results)
    seen = Page(comparisons.comparison_page(found))
    assert seen.links == ["#figures", "#accuracy-over-time", "#what-differs"]
    assert len(seen.images) == 1
    for name in found:
        assert name in seen.text
    assert next(text for text, best in seen.cells if best) == "98.77"
    rows, best = comparisons.compared(found)
    names = [row[0] for row in rows]
    assert best[names.index("silent, %")] == [], "all alike"
    assert best[names.index("supervised epochs")] == [], "neither better nor worse"
    at = names.index("training accuracy of the last epoch, %")
    assert rows[at][-1] == ""
    assert best[at], "one of those that have epochs"
    assert comparisons.differing(found) == [
        ["network", "tiny", "tiny", "tiny", "other"],
        ["seed", "0", "77", "0", "0"],
        ["layer1.threshold", "15.0", "15.0", "15.0", "12.0"],
    ]
    alike = dict.fromkeys("ab", results)
    assert comparisons.differing(alike) == []
    assert "Neither networks, settings nor devices." in comparisons.comparison_page(alike)


def test_names_of_runs_stay_whole_in_narrow_tables():
    names = [f"runs/goupy2024_ncg_digits_threshold{number}" for number in range(10, 16)]
    narrow = Console(width=80, file=io.StringIO())
    narrow.print(console.table(["", *names], [[["test accuracy, %", *["98.53"] * 6]]], "runs", left=7))
    lines = [re.split("[┃│]", line)[1:-1] for line in narrow.file.getvalue().splitlines()[2:]]
    columns = ["".join(cell.strip() for cell in cells) for cells in zip(*filter(None, lines), strict=True)]
    assert columns[1:] == [f"{name}98.53" for name in names]


def test_history_of_any_length():
    epoch = {part: dict(accuracy=0.5, wrong=0.3, silent=0.2) for part in ("train", "test")}
    for length in (1, 5, 400):
        figure = plots.history_picture([epoch] * length, length - 1)
        (axis,) = figure.axes
        figure.draw_without_rendering()
        shown = [tick for tick in axis.get_xticks() if axis.get_xlim()[0] <= tick <= axis.get_xlim()[1]]
        assert shown
        assert all(tick == round(tick) for tick in shown)
        assert len(axis.get_lines()) == 5


def test_texts_of_all_kinds_are_only_texts():
    odd = "<script>&\"'</script>_a/b"
    text = page.page(
        odd, {odd: page.html.table([odd], [[odd, odd]]) + page.html.pairs("words", {odd: odd}) + escape(odd)}
    )
    assert Page(text).text.count(odd) == 10
    assert page.page("a", {"empty": ""}).count("empty") == 0


def test_results_are_read_as_written(run, results):
    written = json.loads((run / "results.json").read_text())
    assert results.keys() ^ written.keys() == {"digest"}
    assert all(written[name] == each for name, each in results.items())
    assert [phase["name"] for phase in results["phases"]][-3:] == ["who fires in stage 1, test", "R-STDP", "test"]

"""What a run shows: its page, the page that compares runs, and event files as TensorBoard itself reads them."""

import copy
import dataclasses
import html.parser
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from command import Command
from markupsafe import escape
from matplotlib.image import imread, imsave
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import snnjax
from snnjax import InputError, data
from snnjax.app import comparisons, console, means, page, plots, report
from snnjax.app.tracking import FOLDER, Tracker
from snnjax.core import files
from snnjax.core.errors import printable
from snnjax.data.names import shortened
from snnjax.encoding import Encoder, FilterBank
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.layers.ramp import Ramp
from snnjax.learners import RSTDP, STDP
from snnjax.networks import ImageSpec, Network, Observed, SpikingNetwork, stage
from snnjax.networks.decision import Decided
from snnjax.networks.features import drawn_back
from snnjax.runs.results_file import misclassified, read_results, write_results
from snnjax.runs.run_folder import RunFolder
from snnjax.runs.sweep_folder import SweepFolder
from snnjax.runs.trained import Trained
from snnjax.training.loop import Trainer
from snnjax.training.state import FORMAT, Settings, TrainState
from snnjax.training.sweep import Sweep


class Page(html.parser.HTMLParser):
    """What a page holds; fails where tags do not match, where it names something outside, or runs a program."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.links, self.ids, self.text = list[str](), list[str](), list[str](), ""
        self.feed(text)
        assert self.open == []
        assert not re.search(r'url\(|@import|https?:|src="(?!data:)', text)

    def handle_starttag(self, tag, pairs):
        assert tag not in ("script", "link", "iframe", "object")
        assert not [name for name, _ in pairs if name.startswith("on")]
        self.links += [value for name, value in pairs if (tag, name) == ("a", "href")]
        self.ids += [value for name, value in pairs if name == "id"]
        self.open += [tag] * (tag not in ("meta", "img", "wbr"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" not in self.open:
            self.text += text


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory) -> Path:
    """A finished run, in a folder whose name asks for care."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("runs") / 'it\'s <b> & "more"'))


@pytest.fixture
def results(run) -> dict:
    return read_results(run)


def test_the_page_of_a_run_holds_its_pictures(run, results):
    """Of test images the first right, wrong and silent ones."""
    text = (run / "report.html").read_text()
    seen = Page(text)
    assert {"result", "confusion", "misclassified", "winners", "responses-to-images"} < {*seen.ids}
    assert seen.links == [f"#{name}" for name in seen.ids]
    names = {path.stem for path in (run / "pictures").iterdir()}
    assert text.count('src="data:image/png;base64,') == len(names)
    for name in names:
        picture = imread(run / "pictures" / f"{name}.png")
        assert picture[..., :3].std() > 0.05, f"nothing is drawn in {name}"
    kinds = dict.fromkeys(range(40), "right")
    kinds |= {each["image"]: "silent" * (each["decision"] == "(silent)") for each in results["misclassified"]}
    first = [min(image for image in kinds if kinds[image] == kind) for kind in ("right", "silent", "")]
    assert {name for name in names if name.startswith("image_")} == {f"image_{number:05}" for number in first}


def test_figures_of_epochs_and_the_confusion_are_kept_and_drawn_as_they_are(results):
    (stdp,), (reward,) = results["curves"]["STDP layer1"].values(), results["curves"]["R-STDP"].values()
    assert {name: len(values) for name, values in stdp.items()} == dict.fromkeys(stdp, 2)
    last = results["diagnoses"]["R-STDP"]
    assert reward["convergence"][-1] == last["convergence"]["layer2"]
    axes = plots.curves_picture(reward, "R-STDP: layer2").axes
    assert [axis.lines[0].get_ydata().tolist() for axis in axes if axis.lines] == list(reward.values())
    wins = last["wins"]["layer2"]
    (axis,) = plots.wins_picture(wins, results["class_names"], "wins of layer2").axes
    assert axis.images[0].get_array().tolist() == np.reshape(wins, (10, -1)).tolist()
    epochs = [{part: dict(accuracy=0.5, wrong=0.3, silent=0.2) for part in ("train", "test")} for _ in range(5)]
    epochs[1]["test"]["accuracy"] = 0.6
    *_, best = plots.history_picture(epochs, 1).axes[0].get_lines()
    assert (best.get_xdata(), best.get_ydata()) == ([2], [60])
    test = dict(confusion_matrix=[[3, 1], [0, 2]], classes=dict(images=[5, 2]))
    (axis,) = plots.confusion_picture(test, ["a", "b"]).axes
    np.testing.assert_allclose(axis.images[0].get_array(), [[0.6, 0.2, 0.2], [0, 1, 0]])
    written = {text.get_position(): text.get_text() for text in axis.texts}
    assert written == {(0, 0): "3", (1, 0): "1", (2, 0): "1", (1, 1): "2"}
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("decision", "label")


@pytest.mark.parametrize("names", [["cat", "dog", "long name of class"], [str(label) for label in range(10)]])
def test_a_confusion_matrix_fills_its_picture(names):
    matrix = np.eye(len(names), dtype=int)
    test = dict(confusion_matrix=matrix.tolist(), classes=dict(images=[1] * len(names)))
    figure = plots.confusion_picture(test, names)
    plots.png(figure)
    drawn = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert (width - drawn.width, height - drawn.height) == pytest.approx((0.25, 0.25), abs=0.15)


def test_a_response_is_drawn_map_by_map():
    """Early spikes by step, counted for each step, silence left blank; the largest score."""
    network = dataclasses.replace(tiny.plain(ImageSpec()), encoder=data.digits().encoder)
    latencies = dict(input=np.full((6, 28, 28), 15), layer1=np.full((4, 4, 4), 15), layer2=np.full((20, 1, 1), 15))
    latencies["input"][0, :7] = 3
    latencies["layer1"][2, 1, 1] = 9
    response = Observed(latencies, Decided(np.int32(0), np.zeros(1), np.arange(10.0)[::-1]))
    figure = plots.activity_picture(tiny.images().test_images[0], response, network, "one", list("abcdefghij"))
    axes = {axis.get_title(): axis for axis in figure.axes}
    maps = axes["input: 6 maps, spikes of 4% of the neurons"].images[0].get_array()
    assert np.ma.filled(maps[:8, 0], -1).tolist() == [*[3.0] * 7, -1]
    title = "spikes of each map at each step"
    counts = [axis.images[0].get_array() for axis in figure.axes if axis.get_title() == title]
    assert (counts[0][0, 3], counts[0].sum()) == (7 * 28, 7 * 28)
    assert (counts[1][2, 9], counts[1].sum()) == (1, 1)
    _, best = axes["score of each class"].lines
    assert (best.get_xdata(), best.get_ydata()) == ([0], [9])


def test_misclassified_test_images_are_listed_and_drawn(run, results):
    """The silent ones too; all in results.json, the first on the page, and by file where that is known."""
    names = tuple(f"set/<b>{number}.png" for number in range(60))
    blank = np.zeros((60, 5, 4, 3), np.uint8)
    shown = data.Dataset("set", blank, np.arange(60) % 2, blank, np.arange(60) % 2, test_files=names)
    listed = misclassified(np.full(60, -1), shown)
    assert listed[7] == dict(image=7, file="set/<b>7.png", label="1", decision="(silent)")
    seen = Page(report.run_page(results | dict(misclassified=listed), run))
    assert "set/<b>49.png" in seen.text
    assert "set/<b>50.png" not in seen.text
    titles = [axis.get_title() for axis in plots.misclassified_picture(blank, listed).axes if axis.images]
    assert titles[1] == "set/<b>1.png\n1\nas (silent)"


def test_the_page_says_how_the_run_was_made(run, results):
    seen = Page(report.run_page(results | dict(seconds=7200), run))
    for text in (
        "time2 h 00 min",
        "40 training, 40 test images",
        results["command"],
        "; ".join(results["diagnoses"]["STDP layer1"]["words"]),
        "best epoch2 of 3",
        f"test accuracy{results['epochs'][1]['test']['accuracy']:.2%}",
        f"silent{results['test']['silent']:.2%}",
    ):
        assert text in seen.text
    shown = [f"{results['epochs'][epoch][part]['accuracy']:.2%}" for part in ("train", "test") for epoch in (1, 2)]
    assert "trainingimages{}{}testimages{}{}".format(*shown) in re.sub(r"\s", "", seen.text)
    results |= dict(epochs=[], best_epoch=-1, diagnoses={})
    results["settings"] |= dict(dataset="folder", data_dir="/there", size=[32], colour=False, imports=["/a b/rules.py"])
    text = Page(report.run_page(results, run)).text
    assert "--import '/a b/rules.py'" in text
    assert 'snnjax.data.load("folder", "/there", size=(32, 32), colour=False)' in text


def test_the_page_says_how_to_use_the_network(run, results, capsys):
    results["settings"]["imports"] = []
    commands, program = re.findall(r'<pre tabindex="0"><code>(.*?)</code>', report.run_page(results, run), re.S)
    quoted = "'" + str(run).replace("'", "'\"'\"'") + "'"
    assert html.unescape(commands).splitlines()[0] == f"snnjax evaluate {quoted}"
    exec(html.unescape(program), {})
    assert int(capsys.readouterr().out) in range(-1, 10)


def test_results_of_earlier_versions_say_native(results, tmp_path):
    settings = {name: value for name, value in results["settings"].items() if name != "backend"}
    for native, expected in ((True, "native"), (False, "xla")):
        write_results(tmp_path, results | dict(settings=settings | dict(native=native)))
        assert read_results(tmp_path)["settings"] == settings | dict(backend=expected)


def test_results_are_read_as_written_or_refused(run, tmp_path):
    written = json.loads((run / "results.json").read_text())
    assert read_results(run) == {name: each for name, each in written.items() if name != "digest"}
    for change, message in (
        (dict(format=FORMAT - 1), rf"another version of snnjax \(format {FORMAT - 1}, now {FORMAT}\): read it"),
        (dict(seconds=1.0), r"results\.json is damaged, its digest does not match: delete it"),
    ):
        (tmp_path / "results.json").write_text(json.dumps(written | change))
        with pytest.raises(InputError, match=message):
            read_results(tmp_path)


def test_the_numbers_of_the_network_of_each_class_and_phase_are_listed(results, tmp_path):
    """Those that training has changed twice."""
    assert results["trained_hyperparameters"] == {}, "these learners change none"
    assert report.numbers(results)[0] == ["number", "at the start"]
    trainer = Trainer(tiny.plain(ImageSpec()), tiny.images(), Settings((0, 0)))
    state = TrainState(trainer.initial_state().weights, {"layer1.threshold": np.float32(35)}, phase=2)
    with RunFolder(tmp_path / "run", trainer) as folder:
        head, rows = report.numbers(folder.finish(state))
    assert head == ["number", "at the start", "after training"]
    assert ["layer1.threshold", "50", "35"] in rows
    assert ["layer1.stride", "1", "1"] in rows
    figures = dict(images=[1200, 1], precision=[1.0, 0.5], recall=[0.25, None], f1=[0.4, None], roc_auc=[0.75, 0.625])
    head, rows = report.classes(dict(classes=figures), ["a", "b"])
    assert head == ["class", "images", "precision", "recall", "F1", "ROC AUC"]
    assert rows == [["a", "1,200", "1.000", "0.250", "0.400", "0.750"], ["b", "1", "0.500", "", "", "0.625"]]
    figures = dict(name="encode", images=1234, compile_seconds=1.5, seconds=2.0, images_per_second=617.0)
    head, [row] = console.phases(dict(phases=[figures]))
    shown = {"phase": "encode", "images": "1,234", "compiling s": "1.5", "running s": "2.0", "images/s": "617"}
    assert dict(zip(head, row, strict=True)) == shown


def test_the_course_of_a_run_ends_with_its_last_phase(results):
    course = comparisons.course(results)
    assert (course.epochs, course.part) == ([1, 2, 3], "test")
    assert course.tested == [epoch["test"]["accuracy"] for epoch in results["epochs"]]
    assert course.train == [epoch["train"]["accuracy"] for epoch in results["epochs"]]
    total = sum(phase["seconds"] + phase["compile_seconds"] for phase in results["phases"])
    reward = sum(phase["seconds"] for phase in results["phases"] if phase["name"] in ("R-STDP", "test"))
    np.testing.assert_allclose(course.seconds, [total - reward * 2 / 3, total - reward / 3, total])
    test = comparisons.comparison_picture(dict(a=course, b=course)).axes[1].get_lines()[1]
    np.testing.assert_array_equal(test.get_xdata(), course.seconds)


def test_the_comparison_marks_the_best_and_shows_what_differs(results):
    found = {name: copy.deepcopy(results) for name in ("runs/three", "_one", "$5 <many> $", "none")}
    found["_one"] |= dict(epochs=results["epochs"][:1], best_epoch=0, test=results["test"] | dict(accuracy=0.98765))
    found["_one"]["settings"]["seed"] = 77
    found["$5 <many> $"]["phases"][0]["seconds"] += 100
    found["none"] |= dict(epochs=[], best_epoch=-1, network="other")
    found["none"]["hyperparameters"] = {"layer1.threshold": 12.0, "layer9.threshold": 1.0}
    seen = Page(comparisons.comparison_page(found))
    for name in found:
        assert name in seen.text
    rows, best = comparisons.compared(found)
    names = [row[0] for row in rows]
    assert best[names.index("test accuracy, %")] == [2]
    assert best[names.index("silent, %")] == [], "all alike"
    assert best[names.index("running, s")] == [1, 2, 4], "the least"
    assert rows[names.index("best epoch")][1:] == ["2", "1", "2", "0"]
    assert rows[names.index("training accuracy of the last epoch, %")][-1] == ""
    assert comparisons.differing(found) == [
        ["network", "plain", "plain", "plain", "other"],
        ["seed", "0", "77", "0", "0"],
        ["layer1.threshold", "50.0", "50.0", "50.0", "12.0"],
    ]


def network_of(seed: int, validation: float, test: float | None = None, **variant) -> dict:
    """The record of a network in a sweep.json."""
    tested = {} if test is None else dict(test=dict(accuracy=test))
    epochs = [dict(train=dict(accuracy=0.9), validation=dict(accuracy=x)) for x in (validation, 0.1)]
    return dict(variant=dict(variant, seed=seed), epochs=epochs, best_epoch=0, **tested)


def sweep_of(*networks: dict, **settings) -> dict:
    """The content of a sweep.json."""
    about = dict(versions=dict(snnjax="1"), device="cpu", test_groups=[], network="plain", data="set")
    return dict(settings=dict(seed=0, **settings), about=about, networks=list(networks))


def test_means_and_paired_differences_over_common_seeds():
    """By hand: 80, 82 and 87 differ from 81, 84 and 92 by 1, 2 and 5; the first row lacks a seed of the second."""
    first = [network_of(seed, x / 100, rule="A") for seed, x in enumerate((80, 82, 87))]
    second = [network_of(seed, x / 100, x / 100, rule="B(x=1)") for seed, x in enumerate((81, 84, 92, 60))]
    failed = network_of(5, 0.5, rule="B(x=1)") | dict(error="invalid", epochs=[])
    other = sweep_of(network_of(9, 0.5), size=3)
    rows = means.rows_of([sweep_of(*first, *second, failed), other])
    head, lines = means.table(rows)
    names = ["validation, %", "validation, minus row 1", "test, %", "test, minus row 1"]
    assert head == ["row", "runs", "what varies", "seeds", *names[:3]]
    half = 4.302653 / np.sqrt(3) * np.std([1, 2, 5], ddof=1)
    wide = 4.302653 / np.sqrt(3) * np.std([80, 82, 87], ddof=1)
    assert lines[0] == ["1", "1", "rule=A", "3", f"83.00 ± {wide:.2f}, sd 3.61", "", ""]
    assert lines[1][:4] == ["2", "1", "rule=B(x=1)", "4, 1 invalid"]
    assert lines[1][5] == f"+2.67 ± {half:.2f} (3)"
    assert lines[1][6].startswith("79.25 ± ")
    assert lines[2] == ["3", "2", "", "1", "50.00", "no common seeds", ""]
    for digest, cells in (("one", ["50.00", "+0.00 (1)"]), ("two", ["50.00"])):
        pair = [sweep_of(network_of(0, 0.5), data=x, size=size) for size, x in enumerate(("one", digest))]
        assert means.table(means.rows_of(pair))[1][1][3:] == cells, "no pair with other images"
    (axis,) = means.picture(rows).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["row 1: rule=A", "row 2: rule=B(x=1)", "row 3"]
    assert axis.get_lines()[0].get_xdata().tolist() == [80, 82, 87]


def test_runs_that_differ_only_in_seed_or_fold_are_one_row(results):
    """Two of the same seed are two rows; images of other folds and draws differ."""

    def run(**settings) -> dict:
        return results | dict(settings=results["settings"] | settings)

    runs = [run(seed=1), run(seed=2), run(seed=2), run(seed=3, adapt_every=7)]
    assert [row.sources for row in means.rows_of(runs)] == [[1, 2], [3], [4]]
    assert [row.sources for row in means.rows_of([run(seed=1), run(seed=2, data="sha256:1")])] == [[1], [2]]
    assert [row.sources for row in means.rows_of([run(draw=True, seed=1), run(draw=True, seed=2, data="")])] == [[1, 2]]
    folds = [run(fold=fold, data=f"sha256:{fold}", test_images=fold) for fold in (1, 2)]
    assert list(means.rows_of(folds)[0].networks) == [(0, 1), (0, 2)]
    head, lines = means.table(means.rows_of([run() | dict(test=None, epochs=[])]))
    assert (head, lines) == (["row", "runs", "seeds"], [["1", "1", "1"]]), "without a decision"
    assert means.in_ranges([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"


def test_networks_that_are_not_alike_are_in_rows_of_their_own(tmp_path):
    """Another pool, which is no hyperparameter; of sweeps, another component of the same name; but not other epochs."""
    images = tiny.images()
    network = tiny.plain(ImageSpec.of(images))
    first, last = network.stages
    pooled = dataclasses.replace(network, stages=(dataclasses.replace(first, pool=Pool(7, stride=6)), last))
    longer = dataclasses.replace(network, epochs=(9, 9))
    runs = []
    for seed, described in enumerate((network, pooled, longer)):
        trainer = Trainer(described, images, Settings((0, 0), seed=seed))
        with RunFolder(tmp_path / str(seed), trainer) as folder:
            runs.append(folder.run())
    assert runs[0]["hyperparameters"] == runs[1]["hyperparameters"]
    assert runs[0]["components"] == runs[1]["components"]
    assert [row.sources for row in means.rows_of(runs)] == [[1, 3], [2]]
    assert "digest of the network" in [row[0] for row in comparisons.differing({"a": runs[0], "b": runs[1]})]
    variants = [
        network_of(seed, 0.5, rule="FILE.py:RULE") | dict(components=dict(rule=dict(type="Rule", share=share)))
        for seed, share in enumerate((0.5, 0.5, 0.125))
    ]
    assert [row.sources for row in means.rows_of([sweep_of(x) for x in variants])] == [[1, 2], [3]]


def test_each_value_of_a_sweep_is_on_a_line_of_its_own(tmp_path, monkeypatch, capsys):
    """Calls with several arguments are not torn apart."""
    monkeypatch.chdir(tmp_path)
    rule = "STDP(ltp=0.1, ltd=-0.1)"
    networks = [network_of(seed, 0.5, **{"layer1.threshold": 9, "layer1.learners": rule}) for seed in (0, 1)]
    (tmp_path / "sweep.json").write_text(json.dumps(sweep_of(*networks)))
    Command("report").main(["."])
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    varied = [row[2] for row in cells if len(row) > 4]
    assert varied == ["layer1.threshold=9", f"layer1.learners={rule}"]
    assert f"layer1.threshold=9\nlayer1.learners={rule}" in Page((tmp_path / "report.html").read_text()).text
    (axis,) = means.picture(means.rows_of([sweep_of(*networks)])).axes
    assert axis.get_yticklabels()[0].get_text() == f"row 1: threshold=9, learners={rule}"


def test_what_a_sweep_varies_is_named_with_all_its_values(results):
    """Other rules have other numbers; a number may be named by the end of its path."""
    rules = ("STDP", "own.py:EarlyInputs")
    swept = sweep_of(*(network_of(0, 0.5, **{"layer1.learners": rule}) for rule in rules))
    swept["networks"][1]["variant"]["radius"] = 9.0
    numbers = {"layer1.competition.radius": 3, "layer1.learners.0.rate": 0.5, "layer2.threshold": 7.0}
    parts = {"layer1.learners": "EarlyInputs"}
    swept["about"] |= dict(components=parts, hyperparameters=numbers)
    run = results | dict(components=parts, hyperparameters=numbers)
    rows = {name: cells for name, *cells in comparisons.differing({"run": run, "sweep": swept})}
    assert rows["layer1.learners"] == ["EarlyInputs", "STDP, EarlyInputs"]
    assert rows["layer1.competition.radius"] == ["3", "3, 9"]
    assert not {"layer1.learners.0.rate", "layer2.threshold"} & {*rows}


def test_a_page_compares_runs_and_sweeps(results):
    variants = [network_of(seed, 0.5, 0.4, **{"layer1.learners": "<Rule>"}) for seed in (0, 1)]
    sources = {"run": results, "sweep": sweep_of(*variants)}
    seen = Page(comparisons.comparison_page(sources))
    assert {"runs", "means", "figures", "accuracy-over-time", "what-differs"} <= {*seen.ids}
    assert "sweep; a sweep of 2 networks" in seen.text
    assert "layer1.learners=<Rule>" in seen.text
    assert ["seed", "0", "0-1"] in comparisons.differing(sources)
    alone = Page(comparisons.comparison_page({"sweep": sources["sweep"]}))
    assert alone.ids == ["runs", "means"]
    assert "1 sweep" in alone.text


def test_texts_of_all_kinds_are_only_texts():
    odd = "<script>&\"'</script>_a/b"
    parts = page.html.table([odd], [[odd, odd]]) + page.html.pairs("words", {odd: odd}) + escape(odd)
    assert Page(page.page(odd, {odd: parts})).text.count(odd) == 10


def test_what_tensorboard_reads_of_a_run(tmp_path):
    """Whose epochs are tested on validation images, and whose best network on test images."""

    def draw(run, *_) -> None:
        (run / "pictures").mkdir()
        imsave(run / "pictures" / "one.png", np.zeros((4, 4, 3)))

    digits = tiny.images()
    held_out = dict(validation_images=digits.test_images[:20], validation_labels=digits.test_labels[:20])
    digits = dataclasses.replace(digits, **held_out)
    trainer = Trainer(tiny.plain(ImageSpec.of(digits)), digits, Settings((2, 3), adapt_every=20, patience=0))
    with RunFolder(tmp_path, trainer, dict(model="plain", seed=0), resume=False, draw=draw) as run:
        start = run.start()
        with Tracker(run, start) as tracker:
            state = trainer.run(start, tracker.save)
            _, saved = files.load_checkpoint(tmp_path / "checkpoint.npz")
            results = run.finish(state)
    events = EventAccumulator(str(tmp_path / FOLDER), size_guidance=dict(scalars=0, images=0, histograms=0)).Reload()
    tags = events.Tags()
    assert len(saved["epochs"]) == 3
    for what in ("accuracy", "wrong", "silent"):
        for part in ("train", "validation"):
            values = [(event.step, pytest.approx(event.value)) for event in events.Scalars(f"{what}/{part}")]
            assert values == [(record["epoch"] + 1, record[part][what]) for record in state.epochs]
        (test,) = events.Scalars(f"{what}/test")
        assert (test.step, pytest.approx(test.value)) == (results["best_epoch"] + 1, results["test"][what])
    assert {"layer2/rate_plus_after_reward", "layer1/rate_plus", "layer1/spike_density"} <= set(tags["scalars"])
    (_, last) = events.Scalars("layer1/convergence")
    assert last.step == 2
    assert last.value == pytest.approx(state.diagnoses["STDP layer1"]["convergence"]["layer1"])
    wins = state.diagnoses["STDP layer1"]["wins"]["layer1"]
    histogram = events.Histograms("layer1/winners_by_feature")[-1].histogram_value
    assert [count for count in histogram.bucket if count] == [count for count in wins if count]
    assert {"layer1/weights", "layer2/weights", "layer1/winners_by_feature"} <= set(tags["histograms"])
    assert tags["images"] == ["pictures/one"]
    assert len(events.Tensors("diagnosis/STDP_layer1/text_summary")) == 1, "each diagnosis is noted once"
    assert len(events.Histograms("layer2/weights")) == 3


NAMES = ("<b>&", r"[red]$\x$", "cat 2", "cat 10", "a name that is longer than any picture has room for", *"ABCDE")
FILES = tuple(f"{number}.png" for number in range(40))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, its images as from a folder of pictures, and its trainer."""
    images = dataclasses.replace(tiny.images(), class_names=NAMES, test_files=FILES)
    network = dataclasses.replace(tiny.plain(ImageSpec.of(images)), encoder=images.encoder)
    trainer = Trainer(network, images, snnjax.Settings((0, 0), patience=0))
    run = tmp_path_factory.mktemp("named") / "run"
    with RunFolder(run, trainer, {}, draw=report.draw_run) as folder:
        folder.run()
    return run, images, trainer


@pytest.mark.slow
def test_runs_and_sweeps_keep_the_names(trained):
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
    short = [shortened(name, plots.MAX_LETTERS) for name in NAMES]
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
    dataclasses.replace(images, class_names=("other", *NAMES[1:])).save(tmp_path / "other.npz")
    with pytest.raises(SystemExit):
        Command("evaluate").main([run, "--dataset", tmp_path / "other.npz"])
    assert "the network's classes are <b>&, [red]$" in capsys.readouterr().err


POINT = np.zeros((3, 3))
POINT[1, 1] = 1
ENCODER = Encoder(FilterBank.of([POINT]))
"""Sees the image as it is, one map."""


def single(shape: tuple[int, ...], *at: int) -> np.ndarray:
    """Weights of which one counts."""
    weights = np.zeros(shape)
    weights[at] = 1
    return weights


@pytest.mark.parametrize("stride", [1, 2])
def test_deep_weights_go_through_pooling_strides_and_branches(stride):
    """The pixel of a chain of single weights is where arithmetic says, for branches of either kernel size alike."""
    small = Conv(2, kernel=3, padding=1, stride=stride, threshold=1, learners=STDP())
    shifted = dict(padding=2 - stride, output_padding=1)  # the same place by less padding of the input
    large = Conv(3, kernel=5, stride=stride, threshold=1, learners=STDP(), **shifted)
    last = Conv(2, kernel=3, padding=1, learners=RSTDP())
    network = Network("deep", (1, 36, 36), 2, (stage(small, large, pool=Pool(3)), stage(last)), encoder=ENCODER)
    for layer, each in drawn_back(SpikingNetwork(network, 0)).items():
        assert len(each.images) == network.weight_shapes[layer][0]
        np.testing.assert_allclose((each.images**2).sum(axis=(1, 2)), 1, rtol=1e-6)
    weights = dict(layer1_1=single((2, 1, 3, 3), 1, 0, 1, 1), layer1_2=single((3, 1, 5, 5), 2, 0, 2, 2))
    for channel in (1, 4):  # the features of either branch that look at the pixel below them
        weights["layer2"] = single((2, 5, 3, 3), 0, channel, 2, 1)
        drawn = drawn_back(SpikingNetwork(network, weights=weights))
        image, origin = drawn["layer2"].images[0], drawn["layer2"].origin
        bright = np.argwhere(image > 0.5 * image.max()) + origin
        np.testing.assert_allclose(bright.mean(axis=0), [stride * (1 * 3 + 1), stride * (0 * 3 + 1)])
        assert (np.ptp(bright, axis=0) == 2 * stride).all(), "all places of the pooling window"
        assert tuple(drawn["layer2"].pitch) == (3 * stride, 3 * stride)


def test_a_neuron_with_dendrites_sees_what_all_of_them_see():
    first = Conv(2, 3, padding=1, ramp=Ramp(dendrites=(2, 3)), weight_mean=0.0)
    last = Conv(2, kernel=3, padding=1, learners=RSTDP())
    network = Network("dendrites", (1, 36, 36), 2, (stage(first), stage(last)), encoder=ENCODER)
    weights = dict(layer1=single((2, 1, 3, 3), 1, 0, 1, 1), layer2=single((2, 2, 3, 3), 0, 1, 1, 2))
    drawn = drawn_back(SpikingNetwork(network, weights=weights))
    assert tuple(drawn["layer1"].pitch) == tuple(drawn["layer2"].pitch) == (2, 3)
    for layer, feature, corner in (("layer1", 1, (0, 0)), ("layer2", 0, (0, 3))):
        bright = np.argwhere(drawn[layer].images[feature] > 0.1) + drawn[layer].origin
        np.testing.assert_array_equal(bright, [(y, x) for y in range(2) for x in range(corner[1], corner[1] + 3)])

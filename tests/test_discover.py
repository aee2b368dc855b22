"""The search for a rule: what the rules are, that it continues where it stopped, and that its rule can be trained."""

import dataclasses
import json
import types

import discover
import evolved
import jax
import judging
import numpy as np
import pytest
from book_pictures import discovering
from documents import blocks, rows
from judging import Judge
from PIL import Image

from snnjax import ImageSpec, InputError, Learner, TargetTime, Trainer
from snnjax.app import lookup
from snnjax.core import codec, components, files
from snnjax.data import Dataset, digits
from snnjax.testing import check_learner
from snnjax.training.workers import SERIAL

pytestmark = pytest.mark.slow

PAGE = "experiments/docs/notes/discovery.md"


def judge() -> Judge:
    """A judge of the rules of `evolved`, on digits."""
    return Judge(evolved, digits(), SERIAL, 8)


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets trainings that judge learn from few images."""
    for name in ("LEARNED", "JUDGED"):
        monkeypatch.setattr(judging, name, 60)
    monkeypatch.setattr(evolved, "BRIEF", (1, 1))


def learned(rule: Learner, data: Dataset, epochs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Weights and thresholds of features that have learned by a rule."""
    network = evolved.network_with(ImageSpec.of(data), evolved.Evolved(), epochs=(epochs, 0), features=8)
    first = dataclasses.replace(network.stages[0].branches[0], learners=rule)
    stages = dataclasses.replace(network.stages[0], branches=(first,)), network.stages[1]
    trainer = Trainer(dataclasses.replace(network, stages=stages), data)
    state = trainer.run(trainer.initial_state())
    return state.weights["layer1"], trainer.trained(state).network.stages[0].branches[0].threshold


def test_target_times_are_one_of_the_rules():
    data = digits().subset(300, 10)
    how = dict(annealing=0.3, patches=4)
    weights, threshold = learned(dataclasses.replace(evolved.TARGET_TIMES, **how), data)
    expected = learned(TargetTime(target_time=evolved.TARGET_TIMES.target_time, **how), data)
    np.testing.assert_allclose(weights, expected[0], atol=1e-5)
    np.testing.assert_allclose(threshold, expected[1], rtol=1e-3)


def test_without_homeostasis_thresholds_stay():
    threshold = learned(evolved.Evolved(), digits().subset(100, 10))[1]
    np.testing.assert_array_equal(threshold, threshold[0])


def test_rules_keep_the_contract():
    check_learner(judge().learner(np.linspace(-1, 1, 11)))
    check_learner(evolved.TARGET_TIMES)


def test_each_number_matters():
    data = digits().subset(100, 10)
    point = np.full(11, 0.2)
    expected = learned(judge().learner(point), data)
    for step in np.eye(11):
        found = learned(judge().learner(point + step), data)
        assert any(np.any(one != other) for one, other in zip(found, expected, strict=True)), step


def test_numbers_stay_within_their_bounds():
    for far in (-99, 99):
        nearest = judge().nearest(np.full(11, far))
        bounds = [low if far < 0 else high for *_, low, high in evolved.NUMBERS.values()]
        for point in (nearest, np.round(nearest, 2), np.full(11, far)):
            numbers = [*judge().numbers(point).values()]
            np.testing.assert_allclose(numbers, bounds, atol=0.01)
            assert all(low <= x <= high for x, (*_, low, high) in zip(numbers, evolved.NUMBERS.values(), strict=True))
    np.testing.assert_array_equal(judge().nearest(judge().start), judge().start)
    small = dataclasses.replace(judge(), rule=types.SimpleNamespace(NUMBERS=dict(rate=(1e-7, 5e-8, 0, 1 / 3.1))))
    assert [small.numbers([place])["rate"] for place in (0, 1e9)] == [1e-7, 1 / 3.1]


def test_a_draw_judges_on_training_images_that_it_has_not_learned():
    images = digits()
    names = tuple(map(str, range(len(images.train_labels))))
    more = dict(validation_images=images.test_images, validation_labels=images.test_labels)
    more |= dict(train_files=names, unlabelled_images=images.test_images)
    part = judging.draw_images(dataclasses.replace(images, **more), 3)
    assert part.validation_images is None
    assert part.unlabelled_images is None
    assert part.train_files
    assert part.test_files
    assert not {*part.train_files} & {*part.test_files}
    again = judging.draw_images(images, 3)
    other = judging.draw_images(images, 4)
    np.testing.assert_array_equal(again.train_images, part.train_images)
    assert np.any(other.train_images != part.train_images)


def test_gains_are_those_above_the_start(monkeypatch):
    shorten(monkeypatch)
    start, ruined = judge().gains([judge().start, np.full(11, -9.0)], 5)
    assert start == 0 > ruined


def test_a_file_that_is_imported_already_is_not_read_again():
    assert lookup.import_one(evolved.__file__) is evolved


@jax.numpy_rank_promotion("allow")  # evosax needs it
@pytest.mark.slow
def test_a_search_continues_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch)
    monkeypatch.setattr(judging, "DRAWS", 2)
    monkeypatch.setattr(judging, "FINALISTS", 2)
    options = ["--population", "4", "--generations"]
    discover.main([*options, "2", "--out", "whole"])
    discover.main([*options, "1"])
    first = json.loads(evolved.OWN.with_name("generations.json").read_text())["generations"]
    discover.main([*options, "2"])
    paths = (folder / "generations.json" for folder in (evolved.OWN.parent, tmp_path / "whole"))
    kept, whole = (json.loads(path.read_text()) for path in paths)
    records = kept["generations"]
    assert first == records[:1]
    assert [record | dict(seconds=0) for record in records] == [
        record | dict(seconds=0) for record in whole["generations"]
    ]
    assert kept["finals"] == whole["finals"]
    stopped = whole["finals"] | dict(gains=whole["finals"]["gains"][:1], best=[])
    files.write_json(evolved.OWN.with_name("generations.json"), kept | dict(finals=stopped))
    discover.main([*options, "2"])
    assert json.loads(evolved.OWN.with_name("generations.json").read_text()) == kept
    assert records[0]["mean"] != records[1]["mean"]
    with Image.open(tmp_path / "whole" / "window.png") as drawn:
        assert drawn.width >= 620
    assert "above the start" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        discover.main(["--population", "5"])
    assert "runs/discover holds a search with a different population" in capsys.readouterr().err
    found = evolved.own(ImageSpec.of(digits())).stages[0].branches[0].last_learner
    assert found.target_time == json.loads(evolved.OWN.read_text())["layer1.target_time"] != evolved.Evolved.target_time


@jax.numpy_rank_promotion("allow")  # evosax needs it
def test_a_custom_rule_is_searched_and_drawn_by_its_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch)
    monkeypatch.setattr(judging, "DRAWS", 1)
    monkeypatch.setattr(discovering, "_draw_windows", pytest.fail)
    types = dict(components.TYPES)
    monkeypatch.setattr(components, "TYPES", types)
    monkeypatch.setattr(codec, "TYPES", types)
    own_rule = dict(blocks(PAGE))["python"]
    (tmp_path / "own_rule.py").write_text(own_rule)
    options = ["--rule", "own_rule.py", "--population", "2", "--generations", "1", "--search", "random"]
    discover.main(options)
    assert json.loads(evolved.OWN.read_text()).keys() == {"layer1.loss", "layer1.power", "layer1.target_time"}
    (record,) = json.loads(evolved.OWN.with_name("generations.json").read_text())["generations"]
    assert record["mean"] == [0, 0, 0], "random rules tell nothing"
    (tmp_path / "other_rule.py").write_text(
        own_rule.replace("layer1.power", "layer1.delta").replace("PowerLaw", "Other")
    )
    options[1] = "other_rule.py"
    for more, expected in (([], "a search with a different rule"), (["--out", "other"], "layer1.delta")):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            discover.main([*options, *more])
        assert expected in capsys.readouterr().err


def test_a_file_without_numbers_is_no_rule(tmp_path):
    (tmp_path / "empty_rule.py").write_text("")
    with pytest.raises(InputError, match="has no NUMBERS"):
        judging.load_rule(tmp_path / "empty_rule.py")


def test_trainings_that_fail_are_reported(capsys):
    good = dict(epochs=[1])
    bad = dict(epochs=[], error="nan")
    judging.report_failures([good, bad, good])
    assert "1 of 3 training runs failed and count as 0 %: nan" in capsys.readouterr().out
    with pytest.raises(InputError, match="must start from numbers with which a network can learn: nan"):
        judging.report_failures([bad, good])


def test_a_rule_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="discover"):
        evolved.own(ImageSpec((28, 28), 10, 100))


def test_the_page_shows_the_rule_as_it_is_recorded():
    table = rows(PAGE, "number")
    recorded = json.loads(evolved.RECORDED.read_text())
    assert [row[-1] for row in table] == [f"{value:.2f}" for value in recorded.values()]
    assert [row[1] for row in table] == [f"{value:g}" for value in judge().numbers(judge().start).values()]
    kept = json.loads(evolved.RECORDED.with_name("evolved_generations.json").read_text())
    finals = kept["finals"]
    best = finals["points"][np.argmax(np.mean(finals["gains"], axis=0))]
    assert judge().numbers(best) == recorded, "the recorded search has found it"
    first = evolved.recorded(ImageSpec((28, 28), 10, 60_000)).stages[0].branches[0].last_learner
    assert (first.target_time, first.late[0]) == (recorded["layer1.target_time"], recorded["layer1.late.0"])

"""The search for a rule: what the rules are, that it continues where it stopped, and that its rule can be trained."""

import dataclasses
import json

import discover
import evolved
import jax
import numpy as np
import pytest
from documents import rows
from PIL import Image

from snnjax import Images, InputError, Learner, TargetTime, Trainer
from snnjax.app import parts
from snnjax.data import Dataset, digits
from snnjax.testing import check_learner


def learned(rule: Learner, data: Dataset, epochs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Weights and thresholds of features that have learned by a rule."""
    network = evolved.evolved(Images.of(data), evolved.Evolved(), (epochs, 0), features=8)
    first = dataclasses.replace(network.stages[0].branches[0], learners=rule)
    stages = dataclasses.replace(network.stages[0], branches=(first,)), network.stages[1]
    trainer = Trainer(dataclasses.replace(network, stages=stages), data)
    state = trainer.run(trainer.initial_state())
    return state.weights["layer1"], trainer.trained(state).spec.stages[0].branches[0].threshold


def test_target_times_are_one_of_the_rules():
    data = digits().first(300, 10)
    how = dict(annealing=0.3, patches=4)
    weights, threshold = learned(dataclasses.replace(evolved.TARGET_TIMES, **how), data)
    expected = learned(TargetTime(target_time=evolved.TARGET_TIMES.target_time, **how), data)
    np.testing.assert_allclose(weights, expected[0], atol=1e-5)
    np.testing.assert_allclose(threshold, expected[1], rtol=1e-3)


def test_without_homeostasis_thresholds_stay():
    threshold = learned(evolved.Evolved(), digits().first(100, 10))[1]
    np.testing.assert_array_equal(threshold, threshold[0])


def test_rules_keep_the_contract():
    check_learner(evolved.rule_of(np.linspace(-1, 1, 11)))
    check_learner(evolved.TARGET_TIMES)


def test_each_number_matters():
    data = digits().first(100, 10)
    place = np.full(11, 0.2)
    expected = learned(evolved.rule_of(place), data)
    for step in np.eye(11):
        found = learned(evolved.rule_of(place + step), data)
        assert any(np.any(one != other) for one, other in zip(found, expected, strict=True)), step


def test_numbers_stay_within_their_bounds():
    assert evolved.numbers_of(evolved.within(np.full(11, 99.0)))["target_time"] == pytest.approx(1)
    assert evolved.numbers_of(evolved.within(np.full(11, -99.0)))["beta"] == 0
    np.testing.assert_array_equal(evolved.within(evolved.START), evolved.START)


def test_a_file_that_is_imported_already_is_not_read_again():
    assert parts.import_one(evolved.__file__) is evolved


@jax.numpy_rank_promotion("allow")  # evosax needs it
def test_a_search_continues_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("LEARNED", "JUDGED"):
        monkeypatch.setattr(evolved, name, 60)
    for name, value in dict(EPOCHS=(1, 1), DRAWS=1, FINALISTS=3).items():
        monkeypatch.setattr(discover, name, value)
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
    assert records[0]["centre"] != records[1]["centre"]
    assert Image.open(tmp_path / "whole" / "window.gif").n_frames == 2
    assert "generation 2: " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        discover.main(["--population", "5"])
    assert "`out` must be another folder" in capsys.readouterr().err
    found = evolved.own(Images.of(digits())).stages[0].branches[0].last_learner
    assert found.target_time == json.loads(evolved.OWN.read_text())["target_time"] != evolved.Evolved.target_time


def test_a_rule_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="discover"):
        evolved.own(Images((28, 28), 10, 100))


def test_the_page_shows_the_rule_as_it_is_recorded():
    shown = [row[-1] for row in rows("experiments/docs/learn/discovery.md", "number")]
    assert shown == [f"{value:.2f}" for value in json.loads(evolved.FOUND.read_text()).values()]
    starts = [row[1] for row in rows("experiments/docs/learn/discovery.md", "number")]
    assert starts == [f"{value:g}" for value in evolved.numbers_of(evolved.START).values()]
    first = evolved.found(Images((28, 28), 10, 60_000)).stages[0].branches[0].last_learner
    assert (first.target_time, first.late[0]) == (0.753845, -1.0226)

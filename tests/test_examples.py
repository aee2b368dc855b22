"""The examples run, and say what they are there to show."""

import pathlib
import re
import runpy

import jax
import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "experiments" / "examples"


@pytest.fixture
def output(request, capsys) -> str:
    """What the example of this name prints."""
    with jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(EXAMPLES / f"{request.param}.py"), run_name="__main__")
    return capsys.readouterr().out


def percents(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"(\d+\.\d)%", text)]


@pytest.mark.parametrize("output", ["1_encode_images"], indirect=True)
def test_encoding(output):
    assert "(5, 28, 28) images of float64 become (5, 6, 28, 28) latencies of uint8" in output
    assert "as a wave: (15, 6, 28, 28)" in output


@pytest.mark.parametrize("output", ["2_own_scan_and_vmap"], indirect=True)
def test_own_scan(output):
    spreads = [float(value) for value in re.findall(r"mean w\(1-w\) (0\.\d+)", output)]
    assert len(spreads) == 8
    assert max(spreads) < 0.1 < 0.16, "weights move to their bounds"


@pytest.mark.parametrize("output", ["3_new_rule"], indirect=True)
def test_a_new_rule(output):
    (ours, theirs) = re.findall(r"_rule: (\d+) of 16 features have won", output)
    assert int(ours) > 3 < int(theirs)


@pytest.mark.parametrize("output", ["4_new_network"], indirect=True)
def test_a_new_network(output):
    assert "((6, 28, 28), (32, 7, 7), (100, 5, 5))" in output
    assert percents(output)[-1] > 50


@pytest.mark.parametrize("output", ["5_features_for_a_classifier"], indirect=True)
def test_a_classifier_on_features(output):
    random, learned = percents(output)
    assert learned > max(random, 85)


@pytest.mark.parametrize("output", ["6_two_classes_of_pictures"], indirect=True)
def test_two_classes(output):
    first, last = percents(output)[0], percents(output)[-1]
    assert last > max(first, 80)


def test_every_example_is_run():
    tested = re.findall(r'"(\d_\w+)"', pathlib.Path(__file__).read_text())
    assert sorted(tested) == sorted(path.stem for path in EXAMPLES.glob("*.py"))

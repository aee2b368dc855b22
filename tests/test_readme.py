"""The main page: of this version, and its figures are those of the longer pages."""

import json
from collections import Counter

import numpy as np
import results
from documents import ROOT, rows, text_of

import snnjax
from snnjax.app import names, options


def test_the_main_page_is_of_this_version():
    major, minor, _ = snnjax.__version__.split(".")
    assert f"This is {major}.{minor}." in text_of("README.md")


NETWORKS = rows("README.md", "network")[: len(options.MODELS)]
SPEED = rows("README.md", "network")[len(options.MODELS) :]
REPLICATED = [row for row in rows("experiments/README.md", "network") if len(row) == 7]
RESULTS = [row for row in rows("experiments/README.md", "network") if len(row) == len(results.HEAD)]
"""As `python experiments/results.py` writes them."""


def test_networks_of_the_main_page_are_all_with_their_results():
    """Those of the longer table of MNIST, on compiled kernels where it has both."""
    assert {row[0] for row in NETWORKS} == {*options.MODELS}
    measured = dict(mozafari2018_objects=["made for larger images", ""])
    for name, data, images, accuracy, _, _, seconds, kernels in RESULTS:
        if (data, images) == ("mnist", "54,000") and (kernels == "native" or name not in measured):
            measured[name] = [accuracy, seconds]
    for name, _, *figures, _ in NETWORKS:
        assert figures == measured[name], name


def test_speed_on_the_main_page_is_that_of_the_benchmarks():
    """Of each network that the reference has."""
    assert [row[0] for row in SPEED] == [*names.RECORDED]
    long = rows("benchmarks/README.md", "network")
    starts = [at for at, row in enumerate(long) if row[0]]
    for (name, test, longer, training, training_longer), at in zip(SPEED, starts, strict=False):
        ours, other = long[at], long[at + 2]
        assert [ours[0], ours[1], other[1]] == [name, "snnjax, native, ms an image", "reference, times longer"]
        assert [test, f"{training} s"] == ours[-2:]
        assert [longer, training_longer] == other[-2:]


def test_the_layers_of_each_network():
    """How many layers learn by each rule, and a fitted decision."""
    for name, layers, *_ in NETWORKS:
        network = snnjax.NETWORKS[name]()
        count = Counter(type(each).__name__ for _, _, conv in network.layers() for each in conv.each_learner)
        words = [f"{number} {rule}" for rule, number in count.items()]
        words += [type(network.decision).__name__] * hasattr(network.decision, "fit")
        assert layers == ", ".join(words), name


def test_replicated_figures_are_against_the_recorded_ones():
    recorded = json.loads((ROOT / "experiments" / "reference.json").read_text())["networks"]
    for name, theirs, *_ in REPLICATED:
        last = [recorded[name][part][3] for part in ("train", "test")]
        assert np.abs(100 * np.array(last) - [float(each) for each in theirs.split(" / ")]).max() <= 0.0501

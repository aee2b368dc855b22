"""Pictures from the reports of snnjax: training runs, costs and graphs."""

import functools
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import snnjax
from book_pictures import deciding
from snnjax import Network
from snnjax.app import cost_report, diagram, plots, report
from snnjax.app.main import main
from snnjax.data import Dataset, load
from snnjax.networks import resnet2024

EXAMPLES = Path(__file__).parents[1] / "examples"


@functools.cache
def of_training() -> dict[str, bytes]:
    """The pictures of `snnjax train`, by name."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        main(["train", "--out", str(run)])
        return {file.stem: file.read_bytes() for file in (run / "pictures").glob("*.png")}


def features() -> bytes:
    """The features of the first layer after `snnjax train`: edges, bars and spots, light where light is expected."""
    return of_training()["features_layer1"]


def decision_features() -> bytes:
    """The neurons of the readout after `snnjax train`, ordered by class; in many the digit can be recognised."""
    return of_training()["features_layer2"]


@functools.cache
def mnist() -> Dataset:
    """MNIST, which is downloaded if it is not in the cache folder."""
    return load("mnist")


def activity() -> bytes:
    """A seven, the spikes of the input and of both layers, coloured by time, and the scores of the classes."""
    network = deciding.network()
    image = mnist().test_images[0]
    response = report.observe(network.model, image)
    title = f"MNIST's first test image: {report.decided(response.decided, network.class_names)}"
    return plots.png(plots.activity_picture(image, response, network.network, title, network.class_names))


def costs_in_time() -> bytes:
    """Accuracy over the time step at which the input ends, first readout spikes, and last changes of decisions."""
    cost = snnjax.cost(deciding.network(), mnist().test_images, mnist().test_labels)
    return plots.png(cost_report.picture(cost.as_json()))


def graph_skip() -> bytes:
    """The graph of example 8: stage 3 joins stage 2 and a skip connection from stage 1."""
    return _graph(_example("8_skip_connection").NETWORK)


def graph_depths() -> bytes:
    """The graph of example 9: three successive feature stages, all of which the readout reads."""
    example = _example("9_readout_over_depths")
    return _graph(example.network(example.DEPTHS))


def graph_resnet2024() -> bytes:
    """The graph of resnet2024: a layer with fixed weights bypasses stage 3, and both paths are merged."""
    return _graph(resnet2024())


def _graph(network: Network) -> bytes:
    return plots.png(diagram.picture(network))


def _example(name: str) -> Any:
    """The module of an example, which cannot be imported by a statement because its name begins with a number."""
    sys.path.insert(0, str(EXAMPLES))
    return importlib.import_module(name)

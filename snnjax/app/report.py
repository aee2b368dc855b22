"""The report of a run: its pictures, and report.html, which contains them and the results in a single file."""

import itertools
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from snnjax.app import cost_report, data_source, diagram, page, plots
from snnjax.app.console import Rows, back_end, duration, order, phases
from snnjax.core import files
from snnjax.core.errors import printable
from snnjax.core.metrics import tested_part
from snnjax.data import Dataset
from snnjax.data.names import shortened
from snnjax.kernels import backend, use_backend
from snnjax.networks import Model, Observed, SpikingNetwork
from snnjax.networks.decision import Decided
from snnjax.networks.features import drawn_back
from snnjax.runs.results_file import PAGE, PICTURES
from snnjax.training.loop import Trainer

LISTED = 50  # maximum number of misclassified images in the table on the page

Named = tuple[str, Figure]


@jax.jit
def observe(model: Model, image: jax.Array) -> Observed:
    """The response of a network to an image with values in 0..255, (H, W), (H, W, 3) or (H, W, 2), layer by layer."""
    return model.observe(model.encode(image))


def decided(outcome: Decided, names: Sequence[str]) -> str:
    """The decision as text, given the names of the classes."""
    decision = int(outcome.decision)
    return "the network stays silent" if decision < 0 else f"class {names[decision]}"


def figures(
    results: dict[str, Any],
    network: SpikingNetwork,
    data: Dataset | None = None,
    images: Iterable[int] = (),
    *,
    of_run: bool = True,
) -> Iterator[Named]:
    """Figures of the results of a run, of the preferred stimuli of features, and of responses to test images.

    `images` are the indices of the test images, and `of_run` says whether these belong to the run. The responses are
    computed in another thread while the caller draws the other figures, because JAX compiles a program for them.
    """
    with ThreadPoolExecutor(1) as pool:
        shown = {} if data is None else {number: data.test_images[number] for number in images}
        chosen = backend.current()
        responses = {number: pool.submit(_respond, network, image, chosen) for number, image in shown.items()}
        yield from of_results(results, network)
        if data is not None:
            for number, response in responses.items():
                yield of_image(results, network, data, number, response.result(), of_run=of_run)


def _respond(network: SpikingNetwork, image: np.ndarray, chosen: str) -> Observed:
    """The response to an image, computed on the back end that is used in the calling thread."""
    with use_backend(chosen):
        return observe(network.model, image)


def of_results(results: dict[str, Any], network: SpikingNetwork) -> Iterator[Named]:
    """Figures of the results of a run, and of the preferred stimuli of its features."""
    if results["epochs"]:
        yield "history", plots.history_picture(results["epochs"], results["best_epoch"])
    description = network.network
    yield "graph", diagram.picture(description)
    names = results["class_names"]
    if results["test"]:
        yield "confusion", plots.confusion_picture(results["test"], names)
    for phase, layers in results["curves"].items():
        rule = phase.removesuffix(", ".join(layers)).strip()
        for name, curves in layers.items():
            if curves:
                yield f"curves_{name}", plots.curves_picture(curves, f"{rule}: {name}")
    for diagnosis in results["diagnoses"].values():
        for name, wins in diagnosis.get("wins", {}).items():
            yield (
                f"wins_{name}",
                plots.wins_picture(wins, names if name in description.deciding else [], f"wins of {name}"),
            )
    for name, drawn in drawn_back(network).items():
        rows = [f"class {x}" for x in names] if name in description.deciding else []
        yield f"features_{name}", plots.features_picture(drawn, f"{description.name}, features of {name}", rows)


def of_image(
    results: dict[str, Any], network: SpikingNetwork, data: Dataset, number: int, response: Observed, *, of_run: bool
) -> Named:
    """The figure of the response to a test image; `of_run` says whether the image belongs to the run."""
    description = network.network
    names = results["class_names"]
    of_others = "" if of_run else f" of {shortened(printable(data.name), 60)}"
    prefix = "" if of_run else re.sub(r"[^\w.-]", "_", data.name)[:60] + "_"
    image = data.test_images[number]
    label = data.test_labels[number]
    file = f" ({shortened(printable(data.test_files[number]), 60)})" if data.test_files else ""
    title = f"test image {number}{of_others}{file}, label {names[label]}"
    if description.decision is not None:
        title += f": {decided(response.decided, names)}"
    return f"image_{prefix}{number:05}", plots.activity_picture(image, response, description, title, names)


_KINDS = {
    "history": (
        "Accuracy by epoch",
        "Share of images that are decided correctly, and for which the network is silent, by epoch",
        "Curves over the epochs",
    ),
    "confusion": (
        "Confusion",
        "The best network's decisions on the test images: labels in rows, decisions in columns",
        "A matrix with the number of images of each label and each decision",
    ),
    "misclassified": (
        "Misclassified",
        "The first test images for which the decision is wrong or missing, with label and decision",
        "Small images with their names, labels and decisions",
    ),
    "curves": (
        "Learning, epoch by epoch",
        "Figures of each layer after each epoch; T is the number of time steps",
        "Small curves over the epochs, one for each figure",
    ),
    "wins": (
        "Winners",
        "How often each feature won in the last epoch; a feature that never wins is useless. In NCG and PCN readouts,"
        " the first neuron of each class should fire late for all images, the remaining ones early for their class",
        "Bars, or a table of classes and neurons",
    ),
    "features": (
        "Features",
        "The stimulus to which each feature is selective, projected back to the image: bright where it responds to"
        " bright pixels, and coloured where it responds to a colour",
        "A sheet of small images, one for each feature",
    ),
    "cost": (
        "Costs and time",
        "Accuracy if the input ends at a step; the time of the first readout spike, and the time after which the"
        " decision no longer changes",
        "A curve over the time steps, and histograms of time steps",
    ),
    "graph": (
        "Stages",
        "What each stage reads, how its layers learn, and the size of its output: maps, rows, columns",
        "Boxes from left to right, with an arrow to each stage from what it reads",
    ),
    "weights": ("Weights", "Weights before and after training", "Histograms of the weights of each layer"),
    "image": (
        "Responses to images",
        "When each neuron fires, layer by layer; silent neurons are grey. If the largest potential decides, deciding"
        " neurons with a potential above 0 count as firing at the last step",
        "The image, the score of each class, and maps of the spikes of each layer",
    ),
}
"""The section, the caption and a description of each picture, by the first word of its file name."""


def draw_run(
    run: Path, results: dict[str, Any], trainer: Trainer, network: SpikingNetwork, decisions: np.ndarray
) -> None:
    """Writes the report of a finished run, all pictures and report.html.

    Args:
      run: the folder of the run.
      results: the contents of its results.json.
      trainer: the trainer of the run.
      network: the best network.
      decisions: its decisions on the test images, (N,) int32, -1 if silent.

    Examples:
      >>> import snnjax
      >>> from snnjax.app import draw_run
      >>> from snnjax.runs import RunFolder
      >>> data = snnjax.data.digits()
      >>> trainer = snnjax.Trainer(snnjax.NETWORKS["deep2024"](snnjax.ImageSpec.of(data)), data)
      >>> with RunFolder("runs/digits", trainer, draw=draw_run) as run:  # doctest: +SKIP
      ...     results = run.run()
    """
    data = trainer.data
    before = trainer.initial_state().weights
    after = {name: np.asarray(layer.weights) for name, layer in network.model.layers.items()}
    drawn = [("weights", plots.weights_picture(before, after))]
    if wrong := results["misclassified"]:
        drawn.append(("misclassified", plots.misclassified_picture(data.test_images, wrong)))
    examples = [0]
    if len(decisions):
        kinds = np.where(decisions < 0, 2, decisions != data.test_labels)  # right, wrong, silent
        examples = np.unique(kinds, return_index=True)[1].tolist()  # the first image of each kind
    write(run, results, itertools.chain(drawn, figures(results, network, data, examples)))


def write(run: Path, results: dict[str, Any], figures: Iterable[Named]) -> None:
    """Writes figures of a run, then report.html with the results and all pictures of the run."""
    folder = run / PICTURES
    pictures = dict[str, Markup]()
    folder.mkdir(exist_ok=True)
    for name, figure in figures:
        plots.write(folder / f"{name}.png", figure)
    for kind, (section, caption, looks) in _KINDS.items():
        for path in sorted(folder.glob(f"{kind}*.png")):
            which = path.stem.partition("_")[2]
            if image := re.fullmatch(r"image_(?:(.+)_)?([0-9]+)", path.stem):
                which = f"test image {int(image[2])}{f' of {image[1]}' if image[1] else ''}"
            said = f"{which}: {caption[0].lower()}{caption[1:]}" if which else caption
            shown = page.picture(path.read_bytes(), said, f"{looks} ({which})" if which else looks)
            pictures[section] = pictures.get(section, Markup()) + shown
    files.write_text(run / PAGE, run_page(results, run, pictures))


def run_page(results: dict[str, Any], run: Path, pictures: Mapping[str, Markup] | None = None) -> str:
    """The HTML page of a run in a folder, given its pictures as HTML, by section.

    Raises various errors if `results` do not come from a results.json.
    """
    settings = results["settings"] | dict(device=results["device"]) | results["versions"]
    shown = dict(pictures or {})
    words = {phase: f"{'; '.join(diagnosis['words'])}." for phase, diagnosis in results["diagnoses"].items()}
    sections = {
        "Start": origin(results),
        "Result": result(results),
        "Use the network": usage(results["settings"], run),
        **{name: shown.pop(name, Markup()) for name in ("Accuracy by epoch", "Confusion")},
        "Classes": of_classes(results),
        "Misclassified": errors(results["misclassified"]) + shown.pop("Misclassified", Markup()),
        "Costs and time": cost_report.section(run) + shown.pop("Costs and time", Markup()),
        "What the phases show": page.html.pairs("words", words),
        **shown,
        "Phases and time": page.html.table(*phases(results)),
        "Numbers of the network": page.html.table(*numbers(results)),
        "Settings and versions": page.html.table(
            ["name", "value"], [[name, plain_text(value)] for name, value in settings.items()]
        ),
    }
    return page.page(f"{results['network']} on {results['data']}", sections)


def origin(results: dict[str, Any]) -> Markup:
    """The run from which training started, and the treatment of its layers, as HTML; empty if there was none."""
    start = results.get("start")
    if not start:
        return Markup()
    new = [name for name in results["class_names"] if name not in start["class_names"]]
    return page.html.origin(start, {"classes there": ", ".join(start["class_names"]), "new classes": ", ".join(new)})


def result(results: dict[str, Any]) -> Markup:
    """The main figures of a run, facts about it, and its command, as HTML."""
    test = results["test"]
    best = results["best_epoch"]
    epochs = results["epochs"]
    settings = results["settings"]
    tested = tested_part(epochs[best]) if epochs else "test"
    cards = {}
    if test:
        cards = {
            "test accuracy": f"{test['accuracy']:.2%}",
            "wrong": f"{test['wrong']:.2%}",
            "silent": f"{test['silent']:.2%}",
            "macro F1": f"{test['f1']:.3f}",
            "best epoch": f"{best + 1} of {len(epochs)}" if epochs else "none",
        }
    cards |= {
        "validation accuracy": f"{epochs[best][tested]['accuracy']:.2%}" if tested == "validation" else "",
        "time": duration(results["seconds"]),
    }
    sizes = dict(
        training=settings["train_images"],
        unlabelled=settings.get("unlabelled_images", 0),
        validation=settings.get("validation_images", 0),
        test=settings["test_images"],
    )
    counts = ", ".join(f"{count:,} {part}" for part, count in sizes.items() if count)
    facts = {
        "network": results["network"],
        "data": f"{results['data']}: {counts} images",
        "test groups": ", ".join(results.get("test_groups", ())),
        "order": order(settings),
        "epochs": f"{' '.join(map(str, settings['epochs']))}, by stage",
        "seed": str(settings["seed"]),
        "device": f"{results['device']}, {back_end(settings)}",
        "finished": results.get("finished", "").replace("+00:00", " UTC"),
        "version": f"snnjax {results['versions']['snnjax']}",
    }
    places = {best: "best"}
    places[len(epochs) - 1] = "best and last" if best == len(epochs) - 1 else "last"
    head = ["accuracy", *(f"epoch {epoch + 1}, {which}" for epoch, which in places.items())]
    rows = [
        [f"{name} images", *(f"{epochs[epoch][part]['accuracy']:.2%}" for epoch in places)]
        for part, name in (("train", "training"), (tested, tested))
        if epochs
    ]
    return page.html.result(cards, head, rows, facts, results.get("command"))


def usage(settings: Mapping[str, Any], run: Path) -> Markup:
    """Instructions for using the network of a run with these settings, as HTML."""
    dataset = settings.get("dataset")
    modules = settings.get("imports", [])
    imports = "".join(f" --import {shlex.quote(module)}" for module in modules)
    folder = settings.get("data_dir")
    named = [json.dumps(x) for x in (dataset or "DATA.npz", folder) if x]
    loaded = [f"{name}={value!r}" for name, value in data_source.load_options(settings).items()]
    return page.html.usage(
        run=shlex.quote(str(run)),
        imports=imports,
        options=imports if dataset else f"{imports} --dataset DATA.npz",
        modules={module: Path(module).stem for module in modules},
        path=json.dumps(str(run)),
        source=", ".join([*named, *loaded]),
    )


def plain_text(value: Any) -> str:
    """The value of a setting as text."""
    return value if isinstance(value, str) else json.dumps(value)


def numbers(results: dict[str, Any]) -> Rows:
    """The numbers of a network before and, if some have changed, after training: the heads of a table and its rows."""
    start = results.get("hyperparameters", {})
    columns = {"at the start": start}
    if end := results.get("trained_hyperparameters"):
        columns["after training"] = start | end
    return ["number", *columns], [[name, *(f"{column[name]:g}" for column in columns.values())] for name in start]


def of_classes(results: dict[str, Any]) -> Markup:
    """The table of `classes` as HTML; empty for a network without a decision."""
    test = results["test"]
    return page.html.classes(*classes(test, results["class_names"])) if test else Markup()


def classes(test: dict[str, Any], names: Sequence[str]) -> Rows:
    """The figures of `metrics.report` for each class, given their names: the heads of a table and its rows."""
    columns = [test["classes"][name] for name in ("precision", "recall", "f1", "roc_auc")]
    cells = [["" if value is None else f"{value:.3f}" for value in column] for column in columns]
    rows = zip([f"{count:,}" for count in test["classes"]["images"]], *cells, strict=True)
    head = ["class", "images", "precision", "recall", "F1", "ROC AUC"]
    return head, [[name, *row] for name, row in zip(names, rows, strict=True)]


def errors(records: Sequence[Mapping[str, Any]]) -> Markup:
    """The table of the first misclassified test images of a results.json, as HTML."""
    keys = ["image", "file", "label", "decision"]
    if all(record["file"] is None for record in records):
        keys.remove("file")
    rows = [[printable(str(record[key])) for key in keys] for record in records[:LISTED]]
    return page.html.misclassified([f"test {keys[0]}", *keys[1:]], rows, len(records))

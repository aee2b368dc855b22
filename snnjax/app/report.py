"""The report of a run: its pictures, and report.html, which holds them and the results in one file."""

import base64
import json
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure

from snnjax import files
from snnjax.app import features, plots
from snnjax.data import Dataset
from snnjax.networks import Model, Observed, SpikingNetwork

PICTURES, PAGE = "pictures", "report.html"

Named = tuple[str, Figure]
Rows = tuple[list[str], list[list[str]]]


@jax.jit
def observe(model: Model, image: jax.Array) -> Observed:
    """The network's response to one image, (H, W) or (H, W, 3) of 0..255, layer by layer."""
    return model.observe(model.encode(image))


def decided(seen: Observed) -> str:
    """The decision in words."""
    return "the network stays silent" if seen.decided.decision < 0 else f"class {seen.decided.decision}"


def figures(
    results: dict[str, Any], network: SpikingNetwork, data: Dataset | None = None, images: Iterable[int] = ()
) -> Iterator[Named]:
    """The figures of a run: its results, what each layer's features are selective to, the response to test images."""
    if results["epochs"]:
        yield "history", plots.history_picture(results["epochs"], results["best_epoch"])
    yield "confusion", plots.confusion_picture(results["test"])
    spec = network.spec
    for name, drawn in features.drawn_back(network).items():
        rows = [f"class {number}" for number in range(spec.classes)] if name in spec.names[-1] else []
        yield f"features_{name}", plots.features_picture(drawn, f"{spec.name}, features of {name}", rows)
    if data is not None:
        for number in images:
            image, label = data.test_images[number], data.test_labels[number]
            seen = observe(network.model, image)
            title = f"test image {number}, label {label}: {decided(seen)}"
            yield f"image_{number:05}", plots.activity_picture(image, seen, spec.time_steps, title)


_CAPTIONS = {
    "history": "Accuracy by reward epoch",
    "confusion": "The best network's decisions on the test images",
    "weights": "Weights before and after training",
    "features": "What each feature is selective to, drawn back into the image: light where it wants light",
    "image": "When each neuron fires, layer by layer; silent ones are grey",
}
"""By the first word of a picture's file name, in the order of the page."""


def write(run: Path, results: dict[str, Any], figures: Iterable[Named]) -> None:
    """Writes figures of a run, and report.html with the results and all pictures of the run."""
    folder, pictures = run / PICTURES, []
    folder.mkdir(exist_ok=True)
    for name, figure in figures:
        plots.write(folder / f"{name}.png", figure)
    for kind, caption in _CAPTIONS.items():
        for path in sorted(folder.glob(f"{kind}*.png")):
            which = path.stem.partition("_")[2]
            pictures.append(figure_of(path.read_bytes(), f"{caption} ({which})" if which else caption))
    files.write_text(run / PAGE, run_page(results, pictures))


def run_page(results: dict[str, Any], pictures: list[str]) -> str:
    """The page of a run; raises errors of many kinds if `results` are not those of a results.json."""
    test, best, epochs = results["test"], results["best_epoch"], results["epochs"]
    known = results["settings"] | dict(device=results["device"]) | results["versions"]
    which = f"; the best of {len(epochs)} reward epochs: number {best + 1}" if epochs else ""
    for part in ("train", "test") if epochs else ():
        at_best, at_end = (epochs[at][part]["accuracy"] for at in (best, -1))
        which += f"; {part} {at_best:.2%} then, {at_end:.2%} in the last"
    numbers = [[name, f"{value:g}"] for name, value in results.get("parameters", {}).items()]
    items = [f"{escape(layer)}: taken from {escape(run)}" for layer, run in results.get("reused", {}).items()]
    for phase, found in results["diagnoses"].items():
        items.append(f"<b>{escape(phase)}</b>: {escape('; '.join(found['words']))}")
    sections = {
        "What the phases show": "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>",
        "Pictures": "".join(pictures),
        "Classes": table(*classes(test)),
        "Phases": table(*phases(results)),
        "Numbers of the network": table(["", ""], numbers),
        "Settings and versions": table(["", ""], [[name, json.dumps(value)] for name, value in known.items()]),
    }
    score = f"""<p class="big">{test["accuracy"]:.2%} <small>of {sum(test["classes"]["images"]):,} test images right,
{test["wrong"]:.2%} wrong, {test["silent"]:.2%} silent{which}</small></p>\n"""
    content = "".join(f"<h2>{heading}</h2>\n{section}\n" for heading, section in sections.items())
    return page(f"{results['network']} on {results['data']}", score + content)


def page(title: str, content: str) -> str:
    """A whole HTML file, with the style of the reports."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222; }}
h1 {{ margin-bottom: 0; }} h2 {{ margin-top: 2.2rem; border-bottom: 1px solid #ddd; font-size: 1.15rem; }}
.big {{ font-size: 2rem; margin: .3rem 0; }} .big small {{ font-size: 1rem; color: #555; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .15rem .8rem .15rem 0; text-align: right; border-bottom: 1px solid #eee; }}
th:first-child, td:first-child {{ text-align: left; }}
figure {{ margin: 1.2rem 0; }} figcaption {{ color: #555; font-size: .9rem; }} img {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>{escape(title)}</h1>
{content}</body></html>
"""


def figure_of(png: bytes, caption: str) -> str:
    """A picture as HTML that holds it."""
    data, text = base64.b64encode(png).decode(), escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def classes(test: dict[str, Any]) -> Rows:
    """What `metrics.report` found of each class: the heads of a table and its rows."""
    columns = [test["classes"][name] for name in ("precision", "recall", "f1", "roc_auc")]
    cells = [["" if value is None else f"{value:.3f}" for value in column] for column in columns]
    rows = zip([f"{count:,}" for count in test["classes"]["images"]], *cells, strict=True)
    head = ["class", "images", "precision", "recall", "F1", "ROC AUC"]
    return head, [[str(number), *row] for number, row in enumerate(rows)]


def phases(results: dict[str, Any]) -> Rows:
    """What a results.json holds of each phase: the heads of a table and its rows."""
    keys = dict(images=",", compile_seconds=".1f", seconds=".1f", images_per_second=",.0f")
    rows = [[each["name"], *(format(each[key], spec) for key, spec in keys.items())] for each in results["phases"]]
    return ["phase", "images", "compiling s", "running s", "images/s"], rows


def table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"

"""A run on one page: its pictures, drawn into the run folder, and report.html, which holds all of it in one file."""

import base64
import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from snnjax import files
from snnjax.app import features, plots
from snnjax.networks import Observed, SpikingNetwork

PICTURES, PAGE = "pictures", "report.html"


_observe = jax.jit(lambda model, image: model.observe(model.encode(image)))


def observe(network: SpikingNetwork, image: np.ndarray) -> Observed:
    """The network's response to one image, (H, W) or (H, W, 3) of 0..255, layer by layer."""
    return _observe(network.model, image)


def draw_activity(path: Path, network: SpikingNetwork, image: np.ndarray, seen: Observed, title: str) -> None:
    """Draws the network's response to one image into a PNG file."""
    steps = network.spec.time_steps
    layers = {name: np.where(np.asarray(x) < steps, x, np.nan) for name, x in seen.latencies.items()}
    plots.write(path, plots.activity_picture(image, layers, np.asarray(seen.decided.scores), title))


def draw_features(folder: Path, network: SpikingNetwork) -> None:
    """Draws a contact sheet for each layer of what its features are selective to."""
    spec = network.spec
    drawn = features.drawn_back(network)
    for stage, name, _ in spec.layers():
        last = stage == len(spec.stages) - 1
        rows = [f"class {number}" for number in range(spec.classes)] if last else []
        title, each = f"{spec.name}, features of {name}", drawn[name]
        strengths = each.strengths if last else np.ones(len(each.images))  # those that never won stay faint
        plots.write(folder / f"features_{name}.png", plots.features_picture(each.images, title, strengths, rows))


def telling(decisions: np.ndarray, labels: np.ndarray) -> list[int]:
    """Numbers of three telling images: the first decided right, the first wrong, the first silent, as there are."""
    kinds = (decisions == labels, (decisions >= 0) & (decisions != labels), decisions < 0)
    return [int(np.argmax(kind)) for kind in kinds if kind.any()]


def draw_images(
    folder: Path, network: SpikingNetwork, images: np.ndarray, labels: np.ndarray, which: Iterable[int]
) -> None:
    """Draws the network's response to some of the images."""
    for number in which:
        seen = observe(network, images[number])
        decision = int(seen.decided.decision)
        decided = "the network stays silent" if decision < 0 else f"decided {decision}"
        title = f"test image {number}, of class {labels[number]}: {decided}"
        draw_activity(folder / f"image_{number:05}.png", network, images[number], seen, title)


def draw_results(folder: Path, results: dict[str, Any]) -> None:
    """Draws the history and the confusion matrix that a results.json holds."""
    if results["epochs"]:
        plots.write(folder / "history.png", plots.history_picture(results["epochs"], results["best_epoch"]))
    matrix, counts = np.array(results["test"]["confusion_matrix"]), results["test"]["classes"]["images"]
    plots.write(folder / "confusion.png", plots.confusion_picture(matrix, counts))


_CAPTIONS = {
    "history": "Accuracy by reward epoch",
    "confusion": "The best network's decisions on the test images",
    "weights": "Weights before and after training",
    "features": "What each feature is selective to, drawn back into the image: light where it wants light",
    "image": "When each neuron fires, layer by layer; silent ones are grey",
}


def write_page(run: Path, results: dict[str, Any]) -> None:
    """Writes report.html: the results and all pictures of a run, in one file that needs no other."""
    found = sorted((run / PICTURES).glob("[!.]*.png"), key=lambda path: (_place(path), path.name))
    text = page(_title(results), body(results, [_figure(path) for path in found]))
    files.write_text(run / PAGE, text)


def _title(results: dict[str, Any]) -> str:
    return f"{results['network']} on {results['data']}"


def body(results: dict[str, Any], pictures: list[str]) -> str:
    """What a results.json holds as HTML.

    Raises:
      KeyError, TypeError, IndexError, AttributeError, ValueError: it holds something else.
    """
    test, best, count = results["test"], results["best_epoch"], len(results["epochs"])
    known = results["settings"] | dict(device=results["device"]) | results["versions"]
    which = f"; the best of {count} reward epochs: number {best + 1}" if count else ""
    for part in ("train", "test") if count else ():
        which += f"; {part} {results['epochs'][best][part]['accuracy']:.2%} then, "
        which += f"{results['epochs'][-1][part]['accuracy']:.2%} in the last"
    return f"""
<h1>{html.escape(_title(results))}</h1>
<p class="big">{test["accuracy"]:.2%} <small>of {sum(test["classes"]["images"]):,} test images right,
{test["wrong"]:.2%} wrong, {test["silent"]:.2%} silent{which}</small></p>
<h2>What the phases show</h2>
{_words(results)}
<h2>Pictures</h2>
{"".join(pictures)}
<h2>Classes</h2>
{table(["class", "images", "precision", "recall", "F1", "ROC AUC"], _classes(test))}
<h2>Phases</h2>
{table(PHASES, phases(results))}
<h2>Numbers of the network</h2>
{table(["", ""], [[name, f"{value:g}"] for name, value in results.get("parameters", {}).items()])}
<h2>Settings and versions</h2>
{table(["", ""], [[name, json.dumps(value)] for name, value in known.items()])}
"""


def page(title: str, body: str) -> str:
    """A whole HTML file, with the style of the reports."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222; }}
h1 {{ margin-bottom: 0; }} h2 {{ margin-top: 2.2rem; border-bottom: 1px solid #ddd; font-size: 1.15rem; }}
.big {{ font-size: 2rem; margin: .3rem 0; }} .big small {{ font-size: 1rem; color: #555; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .15rem .8rem .15rem 0; text-align: right; border-bottom: 1px solid #eee; }}
th:first-child, td:first-child {{ text-align: left; }}
figure {{ margin: 1.2rem 0; }} figcaption {{ color: #555; font-size: .9rem; }} img {{ max-width: 100%; height: auto; }}
</style></head><body>{body}</body></html>
"""


def _place(path: Path) -> int:
    return list(_CAPTIONS).index(_kind(path)) if _kind(path) in _CAPTIONS else len(_CAPTIONS)


def _kind(path: Path) -> str:
    return path.stem.split("_")[0]


def figure_of(png: bytes, caption: str) -> str:
    """A picture as HTML that holds it."""
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _figure(path: Path) -> str:
    kind, _, which = path.stem.partition("_")
    caption = _CAPTIONS.get(kind, path.stem) + (f" ({which})" if which else "")
    return figure_of(path.read_bytes(), caption)


def _words(results: dict[str, Any]) -> str:
    origin = results.get("reused", {})
    reused = "".join(f"<li>{html.escape(layer)}: taken from {html.escape(run)}</li>" for layer, run in origin.items())
    phases = "".join(
        f"<li><b>{html.escape(phase)}</b>: {html.escape('; '.join(diagnosis['words']))}</li>"
        for phase, diagnosis in results["diagnoses"].items()
    )
    return f"<ul>{reused}{phases}</ul>"


def _classes(test: dict[str, Any]) -> list[list[str]]:
    classes = test["classes"]
    rows = zip(*(classes[name] for name in ("images", "precision", "recall", "f1", "roc_auc")), strict=True)
    return [
        [str(number), f"{count:,}", *("" if value is None else f"{value:.3f}" for value in values)]
        for number, (count, *values) in enumerate(rows)
    ]


PHASES = ("phase", "images", "compiling s", "running s", "images/s")


def phases(results: dict[str, Any]) -> list[list[str]]:
    """What a results.json holds of each phase, in the order of `PHASES`."""
    keys = dict(images=",", compile_seconds=".1f", seconds=".1f", images_per_second=",.0f")
    return [[each["name"], *(format(each[key], spec) for key, spec in keys.items())] for each in results["phases"]]


def table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as HTML."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"

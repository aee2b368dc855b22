"""`snnjax report`: writes the page of a run anew, or compares several runs on one page."""

import json
from pathlib import Path
from typing import Any

from snnjax import InputError, files, load
from snnjax.app import console, options, parts, plots, report
from snnjax.app.runs import read_results


def renew(run: Path, chosen: options.Report) -> None:
    """Draws the pictures of one run that need no data, and the images asked for, and writes its page."""
    if chosen.out is not None:
        raise InputError(f"`out` is for several runs: the page of one is {run / report.PAGE}, got {chosen.out}")
    results, network, images = read_results(run), load(run), None
    if chosen.images:
        images = parts.dataset(chosen.data, results["settings"] | results)
        parts.check_images(chosen.images, images)
    report.write(run, results, report.figures(results, network, images, chosen.images))
    pictures = run / report.PICTURES
    print(f"{run / report.PAGE}, {len(list(pictures.glob('*.png')))} pictures in {pictures}")


def figures(results: dict[str, Any]) -> dict[str, str]:
    """The figures of one run to compare."""
    test, epochs = results["test"], results["epochs"]
    last = {part: f"{100 * epochs[-1][part]['accuracy']:.2f}" if epochs else "" for part in ("train", "test")}
    return {
        "test, best %": f"{100 * test['accuracy']:.2f}",
        "epoch": str(results["best_epoch"] + 1),
        "test, last %": last["test"],
        "silent %": f"{100 * test['silent']:.2f}",
        "F1": f"{test['f1']:.4f}",
        "training, last %": last["train"],
        "seconds": f"{sum(phase['seconds'] + phase['compile_seconds'] for phase in results['phases']):.1f}",
    }


def compare(chosen: options.Report) -> None:
    """Compares several runs in a table and on a page."""
    if chosen.images:
        raise InputError("`images` are drawn of one run, got several")
    out = chosen.out or Path("runs/comparison.html")
    parts.check_new(out)
    found = {str(run): read_results(run) for run in chosen.runs}
    if len(found) < len(chosen.runs):
        raise InputError(f"`runs` must differ, got {', '.join(map(str, chosen.runs))}")
    settings = [results["settings"] for results in found.values()]
    names = dict.fromkeys(name for each in settings for name in each)
    lines = [[name, *(json.dumps(each.get(name)) for each in settings)] for name in names]
    lines = [line for line in lines if len(set(line[1:])) > 1]  # settings that differ
    columns = [figures(results) for results in found.values()]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    console.screen().print(console.table(["", *found], [lines], "runs", len(found) + 1), markup=False)
    histories = {run: results["epochs"] for run, results in found.items()}
    picture = report.figure_of(plots.png(plots.comparison_picture(histories)), "Test accuracy by reward epoch")
    content = report.table(["", *found], lines) + picture
    files.write_text(out.absolute(), report.page(f"{len(found)} runs", content))
    print(out)


def run(chosen: options.Report) -> None:
    """Reports on one run, or compares several."""
    parts.import_all(chosen.parts.modules)
    if not chosen.runs:
        raise InputError("`RUN` is missing: name a run folder, or several to compare")
    renew(chosen.runs[0], chosen) if len(chosen.runs) == 1 else compare(chosen)

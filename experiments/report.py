"""Writes a run's pictures and report.html anew, or compares several runs on one page.

python experiments/report.py runs/mozafari2018_digits --images 3 17    draws these test images too
python experiments/report.py RUN1 RUN2 RUN3                            compares three runs
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from simple_parsing import field

from snnjax import InputError, data, devices, files, load
from snnjax.app import console, plots, report
from snnjax.app.runs import read_results


@dataclasses.dataclass(frozen=True)
class Options:
    """Which runs, and what to draw."""

    runs: list[Path] = field(positional=True, metavar="RUN", nargs="+", help="run folders")
    images: tuple[int, ...] = field((), help="numbers of test images to draw layer by layer, for one run")
    dataset: str | None = field(None, help="the data set of --images, where the run does not name it")
    data_dir: Path | None = field(None, help="folder of the set's files, for all but digits and .npz")
    out: Path | None = field(None, help="file to compare several runs in (runs/comparison.html)")
    device: str = field("auto", choices=devices.KINDS, help="where to run")


def renew(run: Path, options: Options) -> None:
    """Draws the pictures of one run that need no data, and the images asked for, and writes its page."""
    if options.out is not None:
        raise InputError(f"`out` is for several runs: the page of one is {run / report.PAGE}, got {options.out}")
    results, network, images = read_results(run), load(run), None
    if options.images:
        images = data.load(options.dataset or results["settings"].get("dataset", results["data"]), options.data_dir)
        last = len(images.test_images) - 1
        if wrong := [number for number in options.images if not 0 <= number <= last]:
            raise InputError(f"`images` must lie in 0..{last}, got {wrong[0]}")
    report.write(run, results, report.figures(results, network, images, options.images))
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


def compare(options: Options) -> None:
    """Compares several runs in a table and on a page."""
    if options.images:
        raise InputError("`images` are drawn of one run, got several")
    out = options.out or Path("runs/comparison.html")
    console.check_new(out)
    found = {str(run): read_results(run) for run in options.runs}
    if len(found) < len(options.runs):
        raise InputError(f"`runs` must differ, got {', '.join(map(str, options.runs))}")
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


@console.command(Options, __doc__)
def main(options: Options) -> None:
    """Reports on one run, or compares several."""
    renew(options.runs[0], options) if len(options.runs) == 1 else compare(options)


if __name__ == "__main__":
    console.run(main)

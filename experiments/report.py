"""Writes a run's pictures and report.html anew, or compares several runs on one page.

python experiments/report.py runs/mozafari2018_digits --images 3 17     draws these test images too
python experiments/report.py RUN1 RUN2 RUN3                          compares three runs
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from simple_parsing import field

from snnjax import data, devices, files
from snnjax.app import console, plots, report
from snnjax.app.runs import RESULTS, read_results
from snnjax.errors import InputError
from snnjax.trained import load


@dataclasses.dataclass(frozen=True)
class Options:
    """Which runs, and what to draw."""

    runs: list[Path] = field(positional=True, metavar="RUN", nargs="+", help="run folders")
    images: list[int] = field(default_factory=list, help="numbers of test images to draw layer by layer, of one run")
    dataset: str | None = field(default=None, help="the data set of --images, where the run does not say it")
    data_dir: Path | None = field(default=None, help="folder of the data set's files, for --images of all but digits")
    out: Path | None = field(default=None, help="file to compare several runs in (runs/comparison.html)")
    device: str = field(default="auto", help="auto, cpu, gpu or tpu")


def results_of(run: Path) -> dict[str, Any]:
    """What a run's results.json holds.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    if not (run / RESULTS).exists():
        raise FileNotFoundError(f"{run} holds no {RESULTS}: a run leaves it at its end, --resume finishes one")
    return read_results(run / RESULTS)


def renew(run: Path, options: Options) -> None:
    """Draws the pictures of one run that need no data, those of the images asked for, and its page."""
    if options.out is not None:
        raise InputError(f"`out` is for several runs: the page of one is {run / report.PAGE}, got {options.out}")
    results, network = results_of(run), load(run)
    pictures = run / report.PICTURES
    pictures.mkdir(exist_ok=True)
    report.draw_results(pictures, results)
    report.draw_features(pictures, network)
    if options.images:
        images = data.load(options.dataset or results["settings"].get("dataset", results["data"]), options.data_dir)
        count = len(images.test_images)
        for number in options.images:
            if not 0 <= number < count:
                raise InputError(f"`images` must lie in 0..{count - 1}, got {number}")
        labels = images.test_labels
        report.draw_images(pictures, network, images.test_images, labels, options.images)
    report.write_page(run, results)
    print(f"{run / report.PAGE}, {len(list(pictures.glob('*.png')))} pictures in {pictures}")


NAMES = ("test, best %", "epoch", "test, last %", "silent %", "F1", "training, last %", "seconds")


def column(results: dict[str, Any]) -> list[str]:
    """What is compared of one run, in the order of `NAMES`."""
    test, epochs = results["test"], results["epochs"]
    last = epochs[-1] if epochs else None
    seconds = sum(phase["seconds"] + phase["compile_seconds"] for phase in results["phases"])
    return [
        f"{100 * test['accuracy']:.2f}",
        str(results["best_epoch"] + 1),
        f"{100 * last['test']['accuracy']:.2f}" if last else "",
        f"{100 * test['silent']:.2f}",
        f"{test['f1']:.4f}",
        f"{100 * last['train']['accuracy']:.2f}" if last else "",
        f"{seconds:.1f}",
    ]


def compare(options: Options) -> None:
    """Compares several runs in a table and on a page.

    Raises:
      FileExistsError: the page is there already.
      ValueError, OSError: a run is bad.
    """
    if options.images:
        raise InputError("`images` are drawn of one run, got several")
    out = options.out or Path("runs/comparison.html")
    console.check_new(out)
    found = {str(run): results_of(run) for run in options.runs}
    if len(found) < len(options.runs):
        raise InputError(f"`runs` must differ, got {', '.join(map(str, options.runs))}")
    settings = [results["settings"] for results in found.values()]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    varied = [key for key in keys if len({json.dumps(each.get(key)) for each in settings}) > 1]
    columns = [
        [*(json.dumps(results["settings"].get(key)) for key in varied), *column(results)] for results in found.values()
    ]
    lines = list(zip([*varied, *NAMES], *columns, strict=True))
    Console().print(
        console.table(["", *map(escape, found)], [[map(escape, line) for line in lines]], "runs", len(found) + 1)
    )
    histories = {run: results["epochs"] for run, results in found.items()}
    picture = report.figure_of(plots.png(plots.comparison_picture(histories)), "Test accuracy by reward epoch")
    body = f"<h1>{len(found)} runs</h1>{report.table(['', *found], lines)}{picture}"
    files.write_text(out.absolute(), report.page(f"{len(found)} runs", body))
    print(out)


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    with console.user_errors():
        devices.choose(options.device)
        renew(options.runs[0], options) if len(options.runs) == 1 else compare(options)


if __name__ == "__main__":
    console.run(main)

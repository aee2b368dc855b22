"""`snnjax report`: writes the page of a run anew, or compares several runs on one page."""

from pathlib import Path

from snnjax import InputError
from snnjax.app import comparisons, console, options, page, parts, report, run_data
from snnjax.core import files
from snnjax.core.errors import printable
from snnjax.runs.results_file import PAGE, PICTURES, read_results
from snnjax.runs.trained import Trained


def renew(run: Path, chosen: options.Report) -> None:
    """Draws the pictures of one run that need no data, and the images asked for, and writes its page."""
    if chosen.out is not None:
        raise InputError(f"`out` is for several runs: the page of one is {run / PAGE}, got {chosen.out}")
    results = read_results(run)
    trained = Trained.read(run)
    images = None
    of_run = True
    if chosen.images:
        images, of_run = run_data.prepare(chosen, trained, run)
        parts.check_images(chosen.images, images)
    figures = report.figures(results, trained.spiking_network(), images, chosen.images, of_run=of_run)
    report.write(run, results, figures)
    pictures = run / PICTURES
    print(f"{run / PAGE}, {len(list(pictures.glob('*.png')))} pictures in {pictures}")


def compare(chosen: options.Report) -> None:
    """Compares several runs in a table and on a page; writes over an earlier page of ours, and over nothing else."""
    if chosen.images:
        raise InputError("`images` are drawn of one run, got several")
    out = chosen.out or Path("runs/comparison.html")
    if chosen.out is None:
        out.parent.mkdir(exist_ok=True)
    if not page.is_ours(out):
        parts.check_new(out)
    results = {str(run): read_results(run) for run in chosen.runs}
    if len(results) < len(chosen.runs):
        raise InputError(f"`RUN` must name runs that differ, got {', '.join(map(str, chosen.runs))}")
    head = comparisons.heads(results)
    figures, _ = comparisons.compared(results)
    screen = console.screen()
    names = (printable(f"{number}: {run}") for number, run in enumerate(results, 1))
    screen.print("runs", *names, sep="\n", markup=False)
    if differences := comparisons.differing(results):
        screen.print(console.table(head, [differences]), markup=False)
    screen.print(console.table(head, [figures]), markup=False)
    files.write_text(out.absolute(), comparisons.comparison_page(results))
    print(out)


def run(chosen: options.Report) -> None:
    """Reports on one run, or compares several."""
    parts.import_all(chosen.parts.modules)
    if not chosen.runs:
        raise InputError("`RUN` is missing: name a run folder, or several to compare")
    if len(chosen.runs) == 1:
        renew(chosen.runs[0], chosen)
    else:
        compare(chosen)

"""`snnjax report`: rewrites the page of a run, or compares runs and sweeps on one page."""

from collections.abc import Sequence
from pathlib import Path

from snnjax.app import comparisons, console, data_source, lookup, means, options, page, report, run_data
from snnjax.app.means import HEAD
from snnjax.core import checks, files
from snnjax.core.errors import printable
from snnjax.runs.results_file import PAGE, PICTURES, RESULTS, is_sweep, read_results, read_sweep
from snnjax.runs.trained import Trained


def renew(run: Path, chosen: options.Report) -> None:
    """Draws the pictures of a run that need no data and the requested images, and writes the page of the run."""
    checks.only_for("out", chosen.out, "several runs", f"the page of one is {run / PAGE}")
    results = read_results(run)
    trained = Trained.read(run)
    images = None
    of_run = True
    if chosen.images:
        images, of_run = run_data.prepare(chosen, trained, run)
        data_source.check_images(chosen.images, images)
    figures = report.figures(results, trained.spiking_network(), images, chosen.images, of_run=of_run)
    report.write(run, results, figures)
    pictures = run / PICTURES
    print(f"{run / PAGE}, {len(list(pictures.glob('*.png')))} pictures in {pictures}")


def compare(chosen: options.Report, paths: Sequence[Path]) -> None:
    """Compares runs and sweeps in tables and on a page; only an earlier page of snnjax is overwritten."""
    checks.only_for("images", chosen.images or None, "one run, not for several, or a sweep")
    out = chosen.out or (Path("runs/comparison.html") if len(paths) > 1 else paths[0] / PAGE)
    if chosen.out is None:
        out.parent.mkdir(exist_ok=True)
    page.check_path(out)
    sources = {str(path): read_sweep(path) if is_sweep(path) else read_results(path) for path in paths}
    checks.distinct("RUN", list(map(str, paths)))
    screen = console.screen()
    names = (printable(f"{number}: {run}") for number, run in enumerate(sources, 1))
    screen.print("runs", *names, sep="\n", markup=False)
    if len(sources) > 1 and (differing := comparisons.differing(sources)):
        screen.print(console.table(["", *map(str, range(1, len(sources) + 1))], [differing]), markup=False)
    if runs := comparisons.runs_of(sources):
        screen.print(console.table(["", *runs], [comparisons.compared(runs)[0]]), markup=False)
    head, rows = means.table(means.rows_of(sources.values()))
    words = len([name for name in head if name in HEAD[:3]])
    lines = [[*row[:words], *map(console.in_lines, row[words:])] for row in rows]
    screen.print(console.table(head, [lines], "means over seeds and folds", left=words), markup=False)
    differences = "differences: mean over common seeds and folds ± half of its 95 % interval, and their number"
    screen.print(f"accuracies: {console.MEAN}", differences, sep="\n", markup=False)
    files.write_text(out.absolute(), comparisons.comparison_page(sources))
    print(out)


def expanded(path: Path) -> list[Path]:
    """The folders of the folds, if this is the folder of a run with several folds; otherwise only the folder itself."""
    folds = [fold for fold in path.glob("fold*") if fold.name.removeprefix("fold").isdigit()]
    if (path / RESULTS).exists() or not folds:
        return [path]
    return sorted(folds, key=lambda fold: int(fold.name.removeprefix("fold")))


def run(chosen: options.Report) -> None:
    """Reports on one run, or compares several runs and sweeps."""
    lookup.import_all(chosen.parts.modules)
    checks.some("RUN", chosen.runs, "a run folder, or several runs and sweeps to compare")
    paths = [folder for path in chosen.runs for folder in expanded(path)]
    if len(paths) == 1 and not is_sweep(paths[0]):
        renew(paths[0], chosen)
    else:
        compare(chosen, paths)

"""`snnjax train`: trains a network, and writes it into a run folder."""

import contextlib
import importlib
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from snnjax import InputError
from snnjax.app import console, options, planning
from snnjax.app.main import COMMAND
from snnjax.core import files, metrics
from snnjax.runs.run_folder import RunFolder

FOLDS = "summary.json"
FOLD_FIGURES = ("accuracy", "wrong", "silent", "f1", "precision", "recall", "roc_auc")
"""The figures of the test of each fold that summary.json contains."""


def train(chosen: options.Train, fold: int | None = None) -> tuple[Path, dict[str, Any]]:
    """Trains a network to the end, and returns the run folder and the contents of its results.json.

    If the run is finished, it is only read. `fold` is the number of the part that is tested, as for `plan_run`.
    """
    begin = time.perf_counter()
    plan, path = planning.plan_run(
        chosen.network, chosen.data, chosen.training, chosen.machine, chosen.start, out=chosen.run.out, fold=fold
    )
    if fold is not None and plan.network.decision is None:
        raise InputError(f"`folds` compares accuracies, and {plan.network.name} has no decision: leave it out")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`start` gives")  # the folder has a note about the layers
        trainer = plan.trainer()
    trainer.network.check_initial_weights(trainer.settings.seed)
    resume = chosen.run.resume
    command = COMMAND.get().replace(" --resume", "")  # so that it starts the run again
    with RunFolder(path, trainer, resume=resume, about=dict(plan.source), command=command, draw=draw) as folder:
        folder.since = begin  # reading the data takes time too
        if resume and not folder.state:
            folder.notes.append("it holds no run yet: a new one begins")
        state = folder.start()
        console.header(folder)
        if not folder.results:
            threading.Thread(target=import_report).start()
            with (
                folder.explain_losses(),
                console.Bars() as trainer.callback,
                contextlib.ExitStack() as stack,
            ):
                save = folder.save
                if chosen.run.tensorboard:
                    from snnjax.app.tracking import Tracker

                    save = stack.enter_context(Tracker(folder, state)).save
                folder.finish(trainer.run(state, save))
        console.summary(folder)
        return folder.path, folder.results


def import_report() -> None:
    """Imports the modules that are needed only at the end of training; takes a second, in a separate thread."""
    for name in ("sklearn.metrics", "snnjax.app.report"):
        with contextlib.suppress(ImportError):  # it is raised again when the module is needed
            importlib.import_module(name)


def draw(*run: Any) -> None:
    """Writes the report of a run with `draw_run`, which is imported only now."""
    from snnjax.app.report import draw_run

    draw_run(*run)


def run(chosen: options.Train) -> None:
    """Trains a network, or one for each fold."""
    folds = chosen.data.folds
    if folds is None:
        train(chosen)
        return
    runs = dict[str, dict[str, Any]]()
    for fold in console.each_fold(folds):
        path, results = train(chosen, fold)
        runs[path.name] = results
        if fold == folds and results["test"]:
            summarise(path.parent, runs)


def summarise(folder: Path, runs: dict[str, dict[str, Any]]) -> None:
    """Prints a table of the test results of all folds, and writes them to summary.json.

    `runs` are the contents of the results.json of each fold, by the name of its folder.
    """
    accuracies = np.array([run["test"]["accuracy"] for run in runs.values()])
    rows = []
    records = []
    for name, run in runs.items():
        test = run["test"]
        images = run["settings"]["test_images"]
        shares = [f"{100 * test[part]:.2f}" for part in ("accuracy", "wrong", "silent")]
        rows.append([name, f"{images:,}", *shares, f"{test['f1']:.4f}", str(run["best_epoch"] + 1)])
        records.append(
            dict(
                folder=name,
                test_images=images,
                test_groups=run["test_groups"],
                best_epoch=run["best_epoch"],
                test={part: test[part] for part in FOLD_FIGURES},
            )
        )
    head = ["fold", "test images", "accuracy, %", "wrong, %", "silent, %", "macro F1", "best epoch"]
    files.write_json(folder / FOLDS, dict(folds=records, accuracy=metrics.spread(accuracies)))
    screen = console.screen()
    screen.print(console.table(head, [rows], "test"))
    mean = console.mean_of(100 * accuracies, 2)
    screen.print(f"[bold]test accuracy over {len(runs)} folds {mean} %[/]", console.MEAN, sep="\n")
    screen.print(f"{folder / FOLDS}: the table, and mean, standard deviation and interval", markup=False)

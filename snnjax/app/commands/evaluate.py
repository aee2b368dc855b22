"""`snnjax evaluate`: tests a trained network on a data set."""

from typing import Any

import numpy as np
from rich.markup import escape

from snnjax.app import console, lookup, options, planning, report, run_data
from snnjax.core import files
from snnjax.core.errors import printable
from snnjax.networks.model import check_decides
from snnjax.runs.trained import Trained
from snnjax.training import TrainState


def show(result: dict[str, Any]) -> None:
    """Prints the figures, and a table of the classes."""
    print(f"{result['run']} on {result['test_images']:,} test images of {result['dataset']}")
    console.scores(result)
    wrong = np.array(result["confusion_matrix"])
    np.fill_diagonal(wrong, 0)
    names = result["class_names"]
    confused = [f"{names[row.argmax()]} ({console.times(row.max())})" if row.any() else "" for row in wrong]
    head, rows = report.classes(result, names)
    lines = [[escape(cell) for cell in (*row, other)] for row, other in zip(rows, confused, strict=True)]
    console.screen().print(console.table([*head, "most often confused with"], [lines], "classes", left=1))


def run(chosen: options.Evaluate) -> None:
    """Tests the network, prints the figures, and writes them to a file if requested."""
    lookup.import_all(chosen.parts.modules)
    trained = Trained.read(chosen.run)
    check_decides(trained.network)
    if chosen.out is not None:
        files.check_new(chosen.out)
    images = run_data.prepare(chosen, trained, chosen.run).images
    trainer = planning.plan_of_trained(trained, images, chosen.machine).trainer()
    result = dict(run=str(chosen.run), dataset=images.name, test_images=len(images.test_images))
    result |= trainer.test(TrainState(trained.weights)) | dict(class_names=list(trained.class_names))
    show(result)
    if chosen.out is not None:
        files.write_json(chosen.out, result)
        print(f"{printable(str(chosen.out))}: these figures and the confusion matrix")

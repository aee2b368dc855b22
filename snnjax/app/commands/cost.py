"""`snnjax cost`: counts the cost of the decisions of a trained network."""

import csv
import functools
from pathlib import Path
from typing import Any

import snnjax
from snnjax.app import console, cost_report, lookup, options, planning, report, run_data
from snnjax.app.commands.predict import csv_text
from snnjax.core import checks, files
from snnjax.core.errors import printable
from snnjax.data.names import name_of
from snnjax.networks import Network
from snnjax.networks.decision import is_fitted
from snnjax.networks.quantisation import MAX_BITS, quantise
from snnjax.runs.results_file import PICTURES, RESULTS, read_results
from snnjax.runs.trained import STREAM, Trained
from snnjax.training.cost import Cost, summary


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as tables and sentences."""
    screen = console.screen()
    head, rows = cost_report.layers(figures)
    screen.print(console.table(head, [rows[:-1], rows[-1:]], "layers, per image"), markup=False)
    head, rows = cost_report.times(figures)
    screen.print(console.table(head, [rows], "spikes in time, means per image"), markup=False)
    head, rows = cost_report.moments(figures)
    if rows:
        screen.print(console.table(head, [rows], "decisions in time", left=0))
    if "few_bits" in figures:
        head, rows = cost_report.few_bits(figures)
        screen.print(console.table(head, [rows], "quantised weights", left=0))
    for name, words in cost_report.facts(figures).items():
        if words:
            print(f"{name}: {words}")


def write_images(path: Path, cost: Cost, names: tuple[str, ...]) -> None:
    """Writes the counts of each image to a CSV file."""
    counts = {"spikes of the input": cost.input_spikes}
    counts |= {f"spikes of {layer.name}": layer.spikes for layer in cost.spiking if layer.spikes is not None}
    counts |= {f"operations of {layer.name}": layer.effective_operations for layer in cost.spiking}
    with files.atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["image", "label", "class", *counts, "first readout spike", "decided for good"])
        for number in range(len(cost)):
            label = "" if cost.labels is None else names[cost.labels[number]]
            decided = cost.decisions[number, -1:].tolist()
            decision = name_of(decided[0], names) if decided else ""
            row = [int(values[number]) for values in counts.values()]
            first = cost.time_steps if cost.first_spike is None else int(cost.first_spike[number])
            spike = "" if first == cost.time_steps else first
            settled = int(cost.settled[number]) if decided else ""
            writer.writerow([number, csv_text(label), csv_text(decision), *row, spike, settled])


def check_options(chosen: options.Cost, network: Network) -> None:
    """Raises InputError if a number of bits is invalid, or if an assumption about energy is missing or invalid."""
    for bits in chosen.bits:
        checks.integer("bits", bits, 1, MAX_BITS)
    if network.decision is None:
        checks.only_for("bits", chosen.bits or None, f"networks that decide, not for {network.name}")
    for name in ("pj_accumulate", "pj_multiply"):
        if getattr(chosen, name) is not None:
            checks.number(name, getattr(chosen, name), 0)
    if chosen.pj_multiply is not None:
        checks.given("pj_accumulate", chosen.pj_accumulate, "given too, such as --pj_accumulate 0.9")
    if chosen.pj_accumulate is not None and is_fitted(network.decision):
        needs = f"given too, as {network.name} multiplies and accumulates, such as --pj_multiply 4.6"
        checks.given("pj_multiply", chosen.pj_multiply, needs)


def energy_estimate(chosen: options.Cost, cost: Cost) -> dict[str, Any]:
    """The estimate of the energy that options request, as JSON data; {} if they do not."""
    if chosen.pj_accumulate is None:
        return {}
    nanojoules = cost.energy(chosen.pj_accumulate, chosen.pj_multiply)
    assumed = dict(pj_accumulate=chosen.pj_accumulate, pj_multiply=chosen.pj_multiply)
    return dict(energy=assumed | dict(nanojoules=summary(nanojoules)))


def few_bits_figures(cost: Cost, whole: Cost, bits: int) -> dict[str, Any]:
    """Accuracy, bytes and operations of a quantised network, compared with the `whole` network, as JSON data."""
    assert cost.accuracy is not None
    return dict(
        bits=bits,
        accuracy=float(cost.accuracy[-1]),
        same_decisions=float((cost.decisions[:, -1] == whole.decisions[:, -1]).mean()),
        bytes=sum(layer.weights for layer in cost.spiking) * bits / 8,
        effective_operations=summary(cost.effective_operations),
        spikes=summary(cost.spikes),
    )


def run(chosen: options.Cost) -> None:
    """Counts the cost, prints the figures, and writes them into the folder and report of the run, or into a file."""
    lookup.import_all(chosen.parts.modules)
    trained = Trained.read(chosen.run)
    check_options(chosen, trained.network)
    for path in (chosen.out, chosen.csv):
        if path is not None:
            files.check_new(path)
    prepared = run_data.prepare(chosen, trained, chosen.run)
    images = prepared.images
    settings = planning.plan_of_trained(trained, images, chosen.machine).settings
    network = trained.spiking_network()
    count = functools.partial(
        snnjax.cost, images=images.test_images, labels=images.test_labels, backend=settings.backend
    )
    cost = count(network)
    figures = dict(run=str(chosen.run), dataset=images.name) | cost.as_json() | energy_estimate(chosen, cost)
    few_bits = []
    for bits in chosen.bits:
        few = count(quantise(network, bits))
        few_bits.append(few_bits_figures(few, cost, bits) | energy_estimate(chosen, few))
    if few_bits:
        figures["few_bits"] = few_bits
    print(f"{chosen.run} on {len(cost):,} test images of {images.name}")
    show(figures)
    if chosen.csv is not None:
        write_images(chosen.csv, cost, trained.class_names)
        print(f"{printable(str(chosen.csv))}: the counts of each image")
    if chosen.out is not None:
        files.write_json(chosen.out, figures)
        print(f"{printable(str(chosen.out))}: these figures")
    elif prepared.of_run and (chosen.run / RESULTS).is_file() and not (chosen.run / STREAM).exists():
        add_to_report(chosen.run, figures)
    else:
        print("No file was written: --out FILE.json writes the figures.")


def add_to_report(folder: Path, figures: dict[str, Any]) -> None:
    """Writes the figures into the folder of a run and into its report."""
    results = read_results(folder)
    files.write_json(folder / cost_report.COSTS, figures)
    pictures = [("cost", cost_report.picture(figures))] if "steps" in figures else []
    report.write(folder, results, pictures)
    names = [printable(str(folder / cost_report.COSTS)), *[f"{PICTURES}/{name}.png" for name, _ in pictures]]
    print(f"{', '.join(names)} and {report.PAGE}: these figures")

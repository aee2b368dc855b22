"""Presents the results of `snnjax.cost` as tables, sentences and a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snnjax.app import page, plots
from snnjax.core import files
from snnjax.core.errors import InputError

COSTS = "cost.json"  # in the folder of a run

Json = Mapping[str, Any]
Rows = tuple[list[str], list[list[str]]]


def layers(cost: Json) -> Rows:
    """The cost of each layer, and of all spiking layers in the last row: the heads of a table and its rows."""
    head = ["layer", "neurons", "weights", "not 0", "kB", "spikes", "least", "most", "operations", "dense"]
    rows = [_layer(layer) for layer in cost["layers"]]
    spiking = [layer for layer in cost["layers"] if layer["spikes"]]
    if not spiking:
        return head, rows
    sums = {key: sum(layer[key] for layer in spiking) for key in ("neurons", "weights", "nonzero_weights", "bytes")}
    counts = {key: cost[key] for key in ("spikes", "effective_operations", "dense_operations")}
    return head, [*rows, _layer(dict(name="all spiking layers") | sums | counts)]


def _layer(layer: Json) -> list[str]:
    """The cells of a row, for one layer or for all spiking layers."""
    spikes = layer["spikes"]
    return [
        layer["name"] if spikes else f"{layer['name']}, multiply-accumulates",
        f"{layer['neurons']:,}",
        f"{layer['weights']:,}",
        f"{layer['nonzero_weights'] / layer['weights']:.0%}",
        f"{layer['bytes'] / 1000:,.0f}",
        f"{spikes['mean']:,.0f}" if spikes else "",
        f"{spikes['least']:,}" if spikes else "",
        f"{spikes['most']:,}" if spikes else "",
        f"{layer['effective_operations']['mean']:,.0f}",
        f"{layer['dense_operations']:,}",
    ]


def times(cost: Json) -> Rows:
    """The mean spike times of each layer, in steps of its window: the heads of a table and its rows."""
    rows = []
    for layer in cost["layers"]:
        if not layer.get("first_spike"):  # the layer is silent or multiplies, or an earlier version counted
            continue
        start = layer["window"] * cost["time_steps"]
        window = f"{start:,} to {start + cost['time_steps'] - 1:,}"
        rows.append([layer["name"], window, *(f"{layer[key]['mean']:.1f}" for key in ("first_spike", "median_spike"))])
    return ["layer", "window", "first spike", "half of its spikes"], rows


def moments(cost: Json) -> Rows:
    """The decisions after each step of the deciding window: the heads of a table and its rows; empty without steps."""
    if "steps" not in cost:
        return [], []
    known = "accuracy" in cost
    shares = cost["accuracy" if known else "same_as_last"]
    decided = np.cumsum(cost["settled_images"]) / cost["images"]
    head = ["after step", "of T", "accuracy" if known else "decided as at the end", "decided for good"]
    if "first_spike_images" in cost:
        head.append("readout has fired")
        fired = np.cumsum(cost["first_spike_images"])[cost["steps"]] / cost["images"]
    rows = []
    for place, (step, share) in enumerate(zip(cost["steps"], shares, strict=True)):
        row = [str(step), f"{(step + 1) / cost['time_steps']:.2f}", f"{share:.2%}", f"{decided[place]:.1%}"]
        if "first_spike_images" in cost:
            row.append(f"{fired[place]:.1%}")
        rows.append(row)
    return head, rows


def few_bits(cost: Json) -> Rows:
    """Accuracy and cost with quantised weights: the heads of a table and its rows."""
    head = ["bits", "accuracy", "same decisions", "kB of layers", "spikes", "operations"]
    estimated = all("energy" in figures for figures in cost.get("few_bits", []))
    if estimated:
        head.append("nJ, estimated")
    rows = []
    for figures in cost.get("few_bits", []):
        shares = [f"{figures['accuracy']:.2%}", f"{figures['same_decisions']:.2%}"]
        counts = [f"{figures[name]['mean']:,.0f}" for name in ("spikes", "effective_operations")]
        row = [str(figures["bits"]), *shares, f"{figures['bytes'] / 1000:,.1f}", *counts]
        if estimated:
            row.append(f"{figures['energy']['nanojoules']['mean']:,.1f}")
        rows.append(row)
    return head, rows


def facts(cost: Json) -> dict[str, str]:
    """The main figures as texts, by name; a text is "" if it does not apply."""
    effective = cost["effective_operations"]["mean"]
    averaging = cost.get("averaging_neurons", 0)
    before = cost["layers"][-1].get("window", 0) * cost["time_steps"]
    found = {
        "images": f"{cost['images']:,}",
        "spikes of the encoded image": " to ".join(f"{cost['input_spikes'][key]:,}" for key in ("least", "most")),
        "activation sparsity": "",
        "synaptic operations": "",
        "averaging neurons": f"{averaging:,}, whose spikes and operations are not counted" if averaging else "",
        "multiply-accumulates": f"{cost['multiply_accumulates']:,} per image" if cost["multiply_accumulates"] else "",
        "weights": f"{cost['footprint_bytes'] / 1000:,.0f} kB as float32",
        "first readout spike": "",
        "decided for good": "",
        "steps before the deciding window": f"{before:,}, in addition to these" if before else "",
    }
    if cost["dense_operations"]:
        share = effective / cost["dense_operations"]
        found["activation sparsity"] = f"{cost['activation_sparsity']:.4%}"
        found["synaptic operations"] = f"{effective:,.0f} per image, {share:.4%} of dense ones"
    if settled := cost.get("settled"):
        found["decided for good"] = f"after step {settled['mean']:.1f} on average, {settled['most']} at most"
    if first := cost.get("first_spike"):
        silent = cost["first_spike_images"][-1]
        without = f"; {silent:,} images without one" if silent else ""
        found["first readout spike"] = f"at step {first['mean']:.1f} of {cost['time_steps']} on average{without}"
    if "energy" in cost:
        found["energy, estimated"] = energy(cost["energy"])
    return found


def energy(estimate: Json) -> str:
    """An estimate of the energy as text, with its assumptions."""
    multiply = estimate["pj_multiply"]
    assumed = f"{estimate['pj_accumulate']:g} pJ per synaptic operation"
    if multiply is not None:
        assumed += f" and {multiply:g} pJ per multiply-accumulate"
    return f"{estimate['nanojoules']['mean']:,.1f} nJ per image, assuming {assumed} and nothing else"


def section(run: Path) -> Markup:
    """The costs of a run as HTML; empty if they have not been counted. Raises InputError if the file is damaged."""
    path = run / COSTS
    if not path.exists():
        return Markup()
    cost = files.read_json(path)
    try:
        figures = page.html.costs(facts(cost), *layers(cost), *moments(cost), *few_bits(cost))
        return Markup(figures + page.html.table(*times(cost)))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{path} contains no costs: delete it, and `snnjax cost {run}` writes it again") from error


def picture(cost: Json) -> Figure:
    """The accuracy over the time steps, and histograms of the first readout spike and the last change of decision."""
    figure, (curve, times) = plots.grid(2, 2, plots.WIDTH / 2, 3.2)
    steps = np.array(cost["steps"])
    known = "accuracy" in cost
    curve.plot(steps, 100 * np.array(cost["accuracy" if known else "same_as_last"]), marker="o", markersize=4)
    curve.set(xlabel="input up to this step", ylabel=f"images, {'right' if known else 'decided as at the end'}, %")
    curve.set_ylim(0, 100)
    curve.grid(alpha=0.3)
    _draw_times(times, cost, steps)
    return figure


def _draw_times(axis: Axes, cost: Json, steps: np.ndarray) -> None:
    """Draws histograms of the first readout spike and of the last change of the decision."""
    edges = [0, *(steps + 1)]
    if "first_spike_images" in cost:
        images = np.add.reduceat(cost["first_spike_images"][:-1], edges[:-1])  # the last entry counts silent images
        axis.stairs(images, edges, fill=True, color="tab:orange", label="first readout spike")
    axis.stairs(cost["settled_images"], edges, color="tab:blue", linewidth=1.5, label="decided for good")
    axis.set(xlabel="time step", ylabel="images")
    plots.whole_numbers(axis, 0, cost["time_steps"])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)

"""How accuracy grows: by reward on the digits, and recorded figures of other runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from book_pictures import style
from snnjax import NETWORKS, Images, Settings, Trainer
from snnjax.app import plots
from snnjax.data import digits
from snnjax.kernels import native

RECORDED = Path(__file__).parents[1] / "recorded"
EPOCHS = (7, 7, 40)  # 10,000 images for each layer of features, then reward


def reward_curve() -> bytes:
    """Accuracy of mozafari2018 on scikit-learn's digits, in training and validation, after each epoch of reward."""
    data = digits().hold_out(0.1, seed=0)
    settings = Settings(epochs=EPOCHS, batch_size=100, patience=0, native=native.unavailable() is None)
    trainer = Trainer(NETWORKS["mozafari2018"](Images.of(data)), data, settings)
    state = trainer.run(trainer.initial_state())
    decisions, _ = trainer.predict(state, data.test_images)
    tested = 100 * float(np.mean(decisions == data.test_labels))
    figure = style.sheet(2.9)
    axis = figure.subplots()
    curves = {
        part: 100 * np.array([epoch[part]["accuracy"] for epoch in state.epochs]) for part in ("train", "validation")
    }
    numbers = range(1, len(state.epochs) + 1)
    axis.plot(numbers, curves["train"], color=style.OFF, linewidth=2, label="training images")
    axis.plot(numbers, curves["validation"], color=style.ORANGE, linewidth=2, label="validation images")
    best = len(state.epochs) - 1 - int(curves["validation"][::-1].argmax())
    words = f"best in validation: epoch {best + 1}; test {tested:.1f} %"
    star: dict[str, Any] = dict(color="0.1", markersize=14, markeredgecolor="white")
    axis.plot(best + 1, curves["validation"][best], "*", label=words, **star)
    axis.axhline(10, color="0.5", linestyle=":", label="chance")
    axis.set(xlabel="epoch of reward", ylabel="right decisions, %", ylim=(0, 101), xlim=(0, len(state.epochs) + 1))
    axis.grid(axis="y", alpha=0.3)
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.4))
    return plots.png(figure)


def _recorded(name: str) -> list[dict[str, Any]]:
    """The rows of a recorded table."""
    return json.loads((RECORDED / f"{name}.json").read_text())["rows"]


def images() -> bytes:
    """Test accuracy on CIFAR-10 against the number of training images: softhebb_narrow above goupy2024_ncg."""
    rows = [row for row in _recorded("results") if (row["data"], row["mirrored"]) == ("cifar10-jpeg", True)]
    figure = style.sheet(3)
    axis = figure.subplots()
    for network, color in (("softhebb_narrow", style.ON), ("goupy2024_ncg", style.OFF)):
        chosen = sorted((row for row in rows if row["network"] == network), key=lambda row: row["train_images"])
        counts = np.array([row["train_images"] for row in chosen])
        error = [row["interval"] or 0 for row in chosen]
        look: dict[str, Any] = dict(color=color, linewidth=1.8, capsize=2, markersize=5)
        axis.errorbar(counts, [row["mean"] for row in chosen], error, fmt="o-", label=network, **look)
        for count, row in zip(counts / 0.9, chosen, strict=True):  # published figures are of all images given
            for entry in row["published"]:
                axis.plot(count, entry["accuracy"], "x", color=color, markersize=8)
    axis.set(xscale="log", xlabel="training images", ylabel="test accuracy, %, and 95 % interval")
    axis.set_xticks([90, 900, 9000, 45000], ["90", "900", "9,000", "45,000"])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left")
    return plots.png(figure)


def replication() -> bytes:
    """Accuracy after four epochs of reward: the recorded run of the PyTorch code, and snnjax with five seeds."""
    rows = _recorded("replication")[::-1]
    figure = style.sheet(3.4)
    axes = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(rows))
    for axis, (part, title) in zip(axes, (("train", "training images"), ("test", "test images")), strict=True):
        means = [row[part]["mean"] for row in rows]
        error = [3 * row[part]["sd"] for row in rows]
        label = "snnjax: mean, three standard deviations"
        axis.errorbar(means, places, xerr=error, fmt="o", color=style.OFF, capsize=2, markersize=5, label=label)
        recorded = [row["recorded"][part] for row in rows]
        axis.plot(recorded, places, "x", color=style.ON, markersize=8, label="PyTorch, one run")
        axis.set(title=title, xlabel="right decisions, %", xlim=(0, 100))
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(places, [row["network"] for row in rows])
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return plots.png(figure)


def reward_on_mnist() -> bytes:
    """Accuracy of mozafari2018 on MNIST over 680 epochs of reward: training ends at 98.4 %, test at 96.5 %."""
    rows = _recorded("reward_epochs")
    figure = style.sheet(2.8)
    axis = figure.subplots()
    epochs = [row["epoch"] for row in rows]
    for part, color, name in (("train", style.OFF, "training images"), ("test", style.ORANGE, "test images")):
        axis.plot(epochs, [row[part] for row in rows], "o-", color=color, linewidth=1.8, markersize=5, label=name)
    axis.set(xlabel="epoch of reward", ylabel="right decisions, %", xlim=(0, 700))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    return plots.png(figure)

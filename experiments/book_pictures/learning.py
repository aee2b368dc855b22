"""The picture of accuracy on the digits while a network learns from reward."""

from typing import Any

import numpy as np

from book_pictures import style
from snnjax import NETWORKS, ImageSpec, Settings, Trainer
from snnjax.app import plots
from snnjax.data import digits

EPOCHS = (7, 7, 40)  # about 10,000 images for each feature layer, then the reward epochs


def reward_curve() -> bytes:
    """Accuracy of mozafari2018 on training and held-out images of scikit-learn's digits, after each reward epoch."""
    data = digits().hold_out(0.1, seed=0)
    settings = Settings(epochs=EPOCHS, adapt_every=100, patience=0)
    trainer = Trainer(NETWORKS["mozafari2018"](ImageSpec.of(data)), data, settings)
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
    axis.plot(numbers, curves["validation"], color=style.ORANGE, linewidth=2, label="held-out images")
    best = len(state.epochs) - 1 - int(curves["validation"][::-1].argmax())
    words = f"best on held-out images: epoch {best + 1}; test {tested:.1f} %"
    star: dict[str, Any] = dict(color="0.1", markersize=14, markeredgecolor="white")
    axis.plot(best + 1, curves["validation"][best], "*", label=words, **star)
    axis.axhline(10, color="0.5", linestyle=":", label="chance")
    axis.set(xlabel="reward epoch", ylabel="correct decisions, %", ylim=(0, 101), xlim=(0, len(state.epochs) + 1))
    axis.grid(axis="y", alpha=0.3)
    axis.legend(loc="center right", bbox_to_anchor=(1, 0.4))
    return plots.png(figure)

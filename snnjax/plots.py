"""Pictures of what a network has learned."""

from pathlib import Path
from typing import Any

import numpy as np

from snnjax.checkpoint import beside


def features_picture(path: Path, weights: np.ndarray, kernels: np.ndarray, title: str) -> None:
    """Draws what each feature of a first layer is selective to, in the image: its weights through the filters.

    Args:
      path: of the PNG file to write.
      weights: (F, C, kh, kw) of the first layer.
      kernels: (C, n, n) of the filters that feed it.
      title: above the picture.
    """
    from matplotlib.figure import Figure

    images = features_in_image(weights, kernels)
    columns = min(10, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 0.9, rows * 0.9 + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axis, image in zip(figure.subplots(rows, columns, squeeze=False).flat, images, strict=False):
        limit = np.abs(image).max() or 1.0
        axis.imshow(image, cmap="gray", vmin=-limit, vmax=limit)
    for axis in figure.axes:
        axis.axis("off")
    with beside(path) as temporary:
        figure.savefig(temporary, dpi=150)


def replication_picture(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draws the accuracy curves of each network: all our runs, their mean, and the recorded run.

    Args:
      path: of the PNG file to write.
      rows: by network: its name, and under "train" and "test" the accuracies "reference" (epochs,), "seeds"
        (seeds, epochs) and "mean" (epochs,).
    """
    from matplotlib.figure import Figure

    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * lines + 0.6), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis, row in zip(axes, rows, strict=False):
        for part, color in (("train", "tab:blue"), ("test", "tab:orange")):
            curves = np.array(row[part]["seeds"])
            epochs = np.arange(1, curves.shape[1] + 1)
            axis.plot(epochs, curves.T, color=color, linewidth=0.6, alpha=0.5)
            axis.plot(epochs, row[part]["mean"], color=color, linewidth=2, label=f"snnjax, {part}")
            theirs = row[part]["reference"]
            axis.plot(range(1, len(theirs) + 1), theirs, "o--", color="black", markerfacecolor=color, markersize=6)
        axis.plot([], [], "o--", color="black", label="PyTorch, one run")
        axis.set_title(row["network"], fontsize=10)
        axis.set_xlabel("reward epoch")
        axis.set_xticks(epochs[:: -(-len(epochs) // 10)])
        axis.grid(alpha=0.3)
    for axis in axes[::columns]:
        axis.set_ylabel("accuracy")
    for axis in axes[len(rows) :]:
        axis.axis("off")
    axes[0].legend(fontsize=8, loc="lower right")
    with beside(path) as temporary:
        figure.savefig(temporary, dpi=130)


def sweep_picture(path: Path, networks: list[dict[str, Any]]) -> None:
    """Draws the last test accuracies of networks that differ, over each value that they differ in.

    Args:
      path: of the PNG file to write.
      networks: of each, "variant" (what is special about it, by name) and "epochs" (with "test" and "accuracy").
    """
    from matplotlib.figure import Figure

    names = list(networks[0]["variant"])
    varied = [name for name in names if len({network["variant"][name] for network in networks}) > 1] or names[-1:]
    columns = min(3, len(varied))
    lines = -(-len(varied) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    accuracy = np.array([network["epochs"][-1]["test"]["accuracy"] for network in networks])
    for axis, name in zip(axes, varied, strict=False):
        values = np.array([network["variant"][name] for network in networks])
        known = np.unique(values)
        places = np.searchsorted(known, values)
        axis.plot(places, 100 * accuracy, "o", alpha=0.5, markersize=5, label="one network")
        if name != "seed":
            axis.plot([100 * accuracy[places == at].mean() for at in range(len(known))], "-", label="mean")
        axis.set_xticks(range(len(known)), [f"{value:g}" for value in known])
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    for axis in axes[::columns]:
        axis.set_ylabel("test accuracy, %")
    for axis in axes[len(varied) :]:
        axis.axis("off")
    axes[0].legend(fontsize=8)
    with beside(path) as temporary:
        figure.savefig(temporary, dpi=130)


def features_in_image(weights: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """First-layer features drawn back into the image: each weight adds its filter at its place.

    Args:
      weights: (F, C, kh, kw).
      kernels: (C, n, n).

    Returns:
      (F, kh + n - 1, kw + n - 1): light where the feature wants light, dark where it wants dark.
    """
    features, channels, height, width = weights.shape
    if len(kernels) != channels:
        raise ValueError(f"`kernels` must be one for each of {channels} channels, got {len(kernels)}")
    window = kernels.shape[-1]
    # Only what a feature prefers to the average counts: weights that are all alike show nothing.
    contrast = weights - weights.mean(axis=(1, 2, 3), keepdims=True)
    scaled = kernels / np.sqrt((kernels**2).sum(axis=(1, 2), keepdims=True))
    images = np.zeros((features, height + window - 1, width + window - 1))
    for row in range(height):
        for column in range(width):
            images[:, row : row + window, column : column + window] += np.tensordot(
                contrast[:, :, row, column], scaled, axes=1
            )
    return images

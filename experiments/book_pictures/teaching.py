"""A network that is taught, picture by picture."""

from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

import snnjax
from book_pictures import style
from snnjax.data import Dataset, digits
from snnjax.networks import prototypes_on

NEURONS = 3  # of each class
NEW = 6  # pictures after which another digit joins
LAST = 20  # pictures after the last digit has joined
TESTED = 200
FRAME = 220  # milliseconds
GREYS = 24
REST = 3000  # on the last frame


def lesson(labels: np.ndarray) -> np.ndarray:
    """The numbers of the training pictures, in the order in which they are shown: one more digit after each `NEW`."""
    random = np.random.default_rng(0)
    of_digits = [iter(np.flatnonzero(labels == digit)) for digit in range(10)]
    known = [min(shown // NEW, 9) for shown in range(10 * NEW + LAST)]
    drawn = [newest if shown % NEW == 0 else random.integers(newest + 1) for shown, newest in enumerate(known)]
    return np.array([next(of_digits[digit]) for digit in drawn])


def taught() -> bytes:
    """A picture at the left; the mean of the pictures that each neuron has won; accuracy on test digits below."""
    data = digits()
    features = snnjax.load("pretrained:goupy2024_ncg_mnist")
    stream = snnjax.Stream(prototypes_on(features, per_class=NEURONS))
    state = stream.init()
    means = np.zeros((10 * NEURONS, *data.train_images.shape[1:]))
    before = np.zeros(10 * NEURONS)
    accuracies: list[float] = []
    frames = []
    for number in lesson(data.train_labels):
        picture = data.train_images[number]
        label = int(data.train_labels[number])
        decision, state = stream.learn(state, picture, label)
        decides = stream.network(state)
        wins = np.asarray(decides.spec.stages[-1].branches[0].last_learner.wins)
        won = wins > before
        means[won] += (picture - means[won]) / wins[won, None, None]
        before = wins
        accuracies.append(_tested(decides, data))
        frames.append(_frame(picture, label, int(decision), means, won, accuracies))
    return _animation(frames)


def _tested(network: snnjax.SpikingNetwork, data: Dataset) -> float:
    """In %, on test digits of all classes."""
    decided = np.asarray(network(data.test_images[:TESTED]))
    return 100 * float(np.mean(decided == data.test_labels[:TESTED]))


def _frame(
    picture: np.ndarray, label: int, decision: int, means: np.ndarray, won: np.ndarray, accuracies: list[float]
) -> Image.Image:
    figure = style.sheet(2.9, space=0.04)
    above, below = style.parts(figure, 1.4, 1)
    columns: Any = above.subfigures(1, 2, width_ratios=(1, 4.4))
    left, right = columns
    shown = left.subplots()
    axes = right.subplots(NEURONS, 10)
    answer = "silent" if decision < 0 else f"decides {decision}"
    style.show_digit(shown, picture, f"a {label}:\n{answer}")
    style.box(shown, 13.5, 13.5, 27, style.GREEN if decision == label else style.ON, linewidth=4)
    for neuron, axis in enumerate(axes.T.ravel()):
        style.show_digit(axis, means[neuron], str(neuron // NEURONS) if neuron % NEURONS == 0 else "")
        if won[neuron]:
            style.box(axis, 13.5, 13.5, 27, style.ORANGE, linewidth=3)
    axis = below.subplots()
    axis.plot(range(1, len(accuracies) + 1), accuracies, color=style.OFF, linewidth=2)
    axis.set(xlim=(0, 10 * NEW + LAST), ylim=(0, 100), xlabel="pictures learned", ylabel="all digits, %")
    axis.grid(axis="y", alpha=0.3)
    return style.image_of(figure)


def _animation(frames: list[Image.Image]) -> bytes:
    """As a GIF file of a few colours, which begins again."""
    greys = np.rint(np.linspace(0, 255, GREYS)).repeat(3).reshape(-1, 3)
    lines = [255 * np.array(to_rgb(color)) for color in (style.ON, style.OFF, style.GREEN, style.ORANGE)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, lines]).astype(np.uint8).tobytes())
    quantised = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    return style.animation(quantised, FRAME, REST)

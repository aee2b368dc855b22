"""Data for examples 14 and 15, made up: characters of random strokes, and words of tones in noise."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.io import wavfile

SIZE = 105  # rows and columns of a drawing
RATE = 8000  # samples per second


def strokes(random: np.random.Generator) -> np.ndarray:
    """The ends of the four lines of a character, (4, 2, 2)."""
    return random.uniform(15, 90, (4, 2, 2))


def drawing(character: np.ndarray, random: np.random.Generator) -> Image.Image:
    """A character as someone draws it: black on white, its ends moved a little."""
    image = Image.new("L", (SIZE, SIZE), 255)
    for line in character + random.normal(0, 2, character.shape):
        ImageDraw.Draw(image).line([tuple(end) for end in line], fill=0, width=3)
    return image


def write_omniglot(folder: Path) -> None:
    """An alphabet of 20 characters in each of two background sets, and 20 runs of two other alphabets."""
    random = np.random.default_rng(0)
    for part in ("small1", "small2"):
        for number in range(20):
            character = strokes(random)
            files = folder / f"images_background_{part}" / f"alphabet_of_{part}" / f"character{number:02}"
            files.mkdir(parents=True)
            for drawer in range(20):
                drawing(character, random).save(files / f"{number}_{drawer:02}.png")
    alphabets = [[strokes(random) for _ in range(20)] for _ in range(2)]
    for run in range(1, 21):
        names = []
        for part in ("training", "test"):
            (folder / f"run{run:02}" / part).mkdir(parents=True)
        for place, number in enumerate(random.permutation(20)):
            test, example = f"run{run:02}/test/item{place:02}.png", f"run{run:02}/training/class{number:02}.png"
            drawing(alphabets[run % 2][number], random).save(folder / test)
            drawing(alphabets[run % 2][number], random).save(folder / example)
            names.append(f"{test} {example}\n")
        (folder / f"run{run:02}" / "class_labels.txt").write_text("".join(names))


def word(digit: int, voice: float, random: np.random.Generator) -> np.ndarray:
    """Two tones of a third of a second, one after the other, which name a digit; the voice shifts both."""
    time = np.arange(RATE // 3) / RATE
    pairs = [(300, 600), (300, 1200), (300, 2400), (600, 300), (600, 1200), (600, 2400), (1200, 300), (1200, 600)]
    pairs += [(1200, 2400), (2400, 300)]
    tones = [np.sin(2 * np.pi * frequency * voice * time) for frequency in pairs[digit]]
    sound = np.concatenate(tones) + random.normal(0, 0.1, 2 * len(time))
    return np.round(8000 * sound).astype(np.int16)


def write_spoken_digits(folder: Path, recordings: int = 10) -> None:
    """Recordings of three speakers, named as those of the Free Spoken Digit Dataset."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for speaker, voice in dict(anna=0.95, ben=1.0, carl=1.05).items():
        for digit in range(10):
            for number in range(recordings):
                wavfile.write(folder / f"{digit}_{speaker}_{number}.wav", RATE, word(digit, voice, random))

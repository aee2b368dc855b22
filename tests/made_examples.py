"""Data for examples 14 and 15, made up: words of tones in noise, and characters of random strokes."""

import io
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


def prepare_omniglot(stored: Path, folder: Path) -> None:
    """The background sets of a folder, as tensorflow-datasets prepares them in another."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Omniglot(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("3.0.0")

            def _info(self):
                features = dict(
                    alphabet=tfds.features.ClassLabel(num_classes=2),
                    image=tfds.features.Image(shape=(SIZE, SIZE, 3)),
                    label=tfds.features.ClassLabel(num_classes=40),
                )
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, _):
                return dict(small1=self._generate_examples("small1"), small2=self._generate_examples("small2"))

            def _generate_examples(self, part):
                first = 20 * (part == "small2")
                for path in (stored / f"images_background_{part}").rglob("*.png"):
                    content = io.BytesIO()
                    Image.open(path).convert("1").save(content, "png")  # a bit a pixel, as the real ones
                    content.seek(0)
                    label = first + int(path.stem.split("_")[0])
                    yield f"{part} {path.stem}", dict(alphabet=first // 20, image=content, label=label)

    Omniglot(data_dir=folder, file_format="array_record").download_and_prepare()


def word(digit: int, voice: float, random: np.random.Generator) -> np.ndarray:
    """Two tones that name a digit, each a third of a second long; the voice shifts both."""
    time = np.arange(RATE // 3) / RATE
    hertz = 300, 600, 1200, 2400
    pairs = [(first, second) for first in hertz for second in hertz if first != second]
    tones = [np.sin(2 * np.pi * voice * frequency * time) for frequency in pairs[digit]]
    sound = np.concatenate(tones) + random.normal(0, 0.1, 2 * len(time))
    return np.round(8000 * sound).astype(np.int16)


def write_spoken_digits(folder: Path, recordings: int = 10) -> None:
    """Recordings of two speakers, named as those of the Free Spoken Digit Dataset."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for speaker, voice in dict(anna=0.97, ben=1.03).items():
        for digit in range(10):
            for number in range(recordings):
                wavfile.write(folder / f"{digit}_{speaker}_{number}.wav", RATE, word(digit, voice, random))


def prepare_spoken_digits(stored: Path, folder: Path) -> None:
    """The recordings of a folder, as tensorflow-datasets prepares them in another."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class SpokenDigit(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.9")

            def _info(self):
                audio = tfds.features.Audio(file_format="wav", sample_rate=RATE)
                names = {"audio": audio, "audio/filename": tfds.features.Text()}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(names))

            def _split_generators(self, _):
                return dict(train=self._generate_examples())

            def _generate_examples(self):
                for path in stored.glob("*.wav"):
                    sound = wavfile.read(path)[1].astype(np.int64)
                    yield path.name, {"audio": sound, "audio/filename": path.name}

    SpokenDigit(data_dir=folder, file_format="array_record").download_and_prepare()

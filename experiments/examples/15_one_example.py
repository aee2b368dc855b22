"""Learns new Omniglot characters from one drawing of each (Lake et al. 2015), with spiking features and prototypes.

Unpack python/images_background_small1.zip, python/images_background_small2.zip and python/one-shot-classification/
all_runs.zip of github.com/brendenlake/omniglot into FOLDER. tensorflow-datasets' omniglot may replace the first two.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from snnjax import RSTDP, Conv, Network, Pool, SpikingFeatures, Stream, encoding, layers, learners, networks, stage


def characters(images):
    learned = dict(learners=learners.SoftHebb(1.0, 0.08), ramp=layers.Ramp(4.0), standardise=layers.Standardise())
    features = Conv(48, kernel=7, padding=3, weight_mean=0.0, weight_std=3.6, **learned)
    regions = networks.Input("stage1", pool=Pool(10, stride=4, padding=3, mean=True))
    stages = stage(features), stage(Conv(images.classes, kernel=8, learners=RSTDP()), inputs=regions)
    return Network("characters", (1, 32, 32), images.classes, stages, 255, epochs=(1, 1), encoder=encoding.PIXELS)


def normalised(picture):
    """A drawing as (32, 32) uint8, white on black, with its ink centred and scaled to a fixed spread."""
    drawing = 1 - picture / np.float32(picture.max())  # the background is 255, or 1 in files with one bit per pixel
    ink = np.argwhere(drawing > 0.5)
    scale = ink.std(axis=0).mean() / 9
    soft = ndimage.gaussian_filter(255 * drawing, 0.6 * scale)
    return ndimage.affine_transform(soft, (scale, scale), ink.mean(axis=0) - scale * 15.5, (32, 32), np.uint8, order=1)


def read(paths):
    return np.stack([normalised(np.array(Image.open(path).convert("L"))) for path in paths])


def background(folder, part):
    """The drawings of each alphabet: (characters, 20, 32, 32) uint8."""
    if (folder / "omniglot/3.0.0").exists():
        import tensorflow_datasets as tfds

        source = tfds.builder("omniglot", data_dir=folder, file_format="array_record").as_data_source(part)
        records = sorted(source, key=lambda record: record["label"])
        alphabets = np.array([record["alphabet"] for record in records])
        drawings = np.stack([normalised(record["image"][..., 0]) for record in records])
    else:
        paths = sorted((folder / f"images_background_{part}").glob("*/*/*.png"))
        alphabets = np.array([path.parts[-3] for path in paths])
        drawings = read(paths)
    return {each: drawings[alphabets == each].reshape(-1, 20, 32, 32) for each in np.unique(alphabets).tolist()}


def published(folder):
    """The 20 runs of Lake et al.: images to learn, (20, 1, 32, 32), images to classify, (20, 32, 32), their labels."""
    for run in range(1, 21):
        names = (folder / f"run{run:02}/class_labels.txt").read_text().split()
        tests = names[::2]  # each is followed by the example of its class
        examples, labels = np.unique(names[1::2], return_inverse=True)
        yield read(folder / name for name in examples)[:, None], read(folder / name for name in tests), labels


def drawn(alphabets, ways, shots, runs, random):
    """Similar runs with random characters of one alphabet and random drawings of each character."""
    for _ in range(runs):
        alphabet = random.permutation(alphabets[random.integers(len(alphabets))])[:ways]
        drawings = np.stack([random.permutation(each)[: shots + 1] for each in alphabet])
        yield drawings[:, 1:], drawings[:, 0], np.arange(ways)


def report(title, features, runs):
    wrong = []
    for examples, tests, labels in runs:
        ways, shots = examples.shape[:2]
        stream = Stream(networks.prototypes_on(features, ways, per_class=1))
        _, state = stream.learn(stream.init(), np.concatenate(examples), np.repeat(np.arange(ways), shots))
        wrong.extend(np.asarray(stream.network(state)(tests)) != labels)
    print(f"{title}, {ways} characters, {shots} to learn: {np.mean(wrong):.1%} of {len(wrong):,} decisions are wrong")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--runs", type=int, default=100, metavar="N", help="random runs of each kind (100)")
    options = parser.parse_args()
    try:
        runs = [*published(options.folder)]
        sets = {part: background(options.folder, part) for part in ("small1", "small2")}
    except (OSError, ImportError, ValueError) as problem:
        raise SystemExit(f"{options.folder} does not contain the data that --help names: {problem}") from None
    for part, other in zip(sets, reversed(sets), strict=True):
        features = SpikingFeatures(characters).fit(np.concatenate([*sets[part].values()]).reshape(-1, 32, 32)).network_
        report(f"features of {part}, published runs", features, runs)
        for ways, shots in (20, 1), (20, 5), (5, 1), (5, 5):
            unseen = [each for name, each in sets[other].items() if name not in sets[part] and len(each) >= ways]
            report("random runs", features, drawn(unseen, ways, shots, options.runs, np.random.default_rng(0)))


if __name__ == "__main__":
    main()

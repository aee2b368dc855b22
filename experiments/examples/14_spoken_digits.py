"""Spoken digits from maps of mel bands over time, in which louder is earlier; also of speakers never heard before."""

import argparse
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
from scipy import io, signal
from sklearn.svm import LinearSVC

from snnjax import SpikingClassifier

SIZE = 32  # mel bands, and positions in time


def log_mel(sound):
    """The loudness of mel bands over a recording, from 60 dB below its maximum on, (SIZE, SIZE) uint8."""
    differences = np.diff(sound.astype(float))  # raises high frequencies
    hertz, _, spectrum = signal.stft(differences, 8000, nperseg=200, noverlap=120, nfft=256, boundary=None)
    centres = np.linspace(np.log1p(80 / 700), np.log1p(3800 / 700), SIZE + 2)[1:-1]
    distances = np.abs(np.log1p(hertz / 700) - centres[:, None]) / (centres[1] - centres[0])
    power = np.clip(1 - distances, 0, None) @ np.abs(spectrum) ** 2
    level = np.clip(1 + np.log10(power / power.max() + 1e-9) / 6, 0, 1)
    positions = np.linspace(0, level.shape[1] - 1, SIZE)
    return np.array([np.interp(positions, np.arange(level.shape[1]), 255 * band) for band in level]).astype(np.uint8)


def recordings(folder):
    """The sounds by file name, such as 7_jackson_32.wav: digit, speaker and number."""
    if (folder / "spoken_digit").exists():
        import tensorflow_datasets as tfds

        source = tfds.builder("spoken_digit", data_dir=folder, file_format="array_record").as_data_source("train")
        return dict(sorted((record["audio/filename"].decode(), record["audio"]) for record in source))
    return {path.name: io.wavfile.read(path)[1] for path in sorted(folder.rglob("[0-9]_*_*.wav"))}


def spiking(maps, digits, seed, network):
    return SpikingClassifier(network, largest=255, random_state=seed).fit(maps, digits).predict


def linear(maps, digits, seed):
    model = LinearSVC(C=0.03, random_state=seed).fit(maps.reshape(len(maps), -1) / 255, digits)
    return lambda maps: model.predict(maps.reshape(len(maps), -1) / 255)


class SmallCNN(nn.Module):
    @nn.compact
    def __call__(self, maps, learning):
        values = maps[..., None] / 255
        for features in (16, 32, 64):
            values = nn.max_pool(nn.relu(nn.GroupNorm(4)(nn.Conv(features, (3, 3))(values))), (2, 2), (2, 2))
        return nn.Dense(10)(nn.Dropout(0.5, deterministic=not learning)(values.reshape(len(maps), -1)))


def convolutional(maps, digits, seed, steps=1500):
    network = SmallCNN()
    optimizer = optax.adamw(optax.cosine_decay_schedule(0.002, steps))

    def loss(parameters, maps, digits, key):
        scores = network.apply(parameters, maps, True, rngs=dict(dropout=key))
        return optax.softmax_cross_entropy_with_integer_labels(scores, digits).mean()

    @jax.jit
    def step(parameters, state, maps, digits, key):
        updates, state = optimizer.update(jax.grad(loss)(parameters, maps, digits, key), state, parameters)
        return optax.apply_updates(parameters, updates), state

    parameters = network.init(jax.random.key(seed), maps[:1], False)
    state = optimizer.init(parameters)
    for number, chosen in enumerate(np.random.default_rng(seed).integers(len(maps), size=(steps, 64))):
        parameters, state = step(parameters, state, maps[chosen], digits[chosen], jax.random.key(number))
    return lambda maps: np.argmax(network.apply(parameters, maps, False), axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    content = "the .wav files of github.com/Jakobovski/free-spoken-digit-dataset, or tfds' prepared spoken_digit"
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=f"folder with {content}")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="number of repetitions (1)")
    options = parser.parse_args()
    if not (sounds := recordings(options.folder)):
        raise SystemExit(f"{options.folder} contains no recordings such as 7_jackson_32.wav: see --help")
    maps = np.stack([log_mel(sound) for sound in sounds.values()])
    digits, speakers, numbers = np.array([Path(name).stem.split("_") for name in sounds]).T
    digits = digits.astype(np.int32)
    tests = {"official split": numbers.astype(int) < 5} | {each: speakers == each for each in np.unique(speakers)}
    spiking_networks = {name: partial(spiking, network=name) for name in ("softhebb_narrow", "local_narrow")}
    for method, fit in dict(linear=linear, convolutional=convolutional, **spiking_networks).items():
        for split, test in tests.items():
            for seed in range(options.seeds):
                found = fit(maps[~test], digits[~test], seed)(maps[test])
                print(f"{method}, {split}, seed {seed}: {np.mean(found == digits[test]):.1%}", flush=True)


if __name__ == "__main__":
    main()

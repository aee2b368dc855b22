"""Recognises spoken digits of github.com/Jakobovski/free-spoken-digit-dataset in maps of mel bands over time."""

import argparse
from functools import partial
from itertools import product
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
from flax.training.train_state import TrainState
from scipy import io, signal
from sklearn.svm import SVC, LinearSVC

from snnjax import SpikingClassifier


def log_mel(sound):
    """The loudness of 32 mel bands at 32 times of a recording, from 60 dB below its maximum on, (32, 32) uint8."""
    raised = np.diff(sound.astype(float))  # high frequencies become louder
    hertz, _, spectrum = signal.stft(raised, 8000, nperseg=200, noverlap=120, nfft=256, boundary=None)
    centres = np.linspace(np.log1p(80 / 700), np.log1p(3800 / 700), 34)[1:-1]
    distances = np.abs(np.log1p(hertz / 700) - centres[:, None]) / (centres[1] - centres[0])
    power = np.clip(1 - distances, 0, None) @ np.abs(spectrum) ** 2
    level = np.clip(1 + np.log10(power / power.max() + 1e-9) / 6, 0, 1)
    positions = np.linspace(0, level.shape[1] - 1, 32)
    return np.array([np.interp(positions, np.arange(level.shape[1]), 255 * band) for band in level]).astype(np.uint8)


def recordings(folder):
    """The sounds by file name, such as 7_jackson_32.wav: digit, speaker and number."""
    if (folder / "spoken_digit").exists():
        import tensorflow_datasets as tfds

        source = tfds.builder("spoken_digit", data_dir=folder, file_format="array_record").as_data_source("train")
        return dict(sorted((record["audio/filename"].decode(), record["audio"]) for record in source))
    sounds = {path: io.wavfile.read(path) for path in sorted(folder.rglob("[0-9]_*_*.wav"))}
    wrong = [path for path, (rate, sound) in sounds.items() if rate != 8000 or sound.ndim > 1 or not np.ptp(sound)]
    if wrong:
        raise SystemExit(f"{wrong[0]} must be mono, at 8000 Hz, and not silent")
    return {path.name: sound for path, (_, sound) in sounds.items()}


def spiking(maps, digits, seed, network):
    return SpikingClassifier(network, largest=255, random_state=seed).fit(maps, digits).predict


def flat(maps, digits, _, make_model):
    model = make_model().fit(maps.reshape(len(maps), -1) / 255, digits)
    return lambda maps: model.predict(maps.reshape(len(maps), -1) / 255)


class SmallCNN(nn.Module):
    @nn.compact
    def __call__(self, maps, learning):
        values = maps[..., None] / 255
        for features in (16, 32, 64):
            values = nn.max_pool(nn.relu(nn.GroupNorm(4)(nn.Conv(features, (3, 3))(values))), (2, 2), (2, 2))
        return nn.Dense(10)(nn.Dropout(0.5, deterministic=not learning)(values.reshape(len(maps), -1)))


def convolutional(maps, digits, seed, steps=1500):
    key = jax.random.key(seed)
    optimizer = optax.adamw(optax.cosine_decay_schedule(0.002, steps))
    state = TrainState.create(apply_fn=SmallCNN().apply, params=SmallCNN().init(key, maps[:1], False), tx=optimizer)

    @jax.jit
    def step(state, maps, digits, key):
        def loss(parameters):
            scores = state.apply_fn(parameters, maps, True, rngs=dict(dropout=key))
            return optax.softmax_cross_entropy_with_integer_labels(scores, digits).mean()

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    for number, chosen in enumerate(np.random.default_rng(seed).integers(len(maps), size=(steps, 64))):
        state = step(state, maps[chosen], digits[chosen], jax.random.fold_in(key, number))
    return lambda maps: np.argmax(state.apply_fn(state.params, maps, False), axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of its .wav files, or tfds' spoken_digit")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repetitions (1), without effect on SVMs")
    options = parser.parse_args()
    sounds = recordings(options.folder) or parser.error(f"{options.folder} contains no files such as 7_jackson_32.wav")
    maps = np.stack([log_mel(sound) for sound in sounds.values()])
    digits, speakers, numbers = np.array([Path(name).stem.split("_") for name in sounds]).T
    digits = digits.astype(np.int32)
    tests = {"official split": numbers.astype(int) < 5} | {each: speakers == each for each in np.unique(speakers)}
    methods = {name: partial(spiking, network=name) for name in ("softhebb_narrow", "local_narrow")}
    methods |= dict(linear=partial(flat, make_model=partial(LinearSVC, C=0.03, random_state=0)))
    methods |= dict(gaussian=partial(flat, make_model=partial(SVC, C=10)), convolutional=convolutional)
    for (method, fit), (split, test), seed in product(methods.items(), tests.items(), range(options.seeds)):
        found = fit(maps[~test], digits[~test], seed)(maps[test])
        print(f"{method}, {split}, seed {seed}: {np.mean(found == digits[test]):.1%}", flush=True)


if __name__ == "__main__":
    main()

"""Digests of ten short trainings of different kinds: two checkouts with the same lines learn the same, bit for bit.

$ python benchmarks/trainings.py            within two minutes
$ python benchmarks/trainings.py > before.txt; git switch other; python benchmarks/trainings.py | diff before.txt -

Digests depend on processor and versions: compare those of one machine.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from snnjax import NETWORKS, Settings, Trainer, data
from snnjax.training.build import network_for

TRAININGS: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("mozafari2018", (1, 1, 2), {}),
    ("mozafari2018", (1, 1, 2), dict(native=True)),
    ("deepr2024", (1, 1, 1, 2), dict(native=True, shuffle=True)),
    ("inception2024", (1, 1, 1, 1), dict(update_batch=8)),
    ("majority2024", (1, 1, 2), dict(mirror=True)),
    ("goupy2024_ncg", (1, 3), dict(native=True, shuffle=True)),
    ("goupy2024_ncg", (1, 1), {}),
    ("goupy2024_s2stdp", (1, 1), dict(native=True, update_batch=4)),
    ("kheradpisheh2018", (1, 1), dict(native=True)),
    ("deepr2024_2", (1, 1, 1, 1), dict(native=True, mirror=True)),
)
"""Networks, their epochs, and settings."""


def digest(arrays: Iterator[np.ndarray]) -> str:
    """A short digest of arrays, whatever their names."""
    parts = sorted(hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays)
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def main() -> None:
    """Prints a line for each training: weights and numbers learned, then decisions and scores."""
    images = data.digits().first(200, 100)
    for name, epochs, settings in TRAININGS:
        trainer = Trainer(network_for(NETWORKS[name], images), images, Settings(epochs, 50, patience=0, **settings))
        state = trainer.run(trainer.initial_state())
        learned = digest(iter([*state.weights.values(), *state.numbers.values()]))
        decided = digest(iter(trainer.predict(state, images.test_images)))
        accuracy = state.epochs[-1]["test"]["accuracy"]
        print(name, settings, learned, decided, f"{accuracy:.2f}", flush=True)


if __name__ == "__main__":
    main()

"""A trained network as a run has left it, with all that is needed to use it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from snnjax import checkpoint
from snnjax.encoding import Encoder, FilterBank
from snnjax.errors import InputError
from snnjax.networks import Network, SpikingNetwork, describe, described, draw

WEIGHTS = "weights.npz"
LARGEST = 4096
"""Rows and columns of an image, and time steps, that a file may ask for."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a run folder's weights.npz holds.

    Attributes:
      spec: the network.
      weights: of its layers, by name.
      encoder: makes latencies of the images that it was trained on.
      settings: of the run, as in its results.json.
    """

    spec: Network
    weights: dict[str, np.ndarray]
    encoder: Encoder
    settings: dict[str, Any]

    def save(self, path: Path) -> None:
        """Writes it as one file, whole or not at all.

        Raises:
          OSError: the file cannot be written.
        """
        encoder = json.loads(json.dumps(dataclasses.asdict(self.encoder)))
        checkpoint.save(path, self.weights, dict(network=describe(self.spec), encoder=encoder, settings=self.settings))

    @classmethod
    def read(cls, run: Path | str) -> "Trained":
        """Reads a run folder's weights, or such a file itself. No code is ever executed.

        Raises:
          FileNotFoundError: there is none.
          ValueError: it is damaged, or holds something else.
        """
        path = Path(run)
        if path.is_dir():
            if not (path / WEIGHTS).exists():
                raise FileNotFoundError(
                    f"{path} holds no {WEIGHTS}: a run leaves it at its end, `--resume` finishes one"
                )
            path = path / WEIGHTS
        weights, meta = checkpoint.load(path)
        try:
            filters = meta["encoder"]["bank"]
            filters |= dict(kernels=_frozen(filters["kernels"]), threshold=_frozen(filters["threshold"]))
            kept = {name: value for name, value in meta["encoder"].items() if name != "native"}  # of older files
            trained = cls(
                described(meta["network"]),
                weights,
                Encoder(**kept | dict(bank=FilterBank(**filters))),
                dict(meta["settings"]),
            )
            found, expected = {name: w.shape for name, w in weights.items()}, trained.spec.weight_shapes
            channels, rows, columns = trained.spec.input_shape
            bank = trained.encoder.bank
            if max(rows, columns, bank.margin, trained.spec.time_steps, bank.copies) > LARGEST:
                raise InputError(
                    f"images of {rows}x{columns}, margins of {bank.margin} or steps are more than {LARGEST}"
                )
            if (len(bank.kernels) * bank.copies, trained.encoder.time_steps) != (channels, trained.spec.time_steps):
                raise InputError("its encoder does not make what its network takes")
            if found != expected:  # before anything is drawn in the shapes that the file names
                raise InputError(f"`weights` must be {expected}, got {found}")
            trained.network()
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{path} holds no trained network: {error}") from error
        return trained

    def network(self, *, native: bool = False) -> SpikingNetwork:
        """The network with its weights.

        Args:
          native: takes the compiled kernels of `snnjax.kernels.native`, on a CPU.
        """
        network = draw(self.spec, native=native)
        network.set_weights({name: jnp.asarray(value) for name, value in self.weights.items()})
        return network


def load(run: Path | str) -> SpikingNetwork:
    """The network that a run has trained, ready to call on the latencies of an image, to jit and to vmap.

    Args:
      run: the run's folder, or its weights.npz.

    Raises:
      FileNotFoundError: there is no such run, or it is not finished.
      ValueError: the file is damaged, or holds something else.
    """
    return Trained.read(run).network()


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value

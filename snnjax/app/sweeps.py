"""The folder of a sweep: what it leaves, and how it resumes."""

from pathlib import Path
from typing import Any

import numpy as np

from snnjax import files
from snnjax.app import plots
from snnjax.app.checkpoints import CheckpointFolder, versions
from snnjax.networks import Network
from snnjax.trained import Trained
from snnjax.training.state import TrainState
from snnjax.training.sweep import Sweep, SweepState

RESULTS = "sweep.json"


class SweepFolder(CheckpointFolder):
    """A folder that one sweep locks until the `with` block ends.

    The sweep leaves the weights of each network, as `snnjax.load` takes them, a figure, and sweep.json with the variant
    and the results of each network. A sweep with the same settings and other variants adds to it and trains only those
    that are new.

    Attributes:
      state: where an earlier start of the same sweep stopped.
      others: records of trained networks that are no variants of this sweep.
      notes: messages about how the sweep begins.
    """

    def __init__(self, path: Path | str, sweep: Sweep, settings: dict[str, Any] | None = None):
        """Locks the folder, creating it, and reads what an earlier start of the same sweep has left.

        Args:
          settings: what the result depends on besides the sweep's settings and data, JSON data.

        Raises:
          FileExistsError: another program has locked it.
          InputError: what it holds is damaged, or of another sweep.
          OSError: it cannot be written.
        """
        super().__init__(path, sweep, settings)
        self.sweep, self.state, self.others = sweep, SweepState(), list[dict[str, Any]]()
        with self._lock:  # released if the checkpoint is refused
            self._load_checkpoint(self._read)
            self._lock = self._lock.pop_all()

    def _read(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Takes the state of a checkpoint, whose variants may have been others, or in another order."""
        state, variants = SweepState.unflatten(arrays, meta), self.sweep.variants
        places = {at: variants.index(each) for at, each in enumerate(meta["variants"]) if each in variants}
        for record in [*meta["others"], *state.done.values()]:
            if record["variant"] in variants:
                self.state.done[variants.index(record["variant"])] = record
            else:
                self.others.append(record)
        if all(at in places for at in state.places):
            self.state.group, self.state.places = state.group, [places[at] for at in state.places]
            for at, each in zip(self.state.places, self.state.group, strict=True):
                self.sweep.engine([at]).check(each)

    def run(self) -> list[dict[str, Any]]:
        """Trains what is left, and returns `networks`."""
        self.sweep.run(self.state, lambda state: self.save(), self._keep)
        self.write()
        return self.networks

    @property
    def networks(self) -> list[dict[str, Any]]:
        """The record of each trained network, in the order of the variants."""
        return [self.state.done[at] for at in sorted(self.state.done)]

    def _keep(self, at: int, network: Network, state: TrainState) -> dict[str, Any]:
        """Writes the weights of a network; returns the file's name for its record."""
        shape, best = self.sweep.data.train_images.shape[1:], state.trained
        name = f"weights_{len(self.state.done) + len(self.others):03d}.npz"
        trained = Trained(best.network(network), best.weights, shape, self.settings | self.sweep.variants[at])
        trained.save(self.path / name)
        return dict(weights=name)

    def save(self) -> None:
        """Writes the checkpoint and, unless networks are being trained, what `write` does."""
        arrays, meta = self.state.flatten()
        self._save_checkpoint(arrays, meta | dict(variants=self.sweep.variants, others=self.others))
        if self.state.done and not self.state.group:
            self.write()

    def write(self) -> None:
        """Writes sweep.json and the figure."""
        records = sorted([*self.others, *self.state.done.values()], key=lambda record: record["weights"])
        about = dict(versions=versions(), device=self.device)
        files.write_json(self.path / RESULTS, dict(settings=self.settings, about=about, networks=records))
        if self.networks and self.networks[0]["epochs"]:
            plots.sweep_picture(self.path / "sweep.png", self.networks)

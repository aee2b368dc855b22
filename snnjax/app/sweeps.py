"""The folder of a sweep: what it leaves behind, and how it goes on."""

import json
from pathlib import Path
from typing import Any

from snnjax import devices, files
from snnjax.app import plots
from snnjax.app.checkpoints import CHECKPOINT, PREVIOUS, Checkpoints
from snnjax.app.runs import take, versions
from snnjax.components import to_data
from snnjax.networks import Network
from snnjax.trained import Trained
from snnjax.training.state import TrainState
from snnjax.training.sweep import Sweep, SweepState

RESULTS = "sweep.json"


class SweepFolder:
    """A folder that one sweep holds, from its making to the end of the `with` block.

    It leaves the weights of each network, as `snnjax.load` takes them, a figure, and sweep.json, which says what is
    special about each network and how it went. All of it can be made again from the checkpoint and the weights.

    Attributes:
      path: of the folder.
      state: where an earlier start of the same sweep stopped.
      notes: what a person should know about how the sweep begins.
    """

    def __init__(self, path: Path | str, sweep: Sweep, settings: dict[str, Any]):
        """Takes the folder, creating it, and reads what an earlier start of the same sweep has left.

        Args:
          path: of the folder.
          sweep: that is to be done.
          settings: all that its result depends on besides, JSON data.

        Raises:
          FileExistsError: another program holds it.
          InputError: what it holds is damaged, or of another sweep.
          OSError: it cannot be written.
        """
        self.path, self.sweep = Path(path), sweep
        self.settings: dict[str, Any] = json.loads(json.dumps(settings | dict(variants=sweep.variants)))
        found, device = versions(), devices.name_of(devices.peers().devices[0])
        self._about = dict(versions=found, device=device)
        networks = [to_data(each, {}) for each in sweep.networks]
        self._checkpoints = Checkpoints(self.path, self.settings, networks, found, device)
        self.notes, self.state = self._checkpoints.notes, SweepState()
        with take(self.path) as held:
            if any((self.path / name).exists() for name in (CHECKPOINT, PREVIOUS)):
                arrays, meta, _ = self._checkpoints.load()
                self.state = SweepState.unflatten(arrays, meta)
                files.clear(self.path)
            self._held = held.pop_all()

    def __enter__(self) -> "SweepFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def run(self) -> list[dict[str, Any]]:
        """Trains what is left, and returns what is known of each network, in order."""
        self.sweep.run(self.state, self._save, self._keep)
        self.write()
        return self.networks

    @property
    def networks(self) -> list[dict[str, Any]]:
        """What is known of each network that is trained."""
        return [self.state.done[at] for at in sorted(self.state.done)]

    def _save(self, state: SweepState) -> None:
        self._checkpoints.save(*state.flatten())
        if state.done and not state.group:
            self.write()

    def _keep(self, at: int, network: Network, state: TrainState) -> None:
        shape, best = self.sweep.data.train_images.shape[1:], state.trained
        path = self.path / f"weights_{at:03d}.npz"
        Trained(best.network(network), best.weights, shape, self.settings | self.sweep.variants[at]).save(path)

    def save(self) -> None:
        """Keeps what has been added to the networks."""
        self._checkpoints.save(*self.state.flatten())
        self.write()

    def write(self) -> None:
        """Writes sweep.json and the figure."""
        known = [dict(record, weights=f"weights_{at:03d}.npz") for at, record in sorted(self.state.done.items())]
        results = dict(settings=self.settings, about=self._about, networks=known)
        files.write_json(self.path / RESULTS, results)
        if known and known[0]["epochs"]:
            plots.sweep_picture(self.path / "sweep.png", known)

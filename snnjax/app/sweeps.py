"""The folder of a sweep: what it leaves behind, and how it goes on."""

from pathlib import Path
from typing import Any

import numpy as np

from snnjax import devices, files
from snnjax.app import plots
from snnjax.app.checkpoints import CHECKPOINT, PREVIOUS, Checkpoints, described
from snnjax.app.runs import known, take, versions
from snnjax.errors import InputError
from snnjax.networks import Network
from snnjax.trained import Trained
from snnjax.training.state import TrainState
from snnjax.training.sweep import Sweep, SweepState

RESULTS = "sweep.json"


class SweepFolder:
    """A folder that one sweep holds, from its making to the end of the `with` block.

    It leaves the weights of each network, as `snnjax.load` takes them, a figure, and sweep.json, which says what is
    special about each network and how it went. All of it can be made again from the checkpoint and the weights. A sweep
    of the same settings with other variants adds to it; those that are trained already are not trained again.

    Attributes:
      path: of the folder.
      state: where an earlier start of the same sweep stopped.
      others: what is known of networks that are trained and no variants of this sweep.
      notes: what a person should know about how the sweep begins.
    """

    def __init__(self, path: Path | str, sweep: Sweep, settings: dict[str, Any] | None = None):
        """Takes the folder, creating it, and reads what an earlier start of the same sweep has left.

        Args:
          path: of the folder.
          sweep: that is to be done.
          settings: what its result depends on besides the sweep's settings and data, JSON data.

        Raises:
          FileExistsError: another program holds it.
          InputError: what it holds is damaged, or of another sweep.
          OSError: it cannot be written.
        """
        self.path, self.sweep = Path(path), sweep
        self.settings = known(sweep.settings, sweep.data, settings)
        found, device = versions(), devices.name_of(devices.peers().devices[0])
        self._about = dict(versions=found, device=device)
        self._checkpoints = Checkpoints(self.path, self.settings, described(sweep.network), found, device)
        self.notes, self.state, self.others = self._checkpoints.notes, SweepState(), list[dict[str, Any]]()
        with take(self.path) as held:
            if any((self.path / name).exists() for name in (CHECKPOINT, PREVIOUS)):
                self._read(*self._checkpoints.load())
            self._held = held.pop_all()

    def _read(self, arrays: dict[str, np.ndarray], meta: dict[str, Any], file: Path) -> None:
        """Takes the state of a checkpoint, whose variants may have been others, or in another order."""
        try:
            state, was = SweepState.unflatten(arrays, meta), meta["variants"]
            place = {at: self.sweep.variants.index(x) for at, x in enumerate(was) if x in self.sweep.variants}
            self.others = [*meta["others"], *(record for at, record in state.done.items() if at not in place)]
            self.state.done = {place[at]: record for at, record in state.done.items() if at in place}
            for record in list(self.others):
                if record["variant"] in self.sweep.variants:
                    self.state.done[self.sweep.variants.index(record["variant"])] = record
                    self.others.remove(record)
            if all(at in place for at in state.places):
                self.state.group, self.state.places = state.group, [place[at] for at in state.places]
                for at, each in zip(self.state.places, self.state.group, strict=True):
                    self.sweep.engine([at]).check(each)
        except (KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"{file} holds no state of a sweep to go on from: {error}") from error
        files.clear(self.path)

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
        arrays, meta = state.flatten()
        self._checkpoints.save(arrays, meta | dict(variants=self.sweep.variants, others=self.others))
        if state.done and not state.group:
            self.write()

    def _keep(self, at: int, network: Network, state: TrainState) -> dict[str, Any]:
        """Writes the weights of a network; says where."""
        shape, best = self.sweep.data.train_images.shape[1:], state.trained
        name = f"weights_{len(self.state.done) + len(self.others):03d}.npz"
        Trained(best.network(network), best.weights, shape, self.settings | self.sweep.variants[at]).save(
            self.path / name
        )
        return dict(weights=name)

    def save(self) -> None:
        """Keeps what has been added to the networks."""
        self._save(self.state)

    def write(self) -> None:
        """Writes sweep.json and the figure."""
        known = sorted([*self.others, *self.state.done.values()], key=lambda record: record["weights"])
        results = dict(settings=self.settings, about=self._about, networks=known)
        files.write_json(self.path / RESULTS, results)
        if self.networks and self.networks[0]["epochs"]:
            plots.sweep_picture(self.path / "sweep.png", self.networks)

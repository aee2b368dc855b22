"""The folders of sweeps, with their files; a sweep can be resumed from its folder."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

from snnjax import Network
from snnjax.core import files
from snnjax.core.codec import completed
from snnjax.core.differences import differences, list_differences
from snnjax.core.errors import InputError
from snnjax.core.paths import changed_leaves
from snnjax.runs.checkpoint_folder import (
    CHECKPOINT,
    Arrays,
    CheckpointFolder,
    Json,
    backend_notes,
    network_digest,
    training_settings,
)
from snnjax.runs.results_file import versions
from snnjax.runs.trained import SWEEP, Trained
from snnjax.training.groups import Group, named
from snnjax.training.state import TrainState
from snnjax.training.sweep import Sweep, SweepState
from snnjax.training.workers import SERIAL, Workers

GROUPS = "groups"


class SweepFolder(CheckpointFolder):
    """The folder of a sweep, which is created and locked during a `with` block.

    It contains the weights of each network, which `snnjax.load` reads, and the results in sweep.json. If a sweep with
    the same settings but other variants uses the same folder, only the new variants are trained, and their results are
    added. If there are validation images, only the best combination is tested at the end.

    Examples:
      >>> import snnjax
      >>> from snnjax import RSTDP, Conv, Network, Settings, Sweep, stage
      >>> from snnjax.app import draw_sweep
      >>> from snnjax.runs import SweepFolder
      >>> network = Network("templates", (6, 28, 28), 10, (stage(Conv(20, kernel=28, learners=RSTDP())),))
      >>> settings = Settings(epochs=3, patience=0)
      >>> sweep = Sweep(network, snnjax.data.digits().subset(200, 100), settings, [{"seed": 0}, {"seed": 1}])
      >>> with SweepFolder("sweeps/templates", sweep, draw=draw_sweep) as folder:  # doctest: +SKIP
      ...     records = folder.run()
    """

    kind = "a sweep"
    continued_by = "the same command"

    def __init__(
        self,
        path: Path | str,
        sweep: Sweep,
        settings: Json | None = None,
        about: Json | None = None,
        command: str = "",
        draw: Callable[[Path, list[Json]], None] | None = None,
    ):
        """The folder of a new sweep, or of a sweep that is resumed.

        `draw` is a function, such as `snnjax.app.draw_sweep`, that draws the records of the networks into the folder;
        it is called after each group. The other arguments and the errors are as for `RunFolder`.
        """
        self.sweep = sweep
        self.state = SweepState()
        self._draw = draw
        self.earlier: list[Json] = []  # records of networks from earlier sweeps in this folder, with other variants
        fixed = (settings or {}) | training_settings(sweep)
        super().__init__(path, sweep.network, fixed, about, command, backend_notes(sweep))

    def _check(self, path: Path, meta: Json) -> None:
        super()._check(path, meta)
        labels = self.sweep.labels
        for record in [*meta["others"], *meta["done"].values()]:
            if record["variant"] not in labels:
                continue
            place = labels.index(record["variant"])
            now = json.loads(json.dumps(self.sweep.components(place)))
            was = completed(record.get("components", {}))
            if found := [*differences(now, was)]:
                trained = f"{named(labels[place])} was trained with other components"
                raise InputError(f"{trained}: name another folder, it has {list_differences(found)}")

    def _restore(self, arrays: Arrays, meta: Json) -> None:
        """Restores the state of a sweep, which may have had other variants, or the same in another order."""
        labels = self.sweep.labels
        for record in [*meta["others"], *meta["done"].values()]:
            if record["variant"] in labels:
                self.state.done[labels.index(record["variant"])] = record
            else:
                self.earlier.append(record)
                if self.sweep.data.tested == "validation":
                    record.pop("test", None)  # only the best combination of the present variants is tested

    def groups(self, workers: int = 1) -> list[Group]:
        """The groups that remain to be trained, given the number of workers."""
        return self.sweep.groups(self.state.done, self.path / GROUPS, workers)

    def run(self, workers: Workers = SERIAL) -> list[Json]:
        """Trains the remaining groups, and returns `networks`."""
        # Networks of other variants also have files in this folder, which must not be overwritten.
        used = {record.get("weights") for record in [*self.earlier, *self.state.done.values()]}
        free = (name for name in map("weights_{:03d}.npz".format, itertools.count()) if name not in used)
        self._names = {index: next(free) for index in range(len(self.sweep.variants)) if index not in self.state.done}
        if not (self.path / CHECKPOINT).exists():
            self.save()  # first, so that the saved states of groups belong to these settings
        self.sweep.run(self.state, lambda state: self.save(), self._keep, self._load, self.path / GROUPS, workers)
        self._write()
        return self.networks

    @property
    def networks(self) -> list[Json]:
        """The records of all trained networks, in the order of the variants."""
        return [self.state.done[index] for index in sorted(self.state.done)]

    def _keep(self, index: int, network: Network, state: TrainState) -> Json:
        """Writes the weights of a network, and returns the name of the file for its record."""
        data = self.sweep.data
        best = state.trained
        described = best.network(network)
        shape = data.train_images.shape[1:]
        names = data.class_names
        settings = self.settings | self.sweep.labels[index]
        trained = Trained(described, best.weights, shape, settings, names, changed_leaves(network, described))
        trained.save(self.path / self._names[index])
        return dict(weights=self._names[index])

    def _load(self, index: int) -> tuple[Network, TrainState]:
        """Reads a network that `_keep` has written."""
        trained = Trained.read(self.path / self.state.done[index]["weights"])
        return trained.network, TrainState(trained.weights)

    def save(self) -> None:
        """Writes the checkpoint and, once networks are trained, sweep.json and the figure, if there is `draw`."""
        self._save_checkpoint({}, dict(done=self.state.done, others=self.earlier))
        if self.state.done:
            self._write()

    def _write(self) -> None:
        records = [*self.earlier, *self.state.done.values()]
        records.sort(key=lambda record: ("error" in record, record.get("weights", "")))
        groups = list(self.sweep.data.test_group_names)
        network = self.sweep.network
        about = dict(
            command=self.command,
            versions=versions(),
            device=self.device,
            test_groups=groups,
            network=network.name,
            network_digest=network_digest(network),
            data=self.sweep.data.name,
            hyperparameters=network.hyperparameters(),
            components=network.component_names(),
        )
        files.write_json(self.path / SWEEP, dict(settings=self.settings, about=about, networks=records))
        if self._draw and any(network["epochs"] for network in self.networks):
            self._draw(self.path, self.networks)

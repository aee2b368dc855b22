"""The training of many networks of one kind. Networks that differ only in numbers share a compiled program."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnjax.core import checks, files
from snnjax.core.codec import call_of, to_data
from snnjax.core.components import is_component
from snnjax.core.errors import InputError, explained, wrong_type
from snnjax.core.metrics import fractions, ranking
from snnjax.data import Dataset
from snnjax.networks import ImageSpec, Network
from snnjax.networks.images import with_encoder
from snnjax.networks.model import check_decides
from snnjax.networks.network import matching_paths
from snnjax.training.groups import Group, Variant, named, numbers_of, train, varied
from snnjax.training.job import check_types
from snnjax.training.loop import Trainer
from snnjax.training.run_plan import encoded_by
from snnjax.training.state import FORMAT, Callback, Settings, TrainState
from snnjax.training.workers import SERIAL, Workers


class Choice(NamedTuple):
    """A component of a variant, with the name that records use for it instead of the call that creates it.

    Attributes:
      component: the component.
      words: its name in records.
      network: if the component is an encoder, the network for this encoder; by default the network of the sweep,
        adapted to the encoder's maps.
    """

    component: Any
    words: str
    network: Network | None = None


@dataclasses.dataclass
class SweepState:
    """The state of a sweep. A network is identified by its index among the variants.

    Attributes:
      done: the records of the networks that have been trained, or whose learning produced invalid weights, by index.
      trained: the weights and numbers of each trained network at its best epoch, by index, unless they are kept
        elsewhere.
    """

    done: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    trained: dict[int, TrainState] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class Sweep:
    """Trains variants of a network with the loop that trains a single network; on a CPU the results are bit-identical.

    If there are validation images, the combinations are ranked on them by `metrics.ranking`, and after all training
    runs only the networks of the best combination are tested. The training of a network ends if learning makes it
    invalid, for example by weights that are NaN. Its record then has no epochs, but an "error" that says what is wrong.

    Attributes:
      network: the network from which the variants are derived.
      data: the data set from which all variants learn.
      settings: the settings of all networks. `patience` must be 0, and the "seed" of a variant replaces the seed here.
      variants: how each network differs from `network`: its seed, numbers and components, by path.
      callback: receives the start and the end of each group, and the events of groups trained in this process.
      at_once: the largest number of networks in one program.
      networks: the descriptions of the variants, in order.
      labels: the variants as they appear in records, with names for components.
      seeds: of the variants.

    Examples:
      >>> import snnjax
      >>> from snnjax import RSTDP, Conv, Network, Settings, Sweep, stage
      >>> network = Network("templates", (6, 28, 28), 10, (stage(Conv(20, kernel=28, learners=RSTDP())),))
      >>> variants = [{"layer1.weight_mean": mean, "seed": seed} for mean in (0.5, 0.8) for seed in (0, 1, 2)]
      >>> data = snnjax.data.digits().subset(200, 100)
      >>> sweep = Sweep(network, data, Settings(epochs=3, patience=0), variants)
      >>> len(sweep.networks), len(sweep.groups())  # all six networks train in one program
      (6, 1)
      >>> state = sweep.run()  # doctest: +SKIP
      >>> accuracies = [record["test"]["accuracy"] for record in state.done.values()]  # doctest: +SKIP
    """

    network: Network
    data: Dataset
    settings: Settings
    variants: Sequence[Variant]
    callback: Callback | None = None
    at_once: int = 16

    def __post_init__(self) -> None:
        """Raises InputError if a variant names what cannot vary, or a value that it cannot have."""
        check_types([self.network], self.data, self.settings)
        write = "dataclasses.replace(Settings.of(network, data), patience=0)"
        checks.instance("settings", self.settings, Settings, "Settings", write)
        checks.integer("at_once", self.at_once, 1)
        if not isinstance(self.variants, Sequence) or not all(isinstance(x, Mapping) for x in self.variants):
            raise wrong_type("variants", "a list of dicts", self.variants, '[{"layer1.threshold": 15.0}, ...]')
        checks.some("variants", self.variants, "at least one dict")
        self.labels = [{path: _label(value) for path, value in variant.items()} for variant in self.variants]
        places: dict[Any, int] = {}
        self._bases = list[Network]()  # the network with the components of each choice
        self._base_of = list[int]()  # the place of each variant's base
        for variant in self.variants:
            parts = {path: value for path, value in variant.items() if isinstance(value, Choice) or is_component(value)}
            chosen = tuple((path, _plain(value)) for path, value in parts.items())
            if chosen not in places:
                places[chosen] = len(self._bases)
                self._bases.append(self._with_components(parts))
            self._base_of.append(places[chosen])
        self.variants = [{path: _plain(value) for path, value in variant.items()} for variant in self.variants]
        for base in self._bases:
            with explained("a sweep compares accuracies", advice="or train each network by a Trainer"):
                check_decides(base)
        self._check_numbers()
        bases = [self._bases[base] for base in self._base_of]
        numbers = zip(bases, map(numbers_of, self.labels), strict=True)
        self.networks = [with_encoder(varied(base, variant), self.data) for base, variant in numbers]
        self.settings = self.settings.resolved(self.networks)
        self.seeds = [int(variant.get("seed", self.settings.seed)) for variant in self.variants]
        for network, seed in zip(self.networks, self.seeds, strict=True):
            network.check_initial_weights(seed)
        self._seeded = [label | dict(seed=seed) for label, seed in zip(self.labels, self.seeds, strict=True)]
        checks.equal("patience", self.settings.patience, 0, "a sweep compares whole training runs")

    def _check_numbers(self) -> None:
        """Raises InputError if a number that varies exists only with some of the varied components."""
        numbers = [base.hyperparameters() for base in self._bases]
        for base, label in zip(self._base_of, self.labels, strict=True):
            for name in numbers_of(label):
                if name == "seed" or matching_paths(name, numbers[base]):
                    continue
                if any(matching_paths(name, others) for others in numbers):
                    without = named({path: value for path, value in label.items() if isinstance(value, str)})
                    raise InputError(
                        f"`{name}` must be a number that every network of the sweep has, and there is none with "
                        f"{without or self.network.name}: vary it in a sweep of its own, of the components that have it"
                    )

    def _with_components(self, parts: dict[str, Any]) -> Network:
        """The network with other components, by path; one of another encoder is made first."""
        network = self.network
        others = dict(parts)
        chosen = others.pop("encoder", None)
        if isinstance(chosen, Choice) and chosen.network is not None:
            network = chosen.network
        elif chosen is not None:
            encoder = _plain(chosen)
            shape = ImageSpec.of(self.data, encoder).input_shape
            network = encoded_by(dataclasses.replace(network, input_shape=shape), self.data, encoder)
        for path, part in others.items():
            network = network.vary(path, _plain(part))
        return network

    def components(self, index: int) -> dict[str, Any]:
        """The components of a variant by path, as JSON data, with digests of their arrays."""
        arrays: dict[str, np.ndarray] = {}
        parts = {path: value for path, value in self.variants[index].items() if is_component(value)}
        data: dict[str, Any] = {path: to_data(value, arrays, path) for path, value in parts.items()}
        return data | {path: _digest(array) for path, array in arrays.items()}

    def layers_without_native(self) -> list[str]:
        """Layers that learn without a compiled sequence kernel, with their rules, of any variant."""
        structures = {network.structure: network for network in self.networks}
        trainers = [Trainer(network, self.data, self.settings) for network in structures.values()]
        return [*dict.fromkeys(name for trainer in trainers for name in trainer.layers_without_native())]

    def groups(self, done: Collection[int] = (), folder: Path | None = None, workers: int = 1) -> list[Group]:
        """The groups that are still to be trained: first those with saved states in a folder, then all other groups.

        There are at least as many groups as workers, provided that there are enough networks. Raises InputError if the
        network contains a component that cannot be saved.
        """

        def group(places: Sequence[int]) -> Group:
            variants = tuple(self._seeded[index] for index in places)
            file = None if folder is None else folder.resolve() / self._file_name(places)
            return Group(tuple(places), variants, *self._bases_as_data[self._base_of[places[0]]], file)

        groups = list[Group]()
        by_structure = dict[Any, list[int]]()
        remaining = {*range(len(self.variants))} - {*done}
        for path, places in self._started(folder) if folder else ():
            if path.name == self._file_name(places) and remaining.issuperset(places):
                groups.append(group(places))
                remaining -= {*places}
        for index in sorted(remaining):
            by_structure.setdefault((self._base_of[index], self.networks[index].structure), []).append(index)
        return [*groups, *map(group, _cut([*by_structure.values()], self.at_once, workers - len(groups)))]

    @functools.cached_property
    def _bases_as_data(self) -> list[tuple[Any, dict[str, np.ndarray]]]:
        """The bases as JSON data, each with its arrays."""
        bases = []
        for base in self._bases:
            arrays: dict[str, np.ndarray] = {}
            bases.append((to_data(base, arrays), arrays))
        return bases

    @functools.cached_property
    def _common(self) -> list[list[Any]]:
        """All that the states of each base depend on, as JSON data."""
        common = []
        for network, arrays in self._bases_as_data:
            digests = {name: _digest(array) for name, array in arrays.items()}
            common.append([FORMAT, network, digests, dataclasses.asdict(self.settings), self.data.digest])
        return common

    def _file_name(self, places: Sequence[int]) -> str:
        """The name of a group's file: a digest of all that its states depend on."""
        variants = [self._seeded[index] for index in places]
        common = self._common[self._base_of[places[0]]]
        return hashlib.sha256(json.dumps([common, *variants]).encode()).hexdigest()[:16] + ".npz"

    def _started(self, folder: Path) -> Iterator[tuple[Path, list[int]]]:
        """Files of groups in training, and the places of these."""
        for path in sorted(folder.glob("*.npz")):
            with contextlib.suppress(FileNotFoundError, InputError, LookupError, TypeError, ValueError):
                places = [self._seeded.index(x) for x in files.load_checkpoint(path)[1]["variants"]]
                if len({*places}) == len(places):
                    yield path, places

    def run(
        self,
        state: SweepState | None = None,
        save: Callable[[SweepState], None] = lambda state: None,
        keep: Callable[[int, Network, TrainState], Mapping[str, Any]] = lambda index, network, state: {},
        load: Callable[[int], tuple[Network, TrainState]] | None = None,
        folder: Path | None = None,
        workers: Workers = SERIAL,
    ) -> SweepState:
        """Trains all networks from a state, which is changed and returned; `save` is called with it after each group.

        `keep` is called with the index, the network and the state of each trained network, and returns additional
        entries for its record. `load` returns the network and its best weights for an index; without it, they are kept
        in `SweepState.trained`. `folder` is where groups save their states during training, so that they can continue;
        it is created if necessary. If a group fails, its error is raised after the groups that have started are done.
        """
        sweep = state or SweepState()
        errors = list[Exception]()
        if folder:
            folder.mkdir(exist_ok=True)
            files.clear(folder)
            for path, places in [*self._started(folder)]:
                if sweep.done.keys() >= {*places}:
                    path.unlink(missing_ok=True)
        groups = self.groups(sweep.done, folder, workers.count)
        work = functools.partial(train, self.data, self.settings)
        for outcome in workers.map(work, groups, self.callback or Callback()):
            if outcome.error:
                errors.append(outcome.error)
                continue
            group = outcome.group
            for index, record, trained in zip(group.places, outcome.records, outcome.states, strict=True):
                kept = keep(index, self.networks[index], trained) if trained else {}
                if trained and load is None:
                    sweep.trained[index] = trained.trained
                parts = self.components(index)
                components = dict(components=parts) if parts else {}
                sweep.done[index] = dict(variant=self.labels[index], **components, **record, **kept)
            save(sweep)
            if group.file:
                group.file.unlink(missing_ok=True)
        if errors:
            raise errors[0]
        if folder:
            files.clear(folder)  # workers may have been killed meanwhile
            with contextlib.suppress(OSError):  # groups of other variants may have left states
                folder.rmdir()
        if self.data.tested == "validation":
            self._test_best(sweep, save, load or (lambda index: (self.networks[index], sweep.trained[index])))
        return sweep

    def test(self, state: SweepState) -> dict[int, dict[str, float]]:
        """The test results of the best combination's networks, by place: accuracy, wrong and silent as fractions.

        `state` is what `run` has returned. The combination is the first of `metrics.ranking`.
        """
        return {index: state.done[index]["test"] for index in self._best(state)}

    def _best(self, state: SweepState) -> list[int]:
        """The places of the networks of the best combination; none if learning has left all networks invalid."""
        return next(iter(ranking([state.done[index] for index in range(len(self.variants))])), [])

    def _test_best(
        self,
        sweep: SweepState,
        save: Callable[[SweepState], None],
        load: Callable[[int], tuple[Network, TrainState]],
    ) -> None:
        """Tests the networks of the best combination that are untested; a former best one loses its test."""
        best = self._best(sweep)
        for index in sweep.done.keys() - best:
            sweep.done[index].pop("test", None)
        for index in best:
            if "test" not in sweep.done[index]:
                network, trained = load(index)
                decisions, _ = Trainer(network, self.data, self.settings).predict(trained, self.data.test_images)
                sweep.done[index]["test"] = fractions(decisions, self.data.test_labels)
                save(sweep)


def _plain(value: Any) -> Any:
    """A number or component of a variant."""
    return value.component if isinstance(value, Choice) else value


def _label(value: Any) -> Any:
    """A value of a variant as records have it."""
    if isinstance(value, Choice):
        return value.words
    if isinstance(value, str):
        raise InputError(f"`variants` must have numbers and components, got {value!r}: write {value}(...)")
    return call_of(value).removesuffix("()") if is_component(value) else value


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _cut(lists: Sequence[list[int]], most: int, least: int) -> list[list[int]]:
    """Cuts lists of places into even groups of at most `most`, and of fewer where that makes less than `least` groups.

    Groups of one size share a compiled program.
    """
    sizes = range(min(most, max(map(len, lists), default=1)), 1, -1)
    size = next((size for size in sizes if sum(-(-len(places) // size) for places in lists) >= least), 1)
    return [part.tolist() for places in lists for part in np.array_split(places, -(-len(places) // size))]

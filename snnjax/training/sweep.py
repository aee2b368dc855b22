"""The training of many networks of one kind: those that differ in numbers alone train in one program."""

import contextlib
import copy
import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnjax import files
from snnjax.components import from_data, to_data
from snnjax.data import Dataset
from snnjax.errors import DivergedError, InputError, wrong_type
from snnjax.kernels import checks
from snnjax.metrics import ranking
from snnjax.networks import Network
from snnjax.training.engine import Engine, check_types, with_encoder
from snnjax.training.state import FORMAT, Callback, Settings, TrainState

Variant = dict[str, float]
"""A variant of a network: "seed", and some of `Network.parameters`, such as "layer1.threshold"."""


@dataclasses.dataclass
class SweepState:
    """Where a sweep stands; networks go by their places among the variants.

    Attributes:
      done: records of the trained networks, and of those that learning has left invalid, by place.
      trained: the best network of each trained one, by place, unless it is kept elsewhere: weights and numbers alone.
    """

    done: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    trained: dict[int, TrainState] = dataclasses.field(default_factory=dict)

    def flatten(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON data, for a checkpoint."""
        arrays, states = _joined(list(self.trained.values()))
        return arrays, dict(done=self.done, trained=list(self.trained), states=states)

    @classmethod
    def unflatten(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> "SweepState":
        """The inverse of `flatten`; raises InputError where arrays or data are wrong."""
        try:
            states = _parted(arrays, meta["states"])
            done = {int(at): record for at, record in meta["done"].items()}
            return cls(done, dict(zip(meta["trained"], states, strict=True)))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"this is no state of a sweep: {error}") from error


@dataclasses.dataclass(frozen=True)
class Group:
    """Networks that train in one program, as plain data, which any process can take and keep.

    Attributes:
      places: of the networks among the variants of the sweep.
      variants: what is special about each, with its seed.
      network: what they have in common, as data of `components.to_data`.
      arrays: its arrays.
      file: what keeps their states while they train, in processes that see its folder; None: nothing does.
    """

    places: tuple[int, ...]
    variants: tuple[Variant, ...]
    network: Any
    arrays: dict[str, np.ndarray]
    file: Path | None = None

    def engine(self, data: Dataset, settings: Settings, callback: Callback | None, numbers: Sequence[int]) -> Engine:
        """The engine that trains some of the networks, by their numbers in the group.

        Raises InputError where they hold a component that is not imported.
        """
        network, variants = from_data(self.network, self.arrays), [self.variants[at] for at in numbers]
        networks, seeds = [_varied(network, each) for each in variants], [int(x["seed"]) for x in variants]
        names = [", ".join(f"{name}={value:g}" for name, value in each.items()) for each in variants]
        return Engine(networks, data, settings, seeds, callback, names)

    def load(self) -> "Progress":
        """What the file holds; the beginning where there is none, or a damaged one."""
        with contextlib.suppress(FileNotFoundError, LookupError, TypeError, ValueError, AttributeError):
            if self.file:
                arrays, meta = files.load_checkpoint(self.file)
                errors = {int(at): str(error) for at, error in meta.get("errors", {}).items()}
                return Progress(_parted(arrays, meta["states"]), errors)
        return Progress()

    def save(self, progress: "Progress") -> None:
        """Writes the file, where its folder is."""
        if self.file and self.file.parent.is_dir():
            arrays, states = _joined(progress.states)
            meta = dict(variants=self.variants, states=states, errors=progress.errors)
            files.save_checkpoint(self.file, arrays, meta)


@dataclasses.dataclass
class Progress:
    """Where the training of a group stands.

    Attributes:
      states: of the networks that are in training, in order; none before it has begun.
      errors: what is wrong with the others, which learning has left invalid, by number in the group.
    """

    states: list[TrainState] = dataclasses.field(default_factory=list)
    errors: dict[int, str] = dataclasses.field(default_factory=dict)

    def in_training(self, group: Group) -> list[int]:
        """Numbers of the networks that no error has ended."""
        return [at for at in range(len(group.places)) if at not in self.errors]

    def run(self, group: Group, engine: Engine) -> None:
        """Trains the networks in training to the end.

        Raises DivergedError where learning leaves some invalid; the states are then those of the others when they were
        saved last.
        """
        numbers = self.in_training(group)
        try:
            if len(self.states) != len(numbers):
                raise InputError(f"`states` must be {len(numbers)}, got {len(self.states)}")
            for each in self.states:
                engine.check(each)
        except InputError:  # it has not begun, or the file was damaged
            self.states = engine.initial_states()
        saved = copy.deepcopy(self.states)

        def save(_: list[TrainState]) -> None:
            nonlocal saved
            group.save(self)
            saved = copy.deepcopy(self.states)

        try:
            engine.run(self.states, save)
        except DivergedError as error:
            self.states = [each for at, each in enumerate(saved) if at not in error.errors]
            self.errors |= {numbers[at]: problem for at, problem in error.errors.items()}
            for problem in error.errors.values():
                engine.callback.invalid(problem)
            raise


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a group.

    Attributes:
      group: it.
      records: of its networks: epochs, best_epoch, diagnoses, seconds, and test where the test images choose the epoch;
        or error, what of those that learning has left invalid.
      states: where the training of each ended, or None.
      error: what stopped the training: wrong input, or a file that could not be written.
    """

    group: Group
    records: tuple[dict[str, Any], ...] = ()
    states: tuple[TrainState | None, ...] = ()
    error: InputError | OSError | None = None


def train(data: Dataset, settings: Settings, group: Group, callback: Callback | None = None) -> Outcome:
    """Trains the networks of a group to the end, from the states in its file if there are any.

    Where learning leaves some invalid, the others go on without them.
    """
    records, states = dict[int, dict[str, Any]](), dict[int, TrainState]()
    try:
        progress = group.load()
        while not states and (numbers := progress.in_training(group)):
            engine = group.engine(data, settings, callback, numbers)
            with contextlib.suppress(DivergedError):
                progress.run(group, engine)
                states = dict(zip(numbers, progress.states, strict=True))
        records = {at: _record(state, len(states)) for at, state in states.items()}
        if states and data.tested == "test":
            for record, tested in zip(records.values(), engine.test_best(progress.states), strict=True):
                record["test"] = tested
    except (InputError, OSError) as error:
        return Outcome(group, error=error)
    records |= {at: dict(epochs=[], diagnoses={}, error=words) for at, words in progress.errors.items()}
    places = range(len(group.places))
    return Outcome(group, tuple(records[at] for at in places), tuple(states.get(at) for at in places))


def _record(state: TrainState, count: int) -> dict[str, Any]:
    """What becomes known of a network that trained beside others, `count` in all."""
    times = {name: sum(each[name] for each in state.phases) / count for name in ("seconds", "compile_seconds")}
    return dict(epochs=state.epochs, best_epoch=state.best_epoch, diagnoses=state.diagnoses, **times)


@dataclasses.dataclass(frozen=True)
class Workers:
    """Who trains the groups of a sweep.

    Attributes:
      count: groups that are trained at a time.
      map: as the function `map` of Python; results may come in any order. Where groups are handed out one by one, no
        more of them are after an error. `snnjax.training.workers` has those of one machine and of a cluster.
      elsewhere: whether groups train in other processes, of which the sweep's callback is told nothing.
    """

    count: int = 1
    map: Callable[[Callable[[Group], Outcome], Iterable[Group]], Iterable[Outcome]] = map
    elsewhere: bool = False


SERIAL = Workers()
"""This process, one group after the other."""


@dataclasses.dataclass(eq=False)
class Sweep:
    """Trains variants of a network by the engine that trains each alone; on a CPU bit for bit the same.

    Where there are validation images, they rank the combinations, by `snnjax.metrics.ranking`, and the networks of the
    best one alone are tested, when all are trained. The training of a network ends where learning leaves it invalid,
    such as weights that are no numbers: its record has no epochs, but an "error" that says what is wrong.

    Attributes:
      network: what the variants have in common.
      data: the data set that all learn.
      settings: of all networks; `patience` must be 0, and a variant's own "seed" replaces the one here.
      variants: what is special about each network.
      callback: is told of the events of each group that trains in this process.
      at_once: networks of one program at most.
      networks: the descriptions of the variants, in order.
      seeds: of the variants.
    """

    network: Network
    data: Dataset
    settings: Settings
    variants: Sequence[Variant]
    callback: Callback | None = None
    at_once: int = 16

    def __post_init__(self) -> None:
        """Raises InputError where a variant names what cannot vary, or a value that it cannot have."""
        check_types(self.network, self.data, self.settings)
        checks.integer("at_once", self.at_once, 1)
        if not isinstance(self.variants, Sequence) or not all(isinstance(each, Mapping) for each in self.variants):
            raise wrong_type("variants", "a list of dicts", self.variants, '[{"layer1.threshold": 15.0}, ...]')
        if not self.variants:
            raise InputError("`variants` must be at least one dict, got none")
        self.variants = [dict(each) for each in self.variants]
        self.networks = [with_encoder(_varied(self.network, each), self.data) for each in self.variants]
        self.seeds = [int(each.get("seed", self.settings.seed)) for each in self.variants]
        self._seeded = [each | dict(seed=seed) for each, seed in zip(self.variants, self.seeds, strict=True)]
        if patience := self.settings.patience:
            raise InputError(f"`patience` must be 0 in a sweep, which compares whole trainings, got {patience}")

    def groups(self, done: Collection[int] = (), folder: Path | None = None, workers: int = 1) -> list[Group]:
        """The groups that are still to be trained: first those that have left states in a folder, then all others.

        Where there are networks enough, they are at least as many as workers. Raises InputError where the network holds
        a part that cannot be saved.
        """

        def group(places: Sequence[int]) -> Group:
            variants = tuple(self._seeded[at] for at in places)
            file = None if folder is None else folder.resolve() / self._file_name(variants)
            return Group(tuple(places), variants, *self._described, file)

        found, alike = list[Group](), dict[Any, list[int]]()
        left = {*range(len(self.variants))} - {*done}
        for path, places in self._started(folder) if folder else ():
            if path.name == self._file_name([self._seeded[at] for at in places]) and left.issuperset(places):
                found.append(group(places))
                left -= {*places}
        for at in sorted(left):
            alike.setdefault(self.networks[at].structure, []).append(at)
        return [*found, *map(group, _cut([*alike.values()], self.at_once, workers - len(found)))]

    @functools.cached_property
    def _described(self) -> tuple[Any, dict[str, np.ndarray]]:
        arrays: dict[str, np.ndarray] = {}
        return to_data(self.network, arrays), arrays

    @functools.cached_property
    def _common(self) -> list[Any]:
        """What all states depend on, as JSON data."""
        network, arrays = self._described
        digests = {name: hashlib.sha256(np.ascontiguousarray(each).data).hexdigest() for name, each in arrays.items()}
        return [FORMAT, network, digests, dataclasses.asdict(self.settings), self.data.digest]

    def _file_name(self, variants: Sequence[Variant]) -> str:
        """The name of a group's file says all that its states depend on."""
        return hashlib.sha256(json.dumps([self._common, *variants]).encode()).hexdigest()[:16] + ".npz"

    def _started(self, folder: Path) -> Iterator[tuple[Path, list[int]]]:
        """Files of groups in training, and the places of these."""
        for path in sorted(folder.glob("*.npz")):
            with contextlib.suppress(FileNotFoundError, InputError, LookupError, TypeError, ValueError):
                places = [self._seeded.index(each) for each in files.load_checkpoint(path)[1]["variants"]]
                if len({*places}) == len(places):
                    yield path, places

    def run(
        self,
        state: SweepState | None = None,
        save: Callable[[SweepState], None] = lambda state: None,
        keep: Callable[[int, Network, TrainState], Mapping[str, Any]] = lambda at, network, state: {},
        load: Callable[[int], tuple[Network, TrainState]] | None = None,
        folder: Path | None = None,
        workers: Workers = SERIAL,
    ) -> SweepState:
        """Trains all networks from a state, which it changes and returns; `save` is called with it after each group.

        `keep` is called with place, description and state of each trained network; it returns more for its record.
        `load` gives description and best weights of a place again; without it, `SweepState.trained` keeps them.
        `folder` is one, created if need be, where groups in training keep their states, to go on from. Raises what
        has stopped a group first, once the others that were handed out have ended.
        """
        sweep, errors = state or SweepState(), list[Exception]()
        if folder:
            folder.mkdir(exist_ok=True)
            files.clear(folder)
            for path, places in [*self._started(folder)]:
                if sweep.done.keys() >= {*places}:
                    path.unlink(missing_ok=True)
        groups = self.groups(sweep.done, folder, workers.count)
        callback = None if workers.elsewhere else self.callback
        work = functools.partial(train, self.data, self.settings, callback=callback)
        for outcome in workers.map(work, itertools.takewhile(lambda _: not errors, groups)):
            if outcome.error:
                errors.append(outcome.error)
                continue
            group = outcome.group
            for at, record, trained in zip(group.places, outcome.records, outcome.states, strict=True):
                kept = keep(at, self.networks[at], trained) if trained else {}
                if trained and load is None:
                    sweep.trained[at] = trained.trained
                sweep.done[at] = dict(variant=self.variants[at], **record, **kept)
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
            self._test_best(sweep, save, load or (lambda at: (self.networks[at], sweep.trained[at])))
        return sweep

    def _test_best(
        self,
        sweep: SweepState,
        save: Callable[[SweepState], None],
        load: Callable[[int], tuple[Network, TrainState]],
    ) -> None:
        """Tests the networks of the best combination that are not yet; one that was the best before loses its test."""
        best = next(iter(ranking([sweep.done[at] for at in range(len(self.variants))])), [])
        for at in sweep.done.keys() - best:
            sweep.done[at].pop("test", None)
        for at in best:
            if "test" not in sweep.done[at]:
                network, trained = load(at)
                (sweep.done[at]["test"],) = Engine([network], self.data, self.settings).test_best([trained])
                save(sweep)


def _joined(states: Sequence[TrainState]) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Arrays and JSON data of several states."""
    parts = [state.flatten() for state in states]
    arrays = {f"{at}/{name}": value for at, (own, _) in enumerate(parts) for name, value in own.items()}
    return arrays, [meta for _, meta in parts]


def _parted(arrays: Mapping[str, np.ndarray], metas: Sequence[Any]) -> list[TrainState]:
    """The inverse of `_joined`."""
    parts: list[dict[str, np.ndarray]] = [{} for _ in metas]
    for path, value in arrays.items():
        at, _, name = path.partition("/")
        parts[int(at)][name] = value
    return [TrainState.unflatten(part, meta) for part, meta in zip(parts, metas, strict=True)]


def _cut(alike: Sequence[list[int]], most: int, least: int) -> list[list[int]]:
    """Cuts lists of places into even groups of at most `most`, and of fewer where that makes less than `least` groups.

    Groups of one size share a compiled program.
    """
    sizes = range(min(most, max(map(len, alike), default=1)), 1, -1)
    size = next((size for size in sizes if sum(-(-len(each) // size) for each in alike) >= least), 1)
    return [part.tolist() for each in alike for part in np.array_split(each, -(-len(each) // size))]


def _varied(network: Network, variant: Variant) -> Network:
    for name, value in variant.items():
        if name != "seed":
            try:
                network = network.vary(name, value)
            except InputError as error:
                if f"`{name}`" in str(error):
                    raise
                raise InputError(f"{name}={value:g}: {error}") from error
        elif not isinstance(value, int | float | np.number) or not math.isfinite(value) or value % 1 or value < 0:
            raise InputError(f"`seed` must be an integer of at least 0, got {value!r}")
    return network

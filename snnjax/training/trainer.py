"""The training of one network, and of many of one kind: those that differ in numbers alone train in one program."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.data import Dataset
from snnjax.errors import InputError, wrong_type
from snnjax.kernels import checks
from snnjax.learners import Diagnosis
from snnjax.metrics import ranking
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.model import check_weights
from snnjax.training.choice import network_for as network_for
from snnjax.training.engine import Engine, check_types
from snnjax.training.state import Callback, Settings, TrainState

Variant = dict[str, float]
"""A variant of a network: "seed", and some of `Network.parameters`, such as "layer1.threshold"."""


class Trainer:
    """Trains one network on one data set; `run` goes on from any state that it has left.

    Attributes:
      network: the description, with its encoder.
      plan: the phases of the training, in order.
      callback: is told of the training's events.
      engine: does the work.
    """

    def __init__(self, network: Network, data: Dataset, settings: Settings, callback: Callback | None = None):
        """Raises InputError unless network, data and settings fit, OSError where native kernels do not compile."""
        check_types(network, data, settings, callback)
        self.engine = Engine([network], data, settings, callback=callback)
        self.network, self.plan, self.callback = self.engine.network, self.engine.plan, self.engine.callback
        self.data, self.settings = data, settings

    def initial_state(self) -> TrainState:
        """The state before the first image."""
        return self.engine.initial_states()[0]

    def run(self, state: TrainState, save: Callable[[TrainState], None] = lambda state: None) -> TrainState:
        """Trains to the end from a state, which it changes and returns; `save` is called with it after each epoch."""
        self.engine.callback = self.engine.outputs.callback = self.callback
        return self.engine.run([state], lambda states: save(states[0]))[0]

    def predict(self, state: TrainState, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decisions and scores of the best network of a state on N images like those of the data.

        (N,) int32, -1 where silent, and (N, classes) float32, the score of each class. Raises InputError where
        the state is from before the fit of an encoder or a decision.
        """
        decisions, scores = self.engine.predict([state.trained], images)
        return decisions[0], scores[0]

    def trained(self, state: TrainState) -> SpikingNetwork:
        """The best network of a state, ready to call on images."""
        best = state.trained
        return SpikingNetwork(best.network(self.network), weights=best.weights)

    def reuse(
        self, state: TrainState, weights: np.ndarray, numbers: dict[str, np.ndarray], diagnosis: Diagnosis, origin: str
    ) -> None:
        """Takes the layer of the current phase from an earlier run, named `origin`, instead of training it.

        Raises InputError unless weights, (F, C, kh, kw) float32, `numbers` and `diagnosis`, as in `TrainState`, fit.
        """
        phase = self.plan[state.phase]
        conv = {name: conv for _, name, conv in self.network.layers()}[phase.layer]
        sizes = {f"{phase.layer}.{at}": np.shape(leaf) for at, leaf in enumerate(jax.tree.leaves(conv.prepared))}
        check_weights(self.network, {phase.layer: weights})
        if weights.dtype != np.float32 or not np.isfinite(weights).all():
            raise InputError(f"`weights` of {phase.layer} must be finite numbers of float32, got {weights.dtype}")
        if wrong := {name: x.shape for name, x in numbers.items() if sizes.get(name) != x.shape}:
            raise InputError(f"`numbers` of {phase.layer} must be some of {sizes}, got {wrong}")
        if lacks := sorted({"layer", "words"} - diagnosis.keys()):
            raise InputError(f"`diagnosis` of {phase.layer} lacks {', '.join(lacks)}")
        state.weights[phase.layer], state.reused[phase.layer] = weights, origin
        state.numbers.update(numbers)
        state.diagnoses[phase.name] = diagnosis
        self.engine.end_phase(state)


@dataclasses.dataclass
class SweepState:
    """Where a sweep stands; networks go by their places among the variants.

    Attributes:
      done: records of the trained networks, by place.
      group: states of the networks in training.
      places: of these.
      trained: the best network of each that is done, by place, unless it is kept elsewhere: weights and numbers alone.
    """

    done: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    group: list[TrainState] = dataclasses.field(default_factory=list)
    places: list[int] = dataclasses.field(default_factory=list)
    trained: dict[int, TrainState] = dataclasses.field(default_factory=dict)

    def flatten(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON data, for a checkpoint."""
        parts = [state.flatten() for state in (*self.group, *self.trained.values())]
        arrays = {f"{at}/{name}": value for at, (own, _) in enumerate(parts) for name, value in own.items()}
        states = dict(group=[meta for _, meta in parts], places=self.places, trained=list(self.trained))
        return arrays, dict(done=self.done, **states)

    @classmethod
    def unflatten(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> "SweepState":
        """The inverse of `flatten`; raises InputError where arrays or data are wrong."""
        try:
            parts: list[dict[str, np.ndarray]] = [{} for _ in meta["group"]]
            for path, value in arrays.items():
                at, _, name = path.partition("/")
                parts[int(at)][name] = value
            states = [TrainState.unflatten(part, each) for part, each in zip(parts, meta["group"], strict=True)]
            owners = [at for at, _ in zip([*meta["places"], *meta.get("trained", [])], states, strict=True)]
            count = len(meta["places"])
            done = {int(at): record for at, record in meta["done"].items()}
            return cls(done, states[:count], owners[:count], dict(zip(owners[count:], states[count:], strict=True)))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"this is no state of a sweep: {error}") from error


@dataclasses.dataclass(eq=False)
class Sweep:
    """Trains variants of a network by the engine that trains each alone; on a CPU bit for bit the same.

    Where there are validation images, they rank the combinations, by `snnjax.metrics.ranking`, and the networks of the
    best one alone are tested, when all are trained.

    Attributes:
      network: what the variants have in common.
      data: the data set that all learn.
      settings: of all networks; `patience` must be 0, and a variant's own "seed" replaces the one here.
      variants: what is special about each network.
      callback: is told of the events of each group.
      at_once: networks of one program at most.
      networks: the descriptions of the variants, in order.
      groups: the places of those that train in one program.
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
        self.networks = [_varied(self.network, each) for each in self.variants]
        self.seeds = [int(each.get("seed", self.settings.seed)) for each in self.variants]
        alike: dict[Any, list[int]] = {}
        for at, each in enumerate(self.networks):
            alike.setdefault(each.structure, []).append(at)
        size = self.at_once
        self.groups = [each[at : at + size] for each in alike.values() for at in range(0, len(each), size)]

    def engine(self, group: Sequence[int]) -> Engine:
        """The engine that trains the networks of a group."""
        networks, seeds = [self.networks[at] for at in group], [self.seeds[at] for at in group]
        variants = [self.variants[at] | dict(seed=self.seeds[at]) for at in group]
        names = [", ".join(f"{name}={value:g}" for name, value in each.items()) for each in variants]
        return Engine(networks, self.data, self.settings, seeds, self.callback, names)

    def run(
        self,
        state: SweepState | None = None,
        save: Callable[[SweepState], None] = lambda state: None,
        keep: Callable[[int, Network, TrainState], Mapping[str, Any]] = lambda at, network, state: {},
        load: Callable[[int], tuple[Network, TrainState]] | None = None,
    ) -> SweepState:
        """Trains all networks from a state, which it changes and returns; `save` is called with it after each epoch.

        `keep` is called with place, description and state of each trained network; it returns more for its record.
        `load` gives description and best weights of a place again; without it, `SweepState.trained` keeps them.
        """
        sweep, times = state or SweepState(), ("seconds", "compile_seconds")
        for group in [sweep.places, *self.groups]:
            left = [at for at in group if at not in sweep.done]
            if not left:
                continue
            engine = self.engine(left)
            if sweep.places != left:
                sweep.group, sweep.places = engine.initial_states(), left
            engine.run(sweep.group, lambda _: save(sweep))
            tested: list[dict[str, Any]] = [{} for _ in left]
            if self.data.tested == "test":
                tested = [dict(test=each) for each in engine.test_best(sweep.group)]
            for at, network, trained, test in zip(left, engine.networks, sweep.group, tested, strict=True):
                if load is None:
                    sweep.trained[at] = trained.trained
                sweep.done[at] = dict(
                    variant=self.variants[at],
                    epochs=trained.epochs,
                    best_epoch=trained.best_epoch,
                    **test,
                    diagnoses=trained.diagnoses,
                    **{name: sum(each[name] for each in trained.phases) / len(left) for name in times},
                    **keep(at, network, trained),
                )
            sweep.group, sweep.places = [], []
            save(sweep)
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


def _varied(network: Network, variant: Variant) -> Network:
    for name, value in variant.items():
        if name != "seed":
            network = network.vary(name, value)
        elif not isinstance(value, int | float | np.number) or not math.isfinite(value) or value % 1 or value < 0:
            raise InputError(f"`seed` must be an integer of at least 0, got {value!r}")
    return network

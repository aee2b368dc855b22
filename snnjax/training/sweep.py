"""Many networks of one kind: other seeds, other numbers. Those that differ in numbers alone train in one program."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from snnjax.data import Dataset
from snnjax.errors import InputError
from snnjax.networks import Network
from snnjax.training.engine import Engine
from snnjax.training.state import Callback, Settings, TrainState

Variant = dict[str, float]
"""What is special about a network: "seed", and some of `Network.parameters`, such as "layer1.threshold"."""


@dataclasses.dataclass
class SweepState:
    """Where a sweep stands; networks go by their places among the variants."""

    done: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)  # records of the trained networks
    group: list[TrainState] = dataclasses.field(default_factory=list)  # states of the networks in training
    places: list[int] = dataclasses.field(default_factory=list)  # of these

    def flatten(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON data, for a checkpoint."""
        parts = [state.flatten() for state in self.group]
        arrays = {f"{at}/{name}": value for at, (own, _) in enumerate(parts) for name, value in own.items()}
        done = {str(at): record for at, record in self.done.items()}
        return arrays, dict(done=done, group=[meta for _, meta in parts], places=self.places)

    @classmethod
    def unflatten(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> "SweepState":
        """The inverse of `flatten`; raises InputError where arrays or data are wrong."""
        try:
            parts: list[dict[str, np.ndarray]] = [{} for _ in meta["group"]]
            for path, value in arrays.items():
                at, _, name = path.partition("/")
                parts[int(at)][name] = value
            group = [TrainState.unflatten(part, each) for part, each in zip(parts, meta["group"], strict=True)]
            places = [at for at, _ in zip(meta["places"], group, strict=True)]
            return cls({int(at): record for at, record in meta["done"].items()}, group, places)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"this is no state of a sweep: {error}") from error


@dataclasses.dataclass(eq=False)
class Sweep:
    """Trains variants of a network by the engine that trains each alone; on a CPU bit for bit the same.

    Attributes:
      network: what the variants have in common.
      settings: of all networks; `patience` must be 0, and a variant's own "seed" replaces the one here.
      variants: what is special about each network.
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
        if not self.variants or self.at_once < 1:
            sizes = f"{len(self.variants)} and {self.at_once}"
            raise InputError(f"`variants` and `at_once` must be at least one, got {sizes}")
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
        return Engine(networks, self.data, self.settings, seeds, self.callback)

    def run(
        self,
        state: SweepState | None = None,
        save: Callable[[SweepState], None] = lambda state: None,
        keep: Callable[[int, Network, TrainState], Mapping[str, Any]] = lambda at, network, state: {},
    ) -> SweepState:
        """Trains all networks from a state, which it changes and returns; `save` is called with it after each epoch.

        `keep` is called with place, description and state of each trained network; it returns more for its record.
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
            for at, network, trained in zip(left, engine.networks, sweep.group, strict=True):
                sweep.done[at] = dict(
                    variant=self.variants[at],
                    epochs=trained.epochs,
                    best_epoch=trained.best_epoch,
                    diagnoses=trained.diagnoses,
                    **{name: sum(each[name] for each in trained.phases) / len(left) for name in times},
                    **keep(at, network, trained),
                )
            sweep.group, sweep.places = [], []
            save(sweep)
        return sweep


def _varied(network: Network, variant: Variant) -> Network:
    for name, value in variant.items():
        if name != "seed":
            network = network.vary(name, value)
        elif not math.isfinite(value) or value != int(value) or value < 0:
            raise InputError(f"`seed` must be an integer of at least 0, got {value}")
    return network

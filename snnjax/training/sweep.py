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

Variant = Mapping[str, float]
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


class Sweep:
    """Trains variants of a network by the engine that trains each alone; on a CPU bit for bit the same.

    Attributes:
      networks: the descriptions of the variants, in order.
      groups: the places of those that train in one program.
    """

    def __init__(
        self,
        network: Network,
        data: Dataset,
        settings: Settings,
        variants: Sequence[Variant],
        callback: Callback | None = None,
        at_once: int = 16,
    ):
        """Raises InputError where a variant names what cannot vary, or a value that it cannot have.

        `settings` are those of all networks: `patience` must be 0, a variant's own "seed" is preferred. At most
        `at_once` networks train in one program.
        """
        if not variants or at_once < 1:
            raise InputError(f"`variants` and `at_once` must be at least one, got {len(variants)} and {at_once}")
        self.network, self.data, self.settings = network, data, settings
        self.variants = [dict(each) for each in variants]
        self.callback = callback or Callback()
        self.networks = [_varied(network, each) for each in self.variants]
        self.seeds = [int(each.get("seed", settings.seed)) for each in variants]
        alike: dict[Any, list[int]] = {}
        for at, each in enumerate(self.networks):
            alike.setdefault(each.structure, []).append(at)
        self.groups = [
            places[start : start + at_once] for places in alike.values() for start in range(0, len(places), at_once)
        ]

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
        """Trains all networks and returns the last state, which is `state`, changed.

        Args:
          state: where to go on.
          save: called after each epoch with the state.
          keep: called with place, description and state of each trained network, before the state is saved; what it
            returns is added to the network's record.
        """
        sweep = state or SweepState()
        for group in [sweep.places, *self.groups]:
            left = [at for at in group if at not in sweep.done]
            if not left:
                continue
            engine = self.engine(left)
            if sweep.places != left:
                sweep.group, sweep.places = engine.initial_states(), left
            engine.run(sweep.group, lambda _: save(sweep))
            for at, network, trained in zip(left, engine.networks, sweep.group, strict=True):
                times = ("seconds", "compile_seconds")
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

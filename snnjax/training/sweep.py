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
    """Where a sweep stands.

    Attributes:
      done: of each network that is trained, by its place among the variants: epochs and seconds.
      group: where the networks stand that train now.
      places: of these among the variants.
    """

    done: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    group: list[TrainState] = dataclasses.field(default_factory=list)
    places: list[int] = dataclasses.field(default_factory=list)

    def flatten(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON data, for a checkpoint."""
        arrays, group = {}, []
        for at, state in enumerate(self.group):
            own, meta = state.flatten()
            arrays.update({f"{at}/{name}": value for name, value in own.items()})
            group.append(meta)
        done = {str(at): record for at, record in self.done.items()}
        return arrays, dict(done=done, group=group, places=self.places)

    @classmethod
    def unflatten(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> "SweepState":
        """The inverse of `flatten`.

        Raises:
          InputError: these are no such arrays and data.
        """
        try:
            parts: list[dict[str, np.ndarray]] = [{} for _ in meta["group"]]
            for path, value in arrays.items():
                at, _, name = path.partition("/")
                parts[int(at)][name] = value
            group = [TrainState.unflatten(part, each) for part, each in zip(parts, meta["group"], strict=True)]
            places = [at for at, _ in zip(meta["places"], group, strict=True)]
            return cls({int(at): record for at, record in meta["done"].items()}, group, places)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"these hold no state of a sweep: {error}") from error


class Sweep:
    """Trains variants of a network by the engine that trains each alone; on a CPU bit for bit the same.

    Attributes:
      network: what the variants have in common.
      networks: their descriptions, in order.
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
        """Checks the variants.

        Args:
          network: what the variants have in common.
          data: learned from and tested with.
          settings: common settings; `patience` is 0, and seeds are the variants' own where they have one.
          variants: what is special about each network.
          callback: hears of the training's schedule.
          at_once: networks of one program at most.

        Raises:
          InputError: something that cannot vary, or a value that it cannot have.
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
        places = [each[start : start + at_once] for each in alike.values() for start in range(0, len(each), at_once)]
        self.groups = places

    def engine(self, group: Sequence[int]) -> Engine:
        """What trains the networks of a group."""
        networks, seeds = [self.networks[at] for at in group], [self.seeds[at] for at in group]
        return Engine(networks, self.data, self.settings, seeds, self.callback)

    def run(
        self,
        state: SweepState | None = None,
        save: Callable[[SweepState], None] = lambda state: None,
        keep: Callable[[int, Network, TrainState], Mapping[str, Any]] = lambda at, network, state: {},
    ) -> SweepState:
        """Trains all to the end.

        Args:
          state: where to go on.
          save: called after each epoch with the state.
          keep: called with the place, the description and the state of each network that is trained, before the state
            that says so is saved; what it returns is added to what is known of the network.

        Returns:
          The last state.
        """
        state = SweepState() if state is None else state
        for group in [state.places, *self.groups]:
            left = [at for at in group if at not in state.done]
            if not left:
                continue
            engine = self.engine(left)
            if state.places != left:
                state.group, state.places = engine.initial_states(), left

            def saved(states: list[TrainState], state: SweepState = state) -> None:
                state.group = states
                save(state)

            engine.run(state.group, saved)
            for at, network, trained in zip(left, engine.networks, state.group, strict=True):
                more = keep(at, network, trained)
                seconds = sum(each["seconds"] for each in trained.phases) / len(left)
                compiling = sum(each["compile_seconds"] for each in trained.phases) / len(left)
                state.done[at] = dict(
                    variant=self.variants[at],
                    epochs=trained.epochs,
                    best_epoch=trained.best_epoch,
                    diagnoses=trained.diagnoses,
                    seconds=seconds,
                    compile_seconds=compiling,
                    **more,
                )
            state.group, state.places = [], []
            save(state)
        return state


def _varied(network: Network, variant: Variant) -> Network:
    for name, value in variant.items():
        if name != "seed":
            network = network.vary(name, value)
        elif not math.isfinite(value) or value != int(value) or value < 0:
            raise InputError(f"`seed` must be an integer of at least 0, got {value}")
    return network

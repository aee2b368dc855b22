"""Groups of networks that train in one program: plain data that any process can train."""

import contextlib
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snnjax.core import checks, files
from snnjax.core.codec import from_data
from snnjax.core.errors import DivergedError, InputError
from snnjax.core.metrics import fractions
from snnjax.data import Dataset
from snnjax.networks import Network
from snnjax.training.loop import Trainer
from snnjax.training.state import Callback, Settings, TrainState

Variant = dict[str, Any]
"""A variant of a network: the values of "seed", of some `Network.hyperparameters` ("layer1.threshold"), and components.

In records, components are words.
"""


@dataclasses.dataclass(frozen=True)
class Group:
    """Networks that train in one program, as plain data, which can be sent to any process and saved.

    Attributes:
      places: the places of the networks among the variants of the sweep.
      variants: the variant of each network, with its seed, as in records.
      network: the network that they have in common, with the components that their variants name, as returned by
        `codec.to_data`.
      arrays: the arrays of this network.
      file: the file in which processes that see its folder save the states during training; None: nothing is saved.
    """

    places: tuple[int, ...]
    variants: tuple[Variant, ...]
    network: Any
    arrays: dict[str, np.ndarray]
    file: Path | None = None

    def trainer(self, data: Dataset, settings: Settings, callback: Callback | None, numbers: Sequence[int]) -> Trainer:
        """The trainer of some of the networks, by their numbers in the group.

        Raises InputError if they hold a component that is not imported.
        """
        network = from_data(self.network, self.arrays)
        variants = [self.variants[index] for index in numbers]
        networks = [varied(network, numbers_of(variant)) for variant in variants]
        seeds = [int(x["seed"]) for x in variants]
        return Trainer(networks, data, settings, callback, seeds=seeds)

    def load(self) -> tuple[list[TrainState], dict[int, str]]:
        """The saved states of the networks still in training, in order, and the errors of those that failed, by number.

        Both are empty if there is no file, or if it is damaged.
        """
        with contextlib.suppress(FileNotFoundError, LookupError, TypeError, ValueError, AttributeError):
            if self.file:
                arrays, meta = files.load_checkpoint(self.file)
                parts: list[dict[str, np.ndarray]] = [{} for _ in meta["states"]]
                for path, value in arrays.items():
                    index, _, name = path.partition("/")
                    parts[int(index)][name] = value
                states = [TrainState.unflatten(part, about) for part, about in zip(parts, meta["states"], strict=True)]
                return states, {int(index): str(error) for index, error in meta.get("errors", {}).items()}
        return [], {}

    def save(self, states: Sequence[TrainState], errors: Mapping[int, str]) -> None:
        """Writes the file, if its folder exists."""
        if self.file and self.file.parent.is_dir():
            parts = [state.flatten() for state in states]
            arrays = {f"{index}/{name}": value for index, (part, _) in enumerate(parts) for name, value in part.items()}
            meta = dict(variants=self.variants, states=[about for _, about in parts], errors=errors)
            files.save_checkpoint(self.file, arrays, meta)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of training a group.

    Attributes:
      group: the group.
      records: the record of each network: epochs, best_epoch, diagnoses, seconds, and test if the epoch is selected on
        the test images; epochs, diagnoses and error if learning has made the network invalid.
      states: the final state of each network, or None if the network is invalid.
      error: the error that stopped the training: wrong input, or a file that could not be written.
    """

    group: Group
    records: tuple[dict[str, Any], ...] = ()
    states: tuple[TrainState | None, ...] = ()
    error: InputError | OSError | None = None


def train(data: Dataset, settings: Settings, group: Group, callback: Callback | None = None) -> Outcome:
    """Trains the networks of a group to the end, from the states in its file if there are any.

    If learning makes some networks invalid, the remaining ones continue without them.
    """
    tests = []
    over = False
    try:
        states, errors = group.load()
        while not over and (numbers := [index for index in range(len(group.places)) if index not in errors]):
            trainer = group.trainer(data, settings, callback, numbers)
            states, over = _run(group, trainer, numbers, states, errors)
        if states and data.tested == "test":
            decisions, _ = trainer.predict(states, data.test_images)
            tests = [fractions(decided, data.test_labels) for decided in decisions]
    except (InputError, OSError) as error:
        return Outcome(group, error=error)
    trained = dict(zip(numbers, states, strict=True))
    records = {index: dict[str, Any](epochs=[], diagnoses={}, error=words) for index, words in errors.items()}
    for index, state in trained.items():
        record = dict[str, Any](epochs=state.epochs, best_epoch=state.best_epoch, diagnoses=state.diagnoses)
        for name in ("seconds", "compile_seconds"):  # the time of the group, divided equally among its networks
            record[name] = sum(phase[name] for phase in state.phases) / len(states)
        records[index] = record
    for index, tested in zip(trained, tests, strict=False):
        records[index]["test"] = tested
    places = range(len(group.places))
    return Outcome(group, tuple(records[index] for index in places), tuple(trained.get(index) for index in places))


def _run(
    group: Group, trainer: Trainer, numbers: Sequence[int], states: list[TrainState], errors: dict[int, str]
) -> tuple[list[TrainState], bool]:
    """Trains the networks with these numbers in a group; returns their states, and whether the training is complete.

    It is not complete if learning has made some networks invalid. Then the states are the last saved ones of the
    remaining networks, and the reasons are added to `errors`.
    """
    if len(states) != len(numbers) or not all(_fits(trainer, state) for state in states):
        # Training has not begun, or the file was damaged.
        states = [trainer.initial_state(index) for index in range(len(numbers))]
    # The trainer changes states in place. If some networks diverge, the remaining ones continue from this copy.
    saved = copy.deepcopy(states)

    def save(states: list[TrainState]) -> None:
        nonlocal saved
        group.save(states, errors)
        saved = copy.deepcopy(states)

    try:
        return trainer.run(states, save), True
    except DivergedError as error:
        for index, problem in error.errors.items():
            words = f"{named(group.variants[numbers[index]])}: {problem}"
            errors[numbers[index]] = words
            trainer.callback.invalid(words)
        return [state for index, state in enumerate(saved) if index not in error.errors], False


def _fits(trainer: Trainer, state: TrainState) -> bool:
    try:
        trainer.check_state(state)
    except InputError:
        return False
    return True


def named(variant: Variant) -> str:
    """The values of a network's variant, in words."""
    return ", ".join(listed(variant))


def listed(variant: Variant) -> list[str]:
    """Each value of a network's variant with its name, in words; a seed with all its digits."""
    values = {name: f"{value:d}" if name == "seed" else words(value) for name, value in variant.items()}
    return [f"{name}={value}" for name, value in values.items()]


def words(value: float | str) -> str:
    """A value of a variant in words."""
    return value if isinstance(value, str) else f"{value:g}"


def numbers_of(variant: Variant) -> Variant:
    """A variant, as in records, without the words for its components."""
    return {name: value for name, value in variant.items() if not isinstance(value, str)}


def varied(network: Network, variant: Variant) -> Network:
    """A network with the numbers of a variant; it must already have the components of the variant.

    Raises InputError if the variant names a value that cannot vary, or gives an invalid value.

    Examples:
      >>> from snnjax.networks import mozafari2018
      >>> from snnjax.training import varied
      >>> network = varied(mozafari2018(), {"layer1.threshold": 10.0, "layer2.winners": 4})
      >>> network.hyperparameters()["layer2.competition.winners"]
      4
    """
    for name, value in variant.items():
        if name == "seed":
            checks.seed(int(value) if isinstance(value, float | np.floating) and value.is_integer() else value)
        else:
            network = network.vary(name, value)
    return network

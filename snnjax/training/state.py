"""What a training depends on, and where it stands."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np

from snnjax.errors import InputError
from snnjax.layers import Conv
from snnjax.learners.learner import Diagnosis
from snnjax.networks import Network


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the result of a training depends on, besides network and data.

    Attributes:
      epochs: of each stage, in order; the last number is that of supervised learning.
      batch_size: images after which the rates of supervised learners adapt.
      patience: stops when the best test accuracy lies more than so many epochs back; 0 never stops early.
      seed: of the initial weights.
      update_batch: B, images whose winners are found with the same weights, before their updates are applied in order;
        1 learns image after image.
      native: the compiled kernels do the work, on a CPU; they round as another processor might.
    """

    epochs: tuple[int, ...]
    batch_size: int = 1000
    patience: int = 5
    seed: int = 0
    update_batch: int = 1
    native: bool = False

    def __post_init__(self) -> None:
        if not self.epochs or any(not isinstance(count, int) or count < 0 for count in self.epochs):
            raise InputError(f"`epochs` must be integers of at least 0, got {self.epochs}")
        for name, minimum in (("batch_size", 1), ("patience", 0), ("seed", 0), ("update_batch", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < minimum:
                raise InputError(f"`{name}` must be an integer of at least {minimum}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Phase:
    """One part of a training: the unsupervised learning of one layer, or that of all supervised layers (layer "")."""

    name: str
    stage: int
    layer: str
    epochs: int
    branch: int = 0


def plan(network: Network, epochs: tuple[int, ...]) -> tuple[Phase, ...]:
    """The phases of a training in order.

    Raises:
      InputError: `epochs` is not one number for each stage.
    """
    stages = len(network.stages)
    if len(epochs) != stages:
        raise InputError(f"`epochs` must be {stages} numbers for {network.name}, got {len(epochs)}: {epochs}")
    phases, branches = [], dict.fromkeys(range(stages), 0)
    for stage, name, conv in network.layers():
        for learner in conv.each_learner:
            if not learner.supervised:
                title = f"{type(learner).__name__} {name}"
                phases.append(Phase(title, stage, name, epochs[stage], branches[stage]))
                branches[stage] += 1
    kinds = {type(conv.each_learner[-1]).__name__ for conv in network.stages[-1].branches}
    title = {"RSTDP": "R-STDP"}.get(name := kinds.pop(), name)
    return *phases, Phase(title, network.first_supervised, "", epochs[-1])


@dataclasses.dataclass
class TrainState:
    """Where the training of one network stands.

    Attributes:
      weights: (F, C, kh, kw) of all layers, by name.
      numbers: those numbers of layers' descriptions that learners have changed, by layer and place.
      phase: index in `plan` of the phase to go on with.
      done: epochs of it that are done.
      learning: the states of the learners at work, and the tally, once their phase has begun.
      best: weights of the best network so far, by name.
      best_numbers: numbers of the best network so far, as `numbers`.
      phases: a record for each phase done: name, images, seconds, compile_seconds, images_per_second.
      epochs: a record for each supervised epoch: train and test, each accuracy, wrong, silent.
      diagnoses: by phase, what its last epoch has shown, JSON data with "words".
      reused: by layer, where its weights come from, if an earlier run has trained it.
      keys: by layer that has learned alone, a name of all that its weights depend on; see `snnjax.training.origin`.
      origin: what the phase at work began with: sources, versions and device.
    """

    weights: dict[str, np.ndarray]
    numbers: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    phase: int = 0
    done: int = 0
    learning: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    best: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    best_numbers: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    phases: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    epochs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    diagnoses: dict[str, Diagnosis] = dataclasses.field(default_factory=dict)
    reused: dict[str, str] = dataclasses.field(default_factory=dict)
    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    origin: str = ""

    _ARRAYS: ClassVar = ("weights", "numbers", "learning", "best", "best_numbers")
    _DATA: ClassVar = dict(
        phase=int, done=int, phases=list, epochs=list, diagnoses=dict, reused=dict, keys=dict, origin=str
    )

    def flatten(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON data, for a checkpoint."""
        arrays = {f"{group}/{name}": value for group in self._ARRAYS for name, value in getattr(self, group).items()}
        return arrays, {name: getattr(self, name) for name in self._DATA}

    @classmethod
    def unflatten(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> "TrainState":
        """The inverse of `flatten`.

        Raises:
          InputError: these are no such arrays and data.
        """
        groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in cls._ARRAYS}
        for path, value in arrays.items():
            group, _, name = path.partition("/")
            if group not in groups:
                raise InputError(f"the state of a training holds no array {path!r}")
            groups[group][name] = value
        for name, kind in cls._DATA.items():
            if not isinstance(meta.get(name), kind):
                raise InputError(f"the state of a training holds `{name}`, {kind.__name__}, got {meta.get(name)!r}")
        data: dict[str, Any] = {**groups, **{name: meta[name] for name in cls._DATA}}
        return cls(**data)

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the best test accuracy, the later one among equals; -1 before the first."""
        accuracies = [record["test"]["accuracy"] for record in self.epochs]
        return max(range(len(accuracies)), key=lambda at: (accuracies[at], at), default=-1)

    @property
    def trained(self) -> "TrainState":
        """The best network, or the present one before the first test: weights and numbers alone."""
        return TrainState(self.best, self.best_numbers) if self.best else TrainState(self.weights, self.numbers)

    def network(self, network: Network) -> Network:
        """The network's description with the numbers that learners have changed."""
        if not self.numbers:
            return network
        convs = {name: self._with_numbers(name, conv) for _, name, conv in network.layers()}
        stages = tuple(
            dataclasses.replace(each, branches=tuple(convs[name] for name in names))
            for names, each in zip(network.names, network.stages, strict=True)
        )
        return dataclasses.replace(network, stages=stages)

    def _with_numbers(self, name: str, conv: Conv) -> Conv:
        leaves, structure = jax.tree.flatten(conv)
        changed = [self.numbers.get(f"{name}.{at}", leaf) for at, leaf in enumerate(leaves)]
        return jax.tree.unflatten(
            structure, [x.item() if np.ndim(x) == 0 and hasattr(x, "item") else x for x in changed]
        )

    def keep_layer(self, name: str, conv: Conv, weights: np.ndarray, numbers: list[np.ndarray]) -> None:
        """Takes the weights and the numbers of a layer that has learned; `conv` is its description before all."""
        self.weights[name] = weights
        for at, (was, now) in enumerate(zip(jax.tree.leaves(conv), numbers, strict=True)):
            if not np.array_equal(np.asarray(was, now.dtype), now):
                self.numbers[f"{name}.{at}"] = np.asarray(now)


class Callback:
    """Hears of a training's schedule; does nothing by itself."""

    def started(self, phase: str, images: int) -> None:
        """A phase begins, of so many images."""

    def advanced(self, images: int, correct: int) -> None:
        """So many images more are done, `correct` of them decided correctly."""

    def finished(self, record: dict[str, Any]) -> None:
        """A phase is over: its name, seconds, compile_seconds and images_per_second."""

    def tested(self, record: dict[str, Any]) -> None:
        """A supervised epoch is over: see `TrainState.epochs`; of many networks, the mean accuracies."""

    def diagnosed(self, phase: str, diagnosis: Diagnosis) -> None:
        """What a phase that is over has shown: see `TrainState.diagnoses`."""

"""The settings of a training, its state, and its callbacks."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, get_origin

import numpy as np

from snnjax.core import checks
from snnjax.core.errors import InputError, shown
from snnjax.core.metrics import tested_part
from snnjax.core.paths import leaves, with_leaves
from snnjax.data import Dataset
from snnjax.kernels import backend as backends
from snnjax.layers.conv import Conv
from snnjax.learners import Diagnosis
from snnjax.networks import ImageSpec, Network

FORMAT = 5
"""Of the data of `TrainState.flatten`, and of the results made of it: another one is refused."""

Arrays = dict[str, np.ndarray]
"""Arrays by name."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that the result of a training depends on, besides network and data.

    Attributes:
      epochs: of each stage, in order; a single stage may have a plain number. If layers decide, the last number is that
        of supervised learning.
      adapt_every: images after which the rates of supervised learners adapt.
      patience: stops once the best epoch, the last among equals, is more than this many epochs old; 0: never.
      seed: of the initial weights, and of what `shuffle` and `mirror` draw: 0 to 2**64 - 1.
      update_batch: B, images passed forward with the same weights, before their updates are applied in order; all of an
        epoch where there are fewer. Supervised learners adapt after `adapt_every` images, with which a group ends too.
      backend: "xla"; "native", compiled implementations in C++ for a CPU, whose rounding may depend on the processor;
        or "auto", which is "native" if it is available. A `Trainer` replaces "auto" by the one that it uses.
      shuffle: shows the images in a new order each epoch, of every phase; otherwise in the order of the data.
      mirror: shows each image mirrored left-right or not, at random, in each epoch of every phase. What the layers make
        of both is computed once and kept: twice the memory of the images, and of their latencies at each stage.
    """

    epochs: tuple[int, ...]
    adapt_every: int = 1000
    patience: int = 5
    seed: int = 0
    update_batch: int = 1
    backend: str = "auto"
    shuffle: bool = False
    mirror: bool = False

    def __post_init__(self) -> None:
        self._set("epochs", checks.epochs(self.epochs))
        checks.some("epochs", self.epochs, "one for each stage")
        for name, minimum in (("adapt_every", 1), ("patience", 0), ("update_batch", 1)):
            self._set(name, checks.integer(name, getattr(self, name), minimum))
        self._set("seed", checks.seed(self.seed))
        checks.one_of("backend", self.backend, backends.CHOICES)
        for name in ("shuffle", "mirror"):
            checks.instance(name, getattr(self, name), bool, "True or False")

    @classmethod
    def of(cls, network: Network, data: Dataset) -> "Settings":
        """The defaults for a network on a data set: the network's own, where it has any.

        Epochs that it lacks are one of each stage that learns without labels and ten supervised ones; more where few
        images have labels: see `ImageSpec.epochs`. Then rates adapt after 100 images, and training never stops early.
        """
        images = ImageSpec.of(data)
        patience = 0 if images.few else cls.patience
        return cls(
            network.epochs or _default_epochs(network, images),
            adapt_every=100 if images.few else cls.adapt_every,
            patience=patience if network.patience is None else network.patience,
            shuffle=network.shuffle,
        )

    def resolved(self, networks: Sequence[Network]) -> "Settings":
        """The settings with the back end that these networks are trained on; raises as `kernels.backend.resolve`."""
        time_steps = max(network.time_steps for network in networks)
        return dataclasses.replace(self, backend=backends.resolve(self.backend, time_steps))

    def _set(self, name: str, value: Any) -> None:
        """Sets a field to a plain value: NumPy's integers are no JSON data."""
        object.__setattr__(self, name, value)


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a file holds them, by the names of this version.

    Earlier versions wrote `native`, True or False, for the back end, and `batch_size` for `adapt_every`.
    """
    named = dict(settings)
    if "batch_size" in named:
        named["adapt_every"] = named.pop("batch_size")
    if "native" in named:
        named["backend"] = "native" if named.pop("native") else "xla"
    return named


def current_path(path: str) -> str:
    """The path of an array of a state as a file holds it, by the names of this version.

    Earlier versions wrote `tally` for `counts`, and `batch` for its `interval`.
    """
    path = re.sub(r"^(learning/|carry\.)tally\.", r"\1counts.", path)
    return re.sub(r"^(learning/|carry\.)counts\.batch$", r"\1counts.interval", path)


def _default_epochs(network: Network, images: ImageSpec) -> tuple[int, ...]:
    """Epochs of each stage of a network that states none."""
    learning = [int(any(conv.each_learner for conv in stage.branches)) for stage in network.stages]
    if network.deciding:
        return images.epochs(*learning[:-1], supervised=10)
    return images.epochs(*learning)


@dataclasses.dataclass
class TrainState:
    """The state of one network's training.

    Attributes:
      weights: (F, C, kh, kw) float32, by layer name.
      learned_params: numbers that learners have changed, and the arrays of an encoder or a decision that is fitted, by
        path: "layer1.threshold", "encoder.maximum".
      phase: index of the current phase among those of the job.
      done: its completed epochs.
      shown: images of the next epoch that have been learned from already.
      results: of these images, by path.
      learning: the states of its learners, and the `DecisionCounts`, once it has begun.
      best: `weights` of the best network so far; empty before the first supervised epoch.
      best_params: its `learned_params`.
      phases: the record of each, as `Callback.finished` gets it, with its images.
      epochs: supervised ones: epoch, and the accuracy, wrong and silent of train and test, as fractions; of validation
        instead of test where the data have such images.
      diagnoses: `Diagnosis` of each phase's last epoch, by its name.
      curves: by phase and layer, the numbers of the diagnosis and of `Learner.scalars` after each epoch, by name.
    """

    weights: Arrays
    learned_params: Arrays = field(default_factory=dict)
    phase: int = 0
    done: int = 0
    shown: int = 0
    results: Arrays = field(default_factory=dict)
    learning: Arrays = field(default_factory=dict)
    best: Arrays = field(default_factory=dict)
    best_params: Arrays = field(default_factory=dict)
    phases: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    diagnoses: dict[str, Diagnosis] = field(default_factory=dict)
    curves: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)

    _GROUPS: ClassVar = {  # of arrays: their names in files, and the fields
        "weights": "weights",
        "numbers": "learned_params",
        "found": "results",
        "learning": "learning",
        "best": "best",
        "best_numbers": "best_params",
    }

    def flatten(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and JSON data, for a checkpoint."""
        arrays: Arrays = {}
        for group, attribute in self._GROUPS.items():
            arrays |= {f"{group}/{name}": value for name, value in getattr(self, attribute).items()}
        return arrays, {name: value for name, value in vars(self).items() if name not in self._GROUPS.values()}

    @classmethod
    def unflatten(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> "TrainState":
        """The inverse of `flatten`; raises InputError where arrays or data are wrong."""
        parts: dict[str, Any] = {attribute: {} for attribute in cls._GROUPS.values()}
        for path, array in arrays.items():
            group, _, name = current_path(path).partition("/")
            if group not in cls._GROUPS:
                raise InputError(f"the state of a training holds no array {path!r}")
            parts[cls._GROUPS[group]][name] = array
        for item in dataclasses.fields(cls):
            value = parts.setdefault(item.name, meta.get(item.name))
            kind: Any = get_origin(item.type) or item.type
            if not isinstance(value, kind):
                raise InputError(f"the state of a training holds `{item.name}`, {kind.__name__}, got {shown(value)}")
        return cls(**parts)

    @property
    def best_epoch(self) -> int:
        """Number of the epoch with the best accuracy, the later one among equals; -1 before the first.

        Validation images decide if there are any, else the test images.
        """
        accuracies = [record[tested_part(record)]["accuracy"] for record in self.epochs]
        return max(range(len(accuracies)), key=lambda index: (accuracies[index], index), default=-1)

    @property
    def trained(self) -> "TrainState":
        """The best network, or the present one before the first test: only its weights and numbers."""
        return TrainState(self.best, self.best_params) if self.best else TrainState(self.weights, self.learned_params)

    def network(self, network: Network) -> Network:
        """The network with the numbers that learning has changed, given the untrained one."""
        if not self.learned_params:
            return network
        places: dict[str, str] = {}
        for stage, names in enumerate(network.names):
            places |= {name: f"stages.{stage}.branches.{branch}" for branch, name in enumerate(names)}
        new = {}
        for path, number in self.learned_params.items():
            part, _, rest = path.partition(".")
            new[f"{places.get(part, part)}.{rest}"] = number.item() if np.ndim(number) == 0 else number
        return with_leaves(network, new)

    def keep_layer(self, name: str, conv: Conv, weights: np.ndarray, numbers: list[np.ndarray]) -> None:
        """Records the weights and the numbers of a layer that has learned; `conv` is the untrained layer."""
        self.weights = self.weights | {name: weights}
        self.keep_params(name, conv, numbers)

    def keep_params(self, name: str, part: Any, numbers: list[Any]) -> None:
        """Records the numbers of a layer, or of "encoder" or "decision"; `part` is the untrained one."""
        self.learned_params = {path: x for path, x in self.learned_params.items() if not path.startswith(f"{name}.")}
        for (path, was), now in zip(leaves(part, name).items(), map(np.asarray, numbers), strict=True):
            if not np.array_equal(np.asarray(was, now.dtype), now):
                self.learned_params[path] = now


States = list[TrainState]
"""States of several networks, in the same phase."""


class Callback:
    """Receives a training's events; does nothing by itself."""

    def started(self, phase: str, images: int) -> None:
        """A phase of `images` images begins."""

    def advanced(self, images: int, correct: int) -> None:
        """More images are done, `correct` of them decided correctly."""

    def finished(self, record: dict[str, Any]) -> None:
        """A phase has ended: its name, seconds, compile_seconds and images_per_second."""

    def tested(self, record: dict[str, Any]) -> None:
        """A supervised epoch has ended: see `TrainState.epochs`; of many networks, the mean accuracies."""

    def invalid(self, problem: str) -> None:
        """Learning has left one of several networks invalid, whose training ends; the others continue as saved last."""

    def diagnosed(self, phase: str, diagnosis: Diagnosis) -> None:
        """The diagnosis of a phase that has ended: see `TrainState.diagnoses`."""

    def group_started(self, group: Any) -> None:
        """A `snnjax.training.groups.Group` of a sweep is handed to a worker."""

    def group_ended(self, outcome: Any) -> None:
        """The outcome of a group of a sweep: a `snnjax.training.groups.Outcome`."""

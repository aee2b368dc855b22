"""The settings of a training run, its state, and its callbacks."""

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
    """The settings on which the result of a training run depends, in addition to the network and the data.

    Attributes:
      epochs: the number of epochs of each stage, in order; a single stage may have a plain number. If layers decide,
        the last number is that of supervised learning.
      adapt_every: the number of images after which the rates of supervised learners are adapted.
      patience: training stops once the best epoch (in a tie, the latest) is older than this number of epochs; 0: never.
      seed: the seed for the initial weights, and for the draws of `shuffle` and `mirror`: 0 to 2**64 - 1.
      update_batch: B, the number of images whose responses are computed with the same weights, before their updates are
        applied in order; fewer at the end of an epoch, and of each interval of `adapt_every` images.
      backend: "xla"; "native", compiled implementations in C++ for a CPU, whose rounding may depend on the processor;
        or "auto", which is "native" if it is available. A `Trainer` replaces "auto" by the back end that it uses.
      shuffle: whether images are shown in a new order in each epoch of every phase, instead of in the order of the
        data.
      mirror: whether each image is shown mirrored left-right or not, at random, in each epoch of every phase. The
        outputs of the layers for both are computed once and kept, which doubles the memory for the images and for their
        latencies at each stage.

    Examples:
      >>> import dataclasses
      >>> import snnjax
      >>> data = snnjax.data.digits()
      >>> network = snnjax.NETWORKS["deep2024"](snnjax.ImageSpec.of(data))
      >>> settings = snnjax.Settings.of(network, data)  # the defaults for this network, and for few images
      >>> settings.epochs, settings.patience
      ((7, 7, 7, 100), 0)
      >>> other = dataclasses.replace(settings, seed=1, update_batch=64)
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
        """The default settings for a network on a data set, including those that the network defines.

        If the network defines no epochs, the default is one epoch for each stage that learns without labels, and ten
        supervised epochs. If few images have labels, there are more epochs (see `ImageSpec.epochs`), rates are adapted
        after 100 images, and training never stops early.
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
        """Sets a field to a plain value, because JSON cannot represent NumPy's integers."""
        object.__setattr__(self, name, value)


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from a file, with the names of this version.

    Earlier versions wrote `native`, True or False, for the back end, and `batch_size` for `adapt_every`.
    """
    named = dict(settings)
    if "batch_size" in named:
        named["adapt_every"] = named.pop("batch_size")
    if "native" in named:
        named["backend"] = "native" if named.pop("native") else "xla"
    return named


def current_path(path: str) -> str:
    """The path of an array of a state from a file, with the names of this version.

    Earlier versions wrote `tally` for `counts`, and `batch` for its `interval`.
    """
    path = re.sub(r"^(learning/|carry\.)tally\.", r"\1counts.", path)
    return re.sub(r"^(learning/|carry\.)counts\.batch$", r"\1counts.interval", path)


def _default_epochs(network: Network, images: ImageSpec) -> tuple[int, ...]:
    """The epochs of each stage of a network that defines none."""
    learning = [int(any(conv.each_learner for conv in stage.branches)) for stage in network.stages]
    if network.deciding:
        return images.epochs(*learning[:-1], supervised=10)
    return images.epochs(*learning)


@dataclasses.dataclass
class TrainState:
    """The state of one network's training.

    Attributes:
      weights: (F, C, kh, kw) float32, by layer name.
      learned_params: the numbers that learners have changed, and the arrays of a fitted encoder or decision, by path:
        "layer1.threshold", "encoder.maximum".
      phase: the index of the current phase among those of the job.
      done: the number of completed epochs of this phase.
      shown: the number of images of the current epoch that have been learned already.
      results: the results for these images, by path.
      learning: the states of the learners of this phase, and the `DecisionCounts`, once it has started.
      best: the `weights` of the best network so far; empty before the first supervised epoch.
      best_params: the `learned_params` of the best network so far.
      phases: the record of each completed phase, as passed to `Callback.finished`, with its number of images.
      epochs: a record of each supervised epoch: its number, and for train and test the fractions accuracy, wrong and
        silent; validation instead of test if there are validation images.
      diagnoses: the `Diagnosis` of the last epoch of each phase, by the name of the phase.
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
        """The inverse of `flatten`; raises InputError if arrays or data are wrong."""
        parts: dict[str, Any] = {attribute: {} for attribute in cls._GROUPS.values()}
        for path, array in arrays.items():
            group, _, name = current_path(path).partition("/")
            if group not in cls._GROUPS:
                raise InputError(f"the state of a training run has no array {path!r}")
            parts[cls._GROUPS[group]][name] = array
        for item in dataclasses.fields(cls):
            value = parts.setdefault(item.name, meta.get(item.name))
            kind: Any = get_origin(item.type) or item.type
            if not isinstance(value, kind):
                raise InputError(f"the state of a training run has `{item.name}`, {kind.__name__}, got {shown(value)}")
        return cls(**parts)

    @property
    def best_epoch(self) -> int:
        """The number of the epoch with the best accuracy, in a tie the latest; -1 before the first epoch.

        The accuracy is that on the validation images if there are any, otherwise that on the test images.
        """
        accuracies = [record[tested_part(record)]["accuracy"] for record in self.epochs]
        return max(range(len(accuracies)), key=lambda index: (accuracies[index], index), default=-1)

    @property
    def trained(self) -> "TrainState":
        """The weights and numbers of the best network, or of the current one before the first test."""
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
        """Records the numbers of a layer, or of "encoder" or "decision"; `part` is the untrained component."""
        self.learned_params = {path: x for path, x in self.learned_params.items() if not path.startswith(f"{name}.")}
        for (path, was), now in zip(leaves(part, name).items(), map(np.asarray, numbers), strict=True):
            if not np.array_equal(np.asarray(was, now.dtype), now):
                self.learned_params[path] = now


States = list[TrainState]
"""States of several networks, in the same phase."""


class Callback:
    """Receives the events of a training run. The methods of this base class do nothing.

    Examples:
      >>> import snnjax
      >>> class Progress(snnjax.training.Callback):
      ...     def tested(self, record):
      ...         print(f"epoch {record['epoch'] + 1}: {record['test']['accuracy']:.1%}")
      >>> data = snnjax.data.digits()
      >>> network = snnjax.NETWORKS["mozafari2018"](snnjax.ImageSpec.of(data))
      >>> trainer = snnjax.Trainer(network, data, callback=Progress())
      >>> state = trainer.run(trainer.initial_state())  # doctest: +SKIP
    """

    def started(self, phase: str, images: int) -> None:
        """A phase with `images` images starts."""

    def advanced(self, images: int, correct: int) -> None:
        """Some more images are done; `correct` of them were decided correctly."""

    def finished(self, record: dict[str, Any]) -> None:
        """A phase has ended: its name, seconds, compile_seconds and images_per_second."""

    def tested(self, record: dict[str, Any]) -> None:
        """A supervised epoch has ended: see `TrainState.epochs`; for several networks, the mean accuracies."""

    def invalid(self, problem: str) -> None:
        """Learning has made one of several networks invalid, and its training ends.

        The remaining networks continue from their last saved states.
        """

    def diagnosed(self, phase: str, diagnosis: Diagnosis) -> None:
        """The diagnosis of a phase that has ended: see `TrainState.diagnoses`."""

    def group_started(self, group: Any) -> None:
        """A `snnjax.training.groups.Group` of a sweep is handed to a worker."""

    def group_ended(self, outcome: Any) -> None:
        """The outcome of a group of a sweep: a `snnjax.training.groups.Outcome`."""

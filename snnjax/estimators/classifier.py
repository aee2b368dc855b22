"""A network that classifies images."""

import dataclasses
import json
import math
import warnings
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from jax.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.data import Dataset, names
from snnjax.estimators.estimator import SpikingEstimator
from snnjax.networks import NETWORKS, Images, Network, SpikingNetwork
from snnjax.networks.decision import is_fitted
from snnjax.runs.stream import Stream, check_memory
from snnjax.runs.trained import Trained
from snnjax.steps.stream import Memory
from snnjax.training.start import take


def _learns_image_by_image(classifier: Any) -> bool:
    """Whether its network has layers that learn from labels; raises AttributeError where its decision is fitted."""
    network = classifier.network_.spec if hasattr(classifier, "network_") else classifier.network
    made = NETWORKS.get(network, network) if isinstance(network, str) else network
    if not isinstance(made, Network) and callable(made):
        try:
            made = made(Images())
        except (ValueError, TypeError):  # it is made for other images
            return True
    if isinstance(made, Network) and is_fitted(made.decision):
        raise AttributeError(f"`network` learns by no labels but a {type(made.decision).__name__}, which is fitted")
    return True


@dataclasses.dataclass(eq=False, repr=False)
class SpikingClassifier(ClassifierMixin, SpikingEstimator):
    """A network that classifies images: (n, H, W) grey, (n, H, W, 3) in colour, or (n, H * W) with `image_shape`.

    `fit` does what `Trainer(network, data)` does, where a tenth of each class is held out: these images choose the best
    epoch, as in `snnjax train`. `partial_fit` does what `Stream` does. `score`, clones, pipelines, searches and
    cross-validation are those of scikit-learn.

    Attributes:
      network: a name of `NETWORKS`, a function of `Images` that returns a Network, or a Network.
      epochs: of each stage, see `Settings`; None: those of the network.
      image_shape: (H, W) or (H, W, 3) of the images in X of (n, H * W); one number may be -1, as in `numpy.reshape`.
      largest: the pixel that is white; 0 is black. None: 1 if the training images are of 0..1, 255 if they are of
        0..255; others raise InputError.
      hyperparameters: numbers of the network by path, see `Network.hyperparameters`.
      mirror: see `Settings`.
      update_batch: see `Settings`.
      random_state: seed of weights and order of images; None or a RandomState: draws one.
      verbose: prints a line for each phase and for each epoch that learns from labels.
      validation_fraction: share of the images of each class that is held out. 0: none, and the accuracy on the training
        images chooses the best epoch.
      memory, replays: of `partial_fit`, see `Stream`.
      network_: the `SpikingNetwork` that has learned.
      classes_: (classes,) the labels, sorted.
      validation_scores_: accuracy, after each epoch that learns from labels, on the images that choose the best one.
      image_shape_, largest_, n_features_in_: (H, W) or (H, W, 3), the pixel that is white, number of pixels.
    """

    validation_fraction: float = 0.1
    memory: int = 0
    replays: int = 0

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learns from images and their labels (n,), text or numbers.

        Raises InputError where pixels are not of 0..`largest`, there is one class, or parameters do not fit.
        """
        images, y = self._learned_images(X, y=y)
        check_classification_targets(y)
        classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
        if len(classes) < 2:
            raise InputError(f"`y` must hold at least 2 classes, got one class: {classes[0]}")
        data = Dataset("X", images, labels, images, labels, class_names=_class_names(classes), classes=len(classes))
        checks.number("validation_fraction", self.validation_fraction, most=1)
        if self.validation_fraction:
            if counts.max() < 2:
                raise InputError("`validation_fraction` must be 0 where each class has one image")
            data = data.hold_out(self.validation_fraction, seed=0)
        trainer = self._trainer(self._network(data), data)
        state = trainer.run(trainer.initial_state())
        self.network_ = trainer.trained(state)
        self.classes_ = classes
        self.validation_scores_ = [record[data.tested]["accuracy"] for record in state.epochs]
        self._forget()
        return self

    def _forget(self) -> None:
        """Ends what `partial_fit` has begun."""
        self._learning: list[np.ndarray] | None = None  # leaves of the layers that learn and of their learners
        self._memory: Memory | None = None

    @available_if(_learns_image_by_image)
    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Learns from images one by one, in their order, and from the labels (n,) of each, once.

        After `fit` or `load`, layers that learn from labels keep learning. Otherwise the first call begins a network:
        the other layers, and what is fitted to images, learn from its X alone, as in `fit`, and stay so from then on.
        `classes` are labels to come, beside those of y. For new ones neurons are added to the readout, which keeps what
        it has learned of the others; learners then begin anew, and the memory stays.

        Raises InputError as `fit`, and where X of the first call holds fewer images than there are classes.
        """
        check_memory(self.memory, self.replays)
        new = not hasattr(self, "network_")
        if new:
            images, y = self._learned_images(X, y=y)
        else:
            images, y = self._images(X, y=y)
        check_classification_targets(y)
        if new:
            self._begin(images, np.unique(y if classes is None else classes))
        labels = self._known_labels(np.asarray(y), classes)
        stream = Stream(self.network_, self.memory, self.replays)
        state = stream.init(self._seed(), images if new else None)
        if self._memory is not None:
            if _shapes(self._memory) != _shapes(state.memory):
                raise InputError(f"`memory` must stay as it was in earlier calls of `partial_fit`, got {self.memory}")
            state = state._replace(memory=self._memory)
        if self._learning is not None:
            state = state._replace(carry=jax.tree.unflatten(jax.tree.structure(state.carry), self._learning))
        _, learned = stream.learn(state, images, labels)
        self._learning = [np.asarray(leaf) for leaf in jax.tree.leaves(learned.carry)]
        self._memory = jax.tree.map(np.asarray, learned.memory)
        self.network_ = stream.network(learned)
        return self

    def _begin(self, images: np.ndarray, classes: np.ndarray) -> None:
        """A network of which the layers that learn without labels have learned from images."""
        if len(classes) < 2:
            raise InputError(f"`classes` must hold at least 2 classes, got {classes.tolist()}")
        if len(images) < len(classes):
            problem = f"`X` of the first `partial_fit` must hold at least {len(classes)} images, got {len(images)}"
            raise InputError(f"{problem}: layers learn from them without labels")
        any_labels = np.arange(len(images)) % len(classes)  # which no phase needs
        data = Dataset("X", images, any_labels, images, any_labels, class_names=_class_names(classes))
        trainer = self._trainer(self._network(data), data)
        trainer.plan = tuple(phase for phase in trainer.plan if not phase.supervised)
        self.network_ = trainer.trained(trainer.run(trainer.initial_state()))
        self.network_.class_names = data.names
        self.classes_ = classes
        self.validation_scores_ = []
        self._forget()

    def _known_labels(self, y: np.ndarray, classes: ArrayLike | None) -> np.ndarray:
        """The numbers of labels among `classes_`, (n,) int32, to which new ones are added first."""
        if (y.dtype.kind in "OUS") != (self.classes_.dtype.kind in "OUS"):
            known = self.classes_.tolist()
            raise InputError(f"`y` must hold labels like those before, such as {known[0]!r}, got {y.tolist()[0]!r}")
        every = np.union1d(self.classes_, y if classes is None else np.union1d(y, classes))
        if len(every) > len(self.classes_):
            self._grow(every)
        return np.searchsorted(self.classes_, y).astype(np.int32)

    def _grow(self, classes: np.ndarray) -> None:
        """Adds neurons for new classes to the readout, which keeps what it has learned of the others."""
        every = names.numbered(len(classes))
        self.network_.class_names = tuple(every[number] for number in np.searchsorted(classes, self.classes_))
        grown = self.network_.recipe.with_classes(len(classes))
        taken = take(grown, every, self.network_, add_classes=True)
        weights = taken.put_into(grown.initial_weights(self._seed()))
        shown = _class_names(classes)
        self.network_ = SpikingNetwork(taken.network, weights=weights, class_names=shown, initial=taken.initial)
        self._learning = None
        if self._memory is not None:
            self._memory = _with_classes(self._memory, np.searchsorted(classes, self.classes_), len(classes))
        self.classes_ = classes

    def _decide(self, X: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Indices of classes, (n,), and scores, (n, classes); warns where the network decides for no class."""
        images = self._images(X)
        decided = self.network_.decide(images)
        decisions = np.asarray(decided.decision)
        if silent := int(np.sum(decisions < 0)):
            given = f"they get the first class, {self.classes_[0]}"
            warnings.warn(f"the network stays silent for {silent} of {len(decisions)} images: {given}", stacklevel=3)
        return decisions.clip(min=0), np.asarray(decided.scores)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The label of each image, (n,)."""
        decisions, _ = self._decide(X)
        return self.classes_[decisions]

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Scores (n, classes), all 0 where the network stays silent; of two classes their difference, (n,)."""
        scores = self._decide(X)[1]
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def save(self, path: Path | str) -> None:
        """Writes an .npz file that `SpikingClassifier.load`, `snnjax.load` and `snnjax predict` read; no pickle."""
        check_is_fitted(self)
        about = dict(
            parameters=json.loads(json.dumps(self.get_params(), default=_plain)),
            classes=self.classes_.tolist(),
            dtype=self.classes_.dtype.str,
            largest=self.largest_,
            validation_scores=self.validation_scores_,
        )
        network = self.network_
        trained = Trained(
            network.spec,
            {name: np.asarray(weights) for name, weights in network.weights().items()},
            self.image_shape_,
            settings=dict(estimator=about),
            class_names=network.class_names,
            initial=network.initial,
        )
        trained.save(path)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The classifier that `save` wrote, or one of the network of a run, as `snnjax.load` takes it.

        The network of a run has its class names as labels, or 0, 1, ... if they have none. Raises as `snnjax.load`.
        """
        trained = Trained.read(path)
        network = trained.spiking_network()
        classes = trained.network.classes
        numbered = trained.class_names == names.numbered(classes)
        of_run: dict[str, Any] = dict(classes=np.arange(classes) if numbered else trained.class_names, largest=255)
        about = trained.settings.get("estimator", of_run)
        try:
            given: dict[str, Any] = about.get("parameters", {})
            parameters: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in given.items()}
            parameters["network"] = parameters.get("network") or network.recipe
            classifier = cls(**parameters)
            classifier.classes_ = np.array(about["classes"], about.get("dtype"))
            classifier.largest_ = float(about["largest"])
            classifier.validation_scores_ = list(about.get("validation_scores", []))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no classifier: {error}") from error
        classifier.network_ = network
        classifier._forget()
        classifier.image_shape_ = trained.image_shape
        classifier.n_features_in_ = math.prod(trained.image_shape)
        return classifier


def _shapes(memory: Memory | None) -> list[tuple[int, ...]]:
    return [np.shape(leaf) for leaf in jax.tree.leaves(memory)]


def _with_classes(memory: Memory, places: np.ndarray, classes: int) -> Memory:
    """A memory of so many classes, among which those that it had are at some places."""

    def at_places(values: Any) -> Any:
        grown = np.zeros((classes, *values.shape[1:]), values.dtype)
        grown[places] = values
        return grown

    return Memory(jax.tree.map(at_places, memory.inputs), at_places(memory.counts), memory.key)


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python; None in place of what JSON has not, such as a Network."""
    return value.item() if isinstance(value, np.generic) else None


def _class_names(labels: np.ndarray) -> tuple[str, ...]:
    """The labels as names of classes; none where they cannot be such."""
    try:
        return names.checked(map(str, labels.tolist()))
    except InputError:
        return ()

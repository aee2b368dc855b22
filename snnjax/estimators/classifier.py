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
from sklearn.utils.validation import check_is_fitted, column_or_1d

from snnjax.core import checks, files
from snnjax.core.errors import InputError, explained
from snnjax.data import Dataset, names
from snnjax.estimators.estimator import SpikingEstimator, restores_on_error
from snnjax.learners import SupervisedSTDP
from snnjax.networks import NETWORKS, ImageSpec, Network, SpikingNetwork
from snnjax.networks.decision import is_fitted
from snnjax.networks.model import check_decides, image_shape
from snnjax.runs.stream import Arrays, Json, Stream, check_learns, check_memory
from snnjax.runs.trained import Trained, weights_file
from snnjax.training.learning import Carry
from snnjax.training.online import Memory, StreamState
from snnjax.training.start import WarmStart

MANY = 20_000
"""Images of the first `partial_fit` from which on goupy2024_ncg learns better from each once than prototypes do."""


def _learns_image_by_image(classifier: Any) -> bool:
    """Whether its network has layers that learn from labels; raises AttributeError if its decision is fitted."""
    network = classifier.network_.network if hasattr(classifier, "network_") else classifier.network
    made = NETWORKS.get(network, network) if isinstance(network, str) else network
    if not isinstance(made, Network) and callable(made):
        try:
            made = made(ImageSpec())
        except (ValueError, TypeError):  # it is made for other images
            return True
    if not isinstance(made, Network) or (made.decision is not None and not is_fitted(made.decision)):
        return True
    got = "has no `decision`: take SpikingFeatures"
    if made.decision is not None:
        got = f"learns by no labels but a {type(made.decision).__name__}, which is fitted"
    raise AttributeError(f"`network` {got}")


@dataclasses.dataclass(eq=False, repr=False)
class SpikingClassifier(ClassifierMixin, SpikingEstimator):
    """A network that classifies images: (n, H, W) grey, (n, H, W, 3) colour, or (n, H * W) rows of pixels.

    `fit` does what `Trainer(network, data)` does. A tenth of the images of each class is held out, and the best epoch
    is selected on them, as in `snnjax train`. `partial_fit` does what `Stream` does. `score`, clones, pipelines,
    searches and cross-validation are those of scikit-learn.

    Attributes:
      network: a name of `NETWORKS`, a function of `ImageSpec` that returns a Network, or a Network. None: goupy2024_ncg
        in `fit`; ncg_prototypes in `partial_fit`, or goupy2024_ncg if its first call gets `classes` and at least 20,000
        images.
      epochs: the number of epochs of each stage, see `Settings`; None: the network's default.
      image_shape: (H, W) or (H, W, 3) of the images in X of (n, H * W); one number may be -1, as in `numpy.reshape`.
        None: they are grey squares, so that 64 pixels are 8x8.
      enlarge: whether images whose longer side has fewer than 24 pixels are enlarged to 24 pixels and centred in 28x28,
        as by `snnjax.data.digits`. A `network` that is a Network gets enlarged images only if it is made for 28x28.
      largest: the value of a white pixel; 0 is black. None: 1 if the training images lie in 0..1, and 255 if their
        largest pixel lies in 128..255. Otherwise it is their largest pixel, with a warning.
      hyperparameters: numbers of the network by path, see `Network.hyperparameters`.
      mirror: see `Settings`.
      update_batch: see `Settings`.
      random_state: the seed for the weights and the order of the images; None or a RandomState: a seed is drawn.
      verbose: whether a line is printed for each phase and for each epoch that learns from labels.
      validation_fraction: the share of the images of each class that is held out, below 1. 0: none, and the best epoch
        is selected by the accuracy on the training images.
      memory, replays: used by `partial_fit`, see `Stream`.
      network_: the `SpikingNetwork` that has learned.
      classes_: (classes,) the labels, sorted.
      validation_scores_: accuracy, after each epoch that learns from labels, on the images that the best epoch is
        selected on.
      image_shape_, largest_, n_features_in_: (H, W) or (H, W, 3), the value of a white pixel, and the number of pixels
        of an image in X.
      enlarged_: whether images are enlarged to 28x28 before the network gets them.

    Examples:
      >>> from snnjax.data import digits
      >>> from snnjax.estimators import SpikingClassifier
      >>> data = digits().subset(50, 10)
      >>> classifier = SpikingClassifier(epochs=(1, 1)).fit(data.train_images, data.train_labels)
      >>> classifier.predict(data.test_images).shape
      (10,)
    """

    validation_fraction: float = 0.1
    memory: int = 0
    replays: int = 0

    @restores_on_error
    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learns from images and their labels (n,), text or numbers.

        Raises InputError if pixels are not in 0..`largest`, if there is only one class, or if parameters do not fit.
        The classifier then stays as it was.
        """
        images, y = self._learned_images(X, y=y)
        check_classification_targets(y)
        classes = np.unique(y)
        labels = np.searchsorted(classes, y)
        _check_several("y", classes)
        data = Dataset("X", images, labels, images, labels, class_names=_class_names(classes), classes=len(classes))
        checks.number("validation_fraction", self.validation_fraction, 0, below=1)
        if self.validation_fraction:
            with explained("`validation_fraction` holds out a share of `X`"):
                # Not by `random_state`, so that networks of several seeds are compared on the same images.
                data = data.hold_out(self.validation_fraction, seed=0)
        network = self._network(data)
        with explained("`network` must decide, or take SpikingFeatures"):
            check_decides(network)
        trainer = self._trainer(network, data)
        state = trainer.run(trainer.initial_state())
        self.network_ = trainer.trained(state)
        self.classes_ = classes
        self.validation_scores_ = [record[data.tested]["accuracy"] for record in state.epochs]
        self._forget()
        return self

    def _forget(self) -> None:
        """Discards the state of `partial_fit`."""
        self._learning: tuple[Arrays, Json] | None = None  # as of `Stream.flatten`, which suits every back end
        self._places = 0  # of the memory

    @available_if(_learns_image_by_image)
    @restores_on_error
    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> Self:
        """Learns from images one by one, in their order, and from the labels (n,) of each, once.

        After `fit` or `load`, layers that learn from labels keep learning. Otherwise the first call creates a
        network: its other layers, and the parts that are fitted to images, learn from the X of this call without
        labels, and then stay as they are. Call it with several hundred images or more.

        `classes` are labels that will occur in later calls, in addition to those of y. Later calls may also contain
        labels that were not announced: the readout then gets neurons for them and keeps what it has learned of all
        other classes. Learners restart, and the memory is kept.

        Each image is learned once. Prototypes are made for this: after 100 of the 8x8 digits, ncg_prototypes classifies
        91.9 % of the remaining digits correctly, and goupy2024_ncg 61.3 %. If the first call contains five classes and
        each of five further calls one more class, the accuracy on the first five falls from 98.0 to 95.7 % with
        ncg_prototypes, and from 95.6 to 8.9 % with goupy2024_ncg, or from 97.2 to 92.8 % with `memory=20` and
        `replays=2`.

        Raises InputError in the cases of `fit`, if X of the first call contains fewer images than there are classes, if
        the type of the labels has changed, or if the readout cannot learn new classes. In all these cases the estimator
        stays as it was.
        """
        check_memory(self.memory, self.replays)
        new = not hasattr(self, "network_")
        if not new and self._places:
            checks.equal("memory", self.memory, self._places, "it must stay as in earlier calls")
        checked = self._learned_images if new else self._images
        images, y = checked(X, y=y)
        known = np.unique(y) if new else self.classes_
        y = _labels_like(known, y, "y")
        every = np.union1d(known, y)
        if classes is not None:
            # Without the conversion, NumPy's union of numbers and text would turn all labels into text.
            every = np.union1d(every, _labels_like(every, classes, "classes"))
        if new:
            many = classes is not None and len(images) >= MANY
            labels = np.searchsorted(every, y)
            self._begin(images, labels, every, "goupy2024_ncg" if many else "ncg_prototypes")
        carry, memory = self._earlier()
        if len(every) > len(self.classes_):
            memory = self._grow(every, memory)
            carry = None  # learners begin again
        stream = Stream(self.network_, self.memory, self.replays)
        fresh = stream.init(self._seed(), images if new else None)
        state = StreamState(carry or fresh.carry, memory or fresh.memory)
        numbers = np.searchsorted(self.classes_, y).astype(np.int32)
        learned = stream.learn(state, images, numbers)[1]
        self.network_ = stream.network(learned)
        self._learning = stream.flatten(learned)
        self._places = self.memory
        return self

    def _earlier(self) -> tuple[Carry | None, Memory | None]:
        """The state that earlier calls of `partial_fit` have left: the layers that learn, and the memory."""
        if self._learning is None:
            return None, None
        return self._stream().unflatten(*self._learning)

    def _stream(self) -> Stream:
        """A stream that can continue from the state that earlier calls of `partial_fit` have left."""
        return Stream(self.network_, self._places, min(self._places, 1))

    def _begin(self, images: np.ndarray, labels: np.ndarray, classes: np.ndarray, default: str) -> None:
        """Creates `network`, or the default network; its layers that do not decide learn from images."""
        _check_several("classes", classes)
        if len(images) < len(classes):
            problem = f"`X` of the first `partial_fit` must hold at least {len(classes)} images, got {len(images)}"
            raise InputError(f"{problem}: the layers before the readout learn from them")
        any_labels = np.arange(len(images)) % len(classes)
        data = Dataset("X", images, any_labels, images, any_labels, class_names=_class_names(classes))
        network = self._network(data, default)
        if network.labelled:  # for all other layers, images of some classes may be missing
            data = dataclasses.replace(data, train_labels=labels, test_labels=labels)
        # Checked before the features learn, which takes long, rather than after it.
        check_learns(network)
        self.network_ = self._learned_features(network, data)
        self.classes_ = classes
        self.validation_scores_ = []
        self._forget()

    def _grow(self, classes: np.ndarray, memory: Memory | None) -> Memory | None:
        """Adds neurons for new classes to the readout, which keeps what it has learned of the known classes.

        Returns the memory with places for the new classes.
        """
        start = self.network_
        rules = {type(conv.last_learner) for _, name, conv in start.network.layers() if name in start.network.deciding}
        if SupervisedSTDP in rules and not self.memory:
            advice = "begin with network='ncg_prototypes', or keep a `memory`"
            warnings.warn(
                f"the readout of {start.network.name} forgets classes while it learns new ones: {advice}", stacklevel=4
            )
        every = names.numbered(len(classes))
        places = np.searchsorted(classes, self.classes_)
        known = SpikingNetwork(
            start.network,
            weights=start.weights(),
            class_names=tuple(every[place] for place in places),
            initial=start.initial,
        )
        grown = start.untrained.with_classes(len(classes))
        warm_start = WarmStart.of(grown, every, known, add_classes=True)
        weights = warm_start.put_into(grown.initial_weights(self._seed()))
        self.network_ = SpikingNetwork(
            warm_start.network, weights=weights, class_names=_class_names(classes), initial=warm_start.initial
        )
        self.classes_ = classes
        return None if memory is None else _with_classes(memory, places, len(classes))

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
        """Scores (n, classes), all 0 if the network stays silent; for two classes their difference, (n,)."""
        scores = self._decide(X)[1]
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def save(self, path: Path | str) -> None:
        """Writes an .npz file, without pickle, that `SpikingClassifier.load`, `snnjax.load` and `snnjax predict` read.

        It contains the memory and the states of the learners, so that `partial_fit` continues as if the program had not
        stopped. If images are enlarged, `snnjax.load` and `snnjax predict` expect enlarged images of 28x28.
        """
        check_is_fitted(self)
        about: dict[str, Any] = dict(
            parameters=json.loads(json.dumps(self.get_params(), default=_plain)),
            classes=self.classes_.tolist(),
            dtype=self.classes_.dtype.str,
            image_shape=self.image_shape_,
            largest=self.largest_,
            memory=self._places,
            validation_scores=self.validation_scores_,
        )
        network = self.network_
        trained = Trained(
            network.network,
            {name: np.asarray(weights) for name, weights in network.weights().items()},
            image_shape(network.network, self.image_shape_[2:]),
            settings=dict(estimator=about),
            class_names=network.class_names,
            initial=network.initial,
        )
        arrays, meta = trained.contents()
        if self._learning is not None:
            learning, about_learning = self._learning
            arrays |= learning
            meta |= about_learning
        files.save_checkpoint(Path(path), arrays, meta)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """The classifier that `save` wrote, or a classifier with the network of a run, in any form of `snnjax.load`.

        For the network of a run, the labels are its class names, or 0, 1, ... if it has none. Raises as `snnjax.load`.
        """
        trained = Trained.read(path)
        network = trained.spiking_network()
        classes = trained.network.classes
        numbered = trained.class_names == names.numbered(classes)
        of_run: dict[str, Any] = dict(classes=np.arange(classes) if numbered else trained.class_names, largest=255)
        about = trained.settings.get("estimator", of_run)
        with explained(f"{path} holds no classifier", AttributeError, KeyError, TypeError, ValueError):
            given: dict[str, Any] = about.get("parameters", {})
            parameters: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in given.items()}
            parameters["network"] = parameters.get("network") or network.untrained
            classifier = cls(**parameters)
            classifier.classes_ = np.array(about["classes"], about.get("dtype"))
            classifier.image_shape_ = tuple(map(int, about.get("image_shape", trained.image_shape)))
            classifier.enlarged_ = classifier.image_shape_ != trained.image_shape
            classifier.largest_ = float(about["largest"])
            classifier.validation_scores_ = list(about.get("validation_scores", []))
            classifier.n_features_in_ = math.prod(classifier.image_shape_)
            classifier.network_ = network
            classifier._forget()
            arrays, meta = files.load_checkpoint(weights_file(path))
            if "stream" in meta:
                classifier._places = int(about["memory"])
                classifier._learning = arrays, meta
                stream = classifier._stream()
                classifier._learning = stream.flatten(stream.unflatten(arrays, meta))
        return classifier


def _check_several(name: str, classes: np.ndarray) -> None:
    """Raises InputError if there are no two classes to tell apart."""
    if len(classes) < 2:
        got = f"one class: {classes[0]}" if len(classes) else "none"
        raise InputError(f"`{name}` must hold at least 2 classes, got {got}")


def _labels_like(known: np.ndarray, labels: ArrayLike, name: str) -> np.ndarray:
    """Labels in the type of the known ones, or in a wider integer type; raises InputError for any other type."""
    given = column_or_1d(labels)
    check_classification_targets(given)
    text = known.dtype.kind in "OUS"
    narrow = known.dtype.kind in "iu" and np.can_cast(known.dtype, np.int64)  # without loss: not of uint64
    same = given
    try:
        # NumPy's union of signed and unsigned 64-bit integers holds floats, so labels of another kind are converted
        # first.
        if given.dtype.kind != known.dtype.kind:
            with np.errstate(invalid="ignore"):
                same = given.astype(known.dtype.kind if text else np.int64 if narrow else known.dtype)
        fit = text == (given.dtype.kind in "OUS")
    except (ValueError, TypeError, OverflowError):
        fit = False
    for label, kept in zip(given.tolist(), same.tolist(), strict=True):
        if not fit or label != kept:
            like = f"{known.tolist()[0]!r} of {known.dtype}"
            raise InputError(f"`{name}` must hold labels like {like}, got {label!r} of {given.dtype}")
    return same


def _with_classes(memory: Memory, places: np.ndarray, classes: int) -> Memory:
    """A memory with this number of classes, in which the previous classes have the given indices."""

    def at_places(values: Any) -> Any:
        grown = np.zeros((classes, *values.shape[1:]), values.dtype)
        grown[places] = values
        return grown

    return Memory(jax.tree.map(at_places, memory.inputs), at_places(memory.counts), memory.key)


def _plain(value: Any) -> Any:
    """A NumPy number as a Python number; None for a value that JSON cannot represent, such as a Network."""
    return value.item() if isinstance(value, np.generic) else None


def _class_names(labels: np.ndarray) -> tuple[str, ...]:
    """The labels as class names; none if they cannot be class names."""
    try:
        return names.checked(map(str, labels.tolist()))
    except InputError:
        return ()

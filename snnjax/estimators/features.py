"""A transformer whose features are the outputs of layers that learn without labels."""

import dataclasses
import math
from typing import Any, Self

import numpy as np
from jax.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin

from snnjax.core import checks
from snnjax.data import Dataset
from snnjax.estimators.estimator import SpikingEstimator, restores_on_error


@dataclasses.dataclass(eq=False, repr=False)
class SpikingFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SpikingEstimator):
    """Transforms images to features for a classifier: the output of the layers before the first supervised one.

    If the network has no decision (`decision=None`), or a fitted one, these are all layers.

    Attributes:
      network, epochs, image_shape, enlarge, largest, hyperparameters, mirror: as of `SpikingClassifier`.
      update_batch, random_state, verbose: as of `SpikingClassifier`.
      network_: the `SpikingNetwork`; its later layers have not learned.
      image_shape_, largest_, n_features_in_, enlarged_: as of `SpikingClassifier`.

    Examples:
      >>> from snnjax.data import digits
      >>> from snnjax.estimators import SpikingFeatures
      >>> data = digits().subset(50, 10)
      >>> features = SpikingFeatures(epochs=(1, 1)).fit(data.train_images)
      >>> features.transform(data.test_images).shape
      (10, 4608)
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @restores_on_error
    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learns from images without their labels; accepts and raises the same as `SpikingClassifier.fit`."""
        images = self._learned_images(X)
        labels = np.zeros(len(images), np.int32)
        data = Dataset("X", images, labels, images, labels)
        network = dataclasses.replace(self._network(data), classes=1)
        advice = "take SpikingClassifier, and its `network_.features(images)`"
        checks.equal(f"layers of {network.name} that learn from labels", network.labelled, (), advice)
        self.network_ = self._learned_features(network, data)
        count = network.first_supervised
        if not network.deciding:
            self._stages = None
            shape = network.evidence_shape
        elif count == self.network_.model.last:
            self._stages = None
            shape = network.input_shapes[count]
        else:
            self._stages = count
            shape = network.shapes[count]
        self._n_features_out = math.prod(shape)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Features (n, F * H * W) float32: 1 - t / T for a neuron that fires at step t, 0 for a silent neuron.

        If the network's decision is fitted to potentials, they are these potentials.
        """
        images = self._images(X)
        latencies = np.asarray(self.network_.features(images, self._stages))
        if self.network_.network.reads_potentials:
            return latencies.reshape(len(latencies), -1)
        return 1 - latencies.reshape(len(latencies), -1) / np.float32(self.network_.network.time_steps)

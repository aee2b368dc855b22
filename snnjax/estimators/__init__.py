"""Estimators for scikit-learn: networks that classify images, and layers that transform images to features.

They do what `Trainer` does, with labels, pixels and arrays in the forms that users of scikit-learn have.
"""

from snnjax.core import public
from snnjax.estimators.classifier import SpikingClassifier as SpikingClassifier
from snnjax.estimators.features import SpikingFeatures as SpikingFeatures

__all__ = public.names(vars())

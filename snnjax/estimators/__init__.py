"""Estimators of scikit-learn: networks that classify images, and layers that make features of them.

They do what `Trainer` does, on labels, pixels and arrays as users of scikit-learn have them.
"""

from snnjax.core import public
from snnjax.estimators.classifier import SpikingClassifier as SpikingClassifier
from snnjax.estimators.features import SpikingFeatures as SpikingFeatures

__all__ = public.names(vars())

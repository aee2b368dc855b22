"""A linear support vector machine as the decision of a network."""

import dataclasses
import math
import warnings
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.components import component, fitted
from snnjax.core.errors import InputError
from snnjax.kernels import Spikes, exact
from snnjax.networks.decision import votes_of

_ROWS = 1000  # images that become sparse at once
_NEVER = np.finfo(np.float32).min  # margin of a class without images


@component
class LinearSVM:
    """The class of the largest margin of a linear support vector machine, fitted to what the last stage puts out.

    A neuron counts as 1 - t, t = latency / T: the mean over the T steps of its spike wave, which is 1 from its spike
    on; 0 where silent. SpykeTorch gives the machine who fired instead, the maximum of the wave over time. `LinearSVC`
    of scikit-learn fits it, each class against the rest, with a squared hinge loss, from sparse inputs: some 28 bytes
    for each spike of the training images. The score of a class is log(1 + exp(margin)); those of an image without any
    spike are 0, and they count for no class. C = 2.4 is that of SpykeTorch.

    Attributes:
      C: how much errors count against the size of the coefficients.
      tolerance: at which the fit stops.
      iterations: passes over the training images, at most; more passes change little.
      coefficients: (classes, F, H, W) float32; 0 before the fit.
      intercepts: (classes,) float32; 0 before the fit.
    """

    C: float = 2.4
    tolerance: float = 0.1
    iterations: int = 100
    coefficients: np.ndarray | float = fitted(default=0.0)
    intercepts: np.ndarray | float = fitted(default=0.0)
    timed: ClassVar[bool] = True

    def check(self) -> None:
        """Raises InputError for invalid settings."""
        for name in ("C", "tolerance"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise InputError(f"`{name}` must be finite and above 0, got {value}")
        checks.integer("iterations", self.iterations, 1)
        shapes = np.shape(self.coefficients), np.shape(self.intercepts)
        if shapes != ((), ()) and (len(shapes[0]) != 4 or shapes[1] != shapes[0][:1]):
            raise InputError(f"`coefficients` must be (classes, F, H, W) and `intercepts` (classes,), got {shapes}")

    @property
    def fitted(self) -> bool:
        """Whether `fit` has made it."""
        return np.ndim(self.coefficients) > 0

    def fit(self, latencies: np.ndarray, labels: np.ndarray, classes: int, time_steps: int) -> "LinearSVM":
        """The machine fitted to latencies (N, F, H, W) and labels (N,); it never decides for a class without images."""
        from scipy import sparse
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        coefficients = np.zeros((classes, *latencies.shape[1:]), np.float32)
        intercepts = np.full(classes, _NEVER, np.float32)
        if len(known := np.unique(labels)) == 1:
            intercepts[known] = 0
            return dataclasses.replace(self, coefficients=coefficients, intercepts=intercepts)
        flat = latencies.reshape(len(latencies), -1)
        pieces = (1 - flat[at : at + _ROWS] / time_steps for at in range(0, len(flat), _ROWS))
        inputs = sparse.vstack([sparse.csr_array(each) for each in pieces], format="csr")
        machine = LinearSVC(C=self.C, tol=self.tolerance, max_iter=self.iterations, dual=True, random_state=0)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            machine.fit(inputs, labels)
        signs = np.array([[-1], [1]]) if len(known) == 2 else np.ones((1, 1))  # one machine tells two classes apart
        coefficients[known] = (signs * machine.coef_).reshape(-1, *latencies.shape[1:])
        intercepts[known] = (signs[:, 0] if len(known) == 2 else 1) * machine.intercept_
        return dataclasses.replace(self, coefficients=coefficients, intercepts=intercepts)

    def scores(self, spikes: Spikes, classes: int) -> jax.Array:
        """(classes,) float32, above 0 unless all are silent."""
        time: jax.Array = spikes.time  # type: ignore[assignment]
        # The same margins whatever the order in which a device adds them up.
        sums = exact.product(jnp.asarray(self.coefficients).reshape(classes, -1), (1 - time).ravel())
        return jnp.where(time.min() < 1, jax.nn.softplus(sums + self.intercepts), 0).astype(jnp.float32)

    def decide(self, scores: jax.Array) -> jax.Array:
        """The class of the largest score, () int32."""
        return votes_of(scores)[0]

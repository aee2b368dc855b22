"""Decisions of a network, from the spikes of its last stage."""

import dataclasses
import warnings
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.core import checks
from snnjax.core.components import component, fitted, number, overrides, static
from snnjax.core.errors import InputError
from snnjax.kernels import Spikes, exact


class Decision(Protocol):
    """A component that decides from the spikes of the last stage, with two pure functions: `scores` and `decide`.

    Each layer of the last stage has the same number of features for each class, in order. A decision with an additional
    method `fit` is fitted to the output of the last stage: see `FittedDecision`.

    Attributes:
      timed: whether it depends on spike times. `Spikes` then have times, and potentials of silent neurons are those of
        the last step. Otherwise thresholds are ignored, and neurons with a potential above 0 fire at the last step,
        which needs 1/T of the work.
    """

    timed: ClassVar[bool]

    def scores(self, spikes: Spikes, classes: int) -> jax.Array:
        """The score of each class, (classes,) finite float32 >= 0, from the `Spikes` of one layer, (F, H, W).

        The layer votes for the class with the highest score, in a tie for the lowest class; for none if all are 0.
        """

    def decide(self, scores: jax.Array) -> jax.Array:
        """The class, () int32, or -1 for none, from the scores of all deciding layers, (layers, classes)."""


class FittedDecision(Decision, Protocol):
    """A decision that is fitted to the output of the last stage for the training images, once all layers have learned.

    Its attribute `reads` names one of three inputs. Without this attribute it reads spikes.

    - `SPIKES`, "spikes": the pooled outputs of the last stage. `scores` gets `Spikes` of (F, H, W), with times, and
      potentials of 0.
    - `POTENTIALS`, "potentials": the potentials of the last stage's neurons at the last step, as if their thresholds
      were infinite, or the largest of each window if the stage has a `pool`. `scores` gets `Spikes` of (F, H, W) with
      these potentials, none of which has fired.
    - `MAXIMA`, "maxima": the largest potential of each feature over its whole map: `Spikes` of (F, 1, 1).

    Attributes:
      fitted: whether it has been fitted. Fields that `fit` determines are declared with `snnjax.networks.fitted`, and
        are saved with the network. Before the fit they contain a number such as 0.0, so that this attribute may be
        `np.ndim(self.coefficients) > 0`.
    """

    @property
    def fitted(self) -> bool: ...

    def fit(self, values: np.ndarray, labels: np.ndarray, classes: int, time_steps: int) -> "FittedDecision":
        """The same component with fitted arrays, given its input for the training images; no other field may change.

        `values` are (N, F, H, W): latencies for spikes, unsigned integers with `time_steps` for silent neurons; float32
        for potentials; float32 with H = W = 1 for maxima. `labels` are (N,) int32. The same data must give the same
        arrays, because a run may fit twice.
        """


SPIKES, POTENTIALS, MAXIMA = READS = "spikes", "potentials", "maxima"
"""What a fitted decision may read of the last stage; see `FittedDecision`."""


def check_reads(decision: Any) -> None:
    """Raises InputError unless a fitted decision reads one of `READS`."""
    checks.one_of("reads", reads_of(decision), READS)


def reads_of(decision: Any) -> str:
    """The input of a fitted decision, one of `READS`."""
    return getattr(decision, "reads", SPIKES)


def is_fitted(decision: Decision | None) -> bool:
    """Whether a decision is a `FittedDecision`, fitted or not."""
    return hasattr(decision, "fit")


def unfitted(part: Any) -> bool:
    """Whether an encoder or a decision must be fitted before it can be used."""
    return not getattr(part, "fitted", True)


@component
class Majority:
    """Each layer votes for the class of its strongest neuron.

    If at least two layers agree, the class with the most votes wins, in a tie the lowest class. Otherwise the vote of
    the middle layer decides: that with index L // 2 of L layers, from 0. With one layer, the class of its strongest
    neuron is the decision.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.networks import Majority
      >>> scores = jnp.array([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0], [0.0, 1.0, 4.0]])  # of three layers, for three classes
      >>> int(Majority().decide(scores))  # the layers vote for 0, 2 and 2
      2
    """

    timed: ClassVar[bool] = False
    voters: ClassVar[int] = 1000

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _require_all(cls)

    def scores(self, spikes: Spikes, classes: int) -> jax.Array:
        """The largest potential among the features of each class, (classes,) float32."""
        return spikes.potential.reshape(classes, -1).max(axis=1)

    def decisive_spikes(self, layer: Any, latencies: jax.Array, *, scores: bool) -> Spikes:
        """`Spikes` of (S, classes, 1, 1) that determine the scores of a layer for stimuli (S, C, H, W).

        If `scores` is false, they may determine only the highest score.
        """
        return layer.strongest_of_classes(latencies, only_largest=not scores)

    def decide(self, scores: jax.Array) -> jax.Array:
        """The class with the most votes, () int32."""
        return majority(votes_of(scores), scores.shape[1])


@component
class Earliest:
    """The class of the earliest neuron; ties are broken by the largest potential, then by the lowest class.

    The score of a class is 1 - t for the time t of its earliest neuron. Units in the last place are added to order
    classes with equal times.

    Attributes:
      fallback: whether the largest potential at the last step decides if no neuron fires; otherwise there is no
        decision.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.kernels import Spikes
      >>> from snnjax.networks import Earliest
      >>> latency = jnp.array([6, 3, 15]).reshape(3, 1, 1)  # of one neuron per class; 15: silent
      >>> spikes = Spikes(latency, potential=jnp.zeros((3, 1, 1)), time=latency / 15)
      >>> scores = Earliest().scores(spikes, classes=3)
      >>> int(Earliest().decide(scores[None]))  # of the scores of a single layer
      1
    """

    fallback: bool = static(default=False)
    timed: ClassVar[bool] = True
    voters: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _require_all(cls)

    def scores(self, spikes: Spikes, classes: int) -> jax.Array:
        """(classes,) float32, 0 for silent classes; with `fallback`, these have small scores in order of potential."""
        time, potential = (x.reshape(classes, -1) for x in (spikes.time, spikes.potential))  # type: ignore[union-attr]
        first = time.min(axis=1)
        largest = jnp.where(time == first[:, None], potential, -jnp.inf).max(axis=1)
        beaten = jnp.sum((first[:, None] == first[None]) & (largest[:, None] > largest[None]), axis=1, dtype=jnp.int32)
        score = jax.lax.bitcast_convert_type((1 - first).astype(jnp.float32), jnp.int32) + beaten
        fired = jax.lax.bitcast_convert_type(score, jnp.float32)
        return jnp.where(first < 1, fired, jnp.maximum(largest, 0) * _FAINT if self.fallback else 0)

    def decisive_spikes(self, layer: Any, latencies: jax.Array, *, scores: bool) -> Spikes:
        """`Spikes` (S, ...) that determine the scores for stimuli (S, C, H, W), with equally many neurons per class."""
        return layer.earliest_of_classes(latencies)

    def decide(self, scores: jax.Array) -> jax.Array:
        """The class of the earliest neuron of all deciding layers, () int32."""
        return votes_of(scores.max(axis=0, keepdims=True))[0]


_FAINT = 2.0**-60  # brings potentials below the score 2**-24 of the latest spike, in their order


# Images that become sparse at once: as float64, the latencies of all of them would take eight times their memory.
_ROWS = 1000
_NEVER = np.finfo(np.float32).min  # margin of a class without images


@component
class LinearSVM:
    """A linear support vector machine (SVM) that is fitted to the output of the last stage; the largest margin decides.

    By default the SVM reads spikes. The value of a neuron is 1 - t, with t = latency / T, or 0 if it is silent. This is
    the mean over the T steps of its spike wave, which is 1 from the spike on. In SpykeTorch, the SVM reads the maximum
    of the wave over time instead, which only says whether the neuron fired.

    In Kheradpisheh et al. 2018 ([arXiv 1611.01421](https://arxiv.org/abs/1611.01421)), the neurons of the last layer
    have an infinite threshold in tests, and the SVM reads the largest potential of each map: `reads="maxima"`. With
    `reads="potentials"` it reads the potential of each neuron, or the largest one in each window of the stage's `pool`.
    Before the fit, potentials are divided by the largest one for the training images, and after the fit the
    coefficients are, so that C has the same meaning for all layers.

    The SVM is fitted by scikit-learn's `LinearSVC`, one class against the rest, with a squared hinge loss. Its inputs
    are sparse: about 28 bytes for each non-zero value of the training images. The score of a class is
    log(1 + exp(margin)). If no neuron has fired, or all potentials are 0, all scores are 0, and there is no decision.
    The default C = 2.4 is that of SpykeTorch.

    Attributes:
      reads: "spikes", "potentials" or "maxima", as described for `FittedDecision`.
      C: the weight of errors relative to the size of the coefficients.
      tolerance: the tolerance at which the fit stops; a hundredth of it for potentials if there are more images than
        inputs.
      iterations: the largest number of passes over the training images; more passes change little.
      coefficients: (classes, F, H, W) float32; 0 before the fit.
      intercepts: (classes,) float32; 0 before the fit.

    Examples:
      >>> from snnjax import STDP, Conv, Network, stage
      >>> from snnjax.networks import LinearSVM
      >>> features = stage(Conv(32, kernel=5, threshold=10, learners=STDP()))
      >>> network = Network("maxima", (2, 28, 28), classes=10, stages=(features,), decision=LinearSVM(reads="maxima"))
      >>> network.evidence_shape  # of what it reads for each image
      (32, 1, 1)
    """

    C: float = number(default=2.4, above=0)
    tolerance: float = number(default=0.1, above=0)
    iterations: int = number(default=100, minimum=1)
    coefficients: np.ndarray | float = fitted(default=0.0)
    intercepts: np.ndarray | float = fitted(default=0.0)
    reads: str = static(default=SPIKES, one_of=READS)
    timed: ClassVar[bool] = True

    def check(self) -> None:
        shapes = np.shape(self.coefficients), np.shape(self.intercepts)
        if shapes != ((), ()) and (len(shapes[0]) != 4 or shapes[1] != shapes[0][:1]):
            raise InputError(f"`coefficients` must be (classes, F, H, W) and `intercepts` (classes,), got {shapes}")

    @property
    def fitted(self) -> bool:
        """Whether it has been fitted."""
        return np.ndim(self.coefficients) > 0

    def fit(self, values: np.ndarray, labels: np.ndarray, classes: int, time_steps: int) -> "LinearSVM":
        """The SVM fitted to inputs (N, F, H, W) and labels (N,); a class without images is never chosen."""
        from scipy import sparse

        coefficients = np.zeros((classes, *values.shape[1:]), np.float32)
        intercepts = np.full(classes, _NEVER, np.float32)
        present = np.unique(labels)
        if len(present) == 1:
            intercepts[present] = 0
            return dataclasses.replace(self, coefficients=coefficients, intercepts=intercepts)
        flat = values.reshape(len(values), -1)
        largest = 1.0 if self.reads == SPIKES else float(np.abs(flat).max()) or 1.0

        def inputs_of(values: np.ndarray) -> np.ndarray:
            return 1 - values / time_steps if self.reads == SPIKES else values / largest

        pieces = (inputs_of(flat[start : start + _ROWS]) for start in range(0, len(flat), _ROWS))
        inputs = sparse.vstack([sparse.csr_array(piece) for piece in pieces], format="csr")
        machine = self._fit_machine(inputs, labels)
        signs = np.array([[-1], [1]]) if len(present) == 2 else np.ones((1, 1))  # one machine separates two classes
        coefficients[present] = (signs * machine.coef_ / largest).reshape(-1, *values.shape[1:])
        intercepts[present] = (signs[:, 0] if len(present) == 2 else 1) * machine.intercept_
        return dataclasses.replace(self, coefficients=coefficients, intercepts=intercepts)

    def _fit_machine(self, inputs: Any, labels: np.ndarray) -> Any:
        """scikit-learn's machine fitted to sparse inputs (N, F H W)."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        # The primal problem is faster with few inputs. Its fit compares the gradient with that at the start, so that a
        # tolerance of 0.1 would stop it before anything is learned from potentials that are much alike.
        dual = self.reads == SPIKES or len(labels) <= inputs.shape[1]
        tolerance = self.tolerance if dual else self.tolerance / 100
        # A fixed seed, since a resumed run may fit a second time and must get the same coefficients.
        machine = LinearSVC(C=self.C, tol=tolerance, max_iter=self.iterations, dual=dual, random_state=0)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            return machine.fit(inputs, labels)

    def scores(self, spikes: Spikes, classes: int) -> jax.Array:
        """(classes,) float32; the largest is above 0 unless all inputs are silent."""
        values: jax.Array = spikes.potential
        if self.reads == SPIKES:
            values = 1 - spikes.time  # type: ignore[operator,assignment]
        # The same margins whatever the order in which a device adds them up.
        sums = exact.product(jnp.asarray(self.coefficients).reshape(classes, -1), values.ravel())
        margins = sums + self.intercepts
        scores = jax.nn.softplus(margins)
        # Margins below some -100 give 0; where all do, their order decides.
        order = 1 + jnp.sum(margins[:, None] > margins[None], axis=1)
        scores = jnp.where(scores.max() > 0, scores, order * jnp.finfo(jnp.float32).tiny)
        return jnp.where(jnp.any(values != 0), scores, 0).astype(jnp.float32)

    def decide(self, scores: jax.Array) -> jax.Array:
        """The class with the highest score, () int32."""
        return votes_of(scores)[0]


def _of_all_neurons(decision: Any, layer: Any, latencies: jax.Array, *, scores: bool) -> Spikes:
    """The `Spikes` of all neurons, (S, F, H', W')."""
    return jax.vmap(layer.deciding_spikes)(latencies)


def decides_by_votes(decision: Decision | None, layers: int) -> bool:
    """Whether a decision with this number of deciding layers depends only on their votes, through `majority`."""
    return layers <= getattr(decision, "voters", 0)


def _require_all(kind: Any) -> None:
    """Makes a subclass read all spikes if it overrides `scores` or `decide`, since these may depend on any of them."""
    if overrides(kind, {"scores", "decide"}, "voters"):
        kind.voters = 0
    if overrides(kind, {"scores"}, "decisive_spikes"):
        kind.decisive_spikes = _of_all_neurons


def majority(votes: jax.Array, classes: int) -> jax.Array:
    """The decision of `Majority`, () int32, from votes (layers,) int32."""
    counts = jnp.sum(votes[:, None] == jnp.arange(classes)[None], axis=0)
    middle = votes[votes.shape[0] // 2]
    return jnp.where(counts.max() >= 2, jnp.argmax(counts).astype(middle.dtype), middle)


def votes_of(scores: jax.Array) -> jax.Array:
    """The vote of each deciding layer, (layers,) int32, -1 if it is silent, from scores (layers, classes)."""
    return jnp.where(scores.max(axis=1) > 0, jnp.argmax(scores, axis=1), -1).astype(jnp.int32)


class Decided(NamedTuple):
    """The decision on one stimulus.

    Attributes:
      decision: () int32, the class, -1 if the network stays silent.
      votes: (deciding layers,) int32, the class that each layer votes for, -1 if it is silent.
      scores: (classes,) float32, the sum over the deciding layers.
    """

    decision: jax.Array
    votes: jax.Array
    scores: jax.Array


def decide(decision: Decision | None, spikes: list[Spikes], classes: int) -> Decided:
    """The decision on one stimulus from the `Spikes` of each deciding layer; None decides nothing."""
    if decision is None:
        return Decided(jnp.int32(-1), jnp.zeros(0, jnp.int32), jnp.zeros(0, jnp.float32))
    scores = jnp.stack([decision.scores(layer_spikes, classes) for layer_spikes in spikes])
    return Decided(decision.decide(scores), votes_of(scores), scores.sum(axis=0))

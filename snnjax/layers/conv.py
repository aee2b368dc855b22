"""Descriptions of layers: their geometry, neurons, competition and learners."""

import dataclasses
import math
from typing import Any, TypeGuard

import jax
import numpy as np

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.core.components import check_component, component, number, static
from snnjax.core.errors import InputError, shown, wrong_type
from snnjax.core.paths import leaves
from snnjax.kernels import Spikes, Winners
from snnjax.layers.pool import map_size
from snnjax.layers.ramp import Ramp, Standardise


@component
class WTA:
    """Winner-take-all: selects one feature at each position, and then up to k winners with distinct features.

    Both prefer the earliest neurons, and the strongest among equally early ones, as `kernels.strongest_feature` and
    `kernels.k_winners` do.

    Attributes:
      winners: k, the maximum number of neurons that learn from one stimulus.
      radius: the radius of lateral inhibition around a winner, in neurons; 0 means no lateral inhibition.

    Examples:
      >>> import jax.numpy as jnp
      >>> from snnjax.kernels import Spikes
      >>> from snnjax.layers import WTA
      >>> latency = jnp.array([[[2, 9]], [[4, 3]], [[9, 9]]], jnp.uint8)
      >>> winners = WTA(winners=3)(Spikes(latency, jnp.ones(latency.shape)), time_steps=9)
      >>> winners.feature.tolist()  # feature 2 is silent
      [0, 1, -1]
    """

    winners: int = static(default=1, minimum=1)
    radius: int = number(default=0, minimum=0)

    def __call__(self, spikes: Spikes, *, time_steps: int) -> Winners:
        """Maps `Spikes` of (F, H, W) to `Winners` of (k,)."""
        strongest = kernels.strongest_feature(spikes, time_steps=time_steps)
        return kernels.k_winners(strongest, k=self.winners, radius=self.radius, time_steps=time_steps)


def is_wta(competition: Any) -> TypeGuard[WTA]:
    """Whether the competition selects the winners as `WTA` does; a subclass may select them differently."""
    return isinstance(competition, WTA) and type(competition).__call__ is WTA.__call__


@component
class Conv:
    """A convolutional layer, whose neurons fire in the window of their inputs or, with a `ramp`, in the next window.

    Attributes:
      features: F, the number of feature maps.
      kernel: rows and columns of the kernel, or one integer for both.
      padding: rows and columns added at each edge of the input. They are silent; in a layer with a `ramp`, they reflect
        the input at its edge.
      stride: input rows and columns between neighbouring neurons.
      threshold: the firing threshold, or an array (F,) with one threshold per feature. With None, as in a deciding
        layer, neurons with a potential above 0 fire at the last time step. In a layer with a `ramp`, it is subtracted
        from the potentials, and None means 0.
      fractional: whether spikes of a deciding layer have times within a time step, as in `kernels.timed_spikes`.
      competition: the component that selects the neurons that may learn. It is called like `WTA`, and maps `Spikes` to
        `Winners` of distinct features.
      learners: one learner, or a tuple of learners with the unsupervised ones first.
      output_padding: silent rows and columns added to the output, so that branches of different size can be joined.
      weight_mean: the mean of the initial weights, which are normally distributed.
      weight_std: the standard deviation of the initial weights.
      weight_range: the lowest and the highest initial weight if these are uniformly distributed; otherwise None.
      ramp: a `Ramp` if neurons fire in the window after that of their inputs; None if they fire in the same window.
      standardise: a `Standardise` for the inputs of a layer with a `ramp`; None if they are not standardised.
      weights: fixed weights, (F, C, kh, kw) float32, of a layer without learners; with None, random initial weights are
        drawn.

    Examples:
      >>> from snnjax.layers import WTA, Conv
      >>> from snnjax.learners import STDP
      >>> conv = Conv(32, kernel=5, stride=2, threshold=15, competition=WTA(5, radius=3), learners=STDP())
      >>> conv.output_size((28, 28))
      (12, 12)
    """

    features: int = static(minimum=1)
    kernel: Pair = static(minimum=1)
    padding: Pair = static(default=0, minimum=0)
    stride: Pair = static(default=1, minimum=1)
    threshold: float | np.ndarray | None = None
    fractional: bool = static(default=False)
    competition: Any = WTA()
    learners: Any = ()
    output_padding: Pair = static(default=0, minimum=0)
    weight_mean: float = number(default=0.8)
    weight_std: float = number(default=0.05, minimum=0)
    ramp: Ramp | None = None
    standardise: Standardise | None = None
    weights: np.ndarray | None = static(default=None)
    weight_range: tuple[float, float] | None = None

    def check(self) -> None:
        checks.threshold(self.threshold, self.features)
        if self.fractional and self.threshold is not None:
            checks.number("threshold of a `fractional` layer", self.threshold, 0, arrays=True)
        if self.weight_range is not None:
            self._check_weight_range()
        check_component("competition", self.competition, "__call__")
        if isinstance(self.competition, WTA):
            winners = self.competition.winners
            checks.integer("winners of the competition", winners, 1, self.features, why="the layer's features")
        for learner in self.each_learner:
            check_component("learners", learner)
            if not hasattr(learner, "own_thresholds"):  # as `snnjax.Learner` has, which layers cannot import
                kind = type(learner).__name__
                expected = "instances of classes that derive from snnjax.Learner"
                raise wrong_type("learners", expected, learner, f"class {kind}(snnjax.Learner)")
        checks.instance("standardise", self.standardise, Standardise | None, "Standardise(...) or None")
        self._check_weights()
        checks.instance("ramp", self.ramp, Ramp | None, "Ramp(...) or None")
        if self.ramp is not None:
            self._check_ramp()
        else:
            checks.equal("standardise of a layer without a `ramp`", self.standardise, None, "it has no effect")

    def _check_weight_range(self) -> None:
        """Raises InputError unless `weight_range` is a range, and neither mean nor standard deviation are given."""
        given: Any = self.weight_range
        numbers = isinstance(given, tuple) and all(isinstance(number, float | np.ndarray) for number in given)
        if not (numbers and len(given) == 2 and -math.inf < given[0] < given[1] < math.inf):
            raise InputError(f"`weight_range` must be (lowest, highest), finite numbers, got {shown(given)}")
        self.check_idle("a layer with a `weight_range`", "weight_mean", "weight_std")

    def _check_weights(self) -> None:
        """Raises InputError if the given weights do not fit, or if a learner would change them."""
        if self.weights is None:
            return
        checks.array("weights", self.weights, "F C kh kw", "floats")
        self.check_shape(self.weights)
        checks.number("weights", self.weights, arrays=True)
        checks.equal("learners of a layer with `weights`", self.learners, (), "such a layer does not learn")

    def check_shape(self, weights: Any) -> None:
        """Raises InputError unless weights have the shape (F, C, kh, kw) for some number C of input maps."""
        rows, columns = checks.pair("kernel", self.kernel, 1)
        if (weights.shape[0], *weights.shape[2:]) != (self.features, rows, columns):
            expected = f"({self.features}, C, {rows}, {columns})"
            raise InputError(f"`weights` must have shape {expected}, got {weights.shape}")

    def _check_ramp(self) -> None:
        """Raises InputError if a layer with a ramp has settings that apply only to layers without a ramp."""
        self.check_idle("a layer with a `ramp`", "fractional", "competition")
        for learner in self.each_learner:
            if not (learner.minibatch_size or learner.ramped):
                got = f"got {type(learner).__name__}, which learns from spikes (`minibatch_size` 0)"
                raise InputError(f"`learners` of a layer with a `ramp` must be such as SoftHebb, {got}")

    def check_idle(self, name: str, *fields: str) -> None:
        """Raises InputError if a field that has no effect in this kind of layer, `name`, does not have its default."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for field in fields:
            value = getattr(self, field)
            if isinstance(value, np.ndarray | jax.Array) or value not in (defaults[field], (defaults[field],) * 2):
                raise InputError(f"`{field}` of {name} must be {defaults[field]}: {value} has no effect")

    def drawn_weights(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Random initial weights, float32: uniformly distributed if there is a `weight_range`, or else normally."""
        if self.weight_range is None:
            weights = random.normal(self.weight_mean, self.weight_std, shape)
        else:
            weights = random.uniform(*self.weight_range, shape)
        return weights.astype(np.float32)

    @property
    def each_learner(self) -> tuple[Any, ...]:
        """The learners in order."""
        return self.learners if isinstance(self.learners, tuple) else (self.learners,)

    @property
    def last_learner(self) -> Any:
        """The last learner: the supervised one, if the layer has one."""
        return self.each_learner[-1]

    @property
    def ramped(self) -> bool:
        """Whether the layer has a `ramp`, so that its neurons fire in the window after that of their inputs."""
        return self.ramp is not None

    @property
    def minibatch(self) -> Any:
        """The first learner that learns from whole minibatches, or None if there is none."""
        return next((learner for learner in self.each_learner if learner.minibatch_size), None)

    def prepared(self, channels: int, classes: int) -> "Conv":
        """The description for `channels` input maps and a number of classes, with arrays for all learned parameters.

        These are a threshold for each feature, (F,) float32, if a learner needs it, the moments of the inputs, and the
        arrays that the learners keep. Given weights are removed, because a layer holds its weights itself.
        """
        learners = tuple(learner.prepared(self.features, classes) for learner in self.each_learner)
        standardise = self.standardise
        threshold = self.threshold
        if standardise is not None:
            standardise = standardise.prepared(channels)
        if self.own_thresholds and threshold is not None and not np.ndim(threshold):
            threshold = np.ones(self.features, np.float32) * threshold
        return dataclasses.replace(
            self, weights=None, standardise=standardise, threshold=threshold, learners=self.as_learners(learners)
        )

    def as_learners(self, learners: tuple[Any, ...]) -> Any:
        """The given learners in the form of the field `learners`: a tuple, or a single learner."""
        return learners if isinstance(self.learners, tuple) else learners[0]

    @property
    def numbers_of_features(self) -> dict[str, Any]:
        """The arrays with an entry for each feature, (F, ...), keyed by path."""
        own = {path: x for path, x in leaves(self).items() if not path.startswith(("ramp.", "standardise."))}
        return {path: x for path, x in own.items() if np.shape(x)[:1] == (self.features,)}

    @property
    def own_thresholds(self) -> bool:
        """Whether a learner needs a threshold for each feature."""
        return any(learner.own_thresholds for learner in self.each_learner)

    def positions(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of positions of the kernel on a map of this size."""
        if self.ramped:
            margins = checks.pair("padding", self.padding, 0)
            checks.window("the padding that is reflected, and a row and column,", [x + 1 for x in margins], size)
        return map_size(size, "the kernel", self.kernel, self.stride, self.padding)

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of neurons, without `output_padding`.

        Each position has its own neuron, unless the neurons of a `ramp` have several dendrites.
        """
        if self.ramp is None:
            return self.positions(size)
        return map_size(self.positions(size), "the dendrites", self.ramp.dendrites, self.ramp.dendrites, 0)

    @property
    def one_threshold(self) -> bool:
        """Whether all features have the same threshold."""
        return self.threshold is not None and not np.ndim(self.threshold) and not self.own_thresholds

    @property
    def upper_bound(self) -> float:
        """The smallest upper bound of the weights among all learners; infinity if none of them has bounds."""
        return min((learner.bounds[1] for learner in self.each_learner if learner.bounds), default=math.inf)

    @property
    def monotone(self) -> bool:
        """Whether potentials never fall, so that the potentials at the last time step decide which neurons fire.

        This requires weights that are and remain at least 0, fixed or learned, and no `ramp`.
        """
        if self.ramped:
            return False
        if self.weights is not None:
            return bool(np.min(self.weights) >= 0)
        bounds = [learner.bounds for learner in self.each_learner]
        # A single learner that allows negative weights is enough for potentials to fall. Then a neuron that has fired
        # may be below its threshold at the last time step.
        return bool(bounds) and all(pair is not None and pair[0] >= 0 for pair in bounds)

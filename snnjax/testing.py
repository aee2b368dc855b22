"""A check that a custom learner fulfils the contract of `snnjax.Learner`; it needs no test framework.

from snnjax.testing import check_learner

def test_my_learner():
    check_learner(MyLearner(rate=0.01))
"""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnjax import kernels
from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.ramp import Ramp, Standardise
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, DecisionCounts, Learner
from snnjax.networks import Decision, Majority, Model, Network, stage
from snnjax.training import contracts
from snnjax.training.job import Phase
from snnjax.training.learning import Carry, ImageBatch, StepResult, Supervised, learning_of
from snnjax.training.placement import to_32_bits

CLASSES = 2
UNTIMED = Majority()
RIVALS = WTA(2, radius=1)
PLAIN = Ramp(inhibition=False)


def check_learner(
    learner: Learner,
    conv: Conv | None = None,
    *,
    deciding: bool = False,
    decision: Decision = UNTIMED,
    input_shape: tuple[int, int, int] = (2, 6, 6),
    images: int = 8,
    update_batch: int = 4,
    seed: int = 0,
) -> None:
    """Trains small layers with the trainer's programs, and checks that `learner` fulfils its contract.

    The clauses of the contract are listed in `CLAUSES`. If a result has the wrong shape or dtype, no other clause can
    be checked.

    Args:
      learner: the learner to check.
      conv: a layer that the learner can train; its `learners` are replaced. The default layer has four features or, if
        it decides by a timed decision, six features whose kernels cover the whole input.
      deciding: whether the layer decides between two classes; otherwise it is in the stage before the last.
      decision: how the network decides. With a timed decision, such as `Earliest`, `conv` may have a threshold.
      input_shape: (C, H, W), the shape of a stimulus.
      images: the number of stimuli, random integer latencies of `input_shape`, every fourth of which is silent; a
        multiple of twice the `update_batch`. For a minibatch learner, the number of minibatches.
      update_batch: the number of stimuli whose responses are computed with the same weights. Minibatch learners ignore
        it.
      seed: the seed of the stimuli and of the initial weights.

    Raises:
      AssertionError: if the learner breaks clauses; the message lists all of them.

    Examples:
      >>> from snnjax import STDP
      >>> from snnjax.testing import check_learner
      >>> check_learner(STDP(stabiliser=False))  # doctest: +SKIP
    """
    checks.instance("learner", learner, Learner, "an instance of a class that derives from snnjax.Learner")
    conv = dataclasses.replace(conv or _suiting(learner, deciding, decision, input_shape), learners=learner)
    case = _Case(conv, deciding, decision, input_shape, images, update_batch, seed)
    broken: dict[str, list[str]] = {}  # the names of broken clauses, keyed by message; several may share one
    cause = None
    for name, check in CLAUSES.items():
        try:
            check(case)
        except (AssertionError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            broken.setdefault(_message(learner, error), []).append(name)
            cause = cause or error
            if name == "shapes":
                break
    if broken:
        found = "\n\n".join(f"{', '.join(names)}: {message}" for message, names in broken.items())
        raise AssertionError(f"{type(learner).__name__} breaks the contract of learners:\n\n{found}") from cause


def _message(learner: Learner, error: Exception) -> str:
    """The message for the user about an error that a clause raised."""
    if isinstance(error, AssertionError | InputError):
        return str(error).strip()
    return f"{type(learner).__name__} must raise nothing, got {type(error).__name__}: {error}"


def _suiting(learner: Learner, deciding: bool, decision: Decision, input_shape: tuple[int, int, int]) -> Conv:
    """A default layer that the learner can train."""
    if learner.minibatch_size:
        return Conv(2 * CLASSES, 3, padding=1, ramp=Ramp(), standardise=Standardise())
    if learner.ramped:
        return Conv(2 * CLASSES, input_shape[1:], threshold=0.0, weight_mean=0.0, weight_std=0.0, ramp=PLAIN)
    if not deciding:
        competition = Conv.competition if learner.own_thresholds else RIVALS
        return Conv(2 * CLASSES, 3, threshold=4.0, competition=competition)
    return Conv(3 * CLASSES, input_shape[1:], threshold=8.0) if decision.timed else Conv(2 * CLASSES, 3)


class _Case:
    """A network with the checked layer, stimuli and learning programs; a deciding layer is added if needed."""

    def __init__(
        self,
        conv: Conv,
        deciding: bool,
        decision: Decision,
        input_shape: tuple[int, int, int],
        images: int,
        update_batch: int,
        seed: int,
    ):
        random = np.random.default_rng(seed)
        stages = [stage(conv)]
        if not deciding:
            stages.append(stage(Conv(CLASSES, kernel=conv.output_size(input_shape[1:]), learners=RSTDP())))
        self.network = Network("check", input_shape, CLASSES, tuple(stages), decision=decision)
        self.learner = conv.each_learner[0]
        steps = self.network.time_steps
        self.minibatch_size = self.learner.minibatch_size
        self.few = self.minibatch_size or 2  # the number of images in the check without `jax.jit`, which is slow
        self.update_batches = (1,) if self.minibatch_size else (1, update_batch)
        images *= self.minibatch_size or 1
        latencies = random.integers(0, 2 * steps, (images, *input_shape)).clip(max=steps)
        latencies[1::4] = steps
        self.latencies = latencies.astype(np.uint8)
        self.labels = random.integers(0, CLASSES, images, np.int32)
        model, carry = self._start(random)
        self.model = model
        self.carries = [carry, self._start(random)[1]]
        self.compiled = jax.jit(self.learn, static_argnames=("update_batch", "rest"))
        if self.learner.supervised:
            self.phase = Phase(tuple(model.layers), supervised=True, adapt_every=update_batch)
            rule = Supervised(self.phase, model)
            self.respond: Any = rule.respond
            self.update: Any = lambda carry, latency, label, response: rule.update(carry, label, response)
        else:
            self.phase = Phase(("layer1",), learner=0, minibatch_size=self.minibatch_size)
            self.respond = lambda carry, *given: _rule(carry).forward(_layer(carry), carry.states["layer1"], *given)
            self.update = self._update
        self.learning = learning_of(self.phase, self.network)

    def _update(self, carry: Carry, latency: Any, label: Any, response: Any) -> tuple[Carry, Any]:
        """The carry and the info after `update` has learned from one stimulus without a label."""
        layer, state, info = _rule(carry).update(_layer(carry), carry.states["layer1"], latency, response, None)
        return Carry({"layer1": layer}, {"layer1": state}), info

    def _start(self, random: np.random.Generator) -> tuple[Model, Any]:
        """A model with random weights, and the carry of its learning layers, in the form that the programs accept."""
        weights = {}
        for _, name, conv in self.network.layers():
            lower, upper = conv.learners.bounds or (0.0, 1.0)
            # Sums of multiples of 1/64 are exact in float32, so that programs that add in a different order must give
            # the same results.
            place = random.integers(13, 52, self.network.weight_shapes[name]) / 64
            weights[name] = np.float32(lower + (upper - lower) * place)
        model = _arrays(Model.of(self.network, weights))
        supervised = self.learner.supervised
        layers = model.layers if supervised else {"layer1": model.layers["layer1"]}
        states = {}
        for index, (name, layer) in enumerate(layers.items()):
            states[name] = _arrays(layer.conv.learners.init(layer, np.array([index, 0], np.uint32), 0))
        return model, Carry(layers, states, DecisionCounts(*jnp.zeros(5, jnp.int32)) if supervised else None)

    def learn(
        self, carry: Carry, latencies: Any, start: Any, stop: Any, last: Any, update_batch: int = 1, rest: int = 0
    ) -> tuple[Carry, StepResult]:
        """The carry after learning from the images `start` to `stop` - 1, and the result for each image."""
        if self.minibatch_size:
            phase = self.phase._replace(images=rest)
        else:
            phase = self.phase._replace(update_batch=update_batch)
        learned = jnp.int32(start), jnp.int32(stop), jnp.bool_(last)
        batch = ImageBatch(jnp.asarray(latencies), *learned, jnp.asarray(self.labels))
        return self.learning(phase, carry, self.model, batch)


def _layer(carry: Any) -> Layer:
    """The layer that the learner trains."""
    return carry.layers["layer1"]


def _rule(carry: Any) -> Any:
    """The learner with its present numbers."""
    return _layer(carry).conv.each_learner[0]


def _arrays(tree: Any) -> Any:
    """A tree with 32-bit JAX arrays in place of its leaves."""
    return jax.tree.map(lambda x: jnp.asarray(to_32_bits(x)), tree)


def _same(result: Any, expected: Any, exact: bool, words: str) -> None:
    """Raises AssertionError unless two trees are equal; floats may differ by rounding unless `exact` is true."""

    def compare(path: Any, one: Any, other: Any) -> None:
        one = np.asarray(one)
        other = np.asarray(other)
        message = f"{words}: {contracts.path_text(path)}"
        if exact or one.dtype.kind != "f":
            np.testing.assert_array_equal(one, other, message, strict=True)
        else:
            np.testing.assert_allclose(one, other, 1e-5, 1e-5, equal_nan=False, err_msg=message, strict=True)

    jax.tree_util.tree_map_with_path(compare, result, expected)


def _shapes(case: _Case) -> None:
    """The learner's results have the shapes and dtypes that the trainer needs."""
    latency = jax.ShapeDtypeStruct(case.latencies.shape[1:], case.latencies.dtype)
    contracts.check_learner(case.learner, _layer(case.carries[0]), latency, "layer1", CLASSES)


def _results(case: _Case) -> None:
    """All numbers are finite, weights lie within bounds, and the diagnosis and the scalars can be saved and drawn."""
    before = case.carries[0]
    carry, result = case.compiled(before, case.latencies, 0, len(case.latencies), True)
    carries = [carry]
    fewer = case.few - 1
    if case.minibatch_size and fewer:  # the last minibatch of an epoch may be smaller
        short, _ = case.compiled(before, case.latencies, 0, fewer, True, rest=fewer)
        carries.append(short)
    for path, leaf in jax.tree.leaves_with_path(carries):
        wrong = leaf.dtype.kind == "f" and not np.isfinite(leaf).all()
        assert not wrong, f"all numbers must be finite, but {contracts.path_text(path[1:])} holds NaN or infinity"
    layer, state, info = jax.tree.map(np.asarray, (_layer(carry), carry.states["layer1"], result.infos["layer1"]))
    contracts.check_range(case.learner, layer.weights, np.asarray(_layer(before).weights))
    kind = type(case.learner).__name__
    contracts.checked_diagnosis(kind, case.learner.diagnose(layer, info))
    contracts.checked_scalars(kind, case.learner.scalars(state))


def _jit(case: _Case) -> None:
    """The results are the same with and without `jax.jit`."""
    given = case.carries[0], case.latencies, 0, case.few, False
    result = case.compiled(*given)
    with jax.disable_jit():
        expected = case.learn(*given)
    _same(result, expected, False, "it learns differently with `jax.jit` and without it")


def _vmap(case: _Case) -> None:
    """The results are the same under `jax.vmap`, and something is learned."""
    epoch = case.latencies, 0, len(case.latencies), True
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *case.carries)
    result = jax.jit(jax.vmap(lambda carry: case.learn(carry, *epoch)))(stacked)
    for index, carry in enumerate(case.carries):
        expected = case.compiled(carry, *epoch)
        mapped = jax.tree.map(lambda x, index=index: x[index], result)
        _same(mapped, expected, False, "under `jax.vmap` it learns differently")
        before, after = (jax.tree.leaves(_layer(x)) for x in (carry, expected[0]))
        unchanged = all(map(np.array_equal, before, after))
        assert not unchanged, "neither weights nor numbers change: give a `conv` in which something is learned"


def _silence(case: _Case) -> None:
    """A silent stimulus changes neither weights nor numbers, both at the start and after an epoch of learning."""
    if case.learner.acts_on_silence:
        return
    silent = np.full_like(case.latencies, case.network.time_steps)
    learned, _ = case.compiled(case.carries[0], case.latencies, 0, len(case.latencies), False)
    for carry, when in ((case.carries[0], ""), (learned, " after an epoch of learning")):
        after, _ = case.compiled(carry, silent, 0, len(silent), False)
        before = _layer(carry)
        layer = _layer(after)
        try:
            _same(layer.weights, before.weights, True, f"a silent stimulus changes the weights{when}")
            if not case.minibatch_size:  # a minibatch learner may update the moments of its inputs
                _same(layer.conv, before.conv, True, f"a silent stimulus changes numbers of the layer{when}")
        except AssertionError as error:
            raise AssertionError(f"{str(error).strip()}\n{_UNINTENDED}") from error


_UNINTENDED = """Without a winner, most rules should learn nothing, so this is probably a mistake. Perhaps the rule
treats an unused entry of the winners, whose feature is -1, as the last feature, or an optimiser continues to change all
weights. If the rule is meant to act on silent images, for example because weights decay or because rewards arrive
later, declare this in its class: acts_on_silence = True"""


def _signs(case: _Case) -> None:
    """Differences of latencies keep their sign, so that the results are the same with int32 latencies."""
    if case.minibatch_size:
        return
    update = jax.jit(case.update)
    carry = case.carries[0]
    for latency, label in zip(case.latencies, case.labels, strict=True):
        response = jax.jit(case.respond)(carry, latency, label)
        signed, _ = update(carry, latency.astype(np.int32), label, jax.tree.map(_signed, response))
        carry, _ = update(carry, latency, label, response)
        try:
            _same(_layer(signed), _layer(carry), False, "weights and numbers")
        except AssertionError as error:
            wrong = f"{type(case.learner).__name__} subtracts unsigned latencies, which wraps around"
            raise AssertionError(f"{wrong}: use `layer.time_differences`, or convert them to int32") from error


def _signed(leaf: jax.Array) -> jax.Array:
    """An array of unsigned integers as int32; any other array is unchanged."""
    return leaf.astype(jnp.int32) if jnp.issubdtype(leaf.dtype, jnp.unsignedinteger) else leaf


def _label(case: _Case) -> None:
    """The decision of a supervised learner's `forward` does not depend on the label."""
    if case.learner.supervised:
        respond = jax.jit(case.respond)
        for latency in case.latencies:
            one, other = (respond(case.carries[0], latency, jnp.int32(label)).decided for label in range(CLASSES))
            _same(one, other, True, "the decision of `forward` depends on the label")


def _backends(case: _Case) -> None:
    """The results are the same on both back ends."""
    try:
        result = _learned(case, "native")
    except OSError as error:
        warnings.warn(f"the native back end is not checked: {error}", stacklevel=4)
        return
    _same(result, _learned(case, "xla"), False, "it learns differently on the back ends native and xla")


def _learned(case: _Case, backend: str) -> tuple[Layer, Any]:
    """The layer and the state after an epoch on the given back end."""
    with kernels.use_backend(backend):
        carry, _ = case.compiled(case.carries[0], case.latencies, 0, len(case.latencies), True)
    return _layer(carry), carry.states["layer1"]


def _resume(case: _Case) -> None:
    """An epoch that is saved in the middle and resumed gives exactly the same results."""
    for update_batch in case.update_batches:
        _resume_with(case, update_batch)


def _resume_with(case: _Case, update_batch: int) -> None:
    carry = case.carries[0]
    images = len(case.latencies)
    whole, _ = case.compiled(carry, case.latencies, 0, images, True, update_batch=update_batch)
    half, _ = case.compiled(carry, case.latencies, 0, images // 2, False, update_batch=update_batch)
    saved = jax.tree.map(np.array, half)
    resumed, _ = case.compiled(saved, case.latencies, images // 2, images, True, update_batch=update_batch)
    _same(resumed, whole, True, "resumed in the middle of an epoch, it learns differently than without interruption")


def _order(case: _Case) -> None:
    """The results equal those of a plain loop: `forward` of B stimuli with the same weights, then `update` in order."""
    if case.minibatch_size:
        return
    for update_batch in case.update_batches:
        _order_with(case, update_batch)


def _order_with(case: _Case, update_batch: int) -> None:
    carry = case.carries[0]
    images = list(zip(case.latencies, case.labels, strict=True))
    respond = jax.jit(case.respond)
    update = jax.jit(case.update)
    result, _ = case.compiled(carry, case.latencies, 0, len(images), False, update_batch=update_batch)
    for start in range(0, len(images), update_batch):
        group = images[start : start + update_batch]
        responses = [respond(carry, *image) for image in group]
        for image, response in zip(group, responses, strict=True):
            carry, _ = update(carry, *image, response)
    _same(result, carry, False, f"with `update_batch` {update_batch} the results differ from `forward`, then `update`")


CLAUSES = dict(
    shapes=_shapes,
    results=_results,
    jit=_jit,
    vmap=_vmap,
    silence=_silence,
    signs=_signs,
    label=_label,
    backends=_backends,
    resume=_resume,
    order=_order,
)
"""The clauses of the contract, in the order in which they are checked."""

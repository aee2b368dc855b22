"""A check that a learner of your own keeps the contract of `snnjax.Learner`; it needs no test framework.

from snnjax.testing import check_learner

def test_my_learner():
    check_learner(MyLearner(rate=0.01))
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from snnjax.layers import WTA, Conv, Layer
from snnjax.learners import RSTDP, Learner, Tally
from snnjax.networks import Model, Network, stage
from snnjax.training import programs
from snnjax.training.outputs import as_array

CLASSES = 2


def check_learner(
    learner: Learner,
    conv: Conv | None = None,
    *,
    deciding: bool = False,
    input_shape: tuple[int, int, int] = (2, 6, 6),
    images: int = 8,
    update_batch: int = 4,
    seed: int = 0,
) -> None:
    """Trains small layers by the programs of the trainer, and checks the clauses of the contract one by one.

    Args:
      learner: a component.
      conv: a layer that it suits, whose learners do not matter; by default one of four features.
      deciding: whether the layer decides between two classes; else it lies in the stage before the last.
      input_shape: (C, H, W) of the stimuli.
      images: how many there are; half of them must be a multiple of `update_batch`.
      update_batch: B, stimuli that `forward` sees with the same weights.
      seed: of weights and stimuli.

    Raises:
      AssertionError: a clause is not kept; it says which.
      InputError: learner, layer and input do not fit.
    """
    if conv is None:
        kinds: dict[str, Any] = dict() if deciding else dict(threshold=4.0, competition=WTA(2, radius=1))
        conv = Conv(2 * CLASSES, kernel=3, **kinds)
    case = _Case(dataclasses.replace(conv, learners=learner), deciding, input_shape, images, seed)
    for check in (_jit, _vmap, _bounds, _silence, _numbers):
        check(case)
    for batch in (1, update_batch):
        _resume(case, batch)
        _order(case, batch)


class _Case:
    """A layer, with a deciding one behind it where it needs one to learn, and stimuli."""

    def __init__(self, conv: Conv, deciding: bool, input_shape: tuple[int, int, int], images: int, seed: int):
        random = np.random.default_rng(seed)
        stages = [stage(conv)]
        if not deciding:
            size = conv.output_size(input_shape[1:])
            stages.append(stage(Conv(CLASSES, kernel=size, learners=RSTDP())))
        self.network = Network("check", input_shape, CLASSES, tuple(stages))
        steps = self.network.time_steps
        self.latencies = random.integers(0, 2 * steps, (images, *input_shape)).clip(max=steps).astype(np.uint8)
        self.labels = random.integers(0, CLASSES, images, np.int32)
        self.learner: Any = conv.learners
        self.models = [self._model(random) for _ in range(2)]

    def _model(self, random: np.random.Generator) -> Model:
        weights = {}
        for _, name, conv in self.network.layers():
            lower, upper = getattr(conv.learners, "bounds", (0.0, 1.0))
            place = random.integers(13, 52, self.network.weight_shapes[name]) / 64  # so that sums are exact
            weights[name] = np.float32(lower + (upper - lower) * place)
        return jax.tree.map(lambda x: jnp.asarray(as_array(x)), Model.of(self.network, weights))

    def carry(self, model: Model) -> Any:
        """What learns, as the programs take it."""
        names = model.layers if self.learner.supervised else ["layer1"]
        layers = {name: dataclasses.replace(model.layers[name], within=False) for name in names}
        states = {
            name: jax.tree.map(
                lambda x: jnp.asarray(as_array(x)), layer.conv.learners.init(layer, np.array([at, 0], np.uint32), 0)
            )
            for at, (name, layer) in enumerate(layers.items())
        }
        if not self.learner.supervised:
            return layers["layer1"], states["layer1"]
        return layers, states, Tally(*jnp.zeros(5, jnp.int32))

    def run(self, carry: Any, start: Any, count: Any, last: Any, latencies: Any = None, batch: int = 1) -> Any:
        """The carry after learning from images start..count-1, and what the program found of each."""
        where = jnp.int32(start), jnp.int32(count), jnp.bool_(last)
        latencies = jnp.asarray(self.latencies if latencies is None else latencies)
        if not self.learner.supervised:
            return programs.learn_unsupervised(carry, latencies, *where, which=0, batch=batch)
        labels = jnp.asarray(self.labels)
        static: dict[str, Any] = dict(first=0, batch=batch, by_turns=False)
        return programs.learn_supervised(carry, self.models[0], latencies, labels, *where, jnp.int32(3), **static)

    def layer(self, carry: Any) -> Layer:
        """The layer that learns by the learner."""
        return carry[0]["layer1"] if self.learner.supervised else carry[0]

    def compiled(self, batch: int = 1) -> Callable[..., Any]:
        """`run` under jit."""

        def run(carry: Any, start: Any, count: Any, last: Any, latencies: Any) -> Any:
            return self.run(carry, start, count, last, latencies, batch)

        jitted = jax.jit(run)
        return lambda carry, start, count, last, latencies=self.latencies: jitted(carry, start, count, last, latencies)


def _same(found: Any, expected: Any, exact: bool, words: str) -> None:
    """Raises AssertionError unless two trees are the same: floats too if `exact`, else but for rounding."""
    trees: list[Any] = [jax.tree.structure(found), jax.tree.structure(expected)]
    assert trees[0] == trees[1], f"{words}: the structure is {trees[0]}, not {trees[1]}"
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        one, other, where = np.asarray(one), np.asarray(other), jax.tree_util.keystr(path)
        kinds = f"{one.dtype}{one.shape}", f"{other.dtype}{other.shape}"
        assert kinds[0] == kinds[1], f"{words}: {where} is {kinds[0]}, not {kinds[1]}"
        near = np.array_equal(one, other) or (
            not exact and one.dtype.kind == "f" and np.allclose(one, other, atol=1e-5)
        )
        assert near, f"{words}: {where} is {one}, not {other}"


def _jit(case: _Case) -> None:
    carry = case.carry(case.models[0])
    try:
        found = case.compiled()(carry, 0, 2, False)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError) as error:
        raise AssertionError(f"under `jax.jit` the learner fails, or changes shapes or dtypes: {error}") from error
    with jax.disable_jit():
        expected = case.run(carry, 0, 2, False)
    _same(found, expected, False, "with `jax.jit` it learns otherwise than without")


def _vmap(case: _Case) -> None:
    carries, images = [case.carry(model) for model in case.models], len(case.latencies)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *carries)
    found = jax.jit(jax.vmap(lambda carry: case.run(carry, 0, images, True)))(stacked)
    run = case.compiled()
    for at, carry in enumerate(carries):
        expected = run(carry, 0, images, True)
        _same(jax.tree.map(lambda x, at=at: x[at], found), expected, False, "under `jax.vmap` it learns otherwise")
        before, after = case.layer(carry), case.layer(expected[0])
        assert not np.array_equal(before.weights, after.weights), "nothing is learned: the check needs another `conv`"


def _bounds(case: _Case) -> None:
    if (bounds := getattr(case.learner, "bounds", None)) is not None:
        weights = case.layer(case.compiled()(case.carry(case.models[0]), 0, len(case.latencies), True)[0]).weights
        inside = bounds[0] - 1e-6 <= weights.min() and weights.max() <= bounds[1] + 1e-6
        assert inside, f"`bounds` are {bounds}, but weights lie in {weights.min()}..{weights.max()}"


def _silence(case: _Case) -> None:
    carry = case.carry(case.models[0])
    silent = np.full_like(case.latencies, case.network.time_steps)
    after, _ = case.compiled()(carry, 0, len(silent), True, silent)
    words = "a silent stimulus changes the weights"
    _same(case.layer(after).weights, case.layer(carry).weights, True, words)


def _numbers(case: _Case) -> None:
    traces = 0

    def counted(*args: Any) -> Any:
        nonlocal traces
        traces += 1
        return case.run(*args)

    jitted, carry = jax.jit(counted), case.carry(case.models[0])
    smaller = jax.tree.map(lambda x: as_array(x * 0.75) if x.dtype.kind == "f" else x, carry)
    for each in (carry, smaller, jitted(carry, 0, 2, False)[0]):
        jitted(each, 0, 2, False)
    assert traces == 1, "with other numbers, or what it has learned itself, it is compiled anew"


def _resume(case: _Case, batch: int) -> None:
    run, carry, images = case.compiled(batch), case.carry(case.models[0]), len(case.latencies)
    whole, (first, _) = run(carry, 0, images, True), run(carry, 0, images // 2, False)
    stored = jax.tree.map(lambda x: np.array(x), first)
    words = "stopped in the middle of an epoch, it goes on otherwise than if it had not stopped"
    _same(run(stored, images // 2, images, True)[0], whole[0], True, words)


def _order(case: _Case, batch: int) -> None:
    """`forward` of B stimuli with the same weights, then `update` one by one, written out as a loop."""
    model, images = case.models[0], len(case.latencies)
    carry = case.carry(model)
    found = case.compiled(batch)(carry, 0, images, False)[0]
    if not case.learner.supervised:
        layer, state = carry
        for start in range(0, images, batch):
            group = case.latencies[start : start + batch]
            responses = [case.learner.forward(layer, state, latency) for latency in group]
            for latency, response in zip(group, responses, strict=True):
                layer, state, _ = case.learner.update(layer, state, latency, response, None)
        _same(found, (layer, state), False, f"with `update_batch` {batch} it is not `forward`, then `update`")
        return
    layers, states, tally = carry
    respond, update = jax.jit(_respond), jax.jit(_update)
    for start in range(0, images, batch):
        part = slice(start, start + batch)
        responses = [respond(model.updated(layers), states, latency) for latency in case.latencies[part]]
        for response, label in zip(responses, case.labels[part], strict=True):
            layers, states, tally = update(model, (layers, states, tally), response, label)
    _same(found, (layers, states, tally), False, f"with `update_batch` {batch} it is not `forward`, then `update`")


def _respond(model: Model, states: Any, latency: Any) -> Any:
    return programs._responses(model, states, latency, 0)


def _update(model: Model, carry: Any, response: Any, label: Any) -> Any:
    layers, states, tally = carry
    schedule, (seen, found, decided) = programs.Schedule(list(layers), False, jnp.int32(3)), response
    new = {
        name: layers[name].conv.supervised.update(layers[name], states[name], seen[name], found[name], signal)
        for name, signal in schedule.signals(model, decided, label, tally).items()
    }
    layers, states = ({name: each[at] for name, each in new.items()} for at in (0, 1))
    return schedule.count_outcome((layers, states, tally), programs.outcome(decided.decision, label))

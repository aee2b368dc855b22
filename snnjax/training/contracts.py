"""Checks of custom parts: of the results of their methods, before training, and of what they have learned.

Before training, `jax.eval_shape` traces their methods without computing anything. The library's own parts are not
traced.
"""

import dataclasses
import json
from typing import Any

import jax
import numpy as np

from snnjax.core import checks
from snnjax.core.components import check_again
from snnjax.core.errors import InputError, InputTypeError, explained, image_size, shown, wrong_type
from snnjax.kernels import Spikes, Winners
from snnjax.kernels.spikes import latency_dtype
from snnjax.layers.spiking import Layer
from snnjax.learners import DecisionCounts, Diagnosis, Learner, Signal
from snnjax.networks import Network
from snnjax.networks.decision import is_fitted, unfitted
from snnjax.networks.model import check_weights
from snnjax.training.placement import blank_model, to_32_bits
from snnjax.training.state import TrainState

_array: Any = jax.ShapeDtypeStruct  # stands in for an array
_INTEGER = _array((), np.int32)


def check_parts(network: Network, images: np.ndarray) -> None:
    """Raises InputError if a part of the network returns values that another part cannot use.

    `images`, (N, ...), are the images of the training run, of which only the shape and the dtype are used.
    """
    check_encoder(network, _array(images.shape[1:], images.dtype))
    check_decision(network)
    latencies = latency_dtype(network.time_steps)
    for number, name, conv in network.layers():
        if not any(map(_is_custom, (conv.competition, *conv.each_learner))):
            continue
        inputs = _array(network.input_shapes[number], latencies)
        layer: Any = blank_model(network).layers[name]
        if _is_custom(conv.competition):
            subject = f"competition(...) of {name}"
            winners = jax.eval_shape(lambda layer, inputs: layer.winners(inputs), layer, inputs)
            checks.instance(subject, winners, Winners, "kernels.Winners")
            for field in ("feature", "row", "column"):
                _expect(f"{subject}.{field}", getattr(winners, field), _array(winners.feature.shape[:1], np.int32))
        for learner in filter(_is_custom, conv.each_learner):
            check_learner(learner, layer, inputs, name, network.classes)


def _is_custom(part: object) -> bool:
    return part is not None and not type(part).__module__.startswith("snnjax.")


def check_encoder(network: Network, image: jax.ShapeDtypeStruct) -> None:
    """Raises InputError unless the encoder turns an image of this shape and dtype into an input of the network."""
    encoder: Any = network.encoder
    expected = _array(network.input_shape, latency_dtype(network.time_steps))
    shape = encoder.output_shape(image.shape)
    checks.instance("encoder.output_shape(...)", shape, tuple | list, "(C, H, W)")
    if tuple(shape) != network.input_shape:
        encoded = f"images {image_size(image.shape)} are encoded as {tuple(shape)}"
        problem = f"the network accepts inputs of shape {network.input_shape}, but {encoded}"
        raise InputError(f"{problem}: make it with input_shape={tuple(shape)}, or with another `encoder`")
    if _is_custom(encoder) and not unfitted(encoder):
        _expect("encoder(image)", jax.eval_shape(encoder, image), expected)


def check_decision(network: Network) -> None:
    """Raises InputError unless the network's decision, if it is custom, returns a class and a score for each class."""
    decision = network.decision
    classes = network.classes
    fits = is_fitted(decision)
    if decision is None or not _is_custom(decision) or unfitted(decision):
        return
    deciding = network.stages[-1].branches
    shapes = [(conv.features, *conv.output_size(network.input_shapes[-1][1:])) for conv in deciding]
    shapes = [network.evidence_shape] if fits else shapes
    for shape in shapes:
        time = _array(shape, np.float32) if fits or decision.timed else None
        spikes = Spikes(_array(shape, latency_dtype(network.time_steps)), _array(shape, np.float32), time)
        scores = jax.eval_shape(lambda spikes: decision.scores(spikes, classes), spikes)
        _expect("decision.scores(...)", scores, _array((classes,), np.float32))
    returned = jax.eval_shape(decision.decide, _array((len(shapes), classes), np.float32))
    _expect("decision.decide(scores)", returned, _INTEGER)


def checked_fit(part: Any, *data: Any) -> Any:
    """The result of `fit` of an encoder, a ramp or a decision; raises InputError unless it is the same part, fitted."""
    kind = type(part).__name__
    returned = part.fit(*data)
    structure: Any = jax.tree.structure(returned)
    if type(returned) is not type(part) or structure != jax.tree.structure(part) or unfitted(returned):
        write = f"a fitted {kind}, made by dataclasses.replace(self, ...) with NumPy arrays in place of numbers"
        raise InputError(f"`fit` of {kind} must return {write}, got {shown(returned)}")
    for name in sorted(field.name for field in dataclasses.fields(part) if not field.metadata.get("fitted")):
        if not all(map(np.array_equal, *(jax.tree.leaves(getattr(x, name)) for x in (part, returned)))):
            write = f"mark a fitted field, as in {name}: np.ndarray | float = snnjax.networks.fitted(default=0.0)"
            raise InputError(f"`fit` of {kind} must not change `{name}`, which sweeps may vary: {write}")
    for path, leaf in jax.tree.leaves_with_path(returned):
        checks.number(f"{path_text(path).removeprefix('.')} of the {kind} that `fit` returns", leaf, arrays=True)
    return returned


def check_learner(learner: Learner, layer: Layer, latency: jax.ShapeDtypeStruct, name: str, classes: int) -> None:
    """Raises InputError unless the methods of a layer's learner keep the shapes and dtypes of layer and state."""
    kind = f"{type(learner).__name__} of {name}"
    learner = learner.prepared(layer.conv.features, classes)
    if type(learner).update is Learner.update:
        needs = "`update(self, layer, state, latency, response, signal)`, which returns (layer, state, info)"
        raise InputError(f"{type(learner).__name__} must have a method {needs}")
    label = _INTEGER if learner.supervised else None
    if learner.minibatch_size:
        latency = _array((learner.minibatch_size, *latency.shape), latency.dtype)
        label = _array((learner.minibatch_size,), np.int32) if learner.labelled else None
    signal = None if label is None else Signal(label, label, label)
    state = jax.tree.map(to_32_bits, learner.init(layer, np.zeros(2, np.uint32), 0))
    response = _traced(learner, "forward", kind, layer, state, latency, label)
    if layer.classes and learner.supervised and not isinstance(getattr(response, "spikes", None), Spikes):
        raise InputError(f"`forward` of {kind}, which decides, must return a Response with `spikes`, got {response}")
    returned = _traced(learner, "update", kind, layer, state, latency, response, signal)
    if not isinstance(returned, tuple) or len(returned) != 3:
        got = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else shown(returned)
        raise InputTypeError(f"`update` of {kind} must return (layer, state, info), got {got}")
    _expect("update(...)[0]", returned[0], layer, f" of {kind}")
    _expect("update(...)[1]", returned[1], state, f" of {kind}")
    _expect("end_epoch(state)", _traced(learner, "end_epoch", kind, state), state, f" of {kind}")
    if learner.supervised:
        counts = DecisionCounts(*[_INTEGER] * 5)
        ended = _traced(learner, "end_interval", kind, state, counts)
        _expect("end_interval(state, counts)", ended, state, f" of {kind}")


HINTS = {
    "has no attribute rows_of": "version 0.7 calls it `weights_of`",
    "has no attribute with_rows": "version 0.7 calls it `with_weights_of`",
    "RampLayer object has no attribute": "layers with a ramp lack it",
    "Layer object has no attribute": "layers without a ramp lack it",
    "has no attribute winners": "`forward` must return a Response: write Response(winners)",
    "has no attribute spikes": "`forward` must return a Response: write Response(spikes=spikes)",
    "unexpected keyword argument weights": "write `layer.with_weights(...)` or `layer.with_weights_of(winners, ...)`",
    "forward() ": "write forward(self, layer, state, latency, label)",
    "update() ": "write update(self, layer, state, latency, response, signal)",
    "not a valid JAX type": "return only numbers and arrays; `diagnose` may also return texts",
}
"""Advice, keyed by words of an error that a learner raises, without quotes; the first matching entry is used."""


def _traced(learner: Any, method: str, kind: str, *arguments: Any) -> Any:
    """The shapes and dtypes that a learner's method returns; the learner's numbers are traced, as in training.

    Raises InputError if the method raises one, or if it uses traced values like plain numbers; `HINTS` adds advice.
    """
    try:
        return jax.eval_shape(lambda traced, *given: getattr(traced, method)(*given), learner, *arguments)
    except InputError as error:
        raise InputError(f"`{method}` of {kind}: {error}") from error
    except (AttributeError, IndexError, TypeError) as error:
        first = str(error).split("\n")[0].rpartition(" traced for jit ")[2]
        if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
            raise InputTypeError(f"`{method}` of {kind} fails under `jax.jit`: {first}") from error
        plain = first.replace("'", "")
        hints = [hint for words, hint in HINTS.items() if words in plain]
        if not hints:
            raise
        raise InputTypeError(f"`{method}` of {kind} fails: {first}: {hints[0]}") from error


def _expect(subject: str, returned: Any, expected: Any, owner: str = "") -> None:
    """Raises InputError unless a returned tree has the expected structure, shapes and dtypes."""
    structure: Any = jax.tree.structure(returned)
    if structure != jax.tree.structure(expected):
        raise InputError(f"`{subject}`{owner} must be {_kinds(expected)}, got {_kinds(returned)}")
    for (path, one), other in zip(jax.tree.leaves_with_path(returned), jax.tree.leaves(expected), strict=True):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            write = f": write .astype(jnp.{other.dtype})" if one.shape == other.shape else ""
            raise InputError(f"`{subject}{path_text(path)}`{owner} must be {_kind(other)}, got {_kind(one)}{write}")


def path_text(path: Any) -> str:
    """The path of a leaf of a pytree, as shown in messages."""
    return jax.tree_util.keystr(path)


def _kinds(tree: Any) -> str:
    """The dtypes and shapes of a tree's arrays in words; for no array, or five and more, its class and their number."""
    leaves = jax.tree.leaves(tree)
    return " and ".join(map(_kind, leaves)) if 0 < len(leaves) < 5 else f"{type(tree).__name__} of {len(leaves)} arrays"


def _kind(array: Any) -> str:
    return f"{array.dtype} of shape {array.shape}"


def check_decisions(decisions: np.ndarray, classes: int) -> None:
    """Raises InputError if a decision is neither a class nor -1, which stands for a silent network."""
    checks.all_within("decision.decide(scores)", decisions, -1, classes - 1, f"be 0..{classes - 1}, or -1")


def check_scores(scores: np.ndarray) -> None:
    """Raises InputError if the score of a class is negative or not finite, because metrics could not compare it."""
    if (wrong := scores[~(np.isfinite(scores) & (scores >= 0))]).size:
        write = "use jnp.maximum(scores, 0), for example" if wrong[0] < 0 else "do not divide by a sum that may be 0"
        raise InputError(f"`decision.scores(...)` must be finite and at least 0, got {wrong[0]}: {write}")


def checked_diagnosis(kind: str, returned: Any) -> Diagnosis:
    """The result of a learner's `diagnose`, with NumPy values converted to Python values.

    Raises InputError if it is not a dict of JSON data.
    """
    checks.instance(f"diagnose of {kind}", returned, dict, "a dict of figures", "dict(wins=[...])")
    if "words" in returned:
        why = "the sentences of the report are composed from the figures"
        raise InputError(f"`diagnose` of {kind} must return only figures, got the key `words`: {why}")
    expected = f"`diagnose` of {kind} must be JSON data (numbers, strings, lists, dicts)"
    with explained(expected, TypeError, ValueError):
        return json.loads(json.dumps(returned, default=_plain))


def checked_scalars(kind: str, returned: Any) -> dict[str, float]:
    """The result of a learner's `scalars`; raises InputError unless it is a dict of numbers."""
    try:
        return {name: float(value) for name, value in returned.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise wrong_type(f"scalars of {kind}", "a dict of numbers", returned, "dict(rate=0.1)") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return np.asarray(value).tolist()
    raise TypeError(f"got {shown(value)}")


def check_learned(network: Network, name: str, state: TrainState, learner: Learner, before: np.ndarray) -> None:
    """Raises InputError if a learner has moved weights out of its bounds, or left values that cannot be saved.

    `name` is the learner's layer, `state` is the state after epoch `state.done`, counted from 0, and `before` are the
    weights before this epoch.
    """
    weights = state.weights[name]
    with explained(f"`update` of {type(learner).__name__} left {name} invalid in epoch {state.done + 1}"):
        check_range(learner, weights, before)
        check_weights(network, {name: weights})
        if any(path.startswith(f"{name}.") for path in state.learned_params):
            learned = {key: conv for _, key, conv in state.network(network).layers()}
            check_again(learned[name])


def check_range(learner: Learner, weights: np.ndarray, before: np.ndarray) -> None:
    """Raises InputError unless the weights are finite and within the learner's bounds.

    Initial weights may lie outside the bounds: no weight may be further outside than it was `before`.
    """
    lower, upper = learner.bounds or (-np.inf, np.inf)
    least = lower - 1e-6 * max(1.0, abs(lower))
    most = upper + 1e-6 * max(1.0, abs(upper))  # room for rounding
    with explained(advice="use smaller rates"):
        checks.number("weights", weights, arrays=True)
    if np.any((weights < np.minimum(before, least)) | (weights > np.maximum(before, most))):
        got = f"{weights.min():.8g}..{weights.max():.8g}: clip them with jnp.clip"
        raise InputError(f"`weights` must lie within its `bounds`, {lower:g}..{upper:g}, got {got}")

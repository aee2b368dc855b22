"""Learning that continues: a network decides on images one by one, and learns from each."""

import functools
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from snnjax.core import checks, files
from snnjax.core.codec import to_data
from snnjax.core.devices import on_host
from snnjax.core.differences import described, described_differences, list_differences
from snnjax.core.errors import InputError, explained
from snnjax.core.paths import changed_leaves, leaves
from snnjax.kernels.backend import resolve
from snnjax.kernels.spikes import latency_dtype
from snnjax.learners import DecisionCounts
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.decision import is_fitted
from snnjax.networks.model import check_fitted, check_image, image_shape, is_batch, rounded_weights
from snnjax.networks.spiking_network import padded_batch_size
from snnjax.runs.trained import Trained
from snnjax.training.fitting import FITTING_IMAGES, choose_thresholds
from snnjax.training.job import supervised_phase
from snnjax.training.learning import Carry
from snnjax.training.learning_phase import begin_learning, key_of
from snnjax.training.online import Rules, StreamState, empty_memory, end_epoch, last_inputs, learn_images, learn_reward
from snnjax.training.placement import model_of, to_32_bits
from snnjax.training.state import TrainState, current_path

STATE_FORMAT = 2
"""Of the data of `Stream.flatten`: another one is refused."""
_PREFIX = "stream/"  # of the names of a state's arrays

Arrays = dict[str, np.ndarray]
Json = dict[str, Any]


class Stream:
    """Learning image by image, from a trained network or a new one: `learn` decides, then learns from the label.

    Each step corresponds to the step of a training run with one image: supervised layers continue to learn from labels
    or rewards, and the layers before them stay as they are. `learn`, `reward` and `end_epoch` are pure and jitted. They
    can be scanned, and vmapped over streams whose states are stacked, with separate images or the same ones for all.
    States can be pickled; `save_state` writes a state into a file that contains no code.

    Attributes:
      start: the network before the first image.

    Examples:
      >>> import snnjax
      >>> data = snnjax.data.digits()
      >>> stream = snnjax.Stream(snnjax.load("pretrained:goupy2024_ncg_mnist"))
      >>> state = stream.init()
      >>> decision, state = stream.learn(state, data.train_images[0], data.train_labels[0])
      >>> int(decision), int(data.train_labels[0])
      (3, 3)
      >>> trained = stream.network(state)
    """

    def __init__(
        self,
        network: SpikingNetwork,
        memory: int = 0,
        replays: int = 0,
        *,
        adapt_every: int = 100,
        backend: str = "auto",
    ):
        """Raises InputError if an encoder or a decision of the network must be fitted first, or if numbers are invalid.

        Args:
          network: a trained network, as returned by `snnjax.load`, or a new one, `SpikingNetwork(description)`.
          memory: M, how many of the latest images of each class are kept, as latencies.
          replays: the number of images from the memory that are learned again after each image. For each of them, a
            class is drawn among those seen so far, then one of its images in the memory.
          adapt_every: the number of learned images, including replays, after which supervised learners adapt, as in
            `Settings`.
          backend: "auto", "xla" or "native", as in `Settings`.
        """
        checks.instance(
            "network", network, SpikingNetwork, "a SpikingNetwork", "snnjax.load(run), or SpikingNetwork(description)"
        )
        self.start = network
        self._network = on_host(network.network)
        check_learns(self._network)
        check_fitted(self._network)
        check_memory(memory, replays)
        self._rules = Rules(
            phase=supervised_phase(self._network)._replace(adapt_every=checks.integer("adapt_every", adapt_every, 1)),
            backend=resolve(backend, self._network.time_steps),
            memory=memory,
            replays=replays,
        )
        _check_size(self._network, self._rules)
        self._model = jax.tree.map(jnp.asarray, model_of(self._network, network.weights()))

    @property
    def settings(self) -> Json:
        """The settings on which results depend, in addition to the network, the images and the seed, by name."""
        rules = self._rules
        settings = {name: getattr(rules, name) for name in ("memory", "replays", "backend")}
        return dict(settings, adapt_every=rules.phase.adapt_every)

    def init(self, seed: int = 0, images: ArrayLike | None = None) -> StreamState:
        """The state before the first image. The seed is used for all random draws of the learners and of the memory.

        If the readout has not learned yet, pass some `images`, (N, ...), that are similar to the ones to come: learners
        choose the thresholds of deciding layers from up to 100 of them, as in a training run. Raises InputError for
        images that the network does not accept.
        """
        if images is not None:
            images = np.asarray(images)
            check_image(self._network, images, batch=True, name="images")
            checks.some("images", images, "at least 1 image")
        return jax.tree.map(jnp.asarray, self._initial(seed, images))

    def _initial(self, seed: int, images: np.ndarray | None = None) -> StreamState:
        """The state that `init` gives, some of its arrays on the host."""
        seed = checks.seed(seed)
        phase = self._rules.phase
        layers = dict(self._model.layers)
        if images is not None:
            some = jnp.asarray(images[:FITTING_IMAGES])
            chosen = choose_thresholds(self._model, lambda: last_inputs(self._rules, self._model, some))
            layers |= jax.tree.map(to_32_bits, chosen)
        carry = Carry(*begin_learning(phase, layers, seed), DecisionCounts(*np.zeros(5, np.int32)))
        key = key_of(len(self._model.layers), seed)
        return StreamState(carry, empty_memory(self._rules, self._network, key) if self._rules.memory else None)

    @functools.cached_property
    def _blank(self) -> StreamState:
        """The shapes and dtypes of a state."""
        with jax.ensure_compile_time_eval():  # a scan may need them first
            state = self._initial(0)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), state)

    def _check_state(self, state: Any) -> None:
        """Raises InputError unless a state, traced or not, is one of a stream such as this one."""
        checks.instance("state", state, StreamState, "a StreamState", "stream.init()")
        checks.instance("state.carry", state.carry, Carry, "that of a StreamState", "stream.init().carry")
        expected = self._blank
        if _fits(state, expected):
            return
        if shape := np.shape(state.carry.counts.seen):
            raise InputError(f"`state` must be that of one stream, got a stack of shape {shape}: use jax.vmap")
        memory = 0 if state.memory is None else state.memory.places
        checks.equal("memory of the stream that made `state`", memory, self._rules.memory, "this stream has that")
        _check_leaves(state, expected)
        raise InputError("`state` must come from a stream of the same network, got one of another")

    def learn(
        self, state: StreamState, image: ArrayLike, label: ArrayLike | None = None
    ) -> tuple[jax.Array, StreamState]:
        """Decides on an image, then learns from its label. Returns the class, () int32, -1 if silent, and the state.

        `label`, () integer, is -1 or None if it is not known; then nothing is learned. Several images (N, ...) with
        labels (N,) are learned in order, and the decisions are (N,). Raises InputError for images that the network does
        not accept, for labels that are no class, and if a new encoder or ramp is not fitted.
        """
        self._check_state(state)
        batch = is_batch(self._network, image)
        check_image(self._network, image, batch=batch)
        labels = jnp.asarray(self._labels(label, np.shape(image)[: int(batch)]), jnp.int32)
        if not batch:
            one = jnp.asarray(image)[None]
            decisions, learned = learn_images(self._rules, self._model, state, one, labels[None])
            return decisions[0], learned
        count = len(labels)
        missing = padded_batch_size(count) - count
        pad = np.pad if isinstance(image, np.ndarray) else jnp.pad
        images = jnp.asarray(pad(image, [(0, missing), *[(0, 0)] * (np.ndim(image) - 1)]))
        labels = jnp.pad(labels, (0, missing), constant_values=-1)
        decisions, learned = learn_images(self._rules, self._model, state, images, labels)
        return decisions[:count], learned

    def _labels(self, label: Any, shape: tuple[int, ...]) -> Any:
        if label is None:
            return np.full(shape, -1)
        last = self._network.classes - 1
        return _integers("label", label, shape, -1, last, f"lie in 0..{last}, or be -1")

    def reward(self, state: StreamState, image: ArrayLike, reward: ArrayLike) -> tuple[jax.Array, StreamState]:
        """As `learn`, but from a reward for the decision instead of a label: () integer, 1 right, -1 wrong, 0 neither.

        Raises InputError if a learner needs labels (`Learner.rewarded`), and as `learn`.
        """
        self._check_state(state)
        for name in self._rules.phase.layers:
            learner = self._model.layers[name].conv.last_learner
            if not learner.rewarded:
                kind = type(learner).__name__
                raise InputError(f"`reward` is for learners such as RSTDP, got {kind} of {name}: give `learn` a label")
        if is_batch(self._network, image):
            got = f"got {np.shape(image)}: each decision earns its own reward"
            raise InputError(f"`image` must be a single one, of shape {np.shape(image)[1:]}, {got}")
        check_image(self._network, image)
        rewards = _integers("reward", reward, (), -1, 1, "be 1, -1 or 0")
        return learn_reward(self._rules, self._model, state, jnp.asarray(image), jnp.asarray(rewards, jnp.int32))

    def end_epoch(self, state: StreamState) -> StreamState:
        """The state after the learners have ended an epoch, for example by annealing rates or drawing a new dropout.

        A stream has no epochs by itself: if this method is not called, rates stay as they are.
        """
        self._check_state(state)
        return end_epoch(self._rules, self._model, state)

    def network(self, state: StreamState) -> SpikingNetwork:
        """The network with all that it has learned, rounded as by `load`; raises InputError if its weights are invalid.

        Call it outside of jit.
        """
        _check_known(state)
        self._check_state(state)
        learned = TrainState({name: np.asarray(weights) for name, weights in self.start.weights().items()})
        convs = {name: conv for _, name, conv in self._network.layers()}
        for name, layer in state.carry.layers.items():
            learned.keep_layer(name, convs[name], np.asarray(layer.weights), jax.tree.leaves(layer.conv))
        network = learned.network(self._network)
        return SpikingNetwork(
            network,
            weights=rounded_weights(network, learned.weights),
            class_names=self.start.class_names,
            initial=changed_leaves(self._network, network) | self.start.initial,
        )

    def save(self, state: StreamState, path: Path | str, settings: Mapping[str, Any] | None = None) -> None:
        """Writes `network` to an .npz file that `snnjax.load` and all commands read, with `settings`, JSON data.

        A stream from this file starts with an empty memory and with new states of the learners; `save_state` keeps
        both.
        """
        _check_path(path)
        learned = self.network(state)
        weights = {name: np.asarray(values) for name, values in learned.weights().items()}
        network = on_host(learned.network)
        about = _json("settings", settings or {})
        Trained(network, weights, image_shape(network), about, learned.class_names, learned.initial).save(path)

    def save_state(self, state: StreamState, path: Path | str) -> None:
        """Writes a state as an .npz file: the layers that learn, the states of their learners, and the memory.

        With the state that `load_state` reads from it, all further results are bit-identical to those of a stream that
        was not interrupted. Call it outside of jit.
        """
        _check_path(path)
        files.save_checkpoint(Path(path), *self.flatten(state))

    def load_state(self, path: Path | str) -> StreamState:
        """The state that `save_state` has written, or `snnjax stream` as checkpoint.npz; executes no code.

        `replays` and `adapt_every` of this stream may differ from those of the stream that wrote the file. The state
        does not depend on them; they apply to the images that are learned from now on.

        Raises FileNotFoundError if there is no such file. Raises InputError if it is damaged, if it contains no state,
        or if the state is that of a stream with a different `memory` or different layers.
        """
        _check_path(path)
        arrays, meta = files.load_checkpoint(Path(path))
        with explained(str(path)):
            return self.unflatten(arrays, meta)

    def flatten(self, state: StreamState) -> tuple[Arrays, Json]:
        """The arrays of a state by name, which do not depend on the kernels, and JSON data, for saving it in a file.

        All names start with "stream", so that the same file can contain other arrays. Call it outside of jit.
        """
        _check_known(state)
        self._check_state(state)
        arrays = {f"{_PREFIX}{path}": np.asarray(leaf) for path, leaf in leaves(state).items()}
        return arrays, dict(stream=dict(format=STATE_FORMAT, features=self._features))

    def unflatten(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> StreamState:
        """The inverse of `flatten`; raises InputError as `load_state`."""
        about = meta.get("stream")
        if not isinstance(about, dict):
            raise InputError("it holds no state of a stream")
        files.check_format("it", about, STATE_FORMAT, "use that version")
        if found := described_differences(self._features, about.get("features", {})):
            problem = "it holds the state of a stream whose network has another encoder or other features"
            raise InputError(f"{problem}: {list_differences(found)}")
        held = {_path(name): array for name, array in arrays.items() if name.startswith(_PREFIX)}
        expected = leaves(self._blank)
        if {path.partition(".")[0] for path in held} != {path.partition(".")[0] for path in expected}:
            wanted = f"a memory of {self._rules.memory} images of each class" if self._rules.memory else "no memory"
            raise InputError(f"the state must have {wanted}, as this stream has: see `memory`")
        if held.keys() != expected.keys():
            differing = sorted(held.keys() ^ expected.keys())[0]
            raise InputError(f"the state must be of the learners of this stream, {differing} differs")
        structure = jax.tree.structure(self._blank)
        state = jax.tree.unflatten(structure, [jnp.asarray(held[path]) for path in expected])
        _check_leaves(state, self._blank)
        return state

    @functools.cached_property
    def _features(self) -> Json:
        """The encoder and the layers that do not learn, with their weights, in the form of `described`."""
        arrays = {name: np.asarray(weights) for name, weights in self.start.weights().items()}
        parts: Json = dict(encoder=to_data(self._network.encoder, arrays, "encoder"))
        for _, name, conv in self._network.layers():
            if name in self._rules.phase.layers:
                del arrays[name]
            else:
                parts[name] = to_data(conv, arrays, name)
        return described(parts, arrays)


def _fits(state: StreamState, expected: StreamState) -> bool:
    """Whether a state has the structure, the shapes and the dtypes that are expected."""
    structure: Any = jax.tree.structure(state)
    if structure != jax.tree.structure(expected):
        return False
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True)
    return all(np.shape(leaf) == wanted.shape and jnp.result_type(leaf) == wanted.dtype for leaf, wanted in pairs)


def _check_leaves(state: StreamState, expected: StreamState) -> None:
    """Raises InputError, with their names, if arrays of a state do not have the expected shapes or dtypes."""
    given = {path: f"{jnp.result_type(leaf)}{list(np.shape(leaf))}" for path, leaf in leaves(state).items()}
    wanted = {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves(expected).items()}
    for path in sorted(given.keys() | wanted.keys()):
        if given.get(path) != wanted.get(path):
            got = given.get(path, "nothing")
            raise InputError(f"`state.{path}` must be {wanted.get(path, 'left out')} in this stream, got {got}")


def _path(name: str) -> str:
    """The path of a leaf of a state, from its name in a file; in earlier versions, weights were called `stored`."""
    path = current_path(name.removeprefix(_PREFIX))
    return f"{path.removesuffix('.stored')}.weights" if path.endswith(".stored") else path


def _integers(name: str, value: Any, shape: tuple[int, ...], least: int, most: int, expected: str) -> Any:
    """An array of integers of this shape in `least`..`most`, as far as they are known."""
    values = value if isinstance(value, jax.Array) else np.asarray(value)
    checks.array(name, values, None, "integers")
    checks.shape(name, values, shape, "the images")
    known = checks.concrete_values(values, jnp.integer)
    if known is not None:
        checks.all_within(name, known, least, most, expected)
    return values


def _check_path(path: Any) -> None:
    checks.instance("path", path, str | os.PathLike, "the path of a file")


def _json(name: str, value: Any) -> Json:
    """A mapping as JSON data."""
    checks.instance(name, value, Mapping, "a dictionary")
    with explained(f"`{name}` must be JSON data", TypeError, ValueError):
        return json.loads(json.dumps(dict(value)))


def _check_size(network: Network, rules: Rules) -> None:
    """Raises InputError unless the machine can hold the memory."""
    size = np.dtype(latency_dtype(network.time_steps)).itemsize
    of_class = network.classes * math.prod(network.input_shapes[rules.phase.first]) * size
    fits = f"so that it fits into the {files.MEMORY / 2**30:,.1f} GiB of this machine"
    checks.integer("memory", rules.memory, 0, files.MEMORY // of_class, why=fits)


def check_learns(network: Network) -> None:
    """Raises InputError unless a network has layers that learn from labels."""
    if network.decision is None:
        got = "without a decision: put a readout on it by `networks.prototypes_on(network, classes)`"
    elif is_fitted(network.decision):
        got = f"whose {type(network.decision).__name__} is fitted"
    else:
        return
    raise InputError(f"`network` must have layers that learn from labels, got one {got}")


def _check_known(state: StreamState) -> None:
    """Raises InputError if a state has traced values, which are unknown until the program runs."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(state)):
        advice = "call `save`, `save_state`, `flatten` and `network` outside of jax.jit, jax.vmap and jax.lax.scan"
        raise InputError(f"`state` must have known values, got traced ones: {advice}")


def check_memory(memory: int, replays: int) -> None:
    """Raises InputError unless images are kept and replayed, or neither."""
    checks.integer("memory", memory, 0)
    if checks.integer("replays", replays, 0) and not memory:
        raise InputError(f"`memory` must be at least 1 with `replays`, got 0 and {replays}")
    if memory and not replays:
        raise InputError("`replays` must be at least 1 with a `memory`, which has no effect else, got 0")

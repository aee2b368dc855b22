"""The training of a network from first to last: encoding, greedy STDP layer by layer, reward, tests.

Every stage's outputs are computed once and kept compactly; no stage looks back. The state after each epoch holds all
that is needed to go on exactly from there.
"""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from snnjax import __version__, devices
from snnjax.data import Dataset
from snnjax.encoding import Encoder
from snnjax.errors import InputError
from snnjax.kernels import native
from snnjax.layers import SpikingConv
from snnjax.metrics import fractions
from snnjax.networks import Network, SpikingNetwork, draw
from snnjax.training import diagnosis, progress, reward
from snnjax.training.diagnosis import Diagnosis
from snnjax.training.unsupervised import stdp_epoch

BLOCK = 32
"""Images whose potentials are computed together in the reward phase; it decides nothing but near-ties."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the result of a training depends on, besides network and data.

    Attributes:
      epochs: of each stage, in order; the last number is that of the reward phase.
      batch_size: images after which the rates of the reward phase adapt.
      patience: stops when the best test accuracy lies more than so many epochs back; 0 never stops early.
      seed: of the initial weights.
      update_batch: B, images whose winners are found with the same weights, before their updates are applied in order;
        1 learns image after image.
      native: the compiled kernels do the work, on a CPU; they round as another processor might.
    """

    epochs: tuple[int, ...]
    batch_size: int = 1000
    patience: int = 5
    seed: int = 0
    update_batch: int = 1
    native: bool = False

    def __post_init__(self) -> None:
        if not self.epochs or any(not isinstance(count, int) or count < 0 for count in self.epochs):
            raise InputError(f"`epochs` must be integers of at least 0, got {self.epochs}")
        for name, minimum in (("batch_size", 1), ("patience", 0), ("seed", 0), ("update_batch", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < minimum:
                raise InputError(f"`{name}` must be an integer of at least {minimum}, got {value!r}")


class Listener:
    """Hears of a training's course; does nothing by itself."""

    def started(self, phase: str, images: int) -> None:
        """A phase begins, of so many images."""

    def advanced(self, images: int, correct: int) -> None:
        """So many images more are done, `correct` of them decided correctly."""

    def finished(self, record: dict[str, Any]) -> None:
        """A phase is over: its name, seconds, compile_seconds and images_per_second."""

    def tested(self, record: dict[str, Any]) -> None:
        """A reward epoch is over: see `TrainState.epochs`."""

    def diagnosed(self, phase: str, diagnosis: Diagnosis) -> None:
        """What a phase that is over has shown: see `snnjax.training.diagnosis`."""


@dataclasses.dataclass
class TrainState:
    """Where a training stands.

    Attributes:
      weights: of all layers, by name.
      phase: index in `plan` of the phase to go on with.
      done: epochs of it that are done.
      reward: the reward phase's state but for its weights, once it has begun.
      best: weights of the best network so far, by name.
      phases: a record for each phase done: name, images, seconds, compile_seconds, images_per_second.
      epochs: a record for each reward epoch: train and test, each accuracy, wrong, silent.
      wins: by layer, how often each feature won in the last STDP epoch.
      diagnoses: by phase, what it has shown: see `snnjax.training.diagnosis`.
      reused: by layer, where its weights come from, if an earlier run has trained it.
    """

    weights: dict[str, np.ndarray]
    phase: int = 0
    done: int = 0
    reward: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    best: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    phases: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    epochs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    wins: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    diagnoses: dict[str, Diagnosis] = dataclasses.field(default_factory=dict)
    reused: dict[str, str] = dataclasses.field(default_factory=dict)

    _ARRAYS: ClassVar = ("weights", "reward", "best", "wins")
    _DATA: ClassVar = dict(phase=int, done=int, phases=list, epochs=list, diagnoses=dict, reused=dict)

    def flatten(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON data, for a checkpoint."""
        arrays = {f"{group}/{name}": value for group in self._ARRAYS for name, value in getattr(self, group).items()}
        return arrays, {name: getattr(self, name) for name in self._DATA}

    @classmethod
    def unflatten(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> "TrainState":
        """The inverse of `flatten`.

        Raises:
          ValueError: these are no such arrays and data.
        """
        groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in cls._ARRAYS}
        for path, value in arrays.items():
            group, _, name = path.partition("/")
            if group not in groups:
                raise InputError(f"the state of a training holds no array {path!r}")
            groups[group][name] = value
        for name, kind in cls._DATA.items():
            if not isinstance(meta.get(name), kind):
                raise InputError(f"the state of a training holds `{name}`, {kind.__name__}, got {meta.get(name)!r}")
        data: dict[str, Any] = {**groups, **{name: meta[name] for name in cls._DATA}}
        return cls(**data)

    @property
    def best_epoch(self) -> int:
        """Number of the reward epoch with the best test accuracy, the later one among equals; -1 before the first."""
        accuracies = [record["test"]["accuracy"] for record in self.epochs]
        return max(range(len(accuracies)), key=lambda at: (accuracies[at], at), default=-1)


def network_for(make: Callable[[tuple[int, int, int], int], Network], data: Dataset) -> Network:
    """The network, as in `NETWORKS`, that takes the encoded images of a data set."""
    return dataclasses.replace(make(data.input_shape, data.classes), time_steps=data.encoder.time_steps)


OfImage = Callable[[Any, jax.Array], Any]
"""A pure function of (state, image), or of (state, images)."""


def method(network: SpikingNetwork, name: str, *args: int) -> OfImage:
    """A method of a network, with its first arguments, as a pure function of (weights, image)."""
    return _method(nnx.graphdef(network), name, *args)


@functools.cache  # the same function for networks alike, so that nothing is compiled again
def _method(graphdef: nnx.GraphDef[SpikingNetwork], name: str, *args: int) -> OfImage:
    return lambda state, image: getattr(nnx.merge(graphdef, state), name)(*args, image)


def judge(network: SpikingNetwork, first: int, encoder: Encoder | None = None, native: bool = False) -> OfImage:
    """`SpikingNetwork.judge_block` as a pure function of (`judge_state`, images).

    Args:
      network: what decides.
      first: the stage that the images enter, as latencies, or bool (who fired) for the last stage.
      encoder: makes latencies of images that are no latencies yet.
      native: the encoder takes compiled kernels.
    """
    return _judge(nnx.graphdef(network), first, encoder, native)


@functools.cache
def _judge(graphdef: nnx.GraphDef[SpikingNetwork], first: int, encoder: Encoder | None, native: bool) -> OfImage:
    def judged(state: tuple[nnx.State, list[jax.Array]], images: jax.Array) -> tuple[jax.Array, jax.Array]:
        weights, taps = state
        network = nnx.merge(graphdef, weights)

        def reach(image: jax.Array) -> jax.Array:
            inputs = encoder(image, native=native) if encoder else image
            return inputs if inputs.dtype == bool else network.reach(first, len(network.spec.stages) - 1, inputs)

        return network.judge_block(devices.map_images(reach, images), taps)

    return judged


@functools.cache
def encoding(encoder: Encoder, native: bool = False) -> OfImage:
    """An encoder as a function of (anything, image)."""
    return lambda _, image: encoder(image, native=native)


def judge_state(network: SpikingNetwork) -> tuple[nnx.State, list[jax.Array]]:
    """The weights that `judge` needs."""
    return nnx.state(network), network.decision_taps()


@dataclasses.dataclass(frozen=True)
class Phase:
    """One part of a training: one layer's STDP, or the reward phase (layer "")."""

    name: str
    stage: int
    layer: str
    epochs: int
    branch: int = 0


def plan(spec: Network, epochs: tuple[int, ...]) -> tuple[Phase, ...]:
    """The phases of a training in order.

    Raises:
      ValueError: `epochs` is not one number for each stage.
    """
    if len(epochs) != len(spec.stages):
        raise InputError(f"`epochs` must be {len(spec.stages)} numbers for {spec.name}, got {len(epochs)}: {epochs}")
    phases, branches = [], dict.fromkeys(range(len(spec.stages)), 0)
    for stage, name, layer in spec.layers():
        if layer.stdp is not None:
            phases.append(Phase(f"STDP {name}", stage, name, epochs[stage], branches[stage]))
            branches[stage] += 1
    return *phases, Phase("R-STDP", spec.first_rewarded, "", epochs[-1])


class Clock:
    """Gathers the seconds, compilation apart, of the parts of a phase."""

    def __init__(self, name: str):
        self.name, self.images, self.seconds, self.compile_seconds = name, 0, 0.0, 0.0

    def compile(self, function: Any, *args: Any, **static: Any) -> Any:
        """Compiles a jitted function for arguments like these, without running it."""
        start = time.perf_counter()
        compiled = function.lower(*args, **static).compile()
        self.compile_seconds += time.perf_counter() - start
        return compiled

    def run(self, images: int, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a compiled function over so many images, to its end."""
        start = time.perf_counter()
        result = jax.block_until_ready(function(*args))
        jax.effects_barrier()
        self.seconds += time.perf_counter() - start
        self.images += images
        return result

    def record(self) -> dict[str, Any]:
        """name, images, seconds, compile_seconds, images_per_second."""
        rate = self.images / self.seconds if self.seconds else 0.0
        return dict(
            name=self.name,
            images=self.images,
            seconds=round(self.seconds, 4),
            compile_seconds=round(self.compile_seconds, 4),
            images_per_second=round(rate, 1),
        )


CHUNK = 128
"""Images at most that a device takes at a time where they do not depend on each other."""


def each_device_takes(images: int, chunk: int, count: int) -> int:
    """Images of a chunk on each of `count` devices, at most `chunk`, so that few are padded."""
    chunks = -(-images // (chunk * count))
    return -(-images // (chunks * count))


class Batched:
    """A function of one image over any number of them, on all devices: compiled once, run chunk by chunk.

    Args:
      function: of (state, image), to a tree of arrays.
      state: any pytree of arrays.
      images: (N, ...) array of such images as will come.
      clock: keeps the time.
      chunk: at most so many images at a time on each device; the last chunk is padded.
      together: `function` takes a device's part of a chunk as a whole, (n, ...).
    """

    def __init__(
        self,
        function: OfImage,
        state: Any,
        images: np.ndarray,
        clock: Clock,
        chunk: int = CHUNK,
        together: bool = False,
    ):
        self.clock, mesh = clock, devices.peers()
        self.chunk = each_device_takes(len(images), chunk, mesh.size) * mesh.size
        self._places = tuple(NamedSharding(mesh, spec) for spec in _SPECS)
        example = jax.ShapeDtypeStruct((self.chunk, *images.shape[1:]), images.dtype, sharding=self._places[1])
        spread = _spread(function, mesh, together)
        self._compiled = clock.compile(spread, jax.device_put(state, self._places[0]), example)

    def __call__(self, state: Any, images: np.ndarray, tell: bool = True) -> Any:
        """The function's values as NumPy arrays of (N, ...), in a tree as the function returns."""
        state, pieces = jax.device_put(state, self._places[0]), []
        for start in range(0, len(images), self.chunk):
            piece = images[start : start + self.chunk]
            count = len(piece)
            if count < self.chunk:
                piece = np.concatenate([piece, np.zeros((self.chunk - count, *piece.shape[1:]), piece.dtype)])
            piece = jax.device_put(piece, self._places[1])
            result = self.clock.run(count, self._compiled, state, piece)
            pieces.append(jax.tree.map(lambda values, count=count: np.asarray(values)[:count], result))
            if tell:
                progress.tell(count)
        return jax.tree.map(lambda *values: np.concatenate(values), *pieces)


_SPECS = (PartitionSpec(), PartitionSpec("images"))
"""How a state and images lie on the devices."""


@functools.lru_cache(maxsize=64)
def _spread(function: OfImage, mesh: Mesh, together: bool) -> Any:
    """`function` of (state, image), or of (state, images) if `together`, over images that lie on all devices."""
    chunkwise = (
        function if together else lambda state, images: devices.map_images(functools.partial(function, state), images)
    )
    return jax.jit(jax.shard_map(chunkwise, mesh=mesh, in_specs=_SPECS, out_specs=_SPECS[1], check_vma=False))


def _arrange(values: np.ndarray, shape: tuple[int, ...]) -> jax.Array:
    """Pads the leading axis with zeros to fill `shape` and folds it so."""
    missing = int(np.prod(shape)) - len(values)
    if missing:
        values = np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
    return jnp.asarray(values.reshape(*shape, *values.shape[1:]))


class Trainer:
    """Trains one network on one data set; `run` goes on from any state that it has left."""

    def __init__(self, spec: Network, data: Dataset, settings: Settings, listener: Listener | None = None):
        """Checks that network, data and settings fit together.

        Raises:
          ValueError: they do not.
          OSError: native kernels are asked for and cannot be compiled.
        """
        if data.classes != spec.classes:
            raise InputError(f"the network has {spec.classes} classes, {data.name} has {data.classes}")
        if data.input_shape != spec.input_shape:
            raise InputError(f"the network takes {spec.input_shape}, images of {data.name} become {data.input_shape}")
        if settings.native:
            if (platform := devices.peers().devices[0].platform) != "cpu":
                raise InputError(f"`native` kernels run on a CPU, got the device {platform}: take `device` cpu")
            if spec.time_steps > native.STEPS:
                raise InputError(f"`native` kernels take at most {native.STEPS} time steps, got {spec.time_steps}")
            native.load()
        self.spec, self.data, self.settings = spec, data, settings
        self.encoder = dataclasses.replace(data.encoder, time_steps=spec.time_steps)
        self.plan = plan(spec, settings.epochs)
        self.listener = listener or Listener()
        self.network = draw(spec, settings.seed, native=settings.native)
        self._cache: tuple[int, dict[str, np.ndarray]] | None = None

    def initial_state(self) -> TrainState:
        """The state before the first image."""
        network = draw(self.spec, self.settings.seed)
        return TrainState({name: np.asarray(weights) for name, weights in network.weights().items()})

    def check(self, state: TrainState) -> None:
        """Checks that a state is one that this training can go on from.

        Raises:
          ValueError: it is not.
        """
        learning, shapes = reward.initial_state(self.network), self.spec.weight_shapes
        counters = {each.name: getattr(learning, each.name) for each in dataclasses.fields(learning)}
        expected: dict[str, dict[str, Any]] = dict(weights=shapes, best=shapes)
        expected["reward"] = {name: value.shape for name, value in counters.items() if name != "weights"}
        for group, places in expected.items():
            arrays = getattr(state, group)
            found = {name: array.shape for name, array in arrays.items()}
            if found != places and (arrays or group == "weights"):
                raise InputError(f"`{group}` must hold {places} for {self.spec.name}, got {found}")
        if not 0 <= state.phase <= len(self.plan) or state.done < 0:
            raise InputError(f"`phase` must lie in 0..{len(self.plan)}, got {state.phase}; `done` {state.done}")

    def layer_keys(self, where: str) -> dict[str, str]:
        """For each layer that learns by STDP a name of all that its weights depend on, so that other runs may reuse it.

        Args:
          where: the device's name; others round otherwise.
        """
        settings, spec, keys = self.settings, self.spec, {}
        common: tuple[Any, ...] = (
            __version__,
            jax.__version__,
            jaxlib.__version__,
            np.__version__,
            where,
            self.data.train_digest,
            dataclasses.asdict(self.encoder),
        )
        common += (spec.input_shape, spec.time_steps, settings.seed, settings.update_batch, settings.native)
        for phase in self.plan[:-1]:
            branches = spec.stages[phase.stage].branches[: phase.branch + 1]
            before = (spec.stages[: phase.stage], branches, settings.epochs[: phase.stage + 1])
            keys[phase.layer] = hashlib.sha256(repr((common, before)).encode()).hexdigest()[:16]
        return keys

    def reuse(self, state: TrainState, layer: str, weights: np.ndarray, diagnosis: Diagnosis, origin: str) -> None:
        """Takes the weights of the next layer of a state from an earlier run instead of training it.

        Raises:
          ValueError: they do not fit.
        """
        phase, expected = self.plan[state.phase], state.weights[layer].shape
        if phase.layer != layer or weights.shape != expected or "wins" not in diagnosis:
            raise InputError(f"`weights` of {layer} must be {expected} of {phase.layer}, got {weights.shape}")
        state.weights[layer], state.reused[layer], state.diagnoses[phase.name] = weights, origin, diagnosis
        state.wins[layer] = np.array(diagnosis["wins"])
        state.phase += 1

    def run(self, state: TrainState, save: Callable[[TrainState], None] = lambda state: None) -> TrainState:
        """Trains to the end.

        Args:
          state: where to go on.
          save: called after each epoch with the state.

        Returns:
          The last state, which is `state`, changed.
        """
        self.network.set_weights({name: jnp.asarray(value) for name, value in state.weights.items()})
        with progress.listening(self.listener.advanced):
            while state.phase < len(self.plan):
                phase = self.plan[state.phase]
                learn = self._reward if phase.layer == "" else self._unsupervised
                for _ in learn(phase, state):
                    save(state)
                state.phase, state.done = state.phase + 1, 0
                save(state)
        return state

    def _record(self, clock: Clock, state: TrainState) -> dict[str, Any]:
        """Records a phase so far and starts its clock anew; one that was stopped and goes on stays one."""
        record = clock.record()
        clock.images, clock.seconds, clock.compile_seconds = 0, 0.0, 0.0
        found = [at for at, old in enumerate(state.phases) if old["name"] == record["name"]]
        if not found:
            state.phases.append(record)
            return record
        old = state.phases[found[0]]
        for name in ("images", "seconds", "compile_seconds"):
            record[name] = round(record[name] + old[name], 4)
        record["images_per_second"] = round(record["images"] / max(record["seconds"], 1e-9), 1)
        state.phases[found[0]] = record
        return record

    def _map(self, name: str, function: Callable[..., Any], images: list[np.ndarray], state: TrainState) -> Any:
        """A phase of its own: `function` of (weights, image) over one or more sets of images."""
        clock = Clock(name)
        self.listener.started(name, sum(map(len, images)))
        batched = Batched(function, nnx.state(self.network), images[0], clock)
        results = [batched(nnx.state(self.network), each) for each in images]
        self.listener.finished(self._record(clock, state))
        return results

    def _diagnose(self, name: str, found: Diagnosis, state: TrainState) -> None:
        state.diagnoses[name] = found
        self.listener.diagnosed(name, found)

    def _diagnose_outputs(self, name: str, stage: int, outputs: np.ndarray, state: TrainState) -> None:
        """Of the first images: a share needs no more."""
        some = outputs[:1000]
        fired = some if some.dtype == bool else some < self.spec.time_steps
        if stage >= 0:
            found = {phase.layer: state.diagnoses.get(phase.name, {}) for phase in self.plan}
            open_ = {layer: each["convergence"] for layer, each in found.items() if layer and each}
            self._diagnose(name, diagnosis.of_outputs(self.spec, stage, fired, open_), state)

    def _encoded(self, state: TrainState) -> dict[str, np.ndarray]:
        if self._cache is None:
            images = [self.data.train_images, self.data.test_images]
            train, test = self._map("encode", encoding(self.encoder, self.settings.native), images, state)
            self._cache = (0, dict(train=train, test=test))
        return self._cache[1]

    def _stage_inputs(self, stage: int, state: TrainState) -> dict[str, np.ndarray]:
        """Latencies that enter a stage: of the training images; of the test images those that enter the network."""
        inputs = self._encoded(state)
        assert self._cache is not None  # `_encoded` has filled it
        for at in range(self._cache[0], stage):
            respond = method(self.network, "respond", at)
            name = f"outputs of stage {at + 1}"
            inputs["train"] = self._map(name, respond, [inputs["train"]], state)[0]
            self._diagnose_outputs(name, at, inputs["train"], state)
            self._cache = (at + 1, inputs)
        return inputs

    def _reward_inputs(self, state: TrainState) -> dict[str, np.ndarray]:
        """What enters the first stage that learns by reward, of both sets: bool for the last stage, else latencies."""
        first, last = self.plan[-1].stage, len(self.spec.stages) - 1
        known = max(0, min(first, last - 1))
        inputs = self._stage_inputs(known, state)
        train, test = inputs.pop("train"), inputs.pop("test")
        if first == last:
            name = f"who fires in stage {last}"
            (train,) = self._map(name, method(self.network, "reach", known, last), [train], state)
            self._diagnose_outputs(name, last - 1, train, state)
            (test,) = self._map(name, method(self.network, "reach", 0, last), [test], state)
        else:
            for at in range(first):
                (test,) = self._map(f"outputs of stage {at + 1}", method(self.network, "respond", at), [test], state)
        self._cache = None
        return dict(train=train, test=test)

    def _unsupervised(self, phase: Phase, state: TrainState) -> Iterator[None]:
        if state.done >= phase.epochs:
            return
        images = len(self.data.train_images)
        inputs = self._stage_inputs(phase.stage, state)["train"]
        layer: SpikingConv = getattr(self.network, phase.layer)
        assert layer.spec.stdp is not None  # `plan` sees to it
        clock = Clock(phase.name)
        self.listener.started(phase.name, images * (phase.epochs - state.done))
        together = self.settings.update_batch
        shape = (*progress.split(images, together), together)
        latencies, valid = _arrange(inputs, shape), _arrange(np.ones(images, bool), shape)
        # A branch starts at the first rates, but doubles them in step with the images that its stage has seen.
        seen = phase.branch * phase.epochs * images % layer.spec.stdp.doubling
        graphdef, weights = nnx.split(layer)
        weights = jax.tree.map(jnp.array, weights)
        compiled = clock.compile(stdp_epoch, graphdef, weights, jnp.int32(0), latencies, valid)
        while state.done < phase.epochs:
            number = jnp.int32(seen + state.done * images)
            weights, features = clock.run(images, compiled, weights, number, latencies, valid)
            nnx.update(layer, jax.tree.map(jnp.array, weights))  # `weights` themselves are donated
            won = np.asarray(features)[:images]
            state.wins[phase.layer] = np.bincount(won[won >= 0], minlength=layer.spec.features)
            state.weights[phase.layer] = np.asarray(layer.weights())
            state.done += 1
            record = self._record(clock, state)
            if state.done == phase.epochs:
                self.listener.finished(record)
                self._diagnose(phase.name, diagnosis.of_stdp(layer.spec, state.weights[phase.layer], won), state)
            yield

    def _reward(self, phase: Phase, state: TrainState) -> Iterator[None]:
        if self._over(phase, state):
            return
        inputs = self._reward_inputs(state)
        clock, test_clock = Clock(phase.name), Clock("test")
        self.listener.started(phase.name, len(self.data.train_images) * (phase.epochs - state.done))
        learning = reward.initial_state(self.network)
        if state.reward:
            stored: dict[str, Any] = {name: jnp.asarray(value) for name, value in state.reward.items()}
            learning = dataclasses.replace(learning, **stored)
        judging = judge(self.network, phase.stage)
        test = Batched(judging, judge_state(self.network), inputs["test"], test_clock, together=True)
        batches = (self.settings.batch_size, clock, self.settings.update_batch)
        epoch = RewardEpoch(self.network, inputs["train"], self.data.train_labels, *batches)
        while not self._over(phase, state):
            learning, decisions = epoch(learning)
            tested, _ = test(judge_state(self.network), inputs["test"], tell=False)
            state.weights = {name: np.asarray(value) for name, value in self.network.weights().items()}
            state.reward = {
                field.name: np.asarray(getattr(learning, field.name))
                for field in dataclasses.fields(learning)
                if field.name != "weights"
            }
            train = fractions(decisions, self.data.train_labels)
            record = dict(epoch=state.done, train=train, test=fractions(tested, self.data.test_labels))
            state.epochs.append(record)
            if state.best_epoch == state.done:
                state.best = dict(state.weights)
            state.done += 1
            records = [self._record(each, state) for each in (clock, test_clock)]
            self.listener.tested(record)
            if self._over(phase, state):
                for each in records:
                    self.listener.finished(each)
                self._diagnose(phase.name, diagnosis.of_reward(self.spec, state.weights, decisions), state)
            yield

    def _over(self, phase: Phase, state: TrainState) -> bool:
        patience = self.settings.patience
        stale = 0 < patience < state.done - 1 - state.best_epoch
        return state.done >= phase.epochs or stale

    def judge(self, weights: dict[str, np.ndarray], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decisions and potentials on images as those of the data, with weights by name.

        Returns:
          (N,) int32, -1 where silent; (N, classes) float32, the largest potential of each class at the last step.
        """
        self.network.set_weights({name: jnp.asarray(value) for name, value in weights.items()})
        state = judge_state(self.network)
        judging = judge(self.network, 0, self.encoder, self.settings.native)
        return Batched(judging, state, images, Clock(""), together=True)(state, images)

    def decisions(self, weights: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
        """The decisions alone of `judge`, (N,) int32."""
        return self.judge(weights, images)[0]


class RewardEpoch:
    """One reward epoch after the other over the same images; the network's weights are updated after each.

    Args:
      network: learns.
      inputs: (N, C, H, W) what enters the first stage that learns by reward: bool if it is the last one.
      labels: (N,) int32.
      batch_size: images after which the rates adapt.
      clock: keeps the time.
      update_batch: images that are looked at with the same weights.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        inputs: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        clock: Clock,
        update_batch: int = 1,
    ):
        self.network, self.clock, self.images = network, clock, len(inputs)
        block = BLOCK if update_batch == 1 and inputs.dtype == bool else update_batch
        shape = (*progress.split(self.images, block), block)
        self._inputs = [_arrange(x, shape) for x in (inputs, labels.astype(np.int32), np.ones(self.images, bool))]
        self._inputs.append(jnp.int32(batch_size))
        graphdef, _, frozen = reward.split(network)
        args = (graphdef, reward.initial_state(network), frozen, *self._inputs)
        self._compiled = clock.compile(reward.reward_epoch, *args, together=update_batch > 1)

    def __call__(self, learning: reward.RewardState) -> tuple[reward.RewardState, np.ndarray]:
        """Learns from all images in order: the new state and the decisions, (N,) int32."""
        _, weights, frozen = reward.split(self.network)
        state = dataclasses.replace(learning, weights=weights)
        state, decisions = self.clock.run(self.images, self._compiled, state, frozen, *self._inputs)
        nnx.update(self.network, state.weights)
        return state, np.asarray(decisions)[: self.images]

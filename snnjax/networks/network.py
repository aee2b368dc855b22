"""A network as data, and the flax.nnx module that runs it."""

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from snnjax import kernels
from snnjax.errors import InputError
from snnjax.kernels import Winners, checks
from snnjax.layers import RSTDP, STDP, Conv, NativeConv, Pool, SpikingConv, spiked_to_latency


@dataclasses.dataclass(frozen=True)
class Stage:
    """Layers side by side on the same input; their outputs are joined feature after feature, then pooled."""

    branches: tuple[Conv, ...]
    pool: Pool | None = None


def stage(*branches: Conv, pool: Pool | int | None = None) -> Stage:
    """A stage of one layer or of several branches, with max pooling after it."""
    return Stage(branches, Pool(pool) if isinstance(pool, int) else pool)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network: stages one after the other, the last of them decision layers.

    Attributes:
      name: as on the command line.
      input_shape: (C, H, W) of the encoded image.
      classes: number of classes; each decision layer has as many features for each, in order.
      stages: the last one decides: with several branches, by majority of their votes.
      time_steps: T.
      epochs: the default number of epochs of each stage, in order.
      reward_by_turns: in the reward phase, batch after batch, either the first of the layers that learn does, or all
        the others; from the second epoch on only the others. By default all learn together.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    stages: tuple[Stage, ...]
    time_steps: int = 15
    epochs: tuple[int, ...] = ()
    reward_by_turns: bool = False

    def __post_init__(self) -> None:
        checks.time_steps(self.time_steps)
        checks.integer("classes", self.classes, 1)
        if not isinstance(self.input_shape, tuple) or len(self.input_shape) != 3:
            raise InputError(f"`input_shape` must be (channels, rows, columns), got {self.input_shape!r}")
        for size in self.input_shape:
            checks.integer("input_shape", size, 1)
        for branch in self.stages[-1].branches:
            if branch.rstdp is None or branch.features % self.classes:
                raise InputError(
                    f"the last stage of {self.name} must learn by R-STDP with a multiple of {self.classes} features,"
                    f" got {branch}"
                )
        if len(self.epochs) not in (0, len(self.stages)):
            raise InputError(f"`epochs` must be one for each of {len(self.stages)} stages, got {self.epochs}")
        self.shapes  # noqa: B018  (raises where a map would vanish)

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of the input, then of the output of each stage."""
        shapes = [self.input_shape]
        for number, each in enumerate(self.stages, 1):
            try:
                shapes.append(_output_shape(each, shapes[-1]))
            except InputError as error:
                raise InputError(f"{self.name} on input {self.input_shape}: stage {number}: {error}") from error
        return tuple(shapes)

    @property
    def weight_shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """(F, C, kh, kw) of the weights of each layer, by name."""
        kernels = {name: checks.pair("kernel", layer.kernel, 1) for _, name, layer in self.layers()}
        return {name: (layer.features, self.shapes[number][0], *kernels[name]) for number, name, layer in self.layers()}

    @property
    def first_rewarded(self) -> int:
        """Number of the first stage that learns by reward."""
        return min(number for number, _, layer in self.layers() if layer.rstdp is not None)

    def layers(self) -> Iterator[tuple[int, str, Conv]]:
        """Number of the stage from 0, name and description of each layer: layer1, layer2, layer3_1, layer3_2, ..."""
        for number, each in enumerate(self.stages):
            for index, branch in enumerate(each.branches, 1):
                suffix = f"_{index}" if len(each.branches) > 1 else ""
                yield number, f"layer{number + 1}{suffix}", branch


def describe(spec: Network) -> dict[str, Any]:
    """A network as JSON data; `described` is the inverse."""
    return json.loads(json.dumps(dataclasses.asdict(spec)))


def described(data: Any) -> Network:
    """The network that `describe` has made JSON data of.

    Raises:
      ValueError: the data describe none.
    """
    try:
        stages = tuple(
            Stage(tuple(_conv(branch) for branch in each["branches"]), each["pool"] and Pool(**_tuples(each["pool"])))
            for each in data["stages"]
        )
        return Network(**_tuples(data) | dict(stages=stages))
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"this describes no network: {error}") from error


def _conv(data: dict[str, Any]) -> Conv:
    rules = dict(stdp=data["stdp"] and STDP(**_tuples(data["stdp"])))
    rules |= dict(rstdp=data["rstdp"] and RSTDP(**_tuples(data["rstdp"])))
    return Conv(**_tuples(data) | rules)


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def _output_shape(each: Stage, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    sizes = set()
    for branch in each.branches:
        rows, columns = branch.output_size(shape[1:])
        padding = checks.pair("output_padding", branch.output_padding, 0)
        sizes.add((rows + 2 * padding[0], columns + 2 * padding[1]))
    if len(sizes) > 1 and not all(branch.threshold is None for branch in each.branches):
        raise InputError(f"branches must be joined with maps of one size, got {sorted(sizes)}")
    size = sizes.pop()
    return sum(b.features for b in each.branches), *(each.pool.output_size(size) if each.pool else size)


class SpikingNetwork(nnx.Module):
    """A network with its weights. Its methods take one stimulus; batches come from `jax.vmap`.

    The layers are attributes, named as in `Network.layers`: `network.layer1.weights()` is (F, C, kh, kw) float32.
    """

    def __init__(self, spec: Network, *, rngs: nnx.Rngs, native: bool = False):
        """Draws the initial weights of all layers from the `params` stream of `rngs`.

        Args:
          spec: the network's description.
          rngs: draw the weights.
          native: takes the compiled kernels of `snnjax.kernels.native` for all layers that they suit.
        """
        self.spec = spec
        for number, name, branch in spec.layers():
            # Decision layers that learn alone do so in blocks of images, by products that XLA computes as fast.
            in_blocks = number == spec.first_rewarded == len(spec.stages) - 1
            suited = native and not in_blocks and NativeConv.suits(branch, spec.time_steps)
            kind = NativeConv if suited else SpikingConv
            setattr(self, name, kind(branch, spec.shapes[number][0], time_steps=spec.time_steps, rngs=rngs))

    def branches(self, number: int) -> list[SpikingConv]:
        """The layers of stage `number`, counted from 0."""
        return [getattr(self, name) for at, name, _ in self.spec.layers() if at == number]

    def weights(self) -> dict[str, jax.Array]:
        """The weights of each layer by its name."""
        return {name: getattr(self, name).weights() for _, name, _ in self.spec.layers()}

    def set_weights(self, weights: dict[str, jax.Array]) -> None:
        """Sets the weights of the layers named.

        Raises:
          ValueError: an unknown name, weights of another shape, or below 0 where the layer's bounds rule that out.
        """
        names = [name for _, name, _ in self.spec.layers()]
        for name, value in weights.items():
            if name not in names:
                raise InputError(f"`weights` must name layers of {self.spec.name} ({', '.join(names)}), got {name!r}")
            layer, shape = getattr(self, name), jax.eval_shape(getattr(self, name).weights).shape
            if value.shape != shape:
                raise InputError(f"`weights[{name!r}]` must have shape {shape}, got {value.shape}")
            if layer.spec.monotone and not bool(jnp.all(value >= 0)):
                raise InputError(f"`weights[{name!r}]` must be at least 0 as the layer's bounds, got {jnp.min(value)}")
            layer.set_weights(jnp.asarray(value, layer.weight.dtype))

    def respond(self, number: int, latency: jax.Array) -> jax.Array:
        """Output latencies of stage `number`, pooled, of its input latencies (C, H, W)."""
        return self._join(number, [layer.latencies(latency) for layer in self.branches(number)])

    def fired(self, number: int, spiked: jax.Array) -> jax.Array:
        """Who fires at all in stage `number`, pooled, bool, from which of its inputs (C, H, W) did: 1/T of the work.

        Raises:
          ValueError: the stage allows negative weights, so that who fires depends on when.
        """
        if not all(layer.spec.monotone for layer in self.branches(number)):
            raise InputError(f"stage {number} allows negative weights: who fires depends on the times of its inputs")
        steps = self.spec.time_steps
        outputs = [spiked_to_latency(layer.fired(spiked), time_steps=steps) for layer in self.branches(number)]
        return self._join(number, outputs) < steps

    def _join(self, number: int, latencies: list[jax.Array]) -> jax.Array:
        steps = self.spec.time_steps
        pool = self.spec.stages[number].pool
        paddings = [branch.output_padding for branch in self.spec.stages[number].branches]
        padded = [kernels.pad(x, p, time_steps=steps) for x, p in zip(latencies, paddings, strict=True)]
        joined = jnp.concatenate(padded)
        if pool is None:
            return joined
        return kernels.pool(joined, pool.window, stride=pool.stride, padding=pool.padding, time_steps=steps)

    def votes(self, winners: list[Winners]) -> jax.Array:
        """The class each decision layer votes for, (branches,) int32, -1 where it is silent."""
        layers = self.spec.stages[-1].branches
        votes = [
            jnp.where(won.valid[0], won.feature[0] // (layer.features // self.spec.classes), -1)
            for won, layer in zip(winners, layers, strict=True)
        ]
        return jnp.stack(votes)

    def decision(self, votes: jax.Array) -> jax.Array:
        """The class with the most votes, () int32, if at least two agree; else the middle branch's vote."""
        counts = jnp.sum(votes[:, None] == jnp.arange(self.spec.classes)[None], axis=0)
        middle = votes[votes.shape[0] // 2]
        return jnp.where(counts.max() >= 2, jnp.argmax(counts).astype(middle.dtype), middle)

    def decide(self, spiked: jax.Array) -> jax.Array:
        """The decision, () int32, -1 if silent, from which inputs (C, H, W) of the last stage fired: bool."""
        return self.judge(spiked)[0]

    def judge(self, spiked: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The decision as `decide`, and each class's largest potential, (classes,) float, added up over branches."""
        layers = self.branches(len(self.spec.stages) - 1)
        return self._judge([layer.final_potentials(spiked) for layer in layers])

    def judge_block(self, spiked: jax.Array, taps: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        """`judge` of B images together, (B, C, H, W) bool, which is faster; `taps` are those of `decision_taps`.

        How many images come together decides in which order floats are added up, and so near-ties.
        """
        layers = self.branches(len(self.spec.stages) - 1)
        pairs = zip(layers, taps, strict=True)
        return jax.vmap(self._judge)([layer.final_potentials_of_block(spiked, each) for layer, each in pairs])

    def decision_taps(self) -> list[jax.Array]:
        """The weights of the decision layers with the taps in front, (kh, kw, F, C)."""
        return [jnp.moveaxis(layer.weights(), (2, 3), (0, 1)) for layer in self.branches(len(self.spec.stages) - 1)]

    def _judge(self, potentials: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        layers = self.branches(len(self.spec.stages) - 1)
        winners = [layer.decide(each) for layer, each in zip(layers, potentials, strict=True)]
        largest = [each.reshape(self.spec.classes, -1).max(axis=1) for each in potentials]
        return self.decision(self.votes(winners)), functools.reduce(jnp.add, largest)

    def reach(self, first: int, last: int, latency: jax.Array) -> jax.Array:
        """Which neurons fire at all after the stages first..last-1, bool, of the latencies that enter the first."""
        for number in range(first, last):
            if all(layer.spec.monotone for later in range(number, last) for layer in self.branches(later)):
                spiked = latency < self.spec.time_steps
                for later in range(number, last):
                    spiked = self.fired(later, spiked)
                return spiked
            latency = self.respond(number, latency)
        return latency < self.spec.time_steps

    def observe(self, latency: jax.Array) -> "Observed":
        """The network's response to the latencies (C, H, W) of one image."""
        seen, last = {"input": latency}, len(self.spec.stages) - 1
        for number in range(last):
            outputs = [layer.latencies(latency) for layer in self.branches(number)]
            names = [name for at, name, _ in self.spec.layers() if at == number]
            seen |= dict(zip(names, outputs, strict=True))
            latency = self._join(number, outputs)
        decision, potentials = self.judge(latency < self.spec.time_steps)
        return Observed(seen, decision, potentials)

    def decide_from(self, first: int, inputs: jax.Array) -> jax.Array:
        """The decision, () int32, from what enters stage `first`: latencies (C, H, W), or bool for the last stage."""
        last = len(self.spec.stages) - 1
        return self.decide(inputs if inputs.dtype == bool else self.reach(first, last, inputs))

    def __call__(self, latency: jax.Array) -> jax.Array:
        """The class of one encoded image, (C, H, W) latencies: () int32, -1 if the network stays silent."""
        if latency.shape != self.spec.input_shape:
            raise InputError(f"`latency` must have shape {self.spec.input_shape}, got {latency.shape}")
        return self.decide_from(0, latency)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Observed:
    """The network's response to one image."""

    latencies: dict[str, jax.Array]  # (F, H, W) of the input and of each layer but the deciding ones, before pooling
    decision: jax.Array  # [] int32, the class, -1 if the network stays silent
    potentials: jax.Array  # [classes] float32, each class's largest potential at the last step, added up over branches


def draw(spec: Network, seed: int = 0, *, native: bool = False) -> SpikingNetwork:
    """A network with its initial weights, drawn by NumPy: the same on every device, and nothing to compile.

    Args:
      spec: the network's description.
      seed: of the weights.
      native: takes the compiled kernels of `snnjax.kernels.native`, on a CPU, for all layers that they suit.
    """
    graphdef, state = nnx.split(nnx.eval_shape(lambda: SpikingNetwork(spec, rngs=nnx.Rngs(0), native=native)))
    random = np.random.default_rng(seed)
    network = nnx.merge(graphdef, jax.tree.map(lambda weight: jnp.zeros(weight.shape, weight.dtype), state))
    shapes = spec.weight_shapes
    for _, name, layer in spec.layers():
        weights = random.normal(layer.weight_mean, layer.weight_std, shapes[name])
        getattr(network, name).set_weights(jnp.asarray(weights, jnp.float32))
    return network

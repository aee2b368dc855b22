"""A network with its weights: the plain pytree that programs compute with."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from snnjax import kernels
from snnjax.core import checks, devices
from snnjax.core.errors import InputError
from snnjax.kernels import Spikes, exact
from snnjax.layers.pool import pooled_maps
from snnjax.layers.ramp_layer import RampLayer
from snnjax.layers.spiking import Layer
from snnjax.networks.decision import MAXIMA, Decided, decide, reads_of, unfitted
from snnjax.networks.graph import Activations, name_of
from snnjax.networks.network import Network

Weights = Mapping[str, Any]
"""(F, C, kh, kw) float32 of each layer, by its name."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """A network with its weights. Its methods accept a single stimulus; use `jax.vmap` for batches.

    Attributes:
      network: its description.
      layers: by name.

    Examples:
      >>> import jax
      >>> import snnjax
      >>> model = snnjax.load("pretrained:goupy2024_ncg_mnist").model
      >>> latency = model.encode(snnjax.data.digits().test_images[0])
      >>> observed = jax.jit(model.observe)(latency)
      >>> {name: fired.shape for name, fired in observed.latencies.items()}
      {'input': (2, 28, 28), 'layer1': (128, 24, 24), 'layer2': (50, 1, 1)}
    """

    network: Network
    layers: dict[str, Any]

    @classmethod
    def of(cls, network: Network, weights: Weights) -> "Model":
        """A network with weights by layer name; raises InputError if weights are missing, and as `check_weights`."""
        check_weights(network, weights)
        checks.same_names("weights", weights, network.weight_shapes)
        steps = network.time_steps
        layers: dict[str, Any] = {}
        for number, name, conv in network.layers():
            prepared = conv.prepared(weights[name].shape[1], network.classes)
            classes = network.classes if name in network.deciding else 0
            shape = network.input_shapes[number]
            given = prepared, weights[name], steps
            if conv.ramped:
                layers[name] = RampLayer(*given, classes=classes, input_shape=shape)
                continue
            layers[name] = Layer(*given, conv.monotone, classes, network.timed, input_shape=shape)
        return cls(network, layers)

    @property
    def last(self) -> int:
        """The number of the stage whose layers decide, or whose potentials a `FittedDecision` reads.

        It is the number of stages if the decision reads spikes, or if there is no decision: then the last output is
        read.
        """
        return len(self.network.stages) - bool(self.network.evidence)

    def stage(self, number: int) -> list[Any]:
        """The layers of stage `number`, counted from 0."""
        return [self.layers[name] for name in self.network.names[number]]

    def updated(self, layers: Mapping[str, Layer]) -> "Model":
        """The model with some layers replaced, by name."""
        return dataclasses.replace(self, layers={**self.layers, **layers})

    def encode(self, image: ArrayLike) -> jax.Array:
        """The latencies (C, H, W) of an image."""
        check_image(self.network, image)
        encoder: Any = self.network.encoder
        return encoder(jnp.asarray(image))

    def forward(self, latency: jax.Array) -> jax.Array:
        """The input of `decide` for an encoded image: latencies (C, H, W)."""
        return self.input_of(self.last, Activations({0: latency}))

    def features(self, latency: jax.Array) -> jax.Array:
        """The input of the decision for an encoded image: latencies (C, H, W), or float32 potentials (F, H, W)."""
        inputs = self.forward(latency)
        return self.decisive_spikes(inputs)[0].potential if self.network.reads_potentials else inputs

    def input_of(self, number: int, known: Activations) -> jax.Array:
        """The joined input of stage `number`, (C, H, W), given some known outputs for an image.

        Raises InputError unless there is a stage with this number, from 0, and the known outputs have the right shapes
        and are sufficient.
        """
        self._check_known(number, self.last, known)
        if number in known.inputs:
            return known.inputs[number]
        sources = self.network.graph.sources(number)
        stages = self.network.graph.path_to(sources, *known).stages

        def compute(model: "Model", known: Activations) -> jax.Array:
            outputs = model._outputs(stages, known)
            return model.joined(number, [outputs[source] for source in sources])

        return self._in_blocks(compute, stages, known)

    def output_of(self, number: int, known: Activations) -> jax.Array:
        """The output with this number, (F, H, W), where 0 is the encoded image, given some known outputs.

        Raises InputError as `input_of`.
        """
        self._check_known(number, len(self.network.stages), known)
        stages = self.network.graph.path_to({number}, *known).stages
        return self._in_blocks(lambda model, known: model._outputs(stages, known)[number], stages, known)

    def _outputs(self, stages: set[int], known: Activations) -> dict[int, jax.Array]:
        """The known outputs, and those of some stages, by number."""
        outputs = dict(known.outputs)
        for number in sorted(stages):
            if number in known.inputs:
                inputs = known.inputs[number]
            else:
                inputs = self.joined(number, [outputs[source] for source in self.network.graph.sources(number)])
            outputs[number + 1] = self._output(number, inputs)
        return outputs

    def _output(self, number: int, inputs: jax.Array) -> jax.Array:
        """The output of stage `number` for its joined input."""
        layers = self.stage(number)
        if not layers:
            return self.join(number, [inputs])
        stage = self.network.stages[number]
        if stage.pointwise:
            return self.join(number, self.responses(number, inputs))
        return jnp.concatenate([layer.outputs(inputs, stage.pool) for layer in layers])

    def _in_blocks(self, compute: Callable[..., jax.Array], stages: set[int], known: Activations) -> jax.Array:
        """`compute` of the model and of the known outputs; in blocks of images if some stages have ramps."""
        ramped = [number for number in sorted(stages) if self.network.stages[number].ramped]
        if not ramped:
            return compute(self, known)
        names = [name for number in ramped for name in self.network.names[number]]
        frozen = {name: self.layers[name].frozen() for name in names}
        return devices.in_blocks(compute, devices.BATCH_SIZES["ramp"])(
            jax.tree.map(jnp.asarray, self.updated(frozen)), known
        )

    def responses(self, number: int, inputs: jax.Array) -> list[jax.Array]:
        """The responses of the layers of a stage to its input, (C, H, W); for a stage without layers, the input itself.

        They are latencies after the pointwise inhibition of the stage. Layers with ramps round as in decisions.
        """
        layers = self.stage(number)
        if self.network.stages[number].pointwise:
            return _inhibited(layers, [layer.first_spikes(inputs) for layer in layers])
        if not self.network.stages[number].ramped:
            return [layer.responses(inputs) for layer in layers] or [inputs]
        return [_in_blocks(RampLayer.responses, layer, inputs) for layer in layers]

    def join(self, number: int, responses: Sequence[jax.Array]) -> jax.Array:
        """The output of a stage from its `responses`, which are concatenated, then pooled."""
        pool = self.network.stages[number].pool
        layers = self.stage(number)
        if not layers:
            return pooled_maps(responses[0], pool, self.network.time_steps)
        pairs = zip(layers, responses, strict=True)
        return jnp.concatenate([layer.pooled(response, pool) for layer, response in pairs])

    def joined(self, number: int, outputs: Sequence[jax.Array]) -> jax.Array:
        """The joined input of stage `number`, from the outputs that it reads, in order."""
        graph = self.network.graph
        if graph.plain(number):
            return outputs[0]
        steps = self.network.time_steps
        reads = zip(graph.reads(number), outputs, strict=True)
        maps = [pooled_maps(output, each.pool, steps) for (_, each), output in reads]
        return self.network.stages[number].join(*maps, time_steps=steps)

    def decide(self, latency: jax.Array) -> Decided:
        """The decision on what `forward` returns, (C, H, W)."""
        check_decides(self.network)
        return decide(self.network.decision, self.decisive_spikes(latency), self.network.classes)

    def decisive_spikes(self, latency: jax.Array) -> list[Spikes]:
        """The `Spikes` on which the decision is based: of each deciding layer, or the input of a `FittedDecision`.

        Without a decision, they are the `Spikes` of the features.
        """
        if self.network.reads_potentials:
            return [self._silent_spikes(latency)]
        if not self.network.deciding:
            time = latency.astype(jnp.float32) / self.network.time_steps
            return [Spikes(latency, jnp.zeros_like(time), time)]
        layers = self.stage(self.last)
        if not self.network.stages[self.last].ramped:
            return [layer.deciding_spikes(latency) for layer in layers]
        return [layer.fire_at_end(_in_blocks(RampLayer.potentials, layer, latency)) for layer in layers]

    def decisive_latencies(self, latency: jax.Array) -> dict[str, jax.Array]:
        """Latencies (F, H, W) of the layers in `Network.evidence` by name, given what `forward` returns."""
        names = self.network.evidence
        if not self.network.reads_potentials:
            spikes = self.decisive_spikes(latency) if names else []
            return {name: layer_spikes.latency for name, layer_spikes in zip(names, spikes, strict=True)}
        silent = jnp.asarray(self.network.time_steps, latency.dtype)
        potentials = {name: self.layers[name].potentials(latency) for name in names}
        return {name: jnp.full_like(values, silent, latency.dtype) for name, values in potentials.items()}

    def _silent_spikes(self, latency: jax.Array) -> Spikes:
        """The final potentials of the last stage's layers, pooled, or the largest of each map, as silent `Spikes`."""
        layers = self.stage(self.last)
        potentials = [layer.potentials(latency) for layer in layers]
        if reads_of(self.network.decision) == MAXIMA:
            maps = [values.max(axis=(1, 2), keepdims=True) for values in potentials]
        else:
            margins = [checks.pair("padding", layer.conv.output_padding, 0) for layer in layers]
            maps = [_zeros_around(*pair) for pair in zip(potentials, margins, strict=True)]
        potential = jnp.concatenate(maps)
        if (pool := self.network.stages[self.last].pool) is not None:
            potential = pool.largest(potential)
        silent = jnp.full(potential.shape, self.network.time_steps, latency.dtype)
        return Spikes(silent, potential, jnp.ones_like(potential))

    def predict(self, latency: jax.Array) -> Decided:
        """The decision on one encoded image, (C, H, W) latencies."""
        self._check_input(latency)
        return self.decide(self.forward(latency))

    def _check_known(self, number: int, most: int, known: Activations) -> None:
        checks.integer("number", number, 0, most)
        checks.instance("known", known, Activations, "networks.Activations", "Activations({0: latency})")
        outputs = self.network.shapes
        inputs = (*self.network.input_shapes, outputs[-1])  # the last one of a fitted decision
        for name, values, shapes in (("outputs", known.outputs, outputs), ("inputs", known.inputs, inputs)):
            for key, value in values.items():
                checks.integer(f"number in known.{name}", key, 0, len(shapes) - 1)
                checks.shape(f"known.{name}[{key}]", value, shapes[key], self.network.name)

    def _check_input(self, latency: jax.Array) -> None:
        checks.latency("latency", latency, time_steps=self.network.time_steps)
        checks.shape("latency", latency, self.network.input_shape, self.network.name)

    def observe(self, latency: jax.Array) -> "Observed":
        """The network's response to the latencies (C, H, W) of one image, layer by layer."""
        self._check_input(latency)
        network = self.network
        latencies = {"input": latency}
        outputs = {0: latency}
        for number, layer_names in enumerate(network.names[: self.last]):
            inputs = self.joined(number, [outputs[source] for source in network.graph.sources(number)])
            responses = self.responses(number, inputs)
            outputs[number + 1] = self.join(number, responses)
            shown = zip(layer_names, responses, strict=True) if layer_names else [(name_of(number + 1), inputs)]
            latencies |= dict(shown)
        inputs = self.forward(latency)
        latencies |= self.decisive_latencies(inputs)
        return Observed(latencies, decide(network.decision, self.decisive_spikes(inputs), network.classes))


def _in_blocks(compute: Callable[..., jax.Array], layer: RampLayer, inputs: jax.Array) -> jax.Array:
    """`compute` of a layer that does not learn and of an input, in blocks of images."""
    return devices.in_blocks(compute, devices.BATCH_SIZES["ramp"])(jax.tree.map(jnp.asarray, layer.frozen()), inputs)


class Observed(NamedTuple):
    """The network's response to one image.

    Attributes:
      latencies: (F, H, W) of the input and of each layer, by name, before pooling, and of each stage without layers, by
        the name of the stage. If the decision is not `timed`, deciding neurons with a potential above 0 fire at the
        last step.
      decided: the decision; -1, without votes and scores, if the network has none.
    """

    latencies: dict[str, jax.Array]
    decided: Decided


def _inhibited(layers: Sequence[Any], spikes: Sequence[Spikes]) -> list[jax.Array]:
    """Latencies of the layers of a stage after pointwise inhibition among all of them, from the `Spikes` of each."""
    steps = layers[0].time_steps
    margins = [checks.pair("padding", layer.conv.output_padding, 0) for layer in layers]
    latencies = [kernels.pad(x.latency, margin, time_steps=steps) for x, margin in zip(spikes, margins, strict=True)]
    potentials = [_zeros_around(x.potential, margin) for x, margin in zip(spikes, margins, strict=True)]
    # The potentials are needed too: of equally early neurons at a position, the one with the largest potential fires.
    joined = Spikes(jnp.concatenate(latencies), jnp.concatenate(potentials))
    kept = kernels.pointwise_inhibition(joined, time_steps=steps).latency
    ends = np.cumsum([layer.conv.features for layer in layers])[:-1]
    cropped = []
    for maps, (rows, columns) in zip(jnp.split(kept, ends), margins, strict=True):
        cropped.append(maps[:, rows : maps.shape[1] - rows, columns : maps.shape[2] - columns])
    return cropped


def _zeros_around(maps: jax.Array, margin: tuple[int, int]) -> jax.Array:
    """Maps (F, H, W) with rows and columns of zeros added on each side."""
    rows, columns = margin
    return jnp.pad(maps, ((0, 0), (rows, rows), (columns, columns)))


def check_decides(network: Network) -> None:
    """Raises InputError if a network has no decision."""
    if network.decision is None:
        advice = "call `features`, or train it with a `decision`, such as LinearSVM()"
        raise InputError(f"`decision` of {network.name} is None, so that the network decides nothing: {advice}")


def check_weights(network: Network, weights: Weights) -> None:
    """Raises InputError for an unknown name, for weights of another shape, or for weights below their lower bound."""
    shapes = network.weight_shapes
    convs = {name: conv for _, name, conv in network.layers()}
    for name, value in weights.items():
        checks.one_of(f"weights of {network.name}", name, shapes)
        checks.shape(f"weights[{name!r}]", value, shapes[name], network.name)
        if convs[name].monotone and not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) >= 0):
            least = np.asarray(value).min()
            raise InputError(f"`weights[{name!r}]` must be at least 0 as the layer's bounds, got {least}")


def rounded_weights(network: Network, weights: Weights) -> dict[str, np.ndarray]:
    """The weights by layer, (F, C, kh, kw) float32, rounded so that the sum of any of them is exact in float32.

    Decisions then do not depend on the order in which a program sums them. Weights change by at most 2^-23 of the
    largest sum of the weights of a neuron; those of layers with a ramp do not change. Raises InputError as
    `check_weights`, and if weights are not finite.
    """
    check_weights(network, weights)
    rounded = {}
    for name, value in weights.items():
        weight = np.asarray(value)
        checks.number(f"weights[{name!r}]", weight, arrays=True)
        rounded[name] = weight if name in network.ramped else exact.round_for_exact_sums(weight)
    return rounded


def check_fitted(network: Network, *names: str) -> None:
    """Raises InputError if parts of a network must be fitted first: "encoder", "decision", layers by name.

    By default all parts are checked. The ramps of deciding layers need no fit.
    """
    convs = {name: conv for _, name, conv in network.layers()}
    for name in names or ("encoder", "decision", *network.ramped):
        if name in network.deciding:
            continue
        part: Any = convs[name].ramp if name in convs else getattr(network, name)
        # Leaves that are traced or on a device were arrays before.
        if unfitted(part) and not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(part)):
            kind = type(part).__name__
            title = f"`ramp` of {name}" if name in convs else f"`{name}`"
            raise InputError(f"{title} of {network.name} must be fitted, got {kind} before its `fit`: train it first")


def check_image(network: Network, image: Any, *, batch: bool = False, name: str = "image") -> None:
    """Raises InputError unless the encoder converts an image, or each of a batch (N, ...), to the network's input."""
    encoder = network.encoder
    if encoder is None:
        advice = "give the Network one, or call `predict` with latencies"
        raise InputError(f"`encoder` must be given to take images, got None: {advice}")
    checks.pixels(name, image, getattr(encoder, "scale", 1.0))
    input_shape = network.input_shape
    given = _encoded(encoder, image.shape[1:] if batch else image.shape)
    if given == input_shape:
        return
    if shape := image_shape(network, image.shape[-1:]):
        axes = ", ".join(map(str, shape))
        problem = f"must have shape {shape}, or (N, {axes}) for several, got {image.shape}"
    else:
        becomes = f", which becomes {given}" if given else ""
        problem = f"must become an input of shape {input_shape}, got {image.shape}{becomes}"
    raise InputError(f"`{name}` {problem}")


def image_shape(network: Network, *channels: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of images that the network's encoder accepts, with the given channels, or grey, colour or events.

    It is () if no such shape is found.
    """
    rows, columns = network.input_shape[1:]
    for last in (*channels, (), (3,), (2,)):
        same = _encoded(network.encoder, (rows, columns, *last))
        shape = *(2 * size - made for size, made in zip((rows, columns), same[1:], strict=False)), *last
        if _encoded(network.encoder, shape) == network.input_shape:
            return shape
    return ()


def is_batch(network: Network, images: Any) -> bool:
    """Whether images are a batch, (N, ...), for the network's encoder, rather than a single image."""
    shapes = [_encoded(network.encoder, shape) for shape in (np.shape(images), np.shape(images)[1:])]
    return shapes[0] != network.input_shape == shapes[1]


def _encoded(encoder: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an encoder's output for an image of this shape; () if the shape is not supported."""
    try:
        return tuple(encoder.output_shape(shape))
    except (ValueError, TypeError, IndexError, AttributeError):  # custom encoders may raise any of these
        return ()

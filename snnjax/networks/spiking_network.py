"""The flax.nnx module around a network with its weights."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from snnjax.core import checks, devices
from snnjax.core.paths import with_leaves
from snnjax.data import names
from snnjax.networks.decision import Decided
from snnjax.networks.graph import Activations
from snnjax.networks.images import with_default_encoder
from snnjax.networks.model import Model, Weights, check_decides, check_fitted, check_image, check_weights, is_batch
from snnjax.networks.network import Network


class PlasticWeight(nnx.Variable):
    """Weights that learn by plasticity, not by gradient.

    Examples:
      >>> from flax import nnx
      >>> import snnjax
      >>> from snnjax.networks import PlasticWeight
      >>> network = snnjax.load("pretrained:goupy2024_ncg_mnist")
      >>> [*nnx.state(network, PlasticWeight)]  # the variables that hold weights, by layer
      ['layer1', 'layer2']
    """


class SpikingNetwork(nnx.Module):
    """A network with its weights, as a flax module. Its methods accept one image, or several along a first axis.

    As for kernels, the back end is selected by `snnjax.kernels.use_backend`, also under `jax.jit` and `jax.vmap`.

    The weights are variables that are named after the layers: `network.layer1[...]` is (F, C, kh, kw) float32.

    Attributes:
      class_names: the name of each class.

    Examples:
      >>> import snnjax
      >>> network = snnjax.load("pretrained:goupy2024_ncg_mnist")  # or SpikingNetwork(description), untrained
      >>> images = snnjax.data.digits().test_images[:5]
      >>> network(images).shape, network.features(images).shape
      ((5,), (5, 128, 6, 6))
      >>> network.layer1[...].shape, network.class_names[:3]
      ((128, 2, 5, 5), ('0', '1', '2'))
    """

    def __init__(
        self,
        network: Network,
        seed: int = 0,
        *,
        weights: Weights | None = None,
        class_names: Sequence[str] = (),
        initial: Mapping[str, Any] | None = None,
    ):
        """Uses the given weights, or draws `Network.initial_weights`; raises InputError if the weights do not fit.

        A network without an encoder gets the one that `Trainer` would choose for it, if there is one. Classes
        without names are called "0", "1", ... `initial` contains the original values of the numbers that training has
        changed, by the paths of `paths.leaves`.
        """
        made = f"{getattr(network, '__name__', '')}(...)" if callable(network) else ""
        checks.instance("network", network, Network, "a Network", made)
        network = with_default_encoder(network)
        self.class_names = names.checked(class_names, network.classes) or names.numbered(network.classes)
        layers = Model.of(network, network.initial_weights(seed) if weights is None else weights).layers
        for name, layer in layers.items():
            setattr(self, name, PlasticWeight(jnp.asarray(layer.weights, jnp.float32)))
        self._initial = tuple((initial or {}).items())
        leaves, self._structure = jax.tree.flatten(network)
        self._numbers = tuple(None if isinstance(leaf, np.ndarray | jax.Array) else leaf for leaf in leaves)
        self._arrays = nnx.List([nnx.Variable(jnp.asarray(x)) for x in leaves if isinstance(x, np.ndarray | jax.Array)])

    @property
    def network(self) -> Network:
        """The `Network`: its encoder, its stages with all that they have learned except the weights, its decision."""
        arrays = iter(self._arrays)
        return jax.tree.unflatten(self._structure, [next(arrays)[...] if x is None else x for x in self._numbers])

    @property
    def untrained(self) -> Network:
        """The `Network` as it was before training, with its original thresholds and without fitted parts.

        Use it to train the network again. If the original values are unknown, as in files of an earlier version, it is
        the same as `network`.
        """
        as_leaves = {path: np.array(x, np.float32) if isinstance(x, list) else x for path, x in self._initial}
        return with_leaves(self.network, as_leaves)

    @property
    def initial(self) -> dict[str, Any]:
        """The original values of the numbers of `network` that were changed by training, by path."""
        return dict(self._initial)

    @property
    def model(self) -> Model:
        """The network as a plain pytree."""
        return Model.of(self.network, self.weights())

    def weights(self) -> dict[str, jax.Array]:
        """(F, C, kh, kw) float32 of each layer, by its name."""
        return {name: getattr(self, name)[...] for name in self.network.weight_shapes}

    def set_weights(self, weights: Weights) -> None:
        """Sets the weights of the layers named; raises as `check_weights`."""
        check_weights(self.network, weights)
        for name, value in weights.items():
            getattr(self, name)[...] = jnp.asarray(value, jnp.float32)

    def __call__(self, images: ArrayLike) -> jax.Array:
        """The class of an image: () int32, -1 if the network is silent.

        An image is uint8 or float, in 0..255, and has the shape that the encoder accepts. For several images, (N, ...),
        the result is (N,). Raises InputError if there is no encoder, if images have another shape, or if their pixels
        are known to lie in 0..1; InputTypeError if they have another dtype.
        """
        return self.decide(images).decision

    def scores(self, images: ArrayLike) -> jax.Array:
        """The score of each class, (classes,) float32, of several images (N, classes); raises as a call does."""
        return self.decide(images).scores

    def decide(self, images: ArrayLike) -> Decided:
        """The decision on an image, or several, and the scores of the classes; raises as a call does."""
        check_decides(self.network)
        check_fitted(self.network)
        return self._of_images(_decide, images)

    def features(self, images: ArrayLike, stages: int | None = None) -> jax.Array:
        """The output of stage number `stages` for an image, such as for a custom classifier: (C, H, W).

        For several images it is (N, C, H, W). The features are latencies, unsigned integers, equal to the number of
        time steps if a neuron is silent. By default they are the input of the decision or, without a decision, the
        output of the last stage. If the decision reads potentials, the features are these potentials, float32,
        (F, H, W), or their maxima, (F, 1, 1). With `stages=0` they are the encoded image. Raises InputError for images
        that the encoder does not accept.
        """
        last = len(self.network.stages) - bool(self.network.deciding)
        if stages is not None:
            checks.integer("stages", stages, 0, last, why="those before the decision")
        end = last if stages is None else stages
        ramped = [name for number, name, conv in self.network.layers() if conv.ramped and number < end]
        check_fitted(self.network, "encoder", *ramped)
        return self._of_images(_features, images, stages)

    def _of_images(self, function: Callable[..., Any], images: ArrayLike, *settings: Any) -> Any:
        """The result of a function of the model and one encoded image, for one image or several.

        A batch is padded to one of a few sizes, so that few programs are compiled.
        """
        batch = is_batch(self.network, images)
        check_image(self.network, images, batch=batch)
        compute = functools.partial(_compute, function, self.model, settings=settings, encode=True, batch=batch)
        if not batch:
            return compute(jnp.asarray(images))
        count = np.shape(images)[0]
        missing = padded_batch_size(count) - count
        pad = np.pad if isinstance(images, np.ndarray) else jnp.pad
        filled = pad(images, [(0, missing), *[(0, 0)] * (np.ndim(images) - 1)])
        return jax.tree.map(lambda x: x[:count], compute(jnp.asarray(filled)))

    def class_name(self, decision: int | jax.Array) -> str:
        """The name of the class of a decision, "(silent)" for -1; only for a single decision, outside of jit."""
        return names.name_of(int(decision), self.class_names)

    def predict(self, latency: jax.Array) -> jax.Array:
        """The class of an encoded image, (C, H, W) latencies: () int32, -1 if the network stays silent.

        Of several, (N, C, H, W), it is (N,).
        """
        check_decides(self.network)
        check_fitted(self.network, "decision", *self.network.ramped)
        checks.latency("latency", latency, None)
        return _compute(_decide, self.model, latency, settings=(), encode=False, batch=np.ndim(latency) == 4).decision


def at_once() -> int:
    """How many images the device takes together."""
    return devices.BATCH_SIZES.get(devices.local_devices()[0].platform, devices.BATCH_SIZES["gpu"])


def padded_batch_size(count: int) -> int:
    """The size to which a batch with so many images is padded, so that few programs are compiled.

    It is a power of two up to the number that the device processes together, or a multiple of that number.
    """
    most = at_once()
    return -(-count // most) * most if count > most else 1 << max(count - 1, 0).bit_length()


def _decide(model: Model, latency: jax.Array) -> Decided:
    return model.predict(latency)


def _features(model: Model, latency: jax.Array, stages: int | None) -> jax.Array:
    return model.features(latency) if stages is None else model.output_of(stages, Activations({0: latency}))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("settings", "encode", "batch"))
def _compute(
    function: Callable[..., Any],
    model: Model,
    inputs: jax.Array,
    *,
    settings: tuple[Any, ...],
    encode: bool,
    batch: bool,
) -> Any:
    """`function` of the model and one stimulus, or of each of a batch, so many at once as fit into memory."""

    def of_one(stimulus: jax.Array) -> Any:
        return function(model, model.encode(stimulus) if encode else stimulus, *settings)

    if not batch:
        return of_one(inputs)
    return jax.lax.map(of_one, inputs, batch_size=min(at_once(), len(inputs)))

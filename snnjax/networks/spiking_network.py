"""The flax.nnx module around a network with its weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from snnjax.core import checks
from snnjax.core.components import with_leaves
from snnjax.core.errors import InputError, wrong_type
from snnjax.data import names
from snnjax.networks.graph import Known
from snnjax.networks.model import Model, Weights, check_fitted, check_weights
from snnjax.networks.network import Network


class PlasticWeight(nnx.Variable):
    """Weights that learn by plasticity, not by gradient."""


class SpikingNetwork(nnx.Module):
    """A network with its weights as a flax module. Its methods take one stimulus; batches come from `jax.vmap`.

    The weights are variables named as the layers: `network.layer1[...]` is (F, C, kh, kw) float32.

    Attributes:
      class_names: one for each class.
    """

    def __init__(
        self,
        spec: Network,
        seed: int = 0,
        *,
        weights: Weights | None = None,
        class_names: Sequence[str] = (),
        initial: Mapping[str, Any] | None = None,
    ):
        """Takes the weights given, or draws `Network.initial_weights`; raises InputError where they do not fit.

        Classes without names are "0", "1", ... `initial` are the numbers that training has changed, as they were, by
        the paths of `components.leaves`.
        """
        if not isinstance(spec, Network):
            made = f"{spec.__name__}(...)" if callable(spec) else ""
            raise wrong_type("spec", "a Network", spec, made)
        self.class_names = names.checked(class_names, spec.classes) or names.numbered(spec.classes)
        layers = Model.of(spec, spec.initial_weights(seed) if weights is None else weights).layers
        for name, layer in layers.items():
            setattr(self, name, PlasticWeight(jnp.asarray(layer.weights, jnp.float32)))
        self._initial = tuple((initial or {}).items())
        leaves, self._structure = jax.tree.flatten(spec)
        self._numbers = tuple(None if isinstance(leaf, np.ndarray | jax.Array) else leaf for leaf in leaves)
        self._arrays = nnx.List([nnx.Variable(jnp.asarray(x)) for x in leaves if isinstance(x, np.ndarray | jax.Array)])

    @property
    def spec(self) -> Network:
        """The network's description."""
        arrays = iter(self._arrays)
        return jax.tree.unflatten(self._structure, [next(arrays)[...] if x is None else x for x in self._numbers])

    @property
    def recipe(self) -> Network:
        """The description before training: thresholds as they were set, nothing fitted. Train this one again.

        It is `spec` itself where nothing is known of that, as of a file of an earlier version.
        """
        as_leaves = {path: np.array(x, np.float32) if isinstance(x, list) else x for path, x in self._initial}
        return with_leaves(self.spec, as_leaves)

    @property
    def initial(self) -> dict[str, Any]:
        """The numbers of `spec` that training has changed, as they were, by path."""
        return dict(self._initial)

    @property
    def model(self) -> Model:
        """The network as a plain pytree."""
        return Model.of(self.spec, self.weights())

    def weights(self) -> dict[str, jax.Array]:
        """(F, C, kh, kw) float32 of each layer, by its name."""
        return {name: getattr(self, name)[...] for name in self.spec.weight_shapes}

    def set_weights(self, weights: Weights) -> None:
        """Sets the weights of the layers named; raises as `check_weights`."""
        check_weights(self.spec, weights)
        for name, value in weights.items():
            getattr(self, name)[...] = jnp.asarray(value, jnp.float32)

    def __call__(self, image: ArrayLike) -> jax.Array:
        """The class of an image as its encoder takes it, uint8 or floats of 0..255, as of `predict`.

        Raises InputError without an encoder, for an image of another shape, for pixels known to be of 0..1, and
        InputTypeError for another dtype.
        """
        model = self.model
        check_fitted(self.spec)
        return model.predict(model.encode(image)).decision

    def features(self, image: ArrayLike, stages: int | None = None) -> jax.Array:
        """The output of stage number `stages` for an image, such as for a custom classifier: (C, H, W).

        Latencies, unsigned integers, the number of time steps where silent; float32 behind real-valued stages without
        a latency code. By default, what the decision reads; 0: the encoded image. Raises InputError as a call does.
        """
        model = self.model
        check_fitted(self.spec, "encoder")
        if stages is not None and checks.integer("stages", stages, 0) > model.last:
            raise InputError(f"`stages` must be at most {model.last}, those before the decision, got {stages}")
        latency = model.encode(image)
        return model.forward(latency) if stages is None else model.output_of(stages, Known({0: latency}))

    def class_name(self, decision: int | jax.Array) -> str:
        """The name of the class that was decided for, "(silent)" for -1; of one decision, outside of jit."""
        return names.name_of(int(decision), self.class_names)

    def predict(self, latency: jax.Array) -> jax.Array:
        """The class of an encoded image, (C, H, W) latencies: () int32, -1 if the network stays silent."""
        check_fitted(self.spec, "decision")
        return self.model.predict(latency).decision

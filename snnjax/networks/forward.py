"""The forward pass of an image: the outputs and inputs of stages, computed on demand, each one once."""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from snnjax.core.errors import InputError

if TYPE_CHECKING:
    from snnjax.networks.model import Model


class Known(NamedTuple):
    """What is known of an image, from which stages are computed.

    Attributes:
      outputs: (F, H, W) of stages, by number: 0 is the encoded image, 1 the output of the first stage.
      inputs: (C, H, W) that stages read, joined, by their number from 0.
    """

    outputs: dict[int, Any] = {}  # noqa: RUF012, nobody changes it
    inputs: dict[int, Any] = {}  # noqa: RUF012


class _Pass:
    """A forward pass, which keeps what it has computed, by number."""

    def __init__(self, model: "Model", known: Known):
        self.model = model
        self.outputs = dict(known.outputs)
        self.inputs = dict(known.inputs)

    def input(self, number: int) -> jax.Array:
        """What stage `number` reads, joined."""
        if number not in self.inputs:
            outputs = [self.output(source) for source in self.model.network.graph.sources(number)]
            self.inputs[number] = self.model.joined(number, outputs)
        return self.inputs[number]

    def output(self, number: int) -> jax.Array:
        """Output `number`."""
        if number not in self.outputs:
            if number == 0:
                raise InputError("`known` must have output 0, the encoded image, or else all that is computed from it")
            self.outputs[number] = self._computed(number - 1, self.input(number - 1))
        return self.outputs[number]

    def _computed(self, number: int, inputs: jax.Array) -> jax.Array:
        """The output of stage `number`."""
        layers = self.model.stage(number)
        if not layers:
            return self.model.join(number, [inputs])
        pool = self.model.network.stages[number].pool
        return self.model.coded(number, jnp.concatenate([layer.outputs(inputs, pool) for layer in layers]))


def input_of(model: "Model", known: Known, number: int) -> jax.Array:
    """What stage `number` reads, joined, (C, H, W)."""
    return _Pass(model, known).input(number)


def output_of(model: "Model", known: Known, number: int) -> jax.Array:
    """Output `number`, (F, H, W)."""
    return _Pass(model, known).output(number)

"""The forward pass of an image: the outputs and inputs of stages, computed on demand, each one once."""

from collections.abc import Sequence
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
    """A forward pass, which keeps what it has computed by number, and by whether times are right.

    Outputs with right times also say who fires.
    """

    def __init__(self, model: "Model", known: Known):
        self.model = model
        self.network = model.network
        self.outputs = {(number, True): value for number, value in known.outputs.items()}
        self.inputs = {(number, True): value for number, value in known.inputs.items()}

    def input(self, number: int, timed: bool) -> jax.Array:
        """What stage `number` reads, joined."""
        for key in ((number, True), (number, timed)):
            if key in self.inputs:
                return self.inputs[key]
        graph = self.network.graph
        outputs = [self.output(source, timed or graph.timed(number)) for source in graph.sources(number)]
        self.inputs[number, timed] = self.model.joined(number, outputs)
        return self.inputs[number, timed]

    def output(self, number: int, timed: bool) -> jax.Array:
        """Output `number`."""
        for key in ((number, True), (number, timed)):
            if key in self.outputs:
                return self.outputs[key]
        if number == 0:
            raise InputError("`known` must have output 0, the encoded image, or else all that is computed from it")
        layers = self.model.stage(number - 1)
        if not timed and not all(layer.monotone for layer in layers):
            return self.output(number, True)
        self.outputs[number, timed] = self._computed(number - 1, layers, self.input(number - 1, timed), timed)
        return self.outputs[number, timed]

    def _computed(self, number: int, layers: Sequence[Any], inputs: jax.Array, timed: bool) -> jax.Array:
        if not layers:
            return self.model.join(number, [inputs])
        if not timed:
            return self.model.join(number, [layer.last_latencies(inputs) for layer in layers])
        pool = self.network.stages[number].pool
        return self.model.coded(number, jnp.concatenate([layer.outputs(inputs, pool) for layer in layers]))


def input_of(model: "Model", known: Known, number: int, timed: bool) -> jax.Array:
    """What stage `number` reads, joined, (C, H, W)."""
    return _Pass(model, known).input(number, timed)


def output_of(model: "Model", known: Known, number: int, timed: bool) -> jax.Array:
    """Output `number`, (F, H, W)."""
    return _Pass(model, known).output(number, timed)

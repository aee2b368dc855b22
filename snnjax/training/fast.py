"""Fast forms of learning: programs that compute what those of `snnjax.training.programs` define, for some learners."""

from typing import Any, NamedTuple

from jax.sharding import Mesh

from snnjax.layers import TAPS, Form, Layer
from snnjax.networks import Model
from snnjax.training import blocks
from snnjax.training.spread import learning_program
from snnjax.training.state import Settings

BLOCK = 32
"""Images whose potentials are computed at once where deciding layers learn; it affects near-ties alone."""


class FastForm(NamedTuple):
    """A program with the carry and arguments of the one that it replaces, where all weights lie within their bounds.

    Attributes:
      program: as of `learning_program`.
      unit: the size of a slice of images is a multiple of it.
      form: of the layers that learn.
    """

    program: Any
    unit: int
    form: Form


def unsupervised(layer: Layer, learner: int, settings: Settings, mesh: Mesh) -> FastForm | None:
    """The fast form of `programs.learn_unsupervised` of a layer by its learner number `learner`, if there is one."""
    return None


def supervised(model: Model, first: int, by_turns: bool, settings: Settings, mesh: Mesh) -> FastForm | None:
    """The fast form of `programs.learn_supervised` from stage `first`, if there is one."""
    batch = settings.update_batch
    if blocks.in_blocks(model, first):
        unit = BLOCK if batch == 1 else batch
        settled: dict[str, Any] = dict(block=unit, batched=batch > 1, by_turns=by_turns)
        return FastForm(learning_program(blocks.learn_in_blocks, mesh, **settled), unit, TAPS)
    return None

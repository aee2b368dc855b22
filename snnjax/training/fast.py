"""Fast forms of learning: programs that compute what those of `snnjax.training.programs` define, for some learners."""

from typing import Any, NamedTuple

from jax.sharding import Mesh

from snnjax.kernels import native
from snnjax.layers import FAST, NATIVE, TAPS, Form, Layer
from snnjax.learners import TargetTime
from snnjax.networks import Model, Network
from snnjax.training import blocks, patches, readout
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
    fits = settings.native and layer.time_steps <= native.STEPS
    if fits and type(layer.conv.each_learner[learner]) is TargetTime:
        return FastForm(learning_program(patches.learn_from_patches, mesh, which=learner), 1, NATIVE)
    return None


def supervised(model: Model, first: int, by_turns: bool, settings: Settings, mesh: Mesh) -> FastForm | None:
    """The fast form of `programs.learn_supervised` from stage `first`, if there is one."""
    batch = settings.update_batch
    if blocks.in_blocks(model, first):
        unit = BLOCK if batch == 1 else batch
        settled: dict[str, Any] = dict(block=unit, batched=batch > 1, by_turns=by_turns)
        return FastForm(learning_program(blocks.learn_in_blocks, mesh, **settled), unit, TAPS)
    convs = [layer.conv for layer in model.stage(model.last)]
    alone = first == model.last and len(convs) == 1 and batch == 1 and not by_turns
    if alone and settings.native and readout.compiled(convs, model.decision, model.time_steps):
        return FastForm(learning_program(readout.learn_at_once, mesh), 1, FAST)
    return None


def deciding(network: Network, settings: Settings) -> dict[str, Form]:
    """Forms of deciding layers that do not learn, by name; those left out have that of `Outputs.form`."""
    convs, steps = network.stages[-1].branches, network.time_steps
    if network.deciding and settings.native and readout.compiled(convs, network.decision, steps):
        return dict.fromkeys(network.deciding, readout.READOUT)
    return {} if network.decision.timed else dict.fromkeys(network.deciding, TAPS)

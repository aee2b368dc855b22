"""The choice of a step: fast ones by learner and platform, and the plain ones that define them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from snnjax.kernels.native.sequences import finite
from snnjax.layers.conv import WTA
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import BLOCKS, NATIVE, XLA
from snnjax.layers.spiking import Layer
from snnjax.learners import RSTDP, STDP, SupervisedSTDP, TargetTime
from snnjax.networks import Earliest, Majority, Model
from snnjax.steps import accelerated, native
from snnjax.steps.deciding import suits_readout
from snnjax.steps.phase import Phase


class Case(NamedTuple):
    """A phase with its model and settings, which a fast step fits or not.

    Attributes:
      phase: which layers learn, and how.
      model: the network, with all its layers.
      native: whether compiled kernels are wanted.
      platform: of the devices, such as "cpu".
    """

    phase: Phase
    model: Model
    native: bool
    platform: str

    @property
    def layers(self) -> list[Layer]:
        """The layers that learn."""
        return [self.model.layers[name] for name in self.phase.layers]

    @property
    def joined(self) -> bool:
        """Whether the inputs are what the first stage reads, not outputs from which several stages are computed."""
        supervised = any(layer.conv.each_learner[self.phase.learner].supervised for layer in self.layers)
        return not supervised or not self.model.network.graph.outputs_entering(self.phase.first, self.model.last)

    @property
    def only_deciding(self) -> bool:
        """Whether deciding layers alone learn."""
        return self.phase.first == self.model.last


def _compiled_stdp(case: Case) -> bool:
    """Whether the compiled step can learn a layer."""
    (layer,) = case.layers
    conv = layer.conv
    learns = type(conv.competition) is WTA and conv.threshold is not None
    return learns and not conv.each_learner[case.phase.learner].pointwise


def _by_majority(case: Case) -> bool:
    return case.only_deciding and type(case.model.network.decision) is Majority


def _compiled_reward(case: Case) -> bool:
    """Whether deciding layers learn under `Majority`, or a single one and the single one before."""
    bounded = all(finite(layer.conv.last_learner.bounds) for layer in case.layers)
    return bounded and type(case.model.network.decision) is Majority and (case.only_deciding or _two_layers(case))


def _two_layers(case: Case) -> bool:
    """Whether two stages of one layer each learn, the second of which reads the first alone, which has `WTA`.

    The compiled step has no pointwise inhibition.
    """
    graph = case.model.network.graph
    stages = [case.model.stage(number) for number in range(case.phase.first, case.model.last + 1)]
    chain = graph.plain(case.model.last) and graph.sources(case.model.last) == (case.model.last,)
    inhibited = case.model.network.stages[case.phase.first].pointwise
    if [len(stage) for stage in stages] != [1, 1] or not chain or inhibited:
        return False
    layer = stages[0][0]
    conv = layer.conv
    return type(conv.competition) is WTA and conv.last_learner.dropout is None and layer.monotone and conv.one_threshold


def _readout(case: Case) -> bool:
    """Whether a single deciding layer learns, under `Earliest`."""
    single = case.only_deciding and len(case.layers) == 1 and not case.phase.by_turns
    return single and type(case.model.network.decision) is Earliest


def _compiled_readout(case: Case) -> bool:
    size = case.model.network.input_shapes[-1][1:]
    return _readout(case) and suits_readout([layer.conv for layer in case.layers], size)


class Step(NamedTuple):
    """A fast step: it computes the result of a plain one, where all weights lie within their bounds.

    It learns from images `start` to `stop` of a slice, and reports of the others that no feature has won (-1). Each
    learner's state advances by as many images. It ends the epoch (`plain.end_epoch`) and returns the infos of the plain
    step, by layer.

    Attributes:
      learner: the type of all learners; a subclass may learn otherwise.
      run: the step, of (phase, carry, model, slice).
      kernels: of the layers that learn; they say how weights are stored.
      compiled: whether it learns by compiled kernels; if not, it is for accelerators.
      batches: whether it is for batches of several images, or for images one by one; None: for both.
      fits: whether it can learn a case otherwise.
      clips: whether it takes weights outside of their bounds too, which the first update clips.
    """

    learner: type
    run: Callable[..., Any]
    kernels: LayerKernels
    compiled: bool = False
    batches: bool | None = None
    fits: Callable[[Case], bool] = lambda case: True
    clips: bool = False


STEPS = (
    Step(STDP, native.learn_stdp, BLOCKS, compiled=True, batches=False, fits=_compiled_stdp, clips=True),
    Step(STDP, accelerated.learn_features, XLA),
    Step(TargetTime, native.learn_target_time, NATIVE, compiled=True),
    Step(RSTDP, native.learn_reward, BLOCKS, compiled=True, batches=False, fits=_compiled_reward, clips=True),
    Step(RSTDP, accelerated.learn_reward_batches, XLA, batches=True, fits=_by_majority),
    Step(SupervisedSTDP, native.learn_readout, XLA, compiled=True, batches=False, fits=_compiled_readout),
    Step(SupervisedSTDP, native.learn_readout, XLA, batches=True, fits=_readout),
)
"""The first that fits is taken."""


def fast_step(case: Case) -> Step | None:
    """The fast step of a case, if there is one."""
    if not case.joined:
        return None
    learners = {type(layer.conv.each_learner[case.phase.learner]) for layer in case.layers}
    for step in STEPS:
        placed = case.native if step.compiled else case.platform != "cpu"
        sized = step.batches in (None, case.phase.batch > 1)
        if learners == {step.learner} and placed and sized and step.fits(case):
            return step
    return None

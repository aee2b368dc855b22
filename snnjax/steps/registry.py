"""Which step learns what: fast steps by learner and platform, and the plain ones that define them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from snnjax.layers.conv import Conv
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import AT_ONCE, NATIVE, TAPS, XLA
from snnjax.learners import RSTDP, STDP, SupervisedSTDP, TargetTime
from snnjax.networks import Network
from snnjax.steps import (
    accelerated,
    last_step,
    reward_in_blocks,
    reward_native,
    stdp_native,
    supervised_native,
    target_time_native,
)
from snnjax.steps.case import Case
from snnjax.steps.plain import Task


def _batch(task: Task) -> int:
    return task.batch


class Step(NamedTuple):
    """A fast step: it computes what a plain one defines, where all weights lie within their bounds.

    Attributes:
      learner: the type of all learners; a subclass may learn otherwise.
      fits: whether it can learn a `Case`.
      run: the step, of (task, carry, model, slice).
      kernels: of the layers that learn.
      unit: of a task: the number of images of a slice is a multiple of it.
      clips: whether it takes weights outside of their bounds too, which the first update clips.
    """

    learner: type
    fits: Callable[[Case], bool]
    run: Callable[..., Any]
    kernels: LayerKernels
    unit: Callable[[Task], int] = _batch
    clips: bool = False


STEPS = (
    Step(STDP, stdp_native.fits, stdp_native.learn, TAPS, clips=True),
    Step(STDP, accelerated.fits, accelerated.learn_features, XLA),
    Step(TargetTime, target_time_native.fits, target_time_native.learn, NATIVE),
    Step(RSTDP, reward_native.fits, reward_native.learn, reward_native.STRONGEST, clips=True),
    Step(RSTDP, accelerated.fits_reward_batches, accelerated.learn_reward_batches, XLA),
    Step(RSTDP, accelerated.fits_reward, accelerated.learn_reward, TAPS, reward_in_blocks.unit),
    Step(RSTDP, accelerated.fits_deep_reward, accelerated.learn_deep_reward, XLA, reward_in_blocks.unit),
    Step(RSTDP, reward_in_blocks.fits, reward_in_blocks.learn, TAPS, reward_in_blocks.unit),
    Step(SupervisedSTDP, supervised_native.fits, supervised_native.learn, XLA),
    Step(SupervisedSTDP, accelerated.fits_readout, accelerated.learn_readout, XLA),
    Step(SupervisedSTDP, accelerated.fits_readout_one_by_one, accelerated.learn_readout, AT_ONCE),
)
"""The first that fits is taken."""


def fast_step(case: Case) -> Step | None:
    """The fast step of a case, if there is one."""
    learners = {type(layer.conv.each_learner[case.task.learner]) for layer in case.layers}
    if len(learners) > 1:
        return None
    return next((step for step in STEPS if step.learner in learners and step.fits(case)), None)


def left_out(network: Network) -> list[str]:
    """Layers with a rule that has no compiled form: "layer1 (Rule)", ..."""
    known = {step.learner for step in STEPS}
    spiking = ((name, conv) for _, name, conv in network.layers() if not conv.real)
    rules = [(name, rule) for name, conv in spiking for rule in conv.each_learner]
    left = [(name, type(rule)) for name, rule in rules if not getattr(rule, "native", False)]
    return [f"{name} ({kind.__name__})" for name, kind in left if kind not in known]


def deciding_kernels(network: Network, *, native: bool, scores: bool) -> dict[str, LayerKernels]:
    """Kernels of layers by which a network decides, none of which learns, by name; others have their usual ones.

    Without `scores` they may be those of layers whose decisions alone are right.
    """
    before = {} if network.decision.timed else last_step.kernels_of(network, native)
    if not network.deciding:
        return before
    found = _native_deciding_kernels(network, scores) if native else None
    if found is None and not network.decision.timed:
        found = TAPS
    return before | (dict.fromkeys(network.deciding, found) if found else {})


def _native_deciding_kernels(network: Network, scores: bool) -> LayerKernels | None:
    kind = _common_learner(network.stages[-1].branches)
    if kind is RSTDP:
        return reward_native.deciding_kernels(network, scores)
    if kind is SupervisedSTDP:
        return supervised_native.deciding_kernels(network)
    return None


def _common_learner(convs: Sequence[Conv]) -> type | None:
    """The type of the supervised learners of all layers; None if they differ."""
    first, *others = {type(conv.supervised) for conv in convs}
    return None if others else first

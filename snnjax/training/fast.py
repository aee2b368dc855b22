"""Fast forms of learning: programs that compute what those of `snnjax.training.programs` define, for some learners."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from snnjax.forms import TAPS
from snnjax.layers import Conv, Form, Layer
from snnjax.learners import RSTDP, STDP, SupervisedSTDP, TargetTime
from snnjax.networks import Model, Network
from snnjax.training import patches, readout, reward, stdp, untimed
from snnjax.training.programs import FastForm
from snnjax.training.state import Settings


class Fast(NamedTuple):
    """What is fast for one learner; each function returns None where it does not fit.

    Attributes:
      learn: the fast form of learning; of (layer, number of the learner, settings) if it is unsupervised, otherwise of
        (model, first, by_turns, settings), where all layers from stage `first` on learn by this learner.
      decide: of (network, settings, scores), the form of its deciding layers, which do not learn; the scores of the
        classes need not be right unless `scores`.
    """

    learn: Callable[..., FastForm | None] = lambda *_: None
    decide: Callable[[Network, Settings, bool], Form | None] = lambda *_: None


FORMS = {
    STDP: Fast(stdp.fast_form),
    TargetTime: Fast(patches.fast_form),
    RSTDP: Fast(reward.fast_form, reward.deciding_form),
    SupervisedSTDP: Fast(readout.fast_form, readout.deciding_form),
}
"""By the type of the learner: a subclass may learn otherwise."""


def left_out(network: Network, settings: Settings) -> list[str]:
    """Layers with a rule that has no compiled form, though the settings ask for it: "layer1 (Rule)", ..."""
    if not settings.native:
        return []
    spiking = ((name, conv) for _, name, conv in network.layers() if not conv.real)
    rules = [(name, rule) for name, conv in spiking for rule in conv.each_learner]
    left = [(name, type(rule)) for name, rule in rules if not getattr(rule, "native", False)]
    return [f"{name} ({kind.__name__})" for name, kind in left if kind not in FORMS]


def unsupervised(layer: Layer, learner: int, settings: Settings) -> FastForm | None:
    """The fast form of `programs.learn_unsupervised` of a layer by its learner number `learner`, if there is one."""
    return FORMS.get(type(layer.conv.each_learner[learner]), Fast()).learn(layer, learner, settings)


def supervised(model: Model, first: int, by_turns: bool, settings: Settings) -> FastForm | None:
    """The fast form of `programs.learn_supervised` from stage `first`, if there is one."""
    layers = [layer for number in range(first, model.last + 1) for layer in model.stage(number)]
    return _of_all([layer.conv for layer in layers]).learn(model, first, by_turns, settings)


def deciding(network: Network, settings: Settings, scores: bool) -> dict[str, Form]:
    """Forms of layers by which a network decides, none of which learns; those left out have that of `Outputs.form`.

    Without `scores` they may be those of layers whose decisions alone are right.
    """
    before = {} if network.decision.timed else untimed.forms(network, settings.native)
    if not network.deciding:
        return before
    form = _of_all(network.stages[-1].branches).decide(network, settings, scores)
    form = form or (None if network.decision.timed else TAPS)
    return before | (dict.fromkeys(network.deciding, form) if form else {})


def _of_all(convs: Sequence[Conv]) -> Fast:
    """What is fast for layers that learn supervised, if they do so by learners of one type."""
    first, *others = {type(conv.supervised) for conv in convs}
    return Fast() if others else FORMS.get(first, Fast())

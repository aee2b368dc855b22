"""Training that starts from a trained network: which layers it shares, and which of them keep learning."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from snnjax.core import checks
from snnjax.core.codec import to_data
from snnjax.core.devices import on_host
from snnjax.core.differences import differences, list_differences
from snnjax.core.errors import InputError
from snnjax.core.paths import leaves, with_leaves
from snnjax.layers.conv import Conv
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.decision import is_fitted
from snnjax.networks.graph import name_of
from snnjax.networks.stage import Stage
from snnjax.training.state import Arrays

RULES = ("competition", "learners", "weight_mean", "weight_std", "weight_range")
"""Of a layer: without effect once it has learned."""

Difference = tuple[str, Any, Any]
"""As of `differences.differences`."""
Names = tuple[str, ...]


class WarmStart(NamedTuple):
    """What a training run starts with instead of initial weights: the layers of a trained network.

    Attributes:
      network: the network that is trained, with the encoder and the stages of the trained one that it shares.
      weights: (F, C, kh, kw) float32 of the shared layers, by name, as the trained network has them.
      class_names: of the data.
      trained_names: those of the trained network's classes.
      frozen: names of the shared layers that do not learn.
      continued: names of the shared layers that learn, from what they have learned already.
      reinitialised: names of all other layers.
      why: a text that says why the layers in `reinitialised` start from initial weights; "" if there are none.
      rules: a text that says how the rules by which frozen layers have learned differ from those of the network to be
        trained; "" if they do not differ.
      initial: the numbers that the shared layers and the encoder had before they learned, by path, as of
        `SpikingNetwork`.
    """

    network: Network
    weights: Arrays
    class_names: Names
    trained_names: Names
    frozen: Names
    continued: Names
    reinitialised: Names
    why: str
    rules: str
    initial: dict[str, Any]

    @classmethod
    def of(
        cls,
        network: Network,
        class_names: Names,
        start: SpikingNetwork,
        learn: Sequence[str] | None = None,
        add_classes: bool = False,
    ) -> "WarmStart":
        """What a network for classes of these names shares with a trained one.

        It shares the layers before the first supervised one. If the classes are the same, or `add_classes` says that
        there are more, it shares all other layers as well, if they are the same, and these keep learning. `learn` names
        the stages that learn, by default those from the first supervised one on. Raises InputError if there is
        nothing to share, or if the input, the time steps, the encoder or the layers differ in more than what was
        learned or fitted, and says how.
        """
        checks.instance("start", start, SpikingNetwork, "a SpikingNetwork", "snnjax.load(run)")
        trained = on_host(start.network)
        untrained = on_host(start.untrained)
        shared = min(network.first_supervised, trained.first_supervised)
        whole = max(len(network.stages), len(trained.stages))
        if add_classes:
            _check_added(network, class_names, start.class_names)
            untrained = untrained.with_classes(len(class_names))
            why = ""
        else:
            why = _other_classes(class_names, start.class_names)
            if not why and _misfits(network, untrained, whole):
                why = "other layers"
        stages = shared if why else len(network.stages)
        shared_layers = [name for stage, name, _ in network.layers() if stage < stages]
        if not shared_layers:
            got = f"{trained.name} for {network.name}, {why}"
            raise InputError(f"`start` (--from) must share layers before the readout with the network, got {got}")
        compared = shared if why else whole
        if misfits := _misfits(network, untrained, compared):
            wanted = f"{', '.join(shared_layers)} of {network.name}"
            raise InputError(f"`start` (--from) must fit {wanted}, it has {list_differences(misfits)}")
        learning = _learning(network, shared, stages, learn)
        # From the trained network, since learned thresholds and fitted ramps lie in its stages, not in its weights.
        new_stages = [*trained.stages[:stages], *network.stages[stages:]]
        for stage in range(stages):
            if {*network.names[stage]} & {*learning}:
                new_stages[stage] = _continued(network, stage, start, class_names)
        frozen = tuple(name for name in shared_layers if name not in learning)
        rules = [found for found in _differing(network, untrained, compared) if found[0].partition(".")[0] in frozen]
        places = ("encoder.", *(f"stages.{stage}." for stage in range(stages)))
        return cls(
            network=dataclasses.replace(network, encoder=trained.encoder, stages=tuple(new_stages)),
            weights={name: np.asarray(weights) for name, weights in start.weights().items() if name in shared_layers},
            class_names=class_names,
            trained_names=start.class_names,
            frozen=frozen,
            continued=tuple(name for name in shared_layers if name in learning),
            reinitialised=tuple(name for stage, name, _ in network.layers() if stage >= stages),
            why=why,
            rules=list_differences(rules),
            initial={path: number for path, number in start.initial.items() if path.startswith(places)},
        )

    def notes(self, source: str) -> list[str]:
        """What comes from a trained network of this origin, and what becomes of it, in sentences."""
        notes = []
        if self.frozen:
            rules = f", with {self.rules}" if self.rules else ""
            notes.append(f"{', '.join(self.frozen)} as learned by {source}{rules}")
        if self.continued:
            notes.append(f"continuing: {', '.join(self.continued)}, as learned by {source}")
        if {*self.continued} & {*self.network.deciding}:
            if new := _lacking(self.class_names, self.trained_names):
                notes.append(f"new neurons for {_listed(new)}")
            if [name for name in self.class_names if name not in new] != [*self.trained_names]:
                notes.append("classes are in another order than there: neurons move with their classes")
        if self.reinitialised:
            notes.append(f"reinitialised: {', '.join(self.reinitialised)} ({self.why})")
        if is_fitted(self.network.decision):
            notes.append(f"{type(self.network.decision).__name__} is fitted again")
        return notes

    def put_into(self, weights: Arrays) -> Arrays:
        """The initial weights of all layers by name, with those of shared layers replaced by the trained ones."""
        arranged = weights | self.weights
        for name in {*self.network.deciding} & {*self.continued}:
            arranged[name] = _arranged(self.weights[name], weights[name], self.class_names, self.trained_names)
        return arranged


def _lacking(names: Sequence[str], present: Sequence[str]) -> list[str]:
    """The names that are not among those present, in order."""
    return [name for name in names if name not in present]


def _listed(names: Sequence[str]) -> str:
    return textwrap.shorten(", ".join(names), 60, placeholder=" ...")


def _other_classes(names: Names, trained: Names) -> str:
    """How classes differ from the trained ones, whatever their order, in words; "" if they do not."""
    new = _lacking(names, trained)
    if gone := _lacking(trained, names):
        return f"other classes, without {_listed(gone)}" + (f", with {_listed(new)}" if new else "")
    return f"other classes, with {_listed(new)}: --add_classes would keep what was learned" if new else ""


def _check_added(network: Network, names: Names, trained: Names) -> None:
    """Raises InputError unless a network can keep all trained classes and gets new ones."""
    if is_fitted(network.decision):
        got = f"got {type(network.decision).__name__}, which is fitted again in any case: leave it out"
        problem = f"is for layers that decide, {got}"
    elif gone := _lacking(trained, names):
        problem = f"must keep the classes of `start` (--from), the data lack {_listed(gone)}"
    elif len(names) == len(trained):
        problem = "is for data with new classes, got those of `start`"
    else:
        return
    raise InputError(f"`add_classes` (--add_classes) {problem}")


def _learning(network: Network, shared: int, stages: int, learn: Sequence[str] | None) -> Names:
    """The names of the layers that learn, of a network that takes the first `stages`; see `WarmStart.of`."""
    able = {name: stage for stage, name, conv in network.layers() if conv.each_learner}
    if learn is None:
        return tuple(name for name, stage in able.items() if stage >= shared)
    known = {name_of(stage + 1): stage for stage in able.values()}
    for name in learn:
        checks.one_of("learn", name, known)
    needed = [name for name, stage in known.items() if stage >= stages or network.names[stage] == network.deciding]
    if lacking := _lacking(needed, learn):
        got = f"got {', '.join(learn)}: stages that decide or are reinitialised must learn"
        raise InputError(f"`learn` (--learn) must name {', '.join(lacking)} too, {got}")
    return tuple(name for name, stage in able.items() if name_of(stage + 1) in learn)


def _continued(network: Network, number: int, start: SpikingNetwork, class_names: Names) -> Stage:
    """A stage of a network with the numbers that its layers have learned; its ramps will be fitted again."""
    stage = network.stages[number]
    channels = network.input_shapes[number][0]
    deciding = network.names[number] == network.deciding
    of_classes = () if deciding or class_names == start.class_names else ("learners.",)
    branches = []
    for index, conv in enumerate(stage.branches):
        initial = leaves(conv.prepared(channels, network.classes))
        trained = on_host(start.network.stages[number].branches[index])
        learned = {}
        for path, value in leaves(trained).items():
            changed = np.ndim(value) or f"stages.{number}.branches.{index}.{path}" in start.initial
            # The levels of a ramp belong to the weights that they were fitted to, and the weights go on changing.
            # The head of a `LocalError` belongs to the classes, and so may what other rules keep.
            if changed and path in initial and not path.startswith(("ramp.", *of_classes)):
                learned[path] = value
        if deciding:
            for path in learned.keys() & trained.numbers_of_features:
                learned[path] = _arranged(learned[path], initial[path], class_names, start.class_names)
        branches.append(with_leaves(conv, learned))
    return dataclasses.replace(stage, branches=tuple(branches))


def _arranged(trained: Any, initial: Any, names: Names, trained_names: Names) -> np.ndarray:
    """Values (F, ...) of the features of a deciding layer, those trained put where their classes are now.

    Those of new classes are `initial`: (F, ...), or one number.
    """
    before = np.reshape(trained, (len(trained_names), -1, *np.shape(trained)[1:]))
    shape = (len(names), *before.shape[1:])
    values = np.broadcast_to(initial, (shape[0] * shape[1], *shape[2:])).reshape(shape).astype(before.dtype)
    for number, name in enumerate(names):
        if name in trained_names:
            values[number] = before[trained_names.index(name)]
    return values.reshape(-1, *shape[2:])


def _differing(network: Network, untrained: Network, stages: int) -> list[Difference]:
    """The `differences` of the first stages of two networks that have not learned."""
    now: Arrays = {}
    was: Arrays = {}
    found = differences(_as_data(network, stages, now), _as_data(untrained, stages, was))
    differing = [difference for difference in found if not _is_learned(*difference)]
    for path in now.keys() & was.keys():
        if not np.array_equal(now[path], was[path]):
            differing.append((path, now[path], was[path]))
    return differing


def _misfits(network: Network, untrained: Network, stages: int) -> list[Difference]:
    """The differences of the first stages of two networks that no training can leave aside."""
    layers = {name: conv for _, name, conv in network.layers()}
    return [found for found in _differing(network, untrained, stages) if not _is_of_rule(found[0], layers)]


def _is_learned(path: str, now: Any, was: Any) -> bool:
    """Whether a difference is an array in place of a number: what a network of an earlier version has learned."""
    return isinstance(now, int | float) and isinstance(was, dict) and "array" in was


def _is_of_rule(path: str, layers: Mapping[str, Conv]) -> bool:
    """Whether a difference is one of the `RULES` of a layer, "layer1.learners.ltp", or a threshold that has learned."""
    name, _, rest = path.partition(".")
    field = rest.partition(".")[0]
    return name in layers and (field in RULES or (field == "threshold" and layers[name].own_thresholds))


def _as_data(network: Network, stages: int, arrays: Arrays) -> dict[str, Any]:
    """What the outputs of the first stages depend on, as JSON data by name; arrays are put into `arrays`."""
    parts: dict[str, Any] = dict(
        input="x".join(map(str, network.input_shape)),
        time_steps=network.time_steps,
        encoder=to_data(network.encoder, arrays, "encoder"),
    )
    if network.deciding and stages >= len(network.stages):
        parts["decision"] = to_data(network.decision, arrays, "decision")
    for number, stage in enumerate(network.stages[:stages]):
        for name, conv in zip(network.names[number], stage.branches, strict=True):
            parts[name] = to_data(conv, arrays, name)
        title = f"stage{number + 1}"
        held: Arrays = {}
        parts[title] = to_data(stage, held, title)
        del parts[title]["branches"]
        arrays |= {path: array for path, array in held.items() if not path.startswith(f"{title}.branches.")}
    return parts

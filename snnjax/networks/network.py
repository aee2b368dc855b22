"""A network as data."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from snnjax.core import checks, components, paths
from snnjax.core.components import check_component, component, static
from snnjax.core.errors import InputError, TooSmallError, explained, nearest
from snnjax.encoding import ImageEncoder
from snnjax.layers.conv import Conv
from snnjax.networks import graph
from snnjax.networks.decision import MAXIMA, SPIKES, Decision, Majority, check_reads, is_fitted, reads_of
from snnjax.networks.graph import Shape
from snnjax.networks.stage import Stage

_FAR = 8  # standard deviations that hardly any weight lies away from the mean


@component
class Network:
    """A network: stages, each of which reads earlier stages.

    The last stage decides which class an image shows, or a decision is fitted to its output, or there is no decision.

    Attributes:
      name: the name, as on the command line; runs are named after it.
      input_shape: (C, H, W) of the encoded image.
      classes: the number of classes; each deciding layer has the same number of features for each of them, in order. If
        `decision` is None, it has no effect and may be left out.
      stages: the last one decides, or feeds a `FittedDecision`; if `decision` is None, its outputs are the features.
      time_steps: T, the number of time steps of an encoded image.
      epochs: the default number of epochs of each stage, in order; a single stage may have a plain number. If layers
        decide, the last number is that of supervised learning.
      reward_by_turns: if true, the first supervised layer and the later ones learn in alternate intervals during the
        first epoch, and only the later ones learn after that. By default all of them learn together.
      encoder: converts images to latencies; None: an encoder that suits the images of the training set.
      decision: how the last stage decides; None: the network decides nothing. Then all layers learn without labels, and
        the features of an image are the output of the last stage; see `SpikingNetwork.features`.
      shuffle: whether images are shown in a new order in each epoch by default; see `Settings`.
      patience: the default patience in `Settings`; None: that of the command line.

    Examples:
      >>> from snnjax import RSTDP, STDP, WTA, Conv, Network, stage
      >>> features = Conv(16, kernel=5, padding=2, threshold=15, competition=WTA(3, radius=3), learners=STDP())
      >>> decision = Conv(50, kernel=5, padding=1, learners=RSTDP())
      >>> network = Network("small", (6, 28, 28), classes=10, stages=(stage(features, pool=4), stage(decision)))
      >>> network.shapes  # of the encoded image, then of each stage
      ((6, 28, 28), (16, 7, 7), (50, 5, 5))
      >>> network.vary("layer1.radius", 2).stages[0].branches[0].competition
      WTA(winners=3, radius=2)
    """

    name: str = static()
    input_shape: tuple[int, int, int] = static(minimum=1)
    classes: int = static(default=0, minimum=0)
    stages: tuple[Stage, ...] = ()
    time_steps: int = static(default=15, minimum=1)
    epochs: tuple[int, ...] = static(default=())
    reward_by_turns: bool = static(default=False)
    encoder: ImageEncoder | None = None
    decision: Decision | None = Majority()
    shuffle: bool = static(default=False)
    patience: int | None = static(default=None, minimum=0)

    def check(self) -> None:
        self._check_fields()
        pool = self.stages[-1].pool
        if self.deciding:
            checks.equal(f"pool of the last stage of {self.name}", pool, None, "it has no effect")
        graph.check(self.name, self.stages)
        self._check_last_stage()
        for _, name, conv in self.layers():
            self._check_layer(name, conv)
        shapes = self.input_shapes  # which raise where maps do not fit, or one would vanish
        for number, name, conv in self.layers():
            output = conv.output_size(shapes[number][1:])
            classes = self.classes if name in self.deciding else 0
            if conv.weights is not None and conv.weights.shape[1] != shapes[number][0]:
                got = f"{conv.weights.shape[1]} of maps: it reads {shapes[number][0]}"
                raise InputError(
                    f"`weights` of {name}, (F, C, kh, kw), must be for as many maps as it reads, got {got}"
                )
            for learner in conv.each_learner:
                learner.check_layer(name, conv, output, classes, self.timed)

    def _check_fields(self) -> None:
        """Raises TypeError or InputError if a field has a wrong type or is out of range."""
        if not self.name.isprintable() or {"/", "\\"} & {*self.name}:  # files and folders are named after it
            raise InputError(f"`name` must be of printable characters without / and \\, got {self.name!r}")
        if not self.classes and self.decision is not None:
            raise InputError("`classes` must be at least 1, got 0: give their number, or `decision=None`")
        if not isinstance(self.input_shape, tuple) or len(self.input_shape) != 3:
            raise InputError(f"`input_shape` must be (channels, rows, columns), got {self.input_shape!r}")
        checks.instance("stages", self.stages or None, tuple, "a tuple of stages", "(stage(...),)")
        for stage in self.stages:
            checks.instance("stages", stage, Stage, "a tuple of stages", "(stage(Conv(...)), ...)")
        if self.decision is not None:
            check_component("decision", self.decision, "timed", "scores", "decide", *_fitting(self.decision))
            check_reads(self.decision)
        if self.encoder is not None:
            check_component("encoder", self.encoder, "__call__", "output_shape", "time_steps", *_fitting(self.encoder))
            checks.equal("time_steps", self.time_steps, self.encoder.time_steps, "that of the `encoder`")
        object.__setattr__(self, "epochs", checks.epochs(self.epochs))
        if self.epochs:
            checks.length("epochs", self.epochs, len(self.stages), "stages")

    def _check_last_stage(self) -> None:
        """Raises InputError if the last stage cannot decide, or has settings that have no effect there."""
        last = self.stages[-1]
        if not last.branches and self.decision is not None and not is_fitted(self.decision):
            advice = "take a `decision` that is fitted, or None for a network that decides nothing"
            raise InputError(f"`stages` of {self.name} must end with layers that decide: {advice}")
        if self.deciding:
            title = f"the last stage of {self.name}, which decides,"
            checks.equal(f"pointwise of {title}", last.pointwise, False)
        if not self.reads_potentials:
            return
        title = f"the last stage of {self.name}, whose potentials {type(self.decision).__name__} reads,"
        if not last.branches or last.ramped:
            raise InputError(f"`branches` of {title} must be layers without a `ramp`")
        if reads_of(self.decision) == MAXIMA:
            checks.equal(f"pool of {title}", last.pool, None, "it reads maxima of whole maps")
        checks.equal(f"pointwise of {title}", last.pointwise, False, "neurons do not fire there")

    def _check_layer(self, name: str, conv: Conv) -> None:
        """Raises InputError if a layer has learners or settings that it cannot use."""
        conv.check()
        if name not in self.deciding:
            checks.equal(f"fractional of {name}, which does not decide,", conv.fractional, False, "it has no effect")
        supervised = [learner.supervised for learner in conv.each_learner]
        needing_labels = [
            learner
            for learner in conv.each_learner
            if learner.supervised or (learner.labelled and self.decision is None)
        ]
        kinds = ", ".join(type(learner).__name__ for learner in conv.each_learner)
        if name in self.deciding:
            self._check_deciding(name, conv, supervised)
        elif not self.deciding and needing_labels:
            kind = type(needing_labels[0]).__name__
            got = f"{kind} under {type(self.decision).__name__}, which is fitted"
            if self.decision is None:
                got = f"{kind} in a network without a `decision`, which has no labels"
            advice = "give the network another `decision`, or the layer another rule"
            raise InputError(f"`learners` of {name} must be unsupervised, got {got}: {advice}")
        if conv.ramp:
            conv.ramp.check_levels(name, self.time_steps)
            if name not in self.deciding:
                checks.equal(f"rise of {name}, which does not decide,", conv.ramp.rise, 1)
        if conv.minibatch and not conv.ramped:
            raise InputError(
                f"{name}, which learns by {type(conv.minibatch).__name__}, must have a `ramp`, such as Ramp()"
            )
        for learner in conv.each_learner:
            if learner.labelled:
                title = f"minibatch_size of {type(learner).__name__}, which is `labelled`,"
                checks.integer(title, learner.minibatch_size, 1)
        in_minibatches = [learner.minibatch_size > 0 for learner in conv.each_learner]
        several_of_a_kind = len({type(learner) for learner in conv.each_learner}) < len(conv.each_learner)
        if conv.minibatch and (any(supervised) or not all(in_minibatches) or several_of_a_kind):
            expected = "unsupervised, of different classes and all with a `minibatch_size` where one has it"
        elif sum(supervised) > 1 or supervised != sorted(supervised):
            expected = "unsupervised but for the last"
        else:
            return
        raise InputError(f"`learners` of {name} must be {expected}, got {kinds}")

    @property
    def ramped(self) -> list[str]:
        """Names of the layers with a ramp."""
        return [name for _, name, conv in self.layers() if conv.ramped]

    @property
    def graph(self) -> graph.Graph:
        """What its stages read."""
        return graph.Graph(self.stages)

    def _check_deciding(self, name: str, conv: Conv, supervised: list[bool]) -> None:
        if not any(supervised) or conv.features % self.classes:
            needs = f"a supervised learner, such as RSTDP, and a multiple of {self.classes} features"
            learners = " and ".join(type(learner).__name__ for learner in conv.each_learner) or "no learner"
            got = f"{learners} and {conv.features} features"
            other = "LinearSVM(), which is fitted, or None for a network that decides nothing"
            advice = "" if any(supervised) else f"; or give the Network another `decision`: {other}"
            raise InputError(f"{name}, which decides, must have {needs}, got {got}{advice}")
        conv.check_idle(f"{name}, which decides,", "output_padding")
        if conv.ramped and self.timed:
            got = type(self.decision).__name__
            raise InputError(f"`decision` on {name}, which has a `ramp`, must not need times, as Majority, got {got}")
        if all(supervised):
            conv.check_idle(f"{name}, which decides,", "competition")
        if all(supervised) and not self.timed and not conv.ramped:
            conv.check_idle(f"{name}, which decides,", "threshold", "fractional")

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of the encoded image, then of the output of each stage."""
        return self._shapes[0]

    @property
    def input_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, H, W) of what each stage reads."""
        return self._shapes[1]

    @functools.cached_property
    def _shapes(self) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
        outputs = [self.input_shape]
        inputs: list[Shape] = []
        for number, stage in enumerate(self.stages):
            try:
                inputs.append(self.graph.input_shape(number, outputs, self.time_steps))
                joined = number < len(self.stages) - 1 or not self.deciding
                outputs.append(output_shape(stage, inputs[-1], joined=joined))
            except ValueError as error:
                kind = TooSmallError if isinstance(error, TooSmallError) else InputError
                raise kind(f"{self.name} on input {self.input_shape}: stage {number + 1}: {error}") from error
        return tuple(outputs), tuple(inputs)

    @property
    def weight_shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """(F, C, kh, kw) of the weights of each layer, by name."""
        shapes = self.input_shapes
        kernels = {name: checks.pair("kernel", conv.kernel, 1) for _, name, conv in self.layers()}
        return {name: (conv.features, shapes[number][0], *kernels[name]) for number, name, conv in self.layers()}

    @property
    def structure(self) -> Any:
        """What a compiled program depends on. Networks with the same structure differ only in their numbers."""
        return jax.tree.structure(self), tuple(conv.monotone for _, _, conv in self.layers())

    @property
    def first_supervised(self) -> int:
        """The number of the first stage that learns supervised; the number of stages if none does."""
        supervised = (n for n, _, conv in self.layers() if any(learner.supervised for learner in conv.each_learner))
        return next(supervised, len(self.stages))

    @property
    def labelled(self) -> tuple[str, ...]:
        """Names of the layers that learn from labels by themselves, as of `Learner.labelled`."""
        layers = self.layers()
        return tuple(name for _, name, conv in layers if any(learner.labelled for learner in conv.each_learner))

    @property
    def deciding(self) -> tuple[str, ...]:
        """Names of the layers that decide, those of the last stage; none if the decision is fitted or None."""
        return () if self.decision is None or is_fitted(self.decision) else self.names[-1]

    @property
    def timed(self) -> bool:
        """Whether its decision needs to know when neurons fire."""
        return self.decision is not None and self.decision.timed

    @property
    def reads_potentials(self) -> bool:
        """Whether the decision is fitted to potentials of the last stage, whose neurons then do not fire."""
        return is_fitted(self.decision) and reads_of(self.decision) != SPIKES

    @property
    def evidence(self) -> tuple[str, ...]:
        """Names of the layers that the decision reads: the layers that decide, or whose potentials it is fitted to."""
        return self.names[-1] if self.reads_potentials else self.deciding

    @property
    def evidence_shape(self) -> tuple[int, int, int]:
        """(F, H, W) of what a fitted decision reads; without a decision, of the features."""
        shape = self.shapes[-1]
        return (shape[0], 1, 1) if self.reads_potentials and reads_of(self.decision) == MAXIMA else shape

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Names of the layers of each stage: layer1, layer2, layer3_1, layer3_2, ..."""
        return tuple(_names(number, len(stage.branches)) for number, stage in enumerate(self.stages, 1))

    def layers(self) -> Iterator[tuple[int, str, Conv]]:
        """Number of the stage from 0, name and description of each layer, in order."""
        for number, (names, stage) in enumerate(zip(self.names, self.stages, strict=True)):
            for name, branch in zip(names, stage.branches, strict=True):
                yield number, name, branch

    def with_classes(self, classes: int) -> "Network":
        """The network for another number of classes; the layers that decide keep their number of neurons per class.

        Raises InputError if such a layer has an array with a number for each feature.
        """
        if checks.integer("classes", classes, 1) == self.classes:
            return self
        last = self.stages[-1]
        if self.deciding:
            last = dataclasses.replace(last, branches=tuple(self._widened(conv, classes) for conv in last.branches))
        return dataclasses.replace(self, classes=classes, stages=(*self.stages[:-1], last))

    def _widened(self, conv: Conv, classes: int) -> Conv:
        if arrays := ", ".join(conv.numbers_of_features):
            raise InputError(f"`{arrays}` of a layer that decides must be one number to change `classes`, got an array")
        return dataclasses.replace(conv, features=conv.features // self.classes * classes)

    def initial_weights(self, seed: int = 0) -> dict[str, np.ndarray]:
        """(F, C, kh, kw) float32 of each layer, given or drawn; raises InputError if they exceed their bounds."""
        random = np.random.default_rng(checks.seed(seed))
        shapes = self.weight_shapes
        weights = {}
        for _, name, conv in self.layers():
            drawn = conv.drawn_weights(random, shapes[name])
            if conv.weights is not None:  # drawn all the same, so that later layers do not depend on it
                weights[name] = np.asarray(conv.weights, np.float32)
                continue
            _check_drawn(name, conv, drawn)
            weights[name] = drawn
        return weights

    def check_initial_weights(self, seed: int) -> None:
        """Raises InputError if `initial_weights` would; draws no weights that lie far within their bounds."""
        for _, _, conv in self.layers():
            may_leave = conv.monotone and conv.weight_mean < _FAR * conv.weight_std
            if conv.weights is None and (may_leave or conv.weight_mean > conv.upper_bound):
                self.initial_weights(seed)

    def hyperparameters(self) -> dict[str, int | float]:
        """All numbers that a sweep may vary, by path: "layer1.threshold", "layer1.competition.radius", "encoder.…"."""
        parts: dict[str, Any] = {name: conv for _, name, conv in self.layers()}
        parts |= {f"stage{number}.join": stage.join for number, stage in enumerate(self.stages, 1)}
        parts |= dict(encoder=self.encoder, decision=self.decision)
        return {
            f"{name}.{path}": value
            for name, part in parts.items()
            for path, value in paths.numbers(part)
            if not (getattr(part, "ramped", False) and path.startswith("competition."))  # without effect
        }

    def components(self) -> dict[str, Any]:
        """All components, and tuples of them, that a sweep may replace, by path: "layer1.learners", "decision"."""
        parts: dict[str, Any] = {}
        for _, name, conv in self.layers():
            parts |= paths.parts(conv, name)
        for number, stage in enumerate(self.stages, 1):
            parts |= {f"stage{number}.join": stage.join} | dict(paths.parts(stage.join, f"stage{number}.join"))
        for name, part in dict(encoder=self.encoder, decision=self.decision).items():
            parts[name] = part
            parts |= {} if part is None else paths.parts(part, name)
        return parts

    def component_names(self) -> dict[str, str]:
        """The names of the classes of its `components`, by path."""
        names = {}
        for path, part in self.components().items():
            each = part if isinstance(part, tuple) else (part,)
            names[path] = ", ".join(type(item).__name__ for item in each if item is not None)
        return names

    def component_path(self, path: str) -> str:
        """The whole path of one of its `components`; raises InputError if the path names none, or several."""
        return _whole_path(path, self.components())

    def vary(self, path: str, value: Any) -> "Network":
        """The network with one of its `hyperparameters`, or of its `components`, changed.

        A unique end of the path is sufficient ("radius"), or the layer and such an end ("layer1.radius"). Another
        encoder must produce maps of the same shape; the network adopts its number of time steps.

        Raises InputError if the path matches none of them or several, or if the part cannot have this value.
        """
        if components.is_component(value):
            return self._replaced(self.component_path(path), value, path, type(value).__name__)
        numbers = self.hyperparameters()
        whole = _whole_path(path, numbers)
        checks.real(path, value)
        number: Any = value
        kind = int if isinstance(numbers[whole], int) else float
        finite = abs(number) <= float(np.finfo(np.float32).max)
        if not finite or kind(number) != value:
            expected = "an integer" if finite else "a finite number of 32 bits"
            raise InputError(f"`{path}` must be {expected}, got {number:g}")
        return self._replaced(whole, kind(number), path, format(number, "g"))

    def _replaced(self, whole: str, value: Any, path: str, words: str) -> "Network":
        """The network with another value at a whole path; errors have the path and the value in words."""
        part, _, rest = whole.partition(".")
        for number, names in enumerate(self.names):
            if part in names:
                part = f"stages.{number}.branches.{names.index(part)}"
            elif part == f"stage{number + 1}":
                part = f"stages.{number}"
        with explained(f"{path}={words}"):
            if whole == "encoder":
                check_component("encoder", value, "__call__", "output_shape", "time_steps")
                return dataclasses.replace(self, encoder=value, time_steps=value.time_steps)
            return paths.replace(self, f"{part}.{rest}" if rest else part, value)


def _fitting(part: Any) -> tuple[str, ...]:
    """The further attribute of a part that is fitted."""
    return ("fitted",) if hasattr(part, "fit") else ()


def _names(stage: int, branches: int) -> tuple[str, ...]:
    """Names of the layers of stage `stage`, counted from 1."""
    if branches == 1:
        return (f"layer{stage}",)
    return tuple(f"layer{stage}_{branch}" for branch in range(1, branches + 1))


def matching_paths(path: str, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that a path or its end names, such as "radius" or "layer1.radius"."""
    part, _, end = path.partition(".")
    ending = [full for full in paths if full.endswith(f".{path}")]
    short = [full for full in paths if full.startswith(f"{part}.") and full.endswith(f".{end}")]
    return [path] if path in paths else ending or short


def _whole_path(path: str, paths: Iterable[str]) -> str:
    """The one of `paths` that a path or its unique end names; raises InputError if there is none, or several."""
    matches = matching_paths(path, paths)
    if len(matches) == 1:
        return matches[0]
    question, names = ("", matches) if matches else _nearest_paths(path, paths)
    raise InputError(f"{question}`{path}` must name one of {', '.join(names)}")


def _nearest_paths(path: str, paths: Iterable[str]) -> tuple[str, list[str]]:
    """A question whether one of `paths` is meant by a path that names none, or "", and the paths that may be listed."""
    ends = {f"{full.partition('.')[0]}.{full.rpartition('.')[2]}": full for full in paths}
    ends |= {full: full for full in paths}
    meant = nearest(path, ends)
    question = f"did you mean `{ends[meant]}`? " if meant else ""
    few = [full for full in paths if sum(piece.isdigit() for piece in full.split(".")) < 3]  # not all filters
    return question, [full for full in few if full.startswith(f"{path.partition('.')[0]}.")] or few


def output_shape(stage: Stage, shape: Shape, *, joined: bool) -> Shape:
    """(F, H, W) of the output of a stage that reads (C, H, W); raises InputError if `joined` sizes differ."""
    sizes = set()
    for branch in stage.branches:
        output = branch.output_size((shape[1], shape[2]))
        padding = checks.pair("output_padding", branch.output_padding, 0)
        sizes.add((output[0] + 2 * padding[0], output[1] + 2 * padding[1]))
    if joined and len(sizes) > 1:
        raise InputError(f"branches must be joined with maps of one size, got {sorted(sizes)}")
    size = sizes.pop() if sizes else (shape[1], shape[2])
    features = sum(branch.features for branch in stage.branches) if stage.branches else shape[0]
    return features, *(stage.pool.output_size(size) if stage.pool else size)


def _check_drawn(name: str, conv: Conv, drawn: np.ndarray) -> None:
    """Raises InputError if initial weights would exceed their bounds, with a suggestion of numbers that would not."""
    highest = conv.upper_bound
    if conv.weight_range is not None:
        if conv.weight_range[1] > highest or (conv.monotone and conv.weight_range[0] < 0):
            expected = f"`weight_range` of {name} must lie within its bounds"
            raise InputError(f"{expected}, got {conv.weight_range}: take (0.0, {min(highest, 1.0):g})")
        return
    if conv.weight_mean > highest:
        raise InputError(
            f"`weight_mean` of {name} must be at most {highest:g}, its upper bound, got {conv.weight_mean}"
        )
    if conv.monotone and drawn.min() < 0:
        got = f"{conv.weight_mean} and {conv.weight_std} give weights down to {drawn.min():.3g}"
        advice = f"take a `weight_std` of at most {conv.weight_mean / _FAR:.2g}"
        if conv.weight_mean <= 0:
            advice = f"take a `weight_mean` above 0, and a `weight_std` of at most 1/{_FAR} of it"
        problem = f"`weight_mean` and `weight_std` of {name} must keep weights within its bounds: {got}"
        raise InputError(f"{problem}; {advice}")

"""An epoch, slice by slice, so that progress is reported without callbacks from compiled programs."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from snnjax import files
from snnjax.errors import InputError
from snnjax.layers import Layer
from snnjax.training.foreign import check_decisions
from snnjax.training.spread import NETWORKS, Clock, Spread, has_own, place
from snnjax.training.state import Phase, Settings

SLICE = 1000
"""Images, about, between two reports of an epoch's progress."""
ALIGNED = 64
"""Slices of a multiple of this begin where a CPU device takes them without a copy, see `files.empty`."""


@dataclasses.dataclass
class Epoch:
    """Epochs over the same images; a call learns from all of them once, in order or in that of its epoch."""

    spread: Spread
    mesh: Mesh  # of the devices that learn
    phase: Phase
    carry: Any  # what learns, stacked; first the layers by name
    inputs: np.ndarray  # latencies, (N, C, H, W) or (networks, N, C, H, W); or of 2N images, see `images_shown`
    report: Callable[[int, int], None]  # gets the numbers of images done, and of correct decisions among them
    batch: int  # images seen with the same weights
    plain: Any  # the learning program
    fast: Any  # one that computes the same where all weights lie within their bounds
    unit: int  # the size of a slice is a multiple of it
    each: int = 1  # images that a finding is of
    images: int | None = None  # those shown first alone; None: all
    clips: bool = False  # whether the fast one takes weights outside of them too, which the first update clips
    order: Callable[[int], np.ndarray | None] = lambda epoch: None  # `images_shown` of an epoch; None: none ever
    labels: np.ndarray | None = None  # (N,) int32, of supervised learning
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # arguments of the programs, stacked
    shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # those that all networks share

    def __post_init__(self) -> None:
        self.clock, self._within = Clock(self.phase.name), False
        self.carry, self.own = (place(each, self.mesh, NETWORKS) for each in (self.carry, self.own))
        first = self.order(0)
        self._count = self.inputs.shape[int(has_own(self.inputs))] if first is None else first.shape[-1]
        self._total = self.images or self._count
        count = max(1, round(self._total / SLICE))
        aligned = math.lcm(self.unit, ALIGNED)
        unit = aligned if count > 1 and count * aligned <= self._total else self.unit
        self._size = -(-self._total // (count * unit)) * unit
        self._starts = range(0, self._total, self._size)
        once = first is None and self.inputs.nbytes <= files.LARGE
        self._slices = {start: self._slice(start) for start in self._starts} if once else {}

    def _slice(self, start: int, places: np.ndarray | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The programs' arguments `own` and `shared` with the images from number `start` of those at `places`."""
        own, shared = dict(self.own), dict(self.shared)
        several = places is not None and places.ndim == 2
        numbers = None if places is None else places % self._count

        def put(name: str, values: np.ndarray, places: np.ndarray | None) -> None:
            placed = self.spread.place_images(values, start, self._size, self.mesh, places)
            (own if several or has_own(values) else shared)[name] = placed

        put("latencies", self.inputs, places)
        if self.labels is not None:
            put("labels", self.labels, numbers)
        return own, shared

    def __call__(
        self, number: int = 0, done: int = 0, before: Any = None, keep: Callable[[int, Any], None] = lambda *_: None
    ) -> tuple[Any, Any]:
        """Learns in epoch `number`: the carry, and what the program found of each image, NumPy (networks, N, ...).

        Infos are in the order in which the images were shown, decisions in that of the data. An epoch that was broken
        off goes on after `done` images, of which it had found `before`, a list of arrays. `keep` is called between
        slices, with how many are done and a function that makes such a list of what was found of them.
        """
        if done % self.batch or not 0 <= done < self._total:
            raise InputError(f"`shown` must be a multiple of {self.batch} below {self._total}, got {done}")
        places, pieces = self.order(number), []
        numbers = np.arange(self._count) if places is None else places % self._count
        for start in self._starts:
            stop = min(start + self._size, self._total)
            if stop <= done:
                continue
            begin = time.perf_counter()
            own, shared = self._slices.get(start) or self._slice(start, places)
            self.clock.seconds += time.perf_counter() - begin
            at, step = max(start, done), self.batch  # slices of another version or device may have ended elsewhere
            while at < stop:
                within = self.clips or self.within()
                end = stop if within else min(at + step, stop)
                here = slice(at - start, end - start)
                counts = dict(start=np.int32(here.start), count=np.int32(here.stop), last=np.bool_(end == self._total))
                program, images = self.fast if within else self.plain, (end - at) * self.spread.count
                carry, found = self.clock.run(images, program, self.carry, own, shared | counts)
                self.carry, found = self.clock.call(0, self.spread.agreed, carry, found, self.mesh)
                found = jax.tree.map(functools.partial(self._learned, here=here), found)
                correct = 0
                if self.labels is not None:
                    check_decisions(found[0], self.own["model"].classes)
                    correct = int(np.sum(found[0] == self.labels[numbers[..., at:end]]))
                self.report(images, correct)
                if before:
                    pieces.append(jax.tree.unflatten(jax.tree.structure(found), before))
                    before = None
                pieces.append(found)
                at, step = end, 2 * step
            if stop < self._total:
                keep(stop, lambda: jax.tree.leaves(_joined(pieces)))
        found = _joined(pieces)
        if places is None or self.labels is None:
            return self.carry, found
        decisions, infos = found
        back = np.broadcast_to(np.argsort(numbers, axis=-1), decisions.shape)  # from the order shown to the data's
        return self.carry, (np.take_along_axis(decisions, back, axis=1), infos)

    def _learned(self, found: Any, here: slice) -> np.ndarray:
        """What was found of some images of a slice, of all that a program returns, (networks, S / each, ...)."""
        return np.asarray(found)[: self.spread.count, here.start // self.each : -(-here.stop // self.each)]

    def within(self) -> bool:
        """Whether all weights lie within their bounds. Initial ones may not; the first update of any pulls them in."""
        layers, learner = self.carry[0], self.phase.learner
        if not self._within and not any(outside(each, learner) for each in self.spread.unstacked(layers)):
            marked = {
                name: dataclasses.replace(layer, within=_bounds(layer, learner) is not None)
                for name, layer in layers.items()
            }
            self.carry, self._within = (marked, *self.carry[1:]), True
        return self._within


def _joined(pieces: list[Any]) -> Any:
    """What was found of the images of several pieces of an epoch, one after the other."""
    return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *pieces)


def images_shown(settings: Settings, seeds: Sequence[int], phase: int, images: int, epoch: int) -> np.ndarray | None:
    """Which image is shown when: (images,) integers, (networks, images) if seeds differ; None: all in their order.

    A number from `images` on stands for a mirror image. It depends on nothing but the seed, the numbers of phase and
    epoch, and of images, so that a resumed training goes on in the same order.
    """
    if not (settings.shuffle or settings.mirror):
        return None

    def one(seed: int) -> np.ndarray:
        random = np.random.default_rng((seed, phase, epoch))
        order, mirrored = random.permutation(images), random.integers(2, size=images)
        return (order if settings.shuffle else np.arange(images)) + images * settings.mirror * mirrored

    found = {seed: one(seed) for seed in seeds}
    return np.stack([found[seed] for seed in seeds]) if len(found) > 1 else found[seeds[0]]


def outside(layers: Mapping[str, Layer], learner: int) -> bool:
    """Whether weights of layers lie outside the bounds of their learner number `learner`."""

    def one(layer: Layer) -> bool:
        bounds, weights = _bounds(layer, learner), layer.weights
        return bounds is not None and bool(np.any((weights < bounds[0]) | (weights > bounds[1])))

    return any(one(layer) for layer in layers.values())


def _bounds(layer: Layer, learner: int) -> Any:
    return getattr(layer.conv.each_learner[learner], "bounds", None)

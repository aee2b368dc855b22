"""What enters each stage: a function of the weights before it, computed once and kept compactly on the host."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.data import Dataset
from snnjax.layers import FAST, NATIVE, Form, Layer, native_suits
from snnjax.learners import Learner
from snnjax.networks import Model, Network
from snnjax.training import diagnosis, programs
from snnjax.training.clock import Clock, add
from snnjax.training.spread import Spread
from snnjax.training.state import Callback, Settings, TrainState


class Outputs:
    """Models of networks of one structure, and what enters their stages."""

    def __init__(self, networks: Sequence[Network], data: Dataset, settings: Settings, callback: Callback):
        self.networks, self.data, self.settings, self.callback = networks, data, settings, callback
        self.network, self.spread = networks[0], Spread(len(networks))
        codes = [jax.tree.leaves(each.encoder) for each in networks]
        self._shared_code = all(np.array_equal(a, b) for code in codes for a, b in zip(code, codes[0], strict=True))
        self._kept: dict[str, tuple[int, str, np.ndarray]] = {}  # by part: stage, key and values of what enters it

    def model(self, state: TrainState, at: int = 0) -> Model:
        """Network number `at` with the weights of a state, all numbers of 32 bits."""
        return jax.tree.map(as_array, Model.of(state.network(self.networks[at]), state.weights))

    def models(self, states: Sequence[TrainState]) -> list[Model]:
        """All networks with their weights."""
        return [self.model(state, at) for at, state in enumerate(states)]

    def form(self, layer: Layer, learner: Learner | None = None) -> Form:
        """The kernels of a layer, which learns or not."""
        suits = self.settings.native and native_suits(layer.conv, layer.time_steps)
        return NATIVE if suits and (learner is None or learner.native) else FAST

    def packed(self, models: Sequence[Model], forms: Mapping[str, Form] | None = None) -> Any:
        """Models that do not learn, stacked, in their fastest forms or in those named."""
        best = {name: self.form(layer) for name, layer in models[0].layers.items()} | dict(forms or {})
        return self.spread.stacked([model.packed(best) for model in models])

    def own(self, stage: int) -> bool:
        """Whether each network has its own latencies before a stage; encoders that agree make the same for all."""
        return stage > 0 or not self._shared_code

    def forget(self) -> None:
        """Drops what is kept."""
        self._kept = {}

    def entering(self, part: str, stage: int, states: Sequence[TrainState], timed: bool = True) -> np.ndarray:
        """The latencies that enter a stage, of "train" or "test" images: (N, C, H, W); (networks, N, ...) if `own`.

        If not `timed`, only which inputs fire matters.
        """
        if stage and not timed:
            first = stage - 1 if part == "train" else 0
            values = self.entering(part, first, states)
            values = self._forward(f"who fires in stage {stage}", states, values, first, stage, timed=False)
            if part == "train":
                self._diagnose(stage - 1, values, states)
            return values
        at, key, values = self._kept.get(part, (stage + 1, "", np.zeros(0)))
        if at > stage or key != self._key(states, at):
            at, values = 0, self._encoded(part, states)
        for number in range(at, stage):
            values = self._forward(f"outputs of stage {number + 1}", states, values, number, number + 1, timed=True)
            if part == "train":
                self._kept[part] = (number + 1, self._key(states, number + 1), values)
                self._diagnose(number, values, states)
        return values

    def _encoded(self, part: str, states: Sequence[TrainState]) -> np.ndarray:
        """Both parts are encoded at once; the other one's code is kept if nothing later of it is."""
        sets = dict(train=self.data.train_images, test=self.data.test_images)
        images = {each: sets[each] for each in sets if each == part or each not in self._kept}
        spread, clock = Spread(1) if self._shared_code else self.spread, Clock("encode")
        models = spread.stacked(self.models(states)[: spread.count])
        self.callback.started("encode", sum(map(len, images.values())) * spread.count)
        for name, each in images.items():
            found = spread.map(
                clock, programs.encode_batch, models, each, report=self._report, native=self.settings.native
            )
            self._kept[name] = (0, self._key(states, 0), found[0] if self._shared_code else found)
        self.finish(clock, states)
        return self._kept[part][2]

    def _forward(
        self, name: str, states: Sequence[TrainState], values: np.ndarray, first: int, last: int, timed: bool
    ) -> np.ndarray:
        clock, own, models = Clock(name), self.own(first), self.packed(self.models(states))
        self.callback.started(name, values.shape[int(own)] * self.spread.count)
        static = dict(first=first, last=last, timed=timed)
        found = self.spread.map(clock, programs.forward_batch, models, values, own, self._report, **static)
        self.finish(clock, states)
        return found

    def _report(self, images: int) -> None:
        self.callback.advanced(images, 0)

    def finish(self, clock: Clock, states: Sequence[TrainState], over: bool = True) -> None:
        """Records what a clock has gathered; a phase that is over is reported."""
        record = clock.take()
        records = [add(state.phases, dict(record)) for state in states]
        if over:
            self.callback.finished(records[0])

    def _key(self, states: Sequence[TrainState], stage: int) -> str:
        """What the latencies before a stage depend on."""
        hashed = hashlib.sha256()
        for state in states:
            for name in (name for names in self.network.names[:stage] for name in names):
                hashed.update(np.ascontiguousarray(state.weights[name]))
                changed = sorted((key, x.tolist()) for key, x in state.numbers.items() if key.startswith(f"{name}."))
                hashed.update(repr(changed).encode())
        return hashed.hexdigest()

    def _diagnose(self, stage: int, values: np.ndarray, states: Sequence[TrainState]) -> None:
        """Of the first images: a share needs no more."""
        name = f"outputs of stage {stage + 1}"
        for at, state in enumerate(states):
            said = (each for each in state.diagnoses.values() if "layer" in each)
            open_ = {each["layer"]: each["convergence"] for each in said if "convergence" in each}
            fired = values[at][:1000] < self.network.time_steps
            state.diagnoses[name] = diagnosis.of_outputs(state.network(self.networks[at]), stage, fired, open_)
            if self.spread.count == 1:
                self.callback.diagnosed(name, state.diagnoses[name])


def as_array(leaf: Any) -> Any:
    """A number or an array as the programs take it: of 32 bits."""
    array = np.asarray(leaf)
    return array.astype(dict(f=np.float32, i=np.int32).get(array.dtype.kind, array.dtype))[()]

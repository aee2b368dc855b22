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
    """Models of networks of one structure, and what enters their stages.

    Args:
      networks: with encoders.
      data: whose images enter.
      settings: whether native kernels serve.
      callback: hears of what is computed.
    """

    def __init__(self, networks: Sequence[Network], data: Dataset, settings: Settings, callback: Callback):
        self.networks, self.data, self.settings, self.callback = networks, data, settings, callback
        self.network, self.spread = networks[0], Spread(len(networks))
        codes = [jax.tree.leaves(each.encoder) for each in networks]
        self._shared_code = all(np.array_equal(a, b) for code in codes for a, b in zip(code, codes[0], strict=True))
        self._kept: dict[str, tuple[int, str, np.ndarray]] = {}

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

    def packed(
        self, models: Sequence[Model], forms: Mapping[str, Form] | None = None, spread: Spread | None = None
    ) -> Any:
        """Models that do not learn, in their fastest forms, or in those named, on the devices."""
        best = {name: self.form(layer) for name, layer in models[0].layers.items()} | dict(forms or {})
        return (spread or self.spread).stacked([model.packed(best) for model in models])

    def own(self, stage: int) -> bool:
        """Whether networks have latencies of their own before a stage; encoders that agree make the same for all."""
        return self.spread.many and (stage > 0 or not self._shared_code)

    def forget(self) -> None:
        """Lets go of what is kept."""
        self._kept = {}

    def entering(self, part: str, stage: int, states: Sequence[TrainState]) -> np.ndarray:
        """The latencies that enter a stage, of "train" or "test" images: (N, C, H, W); (networks, N, ...) if `own`."""
        at, key, values = self._kept.get(part, (stage + 1, "", np.zeros(0)))
        if at > stage or key != self._key(states, at):
            at, values = 0, self._encoded(part, states)
        for number in range(at, stage):
            values = self._forward(f"outputs of stage {number + 1}", states, values, number, number + 1, True)
            self._keep(part, number + 1, states, values)
        return values

    def entering_untimed(self, part: str, states: Sequence[TrainState]) -> np.ndarray:
        """What enters the stage that decides, where it does not matter when inputs fire."""
        last = len(self.network.stages) - 1
        known = max(0, last - 1) if part == "train" else 0
        values = self.entering(part, known, states)
        if known == last:
            return values
        values = self._forward(f"who fires in stage {last}", states, values, known, last, False)
        if part == "train":
            self._diagnose(last - 1, values, states)
        return values

    def map(
        self,
        name: str,
        states: Sequence[TrainState],
        images: list[np.ndarray],
        kind: Any,
        *,
        own: bool = False,
        once: bool = False,
        **static: Any,
    ) -> Any:
        """A phase of its own: a function of `snnjax.training.programs` over one or more sets of images.

        Args:
          name: of the phase.
          states: of the networks.
          images: the sets.
          kind: the function.
          own: whether each network has images of its own.
          once: the first network does it for all.
          **static: settings of the function.
        """
        clock, spread = Clock(name), Spread(1) if once else self.spread
        models = self.packed(self.models(states)[: spread.count], spread=spread)
        self.callback.started(name, sum(each.shape[int(own)] for each in images) * spread.count)
        settings = dict(own=own, report=lambda count: self.callback.advanced(count, 0), **static)
        results = [spread.map(clock, kind, models, each, **settings) for each in images]
        self.finish(clock, states)
        return results

    def finish(self, clock: Clock, states: Sequence[TrainState], over: bool = True) -> None:
        """Records what a clock has gathered; a phase that is over is reported."""
        record = clock.take()
        records = [add(state.phases, dict(record)) for state in states]
        if over:
            self.callback.finished(records[0])

    def _encoded(self, part: str, states: Sequence[TrainState]) -> np.ndarray:
        """Both parts are encoded at once; the other one's code is kept if nothing later of it is."""
        sets = dict(train=self.data.train_images, test=self.data.test_images)
        wanted = [each for each in sets if each == part or each not in self._kept]
        images = [sets[each] for each in wanted]
        static: dict[str, Any] = dict(once=self._shared_code, native=self.settings.native)
        results = self.map("encode", states, images, programs.encode_batch, **static)
        for each, result in zip(wanted, results, strict=True):
            self._kept[each] = (0, self._key(states, 0), result)
        return self._kept[part][2]

    def _forward(self, name: str, states: Any, values: np.ndarray, first: int, last: int, timed: bool) -> np.ndarray:
        static: dict[str, Any] = dict(own=self.own(first), first=first, last=last, timed=timed)
        return self.map(name, states, [values], programs.forward_batch, **static)[0]

    def _keep(self, part: str, stage: int, states: Sequence[TrainState], values: np.ndarray) -> None:
        if part == "train":
            self._kept[part] = (stage, self._key(states, stage), values)
            self._diagnose(stage - 1, values, states)

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
            fired = (values[at] if self.own(stage + 1) else values)[:1000] < self.network.time_steps
            said = (each for each in state.diagnoses.values() if "layer" in each)
            open_ = {each["layer"]: each["convergence"] for each in said if "convergence" in each}
            found = diagnosis.of_outputs(state.network(self.networks[at]), stage, fired, open_)
            state.diagnoses[name] = found
            if not self.spread.many:
                self.callback.diagnosed(name, found)


def as_array(leaf: Any) -> Any:
    """A number or an array as the programs take it: of 32 bits."""
    array = np.asarray(leaf)
    return array.astype(dict(f=np.float32, i=np.int32).get(array.dtype.kind, array.dtype))[()]

"""The inputs of each stage: a function of the weights before it, computed once and kept compactly on the host."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core import files
from snnjax.core.errors import InputError
from snnjax.data import Dataset
from snnjax.layers.layer import BaseLayer, LayerKernels
from snnjax.layers.layer_kernels import NATIVE, ROWS, XLA, native_suits
from snnjax.networks import Model, Network
from snnjax.networks.batches import encode_batch, forward_batch
from snnjax.steps import deciding
from snnjax.training.advice import diagnose_outputs
from snnjax.training.placement import Placement, Timer, has_own
from snnjax.training.state import Callback, Settings, TrainState

REPORTED_SIZE = 1e9  # bytes of latencies from which a diagnosis names their place


class StageCache:
    """Models of networks of one structure, and their stages' inputs; `callback` receives the training's events."""

    def __init__(self, networks: Sequence[Network], data: Dataset, settings: Settings, callback: Callback):
        self.networks = networks
        self.network = networks[0]
        self.native = settings.native
        self.callback = callback
        self.placement = Placement(len(networks))
        self.images = {part: getattr(data, f"{part}_images") for part in ("train", data.tested)}
        self._mirror = settings.mirror
        self._kept: dict[str, tuple[int, str, np.ndarray]] = {}  # by part: stage, key and values of its inputs

    def model(self, state: TrainState, index: int = 0) -> Model:
        """Network number `index` with the weights of a state, all numbers of 32 bits."""
        return jax.tree.map(as_array, Model.of(state.network(self.networks[index]), state.weights))

    def models(self, states: Sequence[TrainState]) -> list[Model]:
        """All networks with their weights."""
        return [self.model(state, index) for index, state in enumerate(states)]

    def kernels(self, layer: BaseLayer, learner: int | None = None) -> LayerKernels:
        """The kernels of a layer, which learns by its learner number `learner` if given."""
        if layer.conv.real:
            return ROWS
        suits = self.native and native_suits(layer.conv, layer.time_steps)
        rule = None if learner is None else layer.conv.each_learner[learner]
        return NATIVE if suits and (rule is None or rule.native) else XLA

    def pack(self, models: Sequence[Model], kernels: Mapping[str, LayerKernels] | None = None) -> Any:
        """Models that do not learn, stacked, with their fastest kernels or those named."""
        best = {name: self.kernels(layer) for name, layer in models[0].layers.items()} | dict(kernels or {})
        return self.placement.stack([model.packed(best) for model in models])

    def clear(self) -> None:
        """Drops what is kept."""
        self._kept = {}

    def inputs(self, part: str, stage: int, states: Sequence[TrainState], timed: bool = True) -> np.ndarray:
        """The latencies that enter a stage, of "train" or the tested images; if not `timed`, only firing counts.

        They are (N, C, H, W) before the first stage if encoders agree, (networks, N, C, H, W) otherwise. With `mirror`
        there are 2N of "train": of the images, then of their mirror images.
        """
        stages = self.network.stages
        if stage and not timed:
            starts = [number for number in range(stage) if not (number and stages[number - 1].activities)]
            first = starts[-1] if part == "train" else 0
            return self._forward(part, states, self.inputs(part, first, states), first, stage, timed=False)
        current, key, values = self._kept.get(part, (stage + 1, "", np.zeros(0)))
        if current > stage or key != self._key(states, current):
            current = 0
            values = self._encoded(part, states)
        for number in range(current + 1, stage + 1):
            if number < stage and stages[number - 1].activities:
                continue  # activities are not kept: the latencies that they become are far smaller
            values = self._forward(part, states, values, current, number, timed=True)
            current = number
            if part == "train":
                self._kept[part] = (current, self._key(states, current), values)
        return values

    def _encoded(self, part: str, states: Sequence[TrainState]) -> np.ndarray:
        """The inputs of the first stage; the other part is encoded too, and kept, unless some inputs of it are kept."""
        images = {name: self._shown(name) for name in self.images if name == part or name not in self._kept}
        models = self.models(states)
        codes = [jax.tree.leaves(model.network.encoder) for model in models]
        shared = all(np.array_equal(a, b) for code in codes for a, b in zip(code, codes[0], strict=True))
        placement = Placement(1) if shared else self.placement
        timer = Timer("encode")
        stacked = placement.stack(models[: placement.count])
        self.callback.started("encode", sum(map(len, images.values())) * placement.count)
        for name, values in images.items():
            latencies = placement.map(timer, encode_batch, stacked, values, self.callback.advanced, native=self.native)
            if (largest := latencies.max()) > (steps := self.network.time_steps):
                raise InputError(f"`encoder(image)` must be 0..{steps - 1}, or {steps} where silent, got {largest}")
            self._kept[name] = (0, self._key(states, 0), latencies[0] if shared else latencies)
        self.finish(timer, states)
        return self._kept[part][2]

    def _shown(self, part: str) -> np.ndarray:
        """The images of a part; of "train" with their mirror images, where these are shown too."""
        images = self.images[part]
        if not self._mirror or part != "train":
            return images
        both = files.empty((2 * len(images), *images.shape[1:]), images.dtype)
        both[: len(images)] = images
        both[len(images) :] = images[:, :, ::-1]
        return both

    def _forward(
        self, part: str, states: Sequence[TrainState], values: np.ndarray, first: int, last: int, timed: bool
    ) -> np.ndarray:
        """The inputs of stage `last`, given the inputs of stage `first`."""
        name = f"{'outputs of' if timed else 'who fires in'} stage {last}"
        timer = Timer(name if part == "train" else f"{name}, {part}")
        self.callback.started(timer.name, values.shape[int(has_own(values))] * self.placement.count)
        kernels = {} if timed else deciding.kernels_before(self.network, self.native)
        packed = self.pack(self.models(states), kernels)
        report = self.callback.advanced
        values = self.placement.map(timer, forward_batch, packed, values, report, first=first, last=last, timed=timed)
        self.finish(timer, states)
        if part == "train" and not self.network.stages[last - 1].activities:
            self._diagnose_outputs(last, values, states)
        return values

    def _key(self, states: Sequence[TrainState], stage: int) -> str:
        """A digest of all that a stage's inputs depend on: the encoder, which may be fitted, and the layers before."""
        names = [name for names in self.network.names[:stage] for name in names]
        leaves = jax.tree.leaves([(x.network.encoder, [x.layers[name] for name in names]) for x in self.models(states)])
        return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()

    def finish(self, timer: Timer, states: Sequence[TrainState], over: bool = True) -> None:
        """Records a timer's measurements, and resets it; reports the phase if it is over."""
        records = [timer.add_to(state.phases) for state in states]
        timer.reset()
        if over:
            self.callback.finished(records[0])

    def _diagnose_outputs(self, stage: int, values: np.ndarray, states: Sequence[TrainState]) -> None:
        """Records a diagnosis of a stage's outputs for the first images; reports it if there is one network."""
        name = f"outputs of stage {stage}"
        for index, state in enumerate(states):
            convergences = (diagnosis.get("convergence", {}) for diagnosis in state.diagnoses.values())
            open_ = {layer: convergence for figures in convergences for layer, convergence in figures.items()}
            count = min(1000, values.shape[1] // (1 + self._mirror))  # mirror images come after the images
            network = state.network(self.networks[index])
            fired = values[index][:count] < self.network.time_steps
            state.diagnoses[name] = diagnose_outputs(network, stage - 1, fired, open_)
            if values.nbytes >= REPORTED_SIZE:
                state.diagnoses[name]["words"].append(f"they take {values.nbytes / 1e9:.1f} GB {files.kept(values)}")
        if len(states) == 1:
            self.callback.diagnosed(name, states[0].diagnoses[name])


def as_array(leaf: Any) -> Any:
    """A number or an array as the programs take it: of 32 bits."""
    array = np.asarray(leaf)
    return array.astype(dict(f=np.float32, i=np.int32).get(array.dtype.kind, array.dtype))[()]

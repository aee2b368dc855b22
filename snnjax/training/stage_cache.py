"""The inputs of each stage: a function of the weights before it, computed once and kept compactly on the host."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core import files
from snnjax.core.errors import InputError
from snnjax.data import Dataset
from snnjax.layers.layer import LayerKernels
from snnjax.layers.layer_kernels import best_kernels
from snnjax.networks import Model, Network
from snnjax.networks.batches import encode_batch, input_batch, output_batch
from snnjax.networks.forward import Known
from snnjax.steps import deciding
from snnjax.training.advice import diagnose_outputs
from snnjax.training.placement import Placement, Timer, count_of, has_own
from snnjax.training.state import Callback, Phase, Settings, TrainState

REPORTED_SIZE = 1e9  # bytes of latencies from which a diagnosis names their place


class StageCache:
    """Models of networks of one structure, and their stages' inputs; `callback` receives the training's events."""

    def __init__(self, networks: Sequence[Network], data: Dataset, settings: Settings, callback: Callback):
        self.networks = networks
        self.network = networks[0]
        self.native = settings.native
        self.callback = callback
        self.placement = Placement(len(networks))
        self.unsupervised = "train" if data.unlabelled_images is None else "all"
        parts = dict.fromkeys(("train", self.unsupervised, data.tested))
        self.images = {part: getattr(data, f"{part}_images") for part in parts}
        self._tested = data.tested
        self._mirror = settings.mirror
        self._kept: dict[str, dict[int, tuple[str, np.ndarray]]] = {}  # by part and number: key and values of outputs
        self._last_joined: dict[Any, np.ndarray] = {}  # what the present stage reads, joined, by its key

    def model(self, state: TrainState, index: int = 0) -> Model:
        """Network number `index` with the weights of a state, all numbers of 32 bits."""
        return jax.tree.map(as_array, Model.of(state.network(self.networks[index]), state.weights))

    def models(self, states: Sequence[TrainState]) -> list[Model]:
        """All networks with their weights."""
        return [self.model(state, index) for index, state in enumerate(states)]

    def pack(self, models: Sequence[Model], kernels: Mapping[str, LayerKernels] | None = None) -> Any:
        """Models that do not learn, stacked, with their fastest kernels or those named."""
        best = {name: best_kernels(layer, native=self.native) for name, layer in models[0].layers.items()} | dict(
            kernels or {}
        )
        return self.placement.stack([model.packed(best) for model in models])

    def learned_part(self, phase: Phase) -> str:
        """The part of `images` that a phase learns from."""
        return self.unsupervised if phase.layers else "train"

    def clear(self, part: str | None = None) -> None:
        """Drops what is kept, of a part or of all."""
        self._kept = {name: kept for name, kept in self._kept.items() if part not in (None, name)}
        self._last_joined = {}

    def inputs(
        self, part: str, first: int, states: Sequence[TrainState], *, last: int | None = None, timed: bool = True
    ) -> Any:
        """What enters stages `first` to `last`, of a part of `images`; if not `timed`, only firing counts.

        By default a single stage enters. What enters are the latencies that stage `first` reads, joined, or `Known`
        outputs where later stages read earlier ones too. They are (N, C, H, W) of encoders that agree, (networks, N,
        C, H, W) otherwise; with `mirror`, where images are learned from, (2N, ...): their mirror images come last.
        """
        graph = self.network.graph
        timed = timed or first == 0
        begin = first
        if not timed:
            begin = first - 1 if part == self.unsupervised else 0  # others have come no further than the encoder
        self._last_joined = {key: values for key, values in self._last_joined.items() if key[1] == first}
        outputs = self._outputs(part, begin, states)
        if entering := graph.outputs_entering(first, first if last is None else last):
            return self._known(outputs, entering)
        if not graph.plain(first):
            return self._joined(part, states, outputs, first, timed)
        (source,) = graph.sources(first)
        return outputs[source] if source in outputs else self._forward(part, states, outputs, source, timed)

    def _joined(
        self, part: str, states: Sequence[TrainState], outputs: Mapping[int, np.ndarray], stage: int, timed: bool
    ) -> np.ndarray:
        """What a stage reads, joined; kept for its other phases."""
        graph = self.network.graph
        key = part, stage, timed, self._key(states, stage)
        if key not in self._last_joined:
            used = set().union(*(graph.outputs_used(source, outputs) for source in graph.sources(stage)))
            title = f"inputs of stage {stage + 1}"
            known = self._known(outputs, used)
            values = self.compute(title, part, states, input_batch, known, number=stage, timed=timed)
            self._check_latencies(f"join(...)` of stage {stage + 1}", values)
            self._last_joined = {key: values}
        return self._last_joined[key]

    def _check_latencies(self, title: str, latencies: np.ndarray) -> None:
        """Raises InputError where a custom part has returned later steps than there are; `title` ends its name."""
        steps = self.network.time_steps
        largest = latencies.max()
        if largest > steps:
            raise InputError(f"`{title} must be 0..{steps - 1}, or {steps} where silent, got {largest}")

    def _outputs(self, part: str, stage: int, states: Sequence[TrainState]) -> dict[int, np.ndarray]:
        """The outputs before a stage from which it and later ones are computed, by number; others are dropped."""
        graph = self.network.graph
        wanted = graph.outputs_needed_from(stage)
        kept = self._kept.setdefault(part, {})
        for number in list(kept):
            if number > stage or kept[number][0] != self._key(states, number):
                del kept[number]
        missing = graph.outputs_to_compute(wanted, kept)
        for index, number in enumerate(missing):
            if number == 0:
                self._encode(part, states)
            else:
                outputs = {known: values for known, (_, values) in kept.items()}
                kept[number] = self._key(states, number), self._forward(part, states, outputs, number, timed=True)
            needed = {*wanted}.union(*(graph.latencies_needed(later - 1) for later in missing[index + 1 :]))
            for other in kept.keys() - needed:
                del kept[other]
        return {number: values for number, (_, values) in kept.items()}

    def _known(self, outputs: Mapping[int, np.ndarray], numbers: Iterable[int]) -> Known:
        """Some outputs, (networks, N, ...) all of them if one is."""
        known = {number: outputs[number] for number in numbers}
        if any(map(has_own, known.values())):
            shape = (len(self.networks),)
            known = {n: x if has_own(x) else np.broadcast_to(x, shape + x.shape) for n, x in known.items()}
        return Known(known)

    def _encode(self, part: str, states: Sequence[TrainState]) -> None:
        """Keeps the encoded images of a part, and those tested too, unless some outputs of them are kept."""
        parts = [part]
        if part != self._tested and not self._kept.get(self._tested):
            parts.append(self._tested)
        images = {name: self._shown(name) for name in parts}
        models = self.models(states)
        codes = [jax.tree.leaves(model.network.encoder) for model in models]
        shared = all(np.array_equal(a, b) for code in codes for a, b in zip(code, codes[0], strict=True))
        placement = Placement(1) if shared else self.placement
        timer = Timer("encode")
        stacked = placement.stack(models[: placement.count])
        self.callback.started("encode", sum(map(len, images.values())) * placement.count)
        for name, values in images.items():
            latencies = placement.map(timer, encode_batch, stacked, values, self.callback.advanced, native=self.native)
            self._check_latencies("encoder(image)`", latencies)
            self._kept.setdefault(name, {})[0] = self._key(states, 0), latencies[0] if shared else latencies
        self.finish(timer, states)

    def _shown(self, part: str) -> np.ndarray:
        """The images of a part; with their mirror images, where these are learned from too."""
        images = self.images[part]
        if not self._mirror or part == self._tested:
            return images
        both = files.empty((2 * len(images), *images.shape[1:]), images.dtype)
        both[: len(images)] = images
        both[len(images) :] = images[:, :, ::-1]
        return both

    def _forward(
        self, part: str, states: Sequence[TrainState], outputs: Mapping[int, np.ndarray], number: int, timed: bool
    ) -> np.ndarray:
        """Output `number`, given earlier ones."""
        known = self._known(outputs, self.network.graph.outputs_used(number, outputs))
        title = f"{'outputs of' if timed else 'who fires in'} stage {number}"
        values = self.compute(title, part, states, output_batch, known, number=number, timed=timed)
        diagnosed = part != self.unsupervised and f"outputs of stage {number}" in states[0].diagnoses
        if part != self._tested and not diagnosed:
            self._diagnose_outputs(number, values, states)
        return values

    def compute(
        self,
        title: str,
        part: str,
        states: Sequence[TrainState],
        function: Callable[..., jax.Array],
        known: Known,
        *,
        number: int,
        timed: bool,
    ) -> np.ndarray:
        """`input_batch` or `output_batch` of what is known of the images of a part, (networks, N, C, H, W)."""
        timer = Timer(title if part == self.unsupervised else f"{title}, {part}")
        self.callback.started(timer.name, count_of(known) * self.placement.count)
        kernels = {} if timed else deciding.kernels_before(self.network, self.native)
        packed = self.pack(self.models(states), kernels)
        report = self.callback.advanced
        values = self.placement.map(timer, function, packed, known, report, number=number, timed=timed)
        self.finish(timer, states)
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

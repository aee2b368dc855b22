"""The inputs of each stage: a function of the weights before it, computed once and kept compactly on the host."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from snnjax.core import files
from snnjax.core.errors import InputError
from snnjax.networks.batches import encode_batch, input_batch, output_batch
from snnjax.networks.graph import Activations
from snnjax.training.advice import diagnose_outputs
from snnjax.training.job import DIAGNOSED_IMAGES, Job, Phase
from snnjax.training.placement import Placement, count_of, has_own
from snnjax.training.state import TrainState
from snnjax.training.timer import Timer

REPORTED_SIZE = 1e9  # bytes; a diagnosis says where latencies are kept if they take at least this


class StageCache:
    """The inputs of the stages of a job's networks, as far as they have been computed."""

    def __init__(self, job: Job):
        self.job = job
        self.network = job.network
        # Latencies, not spike waves: of one byte each they take 282 MB for the encoded images of MNIST, waves of 15
        # steps 4.2 GB.
        self._kept: dict[str, dict[int, tuple[str, np.ndarray]]] = {}  # by part and number: key and values of outputs
        self._last_joined: dict[Any, np.ndarray] = {}  # what the present stage reads, joined, by its key

    def clear(self, part: str | None = None) -> None:
        """Drops the kept outputs of one part of the images, or of all parts."""
        self._kept = {name: kept for name, kept in self._kept.items() if part not in (None, name)}
        self._last_joined = {}

    def inputs(self, phase: Phase, part: str, states: Sequence[TrainState]) -> Any:
        """The inputs of the layers that learn in a phase, for a part of the images.

        These are the latencies that the phase's first stage reads, joined, or `Activations` if later stages read
        earlier outputs too. They are (N, C, H, W) of encoders that agree, (networks, N, C, H, W) otherwise; with
        `mirror`, for images to learn from, (2N, ...): their mirror images come last.
        """
        first = phase.first
        self._last_joined = {key: values for key, values in self._last_joined.items() if key[1] == first}
        last = max(first, len(self.network.stages) - 1) if phase.supervised else first
        graph = self.network.graph
        outputs = self._outputs(part, first, states)
        if entering := graph.outputs_entering(first, last):
            return self._known(outputs, entering)
        if not graph.plain(first):
            return self._joined(part, states, outputs, first)
        (source,) = graph.sources(first)
        return outputs[source]

    def _joined(
        self, part: str, states: Sequence[TrainState], outputs: Mapping[int, np.ndarray], stage: int
    ) -> np.ndarray:
        """The joined inputs of a stage, which are kept for its other phases."""
        graph = self.network.graph
        key = part, stage, self._key(states, stage)
        if key not in self._last_joined:
            known = self._known(outputs, graph.path_to(graph.sources(stage), outputs).outputs)
            values = self._compute(f"inputs of stage {stage + 1}", part, states, input_batch, known, number=stage)
            self._check_latencies(f"join(...)` of stage {stage + 1}", values)
            self._last_joined = {key: values}
        return self._last_joined[key]

    def _check_latencies(self, title: str, latencies: np.ndarray) -> None:
        """Raises InputError if a custom part has returned later time steps than there are; `title` ends its name."""
        steps = self.network.time_steps
        largest = latencies.max()
        if largest > steps:
            raise InputError(f"`{title} must be 0..{steps - 1}, or {steps} if silent, got {largest}")

    def _outputs(self, part: str, stage: int, states: Sequence[TrainState]) -> dict[int, np.ndarray]:
        """The earlier outputs that a stage and its successors need, by stage number; all other outputs are dropped."""
        graph = self.network.graph
        end = len(self.network.stages)
        # Stages after the next one may read an output too, through skip connections: it would otherwise be computed
        # again.
        wanted = graph.outputs_for(range(stage, end + 1), stage)
        kept = self._kept.setdefault(part, {})
        for number in list(kept):
            if number > stage or kept[number][0] != self._key(states, number):
                del kept[number]
        path = graph.path_to(wanted, {0, *kept})
        reached = sorted({*path.outputs, *(later + 1 for later in path.stages)})
        missing = [number for number in reached if number not in kept]
        for index, number in enumerate(missing):
            if number == 0:
                self._encode(part, states)
            else:
                outputs = {known: values for known, (_, values) in kept.items()}
                kept[number] = self._key(states, number), self._forward(part, states, outputs, number)
            needed = graph.outputs_for([later - 1 for later in missing[index + 1 :]], end)
            for other in kept.keys() - {*wanted, *needed}:
                del kept[other]
        return {number: values for number, (_, values) in kept.items()}

    def _known(self, outputs: Mapping[int, np.ndarray], numbers: Iterable[int]) -> Activations:
        """Some outputs; if one of them is (networks, N, ...), all of them are."""
        known = {number: outputs[number] for number in numbers}
        if any(map(has_own, known.values())):
            shape = (len(self.job.networks),)
            known = {n: x if has_own(x) else np.broadcast_to(x, shape + x.shape) for n, x in known.items()}
        return Activations(known)

    def _encode(self, part: str, states: Sequence[TrainState]) -> None:
        """Keeps the encoded images of a part, and the tested images, unless some of their outputs are kept."""
        parts = [part]
        decides = self.network.decision is not None
        if decides and part != self.job.data.tested and not self._kept.get(self.job.data.tested):
            parts.append(self.job.data.tested)
        images = {name: self._images_of(name) for name in parts}
        models = self.job.models(states)
        codes = [jax.tree.leaves(model.network.encoder) for model in models]
        shared = all(np.array_equal(a, b) for code in codes for a, b in zip(code, codes[0], strict=True))
        placement = Placement(1) if shared else self.job.placement
        timer = Timer("encode")
        stacked = placement.stack(models[: placement.count])
        self.job.callback.started("encode", sum(map(len, images.values())) * placement.count)
        most = max(map(len, images.values()))  # a second program takes longer to compile than a part to fill up
        for name, values in images.items():
            advanced = self.job.callback.advanced
            latencies = placement.map(timer, encode_batch, stacked, values, advanced, at_least=most)
            self._check_latencies("encoder(image)`", latencies)
            self._kept.setdefault(name, {})[0] = self._key(states, 0), latencies[0] if shared else latencies
        self.job.finish(timer, states)

    def _images_of(self, part: str) -> np.ndarray:
        """The images of a part, followed by their mirror images if these are learned from too."""
        images = self.job.images[part]
        if not self.job.settings.mirror or part == self.job.data.tested:
            return images
        both = files.empty((2 * len(images), *images.shape[1:]), images.dtype)
        both[: len(images)] = images
        # Axis 2 holds the columns. The last axis is that of colours in colour images, so `...` would exchange red and
        # blue.
        both[len(images) :] = images[:, :, ::-1]
        return both

    def _forward(
        self, part: str, states: Sequence[TrainState], outputs: Mapping[int, np.ndarray], number: int
    ) -> np.ndarray:
        """Output `number`, given earlier ones."""
        known = self._known(outputs, self.network.graph.path_to({number}, outputs).outputs)
        values = self._compute(f"outputs of stage {number}", part, states, output_batch, known, number=number)
        diagnosed = part != self.job.unsupervised and f"outputs of stage {number}" in states[0].diagnoses
        if part != self.job.data.tested and not diagnosed:
            self._diagnose_outputs(number, values, states)
        return values

    def _compute(
        self,
        title: str,
        part: str,
        states: Sequence[TrainState],
        function: Callable[..., jax.Array],
        known: Activations,
        number: int,
    ) -> np.ndarray:
        """`input_batch` or `output_batch`, computed for the images of a part, (networks, N, C, H, W)."""
        timer = Timer(title if part == self.job.unsupervised else f"{title}, {part}")
        self.job.callback.started(timer.name, count_of(known) * self.job.placement.count)
        packed = self.job.placement.stack(self.job.models(states))
        report = self.job.callback.advanced
        values = self.job.placement.map(timer, function, packed, known, report, number=number)
        self.job.finish(timer, states)
        return values

    def _key(self, states: Sequence[TrainState], stage: int) -> str:
        """A digest of everything that a stage's inputs depend on: the encoder and the layers before."""
        names = [name for names in self.network.names[:stage] for name in names]
        models = self.job.models(states)
        leaves = jax.tree.leaves([(x.network.encoder, [x.layers[name] for name in names]) for x in models])
        return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()

    def diagnose_features(self, phase: Phase, states: Sequence[TrainState]) -> None:
        """Records a diagnosis of the features, the outputs of the last stage, for the first images of a phase."""
        number = len(self.network.stages)
        part = self.job.learned_part(phase)
        outputs = self._outputs(part, number - 1, states)
        known = self._known(outputs, self.network.graph.path_to({number}, outputs).outputs)
        first = {key: x[:, : phase.images] if has_own(x) else x[: phase.images] for key, x in known.outputs.items()}
        values = self._compute(phase.name, part, states, output_batch, Activations(first), number)
        self._diagnose_outputs(number, values, states)

    def _diagnose_outputs(self, stage: int, values: np.ndarray, states: Sequence[TrainState]) -> None:
        """Records a diagnosis of a stage's outputs for the first images; reports it if there is one network."""
        name = f"outputs of stage {stage}"
        for index, state in enumerate(states):
            convergences = (diagnosis.get("convergence", {}) for diagnosis in state.diagnoses.values())
            open_ = {layer: convergence for figures in convergences for layer, convergence in figures.items()}
            count = min(DIAGNOSED_IMAGES, len(self.job.images[self.job.unsupervised]))  # mirror images come after these
            network = state.network(self.job.networks[index])
            fired = values[index][:count] < self.network.time_steps
            state.diagnoses[name] = diagnose_outputs(network, stage - 1, fired, open_)
            if values.nbytes >= REPORTED_SIZE:
                state.diagnoses[name]["words"].append(f"they take {values.nbytes / 1e9:.1f} GB {files.kept(values)}")
        if len(states) == 1:
            self.job.callback.diagnosed(name, states[0].diagnoses[name])

"""The measured readout of SpikeNN on the CPU, imported from a checkout of github.com/ggoupy/SpikeNN."""

import importlib
import importlib.metadata
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from programs import MeasuredProgram, Work


class Readout(NamedTuple):
    """A readout that learns: its inputs, its initial weights, and its rule."""

    latencies: np.ndarray  # (N + M, inputs) uint8, training images, then test images
    time_steps: int
    labels: np.ndarray  # (N,)
    test_labels: np.ndarray  # (M,)
    weights: np.ndarray  # (neurons, inputs), the neurons of a class are adjacent
    classes: int
    threshold: float
    gap: float
    rates: tuple[float, float]
    non_targets: int = 0  # number of non-target neurons of each class
    competition: bool = False  # whether neurons compete within each class
    ranges: bool = False  # whether desired times are bounds, as in SSTDP
    rescaled: bool = True  # whether weights keep their sum
    threshold_rate: float = 0.0  # learning rate of the training thresholds, as in NCG


class Program(MeasuredProgram):
    """SpikeNN with sparse spikes, for which it is designed; its functions are compiled before the measurement."""

    def __init__(self, folder: Path):
        sys.path[:0] = [str(folder.resolve()), str(folder.resolve() / "app")]
        self.readout = importlib.import_module("readout")
        self.dataset = importlib.import_module("spikenn.dataset")
        versions = {name: importlib.metadata.version(name) for name in ("numba", "numpy")}
        self.about = dict(versions=versions, device="cpu: 1 thread")

    def phases(self, task: Readout) -> dict[str, Work]:
        """Learning and testing, from the weights in `task`."""
        times = np.where(task.latencies < task.time_steps, task.latencies / task.time_steps, 1).astype(np.float32)
        count = len(task.labels)
        settings = configuration(task)
        train = self.spikes(times[:count], task.labels)
        test = self.spikes(times[count:], task.test_labels)

        def fresh() -> tuple[Any]:
            model = self.readout.Readout.init_from_dict(settings, times.shape[1], task.classes, None, 1)
            (layer,) = model.network
            layer.weights = task.weights.astype(np.float32)
            layer.w_norm = layer.weights.sum(axis=1) if task.rescaled else None
            return (model,)

        def learn(model: Any) -> np.ndarray:
            model.fit(train)
            return model.network[0].weights

        def decisions(_: Any) -> np.ndarray:
            (model,) = fresh()
            first = [
                self.readout.spike_sort(potentials, times)[0]
                for _, times, potentials in map(model.network[0], test.data)
            ]
            return np.array(first) // (len(task.weights) // task.classes)

        begin = time.perf_counter()
        learn(*fresh())
        fresh()[0].predict(test)
        compiling = time.perf_counter() - begin
        return {
            "learn": Work(count, learn, fresh, compile_seconds=compiling),
            "test": Work(len(task.test_labels), lambda model: model.predict(test), fresh, decisions),
        }

    def spikes(self, times: np.ndarray, labels: np.ndarray) -> Any:
        """Images as a sparse data set of SpikeNN; all classes must occur, since only these are numbered."""
        dataset = self.dataset.SpikingDataset.from_numpy(times, labels, max_time=1)
        dataset.labels = labels.astype(dataset.labels.dtype)
        return dataset


def configuration(task: Readout) -> dict[str, Any]:
    """The settings of one epoch in the format of SpikeNN."""
    layer = dict(
        n_neurons=len(task.weights),
        firing_threshold=task.threshold,
        w_init_normal=True,
        w_init_mean=0.5,
        w_init_std=0.01,
        w_norm=task.rescaled,
        w_min=0,
        w_max=1,
    )
    rule = dict(
        method="s2stdp",
        stdp="additive",
        class_inhib=task.competition,
        use_time_ranges=task.ranges,
        t_gap=task.gap,
        ap=task.rates[0],
        am=task.rates[1],
        annealing=1.0,
    )
    trainer = dict(epochs=1, early_stopping=0, nt_neurons=task.non_targets)
    thresholds = dict(regularizer=dict(thr_lr=task.threshold_rate, thr_anneal=1.0)) if task.threshold_rate else {}
    return dict(network=[layer], optimizer=rule, trainer=trainer, **thresholds)

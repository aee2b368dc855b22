"""The PyTorch program under measurement, imported from a checkout of github.com/aidinattar/snn."""

import copy
import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import programs
from programs import REFERENCES, Learning, Task, Work


class Program(programs.Program):
    """The reference on "cpu" or "cuda".

    Raises:
      ValueError: there is no such device, or a package is missing.
    """

    def __init__(self, folder: Path, device: str):
        sys.path.insert(0, str(folder.resolve()))
        try:
            modules = ("torch", "s1c1", "SpykeTorch.utils")
            self.torch, self.s1c1, self.utils = map(importlib.import_module, modules)
        except ImportError as error:
            raise ValueError(f"cannot start ({error}): pip install 'snnjax[benchmark]'") from error
        if device == "cuda" and not self.torch.cuda.is_available():
            raise ValueError("its PyTorch sees no GPU: install one that does, or take `device` cpu")
        self.torch.set_grad_enabled(False)
        self.device = device
        where = self.torch.cuda.get_device_name() if device == "cuda" else f"{self.torch.get_num_threads()} threads"
        versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision")}
        self.about = dict(versions=versions, device=f"{device}: {where}")

    def encoder(self, time_steps: int) -> Callable[[np.ndarray], Any]:
        """From an image, bytes or floats of 0..1, to a byte wave."""
        kernels = [
            self.utils.DoGKernel(window, first / 9, second / 9)
            for window in (3, 7, 13)
            for first, second in ((window, 2 * window), (2 * window, window))
        ]
        return self.s1c1.S1C1(self.utils.Filter(kernels, padding=6, thresholds=50), timesteps=time_steps)

    def prepare(self, task: Task) -> None:
        """The phases by their names in snnjax, with the weights of our network."""
        encoder, count = self.encoder(task.time_steps), len(task.labels)
        pixels = task.images if task.images.dtype == np.uint8 else task.images / 255
        train, test = self.torch.stack([encoder(image) for image in pixels]).tensor_split([count])
        labels, test_labels = (self.torch.tensor(y) for y in (task.labels, task.test_labels))
        module = importlib.import_module(f"model.{task.network.removesuffix('_2')}")
        build = getattr(module, REFERENCES[task.network])
        model = build(task.latencies.shape[1], task.classes, device=self.device, tensorboard=False)
        for name, value in task.weights.items():
            convolution(model, name).load_weight(self.torch.tensor(value))

        def learn(phase: Learning, model: Any) -> Any:
            if phase.rewarded:
                for at in range(0, count, task.batch_size):
                    batch = slice(at, at + task.batch_size)
                    correct, wrong, _ = model.train_rl(train[batch], labels[batch], layer_idx=task.stages)
                    if task.batch_size < count:
                        rates = (wrong * 0.004, wrong * -0.003, correct * 0.0005, correct * -0.004)
                        model.update_learning_rates(*rates, layer_idx=task.stages)
            elif phase.branches > 1:
                model.train_unsupervised(train, phase.stage + 1, phase.branch)
            else:
                model.train_unsupervised(train, phase.stage + 1)
            return convolution(model, phase.layer).weight.cpu()

        def decisions(_: Any) -> np.ndarray:
            outcomes = (model.eval()(wave.to(self.device), task.stages) for wave in test)
            # majority2024 gives its branches' votes beside the decision
            return np.array([int(each[0] if isinstance(each, tuple) else each) for each in outcomes])

        def fresh(rewarded: bool = False) -> tuple[Any]:
            copied = copy.deepcopy(model)
            if rewarded and hasattr(copied, "reset_learning_rates"):  # deepr2024's, as its training program does
                copied.reset_learning_rates(3)
            return (copied,)

        def latencies(waves: list[Any]) -> np.ndarray:
            return task.time_steps - np.stack(waves).sum(1, dtype=int)

        self.works = {"encode": Work(len(pixels), lambda: [encoder(image) for image in pixels], latencies)}
        for phase in task.learning:
            start = functools.partial(fresh, phase.rewarded)
            self.works[phase.name] = Work(count, functools.partial(learn, phase), np.asarray, start)
        self.works["test"] = Work(len(test), lambda model: model.test(test, test_labels, task.stages), decisions, fresh)

    def finish(self, _: Any) -> None:
        """Waits for the device."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def device_memory(self) -> int | None:
        """Bytes at most in use on an accelerator."""
        return self.torch.cuda.max_memory_allocated() if self.device == "cuda" else None


def convolution(model: Any, layer: str) -> Any:
    """The reference's convolution that is our layer: block3_2 for layer3_2."""
    return getattr(model, layer.replace("layer", "block"))["conv"]

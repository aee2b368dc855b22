"""The measured PyTorch program, imported from a checkout of github.com/aidinattar/snn."""

import copy
import functools
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import numpy as np
from programs import Learning, MeasuredProgram, Task, Work

# Window size and standard deviations of the encoder's filters, which are differences of Gaussians.
DOG = [(size, near * size / 9, far * size / 9) for size in (3, 7, 13) for near, far in ((1, 2), (2, 1))]
CLASSES = dict(mozafari2018="MozafariMNIST2018", deep2024="DeepSNN", deepr2024="DeepRSNN", deepr2024_2="DeepRSNN2")
CLASSES |= dict(inception2024="InceptionSNN", majority2024="MajoritySNN", resnet2024="ResSNN", deeper2024="DeeperSNN")
OPTIONS = dict(resnet2024=dict(method="logical_and"))
"""Arguments by network, as the network of snnjax is built; the default of the reference does not do what it says."""


class Program(MeasuredProgram):
    """The reference program on "cpu" or "cuda"; raises ValueError if there is no such device."""

    def __init__(self, folder: Path, device: str):
        sys.path.insert(0, str(folder.resolve()))
        modules = ("torch", "s1c1", "SpykeTorch.utils")
        self.torch, self.s1c1, self.utils = map(importlib.import_module, modules)
        if device == "cuda" and not self.torch.cuda.is_available():
            raise ValueError("its PyTorch finds no GPU: install a version that does, or use `device` cpu")
        self.torch.set_grad_enabled(False)
        self.device = device
        where = self.torch.cuda.get_device_name() if device == "cuda" else f"{self.torch.get_num_threads()} threads"
        versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision")}
        self.about = dict(versions=versions, device=f"{device}: {where}")

    def phases(self, task: Task) -> dict[str, Work]:
        """The phases by their names in snnjax, with the weights of the network of snnjax."""
        filters = self.utils.Filter([self.utils.DoGKernel(*kernel) for kernel in DOG], padding=6, thresholds=50)
        encode = self.s1c1.S1C1(filters, timesteps=task.time_steps)
        count = len(task.labels)
        pixels = task.images if task.images.dtype == np.uint8 else task.images / 255
        train, test = self.torch.stack([encode(image) for image in pixels]).tensor_split([count])
        labels = self.torch.tensor(task.labels)
        test_labels = self.torch.tensor(task.test_labels)
        module = importlib.import_module(f"model.{task.network.removesuffix('_2')}")
        build = getattr(module, CLASSES[task.network])
        how = OPTIONS.get(task.network, {})
        model = build(task.latencies.shape[1], task.classes, device=self.device, tensorboard=False, **how)
        for name, value in task.weights.items():
            convolution(model, name).load_weight(self.torch.tensor(value))

        def learn(phase: Learning, model: Any) -> Any:
            if not phase.rewarded:
                model.train_unsupervised(train, phase.stage + 1, *phase.branch)
                return convolution(model, phase.layer).weight.cpu()
            for batch in zip(train.split(task.adapt_every), labels.split(task.adapt_every), strict=True):
                correct, wrong, _ = model.train_rl(*batch, layer_idx=task.stages)
                if task.adapt_every < count:
                    rates = (wrong * 0.004, wrong * -0.003, correct * 0.0005, correct * -0.004)
                    model.update_learning_rates(*rates, layer_idx=task.stages)
            return convolution(model, phase.layer).weight.cpu()

        def decisions(_: Any) -> np.ndarray:
            outcomes = (model.eval()(wave.to(self.device), task.stages) for wave in test)
            # majority2024 also returns the votes of its branches
            return np.array([int(outcome[0] if isinstance(outcome, tuple) else outcome) for outcome in outcomes])

        def fresh(rewarded: bool = False) -> tuple[Any]:
            copied = copy.deepcopy(model)
            if rewarded and hasattr(copied, "reset_learning_rates"):  # as the training program of deepr2024 does
                copied.reset_learning_rates(3)
            return (copied,)

        works = {"encode": Work(len(pixels), lambda: [encode(image) for image in pixels])}
        works["encode"].outcome = lambda waves: task.time_steps - np.stack(waves).sum(1, dtype=int)
        for phase in task.learning:
            start = functools.partial(fresh, phase.rewarded)
            works[phase.name] = Work(count, functools.partial(learn, phase), start)
        works["test"] = Work(len(test), lambda model: model.test(test, test_labels, task.stages), fresh, decisions)
        return works

    def finish(self, _: Any) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()


def convolution(model: Any, block: str) -> Any:
    """The reference's convolution of this name."""
    part = getattr(model, block)
    return part["conv"] if block.startswith("block") else part

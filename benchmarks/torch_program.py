"""Measured PyTorch: the same SoftHebb layers, written from their equations, on the CPU."""

import functools
from typing import Any, NamedTuple

import numpy as np
from programs import MeasuredProgram, Work


class SoftLayer(NamedTuple):
    """A real-valued layer: its weights, numbers and pooling."""

    weights: np.ndarray  # (F, C, k, k)
    moments: tuple[np.ndarray, np.ndarray]  # running ones of its inputs, (C,) each
    inverse_temperature: float
    power: float
    rate: float
    window: Any  # of pooling, as stride and padding one integer or two
    stride: Any
    padding: Any
    mean: bool


class Deep(NamedTuple):
    """The task: images in 0..1, (N, C, H, W), the layers at the start, images of a batch, and T of the codes.

    A readout sees each layer's output, averaged over windows of `windows`, as latencies.
    """

    images: np.ndarray
    layers: list[SoftLayer]
    windows: list[Any]  # rows and columns, or one integer for both
    batch: int
    time_steps: int


class Program(MeasuredProgram):
    """PyTorch with a number of threads: convolutions and their gradients by its own functions."""

    def __init__(self, threads: int):
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        self.about = dict(versions=dict(torch=torch.__version__), device=f"cpu: {threads} threads")

    def phases(self, task: Deep) -> dict[str, Work]:
        """Learning in one pass, and the latencies of all images."""
        images = self.torch.from_numpy(task.images)
        layers = task.layers
        weights = [self.torch.from_numpy(layer.weights) for layer in layers]
        learn = functools.partial(self.learn, images, layers, batch=task.batch)
        features = functools.partial(self.features, images, layers, weights, task.windows, steps=task.time_steps)
        fresh = functools.partial(map, self.torch.clone, weights)
        return {
            "learn": Work(len(images), lambda *tensors: learn(list(tensors)), lambda: tuple(fresh())),
            "features": Work(len(images), features),
        }

    def learn(self, images: Any, layers: list[SoftLayer], weights: list[Any], batch: int) -> Any:
        """The weights of the last layer after one pass."""
        torch = self.torch
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                inputs = images[start : start + batch]
                for layer, weight in zip(layers, weights, strict=True):
                    mean = inputs.mean((0, 2, 3))
                    variance = inputs.var((0, 2, 3), correction=0)
                    padded = self.padded(inputs, mean, variance, weight.shape[2])
                    sums = torch.nn.functional.conv2d(padded, weight)
                    shares = torch.softmax(layer.inverse_temperature * sums, dim=1)
                    winner = sums.argmax(dim=1, keepdim=True)
                    signed = -shares
                    signed.scatter_(1, winner, shares.gather(1, winner))
                    pulled = torch.nn.grad.conv2d_weight(padded, weight.shape, signed)
                    change = pulled - (signed * sums).sum((0, 2, 3))[:, None, None, None] * weight
                    change /= change.abs().max() + 1e-30
                    norm = weight.flatten(1).norm(dim=1)
                    weight += (layer.rate * ((norm - 1).abs() + 1e-10).sqrt())[:, None, None, None] * change
                    inputs = self.pooled(sums, layer)
        return weights[-1].numpy()

    def features(self, images: Any, layers: list[SoftLayer], weights: list[Any], windows: list[Any], steps: int) -> Any:
        """Latencies of all images and layers, in blocks of 100."""
        torch = self.torch
        latencies = []
        with torch.inference_mode():
            for start in range(0, len(images), 100):
                inputs = images[start : start + 100]
                depths = []
                for layer, weight, window in zip(layers, weights, windows, strict=True):
                    mean = torch.from_numpy(layer.moments[0])
                    variance = torch.from_numpy(layer.moments[1])
                    padded = self.padded(inputs, mean, variance, weight.shape[2])
                    inputs = self.pooled(torch.nn.functional.conv2d(padded, weight), layer)
                    read = torch.nn.functional.avg_pool2d(inputs, window)
                    shares = read / read.amax((1, 2, 3), keepdim=True)
                    step = ((1 - shares) * steps).floor().clamp(max=steps - 1)
                    depths.append(torch.where(shares > 0, step, steps).to(torch.uint8))
                latencies.append(torch.cat(depths, dim=1))
        return torch.cat(latencies).numpy()

    def padded(self, inputs: Any, mean: Any, variance: Any, kernel: int) -> Any:
        """Standardised inputs, reflected at the border."""
        scaled = self.torch.nn.functional.batch_norm(inputs, mean, variance, eps=1e-5)
        return self.torch.nn.functional.pad(scaled, [kernel // 2] * 4, mode="reflect")

    def pooled(self, sums: Any, layer: SoftLayer) -> Any:
        """Activities of a layer, pooled."""
        raised = (sums - sums.mean(dim=1, keepdim=True)).relu_()
        active = raised if layer.power == 1 else raised.pow_(layer.power)
        pool = self.torch.nn.functional.avg_pool2d if layer.mean else self.torch.nn.functional.max_pool2d
        return pool(active, layer.window, layer.stride, layer.padding)

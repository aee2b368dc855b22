"""The stimuli to which the features of a layer are selective, projected back through all earlier layers."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from snnjax.core import checks
from snnjax.core.checks import Pair
from snnjax.core.errors import InputError
from snnjax.layers.pool import Pool
from snnjax.networks.joins import Concatenate, EarliestSpike, Flatten, Join, LatestSpike
from snnjax.networks.network import Network
from snnjax.networks.spiking_network import SpikingNetwork


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The stimulus to which each feature map of a layer is selective, in pixels of the image.

    Attributes:
      images: (F, h, w[, 3]), bright where the feature responds to bright pixels; each with a Euclidean norm of 1.
      origin: (2,) row and column in the image of `images[:, 0, 0]` for the neuron at row 0, column 0.
      pitch: (2,) rows and columns in the image between neighbouring neurons.
      strengths: (F,) root mean square of a feature's contrasts: small where nothing has been learned.
    """

    images: np.ndarray
    origin: np.ndarray
    pitch: np.ndarray
    strengths: np.ndarray


def drawn_back(network: SpikingNetwork) -> dict[str, Drawn]:
    """The features of every layer as images: each weight adds the stimulus of its input, at the position of the input.

    A weight contributes by its contrast, its difference from the mean weight of the feature, so that equal weights show
    nothing. In layers that decide, whose features are similar, the mean feature is subtracted first. The input of a
    pooling window is spread over all positions in the window, and likewise that of a neuron's dendrites. Compare
    Kheradpisheh et al. 2018, Neural Networks 99, Fig. 4.

    If the encoder has no method `bank` that returns a filter for each of its maps, each map is drawn as the pixel at
    the same position. Filters with colours, (F, n, n, 3), give colour images.

    Examples:
      >>> import snnjax
      >>> from snnjax.networks import drawn_back
      >>> drawn = drawn_back(snnjax.load("pretrained:goupy2024_ncg_mnist"))
      >>> {name: features.images.shape for name, features in drawn.items()}  # a picture of each feature
      {'layer1': (128, 11, 11), 'layer2': (50, 34, 34)}
    """
    return _drawn_back(network.network, {name: np.asarray(x) for name, x in network.weights().items()})


def _drawn_back(network: Network, weights: dict[str, np.ndarray]) -> dict[str, Drawn]:
    """`drawn_back` of a network with its weights, which it changes."""
    bank = getattr(network.encoder, "bank", None)
    bank = bank(network.input_shape[0]) if callable(bank) else bank
    filters = np.ones((network.input_shape[0], 1, 1)) if bank is None else bank.weights
    margin = 0 if bank is None else bank.margin
    inputs = Drawn(_unit(filters), np.array([-margin, -margin]), np.array([1, 1]), np.ones(len(filters)))
    drawn: dict[str, Drawn] = {}
    outputs: list[Drawn | None] = [inputs]
    for number, (names, stage) in enumerate(zip(network.names, network.stages, strict=True)):
        maps = _read(network, number, outputs)
        shapes = network.graph.map_shapes(number, network.shapes)
        branches = []
        for name, conv in zip(names, stage.branches, strict=True):
            if number and name in network.deciding:
                weights[name] = weights[name] - weights[name].mean(axis=0)
            contrasts = weights[name] - weights[name].mean(axis=(1, 2, 3), keepdims=True)
            shares = _shares(stage.join, contrasts, shapes)
            if not maps or not shares:
                continue  # a custom join cannot be traced back
            pairs = zip(maps, shares, strict=True)
            parts = [_through(inputs, share, conv.padding, conv.stride) for inputs, share in pairs]
            strengths = np.sqrt((contrasts**2).mean(axis=(1, 2, 3)))
            layer = _summed(parts, strengths)
            if conv.ramp and conv.ramp.dendrites not in (1, (1, 1)):
                layer = dataclasses.replace(_pooled(layer, Pool(conv.ramp.dendrites)), strengths=strengths)
            drawn[name] = layer
            margin = np.multiply(conv.output_padding, layer.pitch)
            branches.append(dataclasses.replace(layer, origin=layer.origin - margin))
        complete = len(branches) == len(stage.branches) > 0
        if not stage.branches:
            branches = _merged(stage.join, maps)
            complete = bool(branches)
        outputs.append(_pooled(_joined(branches), stage.pool) if complete else None)
    return drawn


def _read(network: Network, number: int, outputs: Sequence[Drawn | None]) -> list[Drawn]:
    """The maps that stage `number` reads, given all earlier outputs; none if one of them is not known."""
    maps = []
    for output, source in network.graph.reads(number):
        drawn = outputs[output]
        if drawn is None:
            return []
        maps.append(_pooled(drawn, source.pool))
    return maps


def _merged(join: Join, maps: list[Drawn]) -> list[Drawn]:
    """The maps of a stage without layers, to be put side by side; none for a join that cannot be traced back."""
    if isinstance(join, EarliestSpike | LatestSpike) and maps:
        return [_summed(maps, np.max([each.strengths for each in maps], axis=0))]
    return maps if isinstance(join, Concatenate) else []


def _shares(join: Join, weights: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """The weights (F, C, kh, kw) for each joined map, given the maps' shapes; none for an untraceable join."""
    if isinstance(join, EarliestSpike | LatestSpike):
        return [weights] * len(shapes)
    if isinstance(join, Concatenate):
        return np.split(weights, np.cumsum([shape[0] for shape in shapes])[:-1], axis=1)
    if isinstance(join, Flatten) and weights.shape[2:] == (1, 1):
        parts = np.split(weights, np.cumsum([math.prod(shape) for shape in shapes])[:-1], axis=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]
    return []


def _pooled(inputs: Drawn, pool: Pool | None) -> Drawn:
    """Maps after pooling: the input of a window is spread over all places in it."""
    if pool is None:
        return inputs
    window = checks.pair("window", pool.window, 1)
    spread = np.eye(len(inputs.images))[:, :, None, None] * np.ones(window)
    pooled = _through(inputs, spread, pool.padding, pool.stride or pool.window)
    return dataclasses.replace(pooled, images=_unit(pooled.images))


def _through(inputs: Drawn, weights: np.ndarray, padding: Pair, stride: Pair) -> Drawn:
    """The stimuli of features of weights (F, C, kh, kw), given the stimuli of their C input maps."""
    features, channels, rows, columns = weights.shape
    if len(inputs.images) != channels:
        raise InputError(f"`weights` must have {len(inputs.images)} channels, got {channels}")
    down, right = inputs.pitch
    height, width, *colours = inputs.images.shape[1:]
    images = np.zeros((features, height + down * (rows - 1), width + right * (columns - 1), *colours))
    for row, column in np.ndindex(rows, columns):
        part = images[:, row * down : row * down + height, column * right : column * right + width]
        part += np.tensordot(weights[:, :, row, column], inputs.images, axes=1)
    strengths = np.sqrt((weights**2).mean(axis=(1, 2, 3)))
    origin = inputs.origin - np.multiply(padding, inputs.pitch)
    return Drawn(images, origin, np.multiply(stride, inputs.pitch), strengths)


def _summed(parts: list[Drawn], strengths: np.ndarray) -> Drawn:
    """The features of a layer, to which each of its inputs contributes."""
    images, origin = _framed(parts)
    return Drawn(_unit(np.sum(images, axis=0)), origin, parts[0].pitch, strengths)


def _joined(parts: list[Drawn]) -> Drawn:
    """The maps of all branches of a stage, on a common frame."""
    images, origin = _framed(parts)
    return Drawn(np.concatenate(images), origin, parts[0].pitch, np.concatenate([part.strengths for part in parts]))


def _framed(parts: list[Drawn]) -> tuple[list[np.ndarray], np.ndarray]:
    """The images of all parts on a common frame, and its origin."""
    starts = np.array([part.origin for part in parts])
    ends = starts + [part.images.shape[1:3] for part in parts]
    margins = np.stack([starts - starts.min(axis=0), ends.max(axis=0) - ends], axis=-1)
    colours = [(0, 0)] * (parts[0].images.ndim - 3)
    images = [np.pad(part.images, [(0, 0), *margin, *colours]) for part, margin in zip(parts, margins, strict=True)]
    return images, starts.min(axis=0)


def _unit(images: np.ndarray) -> np.ndarray:
    norms = np.sqrt((images**2).sum(axis=tuple(range(1, images.ndim)), keepdims=True))
    return images / np.where(norms > 0, norms, 1)

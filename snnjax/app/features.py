"""What the features of a layer are selective to, drawn back into the image through all layers before it."""

import dataclasses

import numpy as np

from snnjax.errors import InputError
from snnjax.kernels import checks
from snnjax.networks import SpikingNetwork

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What each feature map of a layer is selective to, in pixels of the image.

    Attributes:
      images: (F, h, w), light where the feature wants light, dark where it wants dark; each of Euclidean norm 1.
      origin: row and column in the image of `images[:, 0, 0]` for the neuron at row 0, column 0.
      pitch: rows and columns between the places of neighbouring neurons.
      strengths: (F,) root mean square of the differences between weights that the images show: small where nothing has
        been learned.
    """

    images: np.ndarray
    origin: Pair
    pitch: Pair
    strengths: np.ndarray

    def _moved(self, origin: Pair) -> "Drawn":
        return dataclasses.replace(self, origin=origin)


def drawn_back(network: SpikingNetwork) -> dict[str, Drawn]:
    """Every layer's features as images: each weight adds what its input is selective to, at its place.

    A weight counts by how far it lies above or below the mean of its feature: weights that are all alike show nothing.
    In the last stage, whose features are much alike, by how far it lies above or below the mean feature. What passes a
    pooling window is spread over all places in it. Compare Kheradpisheh et al. 2018, Neural Networks 99, Fig. 4.

    Where the encoder has no `bank` of filters, each of its maps is drawn as the pixel at the same place.
    """
    spec, weights = network.spec, {name: np.asarray(each) for name, each in network.weights().items()}
    bank = getattr(spec.encoder, "bank", None)
    filters, margin = (np.ones((spec.input_shape[0], 1, 1)), 0) if bank is None else (bank.weights, bank.margin)
    inputs = Drawn(_unit(filters), (-margin, -margin), (1, 1), np.ones(len(filters)))
    drawn: dict[str, Drawn] = {}
    for number, each in enumerate(spec.stages):
        names = [name for at, name, _ in spec.layers() if at == number]
        outputs = []
        for name, layer in zip(names, each.branches, strict=True):
            padding = checks.pair("padding", layer.padding, 0)
            stride = checks.pair("stride", layer.stride, 1)
            of_last = number == len(spec.stages) - 1 and number > 0
            drawn[name] = _through(inputs, weights[name] - of_last * weights[name].mean(axis=0), padding, stride)
            margin = checks.pair("output_padding", layer.output_padding, 0)
            shift = [o - m * p for o, m, p in zip(drawn[name].origin, margin, drawn[name].pitch, strict=True)]
            outputs.append(drawn[name]._moved((shift[0], shift[1])))
        inputs = _joined(outputs)
        if each.pool is not None:
            window = checks.pair("window", each.pool.window, 1)
            stride = window if each.pool.stride is None else checks.pair("stride", each.pool.stride, 1)
            padding = checks.pair("padding", each.pool.padding, 0)
            inputs = _pooled(inputs, window, padding, stride)
    return drawn


def _through(inputs: Drawn, weights: np.ndarray, padding: Pair, stride: Pair) -> Drawn:
    """A layer's features, given what its input maps are selective to."""
    features, channels, rows, columns = weights.shape
    if len(inputs.images) != channels:
        raise InputError(f"`weights` must have {len(inputs.images)} channels, got {channels}")
    contrast = weights - weights.mean(axis=(1, 2, 3), keepdims=True)
    height, width = inputs.images.shape[1:]
    down, right = inputs.pitch
    images = np.zeros((features, height + down * (rows - 1), width + right * (columns - 1)))
    for row in range(rows):
        for column in range(columns):
            part = images[:, row * down : row * down + height, column * right : column * right + width]
            part += np.tensordot(contrast[:, :, row, column], inputs.images, axes=1)
    origin = (inputs.origin[0] - padding[0] * down, inputs.origin[1] - padding[1] * right)
    strengths = np.sqrt((contrast**2).mean(axis=(1, 2, 3)))
    return Drawn(_unit(images), origin, (down * stride[0], right * stride[1]), strengths)


def _pooled(inputs: Drawn, window: Pair, padding: Pair, stride: Pair) -> Drawn:
    """Pooled maps, each spread over the places of its window."""
    count, height, width = inputs.images.shape
    down, right = inputs.pitch
    images = np.zeros((count, height + down * (window[0] - 1), width + right * (window[1] - 1)))
    for row, column in np.ndindex(*window):
        images[:, row * down : row * down + height, column * right : column * right + width] += inputs.images
    origin = (inputs.origin[0] - padding[0] * down, inputs.origin[1] - padding[1] * right)
    return Drawn(_unit(images), origin, (down * stride[0], right * stride[1]), inputs.strengths)


def _joined(parts: list[Drawn]) -> Drawn:
    """Branches side by side as one set of maps, on a common frame."""
    origins = np.array([part.origin for part in parts])
    ends = origins + [part.images.shape[1:] for part in parts]
    first, size = origins.min(axis=0), ends.max(axis=0) - origins.min(axis=0)
    images = np.zeros((sum(len(part.images) for part in parts), *size))
    start = 0
    for part, (top, left) in zip(parts, origins - first, strict=True):
        count, height, width = part.images.shape
        images[start : start + count, top : top + height, left : left + width] = part.images
        start += count
    strengths = np.concatenate([part.strengths for part in parts])
    return Drawn(images, (int(first[0]), int(first[1])), parts[0].pitch, strengths)


def _unit(images: np.ndarray) -> np.ndarray:
    norms = np.sqrt((images**2).sum(axis=(1, 2), keepdims=True))
    return images / np.where(norms > 0, norms, 1)

"""A page on which a trained network runs: drawn or test pictures, encoded and decided spike by spike in the browser."""

import base64
from typing import Any

import numpy as np

from snnjax import __version__
from snnjax.app import features, page
from snnjax.core import checks
from snnjax.core.errors import InputError
from snnjax.data.pictures import background
from snnjax.encoding import Encoder, FilterBank, OnOff, Pixels, filters, programs
from snnjax.encoding.encoder import EPSILON
from snnjax.encoding.fitted import ROUNDING
from snnjax.interop import event_programs
from snnjax.interop.event_programs import falls_back, geometry, times_matter
from snnjax.layers.conv import Conv
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.operations import synapses
from snnjax.networks.quantisation import IntegerLayer, integer_layers
from snnjax.training.cost import check_labels

MOST_STEPS = 65535


def page_of(
    network: SpikingNetwork, pictures: np.ndarray, labels: np.ndarray, bits: int = 8, *, centred: bool = False
) -> str:
    """A network with weights of so many bits on one HTML page, with some pictures (N, H, W) and their labels (N,).

    The page encodes a picture as Python does, and decides as `networks.quantise(network, bits)`. It needs no other file
    and no connection. Every picture given is on it. Drawings have light ink, or dark ink where most of the pictures
    have a light background; `centred` ones are scaled and centred as `data.read_handwriting` does.

    Raises InputError as `networks.quantise`, where pictures or labels do not fit, and for networks that the
    page cannot run: they must be chains of spiking layers with thresholds from 0, under `Earliest` or `Majority`, with
    the encoder `Pixels`, `OnOff` or `Encoder`, the latter without pooling and inhibition.
    """
    event_programs.check(network, "on a page")
    spec = network.spec
    checks.integer("time_steps", spec.time_steps, 1, MOST_STEPS)
    _check_pictures(spec, pictures, labels)
    data = _data(network, pictures, labels, bits) | dict(centred=centred)
    facts = dict(name=spec.name, bits=bits, steps=spec.time_steps, version=__version__, weights=_count(network))
    return page.TEMPLATES.get_template("demo.html").render(data=data, synapses=sum(synapses(spec).values()), **facts)


def _check_pictures(spec: Network, pictures: np.ndarray, labels: np.ndarray) -> None:
    """Raises InputError unless grey pictures and their labels are as the network takes them."""
    shape = np.shape(pictures)
    if len(shape) != 3 or not shape[0]:
        raise InputError(f"`pictures` must be grey, (N, H, W), N from 1, got {shape}")
    event_programs.check_shape(spec, "pictures", shape[1:])
    check_labels(np.asarray(labels), shape[0], spec.classes)


def _data(network: SpikingNetwork, pictures: np.ndarray, labels: np.ndarray, bits: int) -> dict[str, Any]:
    """The network and the pictures as JSON data; arrays are in base64."""
    spec = network.spec
    layers = integer_layers(network, bits)
    seen = features.drawn_back(network)
    pixels = np.asarray(pictures, np.float32)
    whole = bool(np.all(pixels == np.rint(pixels)))
    return dict(
        steps=spec.time_steps,
        classes=list(network.class_names),
        picture=list(pixels.shape[1:]),
        input=list(spec.input_shape),
        encoder=_ENCODERS[type(spec.encoder)](spec),
        layers=[
            _layer(spec, number, conv, layers[name]) | dict(name=name, seen=_seen(seen.get(name)))
            for number, name, conv in spec.layers()
        ],
        decision=dict(timed=times_matter(spec), fallback=falls_back(spec)),
        pictures=[_base64(picture, np.uint8 if whole else np.float32) for picture in pixels],
        floats=not whole,
        light=background(pixels) == "light",
        labels=np.asarray(labels).tolist(),
    )


def _layer(spec: Network, number: int, conv: Conv, layer: IntegerLayer) -> dict[str, Any]:
    """The geometry, weights and thresholds of a layer, pooled by windows of one neuron where it is not pooled."""
    sizes = geometry(spec, number)
    return dict(
        sizes._asdict(),
        maps=spec.input_shapes[number][0],
        features=conv.features,
        weights=_base64(layer.weights.transpose(1, 2, 3, 0), np.uint8),  # C kh kw F
        thresholds=None if conv.threshold is None else layer.threshold.tolist(),
    )


def _pixels(spec: Network) -> dict[str, Any]:
    """`Pixels` as JSON data."""
    return dict(kind="pixels")


def _on_off(spec: Network) -> dict[str, Any]:
    """`OnOff` as JSON data: a filter, and the range of each output over the training pictures."""
    encoder: Any = spec.encoder
    ranges = dict(minimum=_base64(encoder.minimum, np.float32), span=_base64(programs.span(encoder), np.float32))
    bank = _bank(encoder.bank, encoder.window // 2, 1 / 255)
    return dict(kind="on_off", edge=True, rounding=float(np.float32(ROUNDING))) | ranges | bank


def _rank_order(spec: Network) -> dict[str, Any]:
    """`Encoder` as JSON data: filters with thresholds, local normalisation, rank order."""
    encoder: Any = spec.encoder
    _, rows, columns = spec.input_shape
    bank = encoder.bank
    data = dict(kind="rank_order", edge=False, radius=encoder.radius, epsilon=float(np.float32(EPSILON)))
    data |= dict(thresholds=programs.map_thresholds(bank).tolist())
    if encoder.radius is not None:
        exact = programs.normalisation(encoder.radius, (rows, columns))
        data |= dict(bits_of_sums=exact.bits, parts_of_sums=exact.parts, neighbour=float(exact.neighbour))
    return data | _bank(bank, bank.margin, encoder.scale)


def _bank(bank: FilterBank, margin: int, scale: float) -> dict[str, Any]:
    """The filters of a bank in exact parts, and of each map its filter and its factor."""
    kernels = filters.distinct_kernels(bank, 2**filters.PIXEL_BITS)
    made = [
        dict(size=kernel.size, before=kernel.before, taps=_base64(kernel.parts, np.float32))
        for kernel in programs.exact_filters(bank, kernels, margin)
    ]
    scaled = (kernels.factors * np.float32(scale)).tolist()
    maps = [dict(filter=int(place), factor=factor) for place, factor in zip(kernels.places, scaled, strict=True)]
    maps = [entry for entry in maps for _ in range(bank.copies)]
    return dict(filters=made, maps=maps, bits=filters.PIXEL_BITS, parts=filters.PIXEL_PARTS)


def _seen(drawn: features.Drawn | None) -> dict[str, Any] | None:
    """What each feature sees, as grey pictures in which 128 counts as nothing; None where it is not known."""
    if drawn is None:
        return None
    images = drawn.images
    largest = np.abs(images).max(axis=(1, 2), keepdims=True).clip(1e-12)
    return dict(size=images.shape[1:], pixels=_base64(np.rint(127.5 + 127.5 * images / largest), np.uint8))


def _base64(values: np.ndarray, dtype: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def _count(network: SpikingNetwork) -> int:
    """The number of weights of a network."""
    return sum(int(np.size(values)) for values in network.weights().values())


_ENCODERS: dict[type, Any] = {Pixels: _pixels, OnOff: _on_off, Encoder: _rank_order}

"""A page on which a trained network runs: pictures, encoded and decided spike by spike in the browser."""

import base64
import json
from typing import Any

import jinja2
import numpy as np

from snnjax import __version__
from snnjax.core import checks
from snnjax.core.defaults import Fit
from snnjax.core.errors import InputError
from snnjax.data import DATASETS
from snnjax.data.pictures import background
from snnjax.encoding import Encoder, FilterBank, OnOff, Pixels, filters, programs
from snnjax.encoding.encoder import EPSILON
from snnjax.encoding.fitted import ROUNDING
from snnjax.export._event_programs import (
    Source,
    check_features,
    check_network,
    check_shape,
    falls_back,
    geometry,
    sources,
    times_matter,
)
from snnjax.export.c._layers import pack_bits
from snnjax.layers.conv import Conv
from snnjax.networks import Concatenate, Network, SpikingNetwork, prototypes_on, quantise
from snnjax.networks.features import Drawn, drawn_back
from snnjax.networks.operations import firing_windows, synapses
from snnjax.networks.prototypes import PER_CLASS
from snnjax.networks.quantisation import IntegerLayer, IntegerRampLayer, integer_layers
from snnjax.runs.trained import Trained
from snnjax.training.cost import check_labels

MAX_TIME_STEPS = 65535

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("snnjax.export.page"), autoescape=True, undefined=jinja2.StrictUndefined
)


def page_of(
    network: SpikingNetwork,
    pictures: np.ndarray,
    labels: np.ndarray,
    bits: int = 8,
    *,
    centred: bool = False,
    fit: Fit = "crop",
) -> str:
    """The text of an HTML page that runs a network with `bits`-bit weights, with pictures and their labels (N,).

    Pictures are (N, H, W) or, in colour for the encoder `Pixels`, (N, H, W, 3). The page encodes pictures as Python
    does, and decides as `networks.quantise(network, bits)` does. It needs no other file and no connection, and contains
    all given pictures. A page in colour also accepts pictures from files and from a camera, and makes them fit as
    `data.read_picture` does. Grey drawings have light ink, or dark ink if most of the pictures have a light background;
    `centred` ones are scaled and centred as `data.read_handwriting` does.

    Raises InputError as `networks.quantise` does, if pictures or labels do not fit, and for networks that the
    page cannot run: they must be chains of layers with a ramp, then of layers with thresholds from 0, the first of
    which may join the outputs of several stages by `Concatenate`, under `Earliest` or `Majority`, with the encoder
    `Pixels`, `OnOff` or `Encoder`, the latter without pooling or inhibition.

    Examples:
      >>> from pathlib import Path
      >>> import snnjax
      >>> from snnjax.export.page import page_of
      >>> data = snnjax.data.digits()
      >>> text = page_of(snnjax.load("pretrained:goupy2024_ncg_mnist"), data.test_images[:20], data.test_labels[:20])
      >>> text.startswith("<!doctype html>")
      True
      >>> written = Path("digits.html").write_text(text, encoding="utf-8")  # doctest: +SKIP
    """
    check_network(network, "on a page")
    description = network.network
    _check_contents(description, pictures, labels)
    data = _data(network, pictures, labels, bits) | dict(centred=centred, fit=fit)
    facts = dict(
        name=description.name, bits=bits, steps=description.time_steps, version=__version__, weights=_count(network)
    )
    return _TEMPLATES.get_template("demo.html").render(data=data, synapses=sum(synapses(description).values()), **facts)


def teaching_page(
    trained: Trained,
    pictures: np.ndarray,
    labels: np.ndarray,
    bits: int = 8,
    *,
    centred: bool = False,
    fit: Fit = "crop",
) -> str:
    """The text of an HTML page on which a trained network with `bits`-bit weights learns new classes.

    Its features are the layers before the first one that learned from reward or as a readout. A readout as in
    `networks.with_prototypes` learns image by image, and has no classes at first. The taught network can be saved as a
    file that `snnjax.load` reads. The pictures are on the page to be taught; they and their labels are as in `page_of`.

    Raises InputError as `page_of` does, except for the layers that are not on the page, and for fewer than 2 bits.

    Examples:
      >>> from pathlib import Path
      >>> import snnjax
      >>> from snnjax.export.page import teaching_page
      >>> data = snnjax.data.digits()
      >>> trained = snnjax.runs.Trained.read("pretrained:goupy2024_ncg_mnist")
      >>> text = teaching_page(trained, data.test_images[:20], data.test_labels[:20], bits=4)
      >>> text.startswith("<!doctype html>")
      True
      >>> written = Path("teach.html").write_text(text, encoding="utf-8")  # doctest: +SKIP
    """
    network = _untaught(trained, bits)
    description = network.network
    _check_contents(description, pictures, labels)
    data = dict(
        _pictures(network, pictures, labels),
        bits=bits,
        layers=_layers(network, bits, {})[:-1],
        decision=None,
        centred=centred,
        fit=fit,
        readout=_readout(description),
        file=_file(trained, network, bits, fit),
    )
    facts = dict(name=trained.network.name, bits=bits, version=__version__)
    return _TEMPLATES.get_template("demo_teach.html").render(data=data, **facts)


def _untaught(trained: Trained, bits: int) -> SpikingNetwork:
    """The features of a network with `bits`-bit weights, and a readout that has not learned yet."""
    network = prototypes_on(trained.spiking_network())
    description = network.network
    check_features(description, "on a page")
    join = description.stages[-1].join
    if type(join) is not Concatenate:
        got = f"got {type(join).__name__}"
        raise InputError(
            f"`join` of stage {len(description.stages)} of {description.name} must be Concatenate() on a page, {got}"
        )
    return quantise(network, bits)


def _readout(network: Network) -> dict[str, Any]:
    """What the readout reads, and the settings of the rule `Prototypes` that do not change."""
    conv: Any = network.stages[-1].branches[0]
    return dict(
        input=network.input_shapes[-1],
        reads=[_read(source) for source in sources(network, len(network.stages) - 1)],
        per_class=PER_CLASS,
        tie=conv.learners.tie,
        risen=conv.ramp.rises(network.time_steps)[::-1].tolist(),  # by latency
    )


def _file(trained: Trained, network: SpikingNetwork, bits: int, fit: Fit) -> dict[str, Any]:
    """The file of a taught network, with placeholders such as "@features" for what it will learn.

    The page makes the weights of the features in this file from those that it computes with, by their units.
    """
    description = network.network
    path = f"stages.{len(description.stages) - 1}.branches.0"
    own = {name: f"{path}.{name}" for name in ("threshold", "learners.wins", "learners.length")}
    dataset = trained.settings.get("dataset")
    untaught = Trained(
        description,
        {name: np.asarray(values) for name, values in network.weights().items()},
        trained.image_shape,
        dict(dataset=dataset) if dataset in DATASETS else dict(fit=fit),  # no folder names: pages are shared
        network.class_names,
        trained.initial | dict.fromkeys(own.values(), 0.0),
    )
    arrays, meta = untaught.contents()
    layer = meta["network"]["stages"][-1]["branches"][0]
    layer |= dict(features="@features", threshold=dict(array=own["threshold"]))
    layer["learners"] |= dict(wins=dict(array=own["learners.wins"]), length="@length")
    meta["network"]["classes"] = "@classes"
    meta["class_names"] = "@class_names"
    (name,) = description.deciding
    kept = {key: values for key, values in arrays.items() if key.split(" ")[0] != name and not key.startswith(path)}
    integers = integer_layers(network, bits)
    numbers = {layer: number for number, layer, _ in description.layers()}
    made = {}
    for key, values in kept.items():
        layer, _, as_bytes = key.partition(" ")
        if layer in numbers:
            units = _units(integers[layer], bits) * (256 if as_bytes else 1)
            made[key] = dict(dtype=values.dtype.str, shape=values.shape, layer=numbers[layer], units=units.tolist())
        else:
            made[key] = _array(values)
    return dict(
        name=f"{trained.network.name}_taught.npz",
        meta=json.dumps(meta),
        arrays=made,
        weights=name,
        threshold=own["threshold"],
        wins=own["learners.wins"],
    )


def _units(layer: IntegerLayer | IntegerRampLayer, bits: int) -> np.ndarray:
    """The unit of the weights of each feature in the quantised network, (F,) float64."""
    return layer.units if isinstance(layer, IntegerRampLayer) else np.full(len(layer.weights), 2.0**-bits)


def _array(values: np.ndarray) -> dict[str, Any]:
    return dict(dtype=values.dtype.str, shape=values.shape, data=_base64(values, values.dtype))


def _check_contents(network: Network, pictures: np.ndarray, labels: np.ndarray) -> None:
    """Raises InputError unless a page can simulate the time steps, and the network takes the pictures and labels."""
    checks.integer("time_steps", network.time_steps, 1, MAX_TIME_STEPS)
    shape = np.shape(pictures)
    in_colour = len(shape) == 4 and isinstance(network.encoder, Pixels)
    if not (len(shape) == 3 or in_colour) or not shape[0]:
        expected = "grey images (N, H, W) or, for the encoder Pixels, colour images (N, H, W, 3), with N at least 1"
        raise InputError(f"`pictures` must be {expected}, got {shape}")
    check_shape(network, "pictures", shape[1:])
    check_labels(np.asarray(labels), shape[0], network.classes)


def _data(network: SpikingNetwork, pictures: np.ndarray, labels: np.ndarray, bits: int) -> dict[str, Any]:
    """The network and the pictures as JSON data; arrays are in base64."""
    description = network.network
    return dict(
        _pictures(network, pictures, labels),
        bits=bits,
        layers=_layers(network, bits, drawn_back(network)),
        decision=dict(
            timed=times_matter(description),
            fallback=falls_back(description),
            fractional=description.stages[-1].branches[0].fractional,
        ),
    )


def _pictures(network: SpikingNetwork, pictures: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The pictures, the names of their classes, and the encoder."""
    description = network.network
    pixels = np.asarray(pictures, np.float32)
    whole = bool(np.all(pixels == np.rint(pixels)))
    return dict(
        steps=description.time_steps,
        end=description.time_steps * (firing_windows(description)[-1] + 1),
        classes=list(network.class_names),
        picture=list(pixels.shape[1:3]),
        colour=pixels.ndim == 4,
        input=list(description.input_shape),
        encoder=_ENCODERS[type(description.encoder)](description),
        pictures=[_base64(picture, np.uint8 if whole else np.float32) for picture in pixels],
        floats=not whole,
        light=background(pixels) == "light",
        labels=np.asarray(labels).tolist(),
    )


def _layers(network: SpikingNetwork, bits: int, seen: dict[str, Drawn]) -> list[dict[str, Any]]:
    """The layers; those that do not decide also have what their features see, if this is known."""
    description = network.network
    integers = integer_layers(network, bits)
    begins = [description.time_steps * window for window in firing_windows(description)]
    return [
        dict(
            _layer(description, number, conv, integers[name], bits),
            name=name,
            seen=None if name in description.deciding else _seen(seen.get(name)),
            begin=begins[number + 1],
            inputs_begin=begins[number + 1] - description.time_steps * conv.ramped,
        )
        for number, name, conv in description.layers()
    ]


def _layer(
    network: Network, number: int, conv: Conv, layer: IntegerLayer | IntegerRampLayer, bits: int
) -> dict[str, Any]:
    """The geometry, weights and thresholds of a layer, and its inputs; without pooling, pooling windows have size 1."""
    offset = 2 ** (bits - 1) if isinstance(layer, IntegerRampLayer) else 0  # with a ramp, weights have both signs
    weights = (layer.weights.transpose(1, 2, 3, 0).astype(np.int16) + offset).astype(np.uint8)  # C kh kw F
    return dict(
        geometry(network, number)._asdict(),
        reads=[_read(source) for source in sources(network, number)],
        input=network.input_shapes[number],
        features=conv.features,
        weights=_base64(pack_bits(weights.reshape(1, -1), bits), np.uint8),
        offset=offset,
        thresholds=None if conv.threshold is None or conv.ramped else layer.threshold.tolist(),
        ramp=_ramp(layer) if isinstance(layer, IntegerRampLayer) else None,
    )


def _read(source: Source) -> dict[str, Any]:
    """Maps that a layer reads."""
    return dict(source._asdict(), of=source.output, features=source.maps, output=source.pooled)


def _ramp(layer: IntegerRampLayer) -> dict[str, Any]:
    """The fields that only layers with a ramp have."""
    return dict(
        thresholds=layer.threshold.tolist(),
        factors=(2**layer.shift).tolist(),
        levels=layer.levels.tolist(),
    )


def _pixels(network: Network) -> dict[str, Any]:
    """`Pixels` as JSON data."""
    return dict(kind="pixels")


def _on_off(network: Network) -> dict[str, Any]:
    """`OnOff` as JSON data: a filter, and the range of each output over the training pictures."""
    encoder: Any = network.encoder
    ranges = dict(minimum=_base64(encoder.minimum, np.float32), span=_base64(programs.span(encoder), np.float32))
    bank = _bank(encoder.bank, encoder.window // 2, 1 / 255)
    return dict(kind="on_off", edge=True, rounding=float(np.float32(ROUNDING))) | ranges | bank


def _rank_order(network: Network) -> dict[str, Any]:
    """`Encoder` as JSON data: filters with thresholds, local normalisation, rank order."""
    encoder: Any = network.encoder
    _, rows, columns = network.input_shape
    bank = encoder.bank
    data = dict(kind="rank_order", edge=False, radius=encoder.radius, epsilon=float(np.float32(EPSILON)))
    data |= dict(thresholds=programs.map_thresholds(bank).tolist())
    if encoder.radius is not None:
        exact = programs.normalisation(encoder.radius, (rows, columns))
        data |= dict(bits_of_sums=exact.bits, parts_of_sums=exact.parts, neighbour=float(exact.neighbour))
    return data | _bank(bank, bank.margin, encoder.scale)


def _bank(bank: FilterBank, margin: int, scale: float) -> dict[str, Any]:
    """The filters of a bank in exact parts, and the filter and the factor of each map."""
    kernels = filters.distinct_kernels(bank, 2**filters.PIXEL_BITS)
    made = [
        dict(size=kernel.size, before=kernel.before, taps=_base64(kernel.parts, np.float32))
        for kernel in programs.exact_filters(bank, kernels, margin)
    ]
    scaled = (kernels.factors * np.float32(scale)).tolist()
    maps = [dict(filter=int(place), factor=factor) for place, factor in zip(kernels.places, scaled, strict=True)]
    maps = [entry for entry in maps for _ in range(bank.copies)]
    return dict(filters=made, maps=maps, bits=filters.PIXEL_BITS, parts=filters.PIXEL_PARTS)


def _seen(drawn: Drawn | None) -> dict[str, Any] | None:
    """What each feature sees, as pictures in which 128 means 0; None if this is not known."""
    if drawn is None:
        return None
    images = drawn.images
    largest = np.abs(images).reshape(len(images), -1).max(axis=1).clip(1e-12)
    pixels = np.rint(127.5 + 127.5 * (images.T / largest).T)
    return dict(size=images.shape[1:3], pixels=_base64(pixels, np.uint8))


def _base64(values: np.ndarray, dtype: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def _count(network: SpikingNetwork) -> int:
    """The number of weights of a network."""
    return sum(int(np.size(values)) for values in network.weights().values())


_ENCODERS: dict[type, Any] = {Pixels: _pixels, OnOff: _on_off, Encoder: _rank_order}

"""Networks made for a data set, with the encoder and the time steps that are chosen."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax

from snnjax.core import checks
from snnjax.core.components import check_component
from snnjax.core.errors import InputError, TooSmallError, wrong_type
from snnjax.data import Dataset
from snnjax.encoding import ImageEncoder
from snnjax.networks import Network
from snnjax.training.contracts import check_encoder


def network_for(
    make: Callable[..., Network], data: Dataset, encoder: ImageEncoder | None = None, time_steps: int | None = None
) -> Network:
    """A network made for the images of a data set, by a function such as those of `NETWORKS`, with an encoder.

    The function is called with those of these arguments that it names: `input_shape`, (C, H, W) of the encoded images
    (it is called again where the encoder of the network that it returns makes another shape of them); `image_shape`,
    (H, W) or (H, W, 3); `classes`; `images`, the number of training images, those held out included, for
    a network whose epochs depend on it (`snnjax train` then changes them no more); `encoder`, the one given here, or
    None. If its first parameter has another name, the first two are `input_shape` and `classes`.

    The network's encoder is the one given, or else its own, or else that of the data. Time steps are those given, or
    else those of the network, if it has an encoder or others than the default, or else those of the encoder.
    Raises InputError where it is no such function, the images are too small, or the encoder does not make what the
    network takes.
    """
    if encoder is not None:
        encoder = with_time_steps(encoder, time_steps)
    default = data.encoder if encoder is None else encoder
    network = _made(make, data, default, encoder)
    own = network.encoder
    if encoder is None and own is not None:
        if time_steps is not None:  # the network may depend on them
            encoder = own = with_time_steps(own, time_steps)
            network = _made(make, data, own, own)
        elif _shape(own, data) != _shape(default, data):
            network = _made(make, data, own, None)
    return encoded_by(network, data, encoder, time_steps)


def encoded_by(
    network: Network, data: Dataset, encoder: ImageEncoder | None = None, time_steps: int | None = None
) -> Network:
    """A network with the encoder and the time steps that `network_for` describes; raises as it does."""
    if encoder is None:
        encoder = network.encoder
        if encoder is None:
            encoder = data.encoder
            own = network.time_steps
            time_steps = own if time_steps is None and own != Network.time_steps else time_steps
    encoder = with_time_steps(encoder, time_steps)
    network = dataclasses.replace(network, encoder=encoder, time_steps=encoder.time_steps)
    images = data.train_images
    check_encoder(network, jax.ShapeDtypeStruct(images.shape[1:], images.dtype))
    return network


def with_time_steps(encoder: Any, time_steps: int | None) -> Any:
    """An encoder with other time steps, if they are given; raises InputError where it cannot have others."""
    check_component("encoder", encoder, "__call__", "output_shape", "time_steps")
    if time_steps is None or checks.time_steps(time_steps) == encoder.time_steps:
        return encoder
    if "time_steps" not in (each.name for each in dataclasses.fields(encoder)):
        kind = type(encoder).__name__
        own = encoder.time_steps
        raise InputError(
            f"`time_steps` must be {own}, those of the encoder {kind}, which takes no others: {time_steps}"
        )
    return dataclasses.replace(encoder, time_steps=time_steps)


def images_of(data: Dataset) -> int:
    """The number of training images, those held out included."""
    return len(data.train_images) + (0 if data.validation_images is None else len(data.validation_images))


def takes_images(make: Any) -> bool:
    """Whether a network's function names `images`, so that it chooses by their number how long it learns."""
    try:
        return callable(make) and "images" in inspect.signature(make).parameters
    except ValueError:  # there is no signature
        return False


def _shape(encoder: Any, data: Dataset) -> tuple[int, int, int]:
    """(C, H, W) of the images of a data set, encoded; raises InputError where the encoder names no shape."""
    shape = encoder.output_shape(data.train_images.shape[1:])
    if not isinstance(shape, tuple | list):
        raise wrong_type("encoder.output_shape(...)", "(C, H, W)", shape)
    return tuple(shape)


def _made(make: Callable[..., Network], data: Dataset, shaping: Any, chosen: Any) -> Network:
    """What a function makes of the arguments that it names, `shaping` the encoder that `input_shape` is of."""
    name = getattr(make, "__name__", type(make).__name__)
    image_shape = data.train_images.shape[1:]
    try:
        input_shape = _shape(shaping, data)
        sizes = dict(input_shape=input_shape, classes=data.classes)
        known = sizes | dict(image_shape=image_shape, images=images_of(data), encoder=chosen)
        in_order, by_name = _arguments(make, name, sizes, known)
        network = make(*in_order, **by_name)
    except TooSmallError as error:
        size = "x".join(map(str, image_shape[:2]))
        raise TooSmallError(f"{error}; images of {data.name} have {size} pixels: take a larger `size`") from error
    if not isinstance(network, Network):
        raise wrong_type(f"{name}(input_shape, classes)", "a Network", network)
    return network


def _arguments(
    make: Callable[..., Network], name: str, sizes: dict[str, Any], known: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Those `known` that a function names, or first `sizes` in order; raises InputError if it takes others."""
    try:
        signature = inspect.signature(make)
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = [each.name for each in signature.parameters.values() if each.kind in kinds]
        in_order = () if known.keys() & {*names[:1]} else tuple(sizes.values())
        by_name = {each: known[each] for each in names[len(in_order) :] if each in known}
        signature.bind(*in_order, **by_name)
    except (TypeError, ValueError) as error:  # a ValueError where there is no signature
        raise InputError(f"`model` {name} must be a function of (input_shape, classes): {error}") from error
    return in_order, by_name

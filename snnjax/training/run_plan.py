"""The plan of a run: a network made for a data set, with its encoder and time steps, and how it learns from them."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from snnjax.core import checks
from snnjax.core.components import check_component
from snnjax.core.errors import InputError, TooSmallError, image_size
from snnjax.data import Dataset
from snnjax.encoding import ImageEncoder
from snnjax.networks import ImageSpec, Network, SpikingNetwork
from snnjax.training.contracts import check_encoder
from snnjax.training.loop import Trainer
from snnjax.training.state import Callback, Settings


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """All that a run depends on.

    Attributes:
      network: the network, before it learns.
      data: the images.
      settings: of the training.
      start: the trained network to start from; None: the network learns from scratch.
      learn: with `start`, the stages that learn, as of `Trainer`.
      add_classes: with `start`, whether its classes are kept and new ones are added, as of `Trainer`.
      source: JSON data by which other programs find the network and the images again.
    """

    network: Network
    data: Dataset
    settings: Settings
    start: SpikingNetwork | None = None
    learn: Sequence[str] | None = None
    add_classes: bool = False
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def trainer(self, callback: Callback | None = None) -> Trainer:
        """What trains the network; raises as `Trainer`."""
        return Trainer(
            self.network,
            self.data,
            self.settings,
            callback,
            start=self.start,
            learn=self.learn,
            add_classes=self.add_classes,
        )


def network_for(
    make: Callable[[ImageSpec], Network],
    data: Dataset,
    encoder: ImageEncoder | None = None,
    time_steps: int | None = None,
) -> Network:
    """A network made for the images of a data set, by a function such as those of `NETWORKS`, with an encoder.

    The function is called with an `ImageSpec`, whose `encoder` is the one given, or None. It is called again if it
    chose an encoder and other `time_steps` are given.

    The network's encoder is the one given, or else its own, or else that of the data. Time steps are those given, or
    else those of the network, if it has an encoder or others than the default, or else those of the encoder.
    Raises InputError where it is no such function, the images are too small, or the encoder does not make what the
    network takes.
    """
    if encoder is not None:
        encoder = with_time_steps(encoder, time_steps)
    images = ImageSpec.of(data, encoder)
    network = _made(make, images, data.name)
    if encoder is None and network.encoder is not None and time_steps is not None:
        encoder = with_time_steps(network.encoder, time_steps)  # the network may depend on them
        network = _made(make, dataclasses.replace(images, encoder=encoder), data.name)
    return encoded_by(network, data, encoder, time_steps)


def encoded_by(
    network: Network, data: Dataset, encoder: ImageEncoder | None = None, time_steps: int | None = None
) -> Network:
    """A network with the encoder and the time steps that `network_for` describes; raises as it does."""
    if encoder is None:
        encoder = network.encoder
        if encoder is None:
            encoder = data.encoder
            steps = network.time_steps
            time_steps = steps if time_steps is None and steps != Network.time_steps else time_steps
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
    if "time_steps" not in (field.name for field in dataclasses.fields(encoder)):
        why = f"the encoder {type(encoder).__name__} takes no others"
        checks.equal("time_steps", time_steps, encoder.time_steps, why)
    return dataclasses.replace(encoder, time_steps=time_steps)


def _made(make: Callable[[ImageSpec], Network], images: ImageSpec, data_name: str) -> Network:
    """The network that a function makes; raises InputError where it takes something else, or makes something else."""
    name = getattr(make, "__name__", type(make).__name__)
    takes: Any = ""
    try:
        takes = inspect.signature(make)
        takes.bind(images)
    except (TypeError, ValueError) as error:  # a ValueError where there is no signature
        expected = "a function of `ImageSpec`, with defaults for all other arguments"
        raise InputError(f"`model` must be {expected}, got {name}{takes}: {error}") from error
    try:
        network = make(images)
    except TooSmallError as error:
        size = image_size(images.shape[:2])
        raise TooSmallError(f"{error}; images of {data_name} are {size}: take a larger `size`") from error
    checks.instance(f"{name}(images)", network, Network, "a Network")
    return network

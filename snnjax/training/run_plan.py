"""The plan of a run: a network for a data set, with its encoder and time steps, and the settings of its training."""

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
    """Everything on which a run depends.

    Attributes:
      network: the untrained network.
      data: the images.
      settings: the settings of the training.
      start: the trained network to start from; None: the network learns from scratch.
      learn: with `start`, the stages that learn, as for `Trainer`.
      add_classes: with `start`, whether its classes are kept and new ones are added, as for `Trainer`.
      source: JSON data with which other programs can find the network and the images again.

    Examples:
      >>> import snnjax
      >>> from snnjax.training import RunPlan, Settings
      >>> data = snnjax.data.digits()
      >>> network = snnjax.NETWORKS["deep2024"](snnjax.ImageSpec.of(data))
      >>> plan = RunPlan(network, data, Settings.of(network, data))
      >>> [phase.name for phase in plan.trainer().job.phases]
      ['STDP layer1', 'STDP layer2', 'STDP layer3', 'R-STDP']
    """

    network: Network
    data: Dataset
    settings: Settings
    start: SpikingNetwork | None = None
    learn: Sequence[str] | None = None
    add_classes: bool = False
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def trainer(self, callback: Callback | None = None) -> Trainer:
        """The trainer of the network; raises as `Trainer`."""
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
    """A network for the images of a data set, made by a function such as those in `NETWORKS`, with an encoder.

    The function is called with an `ImageSpec`, whose `encoder` is the given one, or None. It is called again if it
    chose an encoder and different `time_steps` are given.

    The encoder of the network is the given one, or else that of the network, or else that of the data. The number of
    time steps is the given one; or else that of the network, if it has an encoder or if its number is not the default;
    or else that of the encoder. Raises InputError if this is not such a function, if the images are too small, or if
    the encoder does not produce the input of the network.
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
    """An encoder with the given number of time steps; raises InputError if the number of this encoder is fixed."""
    check_component("encoder", encoder, "__call__", "output_shape", "time_steps")
    if time_steps is None or checks.time_steps(time_steps) == encoder.time_steps:
        return encoder
    if "time_steps" not in (field.name for field in dataclasses.fields(encoder)):
        why = f"the encoder {type(encoder).__name__} has a fixed number"
        checks.equal("time_steps", time_steps, encoder.time_steps, why)
    return dataclasses.replace(encoder, time_steps=time_steps)


def _made(make: Callable[[ImageSpec], Network], images: ImageSpec, data_name: str) -> Network:
    """The network that a function makes; raises InputError if its argument or its result is something else."""
    name = getattr(make, "__name__", type(make).__name__)
    takes: Any = ""
    try:
        takes = inspect.signature(make)
        takes.bind(images)
    except (TypeError, ValueError) as error:  # a ValueError if there is no signature
        expected = "a function of `ImageSpec`, with defaults for all other arguments"
        raise InputError(f"`model` must be {expected}, got {name}{takes}: {error}") from error
    try:
        network = make(images)
    except TooSmallError as error:
        size = image_size(images.shape[:2])
        raise TooSmallError(f"{error}; images of {data_name} are {size}: take a larger `size`") from error
    checks.instance(f"{name}(images)", network, Network, "a Network")
    return network

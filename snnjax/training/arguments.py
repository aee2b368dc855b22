"""Checks of the arguments of a training: networks, data and settings that fit each other, states to continue from."""

import dataclasses
from collections.abc import Mapping, Sequence

from snnjax.core import checks
from snnjax.core.codec import to_data
from snnjax.core.errors import InputError
from snnjax.data import Dataset
from snnjax.networks import Network
from snnjax.networks.images import default_encoder
from snnjax.training.contracts import check_parts
from snnjax.training.state import Callback, Settings, TrainState


def check_types(networks: Sequence[object], data: object, settings: object, callback: object = None) -> None:
    """Raises InputError where an argument of a training is of another type."""
    checks.some("network", networks, "a Network, or at least one of several")
    for network in networks:
        made = "network.network" if hasattr(network, "network") else f"{getattr(network, '__name__', 'Network')}(...)"
        checks.instance("network", network, Network, "a Network", made)
    arrays = "name, train_images, train_labels, test_images, test_labels"
    checks.instance("data", data, Dataset, "a Dataset", f"snnjax.data.Dataset({arrays})")
    checks.instance("settings", settings, Settings | None, "Settings or None", "Settings(epochs=(...))")
    checks.instance("callback", callback, Callback | None, "a Callback or None")


def check_networks(networks: Sequence[Network], data: Dataset, settings: Settings, seeds: Sequence[int]) -> None:
    """Raises InputError unless networks can train side by side on these data."""
    checks.length("seeds", seeds, len(networks), "networks")
    if len(networks) > 1:
        checks.equal("patience", settings.patience, 0, "several networks stop together")
    network = networks[0]
    network.check()  # JAX rebuilds components without it
    to_data(network, {})  # what cannot be saved is refused before training
    if len({x.structure for x in networks}) > 1:
        raise InputError("`networks` must differ in numbers alone, got several structures: train them by a Sweep")
    if network.decision is not None:
        advice = f"{data.name} has {data.classes}, make it with classes={data.classes}"
        checks.equal("classes of the network", network.classes, data.classes, advice)
    check_parts(network, data.train_images)
    if settings.mirror and (width := data.train_images.shape[2]) < 2:
        raise InputError(f"`mirror` takes images of at least 2 columns, those of {data.name} have {width}")


def with_encoder(network: Network, data: Dataset) -> Network:
    """The network with an encoder: its own, or that of the data."""
    if network.encoder is not None:
        return network
    return dataclasses.replace(network, encoder=default_encoder(network, data.train_images.shape[3:]))


def check_state(network: Network, state: TrainState) -> None:
    """Raises InputError unless the weights of a state are those of a network."""
    check_shapes(network, state, "weights", network.weight_shapes)
    if state.best:
        check_shapes(network, state, "best", network.weight_shapes)


def check_shapes(network: Network, state: TrainState, group: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises InputError unless a group of a state's arrays has these shapes."""
    actual = {name: array.shape for name, array in getattr(state, group).items()}
    if actual != shapes:
        raise InputError(f"`{group}` must hold {shapes} for {network.name}, got {actual}")

"""The networks, as data; `NETWORKS` holds them by name."""

from collections.abc import Callable

from snnjax.networks.decision import Decided, Decision, Majority
from snnjax.networks.model import Model, Observed, SpikingNetwork
from snnjax.networks.network import Network, Stage, stage
from snnjax.networks.published import deep2024, deepr2024, deepr2024_2, inception2024, majority2024, mozafari2018

NETWORKS: dict[str, Callable[[tuple[int, int, int], int], Network]] = {
    network.__name__: network
    for network in (mozafari2018, deep2024, deepr2024, deepr2024_2, inception2024, majority2024)
}
"""From a name to a function of (input shape, classes)."""

__all__ = [
    "NETWORKS",
    "Decided",
    "Decision",
    "Majority",
    "Model",
    "Network",
    "Observed",
    "SpikingNetwork",
    "Stage",
    "deep2024",
    "deepr2024",
    "deepr2024_2",
    "inception2024",
    "majority2024",
    "mozafari2018",
    "stage",
]

"""The networks, as data; `NETWORKS` holds them by name."""

from collections.abc import Callable

from snnjax.networks.decision import Decided, Decision, Majority
from snnjax.networks.deep2024 import deep2024
from snnjax.networks.deepr2024 import deepr2024, deepr2024_2
from snnjax.networks.inception2024 import inception2024
from snnjax.networks.majority2024 import majority2024
from snnjax.networks.model import Model, Observed, SpikingNetwork
from snnjax.networks.mozafari2018 import mozafari2018
from snnjax.networks.network import Network, Stage, stage

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

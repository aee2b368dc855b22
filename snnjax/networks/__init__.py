"""The networks, as data; `NETWORKS` holds them by name."""

from collections.abc import Callable

from snnjax.networks.mozafari2018 import mozafari2018
from snnjax.networks.network import Network, SpikingNetwork, Stage, stage

NETWORKS: dict[str, Callable[[tuple[int, int, int], int], Network]] = {"mozafari2018": mozafari2018}
"""From a name to a function of (input shape, classes)."""

__all__ = ["NETWORKS", "Network", "SpikingNetwork", "Stage", "mozafari2018", "stage"]

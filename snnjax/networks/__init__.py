"""The networks, as data; `NETWORKS` holds them by name."""

from snnjax.networks.kheradpisheh2018 import kheradpisheh2018
from snnjax.networks.linear import LinearSVM
from snnjax.networks.model import Model, Observed, SpikingNetwork
from snnjax.networks.mozafari2018_objects import mozafari2018_objects
from snnjax.networks.network import Decision, Earliest, FittedDecision, Majority, Network, Stage, stage
from snnjax.networks.published import deep2024, deepr2024, deepr2024_2, inception2024, majority2024, mozafari2018

NETWORKS = {
    each.__name__: each for each in (mozafari2018, deep2024, deepr2024, deepr2024_2, inception2024, majority2024)
}
"""From a name to a function of (input shape, classes)."""

__all__ = [
    "NETWORKS",
    "Decision",
    "Earliest",
    "FittedDecision",
    "LinearSVM",
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
    "kheradpisheh2018",
    "majority2024",
    "mozafari2018",
    "mozafari2018_objects",
    "stage",
]

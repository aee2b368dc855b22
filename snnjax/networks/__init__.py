"""The networks, as data; `NETWORKS` holds them by name."""

from snnjax.core import public
from snnjax.core.components import fitted as fitted
from snnjax.networks.decision import Decision as Decision
from snnjax.networks.decision import Earliest as Earliest
from snnjax.networks.decision import FittedDecision as FittedDecision
from snnjax.networks.decision import LinearSVM as LinearSVM
from snnjax.networks.decision import Majority as Majority
from snnjax.networks.features import drawn_back as drawn_back
from snnjax.networks.goupy2024 import goupy2024_ncg, goupy2024_pcn, goupy2024_s2stdp, goupy2024_sstdp, ncg_scales
from snnjax.networks.graph import Activations as Activations
from snnjax.networks.images import ImageSpec as ImageSpec
from snnjax.networks.joins import Concatenate as Concatenate
from snnjax.networks.joins import EarliestSpike as EarliestSpike
from snnjax.networks.joins import Flatten as Flatten
from snnjax.networks.joins import Join as Join
from snnjax.networks.joins import LatestSpike as LatestSpike
from snnjax.networks.local_errors import local_narrow, local_wide
from snnjax.networks.model import Model as Model
from snnjax.networks.model import Observed as Observed
from snnjax.networks.mozafari2018_objects import mozafari2018_objects
from snnjax.networks.network import Network as Network
from snnjax.networks.prototypes import ncg_prototypes
from snnjax.networks.prototypes import prototypes_on as prototypes_on
from snnjax.networks.prototypes import with_prototypes as with_prototypes
from snnjax.networks.published import (
    deep2024,
    deeper2024,
    deepr2024,
    deepr2024_2,
    inception2024,
    kheradpisheh2018,
    majority2024,
    mozafari2018,
    resnet2024,
)
from snnjax.networks.quantisation import quantise as quantise
from snnjax.networks.softhebb import goupy2024_softhebb, softhebb_narrow
from snnjax.networks.spiking_network import PlasticWeight as PlasticWeight
from snnjax.networks.spiking_network import SpikingNetwork as SpikingNetwork
from snnjax.networks.stage import Input as Input
from snnjax.networks.stage import Stage as Stage
from snnjax.networks.stage import stage as stage

_RECORDED = (mozafari2018, deep2024, deepr2024, deepr2024_2, inception2024, majority2024, resnet2024, deeper2024)
_SUPERVISED = (goupy2024_sstdp, goupy2024_s2stdp, goupy2024_pcn, goupy2024_ncg, ncg_scales)
_DEEP = (goupy2024_softhebb, softhebb_narrow, local_wide, local_narrow)
_OTHERS = (kheradpisheh2018, mozafari2018_objects, ncg_prototypes)

NETWORKS = {make.__name__: make for make in (*_RECORDED, *_SUPERVISED, *_OTHERS, *_DEEP)}
"""From a name to a function of `ImageSpec`."""

__all__ = public.names(vars())

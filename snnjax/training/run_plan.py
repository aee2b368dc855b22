"""The record of a run: what is trained, on what, and how."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from snnjax.data import Dataset
from snnjax.networks import Network, SpikingNetwork
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

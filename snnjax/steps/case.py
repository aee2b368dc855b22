"""What is to be learned, as the registry of steps asks each whether it fits."""

from typing import Any, NamedTuple

from snnjax.layers.spiking import Layer
from snnjax.networks import Model
from snnjax.steps.plain import Task


class Case(NamedTuple):
    """A task on a network.

    Attributes:
      task: which layers learn, and how.
      model: the network, with all its layers.
      native: whether compiled kernels are wanted.
      platform: of the devices, such as "cpu".
    """

    task: Task
    model: Model
    native: bool
    platform: str

    @property
    def layers(self) -> list[Layer]:
        """The layers that learn."""
        return [self.model.layers[name] for name in self.task.names]

    @property
    def layer(self) -> Layer:
        """The first of them."""
        return self.layers[0]

    @property
    def learner(self) -> Any:
        """The learner of the first."""
        return self.layer.conv.each_learner[self.task.learner]

    @property
    def only_deciding(self) -> bool:
        """Whether deciding layers alone learn."""
        return self.task.first == self.model.last

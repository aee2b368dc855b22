"""Measured snnjax: SoftHebb layers, their learning in one pass and the latencies behind them."""

import numpy as np
import snnjax_program
from programs import Work

from snnjax import Network, data
from snnjax.networks.batches import forward_batch
from snnjax.training.loop import Training
from snnjax.training.state import Settings, TrainState


class Program(snnjax_program.Program):
    """snnjax on the CPU, with XLA's kernels."""

    def __init__(self) -> None:
        super().__init__("cpu")

    def phases(self, task: tuple[Network, data.Dataset, int, TrainState | None]) -> dict[str, Work]:
        """Learning in one pass, and the latencies of all images."""
        network, images, *_ = task
        self.network = network
        self.data = images
        self.training = Training([network], images, Settings((1,) * len(network.stages), patience=0))
        self.works = {}
        self.state = self.training.initial_states()[0]
        self.encoded = np.asarray(self.training.cache.inputs("train", 0, [self.state]))
        phase = self.training.plan[0]
        end = network.joint_stages[0][1]
        self.works["learning"] = self._learn(0, phase, self.encoded, keep=False)
        self._map("features", self.encoded, forward_batch, first=0, last=end, timed=True)
        return self.works

"""Measured snnjax: SoftHebb layers, their learning in one pass and the latencies behind them."""

import numpy as np
import snnjax_program
from programs import Work

from snnjax import Network, data
from snnjax.training.engine import Engine
from snnjax.training.programs import forward_batch
from snnjax.training.state import Settings, TrainState


class Program(snnjax_program.Program):
    """snnjax on the CPU, with XLA's kernels."""

    def __init__(self) -> None:
        super().__init__("cpu")

    def phases(self, task: tuple[Network, data.Dataset, int, TrainState | None]) -> dict[str, Work]:
        """Learning in one pass, and the latencies of all images."""
        network, images, *_ = task
        self.network, self.data = network, images
        self.engine, self.works = Engine([network], images, Settings((1,) * len(network.stages), patience=0)), {}
        self.state = self.engine.initial_states()[0]
        self.encoded = np.asarray(self.engine.outputs.entering("train", 0, [self.state]))
        phase, end = self.engine.plan[0], network.joint_stages[0][1]
        self.works["learning"] = self._learn(0, phase, self.encoded, keep=False)
        self._map("features", self.encoded, forward_batch, first=0, last=end, timed=True)
        return self.works

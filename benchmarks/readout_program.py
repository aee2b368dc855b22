"""Measured snnjax: target-time features and the readout on them, whose test begins behind the features."""

import snnjax_program
from programs import Work
from spikenn_program import Readout

from snnjax import InputError, Network, data
from snnjax.layers import TAPS
from snnjax.learners import SupervisedSTDP, TargetTime
from snnjax.training.programs import decide_batch, forward_batch
from snnjax.training.state import TrainState

PHASES = ("encode", "one patch", "outputs", "learn", "test")


class Program(snnjax_program.Program):
    """snnjax, which shows the features more patches first than other networks."""

    def phases(self, task: tuple[Network, data.Dataset, int, TrainState | None]) -> dict[str, Work]:
        """The compiled phases, by `PHASES`."""
        network, images, *_ = task
        learners = [type(learner) for _, _, conv in network.layers() for learner in conv.each_learner]
        if learners != [TargetTime, SupervisedSTDP]:
            raise InputError(f"`model` {network.name} has no readout on target-time features")
        encode, patch, _, learn, _ = super().phases(task).values()
        count, last = len(images.train_images), network.names[1]
        outputs = self._map("outputs", self.encoded, forward_batch, first=0, last=1, timed=True)
        self.features = outputs[0]
        self._map("test", self.features[count:], decide_batch, dict.fromkeys(last, TAPS), first=1)
        test = self.works["test"]
        test.outcome = lambda found: found[0][0]  # the decisions
        self.works = dict(zip(PHASES, (encode, patch, self.works["outputs"], learn, test), strict=True))
        return self.works

    def readout(self) -> Readout:
        """What another program does on these features, from these weights."""
        raise NotImplementedError

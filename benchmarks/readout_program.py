"""Measured snnjax: target-time features and the readout on them, whose test begins behind the features."""

import numpy as np
import snnjax_program
from programs import Work
from spikenn_program import Readout

from snnjax import InputError, Network, data
from snnjax.learners import SupervisedSTDP, TargetTime
from snnjax.networks.batches import decide_batch, forward_batch
from snnjax.training.state import Phase, TrainState

PHASES = ("encode", "one patch", "outputs", "learn", "test")


class Program(snnjax_program.Program):
    """snnjax, whose features learn for as many epochs as they do in a training."""

    def phases(self, task: tuple[Network, data.Dataset, int, TrainState | None]) -> dict[str, Work]:
        """The compiled phases, by `PHASES`; raises InputError unless the network is a readout on such features."""
        network, images, *_ = task
        convs = [conv for _, _, conv in network.layers()]
        self.learners = [learner for conv in convs for learner in conv.each_learner]
        if [type(each) for each in self.learners] != [TargetTime, SupervisedSTDP]:
            raise InputError(f"`model` {network.name} is no readout by SupervisedSTDP on features by TargetTime")
        encode, patch, _, learn, _ = super().phases(task).values()
        patch.images *= self.learners[0].patches
        learned = learn.outcome
        learn.outcome = lambda found: learned(found).reshape(len(learned(found)), -1)  # (neurons, inputs)
        self.features = self._map("outputs", self.encoded, forward_batch, first=0, last=1, timed=True)[0]
        entering = self.features[len(images.train_images) :]
        self._map("test", entering, decide_batch, self.training.runners.testing_kernels, first=1)
        outputs = self.works["outputs"]
        test = self.works["test"]
        test.outcome = lambda found: found[0][0]  # the decisions
        self.works = dict(zip(PHASES, (encode, patch, outputs, learn, test), strict=True))
        return self.works

    def epochs(self, phase: Phase) -> int:
        return self.network.epochs[phase.stage] if phase.layers else super().epochs(phase)

    def readout(self) -> Readout:
        """What another program does on these features, from these weights."""
        (_, conv), rule, images = [conv for _, _, conv in self.network.layers()], self.learners[1], self.data
        weights = list(self.state.weights.values())[1]
        return Readout(
            latencies=self.features.reshape(len(self.features), -1),
            time_steps=self.network.time_steps,
            labels=images.train_labels,
            test_labels=images.test_labels,
            weights=weights.reshape(len(weights), -1),
            classes=images.classes,
            threshold=float(np.mean(np.asarray(conv.threshold))),
            gap=rule.gap,
            rates=(rule.ltp, rule.ltd),
            non_targets=rule.non_targets,
            competition=rule.competition,
            ranges=rule.one_sided,
            rescaled=rule.normalise,
            threshold_rate=rule.threshold_rate if rule.competition else 0.0,
        )

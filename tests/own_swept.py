"""A file of a user's: a rule and a network, for sweeps whose workers have to import it. Run by test_workers.py."""

import snnjax
from snnjax import RSTDP, WTA, Conv, Network, stage


@snnjax.component
class Early(snnjax.Learner):
    rate: float = 0.05
    bounds = (0.0, 1.0)

    def update(self, layer, state, latency, response, signal):
        winners = response.winners
        old = layer.rows_of(winners)
        moved = old + self.rate * ((layer.receptive_fields(latency, winners) < 5) - old)
        return layer.with_rows(winners, moved), state, winners.feature


def network(images) -> Network:
    """A small network that learns by the rule, and then by reward."""
    first = Conv(4, kernel=5, padding=2, threshold=15, competition=WTA(2, radius=3), learners=Early())
    stages = stage(first, pool=7), stage(Conv(2 * images.classes, kernel=4, learners=RSTDP()))
    return Network("swept", images.input_shape, images.classes, stages)

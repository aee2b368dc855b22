"""The stages of a network, and what they read."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from snnjax.core import checks
from snnjax.core.components import check_component, component, static
from snnjax.core.errors import InputError
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.networks.joins import Concatenate, Join

CONCATENATE = Concatenate()
ENCODER = "encoder"
"""The name by which stages read the encoded image."""


@component
class Input:
    """The output of an earlier stage, or of the encoder, as a stage reads it.

    Attributes:
      stage: its name: "stage1", "stage2", ..., or "encoder".
      pool: an additional pooling that applies only to this input, after the pooling of the stage itself; or None.

    Examples:
      >>> from snnjax import RSTDP, STDP, Conv, Network, Pool, stage
      >>> from snnjax.networks import Input
      >>> features = stage(Conv(8, kernel=5, padding=2, threshold=10, learners=STDP()), pool=4)
      >>> readout = stage(Conv(10, kernel=7, learners=RSTDP()), inputs=("stage1", Input("encoder", pool=Pool(4))))
      >>> Network("skip", (6, 28, 28), classes=10, stages=(features, readout)).input_shapes  # of each stage
      ((6, 28, 28), (14, 7, 7))
    """

    stage: str = static()
    pool: Pool | None = static(default=None)

    def check(self) -> None:
        checks.instance("pool", self.pool, Pool | None, "a Pool or None", "Input(..., pool=Pool(2))")

    @property
    def averages(self) -> bool:
        """Whether it is read through neurons that average, which fire in the next window."""
        return self.pool is not None and self.pool.mean


@component
class Stage:
    """Layers side by side that read the same input; their outputs are concatenated along the features, then pooled.

    Attributes:
      branches: the layers; without layers, the input itself is pooled, for example for a fitted decision.
      pool: the pooling of the concatenated maps, or None; always None for deciding layers.
      inputs: the earlier stages that are read; if empty, the previous stage, or the encoder.
      join: combines several inputs into one: a component such as `Concatenate`.
      pointwise: whether only the earliest spike passes at each position of the concatenated maps, before they are
        pooled. Among equally early spikes it is the one with the highest potential, and in a tie that of the lowest
        feature. This applies whenever the stage is read: in tests, and while later stages learn. While the stage itself
        learns, its `competition` determines which neurons learn.

    Examples:
      >>> import dataclasses
      >>> from snnjax.networks import mozafari2018
      >>> network = mozafari2018()
      >>> first = dataclasses.replace(network.stages[0], pointwise=True)
      >>> dataclasses.replace(network, stages=(first, *network.stages[1:])).stages[0].pointwise
      True
    """

    branches: tuple[Conv, ...] = ()
    pool: Pool | None = static(default=None)
    inputs: tuple[Input, ...] = ()
    join: Join = CONCATENATE
    pointwise: bool = static(default=False)

    def check(self) -> None:
        checks.instance("branches", self.branches, tuple, "Conv layers", "stage(Conv(...))")
        for conv in self.branches:
            checks.instance("branches", conv, Conv, "Conv layers", "stage(Conv(...), Conv(...))")
        if not self.branches and not self.inputs:
            raise InputError(
                "`branches` of a stage must be one Conv layer or several, or it must have `inputs`: got none"
            )
        checks.instance("pool", self.pool, Pool | None, "an integer, a Pool or None")
        if len({conv.ramped for conv in self.branches}) > 1:
            raise InputError("`branches` of a stage must all have a `ramp`, or none, got both kinds")
        if self.pool is not None:
            advice = "give its reader Input(..., pool=...)"
            checks.equal("mean of the `pool` of a stage", self.pool.mean, False, advice)
        for source in self.inputs if isinstance(self.inputs, tuple) else (self.inputs,):
            checks.instance("inputs", source, Input, "names of stages, or Input(...)", 'inputs=("stage1", "stage2")')
        check_component("join", self.join, "__call__")
        checks.instance("pointwise", self.pointwise, bool, "True or False")
        if self.pointwise and (self.ramped or not self.branches):
            got = "layers with a `ramp`" if self.ramped else "none"
            raise InputError(f"`pointwise` of a stage must be False unless it has layers without a `ramp`, got {got}")

    @property
    def ramped(self) -> bool:
        """Whether it has layers, which have a ramp."""
        return bool(self.branches) and self.branches[0].ramped


def stage(
    *branches: Conv,
    pool: Pool | int | None = None,
    inputs: str | Input | Sequence[str | Input] = (),
    join: Join = CONCATENATE,
    pointwise: bool = False,
) -> Stage:
    """A stage with one layer or several branches, and an optional pooling; an integer stands for max pooling.

    `inputs` are the earlier stages to read, by name ("stage1", "encoder") or as `Input`; the default is the previous
    stage. `join` combines several inputs into one. With `pointwise`, only one spike passes at each position, as
    described in `Stage`. Raises InputError if a part has a wrong type or no effect.

    Examples:
      >>> from snnjax import STDP, Conv, Network, stage
      >>> small = Conv(8, kernel=3, padding=1, threshold=5, learners=STDP())
      >>> large = Conv(8, kernel=5, padding=2, threshold=15, learners=STDP())
      >>> network = Network("two_sizes", (6, 28, 28), stages=(stage(small, large, pool=2),), decision=None)
      >>> network.names, network.shapes
      ((('layer1_1', 'layer1_2'),), ((6, 28, 28), (16, 14, 14)))
    """
    integer = isinstance(pool, int | np.integer) and not isinstance(pool, bool)
    pooling: Any = Pool(int(pool)) if integer else pool  # type: ignore[arg-type]
    sources: Any = inputs if isinstance(inputs, tuple | list) else (inputs,)
    reads = tuple(Input(source) if isinstance(source, str) else source for source in sources)
    return Stage(branches, pooling, reads, join, pointwise)

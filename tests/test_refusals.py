"""What cannot be is refused when it is made: parts of networks, with what message."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_graph import IDENTITY, LAST, SECOND, Choosing
from test_layers import CONV, LATENCIES, layer_of
from test_networks import DECISION, SMALL
from test_prototypes import READOUT, SPEC
from test_soft_hebb import COLOURS, network
from tiny import FIRST, with_first

from snnjax import Settings, Trainer, component, kernels
from snnjax.core.errors import InputError, TooSmallError
from snnjax.core.paths import replace
from snnjax.encoding import Encoder
from snnjax.kernels import winograd
from snnjax.layers import WTA, Conv, Pool, Ramp, Standardise
from snnjax.learners import RSTDP, STDP, Prototypes, SoftHebb, SupervisedSTDP, TargetTime
from snnjax.networks import NETWORKS, Earliest, EarliestSpike, ImageSpec, LinearSVM, Majority, Network, stage

SHAPE = (6, 28, 28)
RAMPED = dict(ramp=Ramp(), learners=SoftHebb())
LAYER = Conv(4, kernel=3, threshold=1)
LARGER = Conv(4, kernel=5, threshold=1)
SOFT = network()
HIDDEN = stage(Conv(4, 3, ramp=Ramp(rise=0.5), learners=SoftHebb()))


@component
class Paired(Choosing):
    """Returns two maps."""

    def __call__(self, *maps, time_steps):
        return maps[0], maps[0]


@component
class Third(Choosing):
    """Takes the third map."""

    def __call__(self, *maps, time_steps):
        return maps[2]


def before(*stages) -> Network:
    """The small network behind some stages."""
    return dataclasses.replace(SMALL, stages=(*stages, stage(DECISION)))


def small(**change) -> Network:
    return dataclasses.replace(SMALL, **change)


def wrong(*stages, **more) -> Network:
    return Network("wrong", SHAPE, 10, stages, **more)


def reading(**second) -> Network:
    """A network whose second stage reads as described."""
    return wrong(stage(FIRST, pool=4), stage(SECOND, **second), stage(dataclasses.replace(LAST, kernel=1)))


def with_levels(count: int) -> Network:
    """A network of 15 time steps whose ramp has so many levels."""
    ramp = Ramp(levels=kernels.ramp.ramp_levels(1.0, power=1.0, time_steps=count))
    readout = stage(Conv(4, 3, threshold=1.0, learners=SupervisedSTDP()))
    stages = (stage(Conv(2, 1, ramp=ramp, weight_mean=0.0)), readout)
    return Network("levels", (1, 3, 3), 2, stages, time_steps=15, decision=Earliest())


def readout(kernel=28, decision=Earliest(fallback=True), **changes) -> Network:  # noqa: B008
    conv = dict(features=20, threshold=100.0, weight_mean=0.3, weight_std=0.01) | changes
    return wrong(stage(Conv(kernel=kernel, **conv, learners=SupervisedSTDP())), decision=decision)


def moving(**changes) -> Network:
    """A network whose first layer learns thresholds."""
    settings = dict(competition=Conv.competition, learners=TargetTime())
    return with_first(tiny.plain(ImageSpec()), **settings | changes)


RAMPED_LAYER = Conv(4, 3, ramp=Ramp(), learners=SoftHebb(), weight_mean=0.0)


def svm(reads: str, layer: Conv, **changes) -> Network:
    """A network of one stage, the potentials of which an SVM reads."""
    return Network("svm", (2, 10, 10), 3, (stage(layer, **changes),), decision=LinearSVM(reads=reads))


REFUSED = [
    # Layers
    (lambda: Conv(0, 3), "`features` must be at least 1, got 0"),
    (lambda: Conv(4, (3, 3, 3)), r"`kernel` must be one integer or two, \(rows, columns\), got \(3, 3, 3\)"),
    (lambda: Conv(4, 3, output_padding=(0, -2)), "`output_padding` must be at least 0, got -2"),
    (
        lambda: Conv(4, 3, threshold=-1.0, fractional=True),
        "`threshold` of a `fractional` layer must be .* 0, got -1",
    ),
    (lambda: Conv(4, 3, weight_std=np.nan), "`weight_std` must be finite and at least 0, got nan"),
    (lambda: Conv(4, 3, weight_range=(1, 0)), r"`weight_range` must be \(lowest, highest\), .*, got \(1.0, 0.0\)"),
    (lambda: Conv(4, 3, weight_range=(0, np.inf)), r"`weight_range` must be .* finite numbers, got \(0.0, inf\)"),
    (lambda: Conv(4, 3, weight_range=0.5), r"`weight_range` must be \(lowest, highest\), .*, got 0.5"),
    (lambda: Conv(4, 3, weight_range=(0, 1), weight_mean=0.5), "`weight_mean` of a layer with a `weight_range`"),
    (lambda: Conv(4, 3, competition=WTA(5)), "`winners` of the competition must be at most 4, .*, got 5"),
    (lambda: Conv(4, 3, standardise=Standardise()), "`standardise` of a layer without a `ramp` must be None"),
    (lambda: Conv(4, 3, competition=WTA(2), **RAMPED), "`competition` of a layer with a `ramp` must be WTA"),
    (lambda: Conv(4, 3, ramp=Ramp(), learners=STDP()), "`learners` of a layer with a `ramp` must be such as SoftHebb"),
    (lambda: Standardise(mean=np.zeros(2)), r"`mean` and `variance` must be numbers, or \(C,\), got \(2,\) and"),
    (lambda: Pool(0), "`window` must be at least 1, got 0"),
    (lambda: layer_of(CONV).with_threshold(np.zeros(2, np.float32)), "`threshold` must have shape"),
    (lambda: layer_of(CONV).spikes(LATENCIES[0][:1]), "must have the 2 channels of `weights`, got 1"),
    # Networks
    (lambda: NETWORKS["deep2024"](ImageSpec((5, 5))), r"^deep2024 on input \(6, 5, 5\): stage \d: .* the map of "),
    (lambda: before(stage(LAYER, pool=12)), "stage 1: .* into the map of 10x10, got 12x12"),
    (lambda: before(stage(LARGER, pool=8), stage(LAYER)), "stage 2: .* the map of 1x1, got 3x3"),
    (lambda: before(stage(LAYER, LARGER)), r"stage 1: branches must .*, got \[\(8, 8\), \(10, 10\)\]"),
    (lambda: before(stage(dataclasses.replace(LAYER, fractional=True))), "`fractional` of layer1"),
    (lambda: small(classes=4), "multiple of 4 features, got RSTDP and 6 features$"),
    (lambda: small(encoder=Encoder(time_steps=9)), "`time_steps` must be 9, got 15: .* `encoder`"),
    (lambda: small(epochs=(1, 2)), r"`epochs` must have one value for each of 1 stages, got 2: \(1, 2\)"),
    (
        lambda: dataclasses.replace(before(stage(LAYER)), epochs=3),
        r"`epochs` must have .* 2 stages, got 1: \(3,\)",
    ),
    (lambda: small(stages=(stage(DECISION, pool=2),)), "`pool` of the last stage of small must be"),
    (lambda: small(stages=(stage(DECISION, pointwise=True),)), "`pointwise` of the last stage of small, which decides"),
    (lambda: stage(LAYER, pointwise=1), "`pointwise` must be True or False, got 1"),
    (lambda: stage(inputs="encoder", pointwise=True), "`pointwise` of a stage must be False unless .*, got none"),
    (lambda: stage(RAMPED_LAYER, pointwise=True), "`pointwise` of a stage .*, got layers with a `ramp`"),
    (lambda: small(classes=0), "`classes` must be at least 1, got 0: give their number, or `decision=None`"),
    (
        lambda: small(decision=None),
        "`learners` of layer1 must be unsupervised, got RSTDP in a network without a `decision`, which has no labels",
    ),
    (lambda: LinearSVM(reads="maximum"), "`reads` must be one of spikes, potentials, maxima.*did you mean 'maxima'"),
    (lambda: svm("maxima", LAYER, pool=2), "`pool` of the last stage of svm, whose potentials LinearSVM reads, must"),
    (lambda: svm("potentials", LAYER, pointwise=True), "`pointwise` of the last stage of svm, whose potentials"),
    (lambda: svm("potentials", RAMPED_LAYER), "`branches` of the last stage of svm, .* without a `ramp`"),
    (lambda: with_first(SMALL, learners=STDP()), "must have a supervised learner, such as RSTDP, .*got STDP and 6"),
    (lambda: with_first(SMALL, threshold=3.0), "`threshold` of layer1, which decides, must be None: 3.0 has no"),
    (lambda: with_first(SMALL, fractional=True), "`fractional` of layer1, which decides, must be False"),
    (lambda: with_first(SMALL, competition=WTA(2)), "`competition` of layer1, which decides, must be"),
    (lambda: with_first(SMALL, output_padding=(0, 2)), "`output_padding` of layer1, which decides, must be 0"),
    (lambda: small(name="a/../../esc"), "`name` must be of printable characters"),
    (lambda: with_first(SMALL, learners=(RSTDP(), STDP())), "`learners` of layer1 must be unsupervised but for"),
    (lambda: ImageSpec((6, 28, 28)), r"`shape` of images must be .*, got \(6, 28, 28\)"),
    (lambda: ImageSpec(count=0), "`count` must be at least 1, got 0"),
    (lambda: STDP(doubling=0), "`doubling` must be at least 1, got 0"),
    (lambda: STDP(ltp=0), "`ltp` must be finite and above 0, got 0"),
    (lambda: STDP(ltp=0.2), r"`ltp` must be at most `ltp_max` \(0.15\), got 0.2"),
    (lambda: STDP(ltp_max=np.inf), "`ltp_max` must be finite, got inf"),
    (lambda: RSTDP(dropout=1.0), "`dropout` must be None, or be finite and at least 0 and below 1, got 1.0"),
    (lambda: RSTDP(floor=2.0), r"`floor` must be None, or lie in 0..1, got 2.0"),
    (lambda: STDP(ltd=np.nan), "`ltd` must be finite and at most 0, got nan"),
    (lambda: STDP(bounds=(1.0, 1.0)), "`bounds` must be .* lower < upper"),
    (lambda: RSTDP(reward=(0.004, 0.003)), r"`reward` must be \(a\+, a-\), at least 0 and at most 0"),
    (lambda: RSTDP(punish=(0.004, 0.0005)), r"`punish` must be \(a\+, a-\), at most 0 and at least 0"),
    # Stages and what they read
    (lambda: stage(), "`branches` of a stage must be one Conv layer or several, or it must have `inputs`"),
    (lambda: stage(LAST, inputs=3), "`inputs`"),
    (lambda: stage(LAST, inputs=stage(FIRST)), "`inputs` must be names of stages, or Input.*, got Stage"),
    (lambda: stage(LAST, join=max), "`join` must be a component"),
    (
        lambda: Conv(4, 1, weights=IDENTITY, learners=STDP()),
        "`learners` of a layer with `weights` must be .*, got STDP",
    ),
    (lambda: Conv(5, 1, weights=IDENTITY), r"`weights` must have shape \(5, C, 1, 1\), got \(4, 4, 1, 1\)"),
    (lambda: Conv(4, 1, weights=np.nan * IDENTITY), "`weights` must be finite"),
    (lambda: Conv(4, 1, weights=[[1.0]]), r"`weights` must be an array with axes \(F C kh kw\), got tuple"),
    (lambda: wrong(stage(Conv(4, 1, weights=IDENTITY)), stage(LAST)), "for as many maps as it reads, got 4 of"),
    (lambda: wrong(stage(FIRST), stage(inputs="stage1"), decision=Majority()), "must end with layers that decide"),
    (lambda: stage(FIRST, Conv(4, 3, ramp=Ramp())), "must all have a `ramp`, or none, got both kinds"),
    (lambda: reading(inputs="stage2"), r"must be earlier stages \(encoder, stage1\), got stage2: no cy"),
    (
        lambda: reading(inputs="stagel"),
        r"must be earlier stages \(encoder, stage1\), got stagel: did you mean 'stage1'",
    ),
    (lambda: reading(inputs=("stage1", "encoder")), r"maps of one size, got \(4, 7, 7\) and \(6, 28, 28\): pool"),
    (lambda: reading(inputs=("stage1", "encoder"), join=EarliestSpike()), "of EarliestSpike must have one shape"),
    (lambda: reading(inputs="stage1", join=Third()), r"Third does not take inputs of \(4, 7, 7\): .*out of range"),
    (lambda: reading(inputs="stage1", join=Choosing()), "must not choose by traced numbers or maps: take jnp.wh"),
    (lambda: reading(inputs="stage1", join=Paired()), r"`join\(...\)` must be an array \(C, H, W\), got tuple"),
    (lambda: reading(inputs="encoder"), "stage 1 of wrong must be read by a later stage"),
    # Layers with ramps, SoftHebb and prototypes
    (lambda: Ramp(power=0.0), "`power` must be finite and above 0"),
    (lambda: Ramp(first=1.5), "`first` must lie in 0..1"),
    (lambda: Ramp(dendrites=0), "`dendrites` must be at least 1"),
    (lambda: Ramp(levels=np.float32([2, 0])), "`levels` must be finite and above 0"),
    (lambda: Ramp(levels=np.float32([1, 2])), "`levels` must fall"),
    (lambda: with_levels(7), r"`levels` of layer1 must be .* one number for each of 15 time steps, got shape \(7,\)"),
    (lambda: kernels.ramp.fire_on_ramp(jnp.ones(3), jnp.ones(())), "`levels`"),
    (lambda: winograd.tiled_sums(jnp.ones((2, 6, 6)), jnp.ones((6, 6, 4, 3))), r"`weights` .* \(6, 6, 4, 2\)"),
    (
        lambda: Trainer(with_first(SOFT, learners=()), COLOURS, Settings((1, 1, 3))),
        "which does not learn, must have its",
    ),
    (lambda: with_first(SOFT, ramp=None, standardise=None, threshold=1.0), "must have a `ramp`, such as Ramp"),
    (lambda: SoftHebb(inverse_temperature=0.0), "`inverse_temperature` must be finite and above 0"),
    (lambda: SoftHebb(momentum=2.0), r"`momentum` must lie in 0..1"),
    (
        lambda: NETWORKS["goupy2024_softhebb"](features=(3, 5)),
        r"`features` must have one value for each of 3 layers, got 2: \(3, 5\)",
    ),
    (lambda: replace(SPEC, "decision", Earliest()), "`decision` on layer1, which has a `ramp`"),
    (lambda: with_first(SPEC, ramp=Ramp()), r"`ramp` must be Ramp\(inhibition=False\)"),
    (lambda: with_first(SPEC, ramp=None), "must be None"),
    (lambda: with_first(SPEC, threshold=None), "`threshold` must be 0.0"),
    (lambda: with_first(SPEC, weight_mean=0.5), "must be 0 for Prototypes: neurons begin silent"),
    (lambda: with_first(SPEC, standardise=Standardise()), "centres inputs itself"),
    (lambda: with_first(SPEC, kernel=3), "with one neuron a feature, for Prototypes, got 2x2 of them"),
    (
        lambda: with_first(SPEC, learners=Prototypes(wins=np.ones(5))),
        "`wins` of layer1 must be .* one number for each of 12 neurons, got shape \\(5,\\)",
    ),
    (lambda: Prototypes(wins=np.full(12, -1.0)), "`wins` must be finite and at least 0"),
    (lambda: Ramp(rise=0.0), "`rise` must"),
    (
        lambda: dataclasses.replace(SPEC, stages=(HIDDEN, stage(dataclasses.replace(READOUT, kernel=2))), epochs=()),
        "`rise` of layer1, which does not decide",
    ),
    # Other learners
    (lambda: SupervisedSTDP(ltp=0.0), "`ltp` must be finite and above 0, got 0.0"),
    (lambda: SupervisedSTDP(gap=2.0), r"`gap` must lie in 0\.\.1, got 2.0"),
    (lambda: SupervisedSTDP(annealing=1.5), "`annealing` must lie above 0 and up to 1, got 1.5"),
    (lambda: SupervisedSTDP(bounds=(-1.0, 1.0)), "`bounds` must be at least 0, so that potentials never fall"),
    (lambda: SupervisedSTDP(competition=False), "`non_targets` must be 0 without `competition`, got 1"),
    (lambda: readout(decision=Majority(), threshold=None), "under a decision with times"),
    (lambda: readout(kernel=27), "`kernel` must be that of the whole map, .* got 2x2 of them"),
    (lambda: readout(threshold=None), "`threshold` must be a number for SupervisedSTDP of layer1"),
    (lambda: readout(threshold=-1.0), "`threshold` of layer1 must be finite and at least 0, got -1.0"),
    (lambda: readout(features=10), "must leave a target neuron in each class, got 1: layer1 has 1 neurons per class"),
    (lambda: TargetTime(target_time=1.5), "`target_time`.*got 1.5"),
    (lambda: TargetTime(annealing=0.0), "`annealing`.*above 0.*got 0"),
    (lambda: TargetTime(bounds=(-1.0, 1.0)), "`bounds` must be at least 0"),
    (lambda: moving(threshold=None), "`threshold` of layer1.*got None"),
    (lambda: moving(competition=WTA(3)), "`competition` of layer1.*WTA.*has no effect"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert isinstance(caught.value, TooSmallError) == (" the map of " in message)

"""What a training is about: networks of one structure, the data that they learn from, how, and in which phases."""

from collections.abc import Sequence
from typing import Any

import jax

from snnjax.core.errors import InputError
from snnjax.data import Dataset
from snnjax.networks import Model, Network
from snnjax.networks.decision import is_fitted
from snnjax.training import arguments
from snnjax.training.phase import Phase
from snnjax.training.placement import Placement, to_32_bits
from snnjax.training.programs import Timer
from snnjax.training.state import Callback, Settings, TrainState

DIAGNOSED_IMAGES = 1000
"""Images whose outputs of a stage are described in a diagnosis."""


class Job:
    """Networks that differ only in numbers and seeds, with the data and the settings of their training.

    Attributes:
      networks: the descriptions, with their encoders.
      data: the data set.
      settings: of the training.
      seeds: of the initial weights of each network.
      callback: receives the training's events.
      plan: the phases of the training, in order.
      placement: of the networks on devices.
      unsupervised: the part of the images that layers learn from without labels: "train"; "all" if some lack labels.
      images: the parts that are learned from or tested, by name.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        data: Dataset,
        settings: Settings,
        seeds: Sequence[int],
        callback: Callback,
        frozen: Sequence[str] = (),
    ):
        """Raises InputError if networks, data and settings do not fit, OSError if C++ cannot be compiled."""
        self.networks = [arguments.with_encoder(network, data) for network in networks]
        arguments.check_networks(self.networks, data, settings, seeds)
        self.data = data
        self.settings = settings.resolved(self.networks)
        self.seeds = seeds
        self.callback = callback
        self.plan = plan(self.network, data, settings, frozen)
        self.placement = Placement(len(networks))
        self.unsupervised = "train" if data.unlabelled_images is None else "all"
        parts = dict.fromkeys(("train", self.unsupervised, data.tested))
        self.images = {part: getattr(data, f"{part}_images") for part in parts}

    @property
    def network(self) -> Network:
        """The first one: all have its structure."""
        return self.networks[0]

    def learned_part(self, phase: Phase) -> str:
        """The part of `images` that a phase learns from."""
        return "train" if phase.supervised else self.unsupervised

    def model(self, state: TrainState, index: int = 0) -> Model:
        """Network number `index` with the weights of a state, all numbers of 32 bits."""
        return jax.tree.map(to_32_bits, Model.of(state.network(self.networks[index]), state.weights))

    def models(self, states: Sequence[TrainState]) -> list[Model]:
        """All networks with their weights."""
        return [self.model(state, index) for index, state in enumerate(states)]

    def finish(self, timer: Timer, states: Sequence[TrainState], over: bool = True) -> None:
        """Records a timer's measurements, and resets it; reports the phase if it is over."""
        records = [timer.add_to(state.phases) for state in states]
        timer.reset()
        if over:
            self.callback.finished(records[0])


def plan(network: Network, data: Dataset, settings: Settings, frozen: Sequence[str] = ()) -> tuple[Phase, ...]:
    """The phases of a training in order; layers of the names `frozen` do not learn.

    Raises InputError unless `settings.epochs` is one number for each stage.
    """
    stages = len(network.stages)
    epochs = settings.epochs
    if len(epochs) != stages:
        raise InputError(f"`epochs` must be {stages} numbers for {network.name}, got {len(epochs)}: {epochs}")
    labelled = len(data.train_images)
    unlabelled = 0 if data.unlabelled_images is None else len(data.unlabelled_images)
    images = labelled + unlabelled
    phases: list[Phase] = []
    for stage, name, conv in network.layers():
        if conv.ramp and conv.learners == () and not conv.ramp.fitted:
            raise InputError(f"`ramp` of {name}, which does not learn, must have its `levels`: write Ramp(levels=...)")
        for index, learner in enumerate(conv.each_learner):
            if learner.supervised or name in frozen:
                continue
            shown = min(images, (learner.images if learner.minibatch else None) or images)
            phases.append(
                Phase(
                    (name,),
                    stage,
                    index,
                    update_batch=min(settings.update_batch, shown),
                    minibatch_size=min(learner.batch, shown) if learner.minibatch else 0,
                    images=shown,
                    name=f"{_title(learner)} {name}",
                    epochs=epochs[stage],
                )
            )
    if is_fitted(network.decision):
        first = stages - network.reads_potentials
        fit = Phase((), first, images=labelled, supervised=True, name=f"fit {type(network.decision).__name__}")
        return *phases, fit
    if network.decision is None:
        return *phases, Phase((), stages, images=min(DIAGNOSED_IMAGES, images), name="features")
    last = supervised_phase(network, frozen)._replace(
        update_batch=min(settings.update_batch, labelled),
        adapt_every=settings.adapt_every,
        images=labelled,
        name=_title(network.stages[-1].branches[0].last_learner),
        epochs=epochs[-1],
    )
    return *phases, last


def supervised_phase(network: Network, frozen: Sequence[str] = ()) -> Phase:
    """The phase in which all layers that learn supervised do so, except those of the names `frozen`."""
    taught = {
        name: stage
        for stage, name, conv in network.layers()
        if name not in frozen and any(learner.supervised for learner in conv.each_learner)
    }
    by_turns = network.reward_by_turns and network.first_supervised in taught.values()
    return Phase(tuple(taught), min(taught.values()), by_turns=by_turns, supervised=True)


def _title(learner: Any) -> str:
    return learner.title or type(learner).__name__

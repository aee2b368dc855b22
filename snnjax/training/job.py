"""The job of a training run: networks of one structure, their data and settings, and the phases; all checked."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from snnjax.core import checks
from snnjax.core.codec import to_data
from snnjax.core.errors import InputError
from snnjax.data import Dataset
from snnjax.networks import Model, Network
from snnjax.networks.decision import is_fitted
from snnjax.networks.images import with_encoder
from snnjax.training.contracts import check_parts
from snnjax.training.placement import Placement, has_own, model_of
from snnjax.training.state import Callback, Settings, TrainState
from snnjax.training.timer import Timer

DIAGNOSED_IMAGES = 1000
"""The number of images for which a diagnosis describes the outputs of a stage."""


class Phase(NamedTuple):
    """A part of a training run: the layers that learn, and the number of images.

    Either one layer learns by itself, or all supervised layers learn from the decisions. Without `layers`, the decision
    is fitted or, if the network has none, its features are described.

    Attributes:
      layers: the names of the layers that learn, in order.
      first: the number of the stage that the inputs enter.
      learner: the index, among a layer's learners, of the learner that is used.
      update_batch: the number of images that are passed forward with the same weights, see `Settings.update_batch`.
      by_turns: see `Network.reward_by_turns`.
      minibatch_size: the number of images after which a minibatch learner changes its weights; 0 for any other learner.
      images: the number of images in an epoch.
      labelled: whether a layer learns by itself, but only from labelled images, see `Learner.labelled`.
      supervised: whether layers learn from decisions, or the decision is fitted.
      adapt_every: the number of images after which supervised learners adapt, see `Settings.adapt_every`.
      name: the name of the phase in messages and reports, for example "STDP layer1".
      epochs: the number of passes over the images.
    """

    layers: tuple[str, ...]
    first: int = 0
    learner: int = -1
    update_batch: int = 1
    by_turns: bool = False
    minibatch_size: int = 0
    images: int = 0
    labelled: bool = False
    supervised: bool = False
    adapt_every: int = 1
    name: str = ""
    epochs: int = 1


class Job:
    """Networks that differ only in numbers and seeds, with the data and the settings of their training.

    Attributes:
      networks: the untrained networks, with their encoders.
      data: the data set.
      settings: the settings of the training run, resolved for these networks.
      seeds: the seed of each network, for its initial weights, its learners and the order of its images.
      callback: receives the events of the training run.
      phases: the phases of the training run, in order.
      placement: places the networks and their images on the devices.
      unsupervised: the part of the images from which layers learn without labels: "train", or "all" if the data set has
        unlabelled images.
      images: the images of each part that is learned from or tested, keyed by the name of the part.
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
        """Checks the arguments and plans the phases; the layers named in `frozen` do not learn.

        Raises InputError if networks, data and settings do not match, and OSError if C++ code cannot be compiled.
        """
        self.networks = [with_encoder(network, data) for network in networks]
        check_networks(self.networks, data, settings, seeds)
        self.data = data
        self.settings = settings.resolved(self.networks)
        self.seeds = seeds
        self.callback = callback
        self.phases = phases_of(self.network, data, settings, frozen)
        self.placement = Placement(len(networks))
        self.unsupervised = "train" if data.unlabelled_images is None else "all"
        parts = dict.fromkeys(("train", self.unsupervised, data.tested))
        self.images = {part: getattr(data, f"{part}_images") for part in parts}

    @property
    def network(self) -> Network:
        """The first network, whose structure all networks share."""
        return self.networks[0]

    def learned_part(self, phase: Phase) -> str:
        """The name of the part of `images` from which a phase learns."""
        return "train" if phase.supervised else self.unsupervised

    def labelled_inputs(self, inputs: Any) -> Any:
        """The inputs of the labelled images, given the inputs of the `unsupervised` part, in which they come first.

        If there are mirror images, they follow the images in the given inputs and in the result.
        """
        labelled = len(self.data.train_images)
        total = len(self.images[self.unsupervised])

        def of_each(values: np.ndarray) -> np.ndarray:
            axis = int(has_own(values))
            parts = np.split(values, range(total, values.shape[axis], total), axis)
            kept = [part[:, :labelled] if axis else part[:labelled] for part in parts]
            return np.concatenate(kept, axis) if len(kept) > 1 else kept[0]

        return inputs if labelled == total else jax.tree.map(of_each, inputs)

    def model(self, state: TrainState, index: int = 0) -> Model:
        """Network number `index` with the weights of a state; all its numbers have 32 bits."""
        return model_of(state.network(self.networks[index]), state.weights)

    def models(self, states: Sequence[TrainState]) -> list[Model]:
        """All networks with the weights of their states."""
        return [self.model(state, index) for index, state in enumerate(states)]

    def finish(self, timer: Timer, states: Sequence[TrainState], over: bool = True) -> None:
        """Adds a timer's measurements to the states, and resets the timer; reports the phase if it is over."""
        records = [timer.add_to(state.phases) for state in states]
        timer.reset()
        if over:
            self.callback.finished(records[0])


def phases_of(network: Network, data: Dataset, settings: Settings, frozen: Sequence[str] = ()) -> tuple[Phase, ...]:
    """The phases of a training run, in order; the layers named in `frozen` do not learn.

    Raises InputError unless `settings.epochs` has one number for each stage.
    """
    stages = len(network.stages)
    epochs = settings.epochs
    if len(epochs) != stages:
        raise InputError(f"`epochs` must be {stages} numbers for {network.name}, got {len(epochs)}: {epochs}")
    labelled = len(data.train_images)
    unlabelled = 0 if data.unlabelled_images is None else len(data.unlabelled_images)
    total = labelled + unlabelled
    phases: list[Phase] = []
    for stage, name, conv in network.layers():
        if conv.ramp and conv.learners == () and not conv.ramp.fitted:
            raise InputError(f"`ramp` of {name}, which does not learn, must have its `levels`: write Ramp(levels=...)")
        for index, learner in enumerate(conv.each_learner):
            if learner.supervised or name in frozen:
                continue
            available = labelled if learner.labelled else total
            images = min(available, (learner.images if learner.minibatch_size else None) or available)
            phases.append(
                Phase(
                    (name,),
                    stage,
                    index,
                    update_batch=min(settings.update_batch, images),
                    minibatch_size=min(learner.minibatch_size, images),
                    images=images,
                    labelled=learner.labelled,
                    name=f"{_title(learner)} {name}",
                    epochs=epochs[stage],
                )
            )
    if is_fitted(network.decision):
        first = stages - network.reads_potentials
        fit = Phase((), first, images=labelled, supervised=True, name=f"fit {type(network.decision).__name__}")
        return *phases, fit
    if network.decision is None:
        return *phases, Phase((), stages, images=min(DIAGNOSED_IMAGES, total), name="features")
    last = supervised_phase(network, frozen)._replace(
        update_batch=min(settings.update_batch, labelled),
        adapt_every=settings.adapt_every,
        images=labelled,
        name=_title(network.stages[-1].branches[0].last_learner),
        epochs=epochs[-1],
    )
    return *phases, last


def supervised_phase(network: Network, frozen: Sequence[str] = ()) -> Phase:
    """The phase in which all supervised layers learn, except those named in `frozen`."""
    taught = {
        name: stage
        for stage, name, conv in network.layers()
        if name not in frozen and any(learner.supervised for learner in conv.each_learner)
    }
    by_turns = network.reward_by_turns and network.first_supervised in taught.values()
    return Phase(tuple(taught), min(taught.values()), by_turns=by_turns, supervised=True)


def _title(learner: Any) -> str:
    return learner.title or type(learner).__name__


def check_types(networks: Sequence[object], data: object, settings: object, callback: object = None) -> None:
    """Raises InputError if an argument of a training run has the wrong type."""
    checks.some("network", networks, "a Network, or at least one of several")
    for network in networks:
        made = "network.network" if hasattr(network, "network") else f"{getattr(network, '__name__', 'Network')}(...)"
        checks.instance("network", network, Network, "a Network", made)
    arrays = "name, train_images, train_labels, test_images, test_labels"
    checks.instance("data", data, Dataset, "a Dataset", f"snnjax.data.Dataset({arrays})")
    checks.instance("settings", settings, Settings | None, "Settings or None", "Settings(epochs=(...))")
    checks.instance("callback", callback, Callback | None, "a Callback or None")


def check_networks(networks: Sequence[Network], data: Dataset, settings: Settings, seeds: Sequence[int]) -> None:
    """Raises InputError unless networks can train side by side on these data."""
    checks.length("seeds", seeds, len(networks), "networks")
    if len(networks) > 1:
        checks.equal("patience", settings.patience, 0, "several networks stop together")
    network = networks[0]
    network.check()  # JAX rebuilds components without this check
    to_data(network, {})  # what cannot be saved is refused before training
    if len({x.structure for x in networks}) > 1:
        raise InputError("`networks` must differ only in numbers, got several structures: train them with a Sweep")
    if network.decision is not None:
        advice = f"{data.name} has {data.classes}, make it with classes={data.classes}"
        checks.equal("classes of the network", network.classes, data.classes, advice)
    check_parts(network, data.train_images)
    if settings.mirror and (width := data.train_images.shape[2]) < 2:
        raise InputError(f"`mirror` takes images of at least 2 columns, those of {data.name} have {width}")


def check_weights(network: Network, state: TrainState) -> None:
    """Raises InputError unless the weights of a state are those of a network."""
    check_shapes(network, state, "weights", network.weight_shapes)
    if state.best:
        check_shapes(network, state, "best", network.weight_shapes)


def check_shapes(network: Network, state: TrainState, group: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises InputError unless a group of a state's arrays has these shapes."""
    actual = {name: array.shape for name, array in getattr(state, group).items()}
    if actual != shapes:
        raise InputError(f"`{group}` must hold {shapes} for {network.name}, got {actual}")

"""The plan of a training: its phases."""

from typing import Any

from snnjax.core.errors import InputError
from snnjax.data import Dataset
from snnjax.networks import Network
from snnjax.networks.decision import is_fitted
from snnjax.steps.plain import Phase
from snnjax.training.state import Settings


def plan(network: Network, data: Dataset, settings: Settings) -> tuple[Phase, ...]:
    """The phases of a training in order; raises InputError unless `settings.epochs` is one number for each stage."""
    stages = len(network.stages)
    epochs = settings.epochs
    if len(epochs) != stages:
        raise InputError(f"`epochs` must be {stages} numbers for {network.name}, got {len(epochs)}: {epochs}")
    labelled = len(data.train_images)
    unlabelled = 0 if data.unlabelled_images is None else len(data.unlabelled_images)
    images = labelled + unlabelled
    phases: list[Phase] = []
    ends = dict(network.joint_stages)
    end = 0  # after the last stage of layers that learn jointly
    for stage, name, conv in network.layers():
        if stage >= end and stage in ends:
            end = ends[stage]
            phases.append(_joint(network, stage, end, images, epochs))
        for index, learner in enumerate(conv.each_learner):
            if stage >= end and not learner.supervised:
                phases.append(
                    Phase(
                        (name,),
                        stage,
                        index,
                        batch=min(settings.update_batch, images),
                        images=images,
                        name=f"{_title(learner)} {name}",
                        epochs=epochs[stage],
                    )
                )
    if is_fitted(network.decision):
        fit = Phase((), stages, images=labelled, supervised=True, name=f"fit {type(network.decision).__name__}")
        return *phases, fit
    taught = [name for _, name, conv in network.layers() if any(learner.supervised for learner in conv.each_learner)]
    last = Phase(
        tuple(taught),
        network.first_supervised,
        batch=min(settings.update_batch, labelled),
        by_turns=network.reward_by_turns,
        images=labelled,
        supervised=True,
        name=_title(network.stages[-1].branches[0].last_learner),
        epochs=epochs[-1],
    )
    return *phases, last


def _joint(network: Network, first: int, end: int, images: int, epochs: tuple[int, ...]) -> Phase:
    """The phase of layers that learn jointly, in stages `first` to before `end`."""
    if len(counts := {*epochs[first:end]}) > 1:
        got = f"{sorted(counts)} for stages {first + 1} to {end}"
        raise InputError(f"`epochs` must be the same for stages that learn jointly, got {got}")
    learners: dict[str, Any] = {
        name: conv.each_learner[0] for stage, name, conv in network.layers() if first <= stage < end and conv.learners
    }
    learner, *_ = learners.values()
    images = min(images, learner.images or images)
    titles = dict.fromkeys(map(_title, learners.values()))
    return Phase(
        tuple(learners),
        first,
        0,
        batch=min(learner.batch, images),
        end=end,
        images=images,
        name=f"{' and '.join(titles)} {', '.join(learners)}",
        epochs=epochs[first],
    )


def _title(learner: Any) -> str:
    return learner.title or type(learner).__name__

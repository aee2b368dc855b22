"""From the options of a command to the plan of a run: what they name, and the settings that follow from them."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snnjax import NETWORKS, InputError, Network, Settings, SpikingNetwork
from snnjax.app import data_source, lookup, shared_options
from snnjax.app.names import DEFAULT_MODEL
from snnjax.core import devices
from snnjax.core.errors import image_size
from snnjax.data import Dataset
from snnjax.data.pictures import background
from snnjax.encoding import ENCODERS, ImageEncoder
from snnjax.kernels import backend
from snnjax.networks.images import with_encoder
from snnjax.runs.checkpoint_folder import backend_of
from snnjax.runs.pretrained import PREFIX
from snnjax.runs.trained import Trained
from snnjax.training.run_plan import RunPlan, encoded_by, network_for

NO_START = shared_options.Start()


def plan_run(
    chosen_network: shared_options.Network,
    chosen_data: shared_options.Data,
    training: shared_options.Epochs,
    machine: shared_options.Machine,
    start: shared_options.Start = NO_START,
    *,
    out: Path | None,
    kind: str = "",
    fold: int | None = None,
) -> tuple[RunPlan, Path]:
    """The plan of a run with these options, and its folder: `out` if given, or else named by `kind`, network and data.

    `fold` is the number of the part that is tested, from 1, which has a folder in that one; None: all is not cut into
    parts.
    """
    lookup.import_all(chosen_network.modules)
    read = data_source.read_images(chosen_data, fold)
    source = data_source.source(chosen_network, chosen_data, read, fold)
    seed = getattr(training, "seed", 0)
    images = data_source.learned(read, source | dict(test_images=chosen_data.test_images, seed=seed))
    trained = None if start.run is None else _read_start(start.run, images)
    network = with_encoder(network_of(chosen_network, images, trained), images)
    path = out or Path("runs") / f"{kind}{network.name}_{images.name}"
    if fold is not None:
        path = path / f"fold{fold}"
    settings = _settings(network, images, training, resolve_backend(machine.backend, network.time_steps, path))
    source |= _about(chosen_network, network, images, start)
    return RunPlan(network, images, settings, trained, start.learn or None, start.add_classes, source), path


def plan_of_trained(trained: Trained, images: Dataset, machine: shared_options.Machine) -> RunPlan:
    """The plan of a run that only tests a trained network."""
    network = trained.network
    epochs = (0,) * len(network.stages)
    return RunPlan(network, images, Settings(epochs, backend=resolve_backend(machine.backend, network.time_steps)))


def network_of(
    chosen: shared_options.Network,
    images: Dataset,
    start: SpikingNetwork | None = None,
    encoder: ImageEncoder | None = None,
) -> Network:
    """A published network by its name, or the user's as FILE.py:NAME, for the images of a data set.

    Without a name it is that of `start`, before it learned, for the classes of the images. `encoder` replaces the one
    that is chosen.
    """
    shared_options.check_least(chosen, time_steps=1)
    if chosen.model is None and start is not None:
        for name in ("encoder", "time_steps"):
            if (value := getattr(chosen, name)) is not None:
                raise InputError(f"`{name}` must be that of `start` (--from), got {value}: leave --{name} out")
        return start.untrained.with_classes(images.classes)
    if encoder is None and chosen.encoder is not None:
        encoder = lookup.find("encoder", chosen.encoder, ENCODERS)
    make = lookup.find("model", chosen.model or DEFAULT_MODEL, NETWORKS)
    if isinstance(make, Network):
        unchanged = encoder is None and chosen.time_steps is None
        return make if unchanged else encoded_by(make, images, encoder, chosen.time_steps)
    if not callable(make):
        raise InputError(f"`model` {chosen.model} must be a Network, or a function of `ImageSpec`, got {make!r}")
    return network_for(make, images, encoder, chosen.time_steps)


def resolve_backend(chosen: str, time_steps: int, path: Path | None = None) -> str:
    """The back end, "native" or "xla": as `chosen` or, by "auto", as the run in a folder has it, if there is one.

    Otherwise prints why "auto" is not "native". Raises InputError if it is not available to a run that needs it.
    """
    began = backend_of(path) if path and chosen == "auto" else "auto"
    if began == "native" and (why := backend.unavailable(time_steps)):
        raise InputError(f"the run in {path} began on the back end native: {why}")
    if began != "auto":
        return began
    found = backend.resolve(chosen, time_steps)
    if chosen == backend.current() == "auto" and found == "xla":
        print(f"on the back end xla: {backend.unavailable(time_steps)}")
    return found


def _read_start(run: Path, images: Dataset) -> SpikingNetwork:
    """The network to start from; raises InputError unless it takes images of this shape."""
    trained = Trained.read(run)
    shape = images.train_images.shape[1:]
    if trained.image_shape != shape:
        takes = image_size(trained.image_shape)
        got = image_size(shape)
        advice = "pictures are read in other sizes by --size, in grey by --no_colour"
        raise InputError(f"`start` (--from) takes images {takes}, those of {images.name} are {got}: {advice}")
    return trained.spiking_network()


def _settings(network: Network, images: Dataset, training: shared_options.Epochs, chosen_backend: str) -> Settings:
    """The settings of a run: the options that are given, and the defaults."""
    settings = Settings.of(network, images)
    options_of_settings = {name: value for name, value in vars(training).items() if name in vars(settings)}
    given = {name: value for name, value in options_of_settings.items() if value not in (None, ())}
    return dataclasses.replace(settings, **given, backend=chosen_backend)


def _about(
    chosen: shared_options.Network, network: Network, images: Dataset, start: shared_options.Start
) -> dict[str, Any]:
    """What else is kept with a run's results: names of the network and its encoder, and where it started."""
    about: dict[str, Any] = {}
    if start.run is not None:
        about["from"] = str(start.run) if str(start.run).startswith(PREFIX) else str(start.run.resolve())
    return about | dict(
        model=chosen.model or network.name,
        encoder=chosen.encoder or lookup.encoder_name(network.encoder),
        time_steps=network.time_steps,
        background=background(images.train_images),
    )


def ready(device: str, modules: Iterable[str]) -> None:
    """Makes a process ready to train: its device, and the user's modules."""
    devices.choose(device)
    lookup.import_all(modules)

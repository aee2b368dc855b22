"""Makes the plan of a run from the options of a command: the network, the data, and the settings."""

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
    """The plan of a run with these options, and its folder.

    The folder is `out` if it is given; otherwise its name consists of `kind`, network and data. `fold` is the number,
    from 1, of the part that is tested, for which there is a subfolder; None if the data are not split into folds.
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
    """The plan of a run that only tests a trained network, without training it."""
    network = trained.network
    epochs = (0,) * len(network.stages)
    return RunPlan(network, images, Settings(epochs, backend=resolve_backend(machine.backend, network.time_steps)))


def network_of(
    chosen: shared_options.Network,
    images: Dataset,
    start: SpikingNetwork | None = None,
    encoder: ImageEncoder | None = None,
) -> Network:
    """The network that options name, a published or a custom one (FILE.py:NAME), for the images of a data set.

    If the options name no network, it is the untrained network of `start`, for the classes of the images. `encoder`
    takes precedence over the encoder in the options.
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
    """The back end to use, "native" or "xla".

    This is `chosen` or, for "auto", the back end of the run in the folder `path`, if there is one. If "auto" turns out
    to be "xla", the reason is printed. Raises InputError if a back end is not available that the run requires.
    """
    began = backend_of(path) if path and chosen == "auto" else "auto"
    if began == "native" and (why := backend.unavailable(time_steps)):
        raise InputError(f"the run in {path} began on the native back end: {why}")
    if began != "auto":
        return began
    found = backend.resolve(chosen, time_steps)
    if chosen == backend.current() == "auto" and found == "xla":
        print(f"on the xla back end: {backend.unavailable(time_steps)}")
    return found


def _read_start(run: Path, images: Dataset) -> SpikingNetwork:
    """Reads the network to start from; raises InputError unless it expects images of the same shape."""
    trained = Trained.read(run)
    shape = images.train_images.shape[1:]
    if trained.image_shape != shape:
        takes = image_size(trained.image_shape)
        got = image_size(shape)
        advice = "pictures are read in other sizes by --size, in grey by --no_colour"
        raise InputError(f"`start` (--from) takes images {takes}, those of {images.name} are {got}: {advice}")
    return trained.spiking_network()


def _settings(network: Network, images: Dataset, training: shared_options.Epochs, chosen_backend: str) -> Settings:
    """The settings of a run: the given options, and defaults for all other settings."""
    settings = Settings.of(network, images)
    options_of_settings = {name: value for name, value in vars(training).items() if name in vars(settings)}
    given = {name: value for name, value in options_of_settings.items() if value not in (None, ())}
    return dataclasses.replace(settings, **given, backend=chosen_backend)


def _about(
    chosen: shared_options.Network, network: Network, images: Dataset, start: shared_options.Start
) -> dict[str, Any]:
    """Further data for the results of a run: names of the network and its encoder, and the run it started from."""
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
    """Prepares a process for training: selects the device, and imports custom modules."""
    devices.choose(device)
    lookup.import_all(modules)

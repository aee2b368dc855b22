"""`snnjax convert`: carries weights between snnjax and aidinattar/snn."""

import dataclasses

from snnjax import Images, InputError
from snnjax.app import by_name, options, shared_options
from snnjax.core import files
from snnjax.encoding import COLOUR, GREY
from snnjax.export import pytorch
from snnjax.runs.trained import Trained

OF_MAPS = {6: (GREY, (28, 28)), 18: (COLOUR, (32, 32, 3))}  # encoders of aidinattar/snn by maps, and image shapes


def run(chosen: options.Convert) -> None:
    """Converts in the direction that the source calls for."""
    source = chosen.source
    destination = chosen.destination
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    files.check_new(destination)
    if files.is_checkpoint(source):
        trained = Trained.read(source)
        if chosen.model not in (None, trained.network.name):
            raise InputError(f"`model` must be that of {source}, {trained.network.name}, got {chosen.model}")
        pytorch.write(destination, trained.network, trained.weights)
        print(f"{destination}: state_dict of {trained.network.name} for aidinattar/snn")
        return
    if destination.suffix != ".npz":
        raise InputError(f"`destination` must end in .npz for weights from {source}, got {destination}")
    if chosen.model is None:
        raise InputError(f"`model` must be named for the state_dict {source}")
    if chosen.channels not in OF_MAPS:
        raise InputError(f"`channels` must be one of {', '.join(map(str, OF_MAPS))}, got {chosen.channels}")
    shared_options.check_least(chosen, classes=1)
    encoder, shape = OF_MAPS[chosen.channels]
    network = by_name.published(chosen.model)(Images(shape, chosen.classes, encoder=encoder))
    network = dataclasses.replace(network, encoder=encoder, time_steps=encoder.time_steps)
    Trained(network, pytorch.read(source, network), shape, dict(model=network.name)).save(destination)
    print(f"{destination}: weights of {network.name} for snnjax")

"""`snnjax convert`: converts weights between snnjax and aidinattar/snn."""

import dataclasses

from snnjax import ImageSpec
from snnjax.app import lookup, options, shared_options
from snnjax.core import checks, files
from snnjax.encoding import COLOUR, GREY
from snnjax.export import pytorch
from snnjax.runs.trained import Trained

OF_MAPS = {6: (GREY, (28, 28)), 18: (COLOUR, (32, 32, 3))}  # encoders of aidinattar/snn and image shapes, by maps


def run(chosen: options.Convert) -> None:
    """Converts weights in the direction that the type of the source file determines."""
    source = chosen.source
    destination = chosen.destination
    files.check_exists(source)
    files.check_new(destination)
    if files.is_checkpoint(source):
        trained = Trained.read(source)
        if chosen.model is not None:
            checks.equal("model", chosen.model, trained.network.name, f"that of {source}")
        pytorch.write(destination, trained.network, trained.weights)
        print(f"{destination}: state_dict of {trained.network.name} for aidinattar/snn")
        return
    files.check_suffix(f"destination of weights from {source}", destination, ".npz")
    model = checks.given("model", chosen.model, f"named for the state_dict {source}")
    checks.one_of("channels", chosen.channels, OF_MAPS)
    shared_options.check_least(chosen, classes=1)
    encoder, shape = OF_MAPS[chosen.channels]
    network = lookup.published(model)(ImageSpec(shape, chosen.classes, encoder=encoder))
    network = dataclasses.replace(network, encoder=encoder, time_steps=encoder.time_steps)
    Trained(network, pytorch.read(source, network), shape, dict(model=network.name)).save(destination)
    print(f"{destination}: weights of {network.name} for snnjax")

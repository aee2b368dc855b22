"""Carries weights between snnjax and the PyTorch code github.com/aidinattar/snn; the source says which way.

python experiments/convert.py --model mozafari2018 models/mozafari2018_mnist_best.pth weights.npz
python experiments/convert.py runs/mozafari2018_digits/weights.npz mozafari2018.pth
"""

import dataclasses
from pathlib import Path

from simple_parsing import field

from snnjax import NETWORKS, InputError, files, pytorch
from snnjax.app import console
from snnjax.encoding import COLOUR, GREY
from snnjax.trained import Trained

ENCODERS = {6: (GREY, (28, 28)), 18: (COLOUR, (32, 32, 3))}  # those of the PyTorch code by maps, and their images


@dataclasses.dataclass(frozen=True)
class Options:
    """The files, and the network of a state_dict."""

    source: Path = field(positional=True, metavar="SOURCE", help="weights.npz of a run or state_dict (.pth, .pt, .npz)")
    destination: Path = field(positional=True, metavar="DESTINATION", help="file to write, of the other kind")
    model: str | None = field(None, choices=NETWORKS, help="the network of a state_dict; a run's file names it")
    channels: int = field(6, help="maps of an encoded image of a state_dict: 6 grey, 18 in colour")
    classes: int = field(10, help="classes of the network of a state_dict")


@console.command(Options, __doc__)
def main(options: Options) -> None:
    """Converts in the direction that the source calls for."""
    source, destination = options.source, options.destination
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    console.check_new(destination)
    if files.is_checkpoint(source):
        trained = Trained.read(source)
        if options.model not in (None, trained.network.name):
            raise InputError(f"`model` must be that of {source}, {trained.network.name}, got {options.model}")
        pytorch.write(destination, trained.network, trained.weights)
        print(f"{destination}: state_dict of {trained.network.name} for the PyTorch code")
        return
    if destination.suffix != ".npz":
        raise InputError(f"`destination` must end in .npz for weights from {source}, got {destination}")
    if options.model is None:
        raise InputError(f"`model` must be named for the state_dict {source}")
    if options.channels not in ENCODERS:
        raise InputError(f"`channels` must be one of {', '.join(map(str, ENCODERS))}, got {options.channels}")
    console.check_least(options, classes=1)
    encoder, shape = ENCODERS[options.channels]
    network = NETWORKS[options.model](encoder.output_shape(shape), options.classes)
    network = dataclasses.replace(network, encoder=encoder, time_steps=encoder.time_steps)
    Trained(network, pytorch.read(source, network), shape, dict(model=network.name)).save(destination)
    print(f"{destination}: weights of {network.name} for snnjax")


if __name__ == "__main__":
    main()

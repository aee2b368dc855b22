"""Carries weights between snnjax and the PyTorch code github.com/aidinattar/snn; the source says which way.

python experiments/convert.py --model mozafari2018 models/mozafari2018_mnist_best.pth weights.npz
python experiments/convert.py runs/mozafari2018_digits/weights.npz mozafari2018.pth
"""

import dataclasses
from pathlib import Path

from simple_parsing import field

from snnjax import checkpoint, pytorch
from snnjax.app import console
from snnjax.encoding import COLOUR, GREY, Encoder
from snnjax.errors import InputError
from snnjax.kernels import checks
from snnjax.networks import NETWORKS
from snnjax.trained import Trained


@dataclasses.dataclass(frozen=True)
class Options:
    """Which network's weights, from where and where to."""

    source: Path = field(
        positional=True,
        metavar="SOURCE",
        help="weights.npz of a run, or a state_dict of the PyTorch code: .pth, .pt or .npz",
    )
    destination: Path = field(positional=True, metavar="DESTINATION", help="file to write, of the other kind")
    model: str | None = field(
        default=None, help=f"the network of a state_dict: {', '.join(NETWORKS)}; a run's own file says it"
    )
    channels: int = field(default=6, help="maps of an encoded image of a state_dict: 6 grey, 18 in colour")
    classes: int = field(default=10, help="classes that the network of a state_dict tells apart")


def convert(options: Options) -> str:
    """Writes the destination and says what it is.

    Raises:
      InputError, OSError: options or files are bad, or torch is missing.
    """
    source, destination = options.source, options.destination
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    console.check_new(destination)
    if checkpoint.is_checkpoint(source):
        trained = Trained.read(source)
        if options.model not in (None, trained.network.name):
            raise InputError(f"`model` must be that of {source}, {trained.network.name}, got {options.model}")
        pytorch.write(destination, trained.network, trained.weights)
        return f"{destination}: state_dict of {trained.network.name} for the PyTorch code"
    if destination.suffix != ".npz":
        raise InputError(f"`destination` must end in .npz for weights from {source}, got {destination}")
    if options.model not in NETWORKS:
        raise InputError(f"`model` must be one of {', '.join(NETWORKS)} for a state_dict, got {options.model}")
    encoders = {len(each.bank.kernels) * each.bank.copies: (each, shape) for each, shape in KINDS}
    if options.channels not in encoders:
        raise InputError(f"`channels` must be one of {', '.join(map(str, encoders))}, got {options.channels}")
    checks.integer("classes", options.classes, 1)
    encoder, shape = encoders[options.channels]
    network = NETWORKS[options.model](encoder.output_shape(shape), options.classes)
    network = dataclasses.replace(network, encoder=encoder, time_steps=encoder.time_steps)
    Trained(network, pytorch.read(source, network), shape, dict(model=network.name)).save(destination)
    return f"{destination}: weights of {network.name} for snnjax"


KINDS: tuple[tuple[Encoder, tuple[int, ...]], ...] = ((GREY, (28, 28)), (COLOUR, (32, 32, 3)))
"""Encoders of the PyTorch code, and the images that they take there."""


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    with console.user_errors():
        print(convert(options))


if __name__ == "__main__":
    main()

"""Carries weights between snnjax and the PyTorch code github.com/aidinattar/snn; the source says which way.

python experiments/convert.py --model mozafari2018 models/mozafari2018_mnist_best.pth weights.npz
python experiments/convert.py --model mozafari2018 runs/mozafari2018_digits/weights.npz mozafari2018.pth
"""

import dataclasses
from pathlib import Path

import numpy as np
from simple_parsing import field

from snnjax import checkpoint, pytorch
from snnjax.app import console
from snnjax.encoding import COLOUR, GREY
from snnjax.errors import InputError
from snnjax.kernels import checks
from snnjax.networks import NETWORKS, Network
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
    model: str = field(default="mozafari2018", help=f"the network: {', '.join(NETWORKS)}")
    channels: int = field(default=6, help="maps of an encoded image")
    classes: int = field(default=10, help="classes that the network tells apart")


def convert(options: Options) -> str:
    """Writes the destination and says what it is.

    Raises:
      ValueError, OSError, ImportError: options or files are bad, or torch is missing.
    """
    if options.model not in NETWORKS:
        raise InputError(f"`model` must be one of {', '.join(NETWORKS)}, got {options.model!r}")
    for name in ("channels", "classes"):
        checks.integer(name, getattr(options, name), 1)
    spec = NETWORKS[options.model]((options.channels, 28, 28), options.classes)
    source, destination = options.source, options.destination
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    console.check_new(destination)
    if checkpoint.is_checkpoint(source):
        pytorch.write(destination, spec, run_weights(source, spec))
        return f"{destination}: state_dict of {spec.name} for the PyTorch code"
    if destination.suffix != ".npz":
        raise InputError(f"`destination` must end in .npz for weights from {source}, got {destination}")
    encoder = dataclasses.replace(GREY if options.channels == 6 else COLOUR, time_steps=spec.time_steps)
    Trained(spec, pytorch.read(source, spec), encoder, dict(model=spec.name)).save(destination)
    return f"{destination}: weights of {spec.name} for snnjax"


def run_weights(path: Path, spec: Network) -> dict[str, np.ndarray]:
    """The weights that a run left.

    Raises:
      ValueError: they are damaged, or of another network.
    """
    weights, meta = checkpoint.load(path)
    model = meta.get("settings", {}).get("model", spec.name)
    if model != spec.name:
        raise InputError(f"`model` must be that of {path}, {model}, got {spec.name}")
    return weights


def main(arguments: list[str] | None = None) -> None:
    """Runs from the command line."""
    options = console.options(Options, __doc__, arguments)
    with console.user_errors():
        print(convert(options))


if __name__ == "__main__":
    main()

"""What a layer's weights come from: a name of all that they depend on, so that a later run may use them again."""

import functools
import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

import snnjax
from snnjax.components import to_data
from snnjax.networks import Network
from snnjax.training.state import Phase, Settings


def fingerprint(network: Network, device: str) -> str:
    """Sixteen digits that tell the sources, versions and device of a program from all others.

    Args:
      network: whose components may be of a user's own files.
      device: the device's name; others round otherwise.
    """
    versions = (jax.__version__, jaxlib.__version__, np.__version__)
    return _hash(_library(), sorted(_own_sources(network)), versions, device)


def layer_key(origin: str, network: Network, phase: Phase, settings: Settings, data: str, before: Sequence[str]) -> str:
    """The name of what a layer that has learned alone depends on.

    Args:
      origin: the `fingerprint` it was trained with, from its first epoch to its last.
      network: the network.
      phase: of the layer.
      settings: of the training.
      data: digest of the training images.
      before: keys of the layers that have learned before it.
    """
    numbers: dict[str, np.ndarray] = {}
    encoder = to_data(network.encoder, numbers)
    stages = [to_data(each, numbers, str(at)) for at, each in enumerate(network.stages[: phase.stage])]
    branches = [to_data(each, numbers, f"b{at}") for at, each in enumerate(network.stages[phase.stage].branches)]
    arrays = {name: value.tolist() for name, value in numbers.items()}
    common = (network.input_shape, network.time_steps, settings.seed, settings.update_batch, settings.native)
    return _hash(origin, phase.__dict__, encoder, stages, branches, arrays, common, data, list(before))


def _hash(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _library() -> str:
    """Digest of the library's sources, but for what only shows or stores."""
    root, hashed = Path(snnjax.__file__).parent, hashlib.sha256()
    for path in sorted(path for kind in ("*.py", "*.cc") for path in root.rglob(kind)):
        if path.relative_to(root).parts[0] != "app":
            hashed.update(path.read_bytes())
    return hashed.hexdigest()


def _own_sources(network: Network) -> set[str]:
    """Digests of the files that define a network's components, where they are not the library's."""
    parts = [network.encoder, network.decision]
    for _, _, conv in network.layers():
        parts += [conv.competition, *conv.each_learner]
    files = set()
    for kind in {type(part) for part in parts if not type(part).__module__.startswith("snnjax.")}:
        try:
            files.add(hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest())
        except (OSError, TypeError):  # typed in by hand: nobody can say what it was
            files.add(f"{kind.__name__} {id(kind)}")
    return files

"""Keys of trained layers: digests of all that their weights depend on, so that a later run may use them again."""

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

import snnjax
from snnjax.core.components import to_data
from snnjax.networks import Network
from snnjax.training.state import Phase, Settings


def fingerprint(network: Network, device: str) -> str:
    """Digest of the library's and the components' sources, the versions, and the device's name (rounding differs)."""
    versions = (jax.__version__, jaxlib.__version__, np.__version__)
    return _hash(_library(), sorted(_custom_sources(network)), versions, device)


def layer_key(origin: str, network: Network, phase: Phase, settings: Settings, data: str, before: Sequence[str]) -> str:
    """Digest of all that the layers of an unsupervised phase depend on.

    `origin` is its `fingerprint`, `data` the digest of the training images; `before` are the keys of earlier layers.
    An encoder that is yet to be fitted to these images counts as it is described.
    """
    numbers: dict[str, np.ndarray] = {}
    last = max(phase.end - 1, phase.stage)
    stage = network.stages[last]
    parts = network.encoder, network.stages[:last], stage.branches, stage.inputs, stage.join
    described = to_data(parts, numbers)
    arrays = {name: value.tolist() for name, value in numbers.items()}
    names = ("seed", "update_batch", "native", "shuffle", "mirror")
    common = (network.input_shape, network.time_steps, *(getattr(settings, name) for name in names))
    return _hash(origin, phase._asdict(), described, arrays, common, data, list(before))


def _hash(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@functools.cache
def _library() -> str:
    """Digest of the library's sources, without those that only show, store or check."""
    root = Path(snnjax.__file__).parent
    hashed = hashlib.sha256()
    for path in sorted(path for kind in ("*.py", "*.cc", "*.h") for path in root.rglob(kind)):
        if path.relative_to(root).parts[0] not in ("app", "runs", "interop", "testing.py"):
            hashed.update(path.read_bytes())
    return hashed.hexdigest()


def _custom_sources(network: Network) -> set[str]:
    """Digests of the files of a network's components and of their base classes, without the library's."""
    digests = set()
    for kind in {base for cls in _classes(network) for base in cls.__mro__}:
        if kind.__module__ == "builtins" or kind.__module__.startswith("snnjax."):
            continue
        try:
            digests.add(hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest())
        except (OSError, TypeError):  # defined in an interactive session: its source is unknown
            digests.add(f"{kind.__name__} {id(kind)}")
    return digests


def _classes(value: Any) -> Iterator[type]:
    """The classes of a component and of all components in it."""
    if isinstance(value, tuple):
        for item in value:
            yield from _classes(item)
    elif dataclasses.is_dataclass(value):
        yield type(value)
        for field in dataclasses.fields(value):
            yield from _classes(getattr(value, field.name))

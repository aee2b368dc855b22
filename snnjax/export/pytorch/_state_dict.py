"""Reading and writing of state_dict files of aidinattar/snn."""

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from snnjax.core import checks, files
from snnjax.core.errors import InputError, MissingPackageError, explained, optional_package
from snnjax.data.names import some
from snnjax.layers.conv import Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import Network

MOST_BYTES = 1 << 31  # the most that an .npz file may contain, unzipped
_TORCH = (2, 10)  # the first version whose weights-only loading is safe: CVE-2025-32434 and CVE-2026-24747 are fixed
_WEIGHT = ".conv.weight"
_FIXED = "skip_connection"


def read(path: Path | str, network: Network) -> dict[str, np.ndarray]:
    """The weights of a network in a .npz, .pth or .pt file: (F, C, kh, kw) float32 for each layer, by name.

    The file contains a whole state_dict, or only its convolution weights. Learning rates in it are ignored, because the
    counters that belong to them are not in the file, and decisions do not depend on them.

    Raises OSError if the file cannot be opened; InputError if it is damaged, if it contains no state_dict or that of
    another network, or if `state_dict` would refuse its weights; ImportError if the file needs torch, and torch is not
    installed or too old to be safe.

    Examples:
      >>> import tempfile
      >>> import snnjax
      >>> from snnjax.export.pytorch import read, write
      >>> trained = snnjax.load("pretrained:mozafari2018_mnist")
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(f"{folder}/mozafari2018.npz", trained.network, trained.weights())
      ...     weights = read(f"{folder}/mozafari2018.npz", trained.network)
      >>> network = snnjax.SpikingNetwork(trained.network, weights=weights)
    """
    path = Path(path)
    # Until October 2024 a rule's layer was called conv_layer.
    entries = {name.replace("stdp.conv_layer.", "stdp.layer."): value for name, value in _entries(path).items()}
    actual = entries.keys()
    shapes = network.weight_shapes
    expected = set(state_dict(network, {layer: np.zeros(shape, np.float32) for layer, shape in shapes.items()}))
    blocks = blocks_of(network)
    convolutions = {_tensor(block) for block in blocks.values()}
    if entries and all(name in convolutions or name.endswith(_WEIGHT) for name in entries):
        expected = convolutions
    differences = {"it lacks": expected - actual, "it has the unexpected": actual - expected}
    reasons = [f"{problem} {_some(names)}" for problem, names in differences.items() if names]
    if reasons:
        raise InputError(f"{path} is not a state_dict of {network.name}: {', '.join(reasons)}")
    weights = {}
    for _, layer, conv in network.layers():
        block = blocks[layer]
        name = _tensor(block)
        with explained(str(path)):
            weights[layer] = _checked(name, entries[name], shapes[layer], conv)
        for rule in _rules(conv):
            duplicate = f"{block}.{rule}.layer.weight"
            if duplicate in entries and not np.array_equal(entries[duplicate], entries[name]):
                raise InputError(f"{path}: {duplicate} must be the same as {name}, got different weights")
    return weights


def write(path: Path | str, network: Network, weights: Mapping[str, Any]) -> None:
    """Writes a whole `state_dict` to a .npz, .pth or .pt file, atomically; raises the same errors as `read`.

    aidinattar/snn loads it with `model.load_state_dict(torch.load(path))`, and an .npz file with
    `model.load_state_dict({name: torch.from_numpy(value) for name, value in numpy.load(path).items()})`.

    Examples:
      >>> import tempfile
      >>> import snnjax
      >>> from snnjax.export.pytorch import write
      >>> trained = snnjax.load("pretrained:mozafari2018_mnist")
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write(f"{folder}/mozafari2018.npz", trained.network, trained.weights())
    """
    path = Path(path)
    torch = _torch(path)
    entries = state_dict(network, weights)
    with files.atomic_write(path) as temporary, temporary.open("wb") as file:
        if torch is None:
            np.savez(file, **entries)  # type: ignore[arg-type]
        else:
            tensors = {id(value): torch.tensor(value) for value in entries.values()}  # each array is saved once
            torch.save({name: tensors[id(value)] for name, value in entries.items()}, file)


def state_dict(network: Network, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The state_dict of the PyTorch network, float32 by name: the `weights`, (F, C, kh, kw) by layer, and the rates.

    The rates are those of the `network`. A layer that learns by STDP and then by reward (deepr2024) gets the rates of
    the latter. Raises InputError if a layer has a ramp, or if weights have the wrong shape or dtype, are not finite, or
    are negative although the rule does not allow it.

    Examples:
      >>> from snnjax.export.pytorch import state_dict
      >>> from snnjax.networks import mozafari2018
      >>> network = mozafari2018()
      >>> entries = state_dict(network, network.initial_weights())
      >>> entries["block1.conv.weight"].shape, entries["block1.stdp.ltp_0"].shape
      ((30, 6, 5, 5), (1,))
    """
    shapes = network.weight_shapes
    checks.same_names(f"weights of {network.name}", weights, shapes)
    limits = [x.ltp_max for _, _, conv in network.layers() for x in conv.each_learner if isinstance(x, STDP)]
    entries = {"max_ap": np.array([max(limits, default=STDP.ltp_max)], np.float32)}
    blocks = blocks_of(network)
    for _, layer, conv in network.layers():
        if conv.ramped:
            raise InputError(
                f"{layer} of {network.name} must fire while its inputs do, as in aidinattar/snn, but has a `ramp`"
            )
        block = blocks[layer]
        weight = _checked(f"weights[{layer!r}]", weights[layer], shapes[layer], conv)
        entries[_tensor(block)] = weight
        for rule, rates in _rules(conv).items():
            for feature in range(conv.features):
                for name, rate in zip(("ltp", "ltd"), rates, strict=True):
                    entries[f"{block}.{rule}.{name}_{feature}"] = np.array([rate], np.float32)
            entries[f"{block}.{rule}.layer.weight"] = weight
    return entries


def blocks_of(network: Network) -> dict[str, str]:
    """The name of each layer in aidinattar/snn, which counts learning stages; fixed layers are skip connections.

    Examples:
      >>> from snnjax.export.pytorch import blocks_of
      >>> from snnjax.networks import inception2024
      >>> [*blocks_of(inception2024()).items()][2:4]
      [('layer3_1', 'block3_1'), ('layer3_2', 'block3_2')]
    """
    blocks: dict[str, str] = {}
    learning = 0
    fixed = 0
    for names, stage in zip(network.names, network.stages, strict=True):
        if any(conv.each_learner for conv in stage.branches):
            learning += 1
            block = f"block{learning}"
        elif stage.branches:
            fixed += 1
            block = f"{_FIXED}{fixed if fixed > 1 else ''}"
        for name in names:
            _, *branch = name.split("_")
            blocks[name] = "_".join([block, *branch])
    return blocks


def _tensor(block: str) -> str:
    """The name of a block's weights in a state_dict."""
    return f"{block}.weight" if block.startswith(_FIXED) else block + _WEIGHT


def _rules(conv: Conv) -> dict[str, tuple[float, float]]:
    """The learning rules of a layer by their names in aidinattar/snn, with their initial (a+, a-)."""
    last = conv.each_learner[-1] if conv.each_learner else None
    if isinstance(last, RSTDP):
        return dict(stdp=last.reward, anti_stdp=last.punish)
    return dict(stdp=(last.ltp, last.ltd)) if isinstance(last, STDP) else {}


def _checked(name: str, value: Any, shape: tuple[int, ...], conv: Conv) -> np.ndarray:
    """The weights of a layer as float32."""
    array = np.asarray(value)
    checks.shape(name, array, shape, "the layer's weights")
    checks.array(name, array, None, "floats")
    with np.errstate(over="ignore"):  # values too large for float32 become infinite, and are refused
        array = array.astype(np.float32)
    checks.number(name, array, 0 if conv.monotone else -np.inf, arrays=True)
    return array


def _some(names: Iterable[str]) -> str:
    """The first of many names. Those of convolution weights are the most informative ones, so they come first."""
    return some(sorted(names, key=lambda name: (not name.endswith(_WEIGHT), name))) or "none"


def _entries(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a file, by name."""
    torch = _torch(path)
    if torch is None:
        return files.read_npz(path, "state_dict", MOST_BYTES)
    if tuple(map(int, torch.__version__.split(".")[:2])) < _TORCH:
        needed = ".".join(map(str, _TORCH))
        raise MissingPackageError(f"torch must be {needed} or newer to load {path} safely, got {torch.__version__}")
    entries = {}
    with (
        files.refuse_damaged(f"{path} is damaged or is not a state_dict"),
        path.open("rb") as file,
        warnings.catch_warnings(action="ignore"),
    ):
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # its own message advises to load the file with all code in it
            match = re.search(r"GLOBAL ([\w.]+)", str(error))
            code = match[1] if match else "something"
            raise InputError(f"it contains {code}, which torch does not load as weights") from error
        if not isinstance(loaded, dict):
            raise InputError(f"it must contain arrays by name, got {type(loaded).__name__}")
        for name, value in loaded.items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                raise InputError(f"{name!r} must be an array, got {type(value).__name__}")
            values = value.detach()
            entries[name] = (values.float() if values.is_floating_point() else values).numpy()  # NumPy has no bfloat16
    return entries


def _torch(path: Path) -> ModuleType | None:
    """The package that a .pth or .pt file needs; None for .npz."""
    if path.suffix == ".npz":
        return None
    files.check_suffix("path", path, ".npz", ".pth", ".pt")
    with optional_package(f"{path} needs PyTorch", "'snnjax[torch]', or use an .npz"):
        import torch
    return torch

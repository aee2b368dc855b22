"""A trained network as one file, with all that is needed to use it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from snnjax.core import checks, files
from snnjax.core.codec import from_data, to_data
from snnjax.core.errors import InputError, image_size
from snnjax.data import Dataset
from snnjax.data.names import checked, numbered
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.model import check_fitted, rounded_weights
from snnjax.runs import pretrained
from snnjax.runs.earlier import check_components
from snnjax.training.state import current_names

WEIGHTS, SWEEP = "weights.npz", "sweep.json"  # in the folder of a run, and of a sweep
STREAM = "stream.png"  # in the folder of a stream
WEIGHTS_FORMAT = 3
_BYTES = " * 256"  # behind the name of a layer whose weights are saved as bytes


@dataclasses.dataclass(frozen=True)
class Trained:
    """The contents of a run folder's weights.npz.

    Attributes:
      network: the description, with its encoder.
      weights: (F, C, kh, kw) float32 by layer, rounded by `rounded_weights`, so that all programs make the same
        decisions; if no layer has a ramp, this holds for all devices.
      image_shape: (H, W), or (H, W, 3) for colour images, or (H, W, 2) for events.
      settings: the settings of the run, as in its results.json.
      class_names: the name of each class; "0", "1", ... if none were given.
      initial: the original values of the numbers of the description that training has changed, by path.

    Examples:
      >>> from snnjax.runs import Trained
      >>> trained = Trained.read("pretrained:goupy2024_ncg_mnist")  # or the folder of a run
      >>> trained.image_shape, trained.weights["layer1"].shape
      ((28, 28), (128, 2, 5, 5))
      >>> trained.save("digits.npz")  # doctest: +SKIP
    """

    network: Network
    weights: dict[str, np.ndarray]
    image_shape: tuple[int, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    initial: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = checked(self.class_names, self.network.classes) or numbered(self.network.classes)
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "weights", rounded_weights(self.network, self.weights))

    def save(self, path: Path | str) -> None:
        """Writes it as one file, atomically; raises InputError if a part is no component or not fitted."""
        files.save_checkpoint(Path(path), *self.contents())

    def contents(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays of its file by name, and the JSON data; raises InputError as `save`."""
        check_fitted(self.network)
        arrays: dict[str, np.ndarray] = {}
        data = to_data(self.network, arrays)
        meta = dict(
            format=WEIGHTS_FORMAT,
            network=data,
            image_shape=self.image_shape,
            settings=self.settings,
            class_names=self.class_names,
            initial=self.initial,
        )
        weights = dict(_stored(name, values) for name, values in self.weights.items())
        return weights | arrays, meta

    @classmethod
    def read(cls, run: Path | str) -> "Trained":
        """Reads the weights of a run folder, or such a file, without executing code from it; raises as `load`."""
        path = weights_file(run)
        arrays, meta = files.load_checkpoint(path)
        if "image_shape" not in meta:
            raise InputError(f"{path} holds no trained network: name a run folder, or the {WEIGHTS} in it")
        files.check_format(path, meta, WEIGHTS_FORMAT, "load it with that version")
        check_components(path, meta)
        try:
            network = from_data(meta["network"], arrays)
            if not isinstance(network, Network) or network.encoder is None:
                raise InputError("it holds no network with an encoder")
            image_shape = tuple(map(int, meta["image_shape"]))
            shapes = network.weight_shapes
            if tuple(network.encoder.output_shape(image_shape)) != network.input_shape:
                raise InputError("its encoder does not make what its network takes")
            decides = network.decision is not None
            if decides:  # as many as it says that there are would be made
                checks.some("class_names", meta["class_names"], "the names of its classes")
            weights = {name: _restored(name, arrays) for name in shapes}
            sizes = {name: value.shape for name, value in weights.items()}
            checks.equal("weights", sizes, shapes)  # before anything is made in these shapes
            settings = current_names(meta["settings"])
            trained = cls(network, weights, image_shape, settings, meta["class_names"], dict(meta.get("initial", {})))
            trained.spiking_network()
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise InputError(f"{path} holds no trained network: {error}") from error
        return trained

    def spiking_network(self) -> SpikingNetwork:
        """The network with its weights, ready to call on images."""
        return SpikingNetwork(self.network, weights=self.weights, class_names=self.class_names, initial=self.initial)

    def matched(self, data: Dataset) -> Dataset:
        """A data set with its classes in the network's order, by their names.

        Raises InputError unless its images have the shape that the network expects, and its classes are the same. The
        names may differ if they are "0", "1", ... on one side; then the order is the same.
        """
        shape = data.test_images.shape[1:]
        if self.image_shape != shape:
            takes = image_size(self.image_shape)
            raise InputError(f"the network takes images {takes}, those of {data.name} are {image_size(shape)}")
        if self.network.decision is None:
            return data
        checks.equal(f"classes of {data.name}", data.classes, self.network.classes, "the network has these")
        ours = self.class_names
        theirs = data.names
        if {*ours} == {*theirs}:
            return _in_order(data, ours)
        if numbered(self.network.classes) not in (ours, theirs):
            raise InputError(f"the network's classes are {', '.join(ours)}; those of {data.name} {', '.join(theirs)}")
        return data


def _in_order(data: Dataset, class_names: tuple[str, ...]) -> Dataset:
    """A data set with its classes in the order of these names, which must be its own."""
    if class_names == data.names:
        return data
    numbers = np.array([class_names.index(name) for name in data.names], np.int32)
    held_out = data.validation_labels
    return dataclasses.replace(
        data,
        class_names=class_names,
        train_labels=numbers[data.train_labels],
        test_labels=numbers[data.test_labels],
        validation_labels=None if held_out is None else numbers[held_out],
    )


def _stored(name: str, weights: np.ndarray) -> tuple[str, np.ndarray]:
    """A layer's weights as saved in a file, by name: as bytes if all are multiples of 1/256 from 0 to below 1."""
    # Networks with 8-bit weights, as those that come with snnjax, need a quarter of the space this way.
    steps = weights * 256
    if np.all((steps >= 0) & (steps < 256) & (steps == np.rint(steps))):
        return f"{name}{_BYTES}", steps.astype(np.uint8)
    return name, weights


def _restored(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The weights of a layer, from the arrays of a file."""
    saved = arrays.get(f"{name}{_BYTES}")
    return arrays[name] if saved is None else saved.astype(np.float32) / 256


def weights_file(run: Path | str) -> Path:
    """The file of a trained network, or the one in the folder of a run; raises FileNotFoundError as `load`."""
    path = pretrained.resolved(run)
    return finished_file(path, WEIGHTS) if path.is_dir() or not path.exists() else path


def finished_file(run: Path, name: str) -> Path:
    """A file that is in the folder of each finished run; raises FileNotFoundError if there is none."""
    path = run / name
    if path.exists():
        return path
    if not run.exists():
        meant = f": did you mean {pretrained.PREFIX}{run}?" if str(run) in pretrained.cards() else ""
        problem = f"there is no run {run}{meant}"
    elif (run / SWEEP).exists():
        use = f"`evaluate` and `predict` take one of its files, such as {run / 'weights_000.npz'}"
        problem = f"{run} is the folder of a sweep, whose results are in {run / SWEEP}; {use}"
    else:
        finish = "`resume`, or its command with --resume, finishes one"
        problem = f"{run} holds no {name}: a run writes it last; {finish}"
    raise FileNotFoundError(problem)


def load(run: Path | str) -> SpikingNetwork:
    """The network that a run has trained, given its folder or its weights.npz: call it on an image, jit it, vmap it.

    The networks that come with snnjax have names such as "pretrained:goupy2024_ncg_mnist"; `snnjax pretrained` lists
    them. `network.class_name(network(image))` is the name of the class, and `network.class_names` are all names.

    Raises FileNotFoundError if there is no such run, or if it is not finished. Raises InputError if the file is
    damaged, if it contains no network, or if it needs a component that this program has not imported.

    Examples:
      >>> import numpy as np
      >>> import snnjax
      >>> network = snnjax.load("pretrained:goupy2024_ncg_mnist")
      >>> image = np.zeros((28, 28), np.uint8)
      >>> image[4:24, 13:15] = 255  # a vertical stroke
      >>> network.class_name(network(image))
      '1'
    """
    return Trained.read(run).spiking_network()

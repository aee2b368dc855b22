"""The folders of streams, with their checkpoints, from which they are resumed."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from snnjax.core import files
from snnjax.core.devices import on_host
from snnjax.runs.checkpoint_folder import CHECKPOINT, Arrays, CheckpointFolder, Json
from snnjax.runs.results_file import RESULTS
from snnjax.runs.stream import Stream
from snnjax.runs.trained import WEIGHTS
from snnjax.training.online import StreamState


class Course(NamedTuple):
    """The progress of a stream.

    It is replaced as a whole, so that an interrupt leaves either the earlier or the later progress.

    Attributes:
      state: the state of the stream.
      shown: the number of pictures shown, including those that could not be read.
      images: the number of pictures for which there was a decision or silence.
      silent: the number of pictures for which the network was silent.
      right: (labelled,) bool: for each labelled picture, whether the decision before learning was correct.
    """

    state: StreamState
    shown: int = 0
    images: int = 0
    silent: int = 0
    right: np.ndarray = np.zeros(0, bool)


class StreamFolder(CheckpointFolder):
    """The folder of a stream, which is created and locked during a `with` block.

    Attributes:
      course: the progress of the stream; assign to it before `save`.
      notes: messages about the start.

    Examples:
      >>> import snnjax
      >>> from snnjax.runs import StreamFolder
      >>> data = snnjax.data.digits()
      >>> stream = snnjax.Stream(snnjax.load("pretrained:goupy2024_ncg_mnist"))
      >>> with StreamFolder("streams/digits", stream, dict(data="digits"), resume=True) as folder:  # doctest: +SKIP
      ...     for number in range(folder.course.shown, 100):
      ...         _, state = stream.learn(folder.course.state, data.train_images[number], data.train_labels[number])
      ...         folder.course = folder.course._replace(state=state, shown=number + 1)
      ...         folder.save()
    """

    kind = "a stream"

    def __init__(
        self,
        path: Path | str,
        stream: Stream,
        settings: Json,
        seed: int = 0,
        resume: bool = False,
        about: Json | None = None,
        command: str = "",
    ):
        """The folder of a new stream or, with `resume`, of the stream that it contains.

        When a new stream enters the `with` block, a checkpoint is written as a test and removed again. `settings` are
        JSON data on which the result depends, besides the stream and its `seed`, such as a digest of the images. All
        other arguments and errors are as for `RunFolder`.
        """
        self.stream = stream
        self.course = Course(stream.init(seed))
        self._resume = resume
        start = {name: np.asarray(weights) for name, weights in stream.start.weights().items()}
        fixed = stream.settings | dict(seed=seed, start=f"sha256:{files.digest(start).hex()}")
        super().__init__(path, on_host(stream.start.network), settings | fixed, about, command)

    def _read(self) -> None:
        self._check_existing(self._resume, WEIGHTS, RESULTS)
        super()._read()
        if self.saved:
            self.notes.append(f"continuing after {self.course.shown:,} images")
            return
        if self._resume:
            self.notes.append("it holds no stream yet: a new one begins")
        with self.explain_losses():
            self.save()
        (self.path / CHECKPOINT).unlink()  # it was a test, before any learning, that there is enough space
        self._next_save = 0.0

    def _restore(self, arrays: Arrays, meta: Json) -> None:
        right = arrays["right"].astype(bool)
        state = self.stream.unflatten(arrays, meta)
        self.course = Course(state, int(meta["shown"]), int(meta["images"]), int(meta["silent"]), right)

    def save(self) -> None:
        """Writes a checkpoint; `due` tells when it is time to save."""
        arrays, meta = self.stream.flatten(self.course.state)
        course = self.course
        counts = dict(shown=course.shown, images=course.images, silent=course.silent)
        self._save_checkpoint(arrays | dict(right=course.right), meta | counts)

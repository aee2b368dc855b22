"""The folders of streams: their checkpoints, and how they resume."""

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
    """How far a stream has come. It is replaced as a whole, so that an interrupt leaves the one before or after.

    Attributes:
      state: of the stream.
      shown: pictures that have been shown, also those that could not be read.
      images: pictures that have been decided.
      silent: how many of them the network stayed silent for.
      right: of each with a label, whether it was decided right before it was learned, (labelled,) bool.
    """

    state: StreamState
    shown: int = 0
    images: int = 0
    silent: int = 0
    right: np.ndarray = np.zeros(0, bool)


class StreamFolder(CheckpointFolder):
    """A folder that one stream creates and locks for a `with` block; see its `course` and `notes`."""

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
        """The folder of a new stream or, with `resume`, of the one that it holds.

        The `with` block makes sure that a checkpoint can be written into the folder. `settings` are JSON data on which
        the result depends besides the stream and its `seed`, such as a digest of the images. All other arguments and
        errors are as of `RunFolder`.
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
            self.notes.append(f"going on after {self.course.shown:,} images")
            return
        if self._resume:
            self.notes.append("it holds no stream yet: one begins")
        with self.explain_losses():
            self.save()
        (self.path / CHECKPOINT).unlink()  # it was to show, before anything is learned, that there is room for one
        self._next_save = 0.0

    def _restore(self, arrays: Arrays, meta: Json) -> None:
        right = arrays["right"].astype(bool)
        state = self.stream.unflatten(arrays, meta)
        self.course = Course(state, int(meta["shown"]), int(meta["images"]), int(meta["silent"]), right)

    def save(self) -> None:
        """Writes a checkpoint; `due` says when that is worth the time."""
        arrays, meta = self.stream.flatten(self.course.state)
        course = self.course
        counts = dict(shown=course.shown, images=course.images, silent=course.silent)
        self._save_checkpoint(arrays | dict(right=course.right), meta | counts)

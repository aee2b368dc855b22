"""`snnjax stream`: a trained network decides on pictures one by one, and learns from each."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snnjax import InputError, Stream, data
from snnjax.app import console, interrupts, options, parts, plots, run_data
from snnjax.app.commands.predict import label_of, pictures_in, readable, reader_of
from snnjax.app.main import COMMAND
from snnjax.core import files
from snnjax.core.errors import printable, unknown
from snnjax.runs.results_file import RESULTS, versions
from snnjax.runs.trained import STREAM, WEIGHTS, Trained

BLOCK = 64  # images between two looks at the accuracy
BAR = "decide, then learn"


class Pictures(NamedTuple):
    """Images that come one by one.

    Attributes:
      name: of the folder or the data set.
      labels: (N,) int32, -1 where the class is not known.
      read: gives the pixels of image number i; None where it cannot be read.
      notes: sentences about them.
    """

    name: str
    labels: np.ndarray
    read: Callable[[int], np.ndarray | None]
    notes: list[str]


@dataclasses.dataclass
class Course:
    """How a stream has gone so far.

    Attributes:
      state: of the stream.
      images: their number.
      silent: how many of them the network stayed silent for.
      right: of each with a label, whether it was decided right before it was learned.
    """

    state: Any
    images: int = 0
    silent: int = 0
    right: list[bool] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        """The accuracy of all and of the last decisions in words."""
        if not self.right:
            return "no accuracy without labels"
        last = self.right[-plots.WINDOW :]
        return f"accuracy {np.mean(self.right):.1%}, of the last {len(last):,} {np.mean(last):.1%}"


def pictures(chosen: options.Stream, trained: Trained) -> Pictures:
    """The pictures of a folder, with the nearest folder named after a class as label, or a data set's training images.

    Raises InputError where none has a label, or the data set has other classes than the network.
    """
    name = chosen.pictures
    if Path(name).is_dir():
        return _of_folder(chosen, trained, Path(name))
    known = (*data.DATASETS, *data.RECORDINGS)
    if name not in known and not name.endswith(".npz"):
        raise unknown("PICTURES", name, known, ", an .npz file or a folder of pictures")
    size = trained.image_shape[:2] if name in data.RECORDINGS else ()
    images = trained.matched(parts.load(dict(dataset=name, data_dir=chosen.data_dir, size=size)))
    notes = console.notes(images)
    if run_data.is_own(images, trained.settings):
        notes.append(f"the network was trained on images of {images.name}: it knows them, which flatters")
    images = images.first(chosen.train_images, None)
    return Pictures(images.name, images.train_labels, images.train_images.__getitem__, notes)


def _of_folder(chosen: options.Stream, trained: Trained, folder: Path) -> Pictures:
    paths = pictures_in(folder)
    names = trained.class_names
    labels = [label_of(path, names) for path in paths]
    unlabelled = labels.count("")
    if unlabelled == len(labels):
        lies = "must have a folder for each class, named after it"
        raise InputError(f"`PICTURES` {folder} {lies}, the network's are {', '.join(names)}: got none")
    notes = []
    if unlabelled:
        where = "pictures lie in no folder named after a class: they are only decided"
        notes.append(f"{unlabelled:,} of {len(labels):,} {where}")
    numbers = np.array([names.index(label) if label else -1 for label in labels], np.int32)
    read = functools.partial(readable, reader_of(chosen, trained))

    def pixels(number: int) -> np.ndarray | None:
        found = read(paths[number])
        return None if found is None else found[0]

    return Pictures(folder.resolve().name, numbers, pixels, notes)


def learn(stream: Stream, course: Course, shown: Pictures, order: np.ndarray, bars: console.Bars) -> None:
    """Lets a stream learn from images in an order, and shows how it goes."""
    for start in range(0, len(order), BLOCK):
        numbers = order[start : start + BLOCK]
        read = {number: shown.read(number) for number in numbers.tolist()}
        images = {number: image for number, image in read.items() if image is not None}
        if images:
            labels = shown.labels[list(images)]
            pixels = np.stack(list(images.values()))
            decisions, state = stream.learn(course.state, pixels, labels)
            decided = np.asarray(decisions)
            course.state = state
            course.images += len(labels)
            course.silent += int(np.sum(decided < 0))
            course.right += (decided == labels)[labels >= 0].tolist()
        bars.advanced(len(numbers), 0)
        bars.note(str(course))


def keep(chosen: options.Stream, trained: Trained, stream: Stream, course: Course, out: Path) -> None:
    """Writes what was learned, and how it went, into a new folder; prints a summary."""
    out.mkdir(parents=True)
    source = trained.settings | dict(stream=dict(run=str(chosen.run), pictures=chosen.pictures))
    stream.save(course.state, out / WEIGHTS, source)
    right = np.array(course.right, bool)
    ends = np.arange(BLOCK, len(right) + BLOCK, BLOCK).clip(max=len(right))
    silent = course.silent / course.images
    results = dict(
        run=str(chosen.run),
        pictures=chosen.pictures,
        network=trained.network.name,
        class_names=list(trained.class_names),
        images=course.images,
        labelled=len(right),
        accuracy=float(right.mean()) if len(right) else None,
        accuracy_of_last=float(right[-plots.WINDOW :].mean()) if len(right) else None,
        silent=silent,
        curve=[dict(images=int(end), accuracy_of_last=float(right[:end][-plots.WINDOW :].mean())) for end in ends],
        settings=dict(memory=chosen.memory, replays=chosen.replays, shuffle=chosen.shuffle, seed=chosen.seed),
        command=COMMAND.get(),
        versions=versions(),
    )
    files.write_json(out / RESULTS, results)
    plots.write(out / STREAM, plots.stream_picture(right))
    print(f"{course.images:,} images, {len(right):,} with labels: {course}, silent {silent:.1%}")
    print(printable(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}"))


def run(chosen: options.Stream) -> None:
    """Decides and learns to the end or until it is interrupted, and keeps what was learned."""
    parts.import_all(chosen.modules)
    parts.check_least(chosen, train_images=1)
    trained = Trained.read(chosen.run)
    native = parts.use_native(chosen.machine.kernels, trained.network.time_steps)
    stream = Stream(trained.spiking_network(), chosen.memory, chosen.replays, native=native)
    shown = pictures(chosen, trained)
    out = chosen.out or Path("runs") / f"stream_{trained.network.name}_{shown.name}"
    if out.exists():
        raise FileExistsError(f"{out} already exists: name another folder by --out")
    count = len(shown.labels)
    order = np.random.default_rng(chosen.seed).permutation(count) if chosen.shuffle else np.arange(count)
    for note in shown.notes:
        print(note)
    print(printable(f"{trained.network.name} on {count:,} images of {shown.name}; into {out}"))
    course = Course(stream.init(chosen.seed))
    begin = time.perf_counter()
    try:
        with console.Bars() as bars:
            bars.started(BAR, count)
            learn(stream, course, shown, order, bars)
            bars.finished(dict(name=BAR, images_per_second=count / (time.perf_counter() - begin)))
    except KeyboardInterrupt:
        interrupts.ignore()
        if course.images:
            keep(chosen, trained, stream, course, out)
        raise
    if not course.images:
        raise InputError(f"none of {count:,} pictures can be read")
    keep(chosen, trained, stream, course, out)

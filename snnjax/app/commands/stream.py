"""`snnjax stream`: a trained network decides on pictures one at a time, and learns from each of them."""

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from snnjax import InputError, Stream, data
from snnjax.app import console, data_source, interrupts, lookup, options, planning, plots, run_data, shared_options
from snnjax.app.commands.predict import label_of, pictures_in, readable, reader_of
from snnjax.app.main import COMMAND
from snnjax.core import checks, files
from snnjax.core.errors import printable
from snnjax.runs.results_file import RESULTS, versions
from snnjax.runs.stream import check_learns
from snnjax.runs.stream_folder import StreamFolder
from snnjax.runs.trained import STREAM, WEIGHTS, Trained

BATCH_SIZE = 64  # images per call, after which the accuracy is shown
BAR = "decide, then learn"


class Pictures(NamedTuple):
    """The images of a stream.

    Attributes:
      name: the name of the folder or the data set.
      labels: (N,) int32, -1 if the class is unknown.
      read: a function that returns the pixels of an image, given its index; None if it cannot be read.
      notes: sentences about the images.
      digest: a digest of all labels, and of the pixels of a data set or the paths, sizes and times of files.
    """

    name: str
    labels: np.ndarray
    read: Callable[[int], np.ndarray | None]
    notes: list[str]
    digest: str


def accuracy_of(right: np.ndarray) -> str:
    """The accuracies of all decisions and of recent decisions as text, given which decisions were right."""
    if not len(right):
        return "no accuracy without labels"
    last = right[-plots.WINDOW :]
    return f"accuracy {right.mean():.1%}, of the last {len(last):,} {last.mean():.1%}"


def pictures(chosen: options.Stream, trained: Trained) -> Pictures:
    """The pictures of a folder, or the training images of a data set.

    The label of a picture is the nearest folder that is named after a class. Raises InputError if no picture has a
    label, or if the classes of the data set differ from those of the network.
    """
    name = chosen.pictures
    if Path(name).is_dir():
        return _of_folder(chosen, trained, Path(name))
    known = (*data.DATASETS, *data.RECORDINGS)
    if not name.endswith(".npz"):
        checks.one_of("PICTURES", name, known, ", an .npz file or a folder of pictures")
    size = trained.image_shape[:2] if name in data.RECORDINGS else ()
    images = trained.matched(data_source.load(dict(dataset=name, data_dir=chosen.data_dir, size=size)))
    notes = console.notes(images)
    if run_data.is_own(images, trained.settings):
        notes.append(f"the network was trained on images of {images.name}: the accuracy is too optimistic")
    images = images.subset(chosen.train_images, None)
    return Pictures(images.name, images.train_labels, images.train_images.__getitem__, notes, images.digest)


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
        where = "pictures are in no folder named after a class: the network decides, but does not learn from them"
        notes.append(f"{unlabelled:,} of {len(labels):,} {where}")
    numbers = np.array([names.index(label) if label else -1 for label in labels], np.int32)
    read = functools.partial(readable, reader_of(chosen, trained))

    def pixels(number: int) -> np.ndarray | None:
        found = read(paths[number])
        return None if found is None else found[0]

    return Pictures(folder.resolve().name, numbers, pixels, notes, _digest(folder, paths, labels))


def _digest(folder: Path, paths: Sequence[Path], labels: Sequence[str]) -> str:
    """The SHA-256 of the paths of pictures in a folder, their labels, their sizes, and the times of their last changes.

    Their contents are not read, because this would take as long as reading them for the whole stream.
    """
    hashed = hashlib.sha256()
    for path, label in zip(paths, labels, strict=True):
        described: list[str | int] = [os.path.relpath(path, folder), label]
        with contextlib.suppress(OSError):  # for example, for a link that leads nowhere
            about = path.stat()
            described += [about.st_size, about.st_mtime_ns]
        hashed.update(json.dumps(described).encode())
    return hashed.hexdigest()


def learn(folder: StreamFolder, shown: Pictures, order: np.ndarray, bars: console.Bars) -> None:
    """Continues a stream with the remaining images in this order, shows its progress, and saves it regularly."""
    for start in range(folder.course.shown, len(order), BATCH_SIZE):
        numbers = order[start : start + BATCH_SIZE]
        read = {number: shown.read(number) for number in numbers.tolist()}
        images = {number: image for number, image in read.items() if image is not None}
        course = folder.course._replace(shown=start + len(numbers))
        if images:
            labels = shown.labels[list(images)]
            pixels = np.stack(list(images.values()))
            decisions, state = folder.stream.learn(course.state, pixels, labels)
            decided = np.asarray(decisions)
            course = course._replace(
                state=state,
                images=course.images + len(labels),
                silent=course.silent + int(np.sum(decided < 0)),
                right=np.append(course.right, (decided == labels)[labels >= 0]),
            )
        folder.course = course
        bars.advanced(len(numbers), 0)
        bars.note(accuracy_of(course.right))
        if course.images and folder.due:
            with folder.explain_losses():
                folder.save()


def learn_rest(folder: StreamFolder, shown: Pictures, order: np.ndarray) -> None:
    """Calls `learn` and shows a progress bar; if all images have been shown before, prints a line instead."""
    left = len(order) - folder.course.shown
    if not left:
        print("nothing is left to learn: the stream is finished")
        return
    started = time.perf_counter()
    with console.Bars() as bars:
        bars.started(BAR, left)
        learn(folder, shown, order, bars)
        bars.finished(dict(name=BAR, images_per_second=left / (time.perf_counter() - started)))


def keep(chosen: options.Stream, trained: Trained, folder: StreamFolder) -> None:
    """Writes the weights, the results and the figure of a stream into its folder, unless nothing was decided."""
    course = folder.course
    if not course.images:
        return
    folder.save()
    source = trained.settings | dict(stream=dict(run=str(chosen.run), pictures=chosen.pictures))
    folder.stream.save(course.state, folder.path / WEIGHTS, source)
    right = course.right
    plots.write(folder.path / STREAM, plots.stream_picture(right))
    ends = np.arange(BATCH_SIZE, len(right) + BATCH_SIZE, BATCH_SIZE).clip(max=len(right))
    results = dict(
        run=str(chosen.run),
        pictures=chosen.pictures,
        network=trained.network.name,
        class_names=list(trained.class_names),
        images=course.images,
        labelled=len(right),
        accuracy=float(right.mean()) if len(right) else None,
        accuracy_of_last=float(right[-plots.WINDOW :].mean()) if len(right) else None,
        silent=course.silent / course.images,
        curve=[dict(images=int(end), accuracy_of_last=float(right[:end][-plots.WINDOW :].mean())) for end in ends],
        settings=dict(memory=chosen.memory, replays=chosen.replays, shuffle=chosen.shuffle, seed=chosen.seed),
        command=folder.command,
        versions=versions(),
        seconds=folder.seconds,
    )
    files.write_json(folder.path / RESULTS, results)


def keep_stopped(chosen: options.Stream, trained: Trained, folder: StreamFolder) -> None:
    """Calls `keep` for a stream that is stopped, ignoring further interrupts, and sets the last line to print."""
    interrupts.ignore()
    last_line = "Stopped before anything was learned."
    if folder.course.images:
        kept = f"Stopped after {folder.course.shown:,} images; what was learned is kept in {folder.path}."
        last_line = printable(f"{kept} Continue with the same command and --resume.")
    interrupts.LAST_LINE.set(last_line)
    try:
        with folder.explain_losses():
            keep(chosen, trained, folder)
    except OSError as error:
        interrupts.LAST_LINE.set(f"Stopped. {error}")
        raise


def run(chosen: options.Stream) -> None:
    """Runs the stream to the end or until it is stopped, and writes its results."""
    begin = time.perf_counter()
    lookup.import_all(chosen.modules)
    shared_options.check_least(chosen, train_images=1)
    trained = Trained.read(chosen.run)
    check_learns(trained.network)
    shown = pictures(chosen, trained)
    path = chosen.out or Path("runs") / f"stream_{trained.network.name}_{shown.name}"
    found = planning.resolve_backend(chosen.machine.backend, trained.network.time_steps, path)
    stream = Stream(trained.spiking_network(), chosen.memory, chosen.replays, backend=found)
    count = len(shown.labels)
    order = np.random.default_rng(chosen.seed).permutation(count) if chosen.shuffle else np.arange(count)
    fixed = dict(data=f"sha256:{shown.digest}", images=count)
    fixed |= {name: getattr(chosen, name) for name in ("shuffle", "as_is", "invert")}
    about = dict(run=str(chosen.run), pictures=chosen.pictures)
    command = COMMAND.get().replace(" --resume", "")  # so that it starts the stream again
    with StreamFolder(path, stream, fixed, chosen.seed, chosen.resume, about, command) as folder:
        folder.since = begin
        print(printable(f"{trained.network.name} on {count:,} images of {shown.name}; into {path}"))
        print(*shown.notes, *folder.notes, sep="\n", end="\n" if shown.notes or folder.notes else "")
        try:
            learn_rest(folder, shown, order)
        except (Exception, KeyboardInterrupt):
            keep_stopped(chosen, trained, folder)
            raise
        course = folder.course
        if not course.images:
            raise InputError(f"none of {count:,} pictures can be read")
        with folder.explain_losses():
            keep(chosen, trained, folder)
        silent = course.silent / course.images
        accuracy = accuracy_of(course.right)
        print(f"{course.images:,} images, {len(course.right):,} with labels: {accuracy}, silent {silent:.1%}")
        names = sorted(file.name for file in path.iterdir() if file.name[0] != ".")
        print(printable(f"{path}: {', '.join(names)}"))

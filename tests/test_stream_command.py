"""`snnjax stream`: what it decides, learns, says and leaves."""

import errno
import itertools
import os
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tiny
from command import RUN, Command, called, read, refused
from PIL import Image

import snnjax
from snnjax import Stream
from snnjax.app.commands import stream as command
from snnjax.core import files
from snnjax.runs import checkpoint_folder

DATA = tiny.images()
X = DATA.train_images
Y = DATA.train_labels
STREAM = Command("stream")


def pictures(folder) -> None:
    """Six pictures of two classes in folders, and one of no class."""
    for number in range(6):
        name = folder / str(Y[number])
        name.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[number].astype(np.uint8)).save(name / f"{number}.png")
    shutil.copy("digit.png", folder / "unknown.png")
    (folder / "broken.png").write_bytes(b"no picture")


def test_a_data_set_is_decided_then_learned_in_an_order_by_seed(work, capsys):
    out = called(capsys, "stream", RUN, "digits", "--train_images", 40, "--seed", 3, "--out", "streamed")
    left = ["checkpoint.npz", "checkpoint.previous.npz", "results.json", "stream.png", "weights.npz"]
    assert sorted(path.name for path in (work / "streamed").iterdir()) == left
    results = read("streamed")
    stream = Stream(snnjax.load(RUN))
    order = np.random.default_rng(3).permutation(40)
    decisions, state = stream.learn(stream.init(3), X[order], Y[order])
    right = np.asarray(decisions) == Y[order]
    assert (results["images"], results["labelled"], results["accuracy"]) == (40, 40, right.mean())
    assert results["curve"] == [dict(images=40, accuracy_of_last=right.mean())]
    loaded = snnjax.load("streamed")
    for name, weights in stream.network(state).weights().items():
        np.testing.assert_array_equal(loaded.weights()[name], weights)
    assert f"accuracy {right.mean():.1%}, of the last 40 {right.mean():.1%}" in out
    assert "the network was trained on images of digits" in out
    assert f"streamed: {', '.join(left)}" in out
    assert "40 test images of digits" in called(capsys, "evaluate", "streamed")
    assert "streamed is the folder of a stream" in refused(Command("report"), capsys, "streamed")
    called(capsys, "cost", "streamed", "--test_images", 4)
    line = refused(STREAM, capsys, RUN, "digits", "--out", "streamed")
    assert "streamed already holds a stream (weights.npz, results.json, checkpoint.npz" in line
    line = refused(Command("train"), capsys, *tiny.TRAIN, "--out", "streamed", "--resume")
    assert "streamed holds a stream, not a run: name another folder" in line
    state = stream.load_state("streamed/checkpoint.npz")
    assert int(state.carry.counts.seen) == 40


def test_a_folder_of_pictures_names_the_classes(work, capsys):
    pictures(work / "shown")
    out = called(capsys, "stream", RUN, "shown", "--no_shuffle", "--memory", 2, "--replays", 1)
    assert "2 of 8 pictures are in no folder named after a class: the network decides, but does not" in out
    assert "7 images, 6 with labels: accuracy" in out
    results = read("runs/stream_plain_shown")
    assert (results["settings"]["memory"], results["labelled"], results["images"]) == (2, 6, 7)
    shutil.rmtree("runs/stream_plain_shown")


BATCH_SIZE = 16
STREAMED = [RUN, "digits", "--train_images", 40, "--memory", 2, "--replays", 1]


def at_batch(monkeypatch, number, action) -> None:
    """Lets `action` run before a stream learns from a batch of 16 images, the first of which is number 0."""
    learn = Stream.learn
    calls = itertools.count()

    def learned(self, state, image, label=None):
        if next(calls) == number:
            action()
        return learn(self, state, image, label)

    monkeypatch.setattr(command, "BATCH_SIZE", BATCH_SIZE)
    monkeypatch.setattr(Stream, "learn", learned)


def stop(error):
    def action():
        raise error

    return action


@pytest.fixture
def whole(work):
    """The stream that none has stopped: its state, and which decisions were right."""
    stream = Stream(snnjax.load(RUN), 2, 1)
    order = np.random.default_rng(0).permutation(40)
    decisions, state = stream.learn(stream.init(0), X[order], Y[order])
    return stream.flatten(state)[0], np.asarray(decisions) == Y[order]


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (KeyboardInterrupt(), 2),
        (OSError("the disk of the pictures is gone"), 2),
        pytest.param(SystemExit(9), 1, marks=pytest.mark.slow),
    ],
    ids=["interrupt", "error", "kill"],
)
def test_a_stopped_stream_goes_on_as_if_it_had_not_stopped(work, capsys, monkeypatch, whole, error, kept):
    """What was learned before an interrupt or an error is kept; a kill leaves the last checkpoint."""
    out = work / "stopped"
    with monkeypatch.context() as patch:
        at_batch(patch, 2, stop(error))
        patch.setattr(checkpoint_folder, "PAUSE", 1000)  # only the first batch is saved while it learns
        with pytest.raises(SystemExit):
            STREAM.main([*STREAMED, "--out", out])
    printed = capsys.readouterr()
    _, meta = files.load_checkpoint(out / "checkpoint.npz")
    assert (meta["images"], meta["shown"]) == (kept * BATCH_SIZE, kept * BATCH_SIZE)
    if kept == 2:
        assert read(out)["images"] == 32
        assert not np.array_equal(snnjax.load(out).weights()["layer2"], snnjax.load(RUN).weights()["layer2"])
    if isinstance(error, KeyboardInterrupt):
        advice = "Continue with the same command and --resume."
        assert f"Stopped after 32 images; what was learned is kept in {out}. {advice}" in printed.out
    assert "already holds a stream" in refused(STREAM, capsys, *STREAMED, "--out", out)
    line = refused(STREAM, capsys, *STREAMED, "--seed", 1, "--resume", "--out", out)
    assert f"the stream in {out} cannot be resumed with other settings or data: it had seed 0 (now 1)" in line
    line = refused(STREAM, capsys, RUN, "digits", "--train_images", 30, "--resume", "--out", out)
    assert "images 40 (now 30), memory 2 (now 0), replays 1 (now 0)" in line
    said = called(capsys, "stream", *STREAMED, "--resume", "--out", out)
    assert f"continuing after {kept * BATCH_SIZE} images" in said
    arrays, meta = files.load_checkpoint(out / "checkpoint.npz")
    expected, right = whole
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, name)
    np.testing.assert_array_equal(arrays["right"], right)
    assert (read(out)["images"], read(out)["accuracy"]) == (40, right.mean())
    assert "--resume" not in read(out)["command"]
    said = called(capsys, "stream", *STREAMED, "--resume", "--out", out)
    assert "continuing after 40 images nothing is left to learn: the stream is finished 40 images, 40 with" in said
    assert "img/s" not in said


def test_one_stream_at_a_time_has_a_folder(work, capsys, monkeypatch):
    """The second one is refused before it learns anything; without an image that was learned nothing stays."""
    lines = []

    def second():
        lines.append(refused(STREAM, capsys, *STREAMED, "--out", "shared"))
        raise KeyboardInterrupt

    at_batch(monkeypatch, 0, second)
    with pytest.raises(SystemExit):
        STREAM.main([*STREAMED, "--out", "shared"])
    assert "another run is writing into shared: name another folder" in lines[0]
    assert "Stopped before anything was learned." in capsys.readouterr().out
    assert [*(work / "shared").iterdir()] == []


def test_a_full_disk_is_found_at_once_and_later_costs_half_a_minute(work, capsys, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(files, "save_checkpoint", mock.Mock(side_effect=full))
        patch.setattr(Stream, "learn", mock.Mock(side_effect=AssertionError))
        line = refused(STREAM, capsys, *STREAMED, "--out", "full")
    assert "No space left on device; nothing was kept: name another folder" in line
    line = refused(STREAM, capsys, *STREAMED, "--out", "digit.png/below")
    assert "Not a directory: 'digit.png/below': name another folder" in line
    for error in (None, KeyboardInterrupt()):
        shutil.rmtree("full")
        with monkeypatch.context() as patch:
            write = mock.Mock(side_effect=full)

            def fill(patch=patch, write=write, error=error):
                patch.setattr(files, "save_checkpoint", write)
                if error:
                    raise error

            patch.setattr(checkpoint_folder, "PAUSE", 0)
            at_batch(patch, 1, fill)
            with pytest.raises(SystemExit) as caught:
                STREAM.main([*STREAMED, "--out", "full"])
            line = capsys.readouterr().err
        assert caught.value.code == 2
        advice = (
            "full keeps all but the last half minute: make room, or copy it to another disk, and continue by --resume"
        )
        assert advice in line
        assert files.load_checkpoint(work / "full" / "checkpoint.npz")[1]["images"] == 16
    moved = shutil.copytree("full", "elsewhere")
    assert "continuing after 16 images" in called(capsys, "stream", *STREAMED, "--resume", "--out", moved)


def test_other_pictures_are_another_stream(work, capsys):
    pictures(work / "changing")
    stream = ["stream", RUN, "changing", "--out", "of_changing"]
    called(capsys, *stream)
    called(capsys, *stream, "--resume")
    with (work / "changing" / str(Y[0]) / "0.png").open("ab") as file:
        file.write(b"more")
    assert "cannot be resumed with other settings or data" in refused(STREAM, capsys, *stream[1:], "--resume")


def test_pictures_are_told_apart_without_reading_them(tmp_path, monkeypatch):
    """By name, label, size and the time of their last change; some lead nowhere."""
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").symlink_to("nowhere")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    monkeypatch.setattr(Path, "open", mock.Mock(side_effect=AssertionError))
    first = command._digest(tmp_path, paths, ["", "x"])
    assert command._digest(tmp_path, paths, ["", "x"]) == first
    assert command._digest(tmp_path, paths, ["x", "x"]) != first
    os.utime(paths[0], (0, 0))
    changed = command._digest(tmp_path, paths, ["", "x"])
    assert changed != first
    os.truncate(paths[0], 2)
    os.utime(paths[0], (0, 0))
    assert command._digest(tmp_path, paths, ["", "x"]) not in (first, changed)

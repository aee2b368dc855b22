"""Recordings of event cameras: files in the formats of tonic's data sets, pictures of their first events, latencies.

The recordings are made (see `made_events`), of scikit-learn's digits or of random events: no camera has seen them.
"""

import hashlib
import itertools
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny
from made_events import record, write_bin, write_nmnist

import snnjax
from snnjax.app import plots
from snnjax.core import files
from snnjax.core.errors import DownloadError
from snnjax.data import RECORDINGS, Dataset, event_picture, load, recordings
from snnjax.encoding import EVENTS, EventEncoder
from snnjax.networks.features import drawn_back
from snnjax.training.run_plan import network_for

tonic = pytest.importorskip("tonic.datasets")

T = 15
PICTURE = np.random.default_rng(0).integers(0, 256, (34, 34, 2), np.uint8)
PICTURE *= np.random.default_rng(1).random(PICTURE.shape) < 0.3
EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
SAME_COUNT = EventEncoder(equal_counts=True)
DIGITS = tiny.images()


def random_events(count: int, rows: int, columns: int, seed: int) -> np.ndarray:
    """Events anywhere on a sensor within 200 ms, the first at 0, the corners among them."""
    rng = np.random.default_rng(seed)
    x, y, p = rng.integers(0, columns, count), rng.integers(0, rows, count), rng.integers(0, 2, count)
    x[:2], y[:2] = (0, columns - 1), (0, rows - 1)
    t = np.sort(rng.integers(0, 200_000, count))
    return np.rec.fromarrays([x, y, t - t[0], p], dtype=EVENT)


def first_events(events: np.ndarray, sensor: tuple[int, int], size: tuple[int, int], window: float) -> np.ndarray:
    """What an event picture must be, one event after the other."""
    picture = np.zeros((*size, 2), int)
    for x, y, t, p in events[::-1].tolist():
        if t < window:
            picture[y * size[0] // sensor[0], x * size[1] // sensor[1], p] = 255 - int(255 * t / window)
    return picture


@pytest.mark.parametrize("steps", [15, 300])
def test_steps_of_equal_duration(steps, contract):
    contract(EventEncoder(steps, equal_counts=False), [np.stack([PICTURE, PICTURE[::-1]])])
    picture = np.stack([np.zeros((1, 256)), [np.arange(256)]], axis=-1).astype(np.uint8)
    latency = np.asarray(EventEncoder(steps, equal_counts=False)(picture))
    assert latency.dtype == (np.uint8 if steps <= 255 else np.uint16)
    assert (latency[0] == steps).all(), "no off event came"
    assert latency[1, 0].tolist() == [steps, *((255 - value) * steps // 255 for value in range(1, 256))]


def test_equal_counts_at_each_step():
    latency = np.asarray(SAME_COUNT(PICTURE))
    counts = np.bincount(latency.ravel(), minlength=T + 1)[:T]
    assert np.ptp(counts) == 0
    assert counts.sum() > 0.95 * (PICTURE > 0).sum()
    fired, first = latency < T, np.moveaxis(PICTURE, -1, 0)
    assert (first[fired] > 0).all()
    order = np.argsort(latency[fired], kind="stable")
    assert (np.diff(first[fired][order].astype(int)) <= 0)[np.diff(latency[fired][order]) > 0].all()
    with pytest.raises(snnjax.InputError, match=r"`image` must .*\(H W 2\), got shape \(34, 34\)"):
        SAME_COUNT(PICTURE[..., 0])


def test_a_picture_holds_the_first_event_of_each_pixel_and_polarity():
    """Within the window, or in all of the recording, in whichever order events are; as a plain loop finds it."""
    events = random_events(1000, 34, 30, seed=1)
    late = events.copy()
    late.t += 1000
    for window, end in ((dict(window=150e3), 150e3), ({}, events.t.max() + 1)):
        expected = first_events(events, (34, 30), (10, 7), end)
        for each in (events, events[::-1], late):
            picture = event_picture(each, (34, 30), (10, 7), **window)
            assert picture.dtype == np.uint8
            np.testing.assert_array_equal(picture, expected)
    assert not event_picture(events[:0], (2, 3), (2, 3)).any()
    for sensor, window, message in (
        ((34, 29), 9, r"`x` of events .* 0\.\.28, got 0\.\.29"),
        ((33, 30), 9, r"`y` of events .* 0\.\.32, got 0\.\.33"),
        ((34, 30), 0, "`window` must be above 0, got 0"),
    ):
        with pytest.raises(snnjax.InputError, match=message):
            event_picture(events, sensor, (9, 9), window)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder like that of N-MNIST, with recordings made of scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("made")
    write_nmnist(folder, "Train", DIGITS.train_images, DIGITS.train_labels, seed=0)
    write_nmnist(folder, "Test", DIGITS.test_images[:20], DIGITS.test_labels[:20], seed=1)
    return folder


@pytest.fixture(scope="module")
def data(made) -> Dataset:
    """The pictures of these recordings."""
    return load("nmnist", made)


def test_nmnist_from_its_own_files(made, data):
    assert (data.name, data.classes, data.names) == ("nmnist", 10, tuple("0123456789"))
    assert (data.train_images.shape, data.train_images.dtype) == ((40, 34, 34, 2), np.uint8)
    assert (len(data.test_images), data.encoder, data.input_shape) == (20, EVENTS, (2, 34, 34))
    assert data.notes == ("40 of 60,000 training recordings are there", "20 of 10,000 test recordings are there")
    rng, images = np.random.default_rng(0), [picture.tobytes() for picture in data.train_images]
    for image, label in zip(DIGITS.train_images[:9], DIGITS.train_labels, strict=False):
        events = np.rec.fromarrays(record(image, rng), dtype=EVENT)
        events.t -= events.t.min()
        picture = first_events(events, (34, 34), (34, 34), 50e3).astype(np.uint8)
        assert data.train_labels[images.index(picture.tobytes())] == label
    assert len({*data.train_labels[:20]}) > 5, "classes are mixed"
    small = recordings("nmnist", made, size=(17, 20), window=20e3)
    assert small.train_images.shape == (40, 17, 20, 2)
    assert 0 < (small.train_images > 0).sum() < (data.train_images > 0).sum()


def test_sets_without_test_recordings_are_divided(tmp_path, monkeypatch):
    """N-Caltech101: its recordings differ in size."""
    labels = ("ant", "bass", "camera")
    for label, each in itertools.product(range(3), range(10)):
        events = random_events(200 * (label + 1), 180 - each, 240 - each, seed=each)
        path = tmp_path / "NCALTECH101" / "Caltech101" / labels[label] / f"image_{each:04}.bin"
        write_bin(path, events.x, events.y, events.t, events.p)
    data = load("ncaltech101", tmp_path)
    assert (data.train_images.shape, data.names) == ((24, 60, 80, 2), labels)
    assert np.bincount(data.train_labels).tolist() == [8, 8, 8]
    assert np.bincount(data.test_labels).tolist() == [2, 2, 2]
    listed = os.walk
    monkeypatch.setattr(os, "walk", lambda path: ((at, dirs, files[::-1]) for at, dirs, files in listed(path)))
    assert load("ncaltech101", tmp_path).digest == data.digest, "in whichever order a folder lists its files"


def test_recordings_that_are_missing_or_damaged_are_named(tmp_path):
    """Every set is known to tonic."""
    for name, source in RECORDINGS.items():
        assert getattr(tonic, source.kind).sensor_size in (None, (*source.sensor[::-1], 2)), name
    train, test = (tmp_path / "NMNIST" / part / "3" / "00001.bin" for part in ("Train", "Test"))
    for path in (train, test):
        with pytest.raises(FileNotFoundError, match=f"no recordings of nmnist in .*NMNIST/{path.parts[-3]}"):
            load("nmnist", tmp_path)
        write_bin(path, *record(DIGITS.train_images[0], np.random.default_rng(0)))
    assert [path.name for path in tmp_path.iterdir()] == ["NMNIST"], "nothing was downloaded"
    test.write_bytes(bytes([200, 3, 0, 0, 0]))
    with pytest.raises(snnjax.InputError, match=f"{test} is damaged or not a recording of NMNIST: "):
        load("nmnist", tmp_path)


def test_what_was_unpacked_in_part_is_unpacked_again(made, data, tmp_path, monkeypatch, capsys):
    """As after a kill: tonic asks for no more than some of the recordings. Meanwhile a second process waits."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = tmp_path / "snnjax" / "data" / "nmnist"
    for part in ("Train", "Test"):
        shutil.copytree(made / "NMNIST" / part / "3", place / "NMNIST" / part / "3")
        archive = Path(shutil.make_archive(place / "NMNIST" / part.lower(), "zip", made / "NMNIST", part))
        monkeypatch.setattr(tonic.NMNIST, f"{part.lower()}_md5", hashlib.md5(archive.read_bytes()).hexdigest())
        monkeypatch.setattr(tonic.NMNIST, f"{part.lower()}_url", "http://127.0.0.1:1/")
    monkeypatch.setattr(tonic.NMNIST, "_check_exists", lambda x: Path(x.location_on_system, x.folder_name).exists())
    with ThreadPoolExecutor() as pool:
        with files.lock(place):
            second = pool.submit(load, "nmnist")
            time.sleep(0.3)
            assert not second.done()
        assert second.result().digest == data.digest
    out, err = capsys.readouterr()
    assert (out, err.count("waiting for another download of nmnist")) == ("", 1)
    shutil.rmtree(place)
    with pytest.raises(DownloadError, match=f"nmnist cannot be downloaded into {place} .*refused.*`data_dir`"):
        load("nmnist")
    monkeypatch.setitem(sys.modules, "tonic", None)
    monkeypatch.delitem(sys.modules, "tonic.datasets")
    with pytest.raises(ImportError, match=r"nmnist needs tonic \(.*\): pip install 'snnjax\[events\]'"):
        load("nmnist", made)


def test_features_and_event_pictures_are_drawn_in_colours(data):
    """Brighter minus darker: on in red, off in blue."""
    network = network_for(tiny.plain, data)
    weights = network.initial_weights()
    weights["layer1"] = np.zeros_like(weights["layer1"])
    weights["layer1"][0, 0, 2, 1] = weights["layer1"][0, 1, 2, 3] = 1  # off on the left, on on the right
    drawn = drawn_back(snnjax.SpikingNetwork(network, weights=weights))["layer1"].images[0]
    assert drawn[2, 3] == -drawn[2, 1] > 0
    picture = np.array([[[255, 0], [0, 0], [0, 255]]], np.uint8)
    assert plots.polarities(picture).tolist() == [[[0, 0, 255], [0, 0, 0], [255, 0, 0]]]

"""Recordings of event cameras: files in the formats of tonic's data sets, pictures of their first events, latencies.

The recordings are made (see `made_events`), of scikit-learn's digits or of random events: no camera has seen them.
"""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import json
import os
import re
import string
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from command import Command, refused
from made_events import record, write_bin, write_nmnist
from PIL import Image
from shipped import each_of

import snnjax
from snnjax.app import features, plots, report
from snnjax.app.names import RECORDED
from snnjax.core import files
from snnjax.core.components import from_data, to_data
from snnjax.core.errors import DownloadError
from snnjax.data import RECORDINGS, Dataset, digits, event_picture, load, recordings
from snnjax.encoding import EVENTS, EventEncoder
from snnjax.layers.conv import WTA, Conv
from snnjax.learners import RSTDP, STDP
from snnjax.networks import NETWORKS, Network, stage
from snnjax.runs.run_folder import RunFolder
from snnjax.training.build import network_for

tonic = pytest.importorskip("tonic.datasets")

T = 15
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (34, 34, 2), np.uint8) * (RNG.random((34, 34, 2)) < 0.3)
EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
SAME_TIME, SAME_COUNT = EventEncoder(equal_counts=False), EventEncoder(equal_counts=True)


def random_events(count: int, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Events anywhere on a sensor within 200 ms, the first at 0, the corners among them."""
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


# Encoder


@pytest.mark.parametrize("steps", [1, 15, 255, 300])
def test_steps_of_equal_duration(steps):
    picture = np.zeros((1, 256, 2), np.uint8)
    picture[0, :, 1] = np.arange(256)
    latency = np.asarray(EventEncoder(steps, equal_counts=False)(picture))
    assert latency.dtype == (np.uint8 if steps <= 255 else np.uint16)
    assert (latency[0] == steps).all(), "no off event came"
    on = latency[1, 0]
    assert on[0] == steps
    assert on[255] == 0
    assert on[1] == (254 * steps) // 255, "the last of the window"
    assert (np.diff(on[1:].astype(int)) <= 0).all(), "what comes earlier fires earlier"
    if steps == T:
        assert np.bincount(on[1:]).tolist() == [17] * T


def test_equal_counts_at_each_step():
    latency = np.asarray(SAME_COUNT(PICTURE))
    counts = np.bincount(latency.ravel(), minlength=T + 1)[:T]
    assert np.ptp(counts) == 0
    assert counts.sum() > 0.95 * (PICTURE > 0).sum()
    fired, first = latency < T, np.moveaxis(PICTURE, -1, 0)
    assert (first[fired] > 0).all()
    order = np.argsort(latency[fired], kind="stable")
    assert (np.diff(first[fired][order].astype(int)) <= 0)[np.diff(latency[fired][order]) > 0].all()


@pytest.mark.parametrize("encoder", [SAME_TIME, SAME_COUNT])
def test_the_encoder_is_a_pure_function(contract, encoder):
    contract(encoder, [np.stack([PICTURE, PICTURE[::-1]])])


@pytest.mark.parametrize("encoder", [SAME_TIME, SAME_COUNT, EventEncoder(20)])
def test_the_encoder_is_saved(encoder):
    arrays: dict = {}
    assert from_data(to_data(encoder, arrays), arrays) == encoder
    assert encoder.output_shape((34, 30, 2)) == (2, 34, 30)


def test_other_images_are_refused():
    for image in (PICTURE[..., 0], np.zeros((34, 34, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"`image` must .*axes \(H W 2\), got shape \(34, 34"):
            EVENTS(image)
    with pytest.raises(TypeError, match="`equal_counts` must be True or False, got 1"):
        EventEncoder(15, 1)
    with pytest.raises(ValueError, match="`time_steps` must be at least 1, got 0"):
        EventEncoder(0)


# Event pictures


def test_a_picture_holds_the_first_event_of_each_pixel_and_polarity():
    events = np.array([(1, 0, 1000, 1), (1, 0, 1400, 1), (2, 1, 1500, 0), (1, 0, 1999, 0), (0, 0, 2000, 1)], EVENT)
    picture = event_picture(events, (2, 3), (2, 3), window=1000)
    assert (picture.dtype, picture.shape) == (np.uint8, (2, 3, 2))
    assert picture[0, 1].tolist() == [1, 255], "the off event is the last of the window, the on event its first"
    assert picture[1, 2].tolist() == [128, 0]
    assert np.count_nonzero(picture) == 3, "what comes after the window does not count"
    whole = event_picture(events, (2, 3), (2, 3))
    assert whole[0, 0, 1] == 1
    assert whole[0, 1].tolist() == [1, 255]
    np.testing.assert_array_equal(event_picture(events[::-1], (2, 3), (2, 3)), whole, "in whichever order they are")
    joined = event_picture(events, (2, 3), (1, 1))
    assert joined.tolist() == [[[128, 255]]]
    assert not event_picture(events[:0], (2, 3), (2, 3)).any()


@pytest.mark.parametrize(("size", "window"), [((34, 34), 105e3), ((17, 34), 50e3), ((10, 7), 199e3)])
def test_pictures_are_those_of_a_plain_loop(size, window):
    events = random_events(3000, 34, 34, np.random.default_rng(1))
    expected = first_events(events, (34, 34), size, window)
    np.testing.assert_array_equal(event_picture(events, (34, 34), size, window), expected)


def test_events_outside_the_sensor_are_refused():
    events = random_events(10, 34, 40, np.random.default_rng(2))
    with pytest.raises(ValueError, match=r"`x` of events must lie in 0\.\.33, got 0\.\.39"):
        event_picture(events, (34, 34), (34, 34))
    with pytest.raises(ValueError, match="`window` must be positive, in microseconds, got 0"):
        event_picture(events, (34, 40), (34, 40), 0)


# Data sets


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder like that of N-MNIST, with recordings made of scikit-learn's digits."""
    folder, data = tmp_path_factory.mktemp("made"), digits()
    write_nmnist(folder, "Train", data.train_images[:60], data.train_labels[:60], seed=0)
    write_nmnist(folder, "Test", data.test_images[:30], data.test_labels[:30], seed=1)
    return folder


@pytest.fixture(scope="module")
def data(made) -> Dataset:
    """The pictures of these recordings."""
    return load("nmnist", made)


def test_nmnist_from_its_own_files(made, data):
    assert (data.name, data.classes, data.names) == ("nmnist", 10, tuple("0123456789"))
    assert (data.train_images.shape, data.train_images.dtype) == ((60, 34, 34, 2), np.uint8)
    assert (len(data.test_images), data.encoder, data.input_shape) == (30, EVENTS, (2, 34, 34))
    source, rng = digits(), np.random.default_rng(0)
    expected = {}
    for image, label in zip(source.train_images[:60], source.train_labels[:60], strict=True):
        events = np.rec.fromarrays(record(image, rng), dtype=EVENT)
        events.t -= events.t.min()
        expected[first_events(events, (34, 34), (34, 34), 50e3).astype(np.uint8).tobytes()] = label
    found = {picture.tobytes(): label for picture, label in zip(data.train_images, data.train_labels, strict=True)}
    assert found == expected
    assert len({*data.train_labels[:20]}) > 5, "classes are mixed"
    assert load("nmnist", str(made)).digest == data.digest
    assert len(data.first(10, 5).test_images) == 5


def test_sizes_and_windows(made, data):
    assert load("nmnist", made, size=(17, 20)).train_images.shape == (60, 17, 20, 2)
    small = recordings("nmnist", made, size=(17, 20), window=20e3)
    assert small.train_images.shape == (60, 17, 20, 2)
    np.testing.assert_array_equal(small.train_labels, data.train_labels)
    assert 0 < (small.train_images > 0).mean() < (data.train_images > 0).mean()
    with pytest.raises(ValueError, match="`size` must be at least 1, got 0"):
        recordings("nmnist", made, size=0)


def test_pictures_are_kept_in_a_file(data, tmp_path):
    data.save(tmp_path / "mine.npz")
    again = load(str(tmp_path / "mine.npz"))
    assert (again.digest, again.encoder) == (data.digest, EVENTS)


def write_gesture(folder: Path, part: str, name: str, label: int, events: np.ndarray) -> None:
    """As `DVSGesture`: columns x, y, p and t in milliseconds."""
    path = folder / "DVSGesture" / f"ibmGesture{part}" / name / f"{label}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.stack([events.x, events.y, events.p, events.t / 1000], axis=1))


def test_gestures(tmp_path):
    rng = np.random.default_rng(3)
    events = [random_events(400, 128, 128, rng) for _ in range(11)]
    for number, each in enumerate(events):
        each.t[:] = each.t // 1000 * 1000
        for part in ("Train", "Test") if number in (6, 7) else ("Train",):
            write_gesture(tmp_path, part, f"user0{number % 2 + 1}_lab", number, each)
    data = load("dvs_gesture", tmp_path)
    assert (data.train_images.shape, data.classes) == ((11, 32, 32, 2), 11)
    assert sorted(data.test_labels) == [6, 7]
    assert data.names[7] == "Arm roll"
    for part in ("train", "test"):
        for picture, label in zip(getattr(data, f"{part}_images"), getattr(data, f"{part}_labels"), strict=True):
            np.testing.assert_array_equal(picture, first_events(events[label], (128, 128), (32, 32), 500e3))


def test_poker_cards(tmp_path):
    rng, classes = np.random.default_rng(4), ("cl", "he", "di", "sp")
    for part in ("train", "test"):
        for label in classes:
            path = tmp_path / "POKERDVS" / f"pips_{part}" / label / "0.npy"
            path.parent.mkdir(parents=True)
            events = random_events(200 if label == "di" else 50, 35, 35, rng)
            np.save(path, np.stack([events.t, events.x, events.y, events.p], axis=1))
    data = load("pokerdvs", tmp_path)
    assert (data.train_images.shape, sorted(data.test_labels)) == ((4, 35, 35, 2), [0, 1, 2, 3])
    counts = (data.train_images > 0).sum(axis=(1, 2, 3))
    assert data.train_labels[counts.argmax()] == classes.index("di")


def test_sets_without_test_recordings_are_divided(tmp_path, monkeypatch):
    """N-Caltech101 names its classes by its folders; its recordings differ in size."""
    rng, labels = np.random.default_rng(5), ("ant", "bass", "camera")
    for number, label in enumerate(labels):
        for each in range(10):
            events = random_events(200 * (number + 1), 180 - each, 240 - each, rng)
            path = tmp_path / "NCALTECH101" / "Caltech101" / label / f"image_{each:04}.bin"
            write_bin(path, events.x, events.y, events.t, events.p)
    data = load("ncaltech101", tmp_path)
    assert (data.train_images.shape, data.names) == ((24, 60, 80, 2), labels)
    assert np.bincount(data.train_labels).tolist() == [8, 8, 8]
    assert np.bincount(data.test_labels).tolist() == [2, 2, 2]
    counts = (data.train_images > 0).sum(axis=(1, 2, 3))
    for label in (1, 2):
        assert counts[data.train_labels == label].min() > counts[data.train_labels == label - 1].max()
    listed = os.walk
    monkeypatch.setattr(os, "walk", lambda path: ((at, dirs, files[::-1]) for at, dirs, files in listed(path)))
    assert load("ncaltech101", tmp_path).digest == data.digest, "in whichever order a folder lists its files"


def test_signs(tmp_path):
    """ASL-DVS: columns in MATLAB's files, rows counted from below."""
    from scipy.io import savemat

    rng = np.random.default_rng(6)
    for letter in string.ascii_lowercase:
        for number in range(5):
            events = random_events(30, 180, 240, rng)
            path = tmp_path / "ASLDVS" / letter / f"{letter}_{number:04}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = dict(ts=events.t, x=events.x, y=179 - events.y, pol=events.p)
            savemat(path, {name: column[:, None] for name, column in columns.items()})
    data = load("asl_dvs", tmp_path)
    assert (data.train_images.shape, data.classes, len(data.test_images)) == ((104, 45, 60, 2), 26, 26)
    assert (data.train_images[:, 0, 0].max(axis=-1) == 255).all(), "the first event is in the corner"


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_set_is_known_to_tonic(name):
    source = RECORDINGS[name]
    kind = getattr(tonic, source.kind)
    assert kind.sensor_size in (None, (source.sensor[1], source.sensor[0], 2))
    assert np.prod(source.size) <= np.prod(source.sensor)


# Errors


def test_folders_without_recordings(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no recordings of nmnist in .*NMNIST/Train: `data_dir` must be"):
        load("nmnist", tmp_path)
    write_bin(tmp_path / "NMNIST" / "Train" / "3" / "00001.bin", *record(digits().train_images[0], RNG))
    with pytest.raises(FileNotFoundError, match=r"no recordings of nmnist in .*NMNIST/Test"):
        load("nmnist", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no recordings of nmnist in .*nowhere/NMNIST/Train"):
        load("nmnist", tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["NMNIST"], "nothing was downloaded"


@pytest.mark.parametrize("content", [bytes(7), bytes([200, 3, 0, 0, 0])])
def test_damaged_recordings_are_named(tmp_path, content):
    for part in ("Train", "Test"):
        write_bin(tmp_path / "NMNIST" / part / "3" / "00001.bin", *record(digits().train_images[0], RNG))
    path = tmp_path / "NMNIST" / "Test" / "3" / "00001.bin"
    path.write_bytes(content)
    with pytest.raises(snnjax.InputError, match=f"{path} is damaged or no recording of NMNIST: "):
        load("nmnist", tmp_path)


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "POKERDVS" / "pips_train" / "xx").mkdir(parents=True)
    np.save(tmp_path / "POKERDVS" / "pips_train" / "xx" / "0.npy", np.zeros((3, 4), int))
    with pytest.raises(snnjax.InputError, match=r"POKERDVS does not hold pokerdvs as tonic unpacks it: 'xx'"):
        load("pokerdvs", tmp_path)
    with pytest.raises(snnjax.InputError, match=r"`name` must be one of nmnist, .*, got 'mnist'"):
        recordings("mnist", tmp_path)


def test_a_package_that_one_format_needs_is_named(tmp_path, monkeypatch):
    path = tmp_path / "CIFAR10DVS" / "cat" / "0.aedat4"
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(snnjax.InputError, match="CIFAR10DVS needs aedat too: pip install aedat"):
        load("cifar10dvs", tmp_path)


def test_without_tonic(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    monkeypatch.delitem(sys.modules, "tonic.datasets")
    with pytest.raises(ImportError, match=r"nmnist needs tonic \(.*\): pip install 'snnjax\[events\]'"):
        load("nmnist", made)


# Downloads


@pytest.fixture
def served(made, tmp_path, monkeypatch):
    """A server of N-MNIST's archives, as far as the recordings of `made` go; tonic's addresses lead to it."""
    folder = tmp_path / "served"
    folder.mkdir()
    for part in ("Train", "Test"):
        archive = folder / f"{part.lower()}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for path in (made / "NMNIST" / part).rglob("*.bin"):
                file.write(path, path.relative_to(made / "NMNIST"))
        monkeypatch.setattr(tonic.NMNIST, f"{part.lower()}_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for part in ("train", "test"):
            address = f"http://127.0.0.1:{server.server_port}/{part}.zip"
            monkeypatch.setattr(tonic.NMNIST, f"{part}_url", address)
        yield server
        with contextlib.suppress(Exception):
            server.shutdown()


def test_recordings_are_downloaded_into_the_cache(served, data, tmp_path, capsys):
    assert load("nmnist").digest == data.digest
    assert (tmp_path / "cache" / "snnjax" / "data" / "nmnist" / "NMNIST" / "train.zip").exists()
    assert capsys.readouterr().out == "", "the output of commands is their own"


def test_what_was_unpacked_in_part_is_unpacked_again(served, data, tmp_path, monkeypatch):
    """As after a kill: tonic asks for no more than some of the recordings."""
    place = tmp_path / "cache" / "snnjax" / "data" / "nmnist" / "NMNIST"
    write_bin(place / "Train" / "3" / "00001.bin", *record(digits().train_images[0], RNG))
    write_bin(place / "Test" / "3" / "00001.bin", *record(digits().train_images[0], RNG))
    monkeypatch.setattr(
        tonic.NMNIST, "_check_exists", lambda self: Path(self.location_on_system, self.folder_name).exists()
    )
    assert load("nmnist").digest == data.digest
    served.shutdown()
    served.server_close()
    assert load("nmnist").digest == data.digest, "whole from now on"


def test_a_second_process_waits_until_all_is_unpacked(served, data, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "cache" / "snnjax" / "data" / "nmnist"
    folder.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        with files.lock(folder):
            second = pool.submit(load, "nmnist")
            time.sleep(0.5)
            assert not second.done()
            assert not (folder / "NMNIST").exists()
        assert second.result().digest == data.digest
    assert capsys.readouterr().err.count("waiting for another download of nmnist") == 1


def test_a_part_of_the_recordings_is_told(data):
    assert data.notes == ("60 of 60,000 training recordings are there", "30 of 10,000 test recordings are there")


def test_without_a_network(served, tmp_path):
    served.shutdown()
    served.server_close()
    where = re.escape(str(tmp_path / "cache" / "snnjax" / "data" / "nmnist"))
    with pytest.raises(DownloadError, match=f"nmnist cannot be downloaded into {where} .*refused.*`data_dir`") as e:
        load("nmnist")
    assert "\n" not in str(e.value)


# From end to end


def small(data: Dataset) -> Network:
    """Two layers for event pictures."""
    first = Conv(12, kernel=5, padding=2, threshold=10, competition=WTA(4, radius=2), learners=STDP())
    network = Network("small", data.input_shape, 10, (stage(first, pool=4), stage(Conv(20, 5, learners=RSTDP()))))
    return dataclasses.replace(network, encoder=data.encoder)


def test_a_network_is_trained_tested_shown_and_resumed(data, tmp_path):
    settings, data = snnjax.Settings((1, 4), batch_size=20), data.first(30, 30)
    with RunFolder(tmp_path / "whole", snnjax.Trainer(small(data), data, settings), draw=report.draw_run) as run:
        results = run.run()
    assert results["data"] == "nmnist"
    network = snnjax.load(tmp_path / "whole")
    assert network.spec.encoder == EVENTS
    decisions = np.asarray(jax.vmap(network)(data.test_images))
    assert np.mean(decisions == data.test_labels) == pytest.approx(results["test"]["accuracy"])
    assert {path.name for path in (tmp_path / "whole" / "pictures").glob("image_*.png")}

    class Stop(Exception):
        """Stands for a program that is killed."""

    def save(folder, state):
        folder.save(state)
        if len(state.epochs) == 2:
            raise Stop

    with RunFolder(tmp_path / "halves", snnjax.Trainer(small(data), data, settings)) as run, pytest.raises(Stop):
        run.trainer.run(run.start(), functools.partial(save, run))
    with RunFolder(
        tmp_path / "halves", snnjax.Trainer(small(data), data, settings), resume=True, draw=report.draw_run
    ) as run:
        again = run.run()
    assert again["epochs"] == results["epochs"]
    for name, weights in snnjax.load(tmp_path / "halves").weights().items():
        np.testing.assert_array_equal(weights, network.weights()[name])


@pytest.mark.slow
def test_commands_take_recordings_as_any_other_set(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    where = ["--dataset", "nmnist", "--data_dir", made]
    Command("data").main(["nmnist", "--data_dir", made, "--out", "kept.npz"])
    assert "Dataset(nmnist: 60 training and 30 test images of 34x34x2, 10 classes)" in capsys.readouterr().out
    Command("train").main([*where, "--epochs", 1, 1, "--batch_size", 20, "--device", "cpu", "--out", "run"])
    accuracy = json.loads(Path("run/results.json").read_text())["test"]["accuracy"]
    for source in ([], where, ["--dataset", "kept.npz"]):
        capsys.readouterr()
        Command("evaluate").main(["run", *source, "--device", "cpu"])
        assert f"test accuracy {accuracy:.2%}" in capsys.readouterr().out
    Command("predict").main(["run", "--images", 3, "--out", "drawn", "--device", "cpu"])
    assert len([*Path("drawn").iterdir()]) == 1
    Command("report").main(["run", "--images", 3, "--device", "cpu"])
    assert Path("run/pictures/image_00003.png").exists()
    Image.new("L", (34, 34)).save("grey.png")
    line = refused(Command("predict"), capsys, "run", "grey.png", "--device", "cpu")
    assert "the network takes recordings, name test ones by --images" in line


@pytest.mark.parametrize("name", each_of([*RECORDED, "goupy2024_ncg", "goupy2024_sstdp"]))
def test_published_networks_take_recordings(data, name):
    network = network_for(NETWORKS[name], data)
    assert network.input_shape == (2, 34, 34)
    if name in RECORDED:
        assert (network.encoder, network.time_steps) == (EVENTS, T)
    else:
        assert (network.encoder.time_steps, network.encoder.equal_counts) == (255, False)
    decision = snnjax.SpikingNetwork(network)(data.test_images[0])
    assert -1 <= int(decision) < 10


@pytest.mark.slow
def test_variants_are_trained_in_one_program(data):
    few = data.first(20, 10)
    sweep = snnjax.Sweep(
        small(few), few, snnjax.Settings((1, 1), patience=0), [{"layer1.threshold": 8}, {"layer1.threshold": 12}]
    )
    done = sweep.run().done
    assert [done[at]["epochs"][-1]["test"]["accuracy"] >= 0 for at in (0, 1)] == [True, True]


def test_features_are_drawn_as_brighter_minus_darker(data):
    network, weights = small(data), small(data).initial_weights()
    weights["layer1"] = np.zeros_like(weights["layer1"])
    weights["layer1"][0, 0, 2, 1] = weights["layer1"][0, 1, 2, 3] = 1  # off on the left, on on the right
    drawn = features.drawn_back(snnjax.SpikingNetwork(network, weights=weights))["layer1"].images[0]
    assert drawn[2, 3] == -drawn[2, 1] > 0
    assert np.unravel_index(np.argmin(drawn), drawn.shape) == (2, 1)


def test_an_event_picture_is_drawn_in_colours(data, tmp_path):
    picture = np.zeros((34, 34, 2), np.uint8)
    picture[:, :10, 0], picture[:, -10:, 1] = 255, 255
    assert plots.polarities(picture)[0, [0, 15, 33]].tolist() == [[0, 0, 255], [0, 0, 0], [255, 0, 0]]
    network = snnjax.SpikingNetwork(small(data))
    seen = report.observe(network.model, picture)
    plots.write(tmp_path / "seen.png", plots.activity_picture(picture, seen, network.spec, "one"))
    pixels = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")).reshape(-1, 3)
    for colour in ((255, 0, 0), (0, 0, 255)):
        assert (pixels == colour).all(axis=1).sum() > 500

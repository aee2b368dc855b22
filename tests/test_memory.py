"""Sets larger than memory: arrays in files, and slices that are placed one by one, without a copy on a CPU."""

import errno
import mmap
import os
import pathlib
import pickle
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

from snnjax import Settings, Trainer, data
from snnjax.core import files
from snnjax.data import digits
from snnjax.steps import plain
from snnjax.steps.plain import Carry, Task
from snnjax.training import epoch
from snnjax.training.build import network_for
from snnjax.training.epoch import EpochRunner, Images
from snnjax.training.placement import Placement

IMAGES = tiny.images()
PLAIN = network_for(tiny.plain, IMAGES)


def test_an_array_is_where_jax_takes_it_as_it_is():
    for shape, dtype in (((3, 5), np.uint8), ((7,), np.float32), ((64, 100), np.int32)):
        array = files.empty(shape, dtype)
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.ctypes.data % 64 == 0
    assert jax.device_put(array).unsafe_buffer_pointer() == array.ctypes.data


def in_a_file(array: object) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(getattr(array, "obj", array), mmap.mmap)


def test_a_large_array_is_in_a_file_that_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for limit, is_large in ((60, False), (59, True)):
        monkeypatch.setattr(files, "LARGE", limit)
        array = files.empty((3, 5), np.float32)
        assert in_a_file(array) == is_large
    array[:] = np.arange(15).reshape(3, 5)
    assert array.sum() == 105
    assert np.array_equal(pickle.loads(pickle.dumps(array)), array), "other processes get a copy"
    assert not list(tmp_path.iterdir()), "nothing stays if the program is killed"

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        files.empty((3, 5), np.float32)


@pytest.mark.parametrize(
    ("batch", "images", "slice_"), [(1, 2000, 1024), (999, 2000, 1998), (250, 1500, 750), (7, 90, 91)]
)
def test_slices_are_about_1000_images_whatever_the_batch(batch, images, slice_):
    """Where as many are aligned for JAX, they are; batches come first."""
    task, held = Task(("layer1",), batch=batch), Images(np.zeros((images, 1, 2, 2), np.uint8))
    step = plain.learn_unsupervised
    assert EpochRunner("STDP", Placement(1), task, step, None, Carry({}, {}), None, held).size == slice_


@pytest.mark.parametrize("settings", [{}, dict(shuffle=True, mirror=True)], ids=["in order", "shuffled and mirrored"])
def test_a_set_in_files_trains_as_one_in_memory(settings, tmp_path, monkeypatch):
    """Read from an .npz file, a share held out; in several slices."""
    IMAGES.save(tmp_path / "many.npz")
    monkeypatch.setattr(epoch, "SLICE", 20)

    def trained() -> tuple[data.Dataset, list, dict]:
        images = data.load(tmp_path / "many.npz").hold_out(0.1, seed=0)
        trainer = Trainer(PLAIN, images, Settings((1, 2), batch_size=20, patience=0, **settings))
        state = trainer.run(trainer.initial_state())
        return images, state.epochs, state.weights

    images, epochs, weights = trained()
    monkeypatch.setattr(files, "LARGE", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    others = trained()
    assert in_a_file(others[0].train_images)
    assert isinstance(others[0].test_images, np.memmap), "what is not indexed stays in the .npz file"
    assert others[0].digest == images.digest
    assert others[1] == epochs
    for name, value in weights.items():
        np.testing.assert_array_equal(others[2][name], value)
    assert [each.name for each in tmp_path.iterdir()] == ["many.npz"]


def test_packed_and_damaged_files_are_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 0)
    np.savez_compressed(tmp_path / "packed.npz", images=np.arange(1000))
    assert type(files.read_npz(tmp_path / "packed.npz", "file", 10_000)["images"]) is np.ndarray
    np.savez(tmp_path / "short.npz", images=np.arange(1000), columns=np.asfortranarray(np.ones((3, 5))))
    read = files.read_npz(tmp_path / "short.npz", "file")
    assert (type(read["images"]), type(read["columns"])) == (np.memmap, np.ndarray)
    np.testing.assert_array_equal(read["images"], np.arange(1000))
    (tmp_path / "short.npz").write_bytes((tmp_path / "short.npz").read_bytes()[:-4000])
    with pytest.raises(ValueError, match="is damaged or no file"):
        files.read_npz(tmp_path / "short.npz", "file")


@pytest.mark.parametrize("large", [False, True])
def test_slices_stay_placed_unless_they_are_large(large, monkeypatch):
    """On a CPU they lie where the outputs of the stage before are, but for the last one, which is filled up."""
    monkeypatch.setattr(epoch, "SLICE", 83)
    trainer = Trainer(PLAIN, digits().first(250, 40), Settings((1, 1), batch_size=20))
    training, states = trainer.training, [trainer.initial_state()]
    inputs = training.cache.inputs("train", 0, states)
    monkeypatch.setattr(files, "LARGE", inputs.nbytes - large)
    runner = training.runners.of_phase(trainer.plan[0], states, inputs)
    assert [*runner._starts] == [0, 128]
    assert len(runner._kept) == (0 if large else 2)
    (_, shared) = runner.place_slice(0)
    (shard,) = shared["inputs"].addressable_shards
    assert shard.data.unsafe_buffer_pointer() == inputs.ctypes.data


PROGRAM = """
import re, sys
import snnjax
from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, Trainer, data, stage
from snnjax.core import files
from snnjax.kernels import native

files.LARGE = 1_000_000

class Watch(snnjax.Callback):
    most = 0.0
    def advanced(self, images, correct):
        anonymous = re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]
        self.most = max(self.most, int(anonymous) / 1e3)

features = stage(Conv(30, 5, padding=2, threshold=15, competition=WTA(5, radius=3), learners=STDP()), pool=2)
network = Network("net", (6, 28, 28), 10, (features, stage(Conv(20, 3, learners=RSTDP()))))
for count in (2000, None):
    images, watch = data.load(sys.argv[1]).first(count, None), Watch()
    trainer = Trainer(network, images, Settings((1, 1), patience=0, native=not native.unavailable()), watch)
    trainer.run(trainer.initial_state())
    print(watch.most)
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_memory_does_not_grow_with_a_set_in_files(tmp_path):
    """Anonymous memory; what of the files lies in the page cache, the system takes back when it needs it."""
    random, count = np.random.default_rng(0), 12_000
    arrays = {}
    for name, number in (("train", count), ("test", 100)):
        pixels = random.integers(256, size=(number, 28, 28), dtype=np.uint8)
        arrays[f"{name}_images"] = np.where(pixels > 230, pixels, 0).astype(np.uint8)
        arrays[f"{name}_labels"] = random.integers(10, size=number)
    np.savez(tmp_path / "many.npz", **arrays)
    environment = os.environ | dict(TMPDIR=str(tmp_path), PYTHONPATH=str(pathlib.Path(__file__).parents[1]))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "many.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    few, many = map(float, re.findall(r"[\d.]+", done.stdout))
    outputs = count * (6 * 28 * 28 + 30 * 14 * 14) / 1e6  # MB of latencies that enter both stages
    assert many - few < 0.25 * outputs, "in memory it would be more than 0.7"

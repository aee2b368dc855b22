"""Sets larger than memory: arrays in files, and slices that are placed one by one, without a copy on a CPU."""

import errno
import mmap
import os
import pickle

import jax
import numpy as np
import pytest
import tiny

from snnjax import Settings, Trainer, data
from snnjax.core import files
from snnjax.data import digits
from snnjax.training import epoch
from snnjax.training.build import network_for
from snnjax.training.runners import runner_of

IMAGES = tiny.images()
PLAIN = network_for(tiny.plain, IMAGES)


def in_a_file(array: object) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(getattr(array, "obj", array), mmap.mmap)


def test_a_large_array_is_in_a_file_that_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for shape, dtype in (((3, 5), np.uint8), ((7,), np.float32), ((64, 100), np.int32)):
        array = files.empty(shape, dtype)
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.ctypes.data % 64 == 0
    assert jax.device_put(array).unsafe_buffer_pointer() == array.ctypes.data, "where JAX takes it as it is"
    for limit, is_large in ((60, False), (59, True)):
        monkeypatch.setattr(files, "LARGE", limit)
        array = files.empty((3, 5), np.float32)
        assert in_a_file(array) == is_large
    array[:] = np.arange(15).reshape(3, 5)
    assert np.array_equal(pickle.loads(pickle.dumps(array)), array), "other processes get a copy"
    assert files.kept(array) == f"in a temporary file in {tmp_path}"
    assert not list(tmp_path.iterdir()), "nothing stays if the program is killed"

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        files.empty((3, 5), np.float32)


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
    states = [trainer.initial_state()]
    phase = trainer.plan[0]
    inputs = trainer.cache.inputs(phase, "train", states)
    monkeypatch.setattr(files, "LARGE", inputs.nbytes - large)
    runner = runner_of(trainer.job, phase, states, inputs)
    assert [*runner._starts] == [0, 128]
    assert len(runner._kept) == (0 if large else 2)
    (_, shared) = runner.place_slice(0)
    (shard,) = shared["inputs"].addressable_shards
    assert shard.data.unsafe_buffer_pointer() == inputs.ctypes.data

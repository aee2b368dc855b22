"""Checkpoint files: what is written is read back to the last bit, or not at all."""

import errno
import json
import pathlib
import re
import stat
import zipfile

import numpy as np
import pytest

from snnjax.core import files

ARRAYS = {
    "weights/layer1": np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32),
    "best/layer1": np.float32([np.inf, -0.0, np.nan, 1e-45]),
    "wins/layer1": np.arange(5),
    "reward/seen": np.int32(7),
    "spikes": np.array([[True, False]]),
    "nothing": np.zeros((0, 3), np.uint8),
    "a name/with Ünicode": np.uint8([1, 2]),
}
META = dict(phase=2, done=0, epochs=[dict(epoch=0, test=dict(accuracy=0.1))], settings=dict(out=None, name="ü"))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.npz"
    files.save_checkpoint(path, ARRAYS, META)
    return path


def assert_whole(path: pathlib.Path) -> None:
    arrays, meta = files.load_checkpoint(path)
    assert meta == META
    assert arrays.keys() == ARRAYS.keys()
    for name, expected in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (expected.dtype, expected.shape), name
        assert arrays[name].tobytes() == expected.tobytes(), name


def test_a_round_trip_keeps_everything(path):
    """Other programs can read it, and a second write replaces it."""
    assert_whole(path)
    with np.load(path) as file:
        np.testing.assert_array_equal(file["weights/layer1"], ARRAYS["weights/layer1"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    files.save_checkpoint(path, dict(only=np.float32(1)), {})
    arrays, meta = files.load_checkpoint(path)
    assert (list(arrays), meta) == (["only"], {})
    assert list(path.parent.iterdir()) == [path]


def test_damaged_files_are_refused(path):
    """A flipped bit is noticed, or lies in a place that holds no data; a truncated file is always noticed."""
    whole, refused = path.read_bytes(), 0
    for length in np.linspace(0, len(whole) - 1, 20).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            files.load_checkpoint(path)
    for place in np.random.default_rng(1).choice(8 * len(whole), 300, replace=False):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert_whole(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 150


def test_a_changed_array_is_noticed_though_the_file_is_sound(path):
    with np.load(path) as file:
        entries = dict(file)
    meta = np.frombuffer(json.dumps({}).encode(), np.uint8)
    without = {name: entry for name, entry in entries.items() if name != "spikes"}
    for changed in (entries | {"wins/layer1": np.arange(1, 6)}, entries | dict(meta=meta), without):
        np.savez(path, **changed)
        with pytest.raises(ValueError, match="its checksum does not match"):
            files.load_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, weights=np.zeros(3))
    plain = path.read_bytes()
    np.savez(path, checksum=np.array([{}], dtype=object))
    for content in (b"text", plain, path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged or no checkpoint"):
            files.load_checkpoint(path)


def test_what_cannot_be_read_is_no_damaged_file(path, monkeypatch):
    """A missing file, a failing disk or too little memory."""
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        files.load_checkpoint(path.parent / "nothing.npz")
    for fault in (OSError(errno.EIO, "Input/output error"), MemoryError()):

        def read(*_, fault=fault):
            raise fault

        monkeypatch.setattr(zipfile.ZipExtFile, "read", read)
        with pytest.raises(type(fault)) as caught:
            files.load_checkpoint(path)
        assert caught.value is fault

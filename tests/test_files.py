"""Files that are whole or not there, the lock of a folder, and sets larger than memory, whose arrays are in files."""

import errno
import mmap
import os
import pathlib
import pickle
import stat
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
from command import ENVIRONMENT

from snnjax import Settings, data
from snnjax.core import files
from snnjax.core.devices import BATCH_SIZES
from snnjax.core.files import atomic_write, lock
from snnjax.training.run_plan import network_for


def test_what_was_written_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """And the folder after; the umask applies."""
    events, sync, rename = [], os.fsync, pathlib.Path.replace

    def fsync(handle):
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else os.fstat(handle).st_size)
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(pathlib.Path, "replace", lambda *args: (events.append("rename"), rename(*args)))
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file.txt") as temporary:
            temporary.write_text("content")
    finally:
        os.umask(before)
    assert events == [len("content"), "rename", "folder"]
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o640


def test_a_write_that_fails_leaves_the_old_file_and_what_a_kill_leaves_is_cleared(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_write(path) as temporary:
        temporary.write_bytes("new")
    assert (path.read_text(), [*tmp_path.iterdir()]) == ("old", [path])
    kept = {"file.txt", ".file.txt", ".file.txt.0123456.txt", ".file.txt.01234567.npz", "x.txt.01234567.txt"}
    for name in (*kept, temporary.name.replace("file", "other")):
        (tmp_path / name).touch()
    files.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_errors_of_the_disk_name_the_file_that_was_asked_for(tmp_path):
    """Not the temporary one. Other errors of what is written remain as they are."""
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    kinds = {"missing/x.npz": FileNotFoundError, "file/x.npz": NotADirectoryError, "folder.npz": IsADirectoryError}
    for name, kind in kinds.items():
        path = tmp_path / name
        with pytest.raises(kind) as caught, atomic_write(path):
            pass
        assert (caught.value.filename, caught.value.filename2) == (str(path), None)
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "x.npz"):
        (tmp_path / "other").read_text()
    assert caught.value.filename == str(tmp_path / "other")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.npz"}


WRITING = """
import pathlib, time
from snnjax.core import files

with files.lock(pathlib.Path()), files.atomic_write(pathlib.Path("checkpoint.npz")) as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


def test_what_a_kill_leaves_goes_when_the_folder_is_locked_again(tmp_path):
    """Even if it was the first checkpoint, after which there is nothing to go on from."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=ENVIRONMENT
    )
    assert process.stdout.readline() == "begun\n"
    with pytest.raises(FileExistsError), lock(tmp_path):
        pass
    assert len([*tmp_path.glob(".checkpoint.npz.*.npz")]) == 1, "a folder that is refused stays as it is"
    process.kill()
    process.communicate()
    assert len([*tmp_path.glob(".checkpoint.npz.*.npz")]) == 1
    with lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_is_of_one_run_at_a_time(tmp_path, monkeypatch):
    """Also of this process. A folder that cannot be written is refused at once, not after the first layer has learned.

    A file system without locks is no other run.
    """
    for _ in range(2):
        with lock(tmp_path):
            with pytest.raises(FileExistsError, match="another run is writing"), lock(tmp_path):
                pass
            assert (tmp_path / ".lock").exists()
        assert not (tmp_path / ".lock").exists()

    def fail(fault):
        monkeypatch.setattr(files.FileLock, "acquire", lambda _: (_ for _ in ()).throw(OSError(fault, "none")))

    for fault in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO):
        fail(fault)
        with pytest.warns(UserWarning, match="cannot be locked .*let no other run"), lock(tmp_path):
            (tmp_path / "result").touch()
    with pytest.raises(OSError, match="none"), files.refuse_damaged("a disk that fails is no damaged file"):
        raise OSError(errno.EIO, "none")
    fail(errno.EACCES)
    with pytest.raises(PermissionError), lock(tmp_path):
        pytest.fail("it was taken")


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
        assert (array.shape, array.dtype, array.ctypes.data % 64) == (shape, dtype, 0)
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


def test_a_set_in_files_trains_as_one_in_memory(tmp_path, monkeypatch):
    """Read from an .npz file, a share held out; in several batches, shuffled and mirrored."""
    IMAGES.save(tmp_path / "many.npz")
    monkeypatch.setitem(BATCH_SIZES, "learned", 20)

    def trained() -> tuple[data.Dataset, list, dict]:
        images = data.load(tmp_path / "many.npz").hold_out(0.1, seed=0)
        settings = Settings((1, 2), adapt_every=20, patience=0, shuffle=True, mirror=True)
        state = tiny.trained(PLAIN, images, settings)
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


def test_packed_files_are_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 0)
    np.savez_compressed(tmp_path / "packed.npz", images=np.arange(1000))
    assert type(files.read_npz(tmp_path / "packed.npz", "file", 10_000)["images"]) is np.ndarray
    np.savez(tmp_path / "short.npz", images=np.arange(1000), columns=np.asfortranarray(np.ones((3, 5))))
    read = files.read_npz(tmp_path / "short.npz", "file")
    assert (type(read["images"]), type(read["columns"])) == (np.memmap, np.ndarray)
    np.testing.assert_array_equal(read["images"], np.arange(1000))

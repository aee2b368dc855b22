"""Files that are whole or not there, and the lock of a folder."""

import errno
import os
import pathlib
import stat

import pytest

from snnjax.core import files
from snnjax.core.files import atomic_write, lock


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

"""Files that are whole or not there, and the lock of a folder."""

import errno
import fcntl
import os
import pathlib
import stat
import subprocess
import sys
import types

import pytest

from snnjax.files import atomic_write, lock


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_the_umask_applies(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file.txt") as temporary:
            temporary.write_text("secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o666 & ~umask


def test_content_and_name_are_on_the_disk_when_a_write_ends(tmp_path, monkeypatch):
    """What was written is synced before it takes its name, and the folder after."""
    events, sync, rename = [], os.fsync, pathlib.Path.replace

    def fsync(handle):
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else os.fstat(handle).st_size)
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(pathlib.Path, "replace", lambda *args: (events.append("rename"), rename(*args)))
    with atomic_write(tmp_path / "file.txt") as temporary:
        temporary.write_text("content")
    assert events == [len("content"), "rename", "folder"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_write(path) as temporary:
        temporary.write_bytes("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_that_is_removed_in_between_is_not_taken_twice(tmp_path, monkeypatch):
    """Another run ends, and takes the lock's file with it, between this one's opening and locking it."""
    real, calls = fcntl.flock, []

    def flock(file, how):
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock(tmp_path):
        assert len(calls) == 2
        with pytest.raises(FileExistsError, match="another run is writing"), lock(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("fault", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_no_other_run(tmp_path, monkeypatch, fault):
    def flock(*_):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked .*let no other run"), lock(tmp_path):
        (tmp_path / "result").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_where_there_is_no_fcntl(tmp_path, monkeypatch):
    """As on Windows, whose lock this stands in for: `msvcrt.locking` refuses with EACCES what another has locked."""

    def locking(handle, mode, count):
        assert (mode, count) == (2, 1)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    with lock(tmp_path), pytest.raises(FileExistsError, match="another run is writing"), lock(tmp_path):
        pass
    with lock(tmp_path):
        pass


def test_the_commands_can_be_imported_without_fcntl():
    script = "import sys; sys.modules['fcntl'] = None; import snnjax.app.runs, snnjax.app.console"
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=os.environ | dict(PYTHONPATH=os.pathsep.join(sys.path))
    )

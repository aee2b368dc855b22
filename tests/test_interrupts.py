"""How programs end: by Ctrl-C and SIGTERM, whatever they are doing, and by errors."""

import os
import pty
import signal
import subprocess
import sys
from unittest import mock

import pytest
from command import ENVIRONMENT, STATE, begin, until
from tiny import TRAIN

from snnjax.__main__ import program
from snnjax.app import interrupts, main
from snnjax.core import devices, files


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_an_interrupt_leaves_a_checkpoint(tmp_path, sent):
    """A real Ctrl-C in the middle of the last phase, or a kill, which may leave a temporary file."""
    process = begin("train", *TRAIN, "--epochs", 1, 100000, "--patience", 0, "--out", tmp_path / "out")
    until((tmp_path / "out" / "history.csv").exists, process)
    process.send_signal(sent)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    _, meta = files.load_checkpoint(tmp_path / "out" / "checkpoint.npz")
    assert meta["done"] == len(meta["epochs"]) > 0
    if sent == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert {*os.listdir(tmp_path / "out")} >= {*STATE}
        return
    assert (process.returncode, err) == (130, "")
    assert "--resume" in out
    assert sorted(os.listdir(tmp_path / "out")) == STATE


LOSING = """
import contextlib, time
from snnjax.app import interrupts, main

def work():
    print("begun", flush=True)
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt):  # as a callback of the interpreter would
            time.sleep(60)
    time.sleep(60)

interrupts.RESEND_AFTER = 0.1
with main.protected():
    work()
"""


TURNING = """
import time
from snnjax.app import main

class Archive:
    def close(self):
        raise ValueError("Can't close the ZIP file while there is an open writing handle on it.")

    __del__ = close

def work():
    archive = Archive()
    print("begun", flush=True)
    try:
        time.sleep(60)
    finally:
        archive.close()

with main.protected():
    work()
"""
"""As np.savez, interrupted between two of its lines."""


IMPORTING = """
import sys, time, traceback
from snnjax.__main__ import program

class Finder:
    def find_spec(name, path, target=None):
        if name == "numpy":
            print("begun", flush=True)
            try:
                time.sleep(60)
            except BaseException:
                traceback.print_exc()
                raise

sys.argv = ["snnjax", "evaluate", "run"]
sys.meta_path.insert(0, Finder)
program()
"""
"""As modules of C in NumPy, which print exceptions while they are imported, or crash."""


PRINTING = f"""
import io, os

class Slow(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        written = os.write(1, data)
        time.sleep(60)
        return written
{IMPORTING.replace("program()", "sys.stdout = io.TextIOWrapper(io.BufferedWriter(Slow())); program()")}
"""
"""Interrupted within a call of `print`, which no other one may enter."""


@pytest.mark.parametrize(
    "text",
    [LOSING, TURNING, IMPORTING, PRINTING],
    ids=["swallowed", "turned into another error", "while NumPy is imported", "while it prints"],
)
def test_an_interrupt_stops_a_program_whatever_becomes_of_it(text):
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, "-c", text], **streams, env=ENVIRONMENT)
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (interrupts.STOPPED, "\nStopped.\n", "")


HANGING = """
import pathlib, sys, time
from snnjax.app import interrupts, main

def work():
    try:
        print("begun", flush=True)
        pathlib.Path("printed").touch()
        for _ in range(1200):  # a signal between two lines does not wake a single long sleep
            time.sleep(0.05)
    except KeyboardInterrupt:
        print("a line for a terminal that is gone", flush=True)
        print("and an error", file=sys.stderr, flush=True)
        pathlib.Path("kept").touch()
        raise

with main.protected():
    work()
"""


def test_a_closed_terminal_interrupts_a_program(tmp_path):
    """Its output goes nowhere from then on; `nohup` keeps it running."""
    terminal, end = pty.openpty()
    listens = "import fcntl, signal, termios; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # tests may run by nohup
    process = subprocess.Popen(
        [sys.executable, "-c", f"{listens}\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{HANGING}"],
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    os.close(end)
    assert os.read(terminal, 5) == b"begun"
    until((tmp_path / "printed").exists, process)  # so that the terminal is not closed within the call that prints
    os.close(terminal)
    assert process.wait(timeout=30) == interrupts.STOPPED
    assert (tmp_path / "kept").exists()
    ignoring = [sys.executable, "-c", f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{HANGING}"]
    with subprocess.Popen(ignoring, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=ENVIRONMENT) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.kill()


def test_only_faults_of_the_program_have_a_traceback(monkeypatch, capsys):
    """An error that no user can mend leaves the program as it is; others end it in one line, with status 2."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(sys, "argv", ["snnjax", "train"])
    for error, raised in ((ValueError("a fault"), ValueError), (OSError("no disk"), SystemExit)):
        monkeypatch.setattr(devices, "choose", mock.Mock(side_effect=error))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # another program of this process may have set it
        try:
            with pytest.raises(raised) as caught:
                program()
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "it stops as Ctrl-C does"
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    assert (caught.value.code, capsys.readouterr().err) == (2, "snnjax train: no disk\n")
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    with pytest.raises(SystemExit) as caught, main.user_errors("snnjax"):
        raise BrokenPipeError
    assert (caught.value.code, capsys.readouterr().err) == (1, ""), "whoever reads the output has seen enough"

"""Several processes that train one network: the same result as one, a single writer, and an end where one is lost."""

import functools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np
import psutil
import pytest
import tiny
from command import ENVIRONMENT, ROOT, Command, begin, until
from jax.sharding import Mesh
from same import assert_same_runs, assert_same_sweep

from snnjax.core import devices
from snnjax.runs.sweep_folder import GROUPS
from snnjax.training.placement import SHARED

TRAIN = ["train", *tiny.TRAIN[2:], "--validation", 0.1, "--out", "run", "--shuffle", "--patience", 1]
LABELLED = ["--model", f"{tiny.__file__}:labelled"]
REWARDED = ["--model", f"{tiny.__file__}:branches", "--epochs", 1, 2, 4]


def start(folders: Sequence[pathlib.Path], command: Sequence[object], *last: object) -> list[subprocess.Popen]:
    """Starts `snnjax COMMAND` in each folder, as processes of one training; the last one with more options."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = []
    for at, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        options = [*command, *(last if folder is folders[-1] else ()), "--distributed", address, len(folders), at]
        processes.append(begin(*options, cwd=folder))
    return processes


def ends(processes: Sequence[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Status, output and messages of each, once all have ended."""
    try:
        said = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *words) for process, words in zip(processes, said, strict=True)]


def alone(folder: pathlib.Path, monkeypatch, command: list[object]) -> None:
    """Does the same command in this process."""
    folder.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        Command(command[0]).main(command[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [*LABELLED, "--kernels", "xla", "--update_batch", 5],
        [*REWARDED, "--kernels", "xla", "--update_batch", 4, "--validation", 0, "--mirror"],
        [*REWARDED, "--kernels", "native"],
        [*LABELLED, "--kernels", "xla", "--labels", 20, "--draw"],
    ],
    ids=["labelled", "rewarded", "rewarded, native", "few labels"],
)
def test_two_processes_train_as_one_and_the_first_alone_writes(tmp_path, monkeypatch, options, request):
    if "native" in options:
        request.getfixturevalue("compiler")
    one, first, second = (tmp_path / name for name in ("one", "first", "second"))
    alone(one, monkeypatch, [*TRAIN, *options])
    said = ends(start([first, second], [*TRAIN, *options]))
    assert [status for status, _, _ in said] == [0, 0], said
    assert_same_runs(first / "run", one / "run")
    assert "the first of 2 processes" in said[0][1]
    assert said[1][1:] == ("", "")
    if "labelled" in request.node.name:
        said = ends(start([first, second], ["evaluate", "../first/run", "--device", "cpu", "--out", "figures.json"]))
        assert [status for status, _, _ in said] == [0, 0], said
        alone(one, monkeypatch, ["evaluate", "../one/run", "--device", "cpu", "--out", "figures.json"])
        figures = [(folder / "figures.json").read_text().replace("/first/", "/one/") for folder in (first, one)]
        assert figures[0] == figures[1]
    assert list(second.iterdir()) == []


@pytest.mark.slow
def test_where_one_process_is_killed_the_other_ends_and_the_run_continues(tmp_path, monkeypatch):
    """First the second process is killed, then the first one; one process alone trains to the end."""
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    command = [*TRAIN, *LABELLED, "--patience", 0, "--epochs", 2, 200, "--resume"]
    alone(whole, monkeypatch, command)
    history = first / "run" / "history.csv"
    for lost in (1, 0):
        lines = history.read_text().count("\n") if history.exists() else 0
        both = start([first, second], command)
        until(lambda lines=lines: history.exists() and history.read_text().count("\n") > lines, *both)
        both[lost].send_signal(signal.SIGKILL)
        status, _, said = ends(both)[1 - lost]
        assert status == 1
        line = said.strip().split("\n")[-1]
        words = f"snnjax train, process {1 - lost} of 2: another process has ended or cannot be reached"
        assert line.startswith(words), said
        assert "--resume" in line
        assert history.read_text().count("\n") < 200, "the run was not over"
    alone(first, monkeypatch, command)
    assert_same_runs(first / "run", whole / "run")


@pytest.mark.slow
def test_processes_with_other_settings_are_refused(tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    first, second = ends(start(folders, [*TRAIN, *LABELLED], "--seed", 3))
    assert second[0] == 2
    words = "all processes must have the same settings and data: the first has seed 0 (now 3)"
    assert f"snnjax train, process 1 of 2: {words}" in second[2]
    assert first[0] == 1
    assert "snnjax train, process 0 of 2: another process has ended" in first[2]


@pytest.mark.parametrize("size", [1, 5])
def test_devices_share_a_batch(size):
    mesh = Mesh(jax.devices("cpu")[:2], "images")
    items = dict(x=np.arange(3 * size, dtype=np.float32).reshape(size, 3))
    function = functools.partial(devices.map_each, lambda item: (item["x"].sum(), item["x"][0]))
    spread = functools.partial(devices.share_out, function)
    shared = jax.shard_map(spread, mesh=mesh, in_specs=SHARED, out_specs=SHARED, check_vma=False)
    sums, firsts = jax.jit(shared)(items)
    np.testing.assert_array_equal(sums, items["x"].sum(axis=1))
    np.testing.assert_array_equal(firsts, items["x"][:, 0])


# Sweeps

SWEEP = [*tiny.TRAIN, "--model", f"{ROOT / 'tests' / 'own_swept.py'}:network", "--vary", "layer1.ltp=0.02,0.04"]
SWEEP += ["--seeds", "2", "--train_images", "100", "--validation", "0.1", "--kernels", "xla", "--epochs", "4", "500"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """What one process leaves."""
    path = tmp_path_factory.mktemp("swept") / "whole"
    Command("sweep").main([*SWEEP, "--out", path])
    return path


class Started:
    """The command in a process of its own, which trains: groups have left states since its start."""

    def __init__(self, out: pathlib.Path, *arguments: str):
        began = time.time()
        self.process = begin("sweep", *SWEEP, *arguments, "--out", out, start_new_session=True)

        def states_of_now() -> list[pathlib.Path]:
            return [path for path in (out / GROUPS).glob("[!.]*.npz") if path.stat().st_mtime > began]

        until(lambda: len(states_of_now()) > 1, self.process)
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> None:
        """Interrupts all processes, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)
        status, out, err = self.end()
        assert (status, err) == (130, "")
        assert "Stopped; all but the last half minute is kept. The same command goes on." in out

    def end(self) -> tuple[int, str, str]:
        """Its exit status, and what it has printed; nobody trains on."""
        out, err = self.process.communicate(timeout=600)
        _, alive = psutil.wait_procs(self.children, timeout=60)
        assert not alive
        return self.process.returncode, out, err


@pytest.mark.slow
def test_a_sweep_by_processes_that_is_stopped_ends_the_same(whole, tmp_path):
    """Each time after at least one epoch of each group: a worker is killed, then all stopped, then the main process.

    The workers import the user's file.
    """
    folder = tmp_path / "two"
    started = Started(folder, "--workers", "2")
    workers = [each for each in started.children if "resource_tracker" not in " ".join(each.cmdline())]
    workers[-1].kill()
    status, _, err = started.end()
    assert (status, err.count("\n")) == (2, 1), err
    assert "a worker was killed, perhaps because memory ran out: what was finished is kept" in err
    Started(folder, "--workers", "2").stop()
    started = Started(folder, "--workers", "2")
    started.process.kill()
    assert started.end()[0] == -signal.SIGKILL
    Command("sweep").main([*SWEEP, "--out", folder, "--workers", "2"])
    assert_same_sweep(whole, folder)


KILLED = """
import os, signal
from snnjax.training.workers import processes
with processes(2) as workers:
    workers.executor.submit(os.getpid).result()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_that_wait_end_with_the_process_that_is_killed():
    """Otherwise they hold its pipes open, and nobody who reads from these ever ends."""
    done = subprocess.run([sys.executable, "-c", KILLED], env=ENVIRONMENT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_cluster_trains_nothing_for_a_command_that_stopped_and_outlives_a_worker(whole, tmp_path):
    """Its workers are free for the same command, which continues; what a killed worker trained, another one trains."""
    distributed = pytest.importorskip("distributed")
    folder = tmp_path / "cluster"
    how = dict(n_workers=2, threads_per_worker=1, dashboard_address=":0", local_directory=str(tmp_path / "dask"))
    with (
        distributed.LocalCluster(processes=True, **how) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        Started(folder, "--scheduler", local.scheduler_address).stop()
        until(lambda: not any(worker.processing for worker in local.scheduler.workers.values()))
        workers = client.run(os.getpid)
        started = Started(folder, "--scheduler", local.scheduler_address)
        os.kill(next(iter(workers.values())), signal.SIGKILL)
        assert started.end()[0] == 0
        assert {*client.run(os.getpid).values()} != {*workers.values()}
    assert_same_sweep(whole, folder)

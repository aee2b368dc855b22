"""Sweeps by several processes of this machine, and by a real Dask cluster: killed, stopped, and the same in the end."""

import contextlib
import functools
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import jax
import psutil
import pytest
import tiny
from command import Command
from several import ROOT
from test_sweep import IMAGES, SEEDS, SETTINGS, SHALLOW, assert_same_sweep

from snnjax.core.errors import InputError
from snnjax.runs.sweep_folder import GROUPS
from snnjax.training.sweep import Sweep
from snnjax.training.workers import cluster, processes

SWEEP = [*tiny.TRAIN, "--model", f"{ROOT / 'tests' / 'own_swept.py'}:network", "--vary", "layer1.rate=0.03,0.05"]
SWEEP += ["--seeds", "2", "--train_images", "100", "--validation", "0.1", "--kernels", "xla", "--epochs", "4", "30"]
ENVIRONMENT = os.environ | dict(PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """What one process leaves."""
    path = tmp_path_factory.mktemp("swept") / "whole"
    Command("sweep").main([*SWEEP, "--out", path])
    return path


class Started:
    """The command in a process of its own, which trains: groups have left states since its start."""

    def __init__(self, out: pathlib.Path, *arguments: str, groups: int = 2):
        begin = time.time()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "snnjax", "sweep", *SWEEP, *arguments, "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        )

        def trains() -> bool:
            saved = [each for each in (out / GROUPS).glob("*.npz") if each.stat().st_mtime > begin]
            return self.process.poll() is not None or len(saved) >= groups

        wait(trains)
        assert self.process.poll() is None, self.process.communicate()
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> None:
        """As Ctrl-C in a terminal, which interrupts all processes."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Its exit status, and what it has printed; nobody trains on."""
        out, err = self.process.communicate(timeout=600)
        _, alive = psutil.wait_procs(self.children, timeout=60)
        assert not alive
        return self.process.returncode, out, err


def wait(until: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_stopped(status: int, out: str, err: str) -> None:
    assert (status, err) == (130, "")
    assert "Stopped; all but the last half minute is kept. The same command goes on." in out


def cores_of(group, callback) -> tuple[int, tuple[int, ...], int]:
    """What a worker has."""
    time.sleep(1)
    return os.getpid(), tuple(sorted(os.sched_getaffinity(0))), jax.local_device_count()


def test_processes_share_the_cores():
    with processes(2) as workers:
        given = {*workers.executor.map(functools.partial(workers.task, workers.share(cores_of)), range(4))}
    ours = os.sched_getaffinity(0)
    assert len({pid for pid, *_ in given} - {os.getpid()}) == 2
    assert {core for _, cores, _ in given for core in cores} == ours
    assert sum(len(cores) for _, cores, _ in given) == max(len(ours), 2), "no core is in two shares"
    assert all(devices == len(cores) for _, cores, devices in given)
    with pytest.raises(InputError, match="`count` must be at least 1, got 0"), processes(0):
        pass


def test_two_processes_leave_what_one_does(whole, tmp_path, capsys):
    """They import the user's file."""
    Command("sweep").main([*SWEEP, "--out", tmp_path / "two", "--workers", "2"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("program")]
    assert sorted(re.sub(r"[\d.]+%", "%", line) for line in lines) == [
        "program 1 of 2 done: validation %",
        "program 1 of 2: 2 networks, layer1.rate=0.03",
        "program 2 of 2 done: validation %",
        "program 2 of 2: 2 networks, layer1.rate=0.05",
    ]
    assert_same_sweep(whole, tmp_path / "two")


def test_a_sweep_by_processes_that_is_stopped_ends_the_same(whole, tmp_path):
    """Each time after at least one epoch of each group: a worker is killed, then all stopped, then the main process."""
    folder = tmp_path / "two"
    started = Started(folder, "--workers", "2")
    workers = [each for each in started.children if "resource_tracker" not in " ".join(each.cmdline())]
    workers[-1].kill()
    status, _, err = started.end()
    assert (status, err.count("\n")) == (2, 1), err
    assert "a worker was killed, perhaps because memory ran out: what was finished is kept" in err
    started = Started(folder, "--workers", "2")
    started.interrupt()
    assert_stopped(*started.end())
    started = Started(folder, "--workers", "2")
    started.process.kill()
    assert started.end()[0] == -signal.SIGKILL
    Command("sweep").main([*SWEEP, "--out", folder])
    assert_same_sweep(whole, folder)


# On a cluster


@pytest.fixture(scope="module")
def distributed():
    return pytest.importorskip("distributed")


@contextlib.contextmanager
def dask(*arguments: str) -> Iterator[subprocess.Popen]:
    """A scheduler or worker of Dask's, from the command line."""
    program = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
    streams = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with subprocess.Popen(program, env=ENVIRONMENT, start_new_session=True, **streams) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def local(distributed, tmp_path_factory):
    """A cluster of two worker processes; those that are killed come back."""
    folder = tmp_path_factory.mktemp("dask")
    how = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", local_directory=str(folder))
    with distributed.LocalCluster(**how) as made:
        yield made


def test_a_cluster_trains_nothing_for_a_command_that_stopped_and_outlives_a_worker(whole, local, distributed, tmp_path):
    """Its workers are free for the same command, which continues; what a killed worker trained, another one trains."""
    folder = tmp_path / "cluster"
    started = Started(folder, "--scheduler", local.scheduler_address)
    started.interrupt()
    assert_stopped(*started.end())
    wait(lambda: not any(worker.processing for worker in local.scheduler.workers.values()))
    with distributed.Client(local, set_as_default=False) as client:
        workers = client.run(os.getpid)
        started = Started(folder, "--scheduler", local.scheduler_address)
        os.kill(next(iter(workers.values())), signal.SIGKILL)
        assert started.end()[0] == 0
        assert {*client.run(os.getpid).values()} != {*workers.values()}
    assert_same_sweep(whole, folder)


def test_a_scheduler_that_goes_away_loses_nothing(whole, distributed, tmp_path):
    port = "18786"
    address = f"tcp://127.0.0.1:{port}"
    how = ["--nthreads", "1", "--nworkers", "2", "--local-directory", str(tmp_path / "dask")]
    with dask("scheduler", "--host", "127.0.0.1", "--port", port) as scheduler, dask("worker", address, *how):
        started = Started(tmp_path / "cluster", "--scheduler", address)
        scheduler.kill()
        status, _, err = started.end()
    assert (status, err.count("\n")) == (2, 1), err
    assert f"the Dask scheduler at {address} went away: what was finished is kept" in err
    Command("sweep").main([*SWEEP, "--out", tmp_path / "cluster"])
    assert_same_sweep(whole, tmp_path / "cluster")


def test_clusters_that_are_none(distributed):
    message = r"no Dask scheduler answers at tcp://127.0.0.1:9 .*: start one by `dask scheduler`, and"
    with pytest.raises(OSError, match=message), cluster("tcp://127.0.0.1:9", patience=1):
        pass
    how = dict(processes=False, dashboard_address=":0")
    for n_workers, threads, kind, message in (
        (0, 1, OSError, r"has no workers: start some by `dask worker \S+ --nthreads 1`"),
        (1, 2, InputError, "workers must train one group at a time, got .* 2.* threads: start them by"),
    ):
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(distributed.LocalCluster(n_workers=n_workers, threads_per_worker=threads, **how))
            stack.enter_context(pytest.raises(kind, match=message))
            stack.enter_context(cluster(made.scheduler_address, patience=1))


def test_a_file_that_a_worker_lacks_is_named(local):
    """As on another machine."""

    def lacks():
        raise InputError("`import` must name a Python file or a module: there is no file own.py")

    sweep = Sweep(SHALLOW, IMAGES, SETTINGS, SEEDS[:1])
    with (
        cluster(local.scheduler_address, lacks) as workers,
        pytest.raises(InputError, match=r"there is no file own\.py"),
    ):
        sweep.run(workers=workers)

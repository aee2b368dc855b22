"""Sweeps by several processes of this machine, and by a real Dask cluster: killed, stopped, and the same in the end."""

import functools
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import psutil
import pytest
import tiny
from command import Command
from test_processes import ROOT
from test_sweep import assert_same_sweep

from snnjax.core.errors import InputError
from snnjax.runs.sweep_folder import GROUPS
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


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


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
        wait(lambda: not any(worker.processing for worker in local.scheduler.workers.values()))
        workers = client.run(os.getpid)
        started = Started(folder, "--scheduler", local.scheduler_address)
        os.kill(next(iter(workers.values())), signal.SIGKILL)
        assert started.end()[0] == 0
        assert {*client.run(os.getpid).values()} != {*workers.values()}
    assert_same_sweep(whole, folder)


def test_clusters_that_are_none():
    distributed = pytest.importorskip("distributed")
    with pytest.raises(OSError, match="no Dask scheduler answers at"):
        cluster("tcp://127.0.0.1:9", patience=1).__enter__()
    for n_workers, threads, kind, message in (
        (0, 1, OSError, "has no workers"),
        (1, 2, InputError, "workers must train one group at a time, got .* 2.* threads"),
    ):
        how = dict(n_workers=n_workers, threads_per_worker=threads, processes=False, dashboard_address=":0")
        with distributed.LocalCluster(**how) as made, pytest.raises(kind, match=message):
            cluster(made.scheduler_address, patience=1).__enter__()

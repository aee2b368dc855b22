"""Sweeps by workers: the same result as in one process, whatever is stopped or killed meanwhile."""

import os
import pathlib
import signal
import time

import psutil
import pytest
import tiny
from command import ROOT, Command, begin, until
from conftest import made_once
from same import assert_same_sweep

from snnjax.runs.sweep_folder import GROUPS

SWEEP = [*tiny.TRAIN, "--model", f"{ROOT / 'tests' / 'own_swept.py'}:network", "--vary", "layer1.ltp=0.02,0.04"]
SWEEP += ["--seeds", "2", "--train_images", "100", "--validation", "0.1", "--backend", "xla", "--epochs", "4", "200"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """What one process leaves."""
    return made_once(tmp_path_factory, "swept", lambda path: Command("sweep").main([*SWEEP, "--out", path]))


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
        assert "Stopped; all but the last half minute is kept. The same command continues." in out

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

"""The workers that train the groups of a sweep: an executor of `concurrent.futures`, or this process.

The workers of one machine (`processes`, by loky) or of a cluster (`cluster`, by Dask) are passed to `Sweep.run` or
`SweepFolder.run`. They exist until the `with` block ends, which stops all unfinished work:

```python
with processes(4) as workers, SweepFolder("runs/sweep", sweep) as folder:
    folder.run(workers)
```

`prepare` is called in each worker before it trains; it imports the modules that define custom components.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, as_completed
from pathlib import Path
from typing import Any

from snnjax.core import checks, devices
from snnjax.core.errors import InputError, optional_package
from snnjax.training.groups import Group, Outcome
from snnjax.training.state import Callback

Work = Callable[..., Outcome]

ON_ANY_DEVICE = functools.partial(devices.choose, "auto")
TRACKER_FILTER = "ignore:resource_tracker"
KEPT = "what was finished is kept, and the same command continues"


def _call(work: Work, group: Group) -> Outcome:
    return work(group)


def _same(work: Work) -> Work:
    return work


@dataclasses.dataclass(frozen=True)
class Workers:
    """The workers that train the groups of a sweep.

    Attributes:
      executor: trains groups elsewhere; None: this process trains one group after the other.
      count: the number of groups that are trained at a time.
      share: turns the work, which holds the data, into the value that each task of the executor receives.
      task: the function of the work and a group that the executor calls.
    """

    executor: Executor | None = None
    count: int = 1
    share: Callable[[Work], Any] = _same
    task: Callable[[Any, Group], Outcome] = _call

    def map(self, work: Work, groups: Sequence[Group], callback: Callback) -> Iterator[Outcome]:
        """Yields the outcomes of groups in the order in which they end; without an executor, stops after an error."""
        if self.executor is None:
            for group in groups:
                callback.group_started(group)
                outcome = work(group, callback=callback)
                callback.group_ended(outcome)
                yield outcome
                if outcome.error:
                    break
            return
        shared = self.share(work)
        futures = []
        for group in groups:
            callback.group_started(group)
            futures.append(self.executor.submit(self.task, shared, group))
        try:
            for future in as_completed(futures):
                callback.group_ended(future.result())
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


# The default, since one process spreads its networks over the cores as well: four networks of mozafari2018 on 1,000
# digits took 154 s in one process and 157 s in two.
SERIAL = Workers()
"""This process, one group after the other."""


def _train(
    prepare: Callable[[], Any], callback: Callback, read: Callable[[Any], Work], shared: Any, group: Group
) -> Outcome:
    prepare()
    return read(shared)(group, callback=callback)


# On this machine


@contextlib.contextmanager
def processes(count: int, prepare: Callable[[], Any] = ON_ANY_DEVICE) -> Iterator[Workers]:
    """Starts `count` processes, each on its own share of this process's cores; raises OSError if one is killed.

    They end when this process ends, even if it is killed. Processes on an accelerator would share its memory, so use
    only one process there.
    """
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import BrokenProcessPool

    checks.integer("count", count, 1)
    with tempfile.TemporaryDirectory() as folder, _without_tracker_warnings():
        place = Path(folder)
        executor = ProcessPoolExecutor(count, initializer=_follow, initargs=(os.getpid(), place))
        ready = functools.partial(_prepare_process, place, count, prepare)
        task = functools.partial(_train, ready, Callback(), _read)
        try:
            yield Workers(executor, count, functools.partial(_write, place / "work"), task)
        except BrokenProcessPool as error:
            problem = "a worker was killed, perhaps because memory ran out"
            raise OSError(f"{problem}: {KEPT}, with fewer workers or networks at once if it must") from error
        finally:
            executor.shutdown(kill_workers=True)


@contextlib.contextmanager
def _without_tracker_warnings() -> Iterator[None]:
    """Keeps the tracker process of loky from warning that Ctrl-C has left semaphores, which the tracker removes."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = f"{before},{TRACKER_FILTER}" if before else TRACKER_FILTER
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _write(path: Path, work: Work) -> Path:
    """The file of the work, from which all processes map its arrays."""
    import joblib

    joblib.dump(work, path)
    return path


@functools.cache
def _read(path: Path) -> Work:
    import joblib

    return joblib.load(path, mmap_mode="r")


def _follow(parent: int, folder: Path) -> None:
    """Leaves Ctrl-C to the parent of this process, and ends this process once the parent has ended for any reason."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after, args=(parent, folder), daemon=True).start()


def _end_after(parent: int, folder: Path) -> None:
    """Ends this process after its parent, which cannot remove its folder if it was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(folder, ignore_errors=True)
    # `sys.exit` would end only this thread.
    os._exit(1)


def _prepare_process(folder: Path, count: int, prepare: Callable[[], Any]) -> None:
    devices.take_share(folder, count)
    prepare()


# On a cluster


@contextlib.contextmanager
def cluster(address: str, prepare: Callable[[], Any] = ON_ANY_DEVICE, patience: float = 10.0) -> Iterator[Workers]:
    """The workers of a Dask scheduler, including those that join later.

    If a worker is lost, Dask trains its group on another one. Raises MissingPackageError if the package distributed is
    missing, OSError if no scheduler answers within `patience` seconds, or if it has no workers or goes away, and
    InputError if a worker has several threads and so would train several groups at a time.
    """
    with optional_package("a scheduler needs distributed", "'snnjax[cluster]'"):
        from distributed import Client
        from distributed.scheduler import KilledWorker
    try:
        client = Client(address, timeout=patience, set_as_default=False)
    except (OSError, ValueError) as error:
        advice = "start one by `dask scheduler`, and workers by `dask worker ADDRESS --nthreads 1`"
        raise OSError(f"no Dask scheduler answers at {address} ({error}): {advice}") from error
    with _quiet("distributed"), _quiet("distributed.client"), client:
        executor = client.get_executor(pure=False)
        count = _workers(client, address, patience)
        task = functools.partial(_train, prepare, Watch(), _same)
        try:
            yield Workers(executor, count, functools.partial(_on_cluster, client), task)
        except KilledWorker as error:
            raise OSError(f"workers were killed, perhaps because memory ran out: {KEPT}") from error
        except CancelledError as error:
            raise OSError(f"the Dask scheduler at {address} went away: {KEPT}") from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keeps a logger from printing tracebacks if a connection is lost, because one line is enough."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _workers(client: Any, address: str, patience: float) -> int:
    """The number of workers, after waiting for the first one."""
    start = f"`dask worker {address} --nthreads 1`"
    with contextlib.suppress(TimeoutError):
        client.wait_for_workers(1, timeout=patience)
    threads = client.nthreads()
    if not threads:
        raise OSError(f"the Dask scheduler at {address} has no workers: start some by {start}")
    if wrong := {worker: count for worker, count in threads.items() if count > 1}:
        raise InputError(f"workers must train one group at a time, got {wrong} threads: start them by {start}")
    return len(threads)


def _on_cluster(client: Any, work: Work) -> Any:
    """Sends the work to the cluster once, and again if a worker that held it is lost."""
    from dask import config

    with config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):  # the data travel with the work
        return client.submit(_same, work, pure=False)


class Unwanted(Exception):
    """The result is no longer needed."""


class Watch(Callback):
    """Raises Unwanted if Dask no longer waits for the task that this thread carries out."""

    def started(self, phase: str, images: int) -> None:
        self.check()

    def advanced(self, images: int, correct: int) -> None:
        self.check()

    def check(self) -> None:
        from distributed import get_worker

        worker = get_worker()
        task = worker.state.tasks.get(worker.get_current_task())
        if task is None or task.state != "executing":
            raise Unwanted

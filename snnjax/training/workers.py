"""Who trains the groups of a sweep: processes of this machine by joblib, or of a cluster by Dask.

Both give `Workers`, for `Sweep.run` and `SweepFolder.run`, until the `with` block ends, which stops what is unfinished:

```python
with processes(4) as workers, SweepFolder("runs/sweep", sweep) as folder:
    folder.run(workers)
```

`prepare` is called in each worker before it trains; it imports the modules that define components of your own.
"""

import contextlib
import functools
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from snnjax.core import checks, devices
from snnjax.core.errors import InputError, MissingPackageError
from snnjax.training.groups import Group, Outcome, Workers
from snnjax.training.state import Callback

Work = Callable[..., Outcome]

ON_ANY_DEVICE = functools.partial(devices.choose, "auto")
FEEDER, WAITED = "QueueFeederThread", 5.0  # the name of such a thread; seconds to wait for one at most
KEPT = "what was finished is kept, and the same command goes on"


class Unwanted(Exception):
    """Nobody waits for the result any more."""


class Watch(Callback):
    """Ends a training that nobody waits for."""

    def __init__(self, wanted: Callable[[], bool]):
        self.wanted = wanted

    def started(self, phase: str, images: int) -> None:
        self.advanced(0, 0)

    def advanced(self, images: int, correct: int) -> None:
        if not self.wanted():
            raise Unwanted


# On this machine


@contextlib.contextmanager
def processes(count: int, prepare: Callable[[], Any] = ON_ANY_DEVICE) -> Iterator[Workers]:
    """So many processes, each on its own share of the cores that this one may use; raises OSError if one is killed.

    Those of an accelerator would share its memory, so take one process there.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    checks.integer("count", count, 1)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(_join_feeders, {*threading.enumerate()})

        def train_all(work: Work, groups: Iterable[Group]) -> Iterator[Outcome]:
            how = dict(initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))  # Ctrl-C stops this one
            parallel = Parallel(count, return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1, **how)
            train = functools.partial(_in_process, os.getpid(), Path(folder), count, prepare, work)
            results = parallel(delayed(train)(group) for group in groups)
            stack.callback(lambda: get_reusable_executor().shutdown(kill_workers=True))  # they keep their cores
            stack.callback(results.close)
            try:
                yield from results
            except TerminatedWorkerError as error:
                problem = "a worker was killed, perhaps because memory ran out"
                raise OSError(f"{problem}: {KEPT}, with fewer workers or networks at once if it must") from error

        yield Workers(count, train_all, elsewhere=True)


def _join_feeders(others: set[threading.Thread]) -> None:
    """Waits for the feeder threads of the workers' queues: a program that ends before them seems to leak semaphores."""
    for thread in {*threading.enumerate()} - others:
        if thread.name == FEEDER:
            thread.join(WAITED)


def _in_process(parent: int, folder: Path, count: int, prepare: Callable[[], Any], work: Work, group: Group) -> Outcome:
    if os.getpid() != parent:
        devices.take_share(folder, count)
    prepare()
    return work(group, callback=Watch(lambda: parent in (os.getpid(), os.getppid()) or os._exit(1)))


# On a cluster


@contextlib.contextmanager
def cluster(address: str, prepare: Callable[[], Any] = ON_ANY_DEVICE, patience: float = 10.0) -> Iterator[Workers]:
    """The workers of a Dask scheduler, those that come later too; Dask trains elsewhere what a lost one was training.

    Raises MissingPackageError without distributed, OSError where no scheduler answers within `patience` seconds, has no
    workers, or goes away, InputError where a worker takes several groups at a time.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingPackageError(f"a scheduler needs distributed: pip install 'snnjax[cluster]' ({error})") from error
    try:
        client = Client(address, timeout=patience, set_as_default=False)
    except (OSError, ValueError) as error:
        advice = "start one by `dask scheduler`, and workers by `dask worker ADDRESS --nthreads 1`"
        raise OSError(f"no Dask scheduler answers at {address} ({error}): {advice}") from error
    with _quiet("distributed", "distributed.client"), client:
        count = _workers(client, address, patience)
        train_all = functools.partial(_on_cluster, client, prepare)
        yield Workers(count, train_all, elsewhere=True)


@contextlib.contextmanager
def _quiet(*loggers: str) -> Iterator[None]:
    """Keeps loggers from printing tracebacks where a connection is lost: one line says it."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    try:
        for name in loggers:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _workers(client: Any, address: str, patience: float) -> int:
    """The number of workers, once there is one."""
    start = f"`dask worker {address} --nthreads 1`"
    with contextlib.suppress(TimeoutError):
        client.wait_for_workers(1, timeout=patience)
    threads = client.nthreads()
    if not threads:
        raise OSError(f"the Dask scheduler at {address} has no workers: start some by {start}")
    if wrong := {worker: count for worker, count in threads.items() if count > 1}:
        raise InputError(f"workers must train one group at a time, got {wrong} threads: start them by {start}")
    return len(threads)


def _on_cluster(client: Any, prepare: Callable[[], Any], work: Work, groups: Iterable[Group]) -> Iterator[Outcome]:
    from dask import config
    from distributed import CancelledError, as_completed
    from distributed.scheduler import KilledWorker

    with config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):  # the data travel with the work
        shared = client.submit(_same, work, pure=False)
    futures = as_completed(
        [client.submit(_in_task, shared, prepare, group, pure=False) for group in groups], loop=client.loop
    )
    try:
        for future in futures:
            yield future.result()
    except KilledWorker as error:
        raise OSError(f"workers were killed, perhaps because memory ran out: {KEPT}") from error
    except CancelledError as error:
        raise OSError(f"the Dask scheduler at {client.scheduler.address} went away: {KEPT}") from error


def _same(work: Work) -> Work:
    return work


def _in_task(work: Work, prepare: Callable[[], Any], group: Group) -> Outcome:
    prepare()
    return work(group, callback=Watch(_is_wanted))


def _is_wanted() -> bool:
    """Whether Dask waits for the task that this thread carries out."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state == "executing"

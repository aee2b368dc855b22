"""`python -m snnjax` is the command `snnjax`."""

import gc
import os
import sys
import threading

from snnjax.app import interrupts


def program() -> None:
    """Runs the installed command, which Ctrl-C stops from its imports on."""
    interrupts.catch()
    from snnjax.app import main

    with main.protected(), main.command() as work:
        work()
        sys.stdout.flush()


def process() -> None:
    """Runs the installed command, and ends the process.

    It ends it at once: Python would take 0.7 s to free what the system frees in no time, such as JAX's programs.
    """
    # With the default of 700, searches for cycles among the many objects of JAX take 1.2 s of a short training.
    gc.set_threshold(20_000)
    program()
    for thread in threading.enumerate():  # those that compile kernels, which the next command would have to compile
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    os._exit(0)


if __name__ == "__main__":
    process()

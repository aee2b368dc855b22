"""`python -m snnjax` is the command `snnjax`."""

import gc

from snnjax.app import interrupts


def program() -> None:
    """Runs the installed command, which Ctrl-C stops from its imports on."""
    interrupts.catch()
    from snnjax.app import main

    with main.protected(), main.command() as work:
        work()


def process() -> None:
    """Runs the installed command as the only work of this process."""
    # By default, searches for cycles among the many objects of JAX take 1.2 s of a short training.
    gc.set_threshold(20_000)
    program()
    gc.freeze()  # or else Python frees them one by one at its end, which takes another 0.7 s


if __name__ == "__main__":
    process()

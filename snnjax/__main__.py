"""`python -m snnjax` is the command `snnjax`."""

import importlib

from snnjax.app import interrupts


def program() -> None:
    """Runs the installed command, which Ctrl-C stops from its imports on."""
    interrupts.catch()
    importlib.import_module("snnjax.app.main").program()


if __name__ == "__main__":
    program()

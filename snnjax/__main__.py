"""`python -m snnjax` is the command `snnjax`."""

from snnjax.app import interrupts


def program() -> None:
    """Runs the installed command, which Ctrl-C stops from its imports on."""
    interrupts.catch()
    from snnjax.app import main

    with main.protected(), main.command() as work:
        work()


if __name__ == "__main__":
    program()

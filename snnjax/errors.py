"""Errors that are meant for users."""


class InputError(ValueError):
    """The user's input is wrong: the message names the argument, what came and what was expected.

    Commands show it as one line. Any other exception is a fault of the library and keeps its traceback.
    """


class MissingPackageError(InputError, ImportError):
    """An optional package is needed and not installed; the message says how to install it."""


class DownloadError(OSError):
    """No mirror gave a file: the message says in one line what each answered, and what to do."""

"""Errors that are meant for users."""

import difflib
import unicodedata
from collections.abc import Iterable, Mapping


class InputError(ValueError):
    """The user's input is wrong: the message names the argument, what came and what was expected.

    Commands show it as one line. Any other exception is a fault of the library and keeps its traceback.
    """


class InputTypeError(InputError, TypeError):
    """An argument is of a wrong type or dtype."""


class TooSmallError(InputError):
    """A map is smaller than a window that slides over it."""


class MissingPackageError(InputError, ImportError):
    """An optional package is needed and not installed; the message says how to install it."""


class DivergedError(InputError):
    """Learning has left networks that are invalid, such as weights that are no numbers.

    Attributes:
      errors: what is wrong with each, by its place among the networks that train.
    """

    def __init__(self, errors: Mapping[int, str]):
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "; ".join(self.errors.values())


class DownloadError(OSError):
    """No mirror gave a file: the message says in one line what each answered, and what to do."""


def nearest(got: object, known: Iterable[str]) -> str:
    """The known name that is spelt most like what came, in letters of any size, or "" where none is near."""
    names = {str(each).lower(): str(each) for each in known}
    return next((names[each] for each in difflib.get_close_matches(str(got).lower(), names, n=1)), "")


def unknown(name: str, got: object, known: Iterable[str], others: str = "") -> InputError:
    """The error for an argument that must be one of the `known` names, with the one that may be meant.

    `others` is what else the argument may be, such as ", or an .npz file".
    """
    names = [str(each) for each in known]
    meant = nearest(got, names)
    question = f": did you mean {meant!r}?" if meant else ""
    return InputError(f"`{name}` must be one of {', '.join(names)}{others}, got {got!r}{question}")


def wrong_type(name: str, expected: str, got: object, write: str = "") -> InputTypeError:
    """The error for an argument of a wrong type; `write` is what to write instead, if that is known."""
    return InputTypeError(f"`{name}` must be {expected}, got {shown(got)}" + (f": write {write}" if write else ""))


def no_integer(name: str, got: object) -> InputTypeError:
    """The error for an argument that must be an integer; says which one where 10.0 or "10" came."""
    digits = str(got).removesuffix(".0")
    return wrong_type(name, "an integer", got, digits if digits.lstrip("-").isdigit() else "")


_ARRAYS = dict(Tracer="a traced", ArrayImpl="an array", ndarray="an array")
"""Words for arrays of JAX and NumPy by the names of their classes, since messages need neither package."""


def shown(value: object) -> str:
    """A value as messages show it: short ones themselves, of arrays dtype and shape, of others the type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    for kind, word in _ARRAYS.items():
        if any(each.__name__ == kind for each in type(value).__mro__) and hasattr(value, "dtype"):
            return f"{word} {value.dtype}[{','.join(map(str, getattr(value, 'shape', ())))}]"
    plain = value is None or isinstance(value, bool | int | float | str | tuple | list)
    try:
        text = repr(value) if plain else ""
    except (RecursionError, ValueError):  # deeply nested, or an integer of thousands of digits
        text = ""
    return text if 0 < len(text) <= 60 else type(value).__name__


def printable(text: str) -> str:
    """A text with "?" for characters that terminals would obey, and for those that UTF-8 does not hold."""
    return "".join(each if each.isprintable() or unicodedata.category(each) == "Zs" else "?" for each in text)

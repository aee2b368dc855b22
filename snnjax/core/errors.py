"""Errors that are meant for users."""

import contextlib
import difflib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence


class InputError(ValueError):
    """The user's input is wrong: the message names the argument, the value given and the value expected.

    Commands show it as one line. Any other exception is a fault of the library and keeps its traceback.

    Examples:
      >>> import snnjax
      >>> try:
      ...     snnjax.Pool(0)
      ... except snnjax.InputError as error:
      ...     print(error)
      `window` must be at least 1, got 0
    """


class InputTypeError(InputError, TypeError):
    """An argument has a wrong type or dtype."""


class TooSmallError(InputError):
    """A map is smaller than the window that slides over it."""


class MissingPackageError(InputError, ImportError):
    """An optional package is needed but not installed; the message says how to install it."""


class DivergedError(InputError):
    """Learning has made networks invalid, for example because their weights are NaN.

    Attributes:
      errors: what is wrong with each invalid network, keyed by its index among the networks being trained.
    """

    def __init__(self, errors: Mapping[int, str]):
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "; ".join(self.errors.values())


class DownloadError(OSError):
    """No mirror provided a file: the message gives, in one line, the answer of each mirror and a remedy."""


@contextlib.contextmanager
def explained(before: str = "", *kinds: type[Exception], advice: str = "") -> Iterator[None]:
    """Adds words to the message of an InputError that is raised in the `with` block, or of an error of these `kinds`.

    It raises an InputError whose message consists of `before`, the message of the original error, and `advice`.
    """
    try:
        yield
    except (InputError, *kinds) as error:  # type: ignore[misc]
        raise InputError(": ".join(filter(None, (before, str(error), advice)))) from error


@contextlib.contextmanager
def optional_package(needs: str, install: str) -> Iterator[None]:
    """Raises MissingPackageError if a package that is imported in the `with` block is missing.

    `needs` says what needs the package, such as "NIR needs the package nir"; `install` is the argument of pip install.
    """
    try:
        yield
    except ImportError as error:
        raise MissingPackageError(f"{needs} ({error}): pip install {install}") from error


def nearest(got: object, known: Iterable[str], likeness: float = 0.6) -> str:
    """The known name whose spelling is most similar to the given name, ignoring case, or "" if none is similar enough.

    `likeness`, 0..1, is the required similarity, the `cutoff` of `difflib.get_close_matches`.
    """
    names = {str(x).lower(): str(x) for x in known}
    return next((names[match] for match in difflib.get_close_matches(str(got).lower(), names, 1, likeness)), "")


def title(name: str) -> str:
    """The name of an argument as it is shown in messages: "rate of layer1" becomes "`rate` of layer1"."""
    argument, of, owner = name.partition(" of ")
    return f"`{argument}`{of}{owner}"


def unknown(name: str, got: object, known: Iterable[str], alternatives: str = "") -> InputError:
    """The error for an argument that must be one of the `known` names; the message suggests a similar name.

    `alternatives` are further possible values in words, such as ", or an .npz file".
    """
    names = [str(x) for x in known]
    meant = nearest(got, names)
    question = f": did you mean {meant!r}?" if meant else ""
    return InputError(f"{title(name)} must be one of {', '.join(names)}{alternatives}, got {got!r}{question}")


def wrong_type(name: str, expected: str, got: object, write: str = "") -> InputTypeError:
    """The error for an argument of a wrong type; `write` is the code to write instead, if it is known."""
    return InputTypeError(f"{title(name)} must be {expected}, got {shown(got)}" + (f": write {write}" if write else ""))


def no_integer(name: str, got: object) -> InputTypeError:
    """The error for an argument that must be an integer; if the value is 10.0 or "10", the message suggests 10."""
    digits = str(got).removesuffix(".0")
    return wrong_type(name, "an integer", got, digits if digits.lstrip("-").isdigit() else "")


_ARRAYS = dict(Tracer="a traced", ArrayImpl="an array", ndarray="an array")
"""Words for JAX and NumPy arrays, keyed by the names of their classes, so that neither package must be imported."""


def shown(value: object) -> str:
    """A value as it is shown in messages: a short value itself, an array's dtype and shape, and otherwise the type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    for kind, word in _ARRAYS.items():
        if any(base.__name__ == kind for base in type(value).__mro__) and hasattr(value, "dtype"):
            return f"{word} {value.dtype}[{','.join(map(str, getattr(value, 'shape', ())))}]"
    plain = value is None or isinstance(value, bool | int | float | str | tuple | list)
    try:
        text = repr(value) if plain else ""
    except (RecursionError, ValueError):  # the value is deeply nested, or an integer with thousands of digits
        text = ""
    return text if 0 < len(text) <= 60 else type(value).__name__


def image_size(shape: Sequence[int]) -> str:
    """The size of an image of `shape` (H, W) or (H, W, C) in words, such as "24 high, 40 wide"."""
    height, width, *channels = shape
    size = f"{height} high, {width} wide"
    if not channels:
        return size
    return f"{size}, in colour" if channels == [3] else f"{size}, {channels[0]} channels"


def printable(text: str) -> str:
    """A text with "?" in place of control characters and of characters that UTF-8 cannot encode."""
    return "".join(char if char.isprintable() or unicodedata.category(char) == "Zs" else "?" for char in text)

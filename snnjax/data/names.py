"""Names of classes."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from snnjax.core import checks
from snnjax.core.errors import InputError, printable

SILENT = "(silent)"
"""The name that stands for the decision -1, if a network is silent; no class may have it."""
NOT_PRINTED = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"))
"""Unicode categories of characters that are not printed, except for the space, which belongs to the last one."""


def numbered(classes: int) -> tuple[str, ...]:
    """The default names of classes: "0", "1", ..."""
    return tuple(map(str, range(classes)))


def checked(names: Iterable[str], classes: int | None = None) -> tuple[str, ...]:
    """Checks names of classes and returns them in Unicode normalization form NFC, as a tuple, which may be empty.

    Raises InputError if a name is not printable text, occurs twice or is `SILENT`, or if there are names but not one
    for each class, provided that the number of classes is given.
    """
    if isinstance(names, str):
        raise InputError(f"`class_names` must be a tuple of names, got the text {names!r}")
    given: tuple[Any, ...] = tuple(names)
    if wrong := [name for name in given if not isinstance(name, str) or not name.strip() or not _is_printable(name)]:
        raise InputError(f"`class_names` must be of printable characters, got {wrong[0]!r}")
    result = tuple(map(composed, given))
    if result and classes is not None:
        checks.length("class_names", result, classes, "classes")
    checks.distinct("class_names", result)
    if SILENT in result:
        raise InputError(f"`class_names` must not hold {SILENT!r}, which says that a network decides for none")
    return result


def _is_printable(name: str) -> bool:
    """Whether a name has only printable characters; characters that this version of Unicode lacks are accepted."""
    return all(char == " " or unicodedata.category(char) not in NOT_PRINTED for char in name)


def composed(text: str) -> str:
    """A text in Unicode normalization form NFC, in which an accented letter is a single character."""
    return unicodedata.normalize("NFC", str(text))


def name_of(decision: int, names: tuple[str, ...]) -> str:
    """The name of the class for which a network decides; `SILENT` for -1."""
    return names[decision] if decision >= 0 else SILENT


def natural(name: str) -> list[Any]:
    """A sort key for natural order: "2" comes before "10", and "a" next to "A"."""
    parts: list[Any] = re.split("([0-9]+)", name.casefold())
    for place in range(1, len(parts), 2):
        digits = parts[place].lstrip("0")
        parts[place] = (len(digits), digits)
    return [parts, name]


def shortened(name: str, most: int = 16) -> str:
    """A name with at most `most` characters; if necessary, its middle is replaced by an ellipsis."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"


def some(names: Sequence[str], comma: str = ", ") -> str:
    """The first three names, and the number of further names if there are any, as text."""
    return printable(comma.join(names[:3])) + f" and {len(names) - 3:,} more" * (len(names) > 3)

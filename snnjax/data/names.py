"""Names of classes."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from snnjax.core import checks
from snnjax.core.errors import InputError, printable

SILENT = "(silent)"
"""The name in place of a class where a network decides for none, -1; no class has it."""
NOT_PRINTED = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"))
"""Categories of Unicode; of the last, a space is printed."""


def numbered(classes: int) -> tuple[str, ...]:
    """The names of classes that have none: "0", "1", ..."""
    return tuple(map(str, range(classes)))


def checked(names: Iterable[str], classes: int | None = None) -> tuple[str, ...]:
    """The names of classes as a tuple, which may be empty, their characters composed (Unicode's form NFC).

    Raises InputError if they are no names, or not so many as there are classes, if that is known.
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
    """Whether it has no characters that are none, such as line breaks; those of later versions of Unicode are taken."""
    return all(char == " " or unicodedata.category(char) not in NOT_PRINTED for char in name)


def composed(text: str) -> str:
    """A text in which letters with accents are one character each (Unicode's form NFC)."""
    return unicodedata.normalize("NFC", str(text))


def name_of(decision: int, names: tuple[str, ...]) -> str:
    """The name of the class that a network decides for, `SILENT` for -1."""
    return names[decision] if decision >= 0 else SILENT


def natural(name: str) -> list[Any]:
    """A key that sorts names as people do: "2" before "10", "a" next to "A"."""
    parts: list[Any] = re.split("([0-9]+)", name.casefold())
    for place in range(1, len(parts), 2):
        digits = parts[place].lstrip("0")
        parts[place] = (len(digits), digits)
    return [parts, name]


def shortened(name: str, most: int = 16) -> str:
    """A name of at most so many characters, its middle left out if need be."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"


def some(names: Sequence[str], comma: str = ", ") -> str:
    """The first three of some names, and how many more there are."""
    return printable(comma.join(names[:3])) + f" and {len(names) - 3:,} more" * (len(names) > 3)

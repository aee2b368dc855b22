"""Conversion of numbers, strings and names to C source text."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNSIGNED = dict(uint8_t=1, uint16_t=2, uint32_t=4)
BYTES = UNSIGNED | dict(int8_t=1, int16_t=2, int32_t=4, int64_t=8, float=4, crossing=8)
"""The size of a number in bytes, by its C type."""


class Buffer(NamedTuple):
    """A static array of the program, in memory.

    Attributes:
      name: the name of the array.
      kind: the C type of its elements.
      shape: its dimensions.
      comment: a description of its contents.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    comment: str

    @property
    def declaration(self) -> str:
        """The declaration: type, name and dimensions."""
        return f"{self.kind} {self.name}{''.join(f'[{size}]' for size in self.shape)}"

    @property
    def size(self) -> int:
        """The size of the array in bytes."""
        return BYTES[self.kind] * math.prod(self.shape)


class Table(NamedTuple):
    """A constant array of the program.

    Attributes:
      name: the name of the array.
      kind: the C type of its elements.
      values: its elements, a one-dimensional array.
      comment: a description of its contents.
    """

    name: str
    kind: str
    values: np.ndarray
    comment: str

    @property
    def declaration(self) -> str:
        """The declaration: type, name and dimension."""
        return f"{self.kind} {self.name}[{len(self.values)}]"

    @property
    def size(self) -> int:
        """The size of the array in bytes."""
        return BYTES[self.kind] * len(self.values)

    @property
    def lines(self) -> list[str]:
        """The values as lines of C source."""
        literals = [floating(value) if self.kind == "float" else str(value) for value in self.values]
        return lines(literals)


def lines(literals: Sequence[str], width: int = 112) -> list[str]:
    """Joins literals, each followed by a comma, to lines of at most `width` characters."""
    rows: list[str] = []
    for literal in literals:
        if rows and len(rows[-1]) + len(literal) + 2 <= width:
            rows[-1] += f" {literal},"
        else:
            rows.append(f"{literal},")
    return rows


def floating(value: float | np.floating) -> str:
    """A C literal with exactly this float32 value."""
    return f"{np.float32(value):.8e}f"


def string(text: str) -> str:
    """A UTF-8 string literal, in which characters that may have a meaning in C are octal escapes."""
    return '"' + "".join(chr(x) if re.match(rb"[\w .,:+-]", bytes([x])) else f"\\{x:03o}" for x in text.encode()) + '"'


def identifier(name: str) -> str:
    """Converts a name to a C identifier: characters other than ASCII letters, digits and "_" become "_".

    If the result does not begin with a letter, "network_" is added in front.

    Examples:
      >>> from snnjax.export.c import identifier
      >>> identifier("digits-2024"), identifier("2024 digits")
      ('digits_2024', 'network_2024_digits')
    """
    allowed = re.sub(r"\W", "_", name, flags=re.ASCII)
    return allowed if re.match("[A-Za-z]", allowed) else f"network_{allowed}"


def unsigned(most: int) -> str:
    """The smallest unsigned C type that can represent `most`."""
    return next(kind for kind, size in UNSIGNED.items() if most < 1 << (8 * size))

"""Numbers, strings and names as text in C."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNSIGNED = dict(uint8_t=1, uint16_t=2, uint32_t=4)
BYTES = UNSIGNED | dict(int8_t=1, int16_t=2, int32_t=4, int64_t=8, float=4, crossing=8)
"""Bytes of a number, by its type in C."""


class Buffer(NamedTuple):
    """A static array of the program, in memory.

    Attributes:
      name: of the array.
      kind: the type of its numbers.
      shape: its dimensions.
      comment: what it holds.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    comment: str

    @property
    def declaration(self) -> str:
        """Type, name and dimensions."""
        return f"{self.kind} {self.name}{''.join(f'[{size}]' for size in self.shape)}"

    @property
    def size(self) -> int:
        """In bytes."""
        return BYTES[self.kind] * math.prod(self.shape)


class Table(NamedTuple):
    """A constant array of the program.

    Attributes:
      name: of the array.
      kind: the type of its numbers.
      values: of one axis.
      comment: what it holds.
    """

    name: str
    kind: str
    values: np.ndarray
    comment: str

    @property
    def declaration(self) -> str:
        """Type, name and dimension."""
        return f"{self.kind} {self.name}[{len(self.values)}]"

    @property
    def size(self) -> int:
        """In bytes."""
        return BYTES[self.kind] * len(self.values)

    @property
    def lines(self) -> list[str]:
        """The values as lines of C."""
        literals = [floating(value) if self.kind == "float" else str(value) for value in self.values]
        return lines(literals)


def lines(literals: Sequence[str], width: int = 112) -> list[str]:
    """Literals with a comma after each, in lines up to a width."""
    rows: list[str] = []
    for literal in literals:
        if rows and len(rows[-1]) + len(literal) + 2 <= width:
            rows[-1] += f" {literal},"
        else:
            rows.append(f"{literal},")
    return rows


def floating(value: float | np.floating) -> str:
    """A literal of exactly this float32."""
    return f"{np.float32(value):.8e}f"


def string(text: str) -> str:
    """A string literal, of UTF-8; whatever may have a meaning in C is in octal."""
    return '"' + "".join(chr(x) if re.match(rb"[\w .,:+-]", bytes([x])) else f"\\{x:03o}" for x in text.encode()) + '"'


def identifier(name: str) -> str:
    """The name with "_" for all but ASCII letters, digits and "_"; it begins with a letter."""
    allowed = re.sub(r"\W", "_", name, flags=re.ASCII)
    return allowed if re.match("[A-Za-z]", allowed) else f"network_{allowed}"


def unsigned(most: int) -> str:
    """The smallest type of integers from 0 up to `most`."""
    return next(kind for kind, size in UNSIGNED.items() if most < 1 << (8 * size))

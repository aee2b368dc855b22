"""The numbers of encoders, for programs other than snnjax that are to make the same latencies to the last bit."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from snnjax.encoding.encoder import RANGE_BITS, bits_of_parts
from snnjax.encoding.filters import DistinctKernels, FilterBank


class ExactFilter(NamedTuple):
    """A filter whose sums are exact, part by part.

    Attributes:
      size: its rows and columns.
      before: rows and columns of its window before the position of the output.
      parts: (P, size, size) float32; the filter is their sum.
    """

    size: int
    before: int
    parts: np.ndarray


class Normalisation(NamedTuple):
    """How `local_normalization` divides by exact sums.

    Attributes:
      bits: of each part of a value.
      parts: how many there are.
      neighbour: the share of a neighbour in the mean, float32; XLA multiplies by it, and adds in the same rounding.
    """

    bits: int
    parts: int
    neighbour: np.float32


def exact_filters(bank: FilterBank, kernels: DistinctKernels, margin: int) -> Iterator[ExactFilter]:
    """The distinct filters of a bank whose outputs begin `margin` rows and columns within the image."""
    for group in kernels.groups:
        before = margin - (bank.window - group.window) // 2
        for parts in group.unfolded.swapaxes(0, 1):
            yield ExactFilter(group.window, before, parts)


def map_thresholds(bank: FilterBank) -> np.ndarray:
    """The threshold of each map that a bank makes, (maps,) float32; at least 0, as are the outputs of filters."""
    thresholds = np.broadcast_to(bank.threshold or 0.0, len(bank.kernels))
    return np.repeat(np.maximum(thresholds, 0), bank.copies).astype(np.float32)


def normalisation(radius: int, size: tuple[int, int]) -> Normalisation:
    """How maps (H, W) of a size are normalised."""
    bits = bits_of_parts(radius, size)
    width = 2 * radius + 1
    return Normalisation(bits, -(-RANGE_BITS // bits), np.float32(1) / np.float32(width**2))


def span(encoder: Any) -> np.ndarray:
    """From the least to the largest value of each input of a fitted `OnOff`: (C, H, W) float32."""
    return np.asarray(encoder.maximum, np.float32) - np.asarray(encoder.minimum, np.float32)

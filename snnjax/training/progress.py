"""Progress out of compiled loops: what a scan reports while it runs, and who listens."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

C = TypeVar("C")
X = TypeVar("X")
Y = TypeVar("Y")
Listener = Callable[[int, int], None]
"""Called with the number of images done since the last call, and how many of them were decided correctly."""

_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within it, `listener` hears of the progress of all loops."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(images: int, correct: int = 0) -> None:
    """Tells those who listen that `images` more are done, `correct` of them decided correctly."""
    for listener in list(_listeners):
        listener(int(images), int(correct))


def reporting_scan(
    step: Callable[[C, X], tuple[C, Y]], carry: C, xs: X, *, report: Callable[[X, Y], tuple[jax.Array, jax.Array]]
) -> tuple[C, Y]:
    """`lax.scan` over the two leading axes (reports, steps) of `xs`, which tells its progress after each report.

    Args:
      step: (carry, x) -> (carry, y).
      carry: the first carry.
      xs: arrays of (reports, steps, ...).
      report: (xs, ys) of one report, each (steps, ...), to the numbers of images done and decided correctly.

    Returns:
      The last carry, and the ys as (reports * steps, ...).
    """

    def chunk(carry: C, xs: X) -> tuple[C, Y]:
        carry, ys = lax.scan(step, carry, xs)
        jax.debug.callback(tell, *report(xs, ys))
        return carry, ys

    carry, ys = lax.scan(chunk, carry, xs)
    return carry, jax.tree.map(lambda y: jnp.reshape(y, (-1, *y.shape[2:])), ys)


def split(images: int, block: int, every: int = 500) -> tuple[int, int]:
    """How a scan over blocks of images reports about each `every` images: (reports, blocks a report), little padded."""
    blocks = -(-images // block)
    reports = max(1, min(blocks, round(images / every)))
    return reports, -(-blocks // reports)

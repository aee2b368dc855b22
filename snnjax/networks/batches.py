"""What is computed of many images at once by a network that does not learn: latencies, outputs, decisions."""

import functools

import jax

from snnjax.core import devices
from snnjax.networks.model import Model


def encode_batch(model: Model, images: jax.Array, *, native: bool) -> jax.Array:
    """Latencies (B, C, H, W) of images (B, ...)."""
    return devices.map_each(functools.partial(model.encode, native=native), images)


def forward_batch(model: Model, latencies: jax.Array, *, first: int, last: int, timed: bool) -> jax.Array:
    """`Model.forward` of latencies (B, C, H, W)."""
    return model.forward_block(latencies, first, last, timed=timed)


def decide_batch(
    model: Model, inputs: jax.Array, *, first: int, encode: bool = False, native: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Decisions, (B,) int32, and scores, (B, classes), of a model; untimed deciding layers must have kernels `TAPS`.

    The inputs are latencies (B, C, H, W) that enter stage `first`; with `encode`, images as in `encode_batch`.
    """
    latencies = encode_batch(model, inputs, native=native) if encode else inputs
    latencies = model.forward_block(latencies, first, model.last, timed=model.decision.timed)
    decided = model.decide_block(latencies)
    return decided.decision, decided.scores

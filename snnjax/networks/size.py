"""Memory that one image needs on its way through a network."""

import math
from collections.abc import Sequence

from snnjax.core import checks
from snnjax.encoding import Encoder, OnOff
from snnjax.encoding.filters import PIXEL_BITS, TAP_BITS, TILE
from snnjax.kernels import exact
from snnjax.networks.network import Network

FLOAT = 4  # bytes of a float32


def bytes_of_one_image(network: Network, image_shape: tuple[int, ...]) -> int:
    """Bytes of the largest step of one image, about: that of the encoder or of a stage, with padding and patches."""
    return FLOAT * max(_of_encoder(network, image_shape), _of_stages(network))


def _of_encoder(network: Network, image_shape: tuple[int, ...]) -> int:
    """Numbers of the filters, the padded image and the maps of the network's encoder."""
    encoder = network.encoder
    maps = math.prod(network.input_shape)
    bits = PIXEL_BITS + 2 * (len(image_shape) == 3)
    if isinstance(encoder, OnOff):
        return maps + _of_products(encoder.window, 2, image_shape, bits)
    if not isinstance(encoder, Encoder):
        window = getattr(encoder, "window", 1)
        return maps * (window if isinstance(window, int) else 1)
    bank = encoder.bank
    pool = encoder.pool
    filters, *size = bank.output_shape(image_shape)
    image = math.prod(_padded(image_shape[:2], bank.margin)) * math.prod(image_shape[2:])
    filtered = filters * math.prod(_padded(size, 0 if pool is None else pool.padding))
    products = _of_products(bank.window, len(bank.kernels), size, bits)
    return filters * bank.window**2 + image + filtered + products + maps


def _of_products(window: int, kernels: int, size: Sequence[int], bits: int) -> int:
    """Numbers of the matrices that `filters.correlate` multiplies: tiles of the image, twice, and bands of the kernels.

    The more of a float's bits a sum of products with pixels of some `bits` takes, the fewer each part of a kernel has,
    and the more parts there are.
    """
    column = window * (TILE + window - 1)
    tiles = size[0] * -(-size[1] // TILE)
    free = exact.MANTISSA - bits - math.ceil(2 * math.log2(window))
    parts = -(-TAP_BITS // max(free, 1))
    return column * (2 * tiles + kernels * parts * TILE)


def _of_stages(network: Network) -> int:
    """Numbers of the largest stage: padded input, patches and outputs of each layer, and the map that is pooled."""
    counts = [0]
    for shape, stage in zip(network.input_shapes, network.stages, strict=True):
        joined = 0
        for conv in stage.branches:
            size = conv.output_size(shape[1:])
            taps = shape[0] * math.prod(checks.pair("kernel", conv.kernel, 1))
            outputs = _padded(_padded(size, conv.output_padding), 0 if stage.pool is None else stage.pool.padding)
            joined += conv.features * math.prod(outputs)
            inputs = shape[0] * math.prod(_padded(shape[1:], conv.padding))
            counts.append(inputs + (taps + conv.features) * math.prod(size))
        counts.append(joined)
    return max(counts)


def _padded(size: tuple[int, ...] | list[int], padding: checks.Pair) -> tuple[int, int]:
    rows, columns = checks.pair("padding", padding, 0)
    return size[0] + 2 * rows, size[1] + 2 * columns

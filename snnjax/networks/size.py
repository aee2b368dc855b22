"""How much memory one image needs on its way through a network."""

import math

from snnjax.encoding import Encoder
from snnjax.kernels import checks
from snnjax.networks.network import Network

FLOAT = 4  # bytes of a float32


def bytes_of_one_image(network: Network, image_shape: tuple[int, ...]) -> int:
    """Bytes of the largest step of one image, about: that of the encoder or of a stage, with padding and patches."""
    return FLOAT * max(_of_encoder(network, image_shape), _of_stages(network))


def _of_encoder(network: Network, image_shape: tuple[int, ...]) -> int:
    """Numbers of the filters, the padded image and the maps of the network's encoder."""
    encoder, maps = network.encoder, math.prod(network.input_shape)
    if not isinstance(encoder, Encoder):
        window = getattr(encoder, "window", 1)
        return maps * (window if isinstance(window, int) else 1)
    bank, pool = encoder.bank, encoder.pool
    filters, *size = bank.output_shape(image_shape)
    image = math.prod(_padded(image_shape[:2], bank.margin)) * math.prod(image_shape[2:])
    filtered = filters * math.prod(_padded(size, 0 if pool is None else pool.padding))
    return filters * bank.window**2 + image + filtered + maps


def _of_stages(network: Network) -> int:
    """Numbers of the largest stage: padded input, patches and outputs of each layer, and the map that is pooled."""
    found = [0]
    for shape, stage in zip(network.shapes, network.stages, strict=False):
        joined = 0
        for conv in stage.branches:
            size = conv.output_size(shape[1:])
            taps = shape[0] * math.prod(checks.pair("kernel", conv.kernel, 1))
            outputs = _padded(_padded(size, conv.output_padding), 0 if stage.pool is None else stage.pool.padding)
            joined += conv.features * math.prod(outputs)
            inputs = shape[0] * math.prod(_padded(shape[1:], conv.padding))
            found.append(inputs + (taps + conv.features) * math.prod(size))
        found.append(joined)
    return max(found)


def _padded(size: tuple[int, ...] | list[int], padding: checks.Pair) -> tuple[int, int]:
    rows, columns = checks.pair("padding", padding, 0)
    return size[0] + 2 * rows, size[1] + 2 * columns

"""Weights that are the same everywhere, for networks that were recorded from the PyTorch code (golden/graphs.npz)."""

import numpy as np

from snnjax.networks import Network

SHARES = dict(deeper2024=(0.9, 0.08, 0.06, 0.02), resnet2024=(0.3, 0.15, 0.08))
"""Of strong weights in each layer that learns without labels."""
DECIDING = 0.1


def drawn_weights(network: Network) -> dict[str, np.ndarray]:
    """Weak and strong weights, equally many strong ones for all features of a layer; sums are exact."""
    random = np.random.RandomState(0)  # whose stream never changes
    shares = iter(SHARES[network.name])
    weights: dict[str, np.ndarray] = {}
    for _, name, conv in network.layers():
        shape = network.weight_shapes[name]
        if conv.weights is not None:
            weights[name] = np.asarray(conv.weights, np.float32)
            continue
        deciding = name in network.deciding
        share = DECIDING if deciding else next(shares)
        weak, strong = (52, 204) if deciding else (0, 224)
        ranks = random.uniform(size=(shape[0], int(np.prod(shape[1:])))).argsort(axis=1).argsort(axis=1)
        weights[name] = np.float32(np.where(ranks < share * ranks.shape[1], strong, weak) / 256).reshape(shape)
    return weights

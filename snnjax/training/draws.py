"""Random draws of a training: the keys of learners, the order of images."""

from collections.abc import Sequence

import numpy as np

from snnjax.training.state import Settings


def key_of(number: int, seed: int, learner: int = 0) -> np.ndarray:
    """The random key of learner number `learner` of layer `number`, (2,) uint32."""
    # Each of several rules of a layer has a key of its own: with the same key they would draw the same numbers.
    number += learner << 16
    if seed < 1 << 32:
        return np.array([number, seed], np.uint32)
    return np.random.SeedSequence((number, seed)).generate_state(2)


def shown_order(settings: Settings, seeds: Sequence[int], phase: int, images: int, epoch: int) -> np.ndarray | None:
    """The order of images: (images,) integers, (networks, images) if seeds differ; None: all in their order.

    A number from `images` on stands for a mirror image. It depends on nothing but the seed, the numbers of phase and
    epoch, and of images, so that a resumed training continues in the same order.
    """
    if not (settings.shuffle or settings.mirror):
        return None

    def of_seed(seed: int) -> np.ndarray:
        random = np.random.default_rng((seed, phase, epoch))
        order = random.permutation(images)
        mirrored = random.integers(2, size=images)
        return (order if settings.shuffle else np.arange(images)) + images * settings.mirror * mirrored

    orders = {seed: of_seed(seed) for seed in seeds}
    return np.stack([orders[seed] for seed in seeds]) if len(orders) > 1 else orders[seeds[0]]

"""The network for objects of Mozafari et al. 2018 (IEEE TNNLS 29), for pictures of any size.

First-spike-based visual categorization using reward-modulated STDP.
"""

import dataclasses
from typing import Any

from snnjax.encoding import GABOR
from snnjax.layers import Conv, Pool
from snnjax.learners import RSTDP
from snnjax.networks.network import Earliest, Network, stage

RULE = RSTDP(
    reward=(0.01, -0.0035),
    punish=(-0.01, 0.0006),
    bounds=(0.0, 1.0),
    stabiliser=True,
    dropout=0.5,
    floor=0.2,
    by_epoch=True,
)
"""With the rates for ETH-80, and the dropout for Caltech."""
KERNEL = 0.9
"""Rows and columns of the kernel, as a share of the shorter side of the pooled map; published: 0.63 and 0.97."""
THRESHOLD = 0.4
"""As a share of the positions in a kernel, at each of which one map fires at most; published: 0.15 and 0.17."""
ROWS = 29
"""About so many rows or columns the shorter side has after pooling: 27 of 160, 32 of 128 as published."""


def mozafari2018_objects(
    image_shape: tuple[int, ...] = (128, 128), classes: int = 2, *, encoder: Any = None
) -> Network:
    """One layer that learns by reward, ten features a class, each of which sees most of the picture.

    Its encoder is that of four Gabor filters unless another is given; pooling, kernel and threshold grow with the
    picture. Made for some hundred pictures: dropout needs many epochs, with thousands of pictures do without it.
    """
    step = max(1, round(min(image_shape[:2]) / ROWS))
    pool = Pool(step + 1, stride=step, padding=step // 2) if step > 1 else None
    encoder = encoder or dataclasses.replace(GABOR, pool=pool)
    shape = tuple(encoder.output_shape(image_shape))
    kernel = max(1, round(KERNEL * min(shape[1:])))
    deciding = Conv(10 * classes, kernel, threshold=THRESHOLD * kernel**2, learners=RULE)
    settings: dict[str, Any] = dict(time_steps=encoder.time_steps, epochs=(100,), encoder=encoder)
    return Network("mozafari2018_objects", shape, classes, (stage(deciding),), decision=Earliest(), **settings)

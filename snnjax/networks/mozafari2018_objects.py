"""The object recognition network of Mozafari et al. 2018 (IEEE TNNLS 29), for pictures of any size.

First-spike-based visual categorization using reward-modulated STDP ([arXiv
1705.09132](https://arxiv.org/abs/1705.09132)).
"""

import dataclasses

from snnjax.core import checks
from snnjax.encoding import GABOR
from snnjax.layers.conv import Conv
from snnjax.layers.pool import Pool
from snnjax.learners import RSTDP
from snnjax.networks.decision import Earliest
from snnjax.networks.images import ImageSpec, check_images
from snnjax.networks.network import Network
from snnjax.networks.stage import stage

PICTURES = ImageSpec((128, 128), classes=2)
RULE = RSTDP(
    reward=(0.01, -0.0035),
    punish=(-0.01, 0.0006),
    bounds=(0.0, 1.0),
    stabiliser=True,
    dropout=0.5,
    floor=0.2,
    by_epoch=True,
)
"""The learning rule with the rates for ETH-80 and the dropout for Caltech."""
ROWS = 29
"""The approximate length of the shorter side after pooling. In the paper, 160 rows become 27, and 128 rows 32."""


def mozafari2018_objects(images: ImageSpec = PICTURES, *, kernel: float = 0.9, threshold: float = 0.4) -> Network:
    """A network with one layer that learns by reward, with ten features per class that see most of the picture.

    Its encoder has four Gabor filters unless `images` has its own encoder; pooling, kernel and threshold scale with the
    size of the picture. The network is meant for a few hundred pictures: its dropout needs many epochs, and should not
    be used with thousands of pictures.

    `kernel` is the number of rows and columns of the kernel, as a fraction of the shorter side of the pooled map.
    `threshold` is a fraction of the positions in a kernel, at each of which at most one map fires. The defaults differ
    from the paper, which has a kernel of 17 of 27 rows and a threshold of 42 for Caltech (0.63 and 0.15), and 31 of 32
    rows and 160 for ETH-80 (0.97 and 0.17). With these thresholds, neurons fired on average at step 0 to 0.3 of 15 on
    held-out photographs, so that their times carried little information. The learning rates are those for ETH-80, and
    the dropout is that for Caltech. Raises InputError unless `kernel` is above 0 and at most 1, and `threshold` is
    above 0 and finite.

    Examples:
      >>> from snnjax.networks import ImageSpec, mozafari2018_objects
      >>> mozafari2018_objects(ImageSpec((128, 192), classes=3)).shapes  # of the encoded image, then of the stage
      ((4, 32, 48), (30, 4, 20))
    """
    check_images(images)
    checks.number("kernel", kernel, maximum=1, above=0)
    checks.number("threshold", threshold, above=0)
    step = max(1, round(min(images.shape[:2]) / ROWS))
    pool = Pool(step + 1, stride=step, padding=step // 2) if step > 1 else None
    encoder = images.encoder or dataclasses.replace(GABOR, pool=pool)
    shape = encoder.output_shape(images.shape)
    rows = max(1, round(kernel * min(shape[1:])))
    deciding = Conv(10 * images.classes, rows, threshold=threshold * rows**2, learners=RULE)
    return Network(
        "mozafari2018_objects",
        shape,
        images.classes,
        stages=(stage(deciding),),
        time_steps=encoder.time_steps,
        epochs=images.epochs(supervised=100),
        encoder=encoder,
        decision=Earliest(),
    )

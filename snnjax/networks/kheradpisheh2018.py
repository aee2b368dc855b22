"""The digit network of Kheradpisheh et al. 2018 (Neural Networks 99), as SpykeTorch has it but for its decision.

STDP-based spiking deep convolutional neural networks for object recognition. The machine sees when neurons fire,
that of SpykeTorch who fired: see `LinearSVM`.
"""

from snnjax.encoding import DOG
from snnjax.layers.conv import WTA, Conv
from snnjax.layers.pool import Pool
from snnjax.learners import STDP
from snnjax.networks.images import MNIST, Images, check_images
from snnjax.networks.linear import LinearSVM
from snnjax.networks.network import Network, stage

POOL = Pool(2, stride=2, padding=1)
FIRST = Conv(32, kernel=5, padding=2, threshold=10, competition=WTA(5, radius=2), learners=STDP())
SECOND = Conv(150, kernel=2, padding=1, threshold=1, competition=WTA(8, radius=1), learners=STDP(pointwise=True))


def kheradpisheh2018(images: Images = MNIST) -> Network:
    """Two STDP layers under a linear support vector machine, with the encoder `DOG` unless one is given."""
    check_images(images)
    encoder = images.encoder or DOG
    return Network(
        "kheradpisheh2018",
        encoder.output_shape(images.shape),
        images.classes,
        stages=(stage(FIRST, pool=POOL), stage(SECOND, pool=POOL)),
        time_steps=encoder.time_steps,
        epochs=(2, 5),
        encoder=encoder,
        decision=LinearSVM(C=2.4),
    )

"""Two published networks that are not shipped, built from parts that are.

The first network, of Falez et al. 2019 (arXiv 1904.01908), has on and off centre filters, two layers of target-time
features, and a linear SVM. The example prints what learning adds on a small number of digits;
experiments/docs/howto/from_a_paper.md explains each setting and trains the network on MNIST. The second network, of
Kheradpisheh et al. 2018 (arXiv 1611.01421), has pointwise inhibition, and its SVM reads potentials.

python experiments/examples/13_from_a_paper.py
"""

from snnjax import STDP, WTA, Conv, ImageSpec, Network, Settings, TargetTime, Trainer, stage
from snnjax.data import digits
from snnjax.encoding import DOG, OnOff
from snnjax.networks import LinearSVM


def falez2019(images):
    encoder = images.encoder or OnOff(window=7, centre=1.0, surround=4.0)
    rule = TargetTime(target_time=0.75, threshold_min=1.0)
    first = Conv(32, kernel=5, threshold=8.0, weight_range=(0.0, 1.0), learners=rule)
    second = Conv(128, kernel=5, threshold=10.0, weight_range=(0.0, 1.0), learners=rule)
    return Network(
        "falez2019",
        input_shape=encoder.output_shape(images.shape),
        classes=images.classes,
        stages=(stage(first, pool=2), stage(second, pool=2)),
        time_steps=encoder.time_steps,
        epochs=(100, 100),
        encoder=encoder,
        decision=LinearSVM(),
    )


def kheradpisheh2018_potentials(images, reads="potentials", pool=2):
    encoder = images.encoder or DOG
    first = Conv(30, kernel=5, padding=2, threshold=15.0, competition=WTA(5, radius=2), learners=STDP())
    second = Conv(100, kernel=5, padding=2, threshold=10.0, competition=WTA(8, radius=1), learners=STDP())
    return Network(
        "kheradpisheh2018_potentials",
        input_shape=encoder.output_shape(images.shape),
        classes=images.classes,
        stages=(stage(first, pool=2, pointwise=True), stage(second, pool=pool)),
        time_steps=encoder.time_steps,
        epochs=(2, 5),
        encoder=encoder,
        decision=LinearSVM(C=0.1, reads=reads),
    )


def main():
    data = digits().subset(300, 300)
    for name, epochs in {"random weights": (0, 0), "after learning": (20, 20)}.items():
        trainer = Trainer(falez2019(ImageSpec.of(data)), data, Settings(epochs))
        state = trainer.run(trainer.initial_state())
        print(f"{name}: test accuracy {state.epochs[-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main()

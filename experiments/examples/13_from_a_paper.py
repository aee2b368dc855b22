"""A published network that does not ship, from parts that do: Falez et al. 2019 (arXiv 1904.01908).

On and off centre filters, two layers of target-time features, and a linear SVM. It prints what learning adds on few
digits; experiments/docs/howto/from_a_paper.md explains each setting, and trains it on MNIST.

python experiments/examples/13_from_a_paper.py
"""

from snnjax import Conv, Images, LinearSVM, Network, Settings, TargetTime, Trainer, stage
from snnjax.data import digits
from snnjax.encoding import OnOff


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


def main():
    data = digits().first(300, 300)
    for name, epochs in {"random weights": (0, 0), "after learning": (20, 20)}.items():
        trainer = Trainer(falez2019(Images.of(data)), data, Settings(epochs))
        state = trainer.run(trainer.initial_state())
        print(f"{name}: test accuracy {state.epochs[-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main()

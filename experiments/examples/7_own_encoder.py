"""An encoder of your own, without filters: bright pixels and dark ones fire, the strongest contrast first.

python experiments/examples/7_own_encoder.py [FOLDER, by default runs/own_encoder]
"""

import sys

import jax.numpy as jnp

from snnjax import RSTDP, STDP, WTA, Conv, Network, Settings, Sweep, Trainer, component, load, stage, static
from snnjax.app import draw_run, draw_sweep
from snnjax.data import digits
from snnjax.runs import RunFolder, SweepFolder


@component
class LightAndDark:
    """Two maps: how much lighter, and how much darker, each pixel is than the mean."""

    least: float = 0.3  # the weakest contrast that fires, as a share of the strongest
    time_steps: int = static(default=15)

    def __call__(self, image):
        contrast = jnp.asarray(image, jnp.float32) - jnp.mean(image, dtype=jnp.float32)
        share = contrast / jnp.abs(contrast).max().clip(1e-6)
        late = (1 - jnp.stack([share, -share])) / (1 - self.least)  # 0 the strongest, 1 the weakest that fires
        return jnp.clip(jnp.floor(late * self.time_steps), 0, self.time_steps).astype(jnp.uint8)

    def output_shape(self, image_shape):
        return 2, *image_shape[:2]


FEATURES = Conv(16, 5, padding=2, threshold=8, competition=WTA(3, radius=3), learners=STDP(doubling=150))
STAGES = stage(FEATURES, pool=4), stage(Conv(50, 5, padding=1, learners=RSTDP()))
NETWORK = Network("own_encoder", (2, 28, 28), 10, STAGES, encoder=LightAndDark())


def main(folder="runs/own_encoder"):
    data = digits().first(400, 200)
    settings = Settings(epochs=(3, 6), batch_size=50, patience=0)
    with RunFolder(f"{folder}/run", Trainer(NETWORK, data, settings), resume=True, draw=draw_run) as run:
        print(f"best test accuracy {run.run()['test']['accuracy']:.1%}, see {run.path}/report.html")
    print("decision and label:", load(f"{folder}/run")(data.test_images[0]), data.test_labels[0])
    variants = [{"encoder.least": least} for least in (0.1, 0.3, 0.6)]
    with SweepFolder(f"{folder}/sweep", Sweep(NETWORK, data, settings, variants), draw=draw_sweep) as sweep:
        for result in sweep.run():
            print(result["variant"], f"{result['epochs'][-1]['test']['accuracy']:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A rule for features with eleven numbers, which `discover.py` evolves from plain STDP, and networks that use it.

snnjax train --model experiments/evolved.py:recorded --dataset mnist    uses the rule of the book
snnjax train --model experiments/evolved.py:own --dataset mnist         uses the rule in runs/discover/found.json
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from snnjax import ImageSpec, InputError, Network, TargetTime, component, stage
from snnjax.layers.spiking import Layer
from snnjax.learners.protocol import Diagnosis
from snnjax.networks import goupy2024_ncg, goupy2024_s2stdp
from snnjax.training.groups import varied

RECORDED = Path(__file__).parent / "recorded" / "evolved_rule.json"
OWN = Path("runs/discover/found.json")
"""The file that `discover.py` writes by default."""
FEATURES = 32
WIDE = 128
"""The number of features of the second network that judges a rule."""
PATCHES = 20_000  # patches in an epoch, or one per image if there are more images
EPOCHS = (4, 20)
BRIEF = (4, 6)
"""Epochs of the training runs that judge a rule."""
NUMBERS = {  # the numbers that vary, by paths as in `--vary`: the start, a step, and both bounds of each
    "layer1.causal.0": (1.0, 0.5, -5.0, 5.0),
    "layer1.causal.1": (1.0, 0.5, -5.0, 5.0),
    "layer1.causal.2": (1.0, 0.5, -5.0, 5.0),
    "layer1.late.0": (-0.75, 0.5, -5.0, 5.0),
    "layer1.late.1": (-0.75, 0.5, -5.0, 5.0),
    "layer1.silent": (-0.75, 0.5, -5.0, 5.0),
    "layer1.beta": (0.0, 0.5, 0.0, 5.0),
    "layer1.stabiliser": (1.0, 0.5, 0.0, 5.0),
    "layer1.target_time": (0.5, 0.15, 0.05, 1.0),
    "layer1.threshold_rate": (0.0, 0.5, 0.0, 5.0),
    "layer1.rivalry": (0.0, 0.5, 0.0, 5.0),
}


@component
class Evolved(TargetTime):
    """STDP for the winner of a patch, with a window over time differences; the defaults give plain STDP.

    Weights lie in 0..1 and learn w += rate window(t - t_input) exp(-beta v) (4 w (1 - w))^stabiliser, where v is w if
    the window is above 0, and 1 - w otherwise. Thresholds move as in `TargetTime`, which is a special case of this
    rule: `TARGET_TIMES`. The layer needs at least two features.

    Attributes:
      causal: the window for inputs that fire together with the neuron, T/2 before it, and T before it; it is linear in
        between.
      late: the window for inputs that fire just after the neuron, and T/2 or more after it.
      silent: the window for inputs that do not fire.
      stabiliser: the exponent of the factor 4 w (1 - w) of changes.
      rivalry: the rise of the winner's threshold. The threshold of each of the F - 1 other features falls by this
        number divided by F - 1.
    """

    target_time: float = 0.5
    beta: float = 0.0
    threshold_rate: float = 0.0
    causal: tuple[float, ...] = (1.0, 1.0, 1.0)
    late: tuple[float, ...] = (-0.75, -0.75)
    silent: float = -0.75
    stabiliser: float = 1.0
    rivalry: float = 0.0

    def update_weights(
        self, layer: Layer, state: Any, weights: jax.Array, patch: jax.Array, step: jax.Array
    ) -> jax.Array:
        difference = step - patch.astype(jnp.int32)
        window = jnp.where(patch == layer.time_steps, self.silent, self.window(difference / layer.time_steps))
        distance = jnp.where(window > 0, weights, 1 - weights)
        factor = jnp.exp(-self.beta * distance) * (4 * weights * (1 - weights)) ** self.stabiliser
        return jnp.clip(weights + state["rates"][0] * window * factor, *self.bounds)

    def update_thresholds(
        self, layer: Layer, state: Any, threshold: jax.Array, feature: jax.Array, step: jax.Array
    ) -> jax.Array:
        features = len(threshold)
        share = jnp.where(jnp.arange(features) == feature, 1, -1 / (features - 1)) * (feature >= 0)
        late = step / layer.time_steps - self.target_time
        annealed = state["rates"][0] / self.rate
        moved = annealed * (self.rivalry * share - self.threshold_rate * late)
        return jnp.maximum(threshold + moved, self.threshold_min)

    def window(self, difference: Any) -> jax.Array:
        """The window at differences between the spike times of neuron and input, in shares of T."""

        def near(place: float) -> jax.Array:
            return jnp.maximum(1 - 2 * jnp.abs(difference - place), 0)

        causal = sum(height * near(place) for height, place in zip(self.causal, (0, 0.5, 1), strict=True))
        return jnp.where(difference >= 0, causal, self.late[1] + (self.late[0] - self.late[1]) * near(0))

    def diagnose(self, layer: Layer, info: Any) -> Diagnosis:
        figures = super().diagnose(layer, info)
        return {name: value for name, value in figures.items() if name not in ("target_time", "threshold_drift")}


TARGET_TIMES = Evolved(
    target_time=0.75,
    causal=(1.0, 1.0, 1.0),
    late=(-1.0, -1.0),
    silent=-1.0,
    beta=1.0,
    stabiliser=0.0,
    threshold_rate=1.0,
    rivalry=1.0,
)


def network_with(
    images: ImageSpec,
    rule: TargetTime,
    name: str = "evolved",
    epochs: tuple[int, int] = EPOCHS,
    features: int = FEATURES,
    published: Callable[[ImageSpec], Network] = goupy2024_ncg,
) -> Network:
    """A network of Goupy et al. with this rule for its features, and with fewer features, patches and epochs.

    The rates of the rule fall to a tenth within its `epochs`.
    """
    network = published(images)
    first: Any = network.stages[0].branches[0]
    last: Any = network.stages[1].branches[0]
    patches = max(1, round(PATCHES / images.total))
    rule = dataclasses.replace(rule, annealing=0.1 ** (1 / max(epochs[0], 1)), patches=patches)
    learning = dataclasses.replace(first, features=features, learners=rule)
    deciding = dataclasses.replace(last, threshold=last.threshold * features / first.features)
    features_stage = stage(learning, pool=network.stages[0].pool)
    stages = (features_stage, stage(deciding))
    return dataclasses.replace(network, name=name, stages=stages, epochs=epochs, patience=0)


def searched(images: ImageSpec) -> tuple[Network, ...]:
    """The networks that judge a rule, each of which is trained with a different seed."""
    return tuple(network_with(images, Evolved(), epochs=BRIEF, features=features) for features in (FEATURES, WIDE))


def start(images: ImageSpec) -> Network:
    """The network with the rule from which evolution starts, plain STDP."""
    return network_with(images, Evolved(), "evolved_start")


def target_times(images: ImageSpec) -> Network:
    """The network with target times, expressed as one of these rules."""
    return network_with(images, TARGET_TIMES, "evolved_target_times")


def s2stdp(images: ImageSpec) -> Network:
    """The network of `target_times` with a readout that learns by S2-STDP."""
    return network_with(images, TARGET_TIMES, "evolved_s2stdp", published=goupy2024_s2stdp)


def recorded(images: ImageSpec) -> Network:
    """The network with the rule of the book."""
    return varied(network_with(images, Evolved(), "evolved_recorded"), json.loads(RECORDED.read_text()))


def own(images: ImageSpec) -> Network:
    """The network with the rule in runs/discover; raises InputError if there is none."""
    if not OWN.is_file():
        raise InputError(f"there is no file {OWN}: run python experiments/discover.py, which writes it")
    return varied(network_with(images, Evolved(), "evolved_own"), json.loads(OWN.read_text()))

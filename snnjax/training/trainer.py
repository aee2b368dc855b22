"""The training of one network."""

from collections.abc import Callable

import jax
import numpy as np

from snnjax.data import Dataset
from snnjax.errors import InputError
from snnjax.learners import Diagnosis
from snnjax.networks import Network, SpikingNetwork
from snnjax.networks.model import check_weights, rounded_weights
from snnjax.training.choice import network_for as network_for
from snnjax.training.engine import Engine, check_types
from snnjax.training.state import Arrays, Callback, Settings, TrainState


class Trainer:
    """Trains one network on one data set; `run` goes on from any state that it has left.

    Attributes:
      network: the description, with its encoder.
      plan: the phases of the training, in order.
      callback: is told of the training's events.
      engine: does the work.
    """

    def __init__(self, network: Network, data: Dataset, settings: Settings, callback: Callback | None = None):
        """Raises InputError unless network, data and settings fit, OSError where native kernels do not compile."""
        check_types(network, data, settings, callback)
        self.engine = Engine([network], data, settings, callback=callback)
        self.network, self.plan, self.callback = self.engine.network, self.engine.plan, self.engine.callback
        self.data, self.settings = data, settings

    def initial_state(self) -> TrainState:
        """The state before the first image."""
        return self.engine.initial_states()[0]

    def run(self, state: TrainState, save: Callable[[TrainState], None] = lambda state: None) -> TrainState:
        """Trains to the end from a state, which it changes and returns.

        `save` is called with it after each epoch and each phase, and every half minute within an epoch, where
        `state.shown` is above 0.
        """
        self.engine.callback = self.engine.outputs.callback = self.callback
        return self.engine.run([state], lambda states: save(states[0]))[0]

    def predict(self, state: TrainState, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decisions and scores of the best network of a state on N images like those of the data.

        (N,) int32, -1 where silent, and (N, classes) float32, the score of each class. Raises InputError where
        the state is from before the fit of an encoder or a decision.
        """
        decisions, scores = self.engine.predict([state.trained], images)
        return decisions[0], scores[0]

    def trained(self, state: TrainState) -> SpikingNetwork:
        """The best network of a state, ready to call on images."""
        best = state.trained
        network = best.network(self.network)
        return SpikingNetwork(network, weights=rounded_weights(network, best.weights))

    def reuse(self, state: TrainState, weights: Arrays, numbers: Arrays, diagnosis: Diagnosis, origin: str) -> None:
        """Takes the layers of the current phase from an earlier run, named `origin`, instead of training them.

        Raises InputError unless weights, (F, C, kh, kw) float32 by layer, `numbers` and `diagnosis`, as in
        `TrainState`, fit.
        """
        phase = self.plan[state.phase]
        check_weights(self.network, weights)
        if weights.keys() != {*phase.layers}:
            raise InputError(f"`weights` must be those of {', '.join(phase.layers)}, got {', '.join(weights)}")
        sizes: dict[str, tuple[int, ...]] = {}
        for _, name, conv in self.network.layers():
            if name in weights:
                leaves = jax.tree.leaves(conv.prepared(weights[name].shape[1]))
                sizes |= {f"{name}.{at}": np.shape(leaf) for at, leaf in enumerate(leaves)}
        for name, each in weights.items():
            if each.dtype != np.float32 or not np.isfinite(each).all():
                raise InputError(f"`weights` of {name} must be finite numbers of float32, got {each.dtype}")
        if wrong := {name: x.shape for name, x in numbers.items() if sizes.get(name) != x.shape}:
            raise InputError(f"`numbers` of {', '.join(phase.layers)} must be some of {sizes}, got {wrong}")
        if "words" not in diagnosis:
            raise InputError(f"`diagnosis` of {', '.join(phase.layers)} lacks words")
        figures = {name: each for name, each in diagnosis.items() if name != "words"}
        if bare := [key for key, x in figures.items() if not (isinstance(x, dict) and {*phase.layers} >= x.keys())]:
            raise InputError(f"`diagnosis` must be by layer of {', '.join(phase.layers)}, not so {', '.join(bare)}")
        state.weights = state.weights | weights
        state.reused |= dict.fromkeys(weights, origin)
        state.numbers.update(numbers)
        state.diagnoses[phase.name] = diagnosis
        self.engine.end_phase(state)

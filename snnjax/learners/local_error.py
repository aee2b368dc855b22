"""Learning from labels within a layer, through the error of the layer's own linear readout."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from snnjax.core.components import component, learnable, number, static
from snnjax.kernels import hebbian, local_error
from snnjax.layers.ramp import Numbers
from snnjax.layers.ramp_layer import RampLayer
from snnjax.learners.protocol import Diagnosis, Learner, Response, Signal, UpdateResult


@component
class LocalError(Learner):
    """A layer with a ramp learns from labelled minibatches, through the error of its own linear head.

    The head reads the activities of the layer: the largest one in each block of `block` x `block` positions, averaged
    over `parts` x `parts` parts of the map. It computes a score for each class. Its error, softmax minus label, is
    propagated back through the head and the slope of the neurons of this layer, and no further: no error passes between
    layers (Nøkland and Eidnes 2019). An optimiser of optax updates the weights of the layer and of the head. The rule
    uses gradients within a layer; it is not STDP. The decisions of the network do not use the head.

    If the layer has `standardise`, its inputs are standardised by the moments of the minibatch, and its running moments
    follow these. The paper is [arXiv 1901.06656](https://arxiv.org/abs/1901.06656).

    A subclass can override `loss` to learn from another error, or `optimizer` to use another optimiser.

    Attributes:
      rate: the learning rate of the first epoch.
      annealing: the factor by which the rate is multiplied after each epoch.
      weight_decay: the weight decay of AdamW, relative to the rate.
      smoothing: the share of a label that is spread evenly over all classes.
      dropout: the share of the head's inputs that are dropped, drawn for each image. It lowers the accuracy that is
        reported for the head during learning.
      block: rows and columns of the blocks, without overlap, of which the head reads only the largest activity. With 1,
        it reads all activities.
      parts: rows and columns of the averaged map that the head reads.
      feedback: the weights through which the error passes back from the head: "transposed", the head's own weights, or
        "random", fixed random weights.
      momentum: the rate at which the running moments approach those of a minibatch.
      minibatch_size: B, the number of stimuli in a minibatch.
      images: the largest number of images to learn from in an epoch. These are the first ones shown, and should be of
        all classes (`shuffle`); None: all images.
      head: the weights of the head, (parts, parts, F, classes) float32; zero before learning.

    Examples:
      >>> from snnjax import Conv
      >>> from snnjax.layers import Ramp, Standardise
      >>> from snnjax.learners import LocalError
      >>> rule = LocalError(rate=0.004, block=2)
      >>> conv = Conv(96, 5, padding=2, ramp=Ramp(), standardise=Standardise(), weight_mean=0.0, learners=rule)
      >>> conv.prepared(3, classes=10).learners.head.shape  # rows, columns, features, classes
      (4, 4, 96, 10)
    """

    rate: float = number(default=0.002, minimum=0)
    annealing: float = number(default=0.6, above=0, maximum=1)
    weight_decay: float = number(default=0.01, minimum=0)
    smoothing: float = number(default=0.05, minimum=0, below=1)
    dropout: float = number(default=0.3, minimum=0, below=1)
    block: int = static(default=1, minimum=1)
    parts: int = static(default=4, minimum=1)
    feedback: str = static(default="transposed", one_of=("transposed", "random"))
    momentum: float = number(default=0.1, minimum=0, maximum=1)
    minibatch_size: int = static(default=128, minimum=1)
    images: int | None = static(default=None, minimum=1)
    head: Numbers = learnable(default=0.0)
    labelled = True
    acts_on_silence = True  # the optimiser moves weights even if the gradient is 0

    def optimizer(self, rate: jax.Array) -> optax.GradientTransformation:
        """The optimiser of the weights, given the rate of an epoch, () float32: AdamW.

        The rate and all numbers of this component may be traced. The structure of the optimiser's state must not depend
        on them.
        """
        return optax.adamw(rate, weight_decay=self.weight_decay)

    def loss(self, scores: jax.Array, labels: jax.Array) -> jax.Array:
        """The mean loss, () float32, of the head's scores (B, classes) for labels (B,) int32: cross entropy."""
        wanted = optax.smooth_labels(jax.nn.one_hot(labels, scores.shape[1]), self.smoothing)
        return optax.softmax_cross_entropy(scores, wanted).mean()

    def prepared(self, features: int, classes: int) -> "LocalError":
        """The same with a head for a layer of F features and for these classes, without weights unless it has some."""
        shape = self.parts, self.parts, features, classes
        if np.shape(self.head) == shape:
            return self
        return dataclasses.replace(self, head=np.zeros(shape, np.float32))

    def deployed(self) -> "LocalError":
        """The same without its head."""
        return dataclasses.replace(self, head=0.0)

    def init(self, layer: RampLayer, key: np.ndarray, images_seen: int) -> Any:
        """The random key, the number of minibatches, the rate, the optimiser's state, and random feedback."""
        state = dict(
            key=np.asarray(key, np.uint32),
            minibatches=np.int32(0),
            rate=np.float32(self.rate),
            optimizer=self.optimizer(jnp.float32(self.rate)).init(self._parameters(layer)),
        )
        if self.feedback == "random":
            state["feedback"] = np.random.default_rng(key).normal(0, layer.conv.features**-0.5, np.shape(self.head))
        return state

    def _parameters(self, layer: RampLayer) -> dict[str, Any]:
        """The weights of the layer, (F, K), and those of its head."""
        return dict(weights=layer.rows(), head=self.head)

    def forward(self, layer: RampLayer, state: Any, latency: jax.Array, label: jax.Array | None) -> Response:
        """Nothing: `update` computes activities together with their gradients."""
        return Response()

    def update(
        self, layer: RampLayer, state: Any, latency: jax.Array, response: Any, signal: Signal | None
    ) -> UpdateResult:
        """Learns from a minibatch.

        Info, () float32 each: `right`, the share of stimuli whose label had the head's highest score; `loss`; `active`,
        the share of the head's activities above 0; `change`, relative, of the layer's weights.
        """
        assert signal is not None
        labels = signal.label

        def error(parameters: dict[str, Any]) -> tuple[jax.Array, Any]:
            activities = layer.activities(latency, parameters["weights"], self.block)
            scores = self._scores(state, activities, parameters["head"])
            return self.loss(scores, labels), (scores, activities)

        parameters = self._parameters(layer)
        (loss, (scores, activities)), gradient = jax.value_and_grad(error, has_aux=True)(parameters)
        optimizer = self.optimizer(state["rate"])
        changes, optimizer_state = optimizer.update(gradient, state["optimizer"], parameters)
        learned = optax.apply_updates(parameters, changes)
        state = dict(state, minibatches=state["minibatches"] + 1, optimizer=optimizer_state)
        info = dict(
            right=jnp.mean(jnp.argmax(scores, axis=1) == labels, dtype=jnp.float32),
            loss=loss,
            active=jnp.mean(activities > 0, dtype=jnp.float32),
            change=hebbian.relative_change(parameters["weights"], learned["weights"]),
        )
        layer = self._with_head(layer, learned["head"])
        return layer.with_all_weights(learned["weights"]).with_moments_of(latency, self.momentum), state, info

    def _scores(self, state: Any, activities: jax.Array, head: jax.Array) -> jax.Array:
        """The head's scores, (B, classes), of activities (B, H, W, F), with dropout of its inputs."""
        means = local_error.part_means(activities, parts=self.parts)
        key = jax.random.fold_in(state["key"], state["minibatches"])
        means *= jax.random.bernoulli(key, 1 - self.dropout, means.shape) / (1 - self.dropout)
        if self.feedback == "transposed":
            return _scores(means, head)
        # The same scores, but the error comes back to the means by the fixed weights.
        fixed = jax.lax.stop_gradient(means)
        return _scores(fixed, head) + _scores(means - fixed, state["feedback"])

    def _with_head(self, layer: RampLayer, head: jax.Array) -> RampLayer:
        """The layer whose learner has these weights of its head."""
        place = self.place_in(layer)
        learners = [*layer.conv.each_learner]
        assert place is not None, "a network has checked that its learners are of different classes"
        learners[place] = dataclasses.replace(self, head=cast(Any, head))
        return dataclasses.replace(
            layer, conv=dataclasses.replace(layer.conv, learners=layer.conv.as_learners(tuple(learners)))
        )

    def end_epoch(self, state: Any) -> Any:
        return dict(state, rate=state["rate"] * jnp.float32(self.annealing))

    def scalars(self, state: Any) -> dict[str, float]:
        return dict(rate=float(state["rate"]))

    def diagnose(self, layer: RampLayer, info: Any) -> Diagnosis:
        """How often the head was right, its loss, how many neurons were active, and how far the weights have moved."""
        return dict(
            head_right=float(np.mean(info["right"])),
            loss=float(np.mean(info["loss"])),
            active=float(np.mean(info["active"])),
            moved=float(np.sum(info["change"])),
        )


def _scores(means: jax.Array, weights: jax.Array) -> jax.Array:
    """The scores (B, classes) of means (B, parts, parts, F) by weights (parts, parts, F, classes)."""
    return jnp.tensordot(means, weights, 3, precision=jax.lax.Precision.HIGHEST)

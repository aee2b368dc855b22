"""Parts of networks as a user may write them in a file of their own."""

import jax.numpy as jnp
import numpy as np

from snnjax import Learner, component, kernels, static
from snnjax.learners import Response


@component
class Levels:
    """An encoder that holds an array: a pixel fires at the step of the first of descending levels that it reaches."""

    levels: np.ndarray
    time_steps: int = static(default=9)

    def __call__(self, image):
        above = image[None].astype(jnp.float32) >= self.levels[::-1, None, None]
        return jnp.where(above.any(axis=0), jnp.argmax(above, axis=0), self.time_steps)[None].astype(jnp.uint8)

    def output_shape(self, image_shape):
        return (1, *image_shape)


@component
class First:
    """Decides for the class of the earliest neuron."""

    timed = True

    def scores(self, spikes, classes):
        return 100.0 - spikes.latency.reshape(classes, -1).min(axis=1).astype(jnp.float32)

    def decide(self, scores):
        total = scores.sum(axis=0)
        return jnp.where(total.max() > total.min(), jnp.argmax(total), -1).astype(jnp.int32)


@component
class Anyone:
    """Lets the earliest neuron learn, whoever it is."""

    def __call__(self, spikes, *, time_steps):
        return kernels.k_winners(spikes, k=1, radius=0, time_steps=time_steps)


@component
class Hebb(Learner):
    """Pulls the winner towards its inputs; says of itself no more than every learner."""

    rate: float = 0.05
    bounds: tuple[float, float] = (0.0, 1.0)

    def forward(self, layer, state, latency, label):
        return Response(layer.winners(latency))

    def update(self, layer, state, latency, response, signal):
        rates = jnp.stack([self.rate, -self.rate]).astype(jnp.float32)
        return layer.learn(latency, response.winners, rates, bounds=self.bounds, stabiliser=True), state, ()


@component
class Teacher(Hebb):
    """Pulls the earliest neuron of the right class towards its inputs."""

    supervised = True

    def forward(self, layer, state, latency, label):
        return Response(spikes=layer.spikes(latency))

    def update(self, layer, state, latency, response, signal):
        group = jnp.arange(layer.conv.features) // (layer.conv.features // layer.classes)
        silent = jnp.asarray(layer.time_steps, response.spikes.latency.dtype)
        there = jnp.where((group == signal.label)[:, None, None], response.spikes.latency, silent)
        spikes = kernels.Spikes(there, response.spikes.potential)
        winners = kernels.k_winners(spikes, k=1, radius=0, time_steps=layer.time_steps)
        return super().update(layer, state, latency, Response(winners), signal)


@component
class Sized:
    """Holds a tuple, or what else it was given."""

    sizes: tuple[int, ...] = static(default=())

"""Learning from a sequence of stimuli, by functions that respond to one stimulus and learn from one."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def learn_from_sequence(
    respond: Callable[[Any, Any], Any],
    update: Callable[[Any, Any, Any], tuple[Any, Any]],
    learned: Any,
    stimuli: Any,
    learns: jax.Array,
    update_batch: int = 1,
) -> tuple[Any, Any]:
    """What has been learned after the stimuli that `learns` selects, in order, and the results for each, (S, ...).

    Args:
      respond: from what has been learned and a stimulus to the response.
      update: from what has been learned, a stimulus and its response to what has been learned then, and a result.
      learned: what has been learned before, a pytree of arrays.
      stimuli: a pytree of (S, ...) arrays.
      learns: (S,) bool; results for the other stimuli are 0.
      update_batch: the number of successive stimuli whose responses come from the same weights; the last group may be
        shorter.
    """
    count = len(learns)

    def stimulus_of(index: jax.Array) -> Any:
        return jax.tree.map(lambda x: x[index], stimuli)

    def learn(index: jax.Array, state: tuple[Any, Any], response: Any) -> tuple[Any, Any]:
        learned, results = state
        learned, result = update(learned, stimulus_of(index), response)
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=index, axis=0)
        return learned, jax.tree.map(put, results, result)

    def learn_selected(first: jax.Array, size: int, state: Any, response_of: Callable[[jax.Array, Any], Any]) -> Any:
        """Learns from the selected ones of `size` stimuli from number `first` on."""
        selected = jax.lax.dynamic_slice_in_dim(padded, first, size)
        (places,) = jnp.nonzero(selected, size=size, fill_value=0)

        def learn_next(number: jax.Array, state: Any) -> Any:
            place = places[number]
            return learn(first + place, state, response_of(place, state))

        return jax.lax.fori_loop(0, jnp.sum(selected), learn_next, state)

    def learn_group(number: jax.Array, state: Any) -> Any:
        first = number * update_batch
        indices = jnp.minimum(first + jnp.arange(update_batch), count - 1)
        responses = jax.vmap(lambda index: respond(state[0], stimulus_of(index)))(indices)
        return learn_selected(first, update_batch, state, lambda place, _: jax.tree.map(lambda x: x[place], responses))

    stimulus = jax.eval_shape(stimulus_of, jnp.int32(0))
    response = jax.eval_shape(respond, learned, stimulus)
    _, result = jax.eval_shape(update, learned, stimulus, response)
    state = learned, jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), result)
    padded = jnp.pad(learns, (0, -count % update_batch))
    if update_batch == 1:
        return learn_selected(jnp.int32(0), count, state, lambda place, state: respond(state[0], stimulus_of(place)))
    groups = jnp.any(padded.reshape(-1, update_batch), axis=1)
    # Groups before the first and after the last one that is learned from are left out.
    end = jnp.max(jnp.where(groups, jnp.arange(len(groups)) + 1, 0))
    return jax.lax.fori_loop(jnp.argmax(groups), end, learn_group, state)

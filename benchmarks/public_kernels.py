"""Public kernels as the docs call them, beside the compiled kernels that trainings call, and beside XLA's forms."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import common
import jax
import jax.numpy as jnp

from snnjax import data, encode, kernels
from snnjax.app import console, parts
from snnjax.app.main import call, protected
from snnjax.kernels import native, neurons, plasticity

T = 15
LAYER: dict[str, Any] = dict(threshold=15.0, time_steps=T)
COMPETITION: dict[str, Any] = dict(k=5, radius=3, time_steps=T)
FEATURES = 30
RATES = jnp.array([0.004, -0.003])
REWARDS = jnp.array([0.004, -0.003]), jnp.array([-0.004, 0.0005])

Step = Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Options of the benchmark."""

    images: int = 1000
    """number of images"""
    repeats: int = 3
    """measurements of each call, of which the shortest counts"""


def mapped(fire: Callable[..., Any]) -> Callable[..., Any]:
    """`fire` of (weights, latency) for all images."""
    return jax.jit(jax.vmap(fire, in_axes=(None, 0)))


def scanned(step: Step) -> Callable[..., Any]:
    """Image after image; the result is what is left of the weights."""
    return jax.jit(lambda weights, images: jax.lax.scan(step, weights, images)[0])


def xla_winners(weights: jax.Array, latency: jax.Array) -> kernels.Winners:
    spikes = neurons.integrate_and_fire(latency, weights, **LAYER)
    return kernels.k_winners(kernels.strongest_feature(spikes, time_steps=T), **COMPETITION)


def public_winners(weights: jax.Array, latency: jax.Array) -> kernels.Winners:
    return kernels.winners(latency, weights, **LAYER, k=5, radius=3)


def native_winners(taps: jax.Array, latency: jax.Array) -> kernels.Winners:
    return native.winners(latency, taps, features=FEATURES, **LAYER, k=5, radius=3)


def by_reward(won: kernels.Winners) -> jax.Array:
    """R-STDP's rates, as if features of an even number were right."""
    return kernels.reward_rates(jnp.where(won.feature[0] % 2 == 0, 1, -1), *REWARDS)


def learning(find: Callable[..., Any], learn: Callable[..., Any], rates: Callable[..., Any]) -> Step:
    """A step of learning by the winners that `find` returns."""

    def step(weights: jax.Array, latency: jax.Array) -> tuple[jax.Array, None]:
        won = find(weights, latency)
        return learn(weights, latency, won, rates(won), time_steps=T), None

    return step


def native_learn(taps: jax.Array, *args: Any, **settings: Any) -> jax.Array:
    return native.learn(taps, *args, features=FEATURES, **settings)


def cases() -> dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]]:
    """Of each call: as documented, native, and by XLA."""

    def rules(rates: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
        return (
            scanned(learning(public_winners, kernels.stdp, rates)),
            scanned(learning(native_winners, native_learn, rates)),
            scanned(learning(xla_winners, plasticity.stdp, rates)),
        )

    return {
        "latencies": (
            mapped(lambda weights, latency: kernels.latencies(latency, weights, **LAYER)),
            mapped(lambda taps, latency: native.latencies(latency, taps, features=FEATURES, **LAYER)),
            mapped(lambda weights, latency: neurons.latencies(latency, weights, **LAYER)),
        ),
        "winners": (mapped(public_winners), mapped(native_winners), mapped(xla_winners)),
        "winners, STDP": rules(lambda won: RATES),
        "winners, R-STDP": rules(by_reward),
    }


def shortest(function: Callable[..., Any], *args: Any, repeats: int) -> float:
    """Seconds of the fastest of some calls, after one that compiles."""
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def run(options: Options) -> None:
    """Measures each call in turn; prints and writes the table."""
    parts.check_least(options, images=1, repeats=1)
    images = data.load(options.dataset, options.data_dir).train_images[: options.images]
    out = options.folder("public_kernels")
    latencies = jax.jit(jax.vmap(encode))(images)
    weights = 0.8 + 0.05 * jax.random.normal(jax.random.key(0), (FEATURES, latencies.shape[1], 5, 5))
    arguments = (weights, native.arrange(weights), weights)
    rows = []
    lines = []
    for name, calls in cases().items():
        public, compiled, xla = (
            shortest(function, given, latencies, repeats=options.repeats)
            for function, given in zip(calls, arguments, strict=True)
        )
        rows.append(dict(call=name, documented=public, native=compiled, xla=xla))
        seconds = (f"{value:.3f}" for value in (public, compiled, xla))
        lines.append([name, *seconds, f"{public / compiled:.2f}", f"{xla / public:.1f}"])
    facts, caption = common.about(images=f"{len(images):,} images of {options.dataset}")
    head = ["call", "as documented, s", "native, s", "XLA, s", "documented / native", "XLA / documented"]
    table = common.markdown(head, lines, caption)
    written = common.write(out, "public_kernels", dict(about=facts, calls=rows), table)
    console.screen().print(table, written, sep="\n", markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, by default those of the command line, and measures."""
    call("python benchmarks/public_kernels.py", Options, arguments, run, common.STOPPED)


if __name__ == "__main__":
    protected(main)

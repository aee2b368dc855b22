"""Kernels on a batch that lies on four devices, by both back ends: as on one device."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from command import ENVIRONMENT
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from snnjax import kernels
from snnjax.encoding import encode
from snnjax.kernels import backend, competition, first_spikes

pytestmark = pytest.mark.slow

STEPS = 15
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 9, 9), np.uint8)
WEIGHTS = np.float32(RNG.integers(0, 65, (8, 5, 6, 3, 3)) / 64)
RATES = np.float32([0.5, -0.25])
LAYER = dict(threshold=np.float32(5), time_steps=STEPS)
ZEROS = np.zeros(5, np.float32)
LABEL = np.int32([0])
READOUT = dict(classes=1, gap=0.1)  # with training thresholds
PLACE = np.int32([[[1, 2], [3, 3]]])
TARGET = dict(rate=0.1, threshold_rate=0.5, target_time=0.7)
SHARDED = PartitionSpec("devices")


def of_one(image, weights):
    """What kernels with loops and C++ functions make of an image and of a network."""
    latency = encode(image, time_steps=STEPS)
    competing = dict(k=2, radius=1, time_steps=STEPS)
    won = kernels.winners(latency, weights, k=2, radius=1, **LAYER)
    spikes = kernels.fire(kernels.potentials(latency, weights, time_steps=STEPS), threshold=5.0)
    inputs, rows = latency.ravel()[:54], weights.reshape(5, -1)
    return dict(
        learned=kernels.stdp(weights, latency, won, RATES, time_steps=STEPS),
        latencies=kernels.latencies(latency, weights, **LAYER),
        many_steps=kernels.latencies(latency, weights, threshold=5.0, time_steps=30),
        timed=kernels.timed_spikes(latency, weights, fractional=True, **LAYER),
        winners=[won, kernels.k_winners(kernels.pointwise_inhibition(spikes, time_steps=STEPS), **competing)],
        early=competition.early_winners(latency, weights, threshold=5.0, **competing),
        ramp=kernels.ramp.fire_on_ramp(spikes.potential, np.linspace(9, 1, STEPS, dtype=np.float32)),
        corrected=kernels.supervised.error_stdp(rows, inputs, inputs[:5], rows[:, 0], RATES, bounds=(0.0, 1.0)),
        readout=first_spikes.search_spikes(inputs, rows, threshold=5.0, time_steps=STEPS),
        taught=kernels.learn_readout(weights, ZEROS, latency[None, :, :3, :3], LABEL, RATES, **READOUT, **LAYER),
        earliest=kernels.earliest_of_classes(latency[None, :, :3, :3], weights, classes=5, **LAYER),
        patches=kernels.learn_target_time(weights, ZEROS + 1, latency[None], PLACE, **TARGET, time_steps=STEPS),
        gradient=jax.grad(lambda w: kernels.integrate_and_fire(latency, w, **LAYER).potential.sum())(weights),
    )


def of_few(latency, weights):
    """Results of two kernels, which compile fast."""
    return kernels.pool(latency, 2, time_steps=STEPS), kernels.latencies(latency, weights, **LAYER)


def check_some_axes():
    """The results of a batch by a `jax.shard_map` over the first axis of meshes of two."""
    latencies = RNG.integers(0, STEPS + 1, (8, 6, 9, 9), np.uint8)
    expected = jax.jit(jax.vmap(of_few))(latencies, WEIGHTS)
    first = PartitionSpec("a")
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, AxisType.Explicit))
        batch = [jax.device_put(array, NamedSharding(mesh, first)) for array in (latencies, WEIGHTS)]
        spread = jax.shard_map(jax.vmap(of_few), mesh=mesh, in_specs=first, out_specs=first, axis_names={"a"})
        with jax.set_mesh(mesh):
            found = jax.jit(spread)(*batch)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def check():
    """The results of a batch on four devices, by a `jax.shard_map` and on a mesh with explicit axes."""
    mapped = jax.vmap(of_one)
    expected = jax.jit(mapped)(IMAGES, WEIGHTS)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4,), ("devices",), axis_types=(kind,))
        batch = [jax.device_put(array, NamedSharding(mesh, SHARDED)) for array in (IMAGES, WEIGHTS)]
        spread = jax.shard_map(mapped, mesh=mesh, in_specs=SHARDED, out_specs=SHARDED)
        with jax.set_mesh(mesh):
            found = jax.jit(spread if kind is AxisType.Auto else mapped)(*batch)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        assert all(len(leaf.sharding.device_set) == 4 for leaf in jax.tree.leaves(found))
        assert {leaf.sharding.spec[0] for leaf in jax.tree.leaves(found)} == {"devices"}


@pytest.mark.parametrize("chosen", ["native", "xla"])
def test_a_batch_on_four_devices_is_computed_as_on_one(chosen, compiler):
    """In a process of its own, which has four devices."""
    subprocess.run([sys.executable, __file__], check=True, env=ENVIRONMENT | {backend.VARIABLE: chosen})


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert backend.current_is_native() is (os.environ[backend.VARIABLE] == "native")
    check()
    check_some_axes()

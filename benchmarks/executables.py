"""Compiles programs for accelerators that are not there, and counts the kernels that the executables launch."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import numpy as np
import snnjax_program
from jax.experimental import topologies

from snnjax import InputError
from snnjax.core import devices
from snnjax.training import epoch, placement

_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  device_memory_size: 84929347584 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
}
platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 } runtime_version { major: 13 }
"""
CHIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "h100": ("cuda", dict(topology_name="h100", topology="1x1x1", target_config=_H100)),
    "v5e": ("tpu", dict(topology_name="v5e:1x1x1", chips_per_host_bounds=(1, 1, 1))),
}
"""Accelerators by name: JAX's platform, and what its compiler must know of them."""
_ALONE = dict(TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-1", TPU_WORKER_HOSTNAMES="localhost")


def device(chip: str) -> Any:
    """Such an accelerator, to compile for; InputError where its compiler is not installed."""
    platform, topology = CHIPS[chip]
    with mock.patch.dict(os.environ, _ALONE):  # otherwise the compiler for TPUs asks the network which one this is
        try:
            return topologies.get_topology_desc(platform=platform, **topology).devices[0]
        except (RuntimeError, NotImplementedError) as error:
            raise InputError(f"no compiler for {chip}: pip install -e '.[accelerators]' ({error})") from error


@contextlib.contextmanager
def compiled_only(device: Any) -> Iterator[dict[str, Any]]:
    """The training's programs are compiled for this device, by phase; running them gives zeros."""
    found = dict[str, Any]()

    def compile_once(timer: placement.Timer, images: int, program: Any, *arguments: Any) -> Any:
        if timer.name not in found:
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
            found[timer.name] = program.lower(*shapes).compile()
        return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), found[timer.name].out_info)

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(devices, "peers", return_value=np.array([device])))
        patches.enter_context(mock.patch.object(placement.Timer, "run", compile_once))
        for module in (placement, epoch, snnjax_program):
            patches.enter_context(mock.patch.object(module, "place", lambda values, *_: values))
        yield found


def memory(program: Any) -> int:
    """Bytes that a compiled program needs: arguments, results that are not in their place, and what lies between."""
    sizes = program.memory_analysis()
    needed = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return needed - sizes.alias_size_in_bytes


_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"[\])}] ([a-z][a-z-]*)\(")  # after its type
_CALLED = re.compile(r"(condition|body|to_apply|true_computation|false_computation|branch_computations)=(\{.*?\}|\S+)")
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}


def kernels(text: str, loops: Sequence[float]) -> float:
    """How many kernels an executable launches, from its text after all optimisation.

    Each instruction outside of fusions is one, but for those that only name memory. A loop of known length counts as
    often as it runs; `loops` says how often those run whose length depends on data, first outermost ones, then those
    within one such loop, and so on: with each turn of theirs their condition is computed too.
    """
    bodies = dict[str, list[str]]()
    entry = ""
    current = list[str]()
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            current = bodies[begun[2]] = []
            entry = begun[2] if begun[1] else entry
        else:
            current.append(line)

    def of(name: str, depth: int) -> float:
        return sum(launched(line, depth) for line in bodies[name])

    def launched(line: str, depth: int) -> float:
        if not (found := _INSTRUCTION.search(line)) or found[1] in _FREE or found[1].endswith("-done"):
            return 0
        called = {kind: re.findall(r"[\w.-]+", names) for kind, names in _CALLED.findall(line)}
        if found[1] == "while":
            (condition,) = called["condition"]
            (body,) = called["body"]
            if (length := _length(line, bodies[condition])) is not None:
                return length * of(body, depth)
            return loops[depth] * (of(body, depth + 1) + of(condition, depth + 1))
        if found[1] == "conditional":
            return 1 + max(of(name, depth) for names in called.values() for name in names)
        return of(called["to_apply"][0], depth) if found[1] == "call" else 1

    return of(entry, 0)


def _length(line: str, condition: Sequence[str]) -> int | None:
    """How often a loop runs, if that is known: the compiler says so, or it counts up to a constant."""
    if found := re.search(r"known_trip_count\W+n\W+(\d+)", line):
        return int(found[1])
    root = next(each for each in condition if "ROOT" in each)
    constants = {name: int(value) for each in condition for name, value in _CONSTANT.findall(each)}
    bound = re.search(r"compare\(%?[\w.-]+, %?([\w.-]+)\), direction=LT", root)
    return constants.get(bound[1]) if bound else None


_CONSTANT = re.compile(r"%?([\w.-]+) = s32\[\]\S* constant\((\d+)\)")

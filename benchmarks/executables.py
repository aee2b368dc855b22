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
"""Accelerators by name: JAX's platform, and the description that its compiler needs."""
_TPU_HOST = dict(TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-1", TPU_WORKER_HOSTNAMES="localhost")


def device(chip: str) -> Any:
    """The accelerator of this name, to compile for; InputError if its compiler is not installed."""
    platform, topology = CHIPS[chip]
    with mock.patch.dict(os.environ, _TPU_HOST):  # otherwise the compiler for TPUs asks the network which one this is
        try:
            return topologies.get_topology_desc(platform=platform, **topology).devices[0]
        except (RuntimeError, NotImplementedError) as error:
            raise InputError(f"no compiler for {chip}: pip install -e '.[accelerators]' ({error})") from error


@contextlib.contextmanager
def compiled_only(device: Any) -> Iterator[dict[str, Any]]:
    """Programs of a training by phase, compiled for this device; running them gives zeros."""
    programs = dict[str, Any]()

    def compile_once(timer: placement.Timer, images: int, program: Any, *arguments: Any) -> Any:
        if timer.name not in programs:
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
            programs[timer.name] = program.lower(*shapes).compile()
        return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), programs[timer.name].out_info)

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(devices, "peers", return_value=np.array([device])))
        patches.enter_context(mock.patch.object(placement.Timer, "run", compile_once))
        for module in (placement, epoch, snnjax_program):
            patches.enter_context(mock.patch.object(module, "place", lambda values, *_: values))
        yield programs


def memory(program: Any) -> int:
    """Bytes that a compiled program needs: arguments, results that do not reuse their memory, and temporaries."""
    sizes = program.memory_analysis()
    needed = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return needed - sizes.alias_size_in_bytes


_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"[\])}] ([a-z][a-z-]*)\(")  # after its type
_CALLED = re.compile(r"(condition|body|to_apply|true_computation|false_computation|branch_computations)=(\{.*?\}|\S+)")
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}


def kernels(text: str, loops: Sequence[float]) -> float:
    """How many kernels an executable launches, from its text after all optimisation.

    Each instruction outside of fusions is one, except those that only name memory. A loop of known length counts as
    often as it runs. `loops` gives the iterations of loops whose length depends on data, the outermost first, then
    those within one such loop, and so on; each of their iterations computes the condition too.
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

    def in_computation(name: str, depth: int) -> float:
        return sum(in_line(line, depth) for line in bodies[name])

    def in_line(line: str, depth: int) -> float:
        if not (opcode := _INSTRUCTION.search(line)) or opcode[1] in _FREE or opcode[1].endswith("-done"):
            return 0
        called = {kind: re.findall(r"[\w.-]+", names) for kind, names in _CALLED.findall(line)}
        if opcode[1] == "while":
            (condition,) = called["condition"]
            (body,) = called["body"]
            if (length := _length(line, bodies[condition])) is not None:
                return length * in_computation(body, depth)
            return loops[depth] * (in_computation(body, depth + 1) + in_computation(condition, depth + 1))
        if opcode[1] == "conditional":
            return 1 + max(in_computation(name, depth) for names in called.values() for name in names)
        return in_computation(called["to_apply"][0], depth) if opcode[1] == "call" else 1

    return in_computation(entry, 0)


def _length(line: str, condition: Sequence[str]) -> int | None:
    """The number of iterations of a loop, if known: the compiler notes it, or the loop counts up to a constant."""
    if trips := re.search(r"known_trip_count\W+n\W+(\d+)", line):
        return int(trips[1])
    root = next(instruction for instruction in condition if "ROOT" in instruction)
    constants = {name: int(value) for instruction in condition for name, value in _CONSTANT.findall(instruction)}
    bound = re.search(r"compare\(%?[\w.-]+, %?([\w.-]+)\), direction=LT", root)
    return constants.get(bound[1]) if bound else None


_CONSTANT = re.compile(r"%?([\w.-]+) = s32\[\]\S* constant\((\d+)\)")

"""The times of the compiled programs of a phase; the programs are kept, so that each is compiled once."""

import time
from collections.abc import Callable
from typing import Any

import jax

from snnjax.kernels import backend

MAX_PROGRAMS = 64
PROGRAMS: dict[Any, Any] = {}  # by program, back end, and types of its arguments; the oldest first


class Timer:
    """Adds up the images and seconds of a phase's programs; compilation time is kept separately."""

    def __init__(self, name: str):
        self.name = name
        self.reset()

    def reset(self) -> None:
        """Starts again from zero."""
        self.images = 0
        self.seconds = 0.0
        self.compile_seconds = 0.0

    def time_program(self, images: int, program: Any, *args: Any) -> Any:
        """Runs a jitted function over `images` images and waits for it; compiles it first, once for each shape."""
        start = time.perf_counter()
        leaves, structure = jax.tree.flatten(args)
        types = [(x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves]
        # The back end is chosen while a program is traced, and a compiled program refuses arrays that lie on other
        # devices, so both belong to the key.
        key = program, backend.current_is_native(), structure, *types
        if key not in PROGRAMS:
            if len(PROGRAMS) == MAX_PROGRAMS:
                del PROGRAMS[next(iter(PROGRAMS))]
            # Compiled apart from the call, so that the times of phases do not include compilation.
            PROGRAMS[key] = program.lower(*args).compile()
        begin = time.perf_counter()
        # Calls return before the device has finished: without waiting, only the start of the work would be timed.
        result = jax.block_until_ready(PROGRAMS[key](*args))
        self.seconds += time.perf_counter() - begin
        self.compile_seconds += begin - start
        self.images += images
        return result

    def time_call(self, images: int, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function that runs on the host over `images` images."""
        start = time.perf_counter()
        result = function(*args)
        self.seconds += time.perf_counter() - start
        self.images += images
        return result

    def add_to(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """Adds the measurements to the record of this name, which a resumed phase continues; returns the record."""
        record = next((x for x in records if x["name"] == self.name), None)
        if record is None:
            record = dict[str, Any](name=self.name)
            records.append(record)
        totals = {key: record.get(key, 0) + getattr(self, key) for key in ("images", "seconds", "compile_seconds")}
        rate = totals["images"] / totals["seconds"] if totals["seconds"] else 0.0
        record |= {key: round(total, 6) for key, total in totals.items()} | dict(images_per_second=round(rate, 1))
        return record

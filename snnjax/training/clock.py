"""Compiling and running programs, with the seconds that both take."""

import functools
import time
from typing import Any

import jax


class Clock:
    """Adds up the seconds of a phase's programs, compilation apart."""

    def __init__(self, name: str):
        self.name, self.images, self.seconds, self.compile_seconds = name, 0, 0.0, 0.0

    def run(self, images: int, function: Any, *args: Any) -> Any:
        """Runs a jitted function over this number of images, to its end."""
        start = time.perf_counter()
        leaves, structure = jax.tree.flatten(args)
        kinds = tuple((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves)
        compiled = _compiled(function, structure, kinds)
        begin = time.perf_counter()
        result = jax.block_until_ready(compiled(*args))
        self.seconds += time.perf_counter() - begin
        self.compile_seconds += begin - start
        self.images += images
        return result

    def take(self) -> dict[str, Any]:
        """name, images, seconds, compile_seconds, images_per_second so far; starts again from zero."""
        record = dict(name=self.name, images=self.images, seconds=self.seconds, compile_seconds=self.compile_seconds)
        self.images, self.seconds, self.compile_seconds = 0, 0.0, 0.0
        return _rounded(record)


@functools.lru_cache(maxsize=64)
def _compiled(function: Any, structure: Any, kinds: tuple[tuple[Any, ...], ...]) -> Any:
    shapes = [jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for shape, dtype, sharding in kinds]
    return function.lower(*jax.tree.unflatten(structure, shapes)).compile()


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    rate = record["images"] / record["seconds"] if record["seconds"] else 0.0
    seconds = {name: round(record[name], 4) for name in ("seconds", "compile_seconds")}
    return dict(record, **seconds, images_per_second=round(rate, 1))


def add(records: list[dict[str, Any]], record: dict[str, Any]) -> dict[str, Any]:
    """Adds a record to the one of the same name, if there is one: a phase that is resumed stays one."""
    for at, old in enumerate(records):
        if old["name"] == record["name"]:
            sums = {name: old[name] + record[name] for name in ("images", "seconds", "compile_seconds")}
            records[at] = _rounded(dict(record, **sums))
            return records[at]
    records.append(record)
    return record

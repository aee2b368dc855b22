"""Compiling and running programs, with the seconds that both take."""

import collections
import time
from typing import Any

import jax

_compiled: collections.OrderedDict[Any, Any] = collections.OrderedDict()
_MOST = 64
"""Compiled programs that are kept."""


class Clock:
    """Gathers the seconds, compilation apart, of the parts of a phase."""

    def __init__(self, name: str):
        self.name, self.images, self.seconds, self.compile_seconds = name, 0, 0.0, 0.0

    def compile(self, function: Any, *args: Any) -> Any:
        """A jitted function compiled for arguments like these, without running it."""
        leaves, structure = jax.tree.flatten(args)
        kinds = tuple((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves)
        key = (function, structure, kinds)
        if key not in _compiled:
            start = time.perf_counter()
            _compiled[key] = function.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - start
            if len(_compiled) > _MOST:
                _compiled.popitem(last=False)
        _compiled.move_to_end(key)
        return _compiled[key]

    def run(self, images: int, function: Any, *args: Any) -> Any:
        """Runs a jitted function over so many images, to its end."""
        compiled = self.compile(function, *args)
        start = time.perf_counter()
        result = jax.block_until_ready(compiled(*args))
        self.seconds += time.perf_counter() - start
        self.images += images
        return result

    def take(self) -> dict[str, Any]:
        """name, images, seconds, compile_seconds, images_per_second so far; begins anew."""
        record = dict(name=self.name, images=self.images, seconds=self.seconds, compile_seconds=self.compile_seconds)
        self.images, self.seconds, self.compile_seconds = 0, 0.0, 0.0
        return rounded(record)


def rounded(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its rate."""
    rate = record["images"] / record["seconds"] if record["seconds"] else 0.0
    seconds = {name: round(record[name], 4) for name in ("seconds", "compile_seconds")}
    return dict(record, **seconds, images_per_second=round(rate, 1))


def add(records: list[dict[str, Any]], record: dict[str, Any]) -> dict[str, Any]:
    """Adds a record to the one of the same name, if there is one: a phase that was stopped and goes on stays one."""
    for at, old in enumerate(records):
        if old["name"] == record["name"]:
            sums = {name: old[name] + record[name] for name in ("images", "seconds", "compile_seconds")}
            records[at] = rounded(dict(record, **sums))
            return records[at]
    records.append(record)
    return record

"""The differences between two descriptions of components, given as the JSON data of `codec.to_data`."""

import hashlib
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from snnjax.core.codec import completed

MAX_LISTED_DIFFERENCES = 3  # messages list no more differences


def described(data: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Data of `to_data` with digests of its arrays, as JSON data for `described_differences`."""
    digests = {name: hashlib.sha256(np.ascontiguousarray(x).data).hexdigest()[:16] for name, x in arrays.items()}
    return json.loads(json.dumps(dict(data=data, arrays=digests)))


def described_differences(now: dict[str, Any], was: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The `differences` between two results of `described`; `was` may have been written by an earlier version."""
    arrays = differences(now["arrays"], was.get("arrays", {}))
    return [*differences(now["data"], completed(was.get("data"))), *arrays]


def differences(now: Any, was: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Differences in nested JSON data, such as data of `to_data`: tuples of path, present value and earlier value."""
    if isinstance(now, dict) and isinstance(was, dict):
        for key in {**was, **now}:
            yield from differences(now.get(key), was.get(key), f"{path}.{key}" if path else key)
    elif isinstance(now, list) and isinstance(was, list) and len(now) == len(was):
        for index, pair in enumerate(zip(now, was, strict=True)):
            yield from differences(*pair, f"{path}.{index}")
    elif now != was:
        yield path, now, was


def list_differences(found: Sequence[tuple[str, Any, Any]]) -> str:
    """The first `MAX_LISTED_DIFFERENCES` of the `found` differences in words, and the number of the remaining ones."""
    words = []
    for path, now, was in found[:MAX_LISTED_DIFFERENCES]:
        old = textwrap.shorten(str(was), 40, placeholder="...")
        new = textwrap.shorten(str(now), 40, placeholder="...")
        words.append(f"{path} {old} (now {new})")
    more = f" and {len(found) - MAX_LISTED_DIFFERENCES} more" if len(found) > MAX_LISTED_DIFFERENCES else ""
    return ", ".join(words) + more

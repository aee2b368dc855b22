"""What the screen and the report of a run say in the same words.

Nothing here draws: the screen needs these words before a training, and Matplotlib is imported while it runs.
"""

from collections.abc import Mapping
from typing import Any

Rows = tuple[list[str], list[list[str]]]


def order(settings: Mapping[str, Any]) -> str:
    """In which order images were shown, and whether mirrored, in words; "" where neither."""
    shuffled = "images come in a new order each epoch" * settings.get("shuffle", False)
    mirrored = "each image is mirrored left-right or not, at random" * settings.get("mirror", False)
    return ", ".join(filter(None, (shuffled, mirrored)))


def back_end(settings: Mapping[str, Any]) -> str:
    """The back end of a run in words."""
    return f"back end {settings['backend']}"


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def phases(results: dict[str, Any]) -> Rows:
    """Figures of each phase in a results.json: the heads of a table and its rows."""
    keys = dict(images=",", compile_seconds=".1f", seconds=".1f", images_per_second=",.0f")
    rows = [[phase["name"], *(format(phase[key], spec) for key, spec in keys.items())] for phase in results["phases"]]
    return ["phase", "images", "compiling s", "running s", "images/s"], rows

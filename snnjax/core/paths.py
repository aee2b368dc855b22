"""Access to the numbers and parts of components, and of other pytrees, by dotted paths."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from snnjax.core.components import fields_of, is_component
from snnjax.core.errors import InputError


def leaves(tree: Any, name: str = "") -> dict[str, Any]:
    """The numbers and arrays of a pytree, keyed by their dotted paths, such as "competition.radius".

    If a `name` is given, the paths start with it. Files, states and options all use these paths. Raises InputError if
    two numbers have the same path.
    """
    by_path: dict[str, Any] = {}
    for keys, leaf in jax.tree.leaves_with_path(tree):
        path = ".".join(filter(None, (name, jax.tree_util.keystr(keys, simple=True, separator="."))))
        if path in by_path:
            raise InputError(f"`{path}` must name one number, got two: keys must not contain dots")
        by_path[path] = leaf
    return by_path


def with_leaves(tree: Any, new: Mapping[str, Any], name: str = "") -> Any:
    """A pytree in which the `leaves` whose paths are keys of `new` are replaced; all other leaves are unchanged."""
    changed = [new.get(path, leaf) for path, leaf in leaves(tree, name).items()]
    return jax.tree.unflatten(jax.tree.structure(tree), changed)


def changed_leaves(before: Any, after: Any) -> dict[str, Any]:
    """The `leaves` of `before` that differ in `after`, a pytree of the same structure, as JSON data keyed by path."""
    changed = {}
    for (path, was), now in zip(leaves(before).items(), jax.tree.leaves(after), strict=True):
        if not np.array_equal(was, now):
            changed[path] = np.asarray(was).tolist()
    return changed


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, int | float]]:
    """The paths and values of all numbers in a component that can be varied, such as "competition.radius", "reward.0".

    Fields that are learnable or fitted, and tuples that contain tuples, are left out.
    """
    parts: dict[Any, Any] = {}
    if dataclasses.is_dataclass(value):
        varying = [field for field in dataclasses.fields(value) if not {"learnable", "fitted"} & field.metadata.keys()]
        parts = {field.name: getattr(value, field.name) for field in varying}
    elif isinstance(value, tuple) and not any(isinstance(item, tuple) for item in value):
        parts = dict(enumerate(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value
    for name, part in parts.items():
        yield from numbers(part, f"{path}.{name}" if path else str(name))


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The paths and values of all components, and tuples of them, in a component: "learners", "learners.0"."""
    if isinstance(value, tuple):
        inner: dict[Any, Any] = {index: item for index, item in enumerate(value) if is_component(item)}
    else:
        inner = {name: part for name, part in fields_of(value).items() if is_component(part) or isinstance(part, tuple)}
    for name, part in inner.items():
        whole = f"{path}.{name}" if path else str(name)
        if not isinstance(part, tuple) or all(map(is_component, part)):
            yield whole, part
        yield from parts(part, whole)


def replace(value: Any, path: str, new: Any) -> Any:
    """A component, or a tuple, in which the value at `path` is replaced by `new`."""
    name, _, rest = path.partition(".")
    if not path:
        return new
    if isinstance(value, tuple):
        return tuple(replace(item, rest, new) if str(index) == name else item for index, item in enumerate(value))
    return dataclasses.replace(value, **{name: replace(getattr(value, name), rest, new)})

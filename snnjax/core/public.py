"""The public names of packages."""

import types
from collections.abc import Mapping
from typing import Any


def names(namespace: Mapping[str, Any]) -> list[str]:
    """The names that a package imports or defines for its users, for its `__all__`, so that `help` lists only these.

    Modules are left out, as are private names and those of `typing`.
    """

    def is_public(name: str, value: Any) -> bool:
        of_typing = getattr(value, "__module__", "") == "typing"
        return not (name.startswith("_") or of_typing or isinstance(value, types.ModuleType))

    return [name for name, value in namespace.items() if is_public(name, value)]

"""What help() and the reference say of the fields of classes."""

import dataclasses
import importlib
import inspect
import pkgutil
import re

import pytest

import snnjax

PROGRAMS = ("Strongest", "Changed")
"""What only steps see."""


def classes() -> list[type]:
    """The public classes of the library with fields, in the modules that define them."""
    names = [each.name for each in pkgutil.walk_packages(snnjax.__path__, "snnjax.") if ".app" not in each.name]
    found = {each for name in names for each in vars(importlib.import_module(name)).values() if isinstance(each, type)}
    with_fields = [each for each in found if dataclasses.is_dataclass(each) or hasattr(each, "_fields")]
    ours = [each for each in with_fields if each.__module__.startswith("snnjax.") and each.__name__[0] != "_"]
    ours = [each for each in ours if each.__name__ not in PROGRAMS and not inner(each)]
    return sorted(ours, key=lambda each: (each.__module__, each.__name__))


def inner(kind: type) -> bool:
    """Whether a class is one of the data sets' tables, which no user sees."""
    return kind.__module__.startswith("snnjax.data.") and kind.__name__ not in snnjax.data.__all__


@pytest.mark.parametrize("kind", classes(), ids=lambda each: each.__name__)
def test_all_fields_are_explained(kind):
    fields = [each.name for each in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else kind._fields
    explained: list[str] = []
    for each in kind.__mro__:  # a base class explains its own
        _, _, section = inspect.cleandoc(each.__doc__ or "").partition("Attributes:")
        explained += re.findall(r"^  (\w[\w, ]*): ", section, re.MULTILINE)
    assert {*fields} <= {name for names in explained for name in names.split(", ")}

"""What help() and the reference say of the fields of classes."""

import dataclasses
import importlib
import inspect
import pkgutil
import re

import snnjax

PROGRAMS = ("Strongest", "Changed")
"""What only steps see."""


def test_all_fields_of_public_classes_are_explained():
    names = [each.name for each in pkgutil.walk_packages(snnjax.__path__, "snnjax.") if ".app" not in each.name]
    found = {each for name in names for each in vars(importlib.import_module(name)).values() if isinstance(each, type)}
    lacking = {}
    for kind in found:
        fields = getattr(kind, "_fields", ())
        if dataclasses.is_dataclass(kind):
            fields = [each.name for each in dataclasses.fields(kind)]
        ours = kind.__module__.startswith("snnjax.") and kind.__name__[0] != "_" and kind.__name__ not in PROGRAMS
        table = kind.__module__.startswith("snnjax.data.") and not hasattr(snnjax.data, kind.__name__)
        if not ours or table:  # which no user sees
            continue
        texts = [inspect.cleandoc(each.__doc__ or "").partition("Attributes:")[2] for each in kind.__mro__]
        explained = re.findall(r"^  (\w[\w, ]*): ", "\n".join(texts), re.MULTILINE)
        known = {name for names in explained for name in names.split(", ")}
        lacking[f"{kind.__module__}.{kind.__name__}"] = {*fields} - known
    assert len(lacking) > 50
    assert {name: fields for name, fields in lacking.items() if fields} == {}

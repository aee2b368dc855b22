"""A griffe extension that shows components with their actual signatures, including all defaults."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.append(str(Path(__file__).parent))  # mkdocs imports this file without adding its folder to the path

from book_tables.descriptions import format_default

KINDS: dict[Any, griffe.ParameterKind] = {
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
}


class Signatures(griffe.Extension):
    """Adds the generated `__init__` of components and named tuples, which griffe cannot see."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Adds `__init__` to a component or a named tuple."""
        component = any(str(decorator.value) == "component" for decorator in cls.decorators)
        named_tuple = any(str(base) == "NamedTuple" for base in cls.bases)
        if isinstance(cls.parent, griffe.Module) and (component or named_tuple):
            cls.set_member("__init__", constructor(cls))


def constructor(cls: griffe.Class) -> griffe.Function:
    """The `__init__` of a class, made from its signature."""
    kind = getattr(importlib.import_module(cls.module.path), cls.name)
    parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
    for name, parameter in inspect.signature(kind).parameters.items():
        required = parameter.default is inspect.Parameter.empty
        parameters.append(
            griffe.Parameter(
                name,
                annotation=annotation_of(cls, name, parameter),
                kind=KINDS[parameter.kind],
                default=None if required else format_default(parameter.default),
            )
        )
    return griffe.Function("__init__", parent=cls, parameters=griffe.Parameters(*parameters), returns="None")


def annotation_of(cls: griffe.Class, name: str, parameter: inspect.Parameter) -> Any:
    """The annotation of a field as written in the class, with links; for an inherited field as Python formats it."""
    field = cls.members.get(name)
    if isinstance(field, griffe.Attribute):
        return field.annotation
    return inspect.formatannotation(parameter.annotation)

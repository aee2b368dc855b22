"""A griffe extension that shows the examples in docstrings as code."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Renames the sections "Example:", because griffe reads code only in sections "Examples:"."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Renames the section in the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)

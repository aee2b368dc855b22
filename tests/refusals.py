"""What is refused, and with what message."""

from collections.abc import Callable
from typing import Any

import pytest

from snnjax.core.errors import InputError


def assert_refused(*cases: tuple[Callable[[], Any], str]) -> None:
    """Each call raises an InputError whose message has the words."""
    for call, words in cases:
        with pytest.raises(InputError, match=words):
            call()

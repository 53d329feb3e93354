"""What a queue, a task or a schedule may be called: the same for Python and for those who read the OpenAPI document."""

from __future__ import annotations

import re

import pytest

from rowlock import InvalidOption
from rowlock.queue.jobs import checks, fields


@pytest.mark.parametrize("name", ["a", "...", "..a", ".a", "a.", "a..b", ".-", "-", "_", "0", "....", "A-b_c.9"])
def test_names_that_are_usable(name: str) -> None:
    assert checks.queue_name(name) == name
    assert re.search(fields._NAME, name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "a\n", "..\n"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(InvalidOption, match="queue must be 1 to 48"):
        checks.queue_name(name)
    assert not re.search(fields._NAME.replace("$", r"\Z"), name)

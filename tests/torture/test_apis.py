"""The checker of two HTTP APIs side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowlock.torture.checks import apis
from tests.torture.operating import broken, call
from tests.torture.story import Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


@pytest.mark.parametrize("attempt, status, is_broken", [(1, 200, False), (2, 200, True), (2, 503, False)])
def test_each_api_says_the_same_of_a_job(story: Story, attempt: int, status: int, *, is_broken: bool) -> None:
    answers = [{"status": 200, "attempt": 1}, {"status": status, "attempt": attempt}]
    call(story, "both", jobs=[story.done()], said={"answers": answers})
    assert broken(story) == ({apis.RULE} if is_broken else set())


@pytest.mark.parametrize(
    "ids, is_broken",
    [
        (["1", "1"], False),
        (["1", "2"], True),
        (["1", None], False),
        (["1", "409 conflict"], True),
        (["1", '409 {"type":"urn:rowlock:problem:locked"}'], False),  # the first one still holds the key
    ],
)
def test_one_request_makes_one_job_whichever_api_has_it(
    story: Story, ids: list[str | None], *, is_broken: bool
) -> None:
    call(story, "twice", about={"op": "1"}, said={"ids": ids})
    assert broken(story) == ({apis.RULE} if is_broken else set())

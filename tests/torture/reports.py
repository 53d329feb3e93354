"""What a checker says of a story: that it is clean, or which rules are broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rowlock.torture.checker import Report
    from tests.torture.story import Story


def clean(story: Story) -> Report:
    report = story.check()
    assert report.violations == ()
    assert report.is_clean
    return report


def broken(story: Story) -> set[str]:
    report = story.check()
    assert not report.is_clean
    return {violation.rule for violation in report.violations}

"""The checker finds keys for a period that are free too soon, contents that are old, and calls that nothing follows."""

from __future__ import annotations

import pytest

from tests.torture.reports import broken, clean
from tests.torture.story import Job, Story

PERIOD = 2.0


def of_period(story: Story) -> Job:
    return story.run(story.enqueue(key="k", until="period", period=PERIOD))


def test_a_key_is_taken_again_when_its_period_is_over(story: Story) -> None:
    of_period(story)
    story.wait(PERIOD)
    of_period(story)
    assert clean(story).looked["unique violations: keys for a period"] == 1


def test_a_period_ends_by_the_server_s_clock_however_that_is_set(story: Story) -> None:
    of_period(story)
    story.step_clock(3600)
    of_period(story)
    clean(story)


def test_a_key_that_is_taken_again_within_its_period_is_found_although_its_job_has_ended(story: Story) -> None:
    of_period(story)
    of_period(story)
    assert broken(story) == {"unique violations"}


@pytest.mark.parametrize("waits, is_clean", [(1.0, True), (5.0, False)])
def test_a_refusal_by_a_key_for_a_period_is_right_until_that_is_over(
    story: Story, waits: float, *, is_clean: bool
) -> None:
    holder = of_period(story)
    story.wait(waits)
    story.enqueue("existing", key="k", until="period", holder=holder, period=PERIOD)
    assert story.check().is_clean is is_clean


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_key_of_a_job_whose_time_is_over_can_be_taken_before_that_job_has_ended(
    story: Story, *, is_taken: bool
) -> None:
    over = story.enqueue(key="k", row={"expires_at": story.now + 1.0})
    story.wait(2)
    if is_taken:
        story.lose_key(over)
    story.run(story.enqueue(key="k"))
    story.finish(over, "expired")
    assert story.check().is_clean is is_taken


# Replacements


def latest(story: Story) -> Job:
    return story.enqueue(key="k", until="start", content=1, replaces=True, row={"content": 1})


def test_the_content_that_was_acknowledged_last_starts(story: Story) -> None:
    job = latest(story)
    for content in (2, 3):
        story.wait(2)
        story.replace(job, content)
    story.wait(2)
    story.run(job)
    report = clean(story)
    assert report.looked["stale content: replaced jobs"] == 1


@pytest.mark.parametrize("content", [1, 2])
def test_a_content_that_was_overwritten_before_is_found(story: Story, content: int) -> None:
    job = latest(story)
    for number in (2, 3):
        story.wait(2)
        story.replace(job, number)
    story.update(job, content=content)
    story.wait(2)
    story.run(job)
    assert broken(story) == {"stale content"}


def test_a_content_whose_call_was_not_answered_may_start_or_not(story: Story) -> None:
    job = latest(story)
    story.wait(2)
    story.replace(job, 2, is_acknowledged=False)
    story.wait(2)
    story.run(job)
    clean(story)


def test_a_handler_that_is_given_another_content_than_its_row_has_is_found(story: Story) -> None:
    job = latest(story)
    story.claim(job)
    story.start(job, content=7)
    story.end(job)
    story.succeed(job)
    assert broken(story) == {"stale content"}


# Keys until the start


def test_a_refused_call_is_followed_by_a_start(story: Story) -> None:
    job = story.enqueue(key="k", until="start")
    story.enqueue("existing", key="k", until="start", holder=job)
    story.run(job)
    assert clean(story).looked["unfollowed"] == 1


def test_a_refused_call_may_be_followed_by_a_cancel(story: Story) -> None:
    job = story.enqueue(key="k", until="start")
    story.enqueue("existing", key="k", until="start", holder=job)
    story.act("cancel", job)
    clean(story)


def test_a_refusal_because_of_a_job_that_had_started_before_is_found(story: Story) -> None:
    job = story.run(story.enqueue(key="k", until="start"))
    story.wait(3)
    story.enqueue("existing", key="k", until="start", holder=job)
    assert broken(story) == {"unfollowed"}


# One holder at a time


def test_a_key_is_held_by_one_job_after_the_other(story: Story) -> None:
    first = story.enqueue(key="k")
    story.enqueue("existing", key="k", holder=first)
    story.run(first)
    story.done(key="k")
    story.done(key="other")
    clean(story)


def test_two_holders_of_a_key_are_found(story: Story) -> None:
    first, second = story.enqueue(key="k"), story.enqueue(key="k")
    story.run(first)
    story.run(second)
    assert broken(story) == {"unique violations"}


def test_a_key_is_held_by_a_running_job_unless_it_is_held_until_the_start(story: Story) -> None:
    for until in ("start", "finish"):
        job = story.enqueue(key="k", until=until)
        story.claim(job)
        story.start(job)
        other = story.enqueue(key="k", until=until)
        story.end(job, "error")
        story.again(job, "error")
        story.run(job)
        story.run(other)
        assert story.check().counts["unique violations"] == (until == "finish")


def test_a_job_that_was_put_back_holds_its_key_again(story: Story) -> None:
    job = story.run(story.enqueue(key="k"), "fail")
    story.fail(job, "failed")
    other = story.enqueue(key="k")
    story.act("retry", job)
    story.run(other)
    story.run(job)
    assert broken(story) == {"unique violations"}


def test_a_job_that_lost_its_key_on_the_way_is_found(story: Story) -> None:
    job = story.enqueue(key="k", is_stored=False)
    job.key = None
    story.insert(job)
    story.run(job)
    assert broken(story) == {"unique violations"}


def test_a_refusal_because_of_a_job_that_does_not_exist_is_found(story: Story) -> None:
    story.enqueue("existing", key="k", holder=story.enqueue("nothing", key="k"))
    assert broken(story) == {"unique violations"}


def test_a_refusal_because_of_a_job_with_another_key_is_found(story: Story) -> None:
    story.enqueue("existing", key="k", holder=story.done(key="other"))
    assert broken(story) == {"unique violations"}


def test_a_refusal_because_of_a_job_that_ended_long_ago_is_found(story: Story) -> None:
    first = story.done(key="k")
    story.enqueue("existing", key="k", holder=first)
    clean(story)
    story.wait(100)
    story.enqueue("existing", key="k", holder=first)
    assert broken(story) == {"unique violations"}


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_a_key_that_is_asked_for_between_two_attempts_is_counted(story: Story, *, is_asked_for: bool) -> None:
    holder = story.enqueue(key="k")
    story.claim(holder)
    story.start(holder)
    story.end(holder, "error")
    story.again(holder, "error")
    story.wait(1)
    if is_asked_for:
        story.enqueue("existing", key="k", holder=holder)
    story.run(holder)
    looked = clean(story).looked
    assert looked["unique violations: keys of jobs that waited for their next attempt"] == is_asked_for


# Duplicates that raise, and keys of jobs that have ended


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("raised", [True, False])
def test_a_duplicate_raises_if_and_only_if_its_call_asked_for_that(story: Story, *, raises: bool, raised: bool) -> None:
    holder = story.enqueue(key="k")
    story.enqueue("existing", key="k", holder=holder, raises=raises, raised=raised)
    story.run(holder)
    report = story.check()
    assert report.counts["unique violations"] == (raises != raised)
    assert report.looked["unique violations: duplicates that raise"] == raises


@pytest.mark.parametrize("state", ["cancelled", "expired", "failed"])
def test_a_key_that_its_ended_job_keeps_is_found(story: Story, state: str) -> None:
    holder = story.enqueue(key="k", expires=1.0, deadline=1.0, row={"expires_at": story.now, "deadline": story.now})
    if state == "cancelled":
        story.act("cancel", holder)
    else:
        story.finish(holder, state)
    report = story.check()
    assert report.counts["unique violations"] == 0
    name = "that were cancelled while they waited" if state == "cancelled" else f"that {state}"
    assert report.looked[f"unique violations: keys of jobs {name}"] == 0, "nobody has asked for it since"
    story.wait(3)
    story.enqueue("existing", key="k", holder=holder)
    report = story.check()
    assert report.counts["unique violations"] == 1
    assert report.looked[f"unique violations: keys of jobs {name}"] == 1


@pytest.mark.parametrize("is_taken_before", [True, False])
def test_a_key_that_another_job_takes_over_before_the_end_shows_nothing_of_its_release(
    story: Story, *, is_taken_before: bool
) -> None:
    holder = story.enqueue(key="k", expires=1.0, row={"expires_at": story.now})
    if is_taken_before:
        story.lose_key(holder)
        other = story.enqueue(key="k")
        story.finish(holder, "expired")
    else:
        story.finish(holder, "expired")
        other = story.enqueue(key="k")
    story.run(other)
    report = story.check()
    assert report.counts["unique violations"] == 0
    assert report.looked["unique violations: keys of jobs that expired"] == (not is_taken_before)

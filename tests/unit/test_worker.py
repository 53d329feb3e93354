"""What a worker is asked before anything connects."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rowlock import InvalidOption, Rowlock, Worker

NOWHERE = "postgresql://127.0.0.1/nothing_connects"


def test_a_worker_is_what_the_package_exports() -> None:
    assert isinstance(Rowlock(NOWHERE).worker(), Worker)


@pytest.mark.parametrize("grace", [None, 0, 5, 0.25, timedelta(seconds=5)])
def test_a_stop_takes_seconds_or_a_timedelta(grace: float | timedelta | None) -> None:
    worker = Rowlock(NOWHERE).worker()
    worker.stop(grace)
    assert worker.is_stopping


@pytest.mark.parametrize("grace", [-1, timedelta(seconds=-1)])
def test_a_grace_below_zero_is_refused_with_the_remedy(grace: float | timedelta) -> None:
    worker = Rowlock(NOWHERE).worker()
    with pytest.raises(InvalidOption, match=r"^grace must be zero or more seconds; got .*-1.*\. Use 0") as caught:
        worker.stop(grace=grace)
    assert caught.value.option == "grace"
    assert not worker.is_stopping


@pytest.mark.parametrize("grace", [True, "5", float("nan"), 1e12])
def test_a_grace_that_is_no_duration_is_refused(grace: object) -> None:
    with pytest.raises(InvalidOption, match="grace"):
        Rowlock(NOWHERE).worker().stop(grace)  # type: ignore[arg-type]  # that is the point

"""`rowlock enqueue-many` when the answer of the database is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rowlock import EnqueueUnknown, NewJob, Rowlock, RowlockError, Settings
from rowlock.cli.commands.enqueue_many import _enqueue, read_jobs
from rowlock.queue.enqueue.store import Store


async def test_a_lost_answer_names_a_command_and_not_a_python_call(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[NewJob[Any]] = []

    async def lose(_store: Store, jobs: Sequence[NewJob[Any]], *_: object) -> None:
        given.extend(jobs)
        raise EnqueueUnknown("Run `await app.enqueue_many(error.jobs)`", jobs=jobs)

    monkeypatch.setattr(Store, "enqueue_many", lose)
    app = Rowlock(settings=settings)
    app.task(name="work")(_work)
    with pytest.raises(RowlockError) as caught:
        await _enqueue(app, read_jobs('[{"task": "work"}]'))
    assert not isinstance(caught.value, EnqueueUnknown)
    assert f"`rowlock jobs show {given[0].id}`" in str(caught.value)
    assert "app.enqueue_many" not in str(caught.value)


async def _work() -> None: ...

"""What a process does that is a worker and nothing else."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from rowlock.worker.process import YOUNGEST_OBJECTS, settle_in


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_a_worker_process_freezes_what_is_loaded_and_collects_less_often() -> None:
    settle_in()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == YOUNGEST_OBJECTS
    assert gc.isenabled(), "cycles are still collected"

"""The JSON of the HTTP API. Times are ISO 8601 in UTC, durations seconds, ids text."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from rowlock.queue.jobs.fields import said

NextPage: TypeAlias = Annotated[str | None, said("the path of the next page; null after the last one")]
Sensitive: TypeAlias = Annotated[
    bool, said("whether the task is sensitive: its jobs' arguments, results and errors are null")
]

"""Describe the members of JSON documents, with their types and limits, for the OpenAPI document and for people.

This module checks nothing: the code that receives a value checks it and words the error (`options.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

import msgspec

from rowlock.queue.jobs.lifecycle import SHOWN

A_HUNDRED_YEARS: Final = 36_500 * 24 * 3600
SHORTEST: Final = 0.000_001
"""Seconds. PostgreSQL counts microseconds: to it, anything shorter is zero."""
TEXT: Final = r"^[^\u0000]*$"
"""Text that PostgreSQL can store."""

_DURATION: Final = "^P([0-9]{1,4}DT[0-9]{1,4}[HMS]|[0-9]{1,4}D|T[0-9]{1,4}[HMS])$"
_NAME: Final = r"^(\.{3,}|\.*[A-Za-z0-9_-][A-Za-z0-9_.-]*)$"
"""Letters, digits, `_`, `.` and `-`, but not `.` or `..` alone."""
_METADATA_KEYS: Final = {"pattern": "^[A-Za-z0-9_.-]{1,64}$"}


def said(description: str, **schema: object) -> msgspec.Meta:
    """Describe a member, and its values by keywords of JSON Schema."""
    return msgspec.Meta(description=description, extra_json_schema=schema)


JobId: TypeAlias = Annotated[UUID, said("the job's id; ids sort by the time of the enqueue")]
TaskName: TypeAlias = Annotated[str, said("the task's name", pattern=_NAME, minLength=1, maxLength=128)]
QueueName: TypeAlias = Annotated[str, said("the queue's name", pattern=_NAME, minLength=1, maxLength=48)]
ScheduleName: TypeAlias = Annotated[str, said("the schedule's name", pattern=_NAME, minLength=1, maxLength=128)]
State: TypeAlias = Annotated[str, said("the job's state", enum=list(SHOWN))]
Arguments: TypeAlias = Annotated[
    dict[str, Any], said("the task's arguments, by name: at most 256 KiB, nested at most 64 deep")
]
ArgumentsVersion: TypeAlias = Annotated[
    int, said("the task version that the arguments are written for", minimum=1, maximum=2**15 - 1)
]
Priority: TypeAlias = Annotated[int, said("0 (last) to 9 (first)", minimum=0, maximum=9)]
MaxAttempts: TypeAlias = Annotated[
    int, said("the number of failed attempts after which the job fails (1: no retry)", minimum=1, maximum=2**31 - 1)
]
Concurrency: TypeAlias = Annotated[
    int, said("the most jobs that each worker runs at once", minimum=1, maximum=2**31 - 1)
]
UniqueKey: TypeAlias = Annotated[
    str, said("a key of 1 to 512 bytes; only one job of the task holds it at a time", minLength=1, pattern=TEXT)
]
Tag: TypeAlias = Annotated[
    str, said("a word to find the job by", minLength=1, maxLength=64, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")
]
Tags: TypeAlias = Annotated[list[Tag], said("words to find the job by", maxItems=20)]
MetadataText: TypeAlias = Annotated[str, said("a text", maxLength=256, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Metadata: TypeAlias = Annotated[
    dict[str, MetadataText], said("texts by key to find the job by", maxProperties=20, propertyNames=_METADATA_KEYS)
]
MetadataFilter: TypeAlias = Annotated[
    dict[str, MetadataText], said("metadata that the job must have", minProperties=1, propertyNames=_METADATA_KEYS)
]
Reason: TypeAlias = Annotated[str, said("the reason, for the audit", minLength=1, maxLength=1000, pattern=TEXT)]
Age: TypeAlias = Annotated[float, said("age in seconds", minimum=0, maximum=A_HUNDRED_YEARS)]
AgeText: TypeAlias = Annotated[
    timedelta, said("age as an ISO 8601 duration of days, hours, minutes and seconds", pattern=_DURATION)
]
Wait: TypeAlias = Annotated[float, said("seconds from now", minimum=0, maximum=A_HUNDRED_YEARS)]
Limit: TypeAlias = Annotated[float, said("seconds", minimum=SHORTEST, maximum=A_HUNDRED_YEARS)]
Count: TypeAlias = Annotated[int, said("the number", minimum=0)]
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time of an answer. It has a zone, so that the schema states its format."""
Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True, description="a time with its zone")]
Seconds: TypeAlias = Annotated[float, said("seconds")]

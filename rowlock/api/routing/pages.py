"""Filters and pages of lists, from the query's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias
from uuid import UUID

import msgspec
from aiohttp import web

from rowlock.api.http.problems import INVALID_REQUEST, Refused
from rowlock.api.routing.routes import Call
from rowlock.queue.jobs.checks import metadata_pairs
from rowlock.queue.jobs.fields import A_HUNDRED_YEARS, said
from rowlock.queue.jobs.filter import Criteria, JobFilter
from rowlock.queue.read.pages import MOST_PER_PAGE
from rowlock.queue.read.pages import JobPage as Jobs
from rowlock.wire.jobs import JobPage, JobSummary

DEFAULT_PER_PAGE: Final = 50

StateName: TypeAlias = Annotated[
    Literal["blocked", "queued", "scheduled", "retrying", "running", "succeeded", "failed", "cancelled", "expired"],
    said("the job's state"),
]
PerPage: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MOST_PER_PAGE, description="the most entries of a page")]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=A_HUNDRED_YEARS, description="age in seconds")]
ArgumentsText: TypeAlias = Annotated[
    str,
    said("arguments that the job must have: a JSON object, as text", examples=['{"recipient": "ada@example.com"}']),
]

MetadataPair: TypeAlias = Annotated[
    str,
    said(
        "a key, a colon and the text",
        pattern=r"^[A-Za-z0-9_.-]{1,64}:[^\u0000-\u001f\u007f-\u009f]{0,256}$",
        examples=["customer:42"],
    ),
]


class LimitQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a page."""

    limit: PerPage = DEFAULT_PER_PAGE


class PageQuery(LimitQuery, frozen=True, kw_only=True):
    """The position and size of a page."""

    before: Annotated[UUID, said("the last id of the page before")] | None = None


class FilterQuery(Criteria, frozen=True, kw_only=True):
    """A filter of jobs, as `JobFilter`; `args` is JSON text."""

    limit: PerPage = DEFAULT_PER_PAGE
    older_than: Seconds | None = None
    newer_than: Seconds | None = None
    args: ArgumentsText | None = None
    metadata: Annotated[
        tuple[MetadataPair, ...],
        said("metadata that the job must have: a key, a colon and the text; may be repeated"),
    ] = ()

    def filter(self) -> JobFilter:
        """Return the filter. Raises `Refused`, `InvalidOption`."""
        names = set(self.__struct_fields__) & set(JobFilter.__struct_fields__) - {"before"}
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        metadata = metadata_pairs("metadata", self.metadata, ":") if self.metadata else None
        return JobFilter(**given | {"args": _args(self.args), "metadata": metadata})


class FilterPageQuery(FilterQuery, frozen=True, kw_only=True):
    """A filter of jobs, and a page."""

    before: Annotated[UUID, said("the last id of the page before")] | None = None


class JobsQuery(FilterPageQuery, frozen=True, kw_only=True):
    """A filter of jobs in any state, and a page."""

    state: StateName | None = None


class _Identified(Protocol):
    @property
    def id(self) -> UUID: ...


def following(request: web.Request, found: Sequence[_Identified], limit: int) -> str | None:
    """Return the path of the next page; None after the last one."""
    if len(found) < limit:
        return None
    return str(request.rel_url.update_query(before=str(found[-1].id)))


def page_of(call: Call, jobs: Jobs) -> JobPage:
    """Return the answer for a page of jobs, with the path of the next one."""
    before = jobs.following
    path = None if before is None else str(call.request.rel_url.update_query(before=str(before)))
    return JobPage(jobs=[JobSummary.of(job) for job in jobs], next=path, searched_until=jobs.searched_until)


def _args(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        detail = 'args must be a JSON object, for example {"recipient": "ada@example.com"}.'
        raise Refused(INVALID_REQUEST, detail, field="args") from None

"""What the lists have in common: filters and pages, from the query's parameters."""

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
PerPage: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MOST_PER_PAGE, description="how many at most")]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=A_HUNDRED_YEARS, description="seconds, back from now")]
ArgumentsText: TypeAlias = Annotated[
    str,
    said("arguments that are among the job's: a JSON object, as text", examples=['{"recipient": "ada@example.com"}']),
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
    """How many at most."""

    limit: PerPage = DEFAULT_PER_PAGE


class PageQuery(LimitQuery, frozen=True, kw_only=True):
    """Which page of a list: the one that follows this id."""

    before: Annotated[UUID, said("what follows this id")] | None = None


class FilterQuery(Criteria, frozen=True, kw_only=True):
    """Which jobs, as a `JobFilter` has it; `args` is JSON text."""

    limit: PerPage = DEFAULT_PER_PAGE
    older_than: Seconds | None = None
    newer_than: Seconds | None = None
    args: ArgumentsText | None = None
    metadata: Annotated[
        tuple[MetadataPair, ...],
        said("metadata that is among the job's: a key, a colon and the text; may be given several times"),
    ] = ()

    def filter(self) -> JobFilter:
        """The filter. Raises `Refused`, `InvalidOption`."""
        names = set(self.__struct_fields__) & set(JobFilter.__struct_fields__) - {"before"}
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        metadata = metadata_pairs("metadata", self.metadata, ":") if self.metadata else None
        return JobFilter(**given | {"args": _args(self.args), "metadata": metadata})


class FilterPageQuery(FilterQuery, frozen=True, kw_only=True):
    """Which page of which jobs."""

    before: Annotated[UUID, said("what follows this id")] | None = None


class JobsQuery(FilterPageQuery, frozen=True, kw_only=True):
    """Which page of which jobs, in any state."""

    state: StateName | None = None


class _Identified(Protocol):
    @property
    def id(self) -> UUID: ...


def following(request: web.Request, found: Sequence[_Identified], limit: int) -> str | None:
    """The path of the next page; None after the last one."""
    if len(found) < limit:
        return None
    return str(request.rel_url.update_query(before=str(found[-1].id)))


def page_of(call: Call, jobs: Jobs) -> JobPage:
    """A page of jobs as it is answered, with the path of the next one."""
    before = jobs.following
    path = None if before is None else str(call.request.rel_url.update_query(before=str(before)))
    return JobPage(jobs=[JobSummary.of(job) for job in jobs], next=path, searched_until=jobs.searched_until)


def _args(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        detail = 'args is no JSON object: name the arguments to look for, as in {"recipient": "ada@example.com"}.'
        raise Refused(INVALID_REQUEST, detail, field="args") from None

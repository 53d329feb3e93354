"""What the lists have in common: filters and pages, from the query's parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
from aiohttp import web

from rowlock.api.problems import INVALID_REQUEST, Refused
from rowlock.queue.client import MOST_PER_PAGE
from rowlock.queue.filters import JobFilter
from rowlock.queue.lifecycle import SHOWN

DEFAULT_PER_PAGE: Final = 50
PAGE: Final = ("limit", "before")
FILTERS: Final = ("queue", "task", "after", "older_than", "newer_than", "error", "args", "discarded")

_NUMBER = re.compile(r"[0-9]{1,9}")
_SECONDS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,9})?")
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FLAGS: Final = {"true": True, "false": False}


class _Identified(Protocol):
    @property
    def id(self) -> UUID: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which page of a list is asked for."""

    before: UUID | None
    limit: int

    def following(self, request: web.Request, found: Sequence[_Identified]) -> str | None:
        """The path of the next page; None after the last one."""
        if len(found) < self.limit:
            return None
        return str(request.rel_url.update_query(before=str(found[-1].id)))


def page_of(query: Mapping[str, str]) -> Page:
    """The page that the query names. Raises `Refused`."""
    return Page(before=_id("before", query.get("before")), limit=_limit(query.get("limit")))


def filter_of(query: Mapping[str, str]) -> JobFilter:
    """The filter that the query describes. Raises `Refused`, `InvalidOption`."""
    state = query.get("state")
    if state is not None and state not in SHOWN:
        raise Refused(INVALID_REQUEST, f"state {state!r} is not one of {', '.join(SHOWN)}.", field="state")
    return JobFilter(
        state=state,
        queue=query.get("queue"),
        task=query.get("task"),
        after=_id("after", query.get("after")),
        older_than=_seconds("older_than", query.get("older_than")),
        newer_than=_seconds("newer_than", query.get("newer_than")),
        error=query.get("error"),
        args=_args(query.get("args")),
        discarded=_flag("discarded", query.get("discarded")),
    )


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_PER_PAGE
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST_PER_PAGE:
        detail = f"limit {text!r} is out of range: use a whole number from 1 to {MOST_PER_PAGE}."
        raise Refused(INVALID_REQUEST, detail, field="limit")
    return int(text)


def _id(name: str, text: str | None) -> UUID | None:
    if text is not None and not _ID.fullmatch(text):
        detail = f"{name} {text!r} is no id: use one of a page before."
        raise Refused(INVALID_REQUEST, detail, field=name)
    return None if text is None else UUID(text)


def _seconds(name: str, text: str | None) -> float | None:
    if text is not None and not _SECONDS.fullmatch(text):
        raise Refused(INVALID_REQUEST, f"{name} {text!r} is not a number of seconds: use 3600, say.", field=name)
    return None if text is None else float(text)


def _flag(name: str, text: str | None) -> bool | None:
    if text is not None and text not in _FLAGS:
        raise Refused(INVALID_REQUEST, f"{name} {text!r} is neither true nor false.", field=name)
    return None if text is None else _FLAGS[text]


def _args(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        detail = 'args is no JSON object: name the arguments to look for, as in {"recipient": "ada@example.com"}.'
        raise Refused(INVALID_REQUEST, detail, field="args") from None

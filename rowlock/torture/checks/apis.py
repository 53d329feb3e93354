"""Check that two HTTP APIs give the same answers, and that one request makes one job: docs/http-api.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.torture.checks import rewound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rowlock.torture.evidence import Evidence

RULE: Final = "answers of the APIs"
LOCKED: Final = "urn:rowlock:problem:locked"
"""The answer while the first of two requests still holds the key: nothing was stored for the second."""


def apis(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Each API gives the same answer on a finished job. A request with an Idempotency-Key makes one job at any API."""
    for deed in evidence.deeds_of("both"):
        answers = [answer for answer in deed.said.get("answers", ()) if answer["status"] == 200]
        if deed.outcome != "done" or len(answers) < len(deed.said["answers"]):
            continue
        if rewound.of_deed(deed, evidence) is not None:
            continue
        evidence.looked[RULE] += 1
        different = sorted({name for answer in answers for name in answer if answer[name] != answers[0].get(name)})
        if different:
            yield str(deed.jobs[0]), f"the APIs differ in its {', '.join(different)}"
    for deed in evidence.deeds_of("twice"):
        ids = [id_ for id_ in deed.said.get("ids", ()) if id_ is not None and LOCKED not in id_]
        evidence.looked[f"{RULE}: an Idempotency-Key at each"] += len(ids) > 1
        if refused := [id_ for id_ in ids if id_[:1] == "4" and " " in id_]:
            yield str(deed.about["op"]), f"a repeated request was refused: {refused[0]}"
        elif len(set(ids)) > 1 and rewound.of_deed(deed, evidence) is None:
            yield str(deed.about["op"]), f"one request with an Idempotency-Key made the jobs {', '.join(ids)}"

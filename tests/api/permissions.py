"""Who may do what over HTTP, endpoint by endpoint: written by hand, and compared with what the server answers.

The columns are statuses. `nobody`: no key, a wrong one, one that has expired or was revoked. Then whoever has one scope
alone. `mine`: a key with the scope `admin` that is limited to the queue that the request is about; `other`: one that is
limited to another queue. A job of a queue that one does not see is not there (404), nor in lists and bulk acts.
"""

from __future__ import annotations

from typing import Final

COLUMNS: Final = ("nobody", "read", "enqueue", "operate", "admin", "mine", "other")

TABLE: Final = """
                                          nobody read enqueue operate admin  mine other
GET    /healthz                              200  200     200     200   200   200   200
GET    /readyz                               200  200     200     200   200   200   200
GET    /openapi.json                         200  200     200     200   200   200   200
GET    /metrics                              401  200     403     200   200   403   403

GET    /v1/session                           401  200     200     200   200   200   200
POST   /v1/session                           200  200     200     200   200   200   200
DELETE /v1/session                           204  204     204     204   204   204   204

GET    /v1/overview                          401  200     403     200   200   200   200
GET    /v1/statistics                        401  200     403     200   200   200   200
GET    /v1/events                            401  200     403     200   200   200   200

POST   /v1/jobs                              401  403     201     403   201   201   422
POST   /v1/jobs/many                         401  403     201     403   201   201   422
GET    /v1/jobs                              401  200     403     200   200   200   200
GET    /v1/jobs/{id}                         401  200     403     200   200   200   404
GET    /v1/jobs/{id}/logs                    401  200     403     200   200   200   404
GET    /v1/jobs/{id}/result                  401  202     403     202   202   202   404
DELETE /v1/jobs/{id}                         401  403     403     403   204   204   404
POST   /v1/jobs/{id}/cancel                  401  403     403     200   200   200   404
POST   /v1/jobs/{id}/reschedule              401  403     403     200   200   200   404
POST   /v1/jobs/{id}/retry                   401  403     403     200   200   200   404
POST   /v1/jobs/{id}/discard                 401  403     403     200   200   200   404
POST   /v1/jobs/{id}/run-again               401  403     403     201   201   201   404
POST   /v1/jobs/bulk/cancel                  401  403     403     200   200   200   200
POST   /v1/jobs/bulk/reschedule              401  403     403     200   200   200   200
POST   /v1/jobs/bulk/retry                   401  403     403     200   200   200   200
POST   /v1/jobs/bulk/discard                 401  403     403     200   200   200   200
GET    /v1/dead-letters                      401  200     403     200   200   200   200
GET    /v1/dead-letters/groups               401  200     403     200   200   200   200
GET    /v1/unclaimed                         401  200     403     200   200   403   403
GET    /v1/operations                        401  200     403     200   200   403   403

GET    /v1/queues                            401  200     403     200   200   200   200
GET    /v1/queues/{queue}                    401  200     403     200   200   200   403
POST   /v1/queues/{queue}/pause              401  403     403     200   200   200   403
POST   /v1/queues/{queue}/resume             401  403     403     200   200   200   403
POST   /v1/queues/{queue}/scale              401  403     403     403   200   200   403
GET    /v1/limits                            401  200     403     200   200   403   403
GET    /v1/tasks                             401  200     403     200   200   200   200
GET    /v1/workers                           401  200     403     200   200   403   403
GET    /v1/workers/{worker}                  401  200     403     200   200   403   403
POST   /v1/workers/{worker}/scale            401  403     403     403   200   403   403
POST   /v1/workers/{worker}/quiet            401  403     403     200   200   403   403
POST   /v1/workers/{worker}/resume           401  403     403     200   200   403   403
POST   /v1/workers/{worker}/stop             401  403     403     200   200   403   403
GET    /v1/retention                         401  200     403     200   200   403   403
PUT    /v1/retention/{queue}                 401  403     403     403   200   403   403

GET    /v1/schedules                         401  200     403     200   200   403   403
POST   /v1/schedules                         401  403     403     403   201   403   403
GET    /v1/schedules/{schedule}              401  200     403     200   200   403   403
PATCH  /v1/schedules/{schedule}              401  403     403     403   200   403   403
DELETE /v1/schedules/{schedule}              401  403     403     403   204   403   403
POST   /v1/schedules/{schedule}/pause        401  403     403     200   200   403   403
POST   /v1/schedules/{schedule}/resume       401  403     403     200   200   403   403
POST   /v1/schedules/{schedule}/run          401  403     403     201   201   403   403
"""


def expected() -> dict[str, dict[str, int]]:
    """The table: by endpoint, the status of each column."""
    rows = [line.split() for line in TABLE.splitlines()[2:] if line]
    return {f"{method} {path}": dict(zip(COLUMNS, map(int, statuses), strict=True)) for method, path, *statuses in rows}

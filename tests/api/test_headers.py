"""The headers of every response, by which browsers keep what is data from becoming anything else."""

from __future__ import annotations

import pytest

from tests.api.conftest import Http

PATHS = ["/", "/assets/main.js", "/healthz", "/openapi.json", "/v1/session", "/v1/jobs", "/v1/jobs/x", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_response_says_what_browsers_may_not_do_with_it(http: Http, path: str) -> None:
    async with http.get(path) as response:
        headers = response.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert "camera=()" in headers["Permissions-Policy"]
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in str(policy)
    if path.startswith("/v1"):
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/session", "/v1/nothing", "/v1/jobs/<script>alert(1)</script>"])
async def test_data_is_never_html(http: Http, path: str) -> None:
    async with http.get(path, headers={"Accept": "text/html"}) as response:
        assert response.content_type in {"application/json", "application/problem+json"}
        assert "script-src" not in response.headers["Content-Security-Policy"]
        assert response.headers["Cache-Control"] == "no-store"


async def test_page_of_the_dashboard_runs_its_own_scripts_alone(http: Http) -> None:
    async with http.get("/") as response:
        policy = response.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "require-trusted-types-for 'script'" in policy

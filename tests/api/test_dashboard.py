"""The dashboard's files: what is served, how, and that what is not ours is what it is said to be."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from rowlock import Rowlock
from rowlock.api import create_app, dashboard, nobody_is_asked
from tests.api.conftest import Http

ASSETS = Path(dashboard.__file__).parent / "assets"
FILES = sorted(
    path.relative_to(ASSETS).as_posix() for path in ASSETS.rglob("*") if path.suffix in {".js", ".css", ".svg"}
)


async def test_dashboard_is_served_with_a_strict_policy(http: Http) -> None:
    async with http.get("/") as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_all_files_are_served_and_known_again_by_their_tag(http: Http) -> None:
    for file in FILES:
        async with http.get(f"/assets/{file}") as response:
            assert response.status == 200, file
            assert await response.read() == (ASSETS / file).read_bytes()
            tag = response.headers["ETag"]
        async with http.get(f"/assets/{file}", headers={"If-None-Match": tag}) as response:
            assert response.status == 304, file
            assert await response.read() == b""


@pytest.mark.parametrize(
    "path",
    [
        "nothing.js",
        "../__init__.py",
        "%2e%2e/__init__.py",
        "..%2f__init__.py",
        "pages",
        "vendor/VERSIONS.md",
        "/etc/passwd",
    ],
)
async def test_nothing_else_is_served(http: Http, path: str) -> None:
    async with http.get(f"/assets/{path}") as response:
        assert response.status == 404


@pytest.mark.parametrize("page", ["", "docs"])
async def test_pages_below_another_application_name_their_files_relatively(app: Rowlock, page: str) -> None:
    site = web.Application()
    site.add_subapp("/queue", create_app(app, authenticate=nobody_is_asked))
    async with TestClient(TestServer(site)) as http:
        async with http.get("/queue") as response:
            assert response.url.path == "/queue/"
            assert response.status == 200
        async with http.get(f"/queue/{page}") as response:
            text = await response.text()
        for file in re.findall(r'(?:src|href)="([^"]+)"', text):
            async with http.get(f"/queue/{file}") as response:
                assert response.status == 200, file


def test_every_import_leads_to_a_file_and_none_makes_markup_of_texts() -> None:
    for file in FILES:
        if not file.endswith(".js") or file.startswith("vendor/uPlot"):
            continue
        text = (ASSETS / file).read_text()
        for name in re.findall(r'(?:from|import)\s*"(\.[^"]+)"', text):
            assert (ASSETS / file).parent.joinpath(name).resolve().is_relative_to(ASSETS), file
            assert (ASSETS / file).parent.joinpath(name).is_file(), f"{file} imports {name}"
        if not file.startswith("vendor/"):
            assert not re.search('innerHTML|outerHTML|insertAdjacentHTML|document.write|eval\\(|style: ["`]', text), (
                file
            )


def test_no_file_names_another_server() -> None:
    for file in [*FILES, "index.html", "docs.html"]:
        if not file.startswith("vendor/"):
            found = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", (ASSETS / file).read_text())
            assert set(found) <= {"http://www.w3.org"}, file


def test_what_is_not_ours_is_what_it_is_said_to_be() -> None:
    rows = re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", (ASSETS / "vendor/VERSIONS.md").read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == {
        path.name for path in (ASSETS / "vendor").iterdir() if path.suffix in {".js", ".css"}
    }
    for name, digest in rows:
        assert hashlib.sha256((ASSETS / "vendor" / name).read_bytes()).hexdigest() == digest, name


async def test_a_file_is_compressed_once_whoever_asks_for_it(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[int] = []
    compress = gzip.compress

    def counted(body: bytes, **how: int) -> bytes:
        compressed.append(len(body))
        return compress(body, **how)

    monkeypatch.setattr("rowlock.api.dashboard.gzip.compress", counted)
    dashboard._packed.cache_clear()
    body = (ASSETS / "main.js").read_bytes()
    for _ in range(3):
        async with http.get("/assets/main.js", headers={"Accept-Encoding": "deflate, GZip"}) as response:
            assert (response.headers["Content-Encoding"], response.headers["Vary"]) == ("gzip", "Accept-Encoding")
            assert await response.read() == body
    assert compressed == [len(body)]
    async with http.get("/assets/main.js", headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Encoding" not in response.headers
        assert await response.read() == body

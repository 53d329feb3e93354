"""The examples for systemd, containers and Kubernetes: what they start exists, and they leave a worker time to stop."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from rowlock import Settings
from rowlock.cli.commands.worker import STOP_MARGIN
from rowlock.cli.root import root

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "deploy"
SERVICES = sorted(FOLDER.glob("*.service"))
LONGEST_STOP = Settings().grace_period.total_seconds() + Settings().lease.total_seconds() + STOP_MARGIN
"""What a worker may need: its supervisor waits as long as this, and whoever stops the supervisor must wait longer."""


def service(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as its documentation says
    parser.read_string(path.read_text())
    return parser


def instructions() -> dict[str, str]:
    """Those of the Dockerfile, the last of each kind."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    return dict(re.findall(r"^([A-Z]+) (.*)$", text, re.MULTILINE))


def compose() -> Any:  # noqa: ANN401  # a document
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def kubernetes() -> dict[tuple[str, str], Any]:
    """The documents, by kind and name."""
    documents = yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def pod(name: str) -> Any:  # noqa: ANN401  # a document
    return kubernetes()["Deployment", name]["spec"]["template"]["spec"]


def commands() -> Iterator[tuple[str, list[str]]]:
    """What is given to `rowlock` anywhere, and where."""
    for path in SERVICES:
        yield path.name, shlex.split(service(path)["Service"]["ExecStart"])[1:]
    yield "Dockerfile", json.loads(instructions()["CMD"])
    for name, one in compose().items():
        if name != "postgres":
            yield f"compose.yaml: {name}", one["command"]
    for kind, name in kubernetes():
        if kind == "Deployment":
            for container in pod(name)["containers"] + pod(name).get("initContainers", []):
                yield f"kubernetes.yaml: {name}", container["args"]


@pytest.mark.parametrize("place, arguments", [pytest.param(*found, id=found[0]) for found in commands()])
def test_what_is_started_is_a_command_with_its_options(place: str, arguments: list[str]) -> None:
    command = root.get_command(click.Context(root), arguments[0])
    assert command is not None, place
    command.make_context(arguments[0], arguments[1:])  # reads the options, and runs nothing


def test_a_wrong_option_would_be_found() -> None:
    command = root.get_command(click.Context(root), "worker")
    assert command is not None
    with pytest.raises(click.NoSuchOption):
        command.make_context("worker", ["tasks:app", "--process", "4"])


def test_whoever_stops_a_worker_waits_for_longer_than_it_may_take() -> None:
    unit = service(FOLDER / "rowlock-worker.service")["Service"]
    assert float(unit["TimeoutStopSec"]) > LONGEST_STOP
    assert (unit["KillSignal"], unit["KillMode"]) == ("SIGTERM", "mixed")
    assert float(compose()["worker"]["stop_grace_period"].removesuffix("s")) > LONGEST_STOP
    assert pod("rowlock-worker")["terminationGracePeriodSeconds"] > LONGEST_STOP


def test_the_image_runs_as_nobody_in_particular_and_gets_its_signals_itself() -> None:
    found = instructions()
    assert json.loads(found["ENTRYPOINT"]) == ["rowlock"]
    assert int(found["USER"]) == pod("rowlock-worker")["securityContext"]["runAsUser"] > 0
    assert found["STOPSIGNAL"] == "SIGTERM"
    assert (FOLDER / found["COPY"].split()[0]).exists()


def test_the_api_is_probed_where_it_answers() -> None:
    (container,) = pod("rowlock-api")["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    port = str(container["livenessProbe"]["httpGet"]["port"])
    assert container["args"][container["args"].index("--port") + 1] == port


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_systemd_understands_the_service(path: Path, tmp_path: Path) -> None:
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.MULTILINE)
    (tmp_path / path.name).write_text(re.sub(r"^User=.*\n", "", text, flags=re.MULTILINE))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / path.name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert path.name not in done.stderr, done.stderr

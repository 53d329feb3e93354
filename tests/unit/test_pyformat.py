"""The statements as drivers with named parameters want them."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from rowlock.integrations.pyformat import named, pyformat
from rowlock.queue.connect.statements import statement, statements

NAMES = sorted(statements())


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_keeps_its_parameters_and_its_text(name: str) -> None:
    sql = statement(name, "rowlock")
    code = re.sub(r"--.*", "", sql)
    numbers = {int(found) for found in re.findall(r"\$(\d+)", code)}
    given = pyformat(sql) % {str(number): f"${number}" for number in numbers}
    assert given.split() == code.split()


def test_percents_are_doubled_and_comments_gone() -> None:
    given = pyformat("-- $1 and 5 %\nSELECT $1, $12 -- of $2\nWHERE a % 2 = 0 AND b LIKE 'x%'\n")
    assert " ".join(given.split()) == "SELECT %(1)s, %(12)s WHERE a %% 2 = 0 AND b LIKE 'x%%'"


def test_identifiers_go_as_text() -> None:
    one, two = uuid4(), uuid4()
    assert named([one, [two, None], 3]) == {"1": str(one), "2": [str(two), None], "3": 3}

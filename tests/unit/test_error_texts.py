"""Errors as texts: bounded, valid, and never a reason to fail again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowlock.queue.jobs.results import ErrorText, describe_error, storable_text

SECRET = "hunter2"


# Texts


def assert_storable(text: str, limit: int) -> None:
    assert type(text) is str
    assert "\0" not in text
    assert len(text.encode("utf-8")) <= limit


# Not st.characters(): its table of all of Unicode takes a second to build, once per checkout.
ANY_TEXT = st.text(st.integers(0, 0x10FFFF).map(chr) | st.sampled_from("\0\ud800\udfffaä🚀"))
GOOD_TEXT = st.text((st.integers(1, 0xD7FF) | st.integers(0xE000, 0x10FFFF)).map(chr))


@given(text=ANY_TEXT, limit=st.integers(0, 120))
@settings(deadline=None)
def test_any_text_becomes_one_that_postgresql_takes(text: str, limit: int) -> None:
    assert_storable(storable_text(text, limit), limit)


@given(text=GOOD_TEXT)
@settings(deadline=None, max_examples=50)
def test_a_text_that_fits_is_not_changed(text: str) -> None:
    assert storable_text(text, len(text.encode())) == text


def test_what_cannot_be_stored_is_replaced_visibly() -> None:
    assert storable_text("a\0b\ud83d\ude00c", 100) == "a␀b��c"


def test_of_a_long_text_both_ends_stay() -> None:
    text = storable_text("start" + "x" * 100_000 + "end", 100)
    assert text.startswith("startx")
    assert text.endswith("xend")
    assert "characters left out" in text
    kept = text.split("\n… ")[0] + text.rsplit(" …\n", maxsplit=1)[1]
    assert f"\n… {100_008 - len(kept)} characters left out …\n" in text


def test_a_text_subclass_cannot_interfere() -> None:
    class Hostile(str):
        __slots__ = ()

        def __len__(self) -> int:
            raise ValueError

        def replace(self, *_: object) -> NoReturn:
            raise ValueError

    assert storable_text(Hostile("a\0"), 10) == "a␀"


# Errors


def raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301  # for its traceback
    except BaseException as caught:  # noqa: BLE001  # whatever was passed
        return caught


def described(error: BaseException) -> ErrorText:
    text = describe_error(raised(error))
    assert_storable(text.type, 256)
    assert_storable(text.message, 4 * 1024)
    assert_storable(text.traceback, 32 * 1024)
    return text


class OutOfStock(Exception):
    """An application's error."""


def test_an_error_is_named_told_and_traced() -> None:
    text = described(ValueError("no such thing"))
    assert (text.type, text.message) == ("ValueError", "no such thing")
    assert text.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert "raise error" in text.traceback
    assert text.traceback.endswith("\nValueError: no such thing\n")


def test_a_class_is_named_with_its_module() -> None:
    assert described(OutOfStock()).type == f"{__name__}.OutOfStock"


def test_an_error_that_was_never_raised_has_no_frames() -> None:
    assert describe_error(ValueError("x")).traceback == "ValueError: x\n"


def test_the_values_of_variables_are_not_told() -> None:
    def handler(password: str) -> None:
        raise ValueError("wrong " + str(len(password)))

    with pytest.raises(ValueError, match="wrong") as caught:
        handler(SECRET)
    assert SECRET not in describe_error(caught.value).traceback


def raises(error: type[BaseException]) -> Callable[[object], str]:
    def method(_: object) -> str:
        raise error

    return method


def endless_recursion(value: object) -> str:
    return str(value)


@pytest.mark.parametrize(
    "method, told",
    [
        (raises(ValueError), "reading it raised ValueError"),
        (raises(SystemExit), "reading it raised SystemExit"),
        (raises(KeyboardInterrupt), "reading it raised KeyboardInterrupt"),
        (lambda _: 42, "reading it raised TypeError"),
        (lambda _: None, "reading it raised TypeError"),
        (endless_recursion, "reading it raised RecursionError"),
        (lambda _: "a\0b\ud800", "a␀b�"),
        (lambda _: "x" * 10_000_000, "characters left out"),
    ],
)
def test_an_error_is_described_whatever_its_methods_do(method: Callable[[object], object], told: str) -> None:
    hostile = type("Hostile", (Exception,), {"__str__": method, "__repr__": method})
    text = described(hostile("x"))
    assert told in text.message
    assert "Hostile: " in text.traceback


def test_an_error_whose_class_lies_about_its_attributes_is_described() -> None:
    class Liar(Exception):
        __notes__ = 42  # type: ignore[assignment]  # hostile

        @property
        def __cause__(self) -> NoReturn:  # type: ignore[override]  # hostile
            raise OSError

    Liar.__module__ = 42  # type: ignore[assignment]  # hostile
    text = described(Liar("x"))
    assert text.message == "x"
    assert text.type.endswith("Liar")
    assert text.traceback == "<no traceback: reading it raised OSError>"


def test_causes_come_before_their_consequences() -> None:
    error = OutOfStock("second")
    error.__cause__ = raised(ValueError("first"))
    text = described(error).traceback
    assert text.index("first") < text.index("direct cause of the following") < text.index("second")


def test_contexts_are_told_unless_suppressed() -> None:
    def chained(*, suppress_it: bool) -> BaseException:
        try:
            try:
                raise ValueError("first")  # noqa: TRY301  # for its traceback
            except ValueError:
                if suppress_it:
                    raise OutOfStock("second") from None
                raise OutOfStock("second")  # noqa: B904  # the context is the point
        except OutOfStock as error:
            return error

    assert "During handling of the above exception" in describe_error(chained(suppress_it=False)).traceback
    assert "first" not in describe_error(chained(suppress_it=True)).traceback


def test_an_endless_chain_of_causes_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert described(first).traceback.count("ValueError") == 2


def test_a_long_chain_of_causes_is_cut_in_its_middle() -> None:
    error: Exception = ValueError("the first")
    for number in range(5_000):
        later = ValueError(f"number {number}")
        later.__cause__ = error
        error = later
    text = described(error).traceback
    assert "the first" in text
    assert "4985 exceptions left out" in text
    assert text.endswith("ValueError: number 4999\n")


def test_notes_are_told() -> None:
    error = ValueError("x")
    error.add_note("while packing\0")
    assert "x\nwhile packing␀\n" in described(error).traceback


def test_the_members_of_a_group_are_told() -> None:
    inner = ExceptionGroup("inner", [OutOfStock("deep")])
    text = described(BaseExceptionGroup("outer", [raised(ValueError("one")), inner]))
    assert text.type == "ExceptionGroup"
    assert text.message == "outer (2 sub-exceptions)"
    assert "  --- 1 of 2 ---\n  Traceback (most recent call last):\n" in text.traceback
    assert "    --- 1 of 1 ---\n" in text.traceback
    assert "OutOfStock: deep" in text.traceback


def test_groups_without_end_end() -> None:
    deep: Exception = ValueError("deep")
    for _ in range(50):
        deep = ExceptionGroup("group", [deep, deep])
    text = described(deep).traceback
    assert "(shown above)" in text
    wide = described(ExceptionGroup("wide", [ValueError(str(number)) for number in range(1_000)]))
    assert "984 exceptions left out" in wide.traceback


def recurse(depth: int) -> int:
    return recurse(depth + 1) if depth else recurse_other(depth + 1)


def recurse_other(depth: int) -> int:
    return recurse(0) if depth else 0


def test_a_recursion_error_is_told_by_its_ends() -> None:
    with pytest.raises(RecursionError) as caught:
        recurse(0)
    text = describe_error(caught.value)
    assert_storable(text.traceback, 32 * 1024)
    assert "frames left out" in text.traceback
    assert "RecursionError: maximum recursion depth exceeded" in text.traceback
    assert text.type == "RecursionError"


@pytest.fixture
def shallow_stack() -> Iterator[int]:
    limit = sys.getrecursionlimit()
    yield limit
    sys.setrecursionlimit(limit)


def test_describing_on_an_exhausted_stack_does_not_raise(shallow_stack: int) -> None:
    texts: list[ErrorText] = []

    def descend() -> None:
        with suppress(RecursionError):
            descend()
        if not texts:
            texts.append(describe_error(ValueError("x")))

    with suppress(RecursionError):
        descend()
    assert texts
    assert texts[0].type


def test_an_error_may_be_a_gigabyte_without_being_copied() -> None:
    huge = "x" * 50_000_000
    text = described(ValueError(huge))
    assert text.message.startswith("xxx")
    assert len(text.traceback) < 5_000


def test_limits_can_be_chosen() -> None:
    text = describe_error(raised(ValueError("x" * 1_000)), message_limit=100, traceback_limit=200)
    assert_storable(text.message, 100)
    assert_storable(text.traceback, 200)

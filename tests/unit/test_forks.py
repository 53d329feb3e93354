"""What a process that is forked from this one does not take along. Each test forks from a program of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SIGNALLED = """
import asyncio, multiprocessing, os, signal, sys, threading
from importlib import import_module
from rowlock.worker.executors.forks import keep_handler

async def main(number):
    received, times = asyncio.Event(), []

    def receive():
        times.append(1)
        received.set()

    asyncio.get_running_loop().add_signal_handler(number, receive)
    keep_handler(number)

    def fork():
        child = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
        child.start()
        os.kill(child.pid, number)  # at once: it may not even have begun
        child.join(60)
        return child.exitcode

    assert fork() == -number
    assert await asyncio.to_thread(fork) == -number
    os.kill(os.getpid(), number)
    await asyncio.wait_for(received.wait(), 60)
    assert len(times) == 1, "the others were to the child"

runner = asyncio.Runner(loop_factory=import_module(sys.argv[1]).new_event_loop)
with runner:
    runner.run(main(signal.Signals[sys.argv[2]]))
"""
OTHERS = """
import os, signal
from rowlock.worker.executors.forks import keep_handler

signal.signal(signal.SIGTERM, print)
keep_handler(signal.SIGTERM)
signal.signal(signal.SIGTERM, theirs := lambda *_: None)
if (child := os.fork()) == 0:
    os._exit(0 if signal.getsignal(signal.SIGTERM) is theirs else 1)
assert os.waitpid(child, 0)[1] == 0
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""
ENDING = """
import os, sys
from rowlock.worker.executors.forks import ending_here

def code_of(how):
    with ending_here():
        child = os.fork()
        if child == 0:
            if how == "leaves":
                return None
            if how == "raises":
                raise LookupError("nothing there")
            sys.exit({"exits": 7, "exits well": None, "exits with words": "enough"}[how])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert [code_of(how) for how in ("leaves", "raises", "exits", "exits well", "exits with words")] == [0, 1, 7, 0, 1]
"""


def run(program: str, *arguments: str) -> str:
    """Run it to its end; return what it has written to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_to_a_forked_child_ends_the_child_and_is_none_to_this_process(loop: str, number: str) -> None:
    pytest.importorskip(loop)
    run(SIGNALLED, loop, number)


def test_a_handler_that_somebody_else_has_set_since_is_left_alone() -> None:
    run(OTHERS)


def test_a_process_that_is_forked_in_a_block_ends_with_it_with_the_exit_code_of_a_program() -> None:
    assert "LookupError: nothing there" in run(ENDING)

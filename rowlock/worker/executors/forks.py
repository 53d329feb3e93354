"""Keep a process that a job forks from using the worker's signal handlers and from continuing the worker's program.

`multiprocessing` forks on Linux, by default before Python 3.14; `os.fork` does, and `subprocess` with a `preexec_fn`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

from rowlock import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logs.get_logger("rowlock.worker")

generation = 0
"""How many forks lie between this process and the first one. Reading it is cheaper than `os.getpid()`."""
_handlers: Final[dict[signal.Signals, object]] = {}
_forking: Final = threading.local()


def keep_handler(number: signal.Signals) -> None:
    """Reset this signal to the system's default in forked children: its present handler is for this process only.

    An event loop's handlers write into a socket, which a forked child shares: a signal to the child would be handled
    here, and not there. A signal that comes during the fork waits until the child has reset its handlers.
    """
    _handlers[number] = signal.getsignal(number)


@contextmanager
def ending_here() -> Iterator[None]:
    """End a process that was forked in the block when it leaves the block: only this process continues the program."""
    before = generation
    try:
        yield
    finally:
        if generation != before:
            end_fork(sys.exception())


def end_fork(error: BaseException | None) -> NoReturn:
    """End this forked process. Its exit code is that of `SystemExit`, or 1 after another error, which is logged.

    Flush the output, and skip Python's other steps at exit: they belong to the parent process.
    """
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        log.error("forked_process_failed", exc_info=error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # the stream is missing or closed
            stream.flush()
    os._exit(code & 0xFF)


def _before() -> None:
    if _handlers:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)


def _after() -> None:
    if (mask := vars(_forking).pop("mask", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    global generation  # noqa: PLW0603  # one per process
    generation += 1
    for number, handler in _handlers.items():
        if signal.getsignal(number) is handler:
            signal.set_wakeup_fd(-1)
            signal.signal(number, signal.SIG_DFL)
    _handlers.clear()
    _after()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)


__all__ = ["end_fork", "ending_here", "keep_handler"]

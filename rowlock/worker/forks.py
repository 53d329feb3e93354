"""What a process that a job forks does not take along: the signal handlers of the worker, and the rest of its program.

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

_handlers: Final[dict[signal.Signals, object]] = {}
_forking: Final = threading.local()


def keep_handler(number: signal.Signals) -> None:
    """Keep the present handler of this signal to this process: what it forks does by default what the system says.

    An event loop's handlers write into a socket, which a forked child shares: a signal to the child would be handled
    here, and not there. One that comes while the process forks waits until the child has its handlers.
    """
    _handlers[number] = signal.getsignal(number)


@contextmanager
def ending_here() -> Iterator[None]:
    """End a process that is forked in the block, when it leaves the block: the program goes on in this one alone.

    Its exit code is that of `SystemExit`, else 1 after an exception, which is logged, and 0.
    """
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != pid:
            _end(sys.exception())


def _end(error: BaseException | None) -> NoReturn:
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        log.error("forked_process_failed", exc_info=error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
            stream.flush()
    os._exit(code & 0xFF)


def _before() -> None:
    if _handlers:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)


def _after() -> None:
    if (mask := vars(_forking).pop("mask", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    for number, handler in _handlers.items():
        if signal.getsignal(number) is handler:
            signal.set_wakeup_fd(-1)
            signal.signal(number, signal.SIG_DFL)
    _handlers.clear()
    _after()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)


__all__ = ["ending_here", "keep_handler"]

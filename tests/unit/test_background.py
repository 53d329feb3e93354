"""The event loop in the background: where it cannot run, the first call says so."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from rowlock import ConfigurationError, Rowlock


@pytest.mark.parametrize(
    "module, patched",
    [
        ("gevent.monkey", SimpleNamespace(is_module_patched=lambda name: name == "threading")),
        ("eventlet.patcher", SimpleNamespace(is_monkey_patched=lambda name: name == "thread")),
    ],
)
def test_a_synchronous_call_is_refused_where_threads_are_greenlets(
    module: str, patched: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, patched)
    app = Rowlock("postgresql://nowhere")

    @app.task
    def nothing() -> None: ...

    with pytest.raises(ConfigurationError, match=f"{module.partition('.')[0]} has made threads greenlets"):
        nothing.enqueue_sync()

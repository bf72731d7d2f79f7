"""Tracing and running keep out of each other's way.

While torch.fx follows a network, it has ``torch.nn.Module.__call__`` replaced for the whole
process; a network that another thread runs in that moment would be traced as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["running", "tracing"]

_changed = threading.Condition()
_running = 0
_tracing = False


@contextmanager
def running() -> Iterator[None]:
    """Hold while a network runs; any number of threads may."""
    global _running
    with _changed:
        _changed.wait_for(lambda: not _tracing)
        _running += 1
    try:
        yield
    finally:
        with _changed:
            _running -= 1
            _changed.notify_all()


@contextmanager
def tracing() -> Iterator[None]:
    """Hold while a network is traced; nothing else runs or traces."""
    global _tracing
    with _changed:
        _changed.wait_for(lambda: not _tracing and not _running)
        _tracing = True
    try:
        yield
    finally:
        with _changed:
            _tracing = False
            _changed.notify_all()

"""Who holds a claim, and is it still alive?

An owner is one thread of one process. On its own machine its death shows at once, so a lease
only has to catch what hangs; of another machine nothing but the lease is known.
"""

from __future__ import annotations

import itertools
import os
import platform
import threading
import time
import weakref
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

LEASE = 60.0  # seconds without a sign of life until a claim of another machine ends
# One batch of a big network on a slow CPU may take minutes, and a death here is seen anyway.
LOCAL_PATIENCE = 5


class Owner(NamedTuple):
    """One thread of one process; never the same twice."""

    host: str
    pid: int
    start: str  # when the process started: pids are used again
    thread: int


class _ThreadMark:
    """Lives in a thread's local storage, hence exactly as long as the thread."""


_marks: weakref.WeakValueDictionary[int, _ThreadMark] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_local = threading.local()


def current_owner() -> Owner:
    """Name the calling thread.

    Returns
    -------
    Owner
    """
    if not hasattr(_local, "mark"):
        # Idents of threads are used again at once; this number is not.
        _local.number, _local.mark = next(_numbers), _ThreadMark()
        _marks[_local.number] = _local.mark
    return Owner(*_this_process(os.getpid()), _local.number)


def is_alive(owner: Owner, renewed: float, lease: float) -> bool:
    """Tell whether an owner may still be at work.

    Parameters
    ----------
    owner : Owner
        Any thread of any process on any machine.
    renewed : float
        Its last sign of life, as ``time.time()`` gives it.
    lease : float
        Seconds that a sign of life counts; five times that where death would show.

    Returns
    -------
    bool
    """
    host, pid, start = _this_process(os.getpid())
    if not 0 < owner.pid < 2**31:  # not a process of any system
        return False
    age = abs(time.time() - renewed)  # a clock that was set back must not make claims eternal
    if owner.host != host:
        return age < lease
    if (owner.pid, owner.start) == (pid, start):
        running = owner.thread in _marks
    else:
        running = _start_of(owner.pid) in (owner.start, "?")
    return running and age < LOCAL_PATIENCE * lease


@lru_cache(maxsize=1)  # asked again after a fork, where the pid is another
def _this_process(pid: int) -> tuple[str, int, str]:
    if os.name != "posix":
        # Without a cheap way to watch a pid every process counts as a machine of its own.
        return f"{platform.node()}/{pid}", pid, str(time.time())
    return _host(), pid, _start_of(pid) or "?"


def _host() -> str:
    """Name the reach of a pid: this boot of this machine, this container."""
    parts = [platform.node()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass  # not Linux
    return "/".join(parts)


def _start_of(pid: int) -> str | None:
    """When a process started; "?" if it runs but does not say, None if it does not run."""
    try:
        # The name in brackets may hold blanks and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]  # killed, not yet buried by its parent
    except (OSError, IndexError):
        pass  # no such process, no /proc, or one that hides the processes of others
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # it runs, as another user
    return "?"

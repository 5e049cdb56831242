"""How many worker processes there are, and when they end."""

from __future__ import annotations

import os
import threading


def usable_cores() -> int:
    """Returns the number of cores that this process may use; taskset, or a container, limits it."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Makes this process end when its parent process ends, even if that is killed."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    import multiprocessing  # slow to import, and there already in a worker
    from multiprocessing import connection

    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)

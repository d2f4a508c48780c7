"""Streams that are neither read to their end nor closed are closed here, by a thread of their own.

The garbage collector may free a stream at any moment, also in the middle of a lock that closing it
needs: the thread that happened to be there would wait for itself.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue

_ids = count()
_open: dict[int, Callable[[], None]] = {}
_left = SimpleQueue[Callable[[], None]]()
_starting = threading.Lock()
_closer: threading.Thread | None = None
_of_the_parent: list[object] = []


def watch(stream: object, close: Callable[[], None]) -> Callable[[], object]:
    """Have `close` called when the stream is gone; what this returns calls that off.

    `close` must not refer to the stream.
    """
    key = next(_ids)
    _open[key] = close
    weakref.finalize(stream, _let_go, key).atexit = False
    _start()
    return lambda: _open.pop(key, None)


def _let_go(key: int) -> None:
    # Called by the garbage collector: no lock here. `put` of this queue takes none.
    close = _open.pop(key, None)
    if close is not None:
        _left.put(close)


def _start() -> None:
    global _closer
    if _closer is None:
        with _starting:
            if _closer is None:
                _closer = threading.Thread(target=_close, name="tracemill streams", daemon=True)
                _closer.start()


def _close() -> None:
    while True:
        _left.get()()


def _close_all() -> None:
    """The process ends in order: so do its streams."""
    for key in list(_open):
        if close := _open.pop(key, None):
            close()


def _forget() -> None:
    """In a forked child: the parent's streams are the parent's, and its thread is not here."""
    global _closer, _left, _starting
    _of_the_parent.extend(_open.values())
    _open.clear()
    _left = SimpleQueue[Callable[[], None]]()
    _closer, _starting = None, threading.Lock()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget)

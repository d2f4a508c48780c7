"""Whether to try a failed call again, and after how long: arithmetic alone, nothing waits here.

The rules are those of the official clients (openai 3.54, `_base_client.py`). Who calls sees to it
that nothing is tried again once a stream has yielded.
"""

import random
from collections.abc import Callable

from tracemill.errors import CallFailed

MAX_RETRIES = 2
"""After the first attempt."""
LONGEST_WAIT_S = 120.0
"""A server that asks for more is not waited for."""
_FIRST_WAIT_S = 0.5
_LONGEST_BACKOFF_S = 8.0
_JITTER = 0.25


def wait_s(
    error: CallFailed, attempt: int, *, jitter: Callable[[], float] = random.random
) -> float | None:
    """Seconds until the next attempt; None: give up.

    Args:
        error: why the attempt failed; `error.retry` says whether another may succeed, and
            `error.retry_after_s` when, where the server told.
        attempt: which attempt it was, counted from 1.
        jitter: a number in [0, 1) that shortens our own waits by up to a quarter, so that
            callers who failed together do not come back together.
    """
    if not error.retry or attempt > MAX_RETRIES:
        return None
    told = error.retry_after_s
    if told is not None and told > LONGEST_WAIT_S:
        return None
    if told is not None and told > 0:
        return told
    backoff = min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_BACKOFF_S)
    return backoff * (1 - _JITTER * jitter())

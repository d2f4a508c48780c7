"""Threads that last as long as the process, for compiled kernels.

The C library keeps what a thread frees in an arena of that thread. Threads that come and go with
each batch leave hundreds of megabytes in ever new arenas; threads that stay use theirs again.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """The one pool of so many threads. What runs in it must not wait for more of its work."""
    return ThreadPoolExecutor(threads, "kernel")


os.register_at_fork(after_in_child=pool.cache_clear)  # Threads do not come along.

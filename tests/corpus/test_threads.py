"""Threads of kernels last, and a forked process has its own."""

import subprocess
import sys

from tracemill.corpus.threads import pool

FORKED = """
import os
from tracemill.corpus.threads import pool

assert pool(2).submit(os.getpid).result() == os.getpid()
child = os.fork()
if not child:
    os._exit(pool(2).submit(os.getpid).result(timeout=20) != os.getpid())
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_one_pool_of_so_many_threads() -> None:
    assert pool(2) is pool(2)
    assert pool(2) is not pool(3)


def test_a_forked_process_has_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], timeout=60, check=False)
    assert done.returncode == 0

"""Settings of the whole suite: one BLAS thread, fewer examples than hypothesis' hundred, ctrl-C."""

import os
import signal
import sys

from hypothesis import settings

# Before numpy is imported, here and in every child: on matrices as small as those of tests, OpenBLAS'
# threads spend as much again on waiting for each other.
assert "numpy" not in sys.modules
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

settings.register_profile("suite", parent=settings(), max_examples=50)
settings.load_profile("suite")

# A shell's background job ignores ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

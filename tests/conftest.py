"""Settings of the whole suite: one BLAS thread, fewer examples than hypothesis' hundred, ctrl-C."""

import os
import signal
import sys

import pytest
from hypothesis import settings

# Before numpy is imported, here and in every child: on matrices as small as those of tests, OpenBLAS'
# threads spend as much again on waiting for each other.
assert "numpy" not in sys.modules
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# TRACEMILL_TEST_FULL=1 takes longer, and looks at more examples and more kills.
FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
settings.register_profile("suite", parent=settings(), max_examples=100 if FULL else 30)
settings.load_profile("suite")

# A shell's background job ignores ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST_FIRST = (
    *("assets/test_service", "assets/test_build", "assets/test_training_data", "log/test_kill"),
    *("assets/test_models", "assets/test_collection_assets", "finetune/test_finetune_kill"),
    *("quality/test_contracts", "llm/test_batches", "assets/test_materialize"),
    *("corpus/test_installed", "llm/test_killed", "finetune/test_hosted_killed"),
    "tests/test_pytest_plugin",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first, so that no worker is left with one at the end."""

    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        found = (n for n, name in enumerate(LONGEST_FIRST) if f"/{name}.py" in path)
        return next(found, len(LONGEST_FIRST))

    items.sort(key=place)

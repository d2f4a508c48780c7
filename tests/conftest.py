"""Settings of the whole suite: one BLAS thread, fewer examples than hypothesis' hundred, ctrl-C."""

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from hypothesis import settings

# Before numpy is imported, here and in every child: on matrices as small as those of tests, OpenBLAS'
# threads spend as much again on waiting for each other.
assert "numpy" not in sys.modules
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Tests speak to this machine alone, without TLS. Each client that is made reads whom it would trust,
# which takes 60 ms for all of certifi's and a tenth of one for the first of them.
_END = "-----END CERTIFICATE-----\n"
_TRUSTED = tempfile.NamedTemporaryFile("w", prefix="tracemill-tests-", suffix=".pem")  # noqa: SIM115
_TRUSTED.write(Path(certifi.where()).read_text(encoding="utf-8").partition(_END)[0] + _END)
_TRUSTED.flush()
os.environ["SSL_CERT_FILE"] = _TRUSTED.name

# What tests start finds no pandas (see there); what runs the tests needs it for statsmodels.
AS_INSTALLED = str(Path(__file__).parent / "as_installed")
if AS_INSTALLED in sys.path:  # of a worker, from whom started it
    sys.path.remove(AS_INSTALLED)
else:
    folders = (AS_INSTALLED, os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, folders))

# All that is imported to collect the tests stays: without this, each look for garbage takes 0.6 s.
gc.disable()

WAREHOUSE = "TRACEMILL_WAREHOUSE"

# TRACEMILL_TEST_FULL=1 takes longer, and looks at more examples and more kills.
FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
settings.register_profile("suite", parent=settings(), max_examples=100 if FULL else 30)
settings.load_profile("suite")

# A shell's background job ignores ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST_FIRST = (
    *("assets/test_build", "quality/test_contracts", "assets/test_models", "assets/test_service"),
    *("assets/test_training_data", "assets/test_collection_assets", "log/test_sums"),
    *("test_notebooks", "assets/test_materialize", "llm/test_batches", "llm/test_killed"),
    *("assets/test_document_files", "assets/test_distinct", "retrieval/test_collection_killed"),
    *("log/test_fork", "log/test_damage", "assets/test_daily", "cli/test_calls"),
    *("corpus/test_near_index", "assets/test_multiprocess", "jobs/test_jobs_killed"),
    *("log/test_isolation", "retrieval/test_extract_pool", "assets/test_sample_data"),
    *("log/test_kill", "finetune/test_finetune_kill", "corpus/test_read", "log/test_similar"),
    *("log/test_event_log", "log/test_properties", "server/test_fuzz", "server/test_page"),
    *("tests/test_pytest_plugin", "server/test_server_killed", "jobs/test_elsewhere"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first, so that no worker is left with one at the end."""

    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        found = (n for n, name in enumerate(LONGEST_FIRST) if f"/{name}.py" in path)
        return next(found, len(LONGEST_FIRST))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def environment_of_before() -> Iterator[None]:
    """Commands that were told a warehouse say it to all that they start."""
    before = os.environ.get(WAREHOUSE)
    yield
    if before is None:
        os.environ.pop(WAREHOUSE, None)
    else:
        os.environ[WAREHOUSE] = before

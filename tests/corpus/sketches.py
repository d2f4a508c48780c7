"""What tests of sketches share: both ways compared, and texts that people wrote."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tracemill.corpus.sketch import Sketches, sketch

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")


def assert_same(texts: Any, expected: Sketches | None = None) -> Sketches:
    """By kernels, and the same as in plain Python: values and types."""
    expected = expected or sketch(texts, plain=True)
    found = sketch(texts, plain=False)
    for left, right in zip(found, expected, strict=True):
        assert left.dtype == right.dtype
        assert np.array_equal(left, right)
    return found


def real_texts() -> pl.Series:
    """Licence notices in several languages; skipped where the collection is absent."""
    path = DATA / "scancode" / "records.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no licence notices in {path}")
    with gzip.open(path, "rt") as file:
        return pl.Series([json.loads(line)["text"] for line in file][::20])

"""Importing retrieval and llm costs next to nothing: heavy libraries load when they are used."""

import subprocess
import sys

HEAVY = (
    "polars",
    "numpy",
    "hnswlib",
    "bm25s",
    "tokenizers",
    "safetensors",
    "markdown_it",
    "duckdb",
)


def test_no_heavy_library_is_imported_with_the_modules():
    code = f"""
import sys
import tracemill.llm.client, tracemill.prices, tracemill.llm.providers.local
import tracemill.retrieval.answer, tracemill.retrieval.documents
print(*sorted(set({HEAVY}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"

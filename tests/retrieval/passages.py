"""Chunks with vectors for tests of collections: short texts, whose vectors are of the light model."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tracemill.retrieval.embed import embed, model
from tracemill.retrieval.frames import chunk_schema, searchable

TEXTS = {
    "journal": "The journal takes the writes of every process, one after the other.",
    "segments": "Segments are immutable Parquet files that DuckDB reads.",
    "clocks": "A monotonic clock measures how long a call took.",
    "prices": "Prices carry the day from which they hold, in dollars.",
}


def passages(texts: Iterable[tuple[str, str]] = TEXTS.items(), **columns: Any) -> pl.DataFrame:
    """A chunk for each (document, text), with `columns` the same in all."""
    rows = [
        {
            "chunk_id": f"c:{document}",
            "document_id": document,
            "title": document,
            "headings": [],
            "source": f"{document}.md",
            "format": "markdown",
            "language": "en",
            "start": 0,
            "end": len(text),
            "tokens": len(text.split()),
            "metadata": "{}",
            "text": text,
            **columns,
        }
        for document, text in texts
    ]
    return pl.DataFrame(rows, schema=chunk_schema())


def vectors_of(chunks: pl.DataFrame) -> NDArray[np.float32]:
    return embed(searchable(chunks).to_list(), model=model("local/wordllama")).vectors


def directions(count: int, dimensions: int = 256, seed: int = 0) -> NDArray[np.float32]:
    """Random vectors of length 1 in clusters, so that some are much nearer than others."""
    dice = np.random.default_rng(seed)
    centres = dice.standard_normal((max(count // 20, 1), dimensions))
    found = centres[dice.integers(len(centres), size=count)]
    found = found + 0.6 * dice.standard_normal((count, dimensions))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def numbered(count: int, first: int = 0) -> pl.DataFrame:
    """So many chunks of ten to a document, without much to read."""
    return (
        passages((f"{n:05}", f"passage number {n}") for n in range(first, first + count))
        .select(
            pl.all().exclude("document_id"),
            pl.col("document_id").str.slice(0, 4).alias("document_id"),
        )
        .select(list(chunk_schema()))
    )

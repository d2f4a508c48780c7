"""Real chunks, their embeddings, questions and the exact answers, kept for the next run.

Chunks are of the documentation installed here and of the sets in `../shared/data`, as many as are
asked for, shuffled once, so that a smaller measurement takes a sample of the same. Questions are
other texts than those stored: of SQuAD, and "What does NAME do?" of the installed docstrings.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.near_real import data
from benchmarks.report import console
from tracemill.corpus.installed import harvest, installed_documents
from tracemill.corpus.records import question
from tracemill.corpus.reference import reference_documents
from tracemill.retrieval.chunks import chunk
from tracemill.retrieval.embed import compute
from tracemill.retrieval.frames import document_frame, searchable

VERSION = 1
"""Of this file's choices: another one makes what was kept stale."""
TOKENS = 128
"""Of a chunk: small, so that there are a hundred thousand."""
QUESTIONS = 2_000
NEAREST = 10


@dataclass(frozen=True)
class Passages:
    """What is indexed and asked, in files that other processes map."""

    folder: Path
    chunks: pl.DataFrame
    vectors: NDArray[np.float32]
    questions: list[str]
    queries: NDArray[np.float32]
    sources: str
    """Which texts they are of, in words."""


def passages(count: int, cache: Path) -> Passages:
    """So many chunks; fewer where there are no more, said on the screen."""
    every = _everything(cache)
    chunks = pl.read_parquet(every / "chunks.parquet")
    if chunks.height < count:
        console.print(f"there are {chunks.height:,} chunks here, not {count:,}: no {data()}?")
        count = chunks.height
    folder = cache / f"passages-{VERSION}-{count}"
    if not (folder / "truth.npy").exists():
        folder.mkdir(exist_ok=True)
        np.save(folder / "vectors.npy", np.load(every / "vectors.npy", mmap_mode="r")[:count])
        np.save(folder / "queries.npy", np.load(every / "queries.npy"))
        np.save(folder / "truth.npy", _truth(folder))
    said = json.loads((every / "said.json").read_text(encoding="utf-8"))
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")
    return Passages(folder, chunks[:count], vectors, said["questions"], queries, said["sources"])


def _everything(cache: Path) -> Path:
    """All chunks with their vectors, shuffled; the questions with theirs."""
    folder = cache / f"passages-{VERSION}"
    if (folder / "said.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    records = pl.concat([batch.kept for batch in harvest()])
    chunks = _chunks(records).sample(fraction=1, shuffle=True, seed=0)
    chunks.write_parquet(folder / "chunks.parquet")
    np.save(folder / "vectors.npy", compute(searchable(chunks).to_list()))
    asked = _questions(records)
    np.save(folder / "queries.npy", compute(asked))
    counts = chunks["source"].str.extract(r"^([^:]+):").value_counts(sort=True).iter_rows()
    sources = ", ".join(f"{name} {number:,}" for name, number in counts)
    said = {"questions": asked, "sources": sources}
    (folder / "said.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


def _chunks(records: pl.DataFrame) -> pl.DataFrame:
    """Of every set, each once: `source` begins with its name."""
    installed = pl.concat([reference_documents(records), *installed_documents()])
    rows = [
        _row("installed documentation", f"{source}#{at}", title, written, text)
        for at, (title, source, written, text) in enumerate(
            installed.select("title", "source", "format", "text").iter_rows()
        )
    ]
    rows += [
        _row(name, f"{name}-{at}", f"{name} {at}", "text", text)
        for name in ("squad", "gsm8k", "sgd", "taskmaster4")
        for at, text in enumerate(_texts(name))
    ]
    documents = document_frame([row for row in rows if row["text"].strip()])
    chunks = chunk(documents, tokens=TOKENS, overlap=0)
    return chunks.unique("text", keep="first", maintain_order=True)


def _row(name: str, key: str, title: str, written: str, text: str) -> dict[str, Any]:
    source = f"{name}: {key}"
    return {
        "document_id": source,
        "title": title,
        "source": source,
        "format": written,
        "syntax": written,
        "language": "en",
        "text": text,
    }


def _texts(name: str) -> Iterator[str]:
    """The texts of a set in `../shared/data`; none where it is not."""
    if name == "squad":
        yield from (paragraph["context"] for paragraph in _squad())
        return
    path = data() / name / "records.jsonl.gz"
    if not path.exists():
        return
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for record in map(json.loads, file):
            turns = [turn["content"] or "" for turn in record.get("messages", ())]
            yield "\n".join(turns) or f"{record['question']}\n{record['answer']}"


def _squad() -> Iterator[dict[str, Any]]:
    path = data() / "squad" / "dev-v1.1.json.gz"
    if path.exists():
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for article in json.load(file)["data"]:
                yield from article["paragraphs"]


def _questions(records: pl.DataFrame) -> list[str]:
    """Half of SQuAD's, half of docstrings', evenly taken from each; all of these without SQuAD."""
    asked = [each["question"] for paragraph in _squad() for each in paragraph["qas"]]
    names = records.select(question().alias("question")).unique("question", maintain_order=True)
    half = QUESTIONS // 2 if asked else 0
    return [*_spread(asked, half), *_spread(names["question"].to_list(), QUESTIONS - half)]


def _spread(texts: list[str], count: int) -> list[str]:
    return list(islice(texts, 0, None, max(len(texts) // count, 1)))[:count] if count else []


def _truth(folder: Path) -> NDArray[np.float32]:
    """For each question, the similarity of its exact tenth nearest: as near is as good."""
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")
    found = [
        np.partition(queries[at : at + 100] @ vectors.T, -NEAREST, axis=1)[:, -NEAREST]
        for at in range(0, len(queries), 100)
    ]
    return np.concatenate(found)

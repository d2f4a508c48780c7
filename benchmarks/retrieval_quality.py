"""What a search finds: `python -m benchmarks.retrieval_quality [--quick]`.

SQuAD 1.1 (dev): 10,570 questions, of each the paragraph it was asked of must be found among 2,067;
by words, by vectors, by both, beside bm25s, tantivy and rank fusion. Then the speed of the words on
100,000 chunks. Writes `results/retrieval_quality.md`; nothing passes or fails.
"""

import argparse
import gzip
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.near_ways import CACHE
from benchmarks.report import Table, console, number
from tracemill.retrieval import lexical
from tracemill.retrieval.embed import embed, model
from tracemill.retrieval.fusion import fuse
from tracemill.retrieval.lexical import Lexical
from tracemill.retrieval.rerank import by_closeness

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or report.ROOT.parent / "shared" / "data")
SQUAD = DATA / "squad" / "dev-v1.1.json.gz"
MODELS = ("local/wordllama", "local/minilm")
CHUNKS = 100_000
_RANK_CONSTANT = 60  # of reciprocal rank fusion: Cormack, Clarke and Buettcher, 2009
Scores = NDArray[np.floating[Any]]


class Labelled(NamedTuple):
    """Questions, each with the paragraph it was asked of."""

    paragraphs: list[str]
    questions: list[str]
    right: NDArray[np.int64]


def main() -> None:
    """Measure what is found and how fast, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval_quality")
    parser.add_argument("--quick", action="store_true", help="a tenth of the questions and chunks")
    quick = parser.parse_args().quick
    if not SQUAD.is_file():
        sys.exit(f"there is no {SQUAD}: get SQuAD 1.1 (dev), or set TRACEMILL_TEST_DATA")
    began = time.monotonic()
    squad = _squad(10 if quick else 1)
    tables = [_quality(squad), _speed(squad, CHUNKS // 10 if quick else CHUNKS)]
    heading = (
        f"`python -m benchmarks.retrieval_quality{' --quick' if quick else ''}` on "
        f"{report.machine()}; {time.monotonic() - began:,.0f} s."
    )
    for table in tables:
        table.show()
    console.print(heading)
    path = report.write("retrieval_quality", heading, tables)
    if not quick:
        report.quote("retrieval_quality", path.read_text(encoding="utf-8"))


def _squad(every: int) -> Labelled:
    articles = json.loads(gzip.decompress(SQUAD.read_bytes()))["data"]
    paragraphs = [each for article in articles for each in article["paragraphs"]]
    asked = [(qa["question"], row) for row, each in enumerate(paragraphs) for qa in each["qas"]]
    return Labelled(
        [each["context"] for each in paragraphs],
        [question for question, _ in asked[::every]],
        np.array([row for _, row in asked[::every]]),
    )


def _quality(squad: Labelled) -> Table:
    words = lexical.build(squad.paragraphs)
    said = lexical.scores_many(words, squad.questions)
    rows = [_row("**words**, BM25", said, squad)]
    for name in MODELS:
        rows += [_row(way, found, squad) for way, found in _with(name, squad, words, said)]
    rows += [_row(way, peer(squad), squad) for way, peer in PEERS.items()]
    return Table(
        f"SQuAD 1.1: {len(squad.questions):,} questions, {len(squad.paragraphs):,} paragraphs",
        ("", "recall@1", "recall@5", "recall@10", "MRR@10"),
        rows,
        "In percent; a paragraph that ties counts after those before it. Hybrid is what a collection "
        "does: words and vectors weighed, the 50 best looked at once more. Rank fusion joins the "
        "same words and vectors by reciprocal ranks. Goals: 79.4, 97.5 and 86.3 for the best hybrid; "
        "the light model's never below words alone.",
    )


def _with(name: str, squad: Labelled, words: Lexical, said: Scores) -> Iterator[tuple[str, Scores]]:
    """What a model finds alone, and with the words."""
    embedder = model(name)
    cache = CACHE / "embeddings"
    asked = embed(squad.questions, model=embedder, kind="query", cache=cache).vectors
    held = embed(squad.paragraphs, model=embedder, kind="document", cache=cache).vectors
    dense = asked @ held.T
    share = embedder.lexical_share
    short = name.split("/")[1]
    spread = zip(dense.mean(axis=1).tolist(), dense.std(axis=1).tolist(), strict=True)
    fused = np.array(
        [
            fuse(one, other, share=share, mean=mean, deviation=deviation)
            for one, other, (mean, deviation) in zip(said, dense, spread, strict=True)
        ]
    )
    every = np.arange(len(squad.paragraphs))
    close = [
        by_closeness(words, question, every, scores)
        for question, scores in zip(squad.questions, fused, strict=True)
    ]
    yield f"{short} alone", dense
    yield f"{short} and words, rank fusion", _by_ranks(said, dense)
    yield f"{short} and words weighed {share:.2g} to {1 - share:.2g}", fused
    yield f"**{short}, hybrid**: the same, looked at once more", np.array(close)


def _by_ranks(*sides: Scores) -> Scores:
    ranks = [np.argsort(np.argsort(-side, axis=1, kind="stable"), axis=1) for side in sides]
    return np.sum([1 / (_RANK_CONSTANT + 1 + rank) for rank in ranks], axis=0)


def _bm25s(stemmer: str | None) -> Callable[[Labelled], Scores]:
    """As its documentation uses it: its tokenizer, its English stop words."""

    def scores(squad: Labelled) -> Scores:
        import bm25s
        import Stemmer

        stem = Stemmer.Stemmer(stemmer) if stemmer else None
        read = {"stopwords": "en", "stemmer": stem, "show_progress": False}
        theirs = bm25s.BM25()
        theirs.index(bm25s.tokenize(squad.paragraphs, **read), show_progress=False)
        asked: Any = bm25s.tokenize(squad.questions, return_ids=False, **read)
        nothing = np.zeros(len(squad.paragraphs), dtype=np.float32)
        return np.array([theirs.get_scores(each) if each else nothing for each in asked])

    return scores


def _tantivy(squad: Labelled) -> Scores:
    """Its English stemmer; any of the question's words."""
    import tantivy  # pyright: ignore[reportMissingImports]

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="en_stem")
    schema.add_integer_field("row", stored=True)
    index = tantivy.Index(schema.build())
    writer = index.writer()
    for row, paragraph in enumerate(squad.paragraphs):
        writer.add_document(tantivy.Document(text=paragraph, row=row))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()
    found = np.zeros((len(squad.questions), len(squad.paragraphs)), dtype=np.float32)
    for at, question in enumerate(squad.questions):
        query, _ = index.parse_query_lenient(question, ["text"])
        for score, place in searcher.search(query, 10).hits:
            found[at, searcher.doc(place)["row"][0]] = score
    return found


PEERS: dict[str, Callable[[Labelled], Scores]] = {
    "bm25s 0.3, stop words": _bm25s(None),
    "bm25s 0.3, stop words and Snowball": _bm25s("english"),
    "tantivy 0.27, en_stem": _tantivy,
}


def _row(way: str, scores: Scores, squad: Labelled) -> tuple[str, ...]:
    each = np.arange(len(squad.right))
    own = scores[each, squad.right][:, np.newaxis]
    before = np.arange(scores.shape[1]) < squad.right[:, np.newaxis]
    ahead = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    rank = np.where(own[:, 0] > 0, ahead + 1, np.inf) if (scores >= 0).all() else ahead + 1
    recalls = [100 * float((rank <= k).mean()) for k in (1, 5, 10)]
    return way, *(
        f"{value:.1f}"
        for value in (*recalls, 100 * float((1 / rank)[rank <= 10].sum()) / len(rank))
    )


def _speed(squad: Labelled, chunks: int) -> Table:
    """Of words on many chunks: each of eight sentences that are drawn from all paragraphs."""
    draw = random.Random(7)
    sentences = [each for paragraph in squad.paragraphs for each in paragraph.split(". ")]
    texts = [". ".join(draw.choices(sentences, k=8)) for _ in range(chunks)]
    questions = squad.questions[: min(1_000, len(squad.questions))]
    build_s, words = _timed(lambda: lexical.build(texts))
    rows = np.concatenate([np.arange(chunks), np.full(100, -1)])
    update_s, _ = _timed(lambda: lexical.update(words, rows, texts[:100]))
    with tempfile.TemporaryDirectory() as folder:
        save_s, _ = _timed(lambda: lexical.save(words, Path(folder)))
        load_s, opened = _timed(lambda: lexical.load(Path(folder)))
        megabytes = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
        one_s, _ = _timed(lambda: [lexical.scores(opened, each) for each in questions])
        at_once = questions[:200]
        many_s, _ = _timed(lambda: lexical.scores_many(opened, at_once))
    figures = {
        "build, s": build_s,
        "100 chunks more, s": update_s,
        "save, s": save_s,
        "open, s": load_s,
        "on the disk, MB": megabytes,
        "questions/s, one after the other": len(questions) / one_s,
        "questions/s, 200 at once": len(at_once) / many_s,
    }
    return Table(
        f"Words of {chunks:,} chunks, {sum(map(len, texts)) / 1e6:,.0f} MB of text",
        ("", "**tracemill**"),
        [(name, number(value)) for name, value in figures.items()],
        "Questions are scored against every chunk.",
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.exit(main())

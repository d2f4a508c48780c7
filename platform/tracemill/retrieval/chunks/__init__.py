"""Documents to chunks, each with its exact place in the source; those of an unchanged document are
taken over from before.

What the chunks of a document follow from is hashed beside them (`document_hash`): its text, how it
is read, the settings, the tokenizer, and this code. So what is taken over is what would be made.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill import tokenizer
from tracemill.errors import InputError, UsageError
from tracemill.retrieval import blocks as blocks_module
from tracemill.retrieval.chunks.spans import SMALL, Span, spans
from tracemill.retrieval.frames import chunk_schema

if TYPE_CHECKING:
    import polars as pl

    from tracemill.retrieval.chunks.pieces import Starts
    from tracemill.retrieval.recipe import Strategy

__all__ = ["OVERLAP", "SMALL", "TOKENS", "Span", "chunk", "join", "spans"]

TOKENS, OVERLAP = 512, 50
# Characters of chunks that are held before they become columns.
_AT_ONCE = 10_000_000

_READ = ("document_id", "title", "format", "syntax", "pages", "by_line", "text")
_TAKEN = ("source", "format", "language", "modified_at", "metadata")
"""Columns that are the document's as they are: they may change without a new cut."""


def chunk(
    documents: "pl.DataFrame",
    *,
    strategy: "Strategy" = "structure",
    tokens: int = TOKENS,
    overlap: int = OVERLAP,
    starts: "Starts" = tokenizer.starts,
    earlier: "pl.DataFrame | None" = None,
) -> "pl.DataFrame":
    """The chunks of documents, in order; a blank document has none.

    Args:
        documents: of `document_schema`.
        strategy: `structure` (headings, code and tables stay whole), `semantic` (cut where the
            meaning changes) or `fixed` (every so many tokens).
        tokens: the most tokens in a chunk; at least 16.
        overlap: tokens that a chunk repeats from the one before it in the same section.
        starts: for each token of a text, the character that it begins at (`Model.starts`).
        earlier: what this function gave before; the chunks of documents that are the same in all
            that matters are taken from there, without being cut again.

    Returns a frame of `chunk_schema`. Raises `UsageError` for sizes or a strategy that cannot be,
    `InputError` when a column of the documents is missing.
    """
    import polars as pl

    _check(documents, strategy, tokens, overlap)
    settings = _settings(strategy, tokens, overlap, starts)
    hashes = [_hashed(settings, row) for row in documents.select(_READ).iter_rows()]
    order = pl.DataFrame(pl.Series("document_hash", hashes, dtype=pl.String))
    order = order.with_row_index("row")
    parts = [_known(order, earlier)]
    known = set(parts[0]["row"].unique())
    written: list[tuple[Any, ...]] = []
    held = 0
    for row, document in enumerate(documents.select(_READ).iter_rows(named=True)):
        if row in known or not document["text"]:
            continue
        syntax = _syntax(document)
        found = spans(document["text"], syntax, strategy, tokens, overlap, starts)
        for each in _written(document, found):
            written.append((row, hashes[row], *each))
            held += len(each[-1])
            if held > _AT_ONCE:
                parts.append(_frame(written))
                written, held = [], 0
    cut = pl.concat([*parts, _frame(written)]).sort("row", "start")
    taken = documents.select(_TAKEN)[cut["row"]]
    return cut.hstack(taken).select(
        [pl.col(name).cast(kind) for name, kind in chunk_schema().items()]
    )


def join(chunks: Iterable[tuple[int, str]]) -> str:
    """The text whose chunks these are: each (start, text), in order; what is shared counts once."""
    parts: list[str] = []
    length = 0
    for start, part in chunks:
        new = part[length - start :]
        parts.append(new)
        length += len(new)
    return "".join(parts)


def _check(documents: "pl.DataFrame", strategy: str, tokens: int, overlap: int) -> None:
    if tokens < 16 or not 0 <= overlap <= tokens // 2:
        raise UsageError(
            f"chunks of {tokens} tokens with an overlap of {overlap}: "
            "at least 16 tokens are needed, and an overlap of at most half of them"
        )
    if strategy not in ("structure", "semantic", "fixed"):
        raise UsageError(f"no strategy {strategy!r}: there are structure, semantic and fixed")
    missing = sorted({*_READ, *_TAKEN} - set(documents.columns))
    if missing:
        raise InputError(f"documents lack the column {', '.join(missing)}: has {documents.columns}")


def _syntax(document: dict[str, Any]) -> str:
    return "csv" if document["format"] == "csv" else document["syntax"] or "text"


def _settings(strategy: str, tokens: int, overlap: int, starts: "Starts") -> bytes:
    """What the chunks of any document depend on. A tokenizer shows by what it makes of a sample."""
    said = [_code(), strategy, str(tokens), str(overlap), str(starts(_SAMPLE).tolist())]
    if strategy == "semantic":
        from tracemill.retrieval import embed

        said.append(embed.model(embed.MODEL).identity)
    return "\0".join(said).encode()


_SAMPLE = """\
The unbelievably well-tokenized warehouse's log (v1.10.3) re-embeds 12,345 chunks; isn't it odd?
def internationalization(HTTPServer): return r"\\d+" if x_y != 0xFF else None  # naïve façade
Größenordnungen, électricité, мультипликация, δοκιμή, 東京都の検索エンジン, بحث في المستندات, 😀 e\u0301
"""


@cache
def _code() -> str:
    """A digest of what cuts."""
    from importlib.metadata import version

    digest = blake2b(version("markdown-it-py").encode(), digest_size=16)
    folders = (Path(__file__).parent, Path(str(blocks_module.__file__)).parent)
    for file in sorted(path for folder in folders for path in folder.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _hashed(settings: bytes, read: tuple[Any, ...]) -> str:
    *about, text = read
    digest = blake2b(settings, digest_size=16)
    digest.update(repr(about).encode("utf-8", "surrogatepass"))
    digest.update((text or "").encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _known(order: "pl.DataFrame", earlier: "pl.DataFrame | None") -> "pl.DataFrame":
    """The earlier chunks of documents that did not change, with the row of the document."""
    import polars as pl

    if earlier is None or set(chunk_schema()) - set(earlier.columns):
        return pl.DataFrame(schema=_cut_schema())
    own = [name for name in _cut_schema() if name != "row"]
    known = earlier.select(own).join(order, on="document_hash", maintain_order="left")
    return known.select([pl.col(name).cast(kind) for name, kind in _cut_schema().items()])


def _written(document: dict[str, Any], found: Iterable[Span]) -> Iterator[tuple[Any, ...]]:
    text: str = document["text"]
    key, title = document["document_id"], document["title"]
    pages: list[dict[str, int]] = document["pages"] or []
    lines = _Lines(text) if document["by_line"] else None
    for span in found:
        part = text[span.start : span.end]
        first, last = _ends(part, span.start)
        yield (
            _id(key, title, span, part),
            key,
            title,
            list(span.headings),
            span.start,
            span.end,
            _page(pages, first),
            _page(pages, last),
            lines.at(first) if lines else None,
            lines.at(last) if lines else None,
            span.tokens,
            part,
        )


def _id(key: str, title: str, span: Span, part: str) -> str:
    said = (key, str(span.start), str(span.end), title or "", *span.headings, part)
    counted = "".join(f"{len(each)}:{each}" for each in said)
    return blake2b(counted.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _ends(part: str, start: int) -> tuple[int, int]:
    """Where the first and the last character that is no blank lie."""
    if not part.strip():
        return start, start + len(part) - 1
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip()) - 1


def _page(pages: list[dict[str, int]], place: int) -> int | None:
    from bisect import bisect_right

    at = bisect_right(pages, place, key=lambda page: page["start"])
    return pages[at - 1]["number"] if at else None


class _Lines:
    """The line of places that are asked for in nearly ascending order."""

    def __init__(self, text: str) -> None:
        self._text, self._place, self._line = text, 0, 1

    def at(self, place: int) -> int:
        if place >= self._place:
            self._line += self._text.count("\n", self._place, place)
        else:
            self._line -= self._text.count("\n", place, self._place)
        self._place = place
        return self._line


def _frame(rows: list[tuple[Any, ...]]) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(rows, schema=_cut_schema(), orient="row")


def _cut_schema() -> dict[str, Any]:
    """What is known once a document was cut; the order is that of `_written`."""
    import polars as pl

    schema = chunk_schema()
    names = [name for name in schema if name not in _TAKEN]
    first = ["row", "document_hash"]
    own = [name for name in names if name not in first]
    return {"row": pl.UInt32, **{name: schema[name] for name in ["document_hash", *own]}}

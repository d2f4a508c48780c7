"""Which chunks are right for a question: those that hold the text which its label quotes.

A quote is looked for in the document, whatever its blanks and capitals; a chunk is right when it
and the quote share at least half of the shorter of the two. So of a quote that a border cuts, the
chunks that hold most of it count, and of a quote over many chunks each that lies within it.
"""

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import polars as pl

_SHORT = 20  # characters; a shorter text must stand as whole words: 12 is not in 120
_MOST_SPANS = 100
"""Of one text in one document: what is in more places than that says nothing."""


def right_chunks(questions: "pl.DataFrame", chunks: "pl.DataFrame") -> "pl.DataFrame":
    """Columns question_id, chunk_id: each right chunk of each question that has any.

    Args:
        questions: as `questions.question_schema` says.
        chunks: all chunks of the collection; of their columns chunk_id, document_id, start, end,
            text.
    """
    import polars as pl

    asked = questions.filter(~pl.col("unanswerable"))
    whole = asked.filter(pl.col("places").list.len() == 0).select("question_id", "document_id")
    quoted = asked.filter(pl.col("places").list.len() > 0)
    places = chunks.select("chunk_id", "document_id", "start", "end")
    everything = whole.join(places, on="document_id").select("question_id", "chunk_id")
    shared = pl.min_horizontal("end", "to") - pl.max_horizontal("start", "from")
    shorter = pl.min_horizontal(pl.col("end") - pl.col("start"), pl.col("to") - pl.col("from"))
    held = (
        _spans(quoted, _documents(chunks, quoted))
        .join(places, on="document_id")
        .filter(shared > 0, shared * 2 >= shorter)
        .select("question_id", "chunk_id")
    )
    return pl.concat([everything, held]).unique(maintain_order=True)


def text_of(chunks: "pl.DataFrame") -> str:
    """The text of one document from its chunks; where none lies, there are newlines."""
    pieces: list[str] = []
    end = 0
    for start, piece in chunks.sort("start").select("start", "text").iter_rows():
        pieces += ("\n" * (start - end), piece[max(end - start, 0) :])
        end = max(end, start + len(piece))
    return "".join(pieces)


class Folded(NamedTuple):
    """A text in lower case with single blanks, and where its words lay."""

    text: str
    starts: "array[int]"
    """Where each word begins in `text`."""
    were: "array[int]"
    """Where it began."""

    def place(self, at: int) -> int:
        """Where a character of `text` lay."""
        word = bisect_right(self.starts, at) - 1
        return self.were[word] + at - self.starts[word]


def fold(text: str) -> Folded:
    """Fold a text, so that a quote is found whatever its blanks and capitals."""
    words: list[str] = []
    lowered: dict[str, str] = {}  # A word of a large text is held once.
    starts, were = array("q"), array("q")
    at = 0
    for found in re.finditer(r"\S+", text):
        said = found[0]
        word = lowered.get(said) or lowered.setdefault(said, _lower(said))
        words.append(word)
        starts.append(at)
        were.append(found.start())
        at += len(word) + 1
    return Folded(" ".join(words), starts, were)


def _lower(word: str) -> str:
    """In lower case, character by character: a few would become two, and stay as they are."""
    lower = word.lower()
    if len(lower) == len(word):
        return lower
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in word)


def holds(text: str, place: str) -> bool:
    """Whether a text holds another, whatever blanks and capitals; a short one as whole words."""
    return next(_find(fold(text), _needle(place)), None) is not None


def _documents(chunks: "pl.DataFrame", quoted: "pl.DataFrame") -> dict[str, Folded]:
    """The documents that quotes may lie in, folded."""
    import polars as pl

    if not quoted["document_id"].null_count():
        chunks = chunks.filter(
            pl.col("document_id").is_in(quoted["document_id"].unique().implode())
        )
    parts = chunks.select("document_id", "start", "text").partition_by("document_id", as_dict=True)
    return {str(name): fold(text_of(part)) for (name,), part in parts.items()}


def _spans(quoted: "pl.DataFrame", documents: dict[str, Folded]) -> "pl.DataFrame":
    """Columns question_id, document_id, from, to (characters of the document)."""
    import polars as pl

    anywhere = quoted.filter(pl.col("document_id").is_null())
    homes = _homes(anywhere["places"].explode().unique().to_list(), documents)
    rows: list[tuple[str, str, int, int]] = []
    columns = quoted.select("question_id", "document_id", "places").iter_rows()
    for question_id, document_id, places in columns:
        for needle in map(_needle, places):
            for home in [document_id] if document_id else homes.get(needle, ()):
                spans = _find(documents[home], needle) if home in documents else ()
                rows += ((question_id, home, start, end) for start, end in spans)
    schema = {"question_id": pl.String, "document_id": pl.String, "from": pl.Int64, "to": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _homes(places: list[str], documents: dict[str, Folded]) -> dict[str, list[str]]:
    """Needle -> the documents that hold it, all needles in one pass (Aho and Corasick 1975)."""
    import polars as pl

    if not places:
        return {}
    texts = pl.DataFrame({"name": list(documents), "text": [d.text for d in documents.values()]})
    hits = pl.col("text").str.extract_many(list(map(_needle, places)), overlapping=True)
    found = texts.select("name", hits.list.unique().alias("needle")).explode("needle")
    held = found.drop_nulls().group_by("needle").agg("name")
    return dict(held.iter_rows())


def _needle(place: str) -> str:
    return fold(unicodedata.normalize("NFC", place)).text


def _find(document: Folded, needle: str) -> Iterator[tuple[int, int]]:
    """Where a folded text stands in a document: from, to in the document's characters."""
    at, found = document.text.find(needle), 0
    anywhere = len(needle) >= _SHORT
    while at >= 0 and found < _MOST_SPANS:
        end = at + len(needle)
        if anywhere or not (_joined(document.text, at) or _joined(document.text, end)):
            yield document.place(at), document.place(end - 1) + 1
            found += 1
        at = document.text.find(needle, at + 1)


def _joined(text: str, at: int) -> bool:
    """Whether the characters on both sides of a place belong to one word."""
    return 0 < at < len(text) and _in_word(text[at - 1]) and _in_word(text[at])


def _in_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"

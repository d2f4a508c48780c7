"""Questions of which it is known where the answer lies: what retrieval is measured by.

People label them, one JSON object a line in `raw/questions/<collection>.jsonl`; for a collection
without labels they are made from its own text, which finds what got worse and says little else.
"""

import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field, ValidationError, model_validator

from tracemill.corpus import records
from tracemill.corpus.json_rows import jsonl
from tracemill.corpus.recipe import Source, Strict
from tracemill.corpus.records import Refusal
from tracemill.errors import InputError, UsageError
from tracemill.files import write_atomically
from tracemill.llm import bm25

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import polars as pl

    from tracemill.settings import Settings

MOST_CHARACTERS = 10_000
"""Of a question or a quote: more is a pasted document."""
SELF_MADE = 200
"""How many questions are made from a collection's own text."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n\s*\n")
_FEWEST_WORDS, _MOST_WORDS = 8, 40
_CHUNKS_A_QUESTION = 4  # code, tables and lists hold no sentence
_ASKED_WORDS = 4  # fewer do not tell one passage from others


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    return text


Said = Annotated[str, Field(max_length=MOST_CHARACTERS), AfterValidator(_not_blank)]


class Label(Strict):
    """One line of a file of questions.

    One of `quote`, `answers` with `document`, `document` alone, or `unanswerable` says where the
    answer lies.
    """

    question: Said
    document: Said | None = None
    """The `document_id`: the path below the collection's folder."""
    quote: Said | None = None
    """Text that the right passage contains, in `document` or, without one, anywhere."""
    answers: tuple[Said, ...] = ()
    """Texts that are right as an answer; without a quote, a passage of `document` that holds one
    of them is right."""
    unanswerable: bool = False
    """True when nothing in the collection answers it."""

    @model_validator(mode="after")
    def _has_one_place(self) -> "Label":
        if self.unanswerable and (self.document or self.quote or self.answers):
            raise ValueError(
                "unanswerable, and yet document, quote or answers: keep one of the two"
            )
        if not (self.unanswerable or self.document or self.quote):
            needs = "answers need a document or a quote" if self.answers else "nothing says where"
            raise ValueError(
                f"{needs}: add a document, a quote of the right passage, or unanswerable: true"
            )
        return self


class Questions(NamedTuple):
    """Questions of one file, and the lines that are none."""

    frame: "pl.DataFrame"
    """As `question_schema` says."""
    refused: "pl.DataFrame"
    """file, line, reason, text."""


def question_schema() -> dict[str, Any]:
    """The columns of a frame of questions.

    question_id   the hash of what is asked and where the answer lies
    document_id   where it lies; null: in any document, or nowhere
    places        texts that a right passage holds, one of them; empty: the whole document is right
    answers       texts that are right as an answer; empty where none are known
    unanswerable  nothing in the collection answers it
    line          in its file; null where it was made
    """
    import polars as pl

    return {
        "question_id": pl.String,
        "question": pl.String,
        "document_id": pl.String,
        "places": pl.List(pl.String),
        "answers": pl.List(pl.String),
        "unanswerable": pl.Boolean,
        "line": pl.Int64,
    }


def questions_file(settings: "Settings", collection: str) -> Path:
    """Where the labelled questions of a collection lie, whether there are any or not."""
    return settings.raw_questions / f"{collection}.jsonl"


def read_questions(path: Path) -> Questions:
    """The labelled questions of a JSONL file.

    A line that is no question is refused with its reason; so is one that says what an earlier line
    said. Raises `InputError` when the file cannot be read or holds no question at all.
    """
    rows: dict[str, dict[str, Any]] = {}
    refused: list[Refusal] = []
    for number, fields, problem, text in _lines(path):
        row, reason = _row(fields, number) if fields is not None else (None, problem)
        if row and row["question_id"] in rows:
            row, reason = None, f"the same as line {rows[row['question_id']]['line']}"
        if row:
            rows[row["question_id"]] = row
        else:
            refused.append(records.refusal(path.name, number, reason, text))
    if not rows:
        first = f"; line {refused[0].line}: {refused[0].reason}" if refused else ""
        raise InputError(
            f"{path} holds no question{first}: one JSON object a line, as "
            '{"question": "...", "document": "guide.md", "quote": "..."}'
        )
    return Questions(_frame(rows.values()), records.refusal_frame(refused))


def quarantine(settings: "Settings", collection: str, refused: "pl.DataFrame") -> Path:
    """Write what was refused of a collection's questions to where people look for it."""
    path = settings.quarantine / "questions" / f"{collection}.parquet"
    return write_atomically(path, refused.write_parquet)


def dataset_digest(questions: "pl.DataFrame") -> str:
    """Of a set of questions, whatever their order: 16 hex digits, and whether it is self-made."""
    ids = "\n".join(questions["question_id"].sort())
    digest = hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()
    return f"self-made:{digest}" if questions["line"].null_count() else digest


def self_made(chunks: "pl.DataFrame", count: int = SELF_MADE) -> "pl.DataFrame":
    """Questions made from a collection's own text, the same ones for the same text.

    A sentence loses the words of its title and headings, its stop words, and every other word that
    is left; what remains is asked for (known-item queries, after Azzopardi, de Rijke and Balog,
    2007). A heading that asks a question is one. Sampled by hash: documents that come or go leave
    most of the sample as it is.

    Args:
        chunks: as `frames.chunk_schema` says.
    """
    sample = chunks.sort("chunk_id").head(_CHUNKS_A_QUESTION * count)
    made = {row["question_id"]: row for row in _known_items(sample)}
    return _frame(list(made.values())[:count])


def from_records(pairs: "pl.DataFrame", count: int = SELF_MADE) -> "pl.DataFrame":
    """Questions of records, as the harvested documentation has them; right is what holds the
    first paragraph of the answer.

    Args:
        pairs: columns `question` and `answer`.
    """
    made: dict[str, dict[str, Any]] = {}
    for question, answer in pairs.select("question", "answer").iter_rows():
        quote = answer.strip().split("\n\n")[0][:MOST_CHARACTERS]
        if question.strip() and len(quote.split()) >= _ASKED_WORDS:
            row = _question(question, None, [quote])
            made[row["question_id"]] = row
    return _frame(made[each] for each in sorted(made)[:count])


def _lines(path: Path) -> "Iterator[tuple[int, dict[str, Any] | None, str, str]]":
    """Line number, fields or None, the problem, the text."""
    try:
        for rows in jsonl(path, Source(), by_columns=False):
            for index, number in enumerate(rows.numbers):
                line = rows.line(index)
                text = line.text or json.dumps(line.row, ensure_ascii=False, default=str)
                yield number, line.row, line.problem, text
    except OSError as error:
        raise InputError(
            f"cannot read the questions in {path}: {error.strerror or error}"
        ) from error


def _row(fields: dict[str, Any], number: int) -> tuple[dict[str, Any] | None, str]:
    try:
        label = Label.model_validate(fields)
    except ValidationError as error:
        return None, "; ".join(map(_reason, error.errors()))
    places = [label.quote] if label.quote else list(label.answers)
    document = unicodedata.normalize("NFC", label.document) if label.document else None
    return _question(label.question, document, places, label, number), ""


def _reason(error: Any) -> str:
    field = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{field}: there is no such field; there are {', '.join(Label.model_fields)}"
    said = error["msg"].removeprefix("Value error, ")
    return f"{field}: {said}" if field else said


def _question(
    question: str,
    document: str | None,
    places: list[str],
    label: Label | None = None,
    line: int | None = None,
) -> dict[str, Any]:
    asked = " ".join(question.split())
    unanswerable = bool(label and label.unanswerable)
    said = json.dumps([asked, document, places, unanswerable], ensure_ascii=False)
    digest = hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16)
    return {
        "question_id": digest.hexdigest(),
        "question": asked,
        "document_id": document,
        "places": places,
        "answers": list(label.answers) if label else [],
        "unanswerable": unanswerable,
        "line": line,
    }


def _frame(rows: "Iterable[dict[str, Any]]") -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(list(rows), schema=question_schema())


def _known_items(chunks: "pl.DataFrame") -> "Iterator[dict[str, Any]]":
    columns = chunks.select("document_id", "title", "headings", "text")
    for document, title, headings, text in columns.iter_rows():
        if headings and headings[-1].rstrip().endswith("?"):
            yield _question(headings[-1], document, [text[:MOST_CHARACTERS]])
        known = frozenset(bm25.words(f"{title} {' '.join(headings)}"))
        sentences = (" ".join(part.split()) for part in _SENTENCE.split(text))
        fits = [s for s in sentences if _FEWEST_WORDS <= len(s.split()) <= _MOST_WORDS]
        if fits and (asked := _half(best := max(fits, key=_order), known)):
            yield _question(asked, None, [best])


def _half(sentence: str, known: frozenset[str]) -> str:
    """Every other word that its title does not say, in order; empty where that is too little."""
    plain = [word for word in re.findall(r"\w+", sentence) if set(bm25.words(word)) - known]
    kept = list(dict.fromkeys(plain))[::2]
    return " ".join(kept) if len(kept) >= _ASKED_WORDS else ""


def _order(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def labelled(settings: "Settings", collection: str) -> "Questions | None":
    """The labelled questions of a collection; None where nobody has labelled any.

    What is refused goes to the quarantine. Raises `InputError` as `read_questions` does, and
    `UsageError` for a name that cannot be a collection's.
    """
    if Path(collection).name != collection:
        raise UsageError(f"{collection!r} cannot name a collection")
    path = questions_file(settings, collection)
    if not path.exists():
        return None
    read = read_questions(path)
    quarantine(settings, collection, read.refused)
    return read

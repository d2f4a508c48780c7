"""Records that hold what a model will be tested on: found by shared word n-grams, with the proof.

Hashed 5-grams say in columns which records could share enough with which item of an evaluation
set; the words themselves decide, and the span that both share is kept as evidence.
"""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, cast

from tracemill.corpus.records import Judged
from tracemill.corpus.sketch import WORDS, Sketches, sketch, words
from tracemill.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    Ints: TypeAlias = NDArray[np.int64]

Gram: TypeAlias = tuple[str, ...]

NGRAM = 13
"""Words in a row that both have. Brown et al. 2020 (GPT-3), appendix C: at most 13, ignoring
punctuation, white space and case."""
CONTAINED = 0.5
"""Share of an item's 5-grams that a near-duplicate has; Jaccard >= 0.5 implies it."""
LEAST_SHARED = 4
"""5-grams that a near-duplicate of an item with as many shares at least: eight words, appendix C's
minimum against chance. Of a shorter item, it has all."""
TEMPLATE_ITEMS = 20
"""A 5-gram in more items of a set than this is the set's template, not a question."""

NGRAM_RULE, NEAR_RULE = "13-gram", "near-duplicate"
FIELDS = ("question", "prompt", "problem", "query", "user_query", "instruction", "input", "text")
EVIDENCE = ("evaluation", "rule", "overlap", "eval_id", "shared")
_BLOCK = 1_000


class _Item(NamedTuple):
    evaluation: str
    number: int
    words: list[str]
    grams: frozenset[Gram]
    common: frozenset[Gram]
    """Those of its 5-grams that are the set's template."""


class _Found(NamedTuple):
    overlap: float
    item: _Item
    rule: str
    shared: str


@dataclass(frozen=True)
class Evaluations:
    """Evaluation sets, prepared for looking up."""

    names: dict[str, int]
    """Evaluation set -> its number of items."""
    items: tuple[_Item, ...]
    needed: "Ints"
    """How many hashed 5-grams a record shares at least with each item that it could contain."""
    hashes: "NDArray[np.uint32]"
    """All 5-grams but templates, sorted."""
    starts: "Ints"
    """The items with `hashes[k]` are `holders[starts[k]:starts[k + 1]]`."""
    holders: "Ints"
    seen: "NDArray[np.bool_]"
    """Whether any of the hashes begins with these 24 bits: most lookups end here."""

    @classmethod
    def of(cls, sets: Mapping[str, Sequence[str]]) -> Self:
        """Prepare named sets of texts, such as questions; the n-th text has the `eval_id` n, from 1."""
        import numpy as np

        items = [item for name, texts in sets.items() for item in _items(name, texts)]
        hashes, holders = _rare(items)
        order = np.lexsort((holders, hashes))
        unique, starts = np.unique(hashes[order], return_index=True)
        seen = np.zeros(1 << 24, np.bool_)
        seen[unique >> 8] = True
        return cls(
            names={name: len(texts) for name, texts in sets.items()},
            items=tuple(items),
            needed=np.array([_needed(item) for item in items], np.int64),
            hashes=unique,
            starts=np.append(starts, len(order)).astype(np.int64),
            holders=holders[order],
            seen=seen,
        )


def evaluation_texts(path: Path) -> list[str]:
    """The questions in a file: JSONL or JSON (a list) with one of `FIELDS` or `messages`, or lines.

    A file name may end in `.gz`. Raises InputError that names file and line.
    """
    packed = path.suffix == ".gz"
    kind = Path(path.stem).suffix if packed else path.suffix
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        try:
            if kind == ".json":
                rows = enumerate(json.load(file), 1)
            else:
                rows = ((n, line) for n, line in enumerate(file, 1) if line.strip())
            return [_question(path, kind, number, row) for number, row in rows]
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} cannot be read as questions: {error}") from None


def decontaminate(frame: "pl.DataFrame", evaluations: Evaluations) -> Judged:
    """Drop the records that hold an item of an evaluation set, word for word or nearly so.

    All texts of a record count, the system's too. Dropped are records with 13 words in a row of an
    item, and those with half of its 5-grams, of at least eight words; dropped rows have
    `evaluation`, `rule`, `overlap` (the share of the item's 5-grams in the record), `eval_id` and
    `shared` (the longest run of words of both). Of several items the most overlapping is named. An
    item of fewer than five words is found only in a record that says nothing else.
    """
    import numpy as np
    import polars as pl

    found: dict[int, _Found] = {}
    if evaluations.items:
        texts = _bare(frame.select(_said()).to_series())
        for row, numbers in _candidates(sketch(texts), evaluations):
            best = _best(words(str(texts[row].as_py())), [evaluations.items[n] for n in numbers])
            if best is not None:
                found[row] = best
    clean = np.ones(frame.height, np.bool_)
    clean[list(found)] = False
    rows = sorted(found)
    dropped = frame[rows].with_columns(*_evidence([found[row] for row in rows]))
    reason = pl.format("{} of the evaluation set {}", "rule", "evaluation")
    return Judged(frame.filter(pl.Series(clean)), dropped.with_columns(reason=reason))


def report(evaluations: Evaluations, dropped: "pl.DataFrame") -> "pl.DataFrame":
    """For each set: `evaluation`, `items`, records dropped `by_ngram` and `by_near_duplicate`."""
    import polars as pl

    counts = Counter(dropped.select("evaluation", "rule").iter_rows())
    rows = [
        (name, items, counts[name, NGRAM_RULE], counts[name, NEAR_RULE])
        for name, items in evaluations.names.items()
    ]
    schema: Any = ["evaluation", "items", "by_ngram", "by_near_duplicate"]
    kinds = dict(zip(schema, [pl.String, pl.Int64, pl.Int64, pl.Int64], strict=True))
    return pl.DataFrame(rows, schema=kinds, orient="row")


def _items(name: str, texts: Sequence[str]) -> "Iterator[_Item]":
    """The items of a set with words in them, each once."""
    import polars as pl

    bare: list[Any] = _bare(pl.Series(texts, dtype=pl.String)).to_pylist()
    numbered = {tuple(words(text)): at for at, text in reversed(list(enumerate(bare, 1)))}
    numbered.pop((), None)
    grams = {said: frozenset(_grams(said)) for said in numbered}
    often = Counter(gram for said in grams for gram in grams[said])
    common = frozenset(gram for gram, count in often.items() if count > TEMPLATE_ITEMS)
    for said, number in sorted(numbered.items(), key=lambda item: item[1]):
        yield _Item(name, number, list(said), grams[said], grams[said] & common)


def _rare(items: Sequence[_Item]) -> "tuple[NDArray[np.uint32], Ints]":
    """(hash of a 5-gram, item) for all but templates."""
    import numpy as np
    import polars as pl

    whole = sketch(pl.Series([" ".join(item.words) for item in items], dtype=pl.String))
    holders = np.repeat(np.arange(len(items)), np.diff(whole.offsets))
    pairs = [(at, " ".join(gram)) for at, item in enumerate(items) for gram in item.common]
    common = sketch(pl.Series([gram for _, gram in pairs], dtype=pl.String)).shingles
    template = np.array([at for at, _ in pairs], np.int64) << 32 | common
    rare = ~np.isin(holders << 32 | whole.shingles, template)
    return whole.shingles[rare], holders[rare]


def _needed(item: _Item) -> int:
    """The fewest 5-grams that are no template which a record to be dropped can share with it."""
    rare = len(item.grams) - len(item.common)
    near = max(1, -(-rare // 2), min(len(item.grams), LEAST_SHARED) - len(item.common))
    grams, span = list(_grams(item.words)), NGRAM - WORDS + 1
    windows = (set(grams[at : at + span]) for at in range(len(item.words) - NGRAM + 1))
    return min([near, *(len(window - item.common) or near for window in windows)])


def _candidates(sketches: Sketches, evaluations: Evaluations) -> Iterator[tuple[int, list[int]]]:
    """Rows of records, with the items that each shares as many 5-grams with as it takes."""
    import numpy as np

    hits = np.flatnonzero(evaluations.seen[sketches.shingles >> 8])
    hashes = sketches.shingles[hits]
    places = np.minimum(
        np.searchsorted(evaluations.hashes, hashes), max(len(evaluations.hashes) - 1, 0)
    )
    true = evaluations.hashes[places] == hashes if len(evaluations.hashes) else hits < 0
    rows = np.searchsorted(sketches.offsets, hits[true], side="right") - 1
    places = places[true]
    counts = np.bincount(rows, minlength=1)
    enough = counts[rows] >= evaluations.needed.min()
    rows, places = rows[enough], places[enough]
    ends = np.searchsorted(rows, np.arange(0, len(sketches.offsets) + _BLOCK, _BLOCK))
    for start, end in pairwise(ends.tolist()):
        yield from _shared(rows[start:end], places[start:end], evaluations)


def _shared(
    rows: "Ints", places: "Ints", evaluations: Evaluations
) -> Iterator[tuple[int, list[int]]]:
    import numpy as np

    if not rows.size:
        return
    first = evaluations.starts[places]
    sizes = evaluations.starts[places + 1] - first
    inside = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    items = evaluations.holders[np.repeat(first, sizes) + inside]
    total = len(evaluations.items)
    pairs, counts = np.unique(np.repeat(rows, sizes) * total + items, return_counts=True)
    pairs = pairs[counts >= evaluations.needed[pairs % total]]
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for row, item in zip((pairs // total).tolist(), (pairs % total).tolist(), strict=True):
        numbers[row].append(item)
    yield from numbers.items()


def _best(said: list[str], items: Sequence[_Item]) -> _Found | None:
    grams = set(_grams(said))
    found = [_judge(said, grams, item) for item in items]
    return max(filter(None, found), key=lambda each: each.overlap, default=None)


def _judge(said: list[str], grams: set[Gram], item: _Item) -> _Found | None:
    """Whether words with these 5-grams hold the item; templates alone do not."""
    shared = grams & item.grams
    overlap, rare = len(shared) / len(item.grams), item.grams - item.common
    run = _run(said, item)
    near = overlap >= CONTAINED and len(shared) >= min(len(item.grams), LEAST_SHARED)
    if len(run) >= NGRAM:
        return _Found(overlap, item, NGRAM_RULE, " ".join(run))
    if near and rare and len(shared & rare) >= CONTAINED * len(rare):
        return _Found(overlap, item, NEAR_RULE, " ".join(run))
    return None


def _run(said: list[str], item: _Item) -> list[str]:
    """The longest run of words that both have and that is not all template."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, word in enumerate(item.words):
        places[word].append(place)
    best: list[str] = []
    before: dict[int, int] = {}
    for at, word in enumerate(said):
        lengths = {place: before.get(place - 1, 0) + 1 for place in places.get(word, ())}
        longest = max(lengths.values(), default=0)
        if longest > len(best):
            run = said[at - longest + 1 : at + 1]
            if not item.common or not item.common.issuperset(_grams(run)):
                best = run
        before = lengths
    return best


def _grams(said: Sequence[str]) -> Iterator[Gram]:
    """Runs of five words, or all words where there are fewer: what `sketch` hashes."""
    for at in range(max(len(said) - WORDS + 1, min(len(said), 1))):
        yield tuple(said[at : at + WORDS])


def _said() -> "pl.Expr":
    """All texts of a record, those of the system too: a model sees them as well."""
    import polars as pl

    turn = pl.element().struct
    texts = pl.coalesce(turn.field("content"), turn.field("tool_calls"), pl.lit(""))
    return pl.col("messages").list.eval(texts).list.join("\n").fill_null("")


def _bare(texts: "pl.Series") -> "pa.LargeStringArray":
    """Texts with every sign of punctuation replaced by spaces, byte for byte."""
    import numpy as np
    import pyarrow as pa

    column = cast(Any, texts.fill_null("").rechunk().to_arrow()).cast(pa.large_string())
    column = column if column.offset == 0 else pa.concat_arrays([column])
    _, offsets, data = column.buffers()
    plain = np.frombuffer(data or b"", np.uint8)
    bare = _blanks()[plain]
    for lead, seconds, width in ((0xC2, (), 2), (0xE2, (0x80, 0x81), 3), (0xE3, (0x80,), 3)):
        at = np.flatnonzero(plain == lead)
        at = at[np.isin(plain[at + 1], seconds)] if seconds else at
        for byte in range(width):
            bare[at + byte] = 0x20
    made: Any = pa.LargeStringArray.from_buffers(len(column), offsets, pa.py_buffer(bare))
    return made


@cache
def _blanks() -> "NDArray[np.uint8]":
    """Byte -> itself, or a space for ASCII that is neither letter, digit nor underscore."""
    import numpy as np

    table = np.arange(256, dtype=np.uint8)
    signs = [code for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")]
    table[signs] = 0x20
    return table


def _evidence(found: Sequence[_Found]) -> "list[pl.Series]":
    import polars as pl

    columns = {
        "evaluation": pl.Series([one.item.evaluation for one in found], dtype=pl.String),
        "rule": pl.Series([one.rule for one in found], dtype=pl.String),
        "overlap": pl.Series([one.overlap for one in found], dtype=pl.Float64),
        "eval_id": pl.Series([one.item.number for one in found], dtype=pl.Int64),
        "shared": pl.Series([one.shared for one in found], dtype=pl.String),
    }
    return [column.alias(name) for name, column in columns.items()]


def _question(path: Path, kind: str, number: int, row: Any) -> str:
    if kind not in (".json", ".jsonl"):
        return cast(bytes, row).decode().strip()
    try:
        fields: Any = json.loads(row) if kind == ".jsonl" else row
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {number} is not JSON: {error}") from None
    if isinstance(fields, str):
        return fields
    if isinstance(fields, dict):
        given = cast("dict[str, Any]", fields)
        texts = [given[name] for name in FIELDS if isinstance(given.get(name), str)]
        turns: Any = given.get("messages") or []
        texts = texts[:1] or [turn["content"] for turn in turns if turn.get("role") == "user"]
        if texts:
            return "\n".join(texts)
    raise InputError(
        f"{path} entry {number} has no question: name the field {', '.join(FIELDS)} or messages"
    )

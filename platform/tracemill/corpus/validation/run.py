"""Reads a file once and judges every line; what needs the whole file is judged at its end."""

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from tracemill.corpus.trainable import LIMITS, Trainable, trainable
from tracemill.corpus.validation import anthropic, measure
from tracemill.corpus.validation.lines import Line, doubled, read
from tracemill.corpus.validation.report import Cost, Found, Lengths, Report, Tally
from tracemill.corpus.validation.rules import RULES
from tracemill.corpus.validation.shapes import ANTHROPIC, CHAT, SHAPES, Row, Shape, shape_of

MIN_ROWS = 10
"""OpenAI refuses files with fewer."""
EPOCHS = 3
"""What OpenAI chooses for most files when it is not told."""
_ONE_SIDED = 0.8
_TRAINED_ON = frozenset(("chat", "preference"))


def validate(
    path: Path | str,
    *,
    tokenizer: str | None = None,
    model: str | None = None,
    min_rows: int = MIN_ROWS,
    epochs: int = EPOCHS,
    keep: int | None = 100,
    progress: Callable[[int], object] = lambda _: None,
) -> Report:
    """Everything that is wrong with a file of training data: JSON lines, plain or packed by gzip.

    `model` gives the limit and the price of training; `tokenizer` is then the model's, unless it
    is named here, and `default` without a model. Of each kind of issue the first `keep` are told
    apart; None keeps all. `progress` is called with numbers of bytes read. No content of the file,
    however odd, raises; memory is bounded by the longest line and 32 bytes a row. Raises
    `UsageError` when there is no such file or tokenizer.
    """
    known = trainable(model) if model else None
    name = tokenizer or (_usable(known.tokenizer) if known else "default")
    run = _Run(name, known.max_tokens if known else None, keep)
    for line in read(Path(path), progress):
        run.line(line)
    return run.report(str(path), model, known, min_rows, epochs)


def _usable(name: str) -> str:
    """The tokenizer of a model; the bundled one where what it needs is not installed."""
    from tracemill.corpus import tokens
    from tracemill.errors import UsageError

    try:
        tokens.tokenizer(name)
    except UsageError:
        return "default"
    return name


class _Run:
    """What is known of a file so far."""

    def __init__(self, tokenizer: str, limit: int | None, keep: int | None) -> None:
        self._tally = Tally(keep)
        self._keep = keep
        self._shapes: Counter[str] = Counter()
        self._either = True
        self._lines = self._rows = 0
        self._repeats, self._answers = measure.Repeats(), measure.Answers()
        self._tokens, self._personal = measure.Tokens(tokenizer, limit), measure.Personal()

    def line(self, line: Line) -> None:
        """Judge a line."""
        self._lines = line.number
        if line.found:
            self._tally.add(line.number, line.found)
        if line.row is None:
            return
        self._rows += 1
        found = doubled(line.text, line.row)
        shape = self._shape_of(line.row)
        if shape is None:
            fields = ", ".join(sorted(line.row))[:80] or "none"
            found.append(Found("unknown_shape", "", f"fields: {fields}"))
        else:
            found += self._of(shape)
            shape.check(line.row, found)
        if found:
            self._tally.add(line.number, found)
        wrong = any(RULES[each.code].level == "error" for each in found)
        self._measure(line, None if wrong else shape)

    def _shape_of(self, row: Row) -> Shape | None:
        """The layout of a row; of one that is of OpenAI's and Anthropic's alike, its neighbours'."""
        shape = shape_of(row)
        if shape is CHAT:
            either = anthropic.fits_too(row)
            self._either &= either
            return ANTHROPIC if either and ANTHROPIC.name in self._shapes else shape
        if shape is ANTHROPIC and self._either and set(self._shapes) == {CHAT.name}:
            self._shapes = Counter({ANTHROPIC.name: self._shapes.total()})
        return shape

    def _of(self, shape: Shape) -> list[Found]:
        """Count a layout; one that differs from the first is an issue."""
        self._shapes[shape.name] += 1
        first = next(iter(self._shapes))
        if shape.name == first:
            return []
        return [Found("mixed_shapes", "", f"{shape.name}, where the first row is {first}")]

    def _measure(self, line: Line, shape: Shape | None) -> None:
        """Rows with errors are only compared, as they are."""
        said = shape.said(line.row) if shape and line.row else None
        asked, answer = (said.asked, said.answer) if said else (line.row, None)
        try:
            self._repeats.add(line.number, asked, answer)
        except ValueError:
            problem = Found("number", "", "a number beyond 1.8e308 is read as infinite")
            self._tally.add(line.number, (problem,))
            return
        if said is None:
            return
        size = len(line.text)
        self._answers.add(said.answer)
        self._tokens.add(line.number, size, said)
        self._personal.add(line.number, size, said.texts)
        self._tell(self._personal.issues())

    def _tell(self, issues: Any) -> None:
        for number, found in issues:
            self._tally.add(number, (found,))

    def report(
        self, path: str, model: str | None, known: Trainable | None, min_rows: int, epochs: int
    ) -> Report:
        """The whole."""
        self._tell(self._personal.issues(last=True))
        self._tell(self._tokens.issues())
        for count, issues in (
            self._repeats.duplicates(self._keep),
            self._repeats.conflicts(self._keep),
        ):
            for issue in issues:
                self._tally.add(issue.line, (Found(*issue[1:]),))
            if issues:
                self._tally.more(issues[0].code, count - len(issues))
        lengths, answers = self._tokens.lengths(), self._answers.counts()
        self._tally.add(None, self._of_the_whole(model, known, min_rows, answers))
        return Report(
            path=path,
            shape=max(self._shapes, key=self._shapes.__getitem__, default=None),
            lines=self._lines,
            rows=self._rows,
            groups=self._tally.groups(),
            lengths=lengths,
            cost=_cost(model, known, lengths, epochs),
            answers=answers,
            personal=dict(self._personal.counts.most_common()),
        )

    def _of_the_whole(
        self, model: str | None, known: Trainable | None, min_rows: int, answers: dict[str, int]
    ) -> list[Found]:
        found: list[Found] = []
        if not self._rows:
            found.append(Found("no_rows", "", f"{self._lines} lines, none of them a row"))
        elif self._rows < min_rows:
            found.append(Found("few_rows", "", f"{self._rows} rows, {min_rows} are needed"))
        if (
            answers
            and len(answers) > 1
            and (share := max(answers.values()) / sum(answers.values())) > _ONE_SIDED
        ):
            told = f"one of {len(answers)} answers stands in {share:.0%} of the rows"
            found.append(Found("imbalance", "", told))
        if model and known is None:
            told = f"{model}; there are prices and limits for {', '.join(LIMITS)}"
            found.append(Found("not_priced", "", told))
        if known and self._shapes and not _TRAINED_ON & set(self._shapes):
            fields = next(shape.fields for shape in SHAPES if shape.name in self._shapes)
            found.append(Found("other_shape", "", f"rows of {fields}; {model} wants `messages`"))
        return found


def _cost(
    model: str | None, known: Trainable | None, lengths: Lengths | None, epochs: int
) -> Cost | None:
    if model is None or known is None or known.usd_per_million is None or lengths is None:
        return None
    trained = lengths.total * epochs
    usd = (known.usd_per_million * trained / 1_000_000).quantize(Decimal("0.01"))
    return Cost(model, epochs, trained, usd, known.usd_per_million, known.source, known.as_of)

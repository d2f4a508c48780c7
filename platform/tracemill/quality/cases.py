"""Cases: what is asked and what is right, as rows of one frame, from a file, a split or the log.

Their digest names them whatever order they came in: figures compare only where it is the same.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, cast

from tracemill.errors import InputError, UsageError
from tracemill.messages import Message

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.write import Dataset
    from tracemill.finetune.recipe import FineTune
    from tracemill.log import EventLog
    from tracemill.settings import Settings

Form = Literal["text", "messages", "values"]
"""Of an input: words, a conversation, or values for the variables of a prompt."""
FIELDS = ("id", "input", "messages", "expected", "tags")
_SHOWN = 5
_MOST_ID = 200


class Case(NamedTuple):
    """One case as a row: what is no text is JSON."""

    id: str
    input: str
    form: Form
    expected: list[str]
    """Answers that are right, any of them; none where there is nothing to compare with."""
    tags: list[str]


@dataclass(frozen=True, eq=False)
class Cases:
    """A set of cases."""

    name: str
    """Of the file, the split or the view."""
    frame: "pl.DataFrame"
    """Columns: id, input, form (`text`, `messages`, `values`), expected, tags (lists of text)."""
    origin: Literal["file", "split", "log"] = "file"
    """Where they are from."""

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all cases, whatever their order, as 64 hex digits."""
        return digest_of(self.frame)

    def tagged(self, *tags: str) -> Self:
        """The cases with all of these tags. Raises `UsageError` where there is none."""
        import polars as pl

        known = set(self.frame["tags"].explode().drop_nulls())
        if missing := [tag for tag in tags if tag not in known]:
            shown = ", ".join(sorted(known)[:20]) or "none"
            raise UsageError(f"{self.name} has no tag {missing[0]!r}: there are {shown}")
        found = self.frame.filter(pl.all_horizontal(pl.col("tags").list.contains(t) for t in tags))
        if found.is_empty():
            raise UsageError(f"{self.name} has no case with all of {', '.join(tags)}")
        return replace(self, frame=found)

    def sample(self, count: int | None, *, seed: str = "") -> Self:
        """So many cases, chosen by a hash of their ids: the same ones whatever else there is."""
        if count is None or len(self) <= count:
            return self
        ids: list[str] = self.frame["id"].to_list()
        order = [hashlib.blake2b(f"{seed}\0{one}".encode()).digest() for one in ids]
        chosen = sorted(range(len(ids)), key=order.__getitem__)[:count]
        return replace(self, frame=self.frame[sorted(chosen)])


def digest_of(frame: "pl.DataFrame") -> str:
    """SHA-256 over cases, whatever their order, as 64 hex digits; columns as `Cases.frame`."""
    rows = sorted(frame.select(Case._fields).iter_rows())
    whole = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()


def cases_of(name: str, rows: "Iterable[Mapping[str, Any]]", where: str = "entry") -> Cases:
    """Cases of rows with the fields of `FIELDS`.

    `input` is text, a list of messages or an object of values; `expected` text, a list of texts
    that are all right, or other JSON; `tags` a list of texts. Without `id` a case is named by what
    is asked. Raises `InputError` that names each wrong row by its number from 1.
    """
    found, wrong = list[Case](), list[str]()
    for number, row in enumerate(rows, 1):
        try:
            found.append(_case(row))
        except ValueError as error:
            wrong.append(f"{where} {number}: {error}")
    return _checked(name, found, wrong)


def read_set(path: Path) -> Cases:
    """The cases in a JSON Lines file, one object a line; blank lines count for nothing.

    Raises `InputError` that names the lines which are no cases: a set that silently became smaller
    would give other figures.
    """
    found, wrong = list[Case](), list[str]()
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as cases: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_case(_object(line)))
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
    return _checked(path.stem, found, wrong, str(path))


def sets(settings: "Settings") -> dict[str, Path]:
    """The sets in evals/: name -> file."""
    return {path.stem: path for path in sorted(settings.evaluation_sets.glob("[!.]*.jsonl"))}


def named_set(settings: "Settings", name: str) -> Cases:
    """The set of this name in evals/. Raises `UsageError` where there is none."""
    there = sets(settings)
    if name not in there:
        known = ", ".join(there) or "none yet"
        raise UsageError(
            f"there is no set {name!r} in {settings.evaluation_sets}: there are {known}"
        )
    return read_set(there[name])


def of_split(
    settings: "Settings",
    name: str,
    recipe: "FineTune",
    max_cases: int | None = None,
    *,
    split: str = "test",
    dataset: "Dataset | None" = None,
) -> Cases:
    """A split as cases: what the model is asked as in its examples, and the answer that it learns.

    Cases are named by their content, so that one that both versions of a data set have has the
    same id in both. Raises `InputError` where there is no data set.
    """
    from tracemill.finetune.examples import write_examples

    file = write_examples(settings, name, recipe, split, dataset)
    with file.path.open(encoding="utf-8") as lines:
        found = _numbered([_exchange(json.loads(line)) for line in lines])
    return replace(_checked(f"{name}:{split}", found, []), origin="split").sample(max_cases)


def of_view(
    log: "EventLog",
    sql: str,
    parameters: "Mapping[str, Any] | list[Any] | None" = None,
    *,
    name: str = "log",
) -> Cases:
    """Cases of a question to the log, such as calls that people were content with.

    The query gives `input` (text) or `messages` (a conversation, as JSON), `expected`, and perhaps
    `id` and `tags`; it can only read. Raises `UsageError` where it does not run, `InputError` where
    rows are no cases.
    """
    found = log.sql(sql, parameters)
    if "input" not in found.columns and "messages" not in found.columns:
        raise UsageError(
            f"a view of cases needs input or messages, and expected: it has {found.columns}"
        )
    rows = found.select([column for column in FIELDS if column in found.columns])
    return replace(cases_of(name, rows.iter_rows(named=True), "row"), origin="log")


def messages_of(case: Mapping[str, Any]) -> tuple[Message, ...]:
    """What a model is asked: the conversation of a row of cases. Raises `UsageError` for values."""
    if case["form"] == "text":
        return (Message(role="user", content=case["input"]),)
    if case["form"] == "values":
        raise UsageError(f"case {case['id']} holds values: name the prompt that takes them")
    return tuple(_message(turn) for turn in json.loads(case["input"]))


def calls_text(calls: Sequence[tuple[str, str]]) -> str:
    """Calls of functions, name and arguments, as an answer that can be compared; none is empty."""
    if not calls:
        return ""
    return json.dumps([{"name": name, "arguments": _parsed(given)} for name, given in calls])


def said(frame: "pl.DataFrame") -> "pl.Series":
    """What each case asks, as text: of a conversation what was said without system messages, of
    values the values."""
    import polars as pl

    texts = [
        text if form == "text" else _words(json.loads(text))
        for text, form in frame.select("input", "form").iter_rows()
    ]
    return pl.Series("said", texts, dtype=pl.String)


def talks(cases: Cases) -> "pl.Series":
    """Whether a case is a conversation in which a model has spoken."""
    import polars as pl

    spoken = pl.col("input").str.contains('"role": *"assistant"') & (pl.col("form") == "messages")
    return cases.frame.select(spoken.alias("talk")).to_series()


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(str(each) for each in cast("dict[str, Any]", value).values())
    return "\n".join(m["content"] or "" for m in value if m["role"] not in ("system", "developer"))


def _checked(name: str, found: list[Case], wrong: list[str], where: str | None = None) -> Cases:
    import polars as pl

    where = where or name
    twice = [one for one, count in Counter(case.id for case in found).items() if count > 1]
    wrong += [f"the id {one!r} is there more than once" for one in twice]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
        raise InputError(f"{where}: {'; '.join(wrong[:_SHOWN])}{more}")
    if not found:
        raise InputError(f"{where}: there is no case in it")
    texts = pl.List(pl.String)
    kinds = [pl.String, pl.String, pl.String, texts, texts]
    schema = dict(zip(Case._fields, kinds, strict=True))
    return Cases(name, pl.DataFrame(found, schema=schema, orient="row"))


def _object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 (told of the line, as the others)
    return cast("dict[str, Any]", row)


def _case(row: Mapping[str, Any]) -> Case:
    if strange := [name for name in row if name not in FIELDS]:
        raise ValueError(f"there is no field {strange[0]!r}: the fields are {', '.join(FIELDS)}")
    text, form = _input(row)
    expected = _expected(row.get("expected"))
    one = row.get("id")
    if one is None:
        one = _digest(text, expected)
    if isinstance(one, bool) or not isinstance(one, str | int) or not 0 < len(str(one)) <= _MOST_ID:
        raise ValueError(f"id is a text of at most {_MOST_ID} characters, not {one!r:.60}")
    tags: Any = row.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in cast("Any", tags)):
        raise ValueError(f"tags is a list of texts, not {tags!r:.60}")
    return Case(str(one), text, form, expected, cast("list[str]", tags))


def _input(row: Mapping[str, Any]) -> tuple[str, Form]:
    given: Any = row.get("input")
    turns: Any = row.get("messages")
    if (given is None) == (turns is None):
        raise ValueError("it needs input or messages, and not both")
    if turns is None and not isinstance(given, list):
        if isinstance(given, dict):
            return json.dumps(given, ensure_ascii=False), "values"
        if not isinstance(given, str) or not given.strip():
            raise ValueError(f"input is text, messages or an object of values, not {given!r:.60}")
        return given, "text"
    turns = cast(Any, given if turns is None else turns)
    turns = json.loads(turns) if isinstance(turns, str) else turns
    try:
        if not [_message(turn) for turn in turns]:
            raise ValueError("there is no message in it")
    except (UsageError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"messages: {error}") from None
    return json.dumps(turns, ensure_ascii=False), "messages"


def _expected(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        texts = cast("list[Any]", value)
        if all(isinstance(each, str) for each in texts):
            return texts
        raise ValueError("expected as a list is of texts that are all right")
    return [json.dumps(value, ensure_ascii=False, sort_keys=True)]


def _exchange(row: dict[str, Any]) -> Case:
    """An example of a training file as a case."""
    turns: list[dict[str, Any]] = row["messages"]
    asked = [{name: turn[name] for name in turn if name != "weight"} for turn in turns[:-1]]
    answer = turns[-1].get("content")
    calls: Any = turns[-1].get("tool_calls") or []
    made = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    expected = [answer or calls_text(made)]
    text = json.dumps(asked, ensure_ascii=False)
    return Case(_digest(text, expected), text, "messages", expected, [])


def _numbered(found: list[Case]) -> list[Case]:
    """Equal cases get a number behind their id."""
    seen: Counter[str] = Counter()
    named: list[Case] = []
    for case in found:
        seen[case.id] += 1
        again = seen[case.id]
        named.append(case._replace(id=f"{case.id}-{again}") if again > 1 else case)
    return named


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _digest(text: str, expected: Collection[str]) -> str:
    return hashlib.blake2b(json.dumps([text, *expected]).encode(), digest_size=8).hexdigest()


def _message(turn: Mapping[str, Any]) -> Message:
    """A turn in OpenAI's form."""
    from tracemill.messages import Text, ToolCall, ToolResult

    role = "system" if turn["role"] == "developer" else turn["role"]
    text = turn.get("content")
    if role == "tool":
        result = ToolResult(id=str(turn.get("tool_call_id") or ""), response=text or "")
        return Message(role="tool", content=(result,))
    calls: Any = turn.get("tool_calls") or []
    calls = json.loads(calls) if isinstance(calls, str) else calls
    if not calls:
        return Message(role=role, content=text if text is not None else "")
    said = (Text(content=text),) if text else ()
    made = [(call["id"], call["function"]) for call in calls]
    parts = [ToolCall(id=one, name=f["name"], arguments=f["arguments"]) for one, f in made]
    return Message(role=role, content=(*said, *parts))

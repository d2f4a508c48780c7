"""A person's lines in files that were handed to the server, in the results of batches, and in jobs.

A line is theirs where its body names them as its user, where it holds their name or words, and where
a call that was made for them answered it. With a request goes what answers it.
"""

import csv
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic_core import from_json, to_json

from tracemill.errors import InputError, VersionConflict
from tracemill.events import FileStored, new_id
from tracemill.files import sha256_of, write_atomically
from tracemill.jobs.files import REQUESTS
from tracemill.operations import cleansing
from tracemill.operations.traces import Traces
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

_PAGE_BYTES = 1 << 20
_LINES = ("batch", "batch_output", "fine-tune")
_ROWS = (".csv", ".tsv", ".parquet")
_BODIES = ("body", "params", "request")  # OpenAI's batches, Anthropic's, our jobs
_USER = ("user", "safety_identifier", "user_id")
_STORED = """
    SELECT substr(stream, 6) AS file_id,
      coalesce(arg_max(payload ->> '$.filename', position), '') AS filename,
      coalesce(arg_max(payload ->> '$.purpose', position), '') AS purpose
    FROM events WHERE kind = 'file.stored' GROUP BY stream ORDER BY stream
"""
_BATCHES = """
    SELECT max(payload ->> '$.job_id') AS job_id, max(payload ->> '$.input_file_id') AS input,
      max(payload ->> '$.output_file_id') AS output, max(payload ->> '$.error_file_id') AS errors
    FROM events WHERE kind IN ('file_batch.requested', 'file_batch.written') GROUP BY stream
"""
_ANSWERED = """
    SELECT DISTINCT correlation_id AS job_id, metadata ->> '$.custom_id' AS custom_id FROM events
    WHERE stream IN (SELECT 'call:' || unnest(?::VARCHAR[])) AND correlation_id IS NOT NULL
      AND metadata ->> '$.custom_id' IS NOT NULL
"""


class _Stored(NamedTuple):
    """A file as it was handed over or made."""

    file_id: str
    filename: str
    purpose: str

    @property
    def kind(self) -> str:
        """How it can be cut, as the ending of a name; empty where it cannot."""
        suffix = Path(self.filename).suffix.lower()
        if suffix in _ROWS:
            return suffix
        return ".jsonl" if self.purpose in _LINES or suffix in (".jsonl", ".ndjson") else ""


@dataclass(frozen=True)
class Theirs:
    """What makes a line a person's."""

    names: frozenset[str]
    """Their id, also as the guard writes it."""
    traces: Traces
    linked: Mapping[str, frozenset[str | int]]
    """Id of a file -> `custom_id` of its lines that are theirs; id of a job -> numbers of its requests."""

    def which(self, lines: Sequence[str], of: str = "") -> list[bool]:
        """For each of some lines, of a file or a job, whether it is theirs."""
        import polars as pl

        hit = self.traces.which(pl.Series([_unescaped(line) for line in lines], dtype=pl.String))
        linked = self.linked.get(of)
        return [
            found or self.are_users(line) or bool(linked and _link(line) in linked)
            for found, line in zip(hit, lines, strict=True)
        ]

    def are_users(self, line: str) -> bool:
        """Whether a request, one of a batch, or one of a job names them as who asks."""
        if "\\" not in line and not any(name in line for name in self.names):
            return False  # where letters may be escaped only a reader of JSON knows
        record = _record(line)
        for body in (record, *(_fields(record.get(name)) for name in _BODIES)):
            said = [*map(body.get, _USER), _fields(body.get("metadata")).get("user_id")]
            if any(isinstance(each, str | int) and str(each) in self.names for each in said):
                return True
        return False

    def named_in(self, path: Path) -> int:
        """How many lines of a file name them as who asks."""
        return sum(self.are_users(line) for lines in _pages(path) for line in _texts(lines))

    def in_file(self, path: Path) -> int:
        """How many lines, or stretches, of a file hold them."""
        try:
            found = self.traces.in_file(path)
        except InputError:  # not what its first bytes promise: then it is read as text
            found = 0
        of = path.name if path.name in self.linked else path.parent.name
        lines = sum(sum(self.which(_texts(page), of)) for page in _pages(path))
        return max(found, lines)


def of_person(
    log: "EventLog",
    settings: Settings,
    names: Collection[str],
    traces: Traces,
    call_ids: Collection[str],
) -> Theirs:
    """What tells a person's lines, read from the log before that is emptied.

    Args:
        names: their id, and the forms of it that a guard leaves.
        traces: what is looked for anywhere in a line; the ids of their calls among it.
        call_ids: calls that were made for them.
    """
    alone = Theirs(frozenset(names), traces, {})
    of_job: defaultdict[str, set[str]] = defaultdict(set)
    for row in log.arrow(_ANSWERED, [sorted(call_ids)]).to_pylist():
        of_job[row["job_id"]].add(row["custom_id"])
    found: defaultdict[str, set[str | int]] = defaultdict(set)
    for requests in settings.jobs.glob(f"*/{REQUESTS}"):
        hits = (hit for page in _pages(requests) for hit in alone.which(_texts(page)))
        found[requests.parent.name] |= {number for number, hit in enumerate(hits) if hit}
    for batch in log.arrow(_BATCHES).to_pylist():
        given = settings.files / (batch["input"] or "none")
        custom_ids = of_job.get(batch["job_id"] or "", set()) | _custom_ids(alone, given)
        for file_id in filter(None, (batch["input"], batch["output"], batch["errors"])):
            found[file_id] |= custom_ids
    return Theirs(alone.names, traces, {of: frozenset(links) for of, links in found.items()})


def remove(log: "EventLog", settings: Settings, theirs: Theirs) -> int:
    """Take a person's lines out of every file that can be cut, and tell the log their new sizes.

    Returns how many went. What cannot be cut stays for the search to name.
    """
    rows = log.arrow(_STORED).to_pylist()
    stored = [_Stored(row["file_id"], row["filename"], row["purpose"]) for row in rows]
    removed = 0
    # Results first: should this be cut off, the lines that lead to them are still there.
    for each in sorted(stored, key=lambda each: each.purpose != "batch_output"):
        path = settings.files / each.file_id
        if path.is_file():
            if each.kind and theirs.in_file(path):
                removed += _cut(path, each.kind, theirs)
            _tell(log, path, theirs)
    return removed


def _cut(path: Path, kind: str, theirs: Theirs) -> int:
    import polars as pl

    if kind == ".jsonl":
        return _without_lines(path, theirs)
    try:
        return cleansing.without_lines(path, theirs.traces, kind)
    except (ValueError, csv.Error, pl.exceptions.PolarsError):
        return 0  # its name promises what it is not: the search says where it lies


def _without_lines(path: Path, theirs: Theirs) -> int:
    removed = 0

    def write(aside: Path) -> None:
        nonlocal removed
        with aside.open("wb") as file:
            for lines in _pages(path):
                hit = theirs.which(_texts(lines), path.name)
                file.writelines(line for line, gone in zip(lines, hit, strict=True) if not gone)
                removed += sum(hit)
        shutil.copymode(path, aside)

    write_atomically(path, write)
    return removed


def _tell(log: "EventLog", path: Path, theirs: Theirs) -> None:
    """Record the size and the name that a file has now; also where a killed run did not come to it."""
    history = list(log.read(stream=f"file:{path.name}"))
    event = history[-1].event if history else None
    if not isinstance(event, FileStored):
        return
    size = path.stat().st_size
    named = event.filename in theirs.names or theirs.traces.are_in(event.filename)
    if size == event.size_bytes and not named:
        return
    filename = f"forgotten{Path(event.filename).suffix}" if named else event.filename
    now = {"event_id": new_id(), "size_bytes": size, "sha256": sha256_of(path)}
    told = event.model_copy(update={**now, "filename": filename})
    with suppress(VersionConflict):  # somebody has deleted it meanwhile
        log.append(told, expected={told.stream: history[-1].version})


def _custom_ids(theirs: Theirs, path: Path) -> set[str]:
    """Names of the lines that are theirs by themselves."""
    found: set[str | int | None] = set()
    for lines in _pages(path):
        texts = _texts(lines)
        hits = zip(texts, theirs.which(texts), strict=True)
        found |= {_link(line) for line, hit in hits if hit}
    return {name for name in found if isinstance(name, str)}


def _link(line: str) -> str | int | None:
    """What an answer has of its request."""
    record = _record(line)
    link = record.get("custom_id", record.get("index"))
    return link if isinstance(link, str | int) else None


def _record(line: str) -> dict[str, Any]:
    try:
        return _fields(from_json(line))
    except ValueError:
        return {}


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _unescaped(line: str) -> str:
    """A line with its letters as they are besides: JSON may write each of them by its number."""
    record = _record(line) if "\\u" in line else {}
    return f"{line}\n{to_json(record).decode()}" if record else line


def _pages(path: Path) -> Iterator[list[bytes]]:
    """The lines of a file, about a megabyte at a time; none where there is no file."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        while lines := file.readlines(_PAGE_BYTES):
            yield lines


def _texts(lines: Sequence[bytes]) -> list[str]:
    return [line.decode("utf-8", "replace") for line in lines]

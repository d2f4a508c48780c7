"""Forgetting a person: the log, and all that was made of it, without them; then a search proves it.

What can be built again is deleted where it holds the person; the log's events keep their figures, so
that past costs still add up. The log is emptied last: as long as it knows who the person is, a run
that was killed can be begun again.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.errors import InputError, UsageError
from tracemill.events import PersonForgotten
from tracemill.operations import cleansing, uploads
from tracemill.operations.traces import Traces, pieces
from tracemill.operations.uploads import Theirs
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.log import EventLog

Progress = Callable[[str], object]
"""Called with what is done next."""

_SAID = """
    SELECT position, kind, prompt_of(payload -> '$.messages') AS prompt,
      text_of(payload -> '$.content') AS answer,
      coalesce(payload ->> '$.comment', payload ->> '$.question') AS words, conversation_id
    FROM events WHERE position IN (SELECT unnest(?::BIGINT[])) ORDER BY position
"""
_PAGE = 5_000


@dataclass(frozen=True)
class Person:
    """What tells of a person, and where the log has it."""

    positions: tuple[int, ...]
    """Events."""
    events: dict[str, int]
    """Their number by kind."""
    call_ids: frozenset[str]
    """Calls made for the person."""
    traces: Traces
    """Names, conversations, and texts that nobody else's events hold."""
    links: Traces
    """The same and the calls' ids: what was made of a call names it."""


@dataclass(frozen=True)
class Plan:
    """What forgetting would touch."""

    person: Person
    places: dict[str, int]
    """Part of the warehouse -> its files that hold the person."""
    models: tuple[str, ...]
    """Models that were trained on rows of the person."""


def names_of(user_id: str) -> tuple[str, ...]:
    """The id as it was given, and as a log keeps it whose guard replaces personal ids."""
    from tracemill.llm.redaction import Redactor

    kept = Redactor().identity(user_id)
    return tuple(dict.fromkeys((user_id, *([kept] if kept else []))))


def person(log: "EventLog", user_id: str) -> Person:
    """Who is meant, by all that the log has of them. Raises `UsageError` for an empty id."""
    if not user_id.strip() or len(user_id) > 200:
        raise UsageError("a user id has between 1 and 200 characters")
    names = names_of(user_id)
    positions: set[int] = set()
    call_ids: set[str] = set()
    for name in names:
        held = log.of_person(name)
        positions |= {*held.positions}
        call_ids |= {*held.call_ids}
    ordered = tuple(sorted(positions))
    events, texts, talks = _said(log, ordered)
    # A number, or a short word, stands in many files that do not mean the person.
    telling = [name for name in names if len(name) >= 6 and not name.isdigit()]
    alone = _of_nobody_else(log, positions, {*texts, *talks})
    words = [*telling, *(talk for talk in talks if talk in alone)]
    own = sorted(alone & texts)
    return Person(
        ordered, events, frozenset(call_ids), Traces(words, own), Traces([*words, *call_ids], own)
    )


def _said(log: "EventLog", positions: tuple[int, ...]) -> tuple[dict[str, int], set[str], set[str]]:
    """Events by kind, telling pieces of what was said, conversations."""
    kinds: Counter[str] = Counter()
    texts: set[str] = set()
    talks: set[str] = set()
    for first in range(0, len(positions), _PAGE):
        rows = log.arrow(_SAID, [list(positions[first : first + _PAGE])]).to_pylist()
        for row in rows:
            kinds[row["kind"]] += 1
            for column in ("prompt", "answer", "words"):
                texts.update(pieces(row[column] or ""))
            talks |= {row["conversation_id"]} if row["conversation_id"] else set()
    return dict(sorted(kinds.items())), texts, talks


def _of_nobody_else(log: "EventLog", positions: set[int], wanted: set[str]) -> set[str]:
    """Those texts that no other event holds."""
    import polars as pl

    if not wanted:
        return set()
    others = log.frame().filter(~pl.col("position").is_in(sorted(positions)))
    needles = pl.lit(pl.Series(sorted(wanted))).implode()
    found = pl.concat_str("payload", pl.col("conversation_id").fill_null(""), separator="\n")
    shared = others.select(found.str.extract_many(needles, overlapping=True).explode().unique())
    return wanted - set(shared.collect(engine="streaming").to_series().drop_nulls())


def plan(log: "EventLog", settings: Settings, user_id: str, progress: Progress = str) -> Plan:
    """What forgetting this person would touch; changes nothing.

    Raises `InputError` where neither the log nor a file that was handed over names this person.
    """
    known = person(log, user_id)
    theirs = _theirs(log, settings, known, user_id)
    _refuse_unknown(settings, known, theirs, user_id)
    places: Counter[str] = Counter()
    for place, path in _files(settings):
        progress(f"looking through {place}")
        if _found(place, path, _traces(place, known), theirs):
            places[place] += 1
    versions = cleansing.data_sets(settings, known.links)
    return Plan(known, dict(places), cleansing.trained_on(log, versions))


def forget(
    log: "EventLog",
    settings: Settings,
    user_id: str,
    *,
    raw: bool = False,
    backups: bool = False,
    actor: str | None = None,
    progress: Progress = str,
) -> PersonForgotten:
    """Remove all that is known of a person, search for it, and record that it was done.

    Args:
        user_id: the person, as `user_id` of the calls.
        raw: also take the lines and rows that name the person out of files in raw/.
        backups: also delete the copies of the log that hold the person.
        progress: called with what is done next.

    Returns the event that was recorded; its `left` names every place where the person still is.
    """
    log.fold()  # what a killed run has begun to empty is emptied first
    known = person(log, user_id)
    theirs = _theirs(log, settings, known, user_id)
    progress("data sets")
    versions = cleansing.data_sets(settings, known.links)
    models = cleansing.trained_on(log, versions)
    removed = _remove(log, settings, known, theirs, progress, raw=raw, backups=backups)
    if known.positions:
        progress("the log")
        log.erase(known.positions, reason="forgotten", figures=True, actor=actor)
    left, searched = _search(log, settings, known, theirs, progress)
    if left:
        # A build that ran meanwhile may have read the person from the log before it was emptied.
        removed += _remove(log, settings, known, theirs, progress, raw=raw, backups=backups)
        left, searched = _search(log, settings, known, theirs, progress)
    event = PersonForgotten(
        events=known.events,
        removed=dict(sorted(removed.items())),
        rebuild=tuple(place for place in sorted(removed) if place in cleansing.DERIVED),
        models=models,
        searched_files=searched,
        left=left,
        actor=actor,
    )
    log.append(event, durability="power")
    return event


def _theirs(log: "EventLog", settings: Settings, known: Person, user_id: str) -> Theirs:
    return uploads.of_person(log, settings, names_of(user_id), known.links, known.call_ids)


def _remove(
    log: "EventLog",
    settings: Settings,
    known: Person,
    theirs: Theirs,
    progress: Progress,
    *,
    raw: bool,
    backups: bool,
) -> Counter[str]:
    removed: Counter[str] = Counter()
    for place, path in list(_files(settings)):
        progress(f"looking through {place}")
        clean = _cleansed(settings, place, path, theirs, raw=raw, backups=backups)
        traces = _traces(place, known)
        if clean and path.exists() and _found(place, path, traces, theirs):
            removed[place] += clean(traces)
    removed["files"] += uploads.remove(log, settings, theirs)
    return +removed


def _found(place: str, path: Path, traces: Traces, theirs: Theirs) -> int:
    """How much of a person a file holds."""
    if place == "files" or _is_of_job(place, path):
        return theirs.in_file(path)
    return traces.in_file(path)


def _is_of_job(place: str, path: Path) -> bool:
    return place == "jobs" and path.suffix == ".jsonl"


def _cleansed(
    settings: Settings, place: str, path: Path, theirs: Theirs, *, raw: bool, backups: bool
) -> Callable[[Traces], int] | None:
    """What takes a person out of a file; None where the file is not ours to change."""
    if place in cleansing.DERIVED:
        return partial(cleansing.delete, settings, path)
    if place in ("cache", "dagster"):
        return partial(cleansing.empty, path, rows=place == "cache")
    if _is_of_job(place, path):
        return partial(_blanked, path, theirs)
    if place == "raw" and raw:
        return partial(cleansing.without_lines, path)
    if place == "backups" and backups:
        return partial(_without_backup, settings, path)
    return None


def _blanked(path: Path, theirs: Theirs, _: Traces) -> int:
    """Overwrite the lines of a job's file that hold a person, while workers go on with it."""
    from tracemill.jobs.files import blank

    return blank(path, partial(theirs.which, of=path.parent.name))


def _without_backup(settings: Settings, path: Path, _: Traces) -> int:
    shutil.rmtree(settings.backups / path.relative_to(settings.backups).parts[0])
    return 1


def _traces(place: str, known: Person) -> Traces:
    """Calls stay in the log without the person, so that a report may name them."""
    return known.traces if place in ("reports", "dagster", "backups") else known.links


def _search(
    log: "EventLog", settings: Settings, known: Person, theirs: Theirs, progress: Progress
) -> tuple[dict[str, int], int]:
    """Where the person still is, and how many files were read."""
    left: Counter[str] = Counter()
    searched = 0
    for place, path in _files(settings):
        progress(f"searching {place}")
        searched += 1
        found = _found(place, path, known.traces, theirs)
        if found:
            name = place if place not in ("raw", "evals", "files") else f"{place}/{path.name}"
            left[name[:200]] += found
    progress("searching the log")
    for found in _in_log(log, known.traces):
        left["log"] += found
    return {place: count for place, count in sorted(left.items()) if count}, searched


def _in_log(log: "EventLog", traces: Traces) -> Iterator[int]:
    """The log is asked through itself: nobody else may open its journal."""
    import polars as pl

    columns = ["payload", "actor", "user_id", "conversation_id", "metadata", "stream"]
    joined = pl.concat_str([pl.col(name).fill_null("") for name in columns], separator="\n")
    for batch in log.frame().select(joined.alias("text")).collect_batches(chunk_size=_PAGE):
        yield int(traces.which(batch["text"]).sum())


def _files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Every file of the warehouse with the part that it belongs to, but for the log's own; and the
    sets of cases, which may be made of calls."""
    for part in sorted(path for path in settings.warehouse.glob("*") if path.is_dir()):
        if part != settings.log:
            for path in sorted(part.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    yield part.name, path
    if settings.evaluation_sets.is_dir():
        for path in sorted(settings.evaluation_sets.glob("*.jsonl")):
            yield "evals", path


def _refuse_unknown(settings: Settings, known: Person, theirs: Theirs, user_id: str) -> None:
    if not known.positions and not any(map(theirs.named_in, settings.files.glob("*"))):
        raise InputError(
            f"the log has no event of the user {user_id!r}: `tracemill calls --json` shows who is there"
        )

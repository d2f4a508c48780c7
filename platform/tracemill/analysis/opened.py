"""`tracemill.open()`: a warehouse as a notebook holds it, with the questions that people ask first.

Questions about money and failures are in `spending`, replays and lineage in modules of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack, overload

from tracemill.errors import WarehouseNotFound
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.analysis.compared import Plan, Replay
    from tracemill.analysis.failures import Failures
    from tracemill.analysis.lineage import Lineage
    from tracemill.analysis.period import Moment
    from tracemill.analysis.replay import Options
    from tracemill.analysis.table import Table
    from tracemill.llm.prompts import Prompt
    from tracemill.log import EventLog
    from tracemill.log.reading import Parameters


def open(start: Path | str | None = None) -> "Opened":
    """The warehouse that `start` is, or else the nearest one from there upward.

    Args:
        start: a warehouse, or a folder to look from; None: the current one. `TRACEMILL_WAREHOUSE`
            goes before any folder that is not itself a warehouse.

    Raises `WarehouseNotFound`.
    """
    folder = None if start is None else Path(start).expanduser().absolute()
    if folder is not None and (folder / "log").is_dir() and (folder / "README.md").is_file():
        settings = Settings(warehouse=folder)
    else:
        settings = Settings.find(folder)
    if not settings.warehouse.is_dir():
        raise WarehouseNotFound(
            f"no warehouse at {settings.warehouse}: `tracemill init` makes one, "
            "TRACEMILL_WAREHOUSE names another"
        )
    from tracemill.log import EventLog

    return Opened(settings, EventLog.open(settings))


@dataclass(frozen=True, repr=False)
class Opened:
    """A warehouse that is asked."""

    settings: Settings
    log: "EventLog"

    def __repr__(self) -> str:
        return f"{self.settings.warehouse}: {self.log.position():,} events"

    def sql(
        self, query: str, parameters: "Parameters | None" = None, *, until: int | None = None
    ) -> "pl.DataFrame":
        """Ask in SQL, over `events` and the views; see `EventLog.sql`."""
        return self.log.sql(query, parameters, until=until)

    def calls(
        self,
        since: "Moment | None" = None,
        until: "Moment | None" = None,
        *,
        model: str | None = None,
        status: str | None = None,
        user: str | None = None,
        conversation: str | None = None,
        tag: str | None = None,
        prompt: str | None = None,
        limit: int = 1000,
    ) -> "Table":
        """Calls that began in the period, the newest first; columns as the view `calls`.

        Args:
            since: the beginning: `7d`, `2026-11-01`, a date, an aware datetime.
            until: the end, which is not part of it.
            model: as it was asked for.
            status: running, finished, failed, aborted, crashed or cached.
            user: the end user.
            conversation: its id.
            tag: NAME=VALUE, or NAME for all calls that have it.
            prompt: a registered prompt, as NAME or NAME@VERSION.
            limit: how many at most.

        Raises `UsageError` for a status that no call can have, and for what is no period.
        """
        from tracemill.analysis import called
        from tracemill.analysis.period import period

        asked = {
            "model": model,
            "status": status,
            "user": user,
            "conversation": conversation,
            "tag": tag,
            "prompt": prompt,
        }
        return called.calls(self.log, period(since, until), asked, limit)

    def costs(
        self,
        by: str | Sequence[str] = ("day", "model"),
        since: "Moment | None" = None,
        until: "Moment | None" = None,
    ) -> "Table":
        """What calls that ended in the period cost, by the shipped prices of their day.

        Args:
            by: one or several of day, week, month, model, provider, key, user, prompt,
                prompt_version, operation, status, and `tag:NAME`.
            since: the beginning: `7d`, `2026-11-01`, a date, an aware datetime.
            until: the end, which is not part of it.

        Raises `UsageError` for another word in `by`.
        """
        from tracemill.analysis import spending
        from tracemill.analysis.period import period

        return spending.costs(self.log, by, period(since, until))

    def latency(
        self,
        by: str | Sequence[str] = ("model",),
        since: "Moment | None" = None,
        until: "Moment | None" = None,
    ) -> "Table":
        """How long answers took, in milliseconds: percentiles of finished calls; as `costs`."""
        from tracemill.analysis import spending
        from tracemill.analysis.period import period

        return spending.latency(self.log, by, period(since, until))

    def errors(
        self,
        by: str | Sequence[str] = ("model",),
        since: "Moment | None" = None,
        until: "Moment | None" = None,
    ) -> "Table":
        """Which share of calls failed, with Wilson's interval for 95 %; as `costs`.

        `by` may hold `error_type` too: then the share is of all calls of the other keys. A stream
        that its reader stopped did not fail; calls that the cache answered count as calls.
        """
        from tracemill.analysis import spending
        from tracemill.analysis.period import period

        return spending.errors(self.log, by, period(since, until))

    @property
    def failures(self) -> "Failures":
        """Failures like this one, and clusters of them."""
        from tracemill.analysis.failures import Failures

        return Failures(self.log)

    @overload
    def replay(
        self,
        calls: "Table | pl.DataFrame | Sequence[str]",
        model: str | None = None,
        prompt: "str | Prompt | None" = None,
        *,
        dry_run: Literal[False] = False,
        **options: "Unpack[Options]",
    ) -> "Replay": ...
    @overload
    def replay(
        self,
        calls: "Table | pl.DataFrame | Sequence[str]",
        model: str | None = None,
        prompt: "str | Prompt | None" = None,
        *,
        dry_run: Literal[True],
        **options: "Unpack[Options]",
    ) -> "Plan": ...
    def replay(
        self,
        calls: "Table | pl.DataFrame | Sequence[str]",
        model: str | None = None,
        prompt: "str | Prompt | None" = None,
        *,
        dry_run: bool = False,
        **options: "Unpack[Options]",
    ) -> "Replay | Plan":
        """Ask logged calls again and compare in pairs: costs, times, tokens, answers, scores.

        What the log kept of a call is sent again: messages, system text, tools, schema, parameters.
        Each replay is a call in the log, tagged `replay_of`, made by the actor `replay`.

        Args:
            calls: a table or frame with `call_id`, or a list of ids.
            model: another model, as `provider/model`; None: the same.
            prompt: another version of a prompt: NAME, NAME@VERSION, NAME@LABEL, or a `Prompt`. Its
                values are read back out of a call that a registered prompt made; of another call
                the only user message is the value of the only variable.
            dry_run: send nothing and return what it would cost.
            options: variables, expected, scorers, samples, concurrency, seed: see `replay.Options`.

        Raises `UsageError` for calls that are not in the log or were erased, and for values that
        cannot be told; `CallFailed` where no call can succeed, such as without a key.
        """
        from tracemill.analysis.replay import replay
        from tracemill.llm.client import Client

        client = Client(self.log, self.settings)
        try:
            return replay(client, calls, model=model, prompt=prompt, dry_run=dry_run, **options)
        finally:
            client.close()

    def lineage(self, wanted: str) -> "Lineage":
        """Where something came from and what became of it, as a tree.

        Args:
            wanted: the id of a call, the id of a record (`b2:...`, its beginning is enough) or its
                file and line (`faq.jsonl:12`), a model (`ft:local:NAME`, `ft:local:NAME:VERSION`,
                its name alone, or any model that was called), or the id of a fine-tune.

        Raises `UsageError` where nothing has this name, with the nearest that does.
        """
        from tracemill.analysis.lineage import lineage

        return lineage(self.log, self.settings, wanted)

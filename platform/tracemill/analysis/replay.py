"""Ask logged calls again, of another model or by another version of a prompt, and compare in pairs.

Every replay is an ordinary call in the log, tagged `replay_of` and made by the actor `replay`.
"""

import dataclasses
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from tracemill import pii, prices
from tracemill.analysis import asked_again, rerendered
from tracemill.analysis.asked_again import Before
from tracemill.analysis.compared import Plan, Replay, Seen, paired_frame
from tracemill.analysis.table import Table
from tracemill.errors import CallFailed, UsageError
from tracemill.events import new_id
from tracemill.llm.line import labels
from tracemill.messages import Request, Response, Usage, text_of
from tracemill.quality import ask
from tracemill.quality.scorers import Scorer, scorer

if TYPE_CHECKING:
    import polars as pl

    from tracemill.llm.client import Client
    from tracemill.llm.prompts import Prompt
    from tracemill.log import EventLog

Expected = Mapping[str, str | Sequence[str]]
_QUIET_S = 2.0


class Options(TypedDict, total=False):
    """What may be said of a replay besides."""

    variables: Mapping[str, Mapping[str, Any]] | None
    """Call -> values for the prompt, where they cannot be read back."""
    expected: Expected | None
    """Call -> what is right, one text or several; without it answers are held against the logged
    ones, which says how often they agree."""
    scorers: Sequence[str | Scorer]
    """Figures: names of those in `quality.scorers`, or your own; `normalised` by default."""
    samples: int
    """How often each call is asked, 1 by default; its figures are the mean."""
    concurrency: int
    """Calls under way at a time, 4 by default; always 1 for models that run here."""
    seed: int
    """Of the resampling behind the intervals, 0 by default."""


@dataclass(frozen=True)
class _Asking:
    """One request, and the call that it repeats."""

    before: Before
    request: Request
    sample: int


def replay(
    client: "Client",
    calls: "Table | pl.DataFrame | Sequence[str]",
    *,
    model: str | None = None,
    prompt: "str | Prompt | None" = None,
    dry_run: bool = False,
    **options: Unpack[Options],
) -> Replay | Plan:
    """See `Opened.replay`."""
    _check(options)
    variables, expected = options.get("variables"), options.get("expected")
    samples, concurrency = options.get("samples", 1), options.get("concurrency", 4)
    scorers, seed = options.get("scorers", ("normalised",)), options.get("seed", 0)
    chosen = [scorer(each) if isinstance(each, str) else each for each in scorers]
    _check_scorers(chosen)
    log = client.log
    found = asked_again.find(log, ids_of(calls), datetime.now(UTC))
    to_ask = _asked(log, found.calls, model, prompt, variables, samples)
    about: dict[str, Any] = {
        "model": model,
        "prompt": _named(to_ask, prompt),
        "left_out": found.left_out,
        "redacted": sum(each.redacted for each in found.calls),
    }
    if dry_run:
        return _planned(log, to_ask, about)
    if not to_ask:
        raise UsageError(f"no call can be replayed: {_reasons(found.left_out)}")
    replay_id = new_id()
    seen = _answers(client, to_ask, replay_id, concurrency)
    frame = paired_frame(found.calls, seen, chosen, expected)
    return Replay.of(
        frame,
        chosen,
        replay_id=replay_id,
        samples=samples,
        seed=seed,
        given=expected is not None,
        **about,
    )


def ids_of(calls: "Table | pl.DataFrame | Sequence[str]") -> list[str]:
    """The calls that are meant, each once. Raises `UsageError` for what names none."""
    import polars as pl

    frame = calls.frame if isinstance(calls, Table) else calls
    if isinstance(frame, pl.DataFrame):
        if "call_id" not in frame.columns:
            raise UsageError(
                f"calls are told by a column call_id; there are {', '.join(frame.columns)}"
            )
        return frame["call_id"].drop_nulls().unique(maintain_order=True).to_list()
    if isinstance(frame, str):
        return [frame]
    return list(dict.fromkeys(frame))


def _check(options: Options) -> None:
    if unknown := options.keys() - Options.__annotations__.keys():
        known = ", ".join(Options.__annotations__)
        raise UsageError(f"a replay has no option {', '.join(sorted(unknown))}: it has {known}")
    samples, concurrency = options.get("samples", 1), options.get("concurrency", 4)
    if samples < 1 or concurrency < 1:
        raise UsageError(f"samples and concurrency are 1 or more, not {samples} and {concurrency}")


def _check_scorers(scorers: Sequence[Scorer]) -> None:
    for each in scorers:
        if each.score is None:
            raise UsageError(f"{each.name} is measured of models and not of answers: leave it out")
    names = [each.name for each in scorers]
    if len(set(names)) < len(names):
        raise UsageError(f"each scorer is given once, not {', '.join(names)}")


def _asked(
    log: "EventLog",
    calls: Sequence[Before],
    model: str | None,
    named: "str | Prompt | None",
    variables: Mapping[str, Mapping[str, Any]] | None,
    samples: int,
) -> list[_Asking]:
    prompt = ask.registered(log, named) if isinstance(named, str) else named
    if variables is not None and prompt is None:
        raise UsageError("variables are values for a prompt: give prompt= as well")
    found: list[_Asking] = []
    for before in calls:
        to = model or asked_again.model_of(before.started)
        for sample in range(samples):
            tags = {"replay_of": before.call_id, "sample": str(sample)}
            request = asked_again.request_of(before, to, tags)
            if prompt is not None:
                request = rerendered.rendered(log, before, prompt, variables, request)
            found.append(_Asking(before, request, sample))
    return found


def _named(to_ask: Sequence[_Asking], prompt: "str | Prompt | None") -> str | None:
    if prompt is None or not to_ask:
        return None
    asked = to_ask[0].request
    return f"{asked.prompt_name}@{(asked.prompt_version or '')[:8]}"


def _answers(
    client: "Client", to_ask: Sequence[_Asking], replay_id: str, concurrency: int
) -> list[Seen]:
    """What came of each request; a failed call is an answer that is missing."""
    # Whether an answer keeps to a schema is measured here, not repaired.
    guard = client.guard and dataclasses.replace(client.guard, check_schema=False)
    here = all(labels(each.request.model).provider == "local" for each in to_ask)

    def one(each: _Asking) -> Seen:
        try:
            said = client.generate(
                each.request, actor="replay", correlation_id=replay_id, guard=guard
            )
        except CallFailed as error:
            if error.error_type in ask.HOPELESS:
                raise
            return Seen(each.before.call_id, "failed", None, error.error_type, error.call_id)
        return _seen(each.before.call_id, said)

    tasks: list[Callable[[], Seen]] = [lambda each=each: one(each) for each in to_ask]
    with _progress(len(tasks)) as advance:
        return ask.gathered(tasks, 1 if here else concurrency, advance)


def _seen(call_id: str, said: Response) -> Seen:
    # As the log has it: the answer of before lost its personal data too.
    text = pii.redact(said.text).text or None
    usd, usage = said.cost_usd, said.usage
    return Seen(
        call_id, "finished", text, None, said.call_id, said.latency_ms, usage.input_tokens,
        usage.output_tokens, None if usd is None else float(usd),
    )  # fmt: skip


def _planned(log: "EventLog", to_ask: Sequence[_Asking], about: Mapping[str, Any]) -> Plan:
    """What it would cost, by the tokens of before; of other messages, by a count of their own."""
    import polars as pl

    written = [each.before.usage.output_tokens for each in to_ask if each.before.usage]
    usual = round(sum(written) / len(written)) if written else 0
    rows: list[tuple[str, str, int, int, float | None]] = []
    for each in to_ask:
        usage = _expected(each, usual)
        named = labels(each.request.model)
        now = datetime.now(UTC)
        usd = prices.cost(named.provider, named.model, usage, now, table=log.prices).usd
        cost = None if usd is None else float(usd)
        rows.append(
            (each.before.call_id, each.request.model, usage.input_tokens, usage.output_tokens, cost)
        )
    schema = {
        "call_id": pl.String,
        "model": pl.String,
        "input_tokens": pl.Int64,
        "output_tokens": pl.Int64,
        "cost_usd": pl.Float64,
    }
    return Plan(pl.DataFrame(rows, schema=schema, orient="row"), **about)


def _expected(each: _Asking, usual: int) -> Usage:
    from tracemill import tokenizer

    usage = each.before.usage
    same = each.request.messages == each.before.started.messages
    if same and usage and usage.input_tokens:
        read = usage.input_tokens
    else:
        texts = [each.request.system or "", *(text_of(m.content) for m in each.request.messages)]
        read = sum(map(tokenizer.count, texts))
    return Usage(input_tokens=read, output_tokens=usage.output_tokens if usage else usual)


def _reasons(left_out: Mapping[str, str]) -> str:
    return "; ".join(sorted(set(left_out.values()))) or "there is none"


@contextmanager
def _progress(total: int) -> Generator[Callable[[int], None]]:
    """A bar, once it has taken two seconds."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    shown = console.is_terminal or console.is_jupyter
    bar = Progress(console=console, transient=True, disable=not shown)
    task, begun, running = bar.add_task("replaying", total=total), time.monotonic(), False

    def advance(done: int) -> None:
        nonlocal running
        bar.advance(task, done)
        if shown and not running and time.monotonic() - begun > _QUIET_S:
            bar.start()
            running = True

    try:
        yield advance
    finally:
        if running:
            bar.stop()

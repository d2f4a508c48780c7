"""Measure pricing: a log repriced by its views, beside genai-prices' own calculator.

    python -m benchmarks.prices [--quick]

Prints tables and writes `results/prices.md`. Nothing here passes or fails.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from genai_prices import Usage as TheirUsage
from genai_prices import calc_price

from benchmarks import report
from benchmarks.questions import seconds
from benchmarks.report import Table, console
from tracemill import prices
from tracemill.events import Happened, LlmCallAborted, LlmCallFinished, new_id
from tracemill.log import EventLog
from tracemill.messages import Usage

SCRATCH = report.ROOT / "warehouse"
MODELS = (
    *(("openai", m) for m in ("gpt-4.1", "gpt-4o-mini", "gpt-5.4", "gpt-5.6-luna", "gpt-6-sol")),
    *(("anthropic", m) for m in ("claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-5-5")),
    *(("gcp.gemini", m) for m in ("gemini-2.5-pro", "gemini-3.8-flash", "gemini-2.5-flash-lite")),
    *(("cohere", m) for m in ("command-a", "command-r7b-12-2024")),
    *(("mistral_ai", m) for m in ("mistral-large-latest", "codestral-latest")),
    *(("deepseek", m) for m in ("deepseek-chat", "deepseek-v4-flash")),
    *(("openrouter", m) for m in ("openai/gpt-5.4", "anthropic/claude-sonnet-5.5")),
    ("x_ai", "grok-4.5"),
)
TIERS = (None, None, "default", "batch", "flex", "priority")
THEIR_NAMES = {"gcp.gemini": "google", "mistral_ai": "mistral", "x_ai": "x-ai"}
DAYS = 60
FIRST = datetime(2026, 10, 1, tzinfo=UTC)
BY_MODEL_AND_DAY = """
    SELECT day, provider, request_model, count(*) AS calls, sum(repriced_usd) AS usd
    FROM call_costs GROUP BY ALL
"""
_BATCH = 1_000


def calls(number: int, seed: int = 0) -> Iterator[LlmCallFinished | LlmCallAborted]:
    """Calls across models, service tiers, days and cache kinds; one in twenty was aborted."""
    draw = random.Random(seed)
    for i in range(number):
        provider, model = MODELS[int(draw.random() ** 2 * len(MODELS))]
        read, written = int(10 ** draw.uniform(1, 5.6)), int(10 ** draw.uniform(0, 4))
        cached = int(read * draw.random()) if draw.random() < 0.5 else 0
        stored = int((read - cached) * draw.random()) if draw.random() < 0.2 else 0
        usage = Usage(
            input_tokens=read,
            output_tokens=written,
            cache_read_input_tokens=cached,
            cache_write_input_tokens=stored,
            cache_write_1h_input_tokens=stored // 2,
            reasoning_output_tokens=written // 3,
        )
        shared = {
            "call_id": new_id(),
            "provider": provider,
            "request_model": model,
            "response_model": model,
            "service_tier": draw.choice(TIERS),
            "content": "",
            "usage": usage,
            "latency_ms": 1.0,
            "occurred_at": FIRST + timedelta(days=DAYS) * (i / number),
        }
        if draw.random() < 0.05:
            yield LlmCallAborted(error_type="connection", error_message="cut", **shared)
        else:
            yield LlmCallFinished(finish_reasons=("stop",), **shared)


def main() -> None:
    """Fill a log, ask it, ask genai-prices, and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prices", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls")
    total = 100_000 if parser.parse_args().quick else 1_000_000
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=SCRATCH))
    try:
        with console.status("measuring"):
            tables = [repriced(scratch, total), one_at_a_time()]
    finally:
        shutil.rmtree(scratch)
    for table in tables:
        table.show()
    flags = "".join(f" {argument}" for argument in sys.argv[1:])
    heading = f"`python -m benchmarks.prices{flags}` on {report.machine()}; {time.monotonic() - began:,.0f} s."
    console.print(heading)
    path = report.write("prices", heading, tables)
    if not flags:
        report.quote("prices", path.read_text(encoding="utf-8"))


def repriced(scratch: Path, total: int) -> Table:
    """A whole log by today's prices."""
    with EventLog(scratch / "log") as log:
        filled_s = seconds(lambda: _fill(log, calls(total)))
        questions = {
            "repriced, grouped by model and day (call_costs)": BY_MODEL_AND_DAY,
            "FROM costs_by_day (tokens, recorded and saved dollars too)": "FROM costs_by_day",
            "as recorded, grouped by model and day (no repricing)": (
                "SELECT CAST(occurred_at AS DATE) AS day, request_model, sum(cost_usd) FROM events "
                "WHERE kind IN ('llm.call.finished', 'llm.call.aborted') GROUP BY ALL"
            ),
        }
        first_s = seconds(lambda: log.sql(BY_MODEL_AND_DAY))
        rows = [_row(name, lambda query=query: log.sql(query)) for name, query in questions.items()]
        checked = _agreement(log, 2_000, total)
    their_s = _theirs(list(calls(2_000)))
    rows.append(("genai-prices, one call after the other *", f"{their_s * total:,.0f} s", "-"))
    return Table(
        f"{total:,} calls of {len(MODELS)} models over {DAYS} days",
        ("", "fastest", "median"),
        rows,
        f"The first question took {first_s * 1e3:,.0f} ms: it loads the table of prices. Filling took "
        f"{filled_s:,.0f} s. {checked} * Extrapolated from 2,000 calls at "
        f"{their_s * 1e6:,.0f} us each; without reading the log and without grouping.",
    )


def one_at_a_time() -> Table:
    """What the client pays for each call."""
    made = list(calls(5_000))
    _ours(made)
    ours_s, theirs_s = (min(price(made) for _ in range(3)) for price in (_ours, _theirs))
    return Table(
        "The price of one call",
        ("", "a call"),
        [
            ("prices.cost", report.microseconds(ours_s)),
            ("genai_prices.calc_price", report.microseconds(theirs_s)),
        ],
    )


def _fill(log: EventLog, events: Iterator[Happened]) -> None:
    batch: list[Happened] = []
    for event in events:
        batch.append(event)
        if len(batch) == _BATCH:
            log.append(batch)
            batch = []
    log.append(batch)
    log.fold()
    log.compact()
    log.gc(grace_s=0)


def _row(name: str, ask: Callable[[], object], times: int = 9) -> tuple[str, str, str]:
    ask()
    took = sorted(seconds(ask) for _ in range(times))
    return name, f"{took[0] * 1e3:,.0f} ms", f"{took[times // 2] * 1e3:,.0f} ms"


def _ours(made: Sequence[LlmCallFinished | LlmCallAborted]) -> float:
    def price() -> None:
        for call in made:
            names = (call.response_model, call.request_model)
            prices.cost(
                call.provider, names, call.usage, call.occurred_at, service_tier=call.service_tier
            )

    return seconds(price) / len(made)


def _theirs(made: Sequence[LlmCallFinished | LlmCallAborted]) -> float:
    return seconds(lambda: [_their_cost(call) for call in made]) / len(made)


def _their_cost(call: LlmCallFinished | LlmCallAborted) -> Decimal:
    usage = TheirUsage(
        input_tokens=call.usage.input_tokens,
        output_tokens=call.usage.output_tokens,
        cache_read_tokens=call.usage.cache_read_input_tokens,
        cache_write_tokens=call.usage.cache_write_input_tokens,
        cache_write_1h_tokens=call.usage.cache_write_1h_input_tokens,
        output_reasoning_tokens=call.usage.reasoning_output_tokens,
    )
    key = "processing" if call.service_tier == "batch" else "service_tier"
    return calc_price(
        usage,
        call.response_model,
        provider_id=THEIR_NAMES.get(call.provider, call.provider),
        genai_request_timestamp=call.occurred_at,
        price_context={key: call.service_tier} if call.service_tier else None,
    ).total_price


def _agreement(log: EventLog, sample: int, total: int) -> str:
    """Our view's figures beside theirs, for calls that lie evenly in the log."""
    wanted: dict[str, Decimal] = {}
    for record in log.read(kinds=["llm.call.finished", "llm.call.aborted"]):
        call = record.event
        assert isinstance(call, LlmCallFinished | LlmCallAborted)
        if record.position % (total // sample) == 0:
            wanted[call.call_id] = _their_cost(call)
    asked = log.sql(
        "SELECT call_id, repriced_usd FROM call_costs WHERE list_contains(?, call_id)",
        [list(wanted)],
    )
    nano = Decimal(1).scaleb(-9)
    found: dict[str, Decimal] = dict(asked.rows())
    wrong = [key for key, usd in wanted.items() if found[key].quantize(nano) != usd.quantize(nano)]
    return (
        f"Of {len(wanted):,} calls drawn from {total:,}, {len(wanted) - len(wrong):,} cost the same "
        "in genai-prices, to the nano-dollar."
    )


if __name__ == "__main__":
    main()

"""What a call costs the caller beside raw httpx, OpenAI's SDK and LiteLLM, in one run.

    python -m benchmarks.llm_overhead [--quick]

All call the same local server, which answers at once. Ours has everything on: the log, the guard,
the price, a budget and a rate limit. Prints tables and writes `results/llm_overhead.md`, which the
README quotes. Nothing here passes or fails.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from benchmarks import report
from benchmarks.report import Table, console, microseconds, number, quantile
from tracemill import EventLog, Request
from tracemill.llm.client import Client
from tracemill.llm.limits import Limits

PEERS = Path(__file__).parent / "peers"
# About as long as a short question with its instructions.
PROMPT = "Answer from the passage alone: folding seals the tail of the journal into segments. " * 11
ROUNDS = 4
WARM_UP = 50
LIMITS = {
    "openai": Limits(
        requests_per_minute=10_000_000,
        tokens_per_minute=10_000_000_000,
        usd_per_day=Decimal(1_000_000),
    )
}
Answer = Callable[[str], str]


def main() -> None:
    """Run everything and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_overhead", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    options = parser.parse_args()
    calls = 50 if options.quick else 500
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=report.ROOT / "warehouse"))
    try:
        with _model() as url:
            tables = [
                _one_by_one(url, scratch, calls),
                _together(url, scratch, calls * 4),
                _imports(),
            ]
    finally:
        shutil.rmtree(scratch)
    heading = (
        f"`python -m benchmarks.llm_overhead` on {report.machine()}, httpx {httpx.__version__}; "
        f"{time.monotonic() - began:,.0f} s."
    )
    for table in tables:
        table.show()
    console.print(heading)
    path = report.write("llm_overhead", heading, tables)
    if not options.quick:
        report.quote("llm_overhead", path.read_text(encoding="utf-8"))


@contextmanager
def _model() -> Generator[str]:
    command = [sys.executable, "-m", "benchmarks.model_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=report.ROOT) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.terminate()


def _one_by_one(url: str, scratch: Path, calls: int) -> Table:
    """Blocking calls, one after the other, the ways taking turns."""
    os.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "benchmark"}
    ways: dict[str, Answer] = {
        "raw httpx: post and json": _raw(url),
        "**tracemill**, everything on": _ours(scratch / "on"),
        "tracemill without the guard": _ours(scratch / "off", guard=None),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    prompt_file = scratch / "prompt.txt"
    prompt_file.write_text(PROMPT, encoding="utf-8")
    for _ in range(ROUNDS):
        for name, answer in ways.items():
            took[name] += _timed(answer, calls)
        for name, script in (("openai SDK", "openai_call.py"), ("LiteLLM", "litellm_call.py")):
            told = _peer(script, url, prompt_file, calls)
            took.setdefault(name, []).extend(told["took_s"] if told else [])
    base = _quantiles(took["raw httpx: post and json"])[0]
    rows = [
        (name, *map(microseconds, (p50, p95)), f"{(p50 - base) * 1000:+.2f} ms")
        for name, times in took.items()
        if times
        for p50, p95 in [_quantiles(times)]
    ]
    return Table(
        "One call after the other",
        ("way", "p50", "p95", "p50 over raw httpx"),
        rows,
        f"{ROUNDS} rounds of {calls} calls each, the ways taking turns; a prompt of "
        f"{len(PROMPT):,} characters. Everything on: two events in the log, the guard with its "
        "redaction, price, budget and rate limit. The others record nothing.",
    )


def _raw(url: str) -> Answer:
    client = httpx.Client(headers={"authorization": "Bearer benchmark"})

    def answer(prompt: str) -> str:
        body = {
            "model": "gpt-5.4-mini",
            "messages": [{"role": "user", "content": prompt}],
            "max_completion_tokens": 200,
        }
        reply = client.post(f"{url}/chat/completions", json=body).json()
        return reply["choices"][0]["message"]["content"]

    return answer


def _ours(folder: Path, **more: Any) -> Answer:
    client = Client(EventLog(folder), limits=LIMITS, **more)

    def answer(prompt: str) -> str:
        request = Request.of(prompt, model="openai/gpt-5.4-mini", max_output_tokens=200)
        return client.generate(request).text

    return answer


def _timed(answer: Answer, calls: int) -> list[float]:
    for _ in range(WARM_UP):
        assert answer(PROMPT).startswith("The log seals")
    took: list[float] = []
    for _ in range(calls):
        before = time.perf_counter()
        answer(PROMPT)
        took.append(time.perf_counter() - before)
    return took


def _quantiles(times: list[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return quantile(ordered, 0.5), quantile(ordered, 0.95)


def _peer(script: str, url: str, prompt_file: Path, calls: int) -> dict[str, Any] | None:
    uv = shutil.which("uv", path=f"{os.environ.get('PATH', '')}:{report.ROOT / '.uv' / 'bin'}")
    if uv is None:
        console.print(f"{script} is left out: no uv on the PATH or in .uv/")
        return None
    command = [uv, "run", "--quiet", "--no-project", "--script", str(PEERS / script)]
    arguments = [url, str(prompt_file), str(calls)]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        console.print(f"{script} is left out: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _together(url: str, scratch: Path, calls: int) -> Table:
    """Calls a second with 1, 16 and 64 in flight."""

    async def rate(ask: Callable[[], Awaitable[object]], in_flight: int) -> float:
        async def worker() -> None:
            for _ in range(calls // in_flight):
                await ask()

        await ask()
        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return (calls // in_flight) * in_flight / (time.perf_counter() - began)

    async def measure() -> list[tuple[str, ...]]:
        ours = Client(EventLog(scratch / "together"), limits=LIMITS)
        request = Request.of(PROMPT, model="openai/gpt-5.4-mini", max_output_tokens=200)
        body = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": PROMPT}]}
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
        async with httpx.AsyncClient(limits=limits) as raw:

            async def post() -> object:
                return (await raw.post(f"{url}/chat/completions", json=body)).json()

            rows = [("raw httpx, async", *[number(await rate(post, n)) for n in (1, 16, 64)])]
        figures = [number(await rate(lambda: ours.agenerate(request), n)) for n in (1, 16, 64)]
        await ours.aclose()
        return [*rows, ("**tracemill**, everything on", *figures)]

    columns = ("calls a second, in flight:", "1", "16", "64")
    return Table("Many calls at once", columns, asyncio.run(measure()))


def _imports() -> Table:
    """Seconds until a name can be used, in a process of its own, the best of five."""

    def best(code: str) -> str:
        took: list[float] = []
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        for _ in range(6):
            before = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            took.append(time.perf_counter() - before)
        return microseconds(min(took[1:]))

    rows = [
        (name, best(code))
        for name, code in (
            ("`python -c pass`", "pass"),
            ("`import tracemill`", "import tracemill"),
            ("`from tracemill import Client`", "from tracemill import Client"),
            ("`import httpx`", "import httpx"),
        )
    ]
    return Table("Imports", ("process", "best of five"), rows)


if __name__ == "__main__":
    main()

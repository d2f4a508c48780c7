"""Two hundred streams at once whose readers hang up when they like, over an upstream that fails.

    python -m benchmarks.hangups [--seconds 60] [--streams 200]

Then looks for what was left behind: memory, sockets, reservations; calls without an end or with two;
budgets that do not say what the log says. Prints a table; the exit code is 1 where something is wrong.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import psutil

from benchmarks import report
from benchmarks.gateway import free_port, wait
from benchmarks.report import Table, console

TRACEMILL = Path(sys.executable).parent / "tracemill"


def main() -> None:
    """Torment, then look."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hangups", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="tracemill-hangups-"))
    try:
        rows, wrong = tormented(scratch, options.seconds, options.streams, options.seed)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    Table("Streams whose readers hang up", ("what", "found"), rows).show()
    for each in wrong:
        console.print(f"wrong: {each}")
    sys.exit(bool(wrong))


def tormented(
    folder: Path, seconds: float, streams: int, seed: int
) -> tuple[list[tuple[str, str]], list[str]]:
    """What was seen, and what of it is wrong.

    Args:
        folder: for the warehouse.
        seconds: for how long.
        streams: how many at once.
    """
    with _process([sys.executable, "-m", "benchmarks.flaky_model", str(seed)], {}) as upstream:
        assert upstream.stdout is not None
        place = f"http://127.0.0.1:{upstream.stdout.readline().decode().strip()}/v1"
        environment = {
            "TRACEMILL_WAREHOUSE": str(folder / "warehouse"),
            "OPENAI_BASE_URL": place,
            "OPENAI_API_KEY": "torment",
            "TRACEMILL_LLM_CONNECTIONS": str(streams * 2),
        }
        key = _prepared(environment)
        port = free_port()
        command = [str(TRACEMILL), "serve", "--port", str(port), "--quiet"]
        with _process(command, environment) as server:
            wait(f"http://127.0.0.1:{port}/healthz", server)
            process = psutil.Process(server.pid)
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            told = asyncio.run(_load(url, key, seconds, streams, seed, process))
            _settled(process, port)
            told["sockets after"] = len(_of_callers(process, port))
            told["MB after"] = process.memory_info().rss / 1e6
            server.terminate()
            told["exit code"] = server.wait(60)
    return _judged(told, environment)


def _prepared(environment: dict[str, str]) -> str:
    def told(*command: str) -> str:
        done = subprocess.run(
            [TRACEMILL, *command], env=os.environ | environment, capture_output=True, check=True
        )
        return done.stdout.decode()

    told("init")
    key = json.loads(told("keys", "create", "torment", "--json"))["secret"]
    told("budgets", "set", "all", "--key", "*", "--usd", "1000000", "--per", "month")
    return key


async def _load(
    url: str, key: str, seconds: float, streams: int, seed: int, process: psutil.Process
) -> dict[str, Any]:
    chance = random.Random(seed)
    told: dict[str, Any] = {"whole": 0, "hung up": 0, "failed": 0, "refused": 0}
    deadline = time.monotonic() + seconds
    body = {
        "model": "gpt-5.4-mini",
        "messages": [{"role": "user", "content": "Say thirty pieces. " * 8}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    async def one(session: aiohttp.ClientSession) -> None:
        patience = chance.choice((10**6, 10**6, chance.randrange(1, 30)))
        async with session.post(url, json=body) as answer:
            if answer.status != 200:
                told["refused"] += 1
                return
            lines = 0
            async for line in answer.content:
                lines += line.startswith(b"data: ")
                if lines > patience:
                    told["hung up"] += 1
                    answer.close()
                    return
                if line.startswith(b"data: [DONE]"):
                    told["whole"] += 1
                    return
            told["failed"] += 1

    async def many() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            while time.monotonic() < deadline:
                await one(session)

    async def watch() -> None:
        await asyncio.sleep(min(10.0, seconds / 3))
        told["MB early"] = process.memory_info().rss / 1e6
        told["sockets early"] = len(_of_callers(process, urlsplit(url).port or 0))

    await asyncio.gather(watch(), *(many() for _ in range(streams)))
    return told


def _of_callers(process: psutil.Process, port: int) -> list[Any]:
    """Connections of those who ask; those to the provider are kept for the next call."""
    return [
        each
        for each in process.net_connections()
        if each.status == "ESTABLISHED" and each.laddr and each.laddr.port == port
    ]


def _settled(process: psutil.Process, port: int) -> None:
    """Wait until the server has noticed that everybody has gone."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and _of_callers(process, port):
        time.sleep(0.2)


def _judged(
    told: dict[str, Any], environment: dict[str, str]
) -> tuple[list[tuple[str, str]], list[str]]:
    from tracemill.access.budgets import Budgets
    from tracemill.log import EventLog

    log = EventLog(Path(environment["TRACEMILL_WAREHOUSE"]) / "log")
    calls = log.arrow(
        "SELECT stream, count(*) FILTER (is_end(kind)) AS ends FROM events "
        "WHERE kind LIKE 'llm.call.%' GROUP BY stream"
    ).to_pylist()
    [spent] = log.arrow(
        "SELECT coalesce(sum(cost_usd), 0) AS usd, "
        "coalesce(sum(input_tokens + output_tokens), 0)::BIGINT AS tokens "
        "FROM events WHERE is_end(kind) AND kind IN ('llm.call.finished', 'llm.call.aborted')"
    ).to_pylist()
    ends = log.arrow(
        "SELECT substr(kind, 10) || coalesce(': ' || error_type, '') AS how, count(*) AS calls "
        "FROM events WHERE is_end(kind) GROUP BY ALL ORDER BY calls DESC"
    ).to_pylist()
    [budget] = Budgets(log).all()
    wrong = [
        *(f"{call['stream']} has {call['ends']} ends" for call in calls if call["ends"] != 1),
        *([f"exit code {told['exit code']}"] if told["exit code"] else []),
        *([f"{told['sockets after']} sockets are left"] if told["sockets after"] else []),
    ]
    if told["MB after"] > told["MB early"] * 1.5 + 20:
        wrong.append(f"memory grew from {told['MB early']:.0f} to {told['MB after']:.0f} MB")
    if budget.spent_usd != spent["usd"]:
        wrong.append(f"the budget says {budget.spent_usd} USD, the log {spent['usd']}")
    if budget.reserved_usd:
        wrong.append(f"{budget.reserved_usd} USD are still reserved")
    rows = [(name, f"{value:,.0f}") for name, value in told.items()]
    rows += [(f"calls {each['how']}", f"{each['calls']:,}") for each in ends]
    return rows, wrong[:20]


@contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """A process that does not outlive its block."""
    with subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.PIPE if "-m" in command else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=report.ROOT,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


if __name__ == "__main__":
    main()

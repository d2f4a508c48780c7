"""The server is killed at any moment: what it had acknowledged is in the log, once."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.llm.serving import Server
from tracemill.access.keys import Keys
from tracemill.log import EventLog
from tracemill.settings import Settings

FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
KILLS = 100 if FULL else 4
TRACEMILL = Path(sys.executable).parent / "tracemill"
BODY = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "Say hello."}]}


def started(settings: Settings) -> tuple[subprocess.Popen[str], str]:
    """The server as users start it; its address, once it takes requests."""
    process = subprocess.Popen(
        [TRACEMILL, "serve", "--port", "0", "--quiet"],
        env=os.environ | {"TRACEMILL_WAREHOUSE": str(settings.warehouse)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as told:
        line = told.readline()
    return process, line.split()[2].rstrip(":")


async def load(url: str, secret: str, process: subprocess.Popen[str], after: int) -> set[str]:
    """Ids of calls that were answered; after so many the server is killed, with others under way."""
    answered: set[str] = set()
    headers = {"authorization": f"Bearer {secret}"}

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        while process.poll() is None:
            try:
                body = {**BODY, "stream": number % 2 == 0}
                answer = await client.post(f"{url}/v1/chat/completions", json=body)
            except httpx.HTTPError:
                return
            assert answer.status_code == 200, answer.text
            whole = number % 2 or answer.text.rstrip().endswith("[DONE]")
            if whole:
                answered.add(answer.headers["x-tracemill-call-id"])
            if len(answered) >= after:
                process.send_signal(signal.SIGKILL)
                return

    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        await asyncio.gather(*(ask(client, number) for number in range(6)))
    return answered


def test_nothing_that_was_acknowledged_is_lost_or_doubled(tmp_path: Path, upstream: Server) -> None:
    chance = random.Random(5)
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    answered: set[str] = set()
    made: set[str] = set()
    for _ in range(KILLS):
        with EventLog.open(settings) as log:
            key, secret = Keys(log).create(f"key {len(made)}")
        made.add(key.key_id)
        process, url = started(settings)
        answered |= asyncio.run(
            load(url, secret.get_secret_value(), process, chance.randrange(1, 40))
        )
        assert process.wait(30) == -signal.SIGKILL
    # The next server buries what the killed ones had under way.
    process, url = started(settings)
    process.terminate()
    assert process.wait(30) == 0
    with EventLog.open(settings) as log:
        assert {key.key_id for key in Keys(log).all()} == made
        ends = log.arrow(
            "SELECT substr(stream, 6) AS call_id, count(*) FILTER (is_end(kind)) AS ends, "
            "count(*) FILTER (kind = 'llm.call.finished') AS finished "
            "FROM events WHERE kind LIKE 'llm.call.%' GROUP BY stream"
        ).to_pylist()
        assert answered <= {one["call_id"] for one in ends if one["finished"] == 1}
        assert {one["ends"] for one in ends} == {1}
        assert not log.verify().problems

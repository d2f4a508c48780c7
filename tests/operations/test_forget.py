"""A person is forgotten: everywhere, provably, with the figures of the log as they were."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import polars as pl
import pytest
from typer.testing import CliRunner

from tests.finetune.splits_made import made, record
from tests.finetune.versions_made import registered
from tracemill.cli import app
from tracemill.errors import InputError
from tracemill.events import (
    FeedbackGiven,
    FileBatchRequested,
    FileBatchWritten,
    Happened,
    LlmCallFinished,
    LlmCallStarted,
    new_id,
)
from tracemill.files import sha256_of
from tracemill.jobs.jobs import Jobs
from tracemill.llm.cache.file import FileCache
from tracemill.log import EventLog
from tracemill.messages import Message, Request, Response, Usage
from tracemill.operations.forget import forget, person, plan
from tracemill.operations.traces import Traces, pieces
from tracemill.server import files
from tracemill.settings import Settings

ANN, JOANNE = "ann@example.org", "joanne@example.org"
SECRET = "the blue house behind the mill belongs to my aunt"
SHARED = "Summarise this page for the newsletter of the week"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))


def call(user: str, asked: str, answer: str) -> list[Happened]:
    about: dict[str, Any] = {
        "call_id": new_id(),
        "provider": "local",
        "request_model": "extract",
        "user_id": user,
        "conversation_id": f"talk of {user}",
        "occurred_at": NOON,
    }
    return [
        LlmCallStarted(**about, messages=(Message(role="user", content=asked),)),
        LlmCallFinished(
            **about,
            response_model="extract",
            content=answer,
            finish_reasons=("stop",),
            usage=Usage(input_tokens=10, output_tokens=5),
            latency_ms=1,
        ),
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(warehouse=tmp_path / "warehouse", harvest_installed=False).create()


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    with EventLog.open(settings) as log:
        hers = call(ANN, f"Dear sir, {SECRET}.", "I see, so it does.")
        log.append([*hers, *call(ANN, SHARED, "ok")])
        call_id: str = getattr(hers[0], "call_id")  # noqa: B009
        log.append(FeedbackGiven(call_id=call_id, score=1, comment="thanks", user_id=ANN))
        log.fold()
        log.append([*call(JOANNE, SHARED, "done"), *call(JOANNE, "Who is there?", "Nobody.")])
        yield log


def spread(settings: Settings, log: EventLog) -> str:
    """The person in every part of the warehouse; returns the digest of the data set."""
    [first, *_] = log.sql("FROM calls WHERE user_id = ? ORDER BY call_id", [ANN])["call_id"]
    say = {"content": SECRET, "role": "user"}
    rows = [record(at, split) for at, split in enumerate(("train", "validation", "test"))]
    dataset = made(settings, rows=[*rows, record(99, "train", source=first)])
    log.append(registered(1, dataset_digest=dataset.digest))
    for file in (settings.reports / "calls.parquet", settings.quarantine / "records.parquet"):
        file.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"user_id": [ANN, JOANNE], "said": [[say], []]}).write_parquet(file)
    jobs = settings.models / "jobs" / "one"
    jobs.mkdir(parents=True)
    (jobs / "training.jsonl").write_text(json.dumps({"messages": [say]}) + "\n")
    (settings.raw_records / "mine.jsonl").write_text(
        "".join(json.dumps({"q": q, "a": "x"}) + "\n" for q in (SECRET, SHARED))
    )
    settings.indexes.mkdir()
    (settings.indexes / "pages.gz").write_bytes(gzip.compress(SECRET.encode()))
    cache = FileCache(settings.cache / "responses.db")
    for key, text in (("hers", SECRET), ("other", SHARED)):
        answer = Response(
            call_id=new_id(),
            content=text,
            finish_reasons=("stop",),
            response_model="m",
            usage=Usage(),
            latency_ms=1,
            cost_usd=None,
        )
        cache.put(key, answer, 1e6)
    history = settings.dagster_home / "history" / "runs.db"
    history.parent.mkdir(parents=True)
    runs = apsw.Connection(str(history))
    runs.execute("CREATE TABLE events(id INTEGER PRIMARY KEY, body TEXT)")
    runs.execute("INSERT INTO events(body) VALUES (?)", (json.dumps({"md": SECRET, "rows": 2}),))
    runs.close()
    return dataset.digest


def bytes_of(settings: Settings) -> bytes:
    """Every byte of the warehouse but the journal, which nobody else may open."""
    files = (path for path in settings.warehouse.rglob("*") if path.is_file())
    return b"".join(file.read_bytes() for file in files if not file.name.startswith("journal"))


def contents(settings: Settings) -> dict[str, bytes]:
    """Every file, but for what SQLite keeps for its readers."""
    files = (path for path in settings.warehouse.rglob("*") if path.is_file())
    return {
        str(file): file.read_bytes()
        for file in files
        if not file.name.startswith("journal") and not file.name.endswith(("-shm", "-wal"))
    }


def test_nothing_of_the_person_is_left_and_the_sums_stay(settings: Settings, log: EventLog):
    spread(settings, log)
    sums = (
        "SELECT request_model, count(*), sum(input_tokens), sum(latency_ms) FROM calls GROUP BY 1"
    )
    before = log.sql(sums)
    done = forget(log, settings, ANN, raw=True)
    assert done.left == {}
    assert done.events == {"llm.call.finished": 2, "llm.call.started": 2, "llm.feedback.given": 1}
    assert done.removed == {
        "cache": 1,
        "corpus": 1,
        "dagster": 1,
        "indexes": 1,
        "models": 1,
        "quarantine": 1,
        "raw": 1,
        "reports": 1,
    }
    assert done.models == (f"{registered(1).name}:{registered(1).digest}",)
    held = bytes_of(settings)
    assert SECRET.encode() not in held
    assert b" " + ANN.encode() not in held
    assert log.sql(sums).equals(before)
    assert log.sql("SELECT count(*) FROM calls WHERE user_id IS NULL").item() == 2
    assert log.verify().ok
    assert ANN not in done.model_dump_json()


def test_others_keep_what_is_theirs(settings: Settings, log: EventLog):
    spread(settings, log)
    forget(log, settings, ANN, raw=True)
    prompts = log.sql("SELECT prompt FROM calls WHERE user_id = ? ORDER BY prompt", [JOANNE])
    assert prompts["prompt"].to_list() == [SHARED, "Who is there?"]
    lines = (settings.raw_records / "mine.jsonl").read_text().splitlines()
    assert [json.loads(line)["q"] for line in lines] == [SHARED]
    cache = FileCache(settings.cache / "responses.db")
    assert (cache.get("hers"), getattr(cache.get("other"), "content", None)) == (None, SHARED)
    body = apsw.Connection(str(settings.dagster_home / "history" / "runs.db")).execute(
        "SELECT body FROM events"
    )
    assert json.loads(body.get) == {"md": "[forgotten]", "rows": 2}


def test_what_is_not_ours_to_change_is_named(settings: Settings, log: EventLog):
    spread(settings, log)
    assert forget(log, settings, ANN).left == {"raw/mine.jsonl": 1}


def test_a_plan_changes_nothing(settings: Settings, log: EventLog):
    spread(settings, log)
    before, position = contents(settings), log.position()
    found = plan(log, settings, ANN)
    assert found.places.keys() >= {"cache", "corpus", "dagster", "indexes", "raw", "reports"}
    assert (contents(settings), log.position()) == (before, position)


def test_only_what_is_hers_alone_is_looked_for(log: EventLog):
    traces = person(log, ANN).traces
    assert traces.texts == [SECRET]
    assert {ANN, f"talk of {ANN}"} <= {*traces.names}


def test_other_scripts_are_found_as_json_writes_them():
    assert pieces("Guten Tag! Mein Kätzchen heißt Schnurrli.") == [
        "Mein K\\u00e4tzchen hei\\u00dft Schnurrli",
        "Mein Kätzchen heißt Schnurrli",
    ]


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("mail ann@example.org.", True),
        ("<ann@example.org>", True),
        ("joann@example.org", False),
        ("ann@example.organic", False),
        ("ann@example.org.uk", False),
        ('{"user_id":"ann@example.org"}', True),
    ],
)
def test_a_name_is_a_whole_word(text: str, there: bool):
    traces = Traces([ANN], [])
    assert (traces.are_in(text), traces.which(pl.Series([text])).to_list()) == (there, [there])


def test_a_person_nobody_knows_is_refused_in_a_line(settings: Settings, log: EventLog):
    arguments = ["forget", "--user", "nobody@example.org", "--warehouse", str(settings.warehouse)]
    answer = CliRunner().invoke(app, arguments)
    assert isinstance(answer.exception, InputError)
    assert "no event of the user 'nobody@example.org'" in str(answer.exception)


def test_the_command_asks_tells_and_ends(settings: Settings, log: EventLog):
    arguments = ["forget", "--user", ANN, "--warehouse", str(settings.warehouse)]
    refused = CliRunner().invoke(app, arguments, input="n\n")
    assert "nothing was changed" in str(refused.exception)
    done = CliRunner().invoke(app, [*arguments, "--yes"])
    assert done.exit_code == 0
    assert "5 events emptied" in done.output
    again = CliRunner().invoke(app, [*arguments, "--yes"])
    assert isinstance(again.exception, InputError)


def handed(
    settings: Settings,
    log: EventLog,
    *lines: Any,
    name: str = "lines.jsonl",
    purpose: str = "batch",
) -> str:
    """A file of the server, as it is handed over; returns its id."""
    text = "".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in lines)
    return files.made(log, settings, name, purpose, lambda at: at.write_text(text), None).file_id


def line(custom_id: str, said: str = "Hello", **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "body": {"messages": [{"content": said}], **body}}


def lines_of(settings: Settings, file_id: str) -> list[str]:
    """Names of the lines of a file that are left."""
    text = (settings.files / file_id).read_text()
    return [json.loads(each)["custom_id"] for each in text.splitlines()]


def batch(log: EventLog, given: str, output: str, errors: str) -> str:
    """A batch of a file that was answered; returns the id of its job."""
    job_id = new_id()
    about: dict[str, Any] = {"batch_id": job_id, "occurred_at": NOON}
    asked: dict[str, Any] = {"endpoint": "/v1/responses", "completion_window": "24h", "total": 1}
    wrote: dict[str, Any] = {"done": 1, "failed": 1, "input_tokens": 1, "output_tokens": 1}
    log.append(FileBatchRequested(**about, **asked, input_file_id=given, job_id=job_id))
    log.append(FileBatchWritten(**about, **wrote, output_file_id=output, error_file_id=errors))
    return job_id


def test_lines_of_the_person_go_from_files_of_the_server_and_from_their_results(
    settings: Settings, log: EventLog
):
    user = "42"  # too short to be looked for as a word
    given = handed(
        settings,
        log,
        line("a", user=user),
        line("b", safety_identifier=user),
        {"custom_id": "c", "params": {"metadata": {"user_id": user}}},
        line("d", "by header"),
        line("e", user="421", metadata={"user_id": "4"}),
        line("f", "42 is the answer"),
    )
    answered = [
        {"custom_id": name, "response": {"body": {"id": f"call of {name}"}}} for name in "adef"
    ]
    output = handed(settings, log, *answered, purpose="batch_output")
    errors = handed(settings, log, line("b"), line("c"), line("g"), purpose="batch_output")
    job_id = batch(log, given, output, errors)
    tagged = {"correlation_id": job_id, "metadata": {"custom_id": "d"}}
    log.append([each.model_copy(update=tagged) for each in call(user, "by header", "ok")])
    other = handed(settings, log, line("a"), line("e"), purpose="batch_output")
    before = (settings.files / other).read_bytes()
    mine = Request.of("Hi", model="local/echo", user_id=user)
    with closing(Jobs(log, settings)) as jobs:
        job = jobs.submit([mine.model_copy(update={"user_id": "421"}), mine])
    answers = settings.jobs / job.id / "answers-1.jsonl"
    answers.write_text('{"index":0,"response":{}}\n{"index":1,"response":{}}\n')

    assert plan(log, settings, user).places == {"files": 3, "jobs": 2}
    done = forget(log, settings, user)
    assert (done.removed, done.left) == ({"files": 8, "jobs": 2}, {})
    assert [lines_of(settings, each) for each in (given, output, errors)] == [
        ["e", "f"],
        ["e", "f"],
        ["g"],
    ]
    assert (settings.files / other).read_bytes() == before
    requests = (settings.jobs / job.id / "requests.jsonl").read_text()
    kept = [json.loads(each) for each in requests.splitlines()]
    assert (kept[0]["request"]["user_id"], kept[1]) == ("421", {"erased": True})
    told = [json.loads(each) for each in answers.read_text().splitlines()]
    assert told == [{"index": 0, "response": {}}, {"erased": True}]
    for stored in files.listed(log, settings, None):
        path = settings.files / stored.file_id
        assert (stored.size_bytes, stored.sha256) == (path.stat().st_size, sha256_of(path))
    assert log.verify().ok


def test_files_of_the_server_are_searched_whatever_they_are(settings: Settings, log: EventLog):
    table = handed(
        settings, log, f"who,what\n{ANN},x\n{JOANNE},y\n", name="t.csv", purpose="user_data"
    )
    escaped = handed(settings, log, '{"custom_id":"1","who":"\\u0061nn@example.org"}\n')
    named = handed(settings, log, line("1", SECRET), line("2"), name=f"{ANN} 1.jsonl")
    text = handed(settings, log, f"Dear {ANN},", name="letter.txt", purpose="user_data")
    fake = handed(settings, log, f"PAR1 {ANN}", name="t.parquet", purpose="user_data")
    done = forget(log, settings, ANN)
    assert done.left == {f"files/{text}": 1, f"files/{fake}": 1}
    assert done.removed == {"files": 3}
    assert (settings.files / table).read_text().splitlines() == ["who,what", f"{JOANNE},y"]
    assert (settings.files / escaped).read_bytes() == b""
    assert lines_of(settings, named) == ["2"]
    stored = {each.file_id: each for each in files.listed(log, settings, None)}
    assert stored[named].filename == "forgotten.jsonl"
    assert stored[table].size_bytes == (settings.files / table).stat().st_size
    assert log.verify().ok


def test_who_is_only_in_a_file_of_the_server_is_forgotten_too(settings: Settings, log: EventLog):
    given = handed(settings, log, line("1", user="zoe"), line("2"))
    assert plan(log, settings, "zoe").places == {"files": 1}
    assert forget(log, settings, "zoe").removed == {"files": 1}
    assert lines_of(settings, given) == ["2"]
    with pytest.raises(InputError, match="'zoe'"):
        plan(log, settings, "zoe")


KILLED = """
import os, signal, sys
from pathlib import Path
from tracemill.log import EventLog
from tracemill.operations.forget import forget
from tracemill.settings import Settings

steps = int(sys.argv[2])

def count(_: str) -> None:
    global steps
    steps -= 1
    if steps < 0:
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings(warehouse=Path(sys.argv[1]), harvest_installed=False)
with EventLog.open(settings) as log:
    forget(log, settings, sys.argv[3], raw=True, progress=count)
"""


@pytest.mark.parametrize("steps", range(2, 33, 3) if FULL else (6, 17))
def test_a_killed_run_is_completed_by_the_next(settings: Settings, log: EventLog, steps: int):
    spread(settings, log)
    sums = "SELECT count(*), sum(input_tokens), sum(latency_ms) FROM calls"
    before, position = log.sql(sums), log.position()
    command = [sys.executable, "-c", KILLED, str(settings.warehouse), str(steps), ANN]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert forget(log, settings, ANN, raw=True).left == {}
    assert SECRET.encode() not in bytes_of(settings)
    assert log.sql(sums).equals(before)
    erased = log.sql("SELECT count(*) FROM events WHERE kind = 'log.erased'").item()
    assert (erased, log.verify().ok) == (1, True)
    assert log.position() == position + 2

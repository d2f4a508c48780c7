"""Retention: the plan says what goes, carrying it out takes just that, and the rest stays readable."""

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.conftest import run  # noqa: F401
from tests.cli.running import Run
from tests.log.made import call, harvested, indexed
from tests.operations.watched import DAY, NOW
from tracemill import EventLog, Settings
from tracemill.errors import InputError
from tracemill.jobs.jobs import Jobs
from tracemill.messages import Request
from tracemill.operations.retention import Due, Plan, apply, plan, retention

TERMS = """
policies:
  - {kinds: [llm.call.*], after_days: 30, keep: figures}
  - {kinds: [source.harvested, llm.call.started], after_days: 90, keep: nothing}
cache_days: 10
report_days: 20
job_days: 7
keep_backups: 2
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    settings.raw_retention.write_text(TERMS)
    return settings


def filled(log: EventLog) -> None:
    for days in (100, 40, 1):
        log.append(call("an answer", prompt=f"asked {days} days ago", at=NOW - days * DAY))
        log.append(harvested(days, occurred_at=NOW - days * DAY))
    log.append(indexed().model_copy(update={"occurred_at": NOW - 400 * DAY}))


def test_the_plan_tells_what_goes_and_apply_takes_just_that(settings: Settings):
    terms = retention(settings)
    old, older = NOW - 40 * DAY, NOW - 100 * DAY
    with EventLog.open(settings) as log:
        filled(log)
        log.fold()
        due = plan(log, settings, terms, now=NOW)
        assert due.events == (
            Due("llm.call.started", "nothing", 1, older, older),
            Due("llm.call.started", "figures", 1, old, old),
            Due("llm.call.finished", "figures", 2, older, old),
            Due("source.harvested", "nothing", 1, older, older),
        )
        assert apply(log, settings, terms, now=NOW, actor="ann").events == due.events
        assert plan(log, settings, terms, now=NOW).nothing
        assert log.verify().problems == ()
        kinds = dict(log.sql("SELECT kind, count(*) AS n FROM events GROUP BY kind").iter_rows())
        texts = str(log.arrow("SELECT payload FROM events").to_pylist())
        tokens = log.sql("SELECT sum(output_tokens) AS n FROM events")["n"].item()
        erased = list(log.read(kinds=["log.erased"]))
    assert kinds["log.event_removed"] == 2
    assert (kinds["index.built"], kinds["source.harvested"]) == (1, 2)
    assert ("asked 1 days ago" in texts, "asked 40" in texts, "asked 100" in texts) == (
        True,
        False,
        False,
    )
    assert tokens == 6
    assert {each.event.actor for each in erased} == {"ann"}


def test_old_reports_and_backups_go_and_tables_by_day_stay(settings: Settings):
    day = NOW.timestamp() - 30 * 86_400
    for name in ("old.html", "new.html", "daily/calls/2026-01-01.parquet"):
        path = settings.reports / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        os.utime(path, (NOW.timestamp(), NOW.timestamp()) if name == "new.html" else (day, day))
    for number in range(4):
        (settings.backups / f"b{number}").mkdir(parents=True)
        (settings.backups / f"b{number}" / "file").write_text("x")
        os.utime(settings.backups / f"b{number}", (day + number, day + number))
    with EventLog.open(settings) as log:
        terms = retention(settings)
        due = plan(log, settings, terms, now=NOW)
        assert due == Plan((), {"answers": 0, "embeddings": 0}, 1, 0, ("b0", "b1"))
        apply(log, settings, terms, now=NOW)
        assert plan(log, settings, terms, now=NOW).nothing
    assert sorted(p.name for p in settings.backups.iterdir()) == ["b2", "b3"]
    files = [p for p in settings.reports.rglob("*") if p.is_file()]
    assert sorted(p.name for p in files) == ["2026-01-01.parquet", "new.html"]


def test_caches_lose_what_is_old(settings: Settings):
    import numpy as np

    from tracemill.events import new_id
    from tracemill.llm.cache import FileCache
    from tracemill.messages import Response, Usage
    from tracemill.retrieval.embed.cache import Kept
    from tracemill.retrieval.embed.models import Model

    at = NOW.timestamp()
    answer = Response(
        call_id=new_id(),
        response_model="m",
        content="yes",
        finish_reasons=("stop",),
        usage=Usage(),
        latency_ms=1,
        cost_usd=None,
    )
    cache = FileCache(settings.cache / "responses.db", clock=lambda: at - 60)
    cache.put("over", answer, ttl_s=30)
    cache.put("good", answer, ttl_s=3_600)
    cache.close()
    vectors = np.ones((1, 2), dtype=np.float16)
    model = Model("tests/none", 2, 9, 0.5, "weights", None, None, 1)  # type: ignore[arg-type]
    for days, text in ((11, "old"), (9, "new")):
        kept = Kept(settings.cache, model, "document", clock=lambda days=days: at - days * 86_400)
        kept.write([text], vectors)
    with EventLog.open(settings) as log:
        terms = retention(settings)
        for _ in range(2):
            due = plan(log, settings, terms, now=NOW)
            assert due.cached == {"answers": 1, "embeddings": 1}
        assert apply(log, settings, terms, now=NOW).cached == due.cached
        assert plan(log, settings, terms, now=NOW).nothing


def test_what_jobs_asked_and_were_answered_goes_a_while_after_their_end(
    settings: Settings,
    run: Run,  # noqa: F811
):
    with EventLog.open(settings) as log, closing(Jobs(log, settings)) as jobs:
        ended, goes_on = (jobs.submit([Request.of(what, model="a/b")]) for what in ("one", "two"))
        jobs.cancel(ended.id)
        now = datetime.now(UTC)
        terms = retention(settings)
        assert plan(log, settings, terms, now=now + 6 * DAY).nothing
        for _ in range(2):
            assert plan(log, settings, terms, now=now + 8 * DAY).jobs == 1
        assert apply(log, settings, terms, now=now + 8 * DAY).jobs == 1
        assert plan(log, settings, terms, now=now + 8 * DAY).nothing
        assert (settings.jobs / goes_on.id).is_dir()
        assert not (settings.jobs / ended.id).exists()
        assert [job.state for job in jobs.list()] == ["queued", "cancelled"]
        deleted = [each.event for each in log.read(kinds=["job.files_deleted"])]
        assert [getattr(each, "reason", None) for each in deleted] == ["retention"]
    out = run("retention", "show", "--warehouse", str(settings.warehouse)).out
    assert out == "nothing is due\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "policies:\n- {kinds: [llm.cal.*], after_days: 1, keep: figures}",
            "line 2: policy 1: kinds: llm.cal.* is no kind of event; there are llm.call.started, ",
        ),
        (
            "policies:\n- {kinds: [model.*], after_days: 1, keep: nothing}",
            "line 2: policy 1: kinds: model.* is never emptied because of its age; there are ",
        ),
        (
            "policies:\n- kinds: [llm.*]\n  after_days: 0\n  keep: figures",
            "line 3: policy 1: after_days: it should be greater than or equal to 1",
        ),
        (
            "policies:\n- kinds: [llm.*]\n  after_days: 7\n  keep: some",
            "line 4: policy 1: keep: it should be 'figures' or 'nothing'",
        ),
        (
            "keep_backup: 3",
            "line 1: keep_backup: there is no such field: did you mean keep_backups?",
        ),
    ],
)
def test_mistakes_are_told_with_their_line(settings: Settings, text: str, says: str):
    settings.raw_retention.write_text(text)
    with pytest.raises(InputError) as refused:
        retention(settings)
    assert says in str(refused.value)


def test_the_command_shows_before_it_applies(settings: Settings, run: Run):  # noqa: F811
    with EventLog.open(settings) as log:
        filled(log)
    where = ("--warehouse", str(settings.warehouse))
    for command in (("show",), ("apply", "--dry-run")):
        (due,) = run("retention", *command, "--json", *where).lines
        assert {row["kind"] for row in due["events"]} == {
            *("llm.call.started", "llm.call.finished", "source.harvested"),
        }
    assert "llm.call.finished" in run("retention", "show", *where).out
    assert run("retention", "apply", *where).code == 0
    assert run("retention", "show", *where).out == "nothing is due\n"
    settings.raw_retention.unlink()
    assert run("retention", "show", *where).out.startswith("everything is kept: there is no ")

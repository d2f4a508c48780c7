"""`tm.lineage`: where a call, a record or a model came from, what became of it, and where that stands."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.analysis.asked import call, id_of, opened
from tests.finetune.versions_made import compared, digest, evaluated, registered
from tracemill.analysis.lineage import Lineage
from tracemill.analysis.opened import Opened
from tracemill.corpus import write
from tracemill.corpus.records import Message, Record, record_frame
from tracemill.errors import UsageError
from tracemill.events import (
    CasesScored,
    FeedbackGiven,
    Happened,
    LlmCallCached,
    ModelPromoted,
    new_id,
)
from tracemill.llm import prompts
from tracemill.llm.prompts import Prompt
from tracemill.settings import Settings

WHEN = datetime(2026, 3, 1, tzinfo=UTC)
PROMPT = Prompt("route", "{{ text }}", None, {"text": "string"}, source="route.md")
FIRST, FALLBACK, REPLAY, CACHED, EVALUATION = (new_id() for _ in range(5))
ROUTER = f"ft:local:router:{digest(1)}"


def record(number: int, **more: Any) -> Record:
    said = (Message("user", f"question {number}"), Message("assistant", f"answer {number}"))
    told: dict[str, Any] = {"origin": "faq", "source": f"faq.jsonl:{number}", "timestamp": WHEN}
    return Record(said, **told | more)


def corpus(settings: Settings) -> pl.DataFrame:
    """Four records: one of a call, its duplicate, one that is too short, one of a line."""
    records = record_frame(
        [
            record(1, origin="calls", source=FIRST, call_id=FIRST),
            record(2),
            record(3),
            record(4),
        ]
    )
    of_call, twin, short, _ = records["record_id"]
    tables = {
        settings.kept("raw_records") / "all.parquet": records,
        settings.kept("clean_records") / "all.parquet": records.filter(
            pl.col("record_id") != short
        ),
        settings.dropped("clean_records") / "all.parquet": records.filter(
            pl.col("record_id") == short
        ).with_columns(reason=pl.lit("answer under 10 characters")),
        settings.dropped("unique_records") / "all.parquet": records.filter(
            pl.col("record_id") == twin
        ).with_columns(
            reason=pl.lit("near duplicate"), kept_id=pl.lit(of_call), jaccard=pl.lit(0.912345)
        ),
    }
    for path, table in tables.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(path)
    left = records.filter(~pl.col("record_id").is_in([twin, short]))
    placed = left.with_columns(
        group_id="record_id",
        split=pl.lit("train"),
        part_of=pl.lit(None, pl.String),
    )
    write.write_splits([placed], settings.splits, name="records", inputs={}, salt="0")
    return records


@pytest.fixture(scope="module")
def tm(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    found = opened(tmp_path_factory.mktemp("lineage"))
    corpus(found.settings)
    dataset = write.current(found.settings.splits)
    prompts.add(found.log, PROMPT)
    trained = registered(1, dataset_digest=dataset.digest)
    asked: dict[str, Any] = {
        "prompt_name": "route",
        "prompt_version": PROMPT.version,
        "conversation_id": "c1",
    }
    events: list[Happened] = [
        *call("q", None, call_id=FIRST, **asked),
        *call("later", day=1, conversation_id="c1"),
        *call("q", call_id=FALLBACK, asked={"fallback_of": FIRST}),
        *call("q", call_id=REPLAY, metadata={"replay_of": FIRST}, model="openai/gpt-5.4"),
        LlmCallCached(
            call_id=CACHED,
            provider="openai",
            request_model="gpt-5.4-mini",
            cached_call_id=FIRST,
            latency_ms=1,
            occurred_at=WHEN,
        ),
        FeedbackGiven(call_id=FIRST, score=-1, comment="<no>", user_id="ann", occurred_at=WHEN),
        CasesScored(
            evaluation_id=EVALUATION, case_ids=("k",), scores={"x": (1.0,)}, call_ids=(FIRST,)
        ),
        trained,
        registered(2),
        *(each for each in (evaluated(1),)),
        compared(1, 2),
        ModelPromoted(name="router", digest=digest(1), reason="it is better", occurred_at=WHEN),
        *call("q", model=ROUTER),
        *call("q", None, model=ROUTER),
    ]
    found.log.append(events)
    return found


def lines(found: Lineage, way: str) -> list[tuple[str, str, str]]:
    rows = found.frame.filter(way=way, depth=1)
    return rows.select("kind", "name", "source").rows()


def test_a_call_is_told_with_all_that_came_of_it(tm: Opened):
    found = tm.lineage(FIRST)
    of_call = pl.read_parquet(tm.settings.kept("raw_records") / "all.parquet")["record_id"][0]
    version = write.current(tm.settings.splits)
    assert found.of.said == "failed (timeout), openai/gpt-5.4-mini, 2026-03-01 12:00 UTC"
    assert lines(found, "came from") == [
        ("prompt", f"route@{PROMPT.version[:12]}", "event prompt.version_added"),
        ("conversation", "c1", "events"),
    ]
    assert lines(found, "went into") == [
        ("call", FALLBACK, "event llm.call.started"),
        ("replay", REPLAY, "event llm.call.started"),
        ("call", CACHED, "event llm.call.cached"),
        ("feedback", "-1", "event llm.feedback.given"),
        ("evaluation", EVALUATION, "event evaluation.cases_scored"),
        ("record", of_call, "corpus/raw_records/all.parquet"),
    ]
    beyond = found.frame.filter(pl.col("depth") > 1).select("depth", "kind", "name", "said").rows()
    twin = pl.read_parquet(tm.settings.kept("raw_records") / "all.parquet")["record_id"][1]
    assert beyond == [
        (2, "step", "raw_records", "kept"),
        (2, "step", "clean_records", "kept"),
        (2, "stands for", twin, "near duplicate, faq.jsonl:2"),
        (2, "data set", f"records@{version.digest[:16]}", "one of 2 rows of train"),
        (3, "model", ROUTER, "production, trained on 100 rows of train"),
    ]
    assert "call 1 of 2" in repr(found)


@pytest.mark.parametrize(
    ("of", "line"),
    [
        (FALLBACK, f"call {FIRST}: failed, and this stood in its place"),
        (REPLAY, f"call {FIRST}: this repeats it"),
        (CACHED, f"call {FIRST}: this is its answer, from the cache"),
    ],
    ids=["fallback", "replay", "cached"],
)
def test_what_was_made_of_a_call_leads_back_to_it(tm: Opened, of: str, line: str):
    assert line in {step.line for step in tm.lineage(of).came_from}


def test_a_record_is_found_by_its_id_its_beginning_and_its_line(tm: Opened):
    ids = pl.read_parquet(tm.settings.kept("raw_records") / "all.parquet")["record_id"]
    for wanted in (ids[3], ids[3][:15], "faq.jsonl:4"):
        found = tm.lineage(wanted)
        assert (found.of.kind, found.of.name) == ("record", ids[3])
        assert lines(found, "came from") == [
            ("line", "faq.jsonl:4", "corpus/raw_records/all.parquet")
        ]
    assert [step.said for step in tm.lineage(ids[2]).went_into] == [
        "kept",
        "dropped: answer under 10 characters",
    ]
    assert tm.lineage(ids[1]).went_into[-1].line == (
        f"step unique_records: dropped: near duplicate of {ids[0]} (Jaccard 0.912)"
    )
    back = tm.lineage(ids[0]).came_from
    assert [step.line for step in back] == [f"call {FIRST}: of gpt-5.4-mini, 2026-03-01"]


@pytest.mark.parametrize(
    "name", [ROUTER, "ft:local:router", "router", "router:0001", "ft:local:router:0001"]
)
def test_a_model_is_told_from_its_rows_to_the_calls_that_it_served(tm: Opened, name: str):
    found = tm.lineage(name)
    version = write.current(tm.settings.splits)
    assert (found.of.name, found.of.said) == (ROUTER, "production: it is better")
    assert lines(found, "came from") == [
        ("base model", "classify", "view models"),
        ("data set", f"records@{version.digest[:16]}", "view models"),
    ]
    origins = found.frame.filter(kind="origin").select("name", "said").rows()
    assert sorted(origins) == [
        ("calls", f"1 rows, as {FIRST}"),
        ("faq", "1 rows, as faq.jsonl:4"),
    ]
    went = found.frame.filter(way="went into").select("kind", "source").rows()
    assert went == [
        ("evaluation", "view evaluations"),
        ("promoted", "event model.promoted"),
        ("calls", "view call_costs"),
        ("other version", "view models"),
    ]
    [served] = [step for step in found.went_into if step.kind == "calls"]
    assert served.said.startswith("2 from 2026-03-01 to 2026-03-01, 1 failed")


def test_a_model_from_elsewhere_is_told_by_what_it_served(tm: Opened):
    for name in ("openai/gpt-5.4", "gpt-5.4"):
        found = tm.lineage(name)
        assert [step.kind for step in found.went_into] == ["calls"]
        assert "came from: nothing is known" in repr(found)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("route", "did you mean router"),
        ("nothing like it", "tm.calls() lists calls"),
        ("01a2059b-8041-71ac-986a-16052c6d522d", "tm.calls() lists calls"),
        ("b2:ffffffff", "records are told by their ids"),
        ("b2:", "records are told by their ids"),
        (" ", "lineage is of something"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest_thing(tm: Opened, wanted: str, told: str):
    with pytest.raises(UsageError) as error:
        tm.lineage(wanted)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_it_shows_itself_as_a_tree_and_as_a_list(tm: Opened):
    found = tm.lineage(FIRST)
    text = repr(found)
    assert text.splitlines()[:3] == [
        f"{found.of.line}  [view calls]",
        "├─ came from",
        f"│  ├─ {found.came_from[0].line}  [event prompt.version_added]",
    ]
    assert text.count("[") >= len(found.frame)
    html = found._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert html.count("<li>") == html.count("</li>") == len(found.frame) - 1 + 2
    assert "&lt;no&gt;" in html
    assert "<no>" not in html


def test_many_steps_of_one_kind_are_counted(tmp_path: Path):
    first = call("q")
    told = [FeedbackGiven(call_id=id_of(first), score=1) for _ in range(20)]
    found = opened(tmp_path, [*first, *told]).lineage(id_of(first))
    assert len(found.went_into) == 13
    assert found.went_into[-1].said == "and 8 more feedback"

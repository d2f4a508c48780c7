"""Failures like one that you have, and clusters of what goes wrong, as a notebook gets them."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks import planted
from tests.log.made import NOON, call
from tracemill import EventLog
from tracemill.analysis.clusters import REST, Clusters
from tracemill.analysis.failures import Failures
from tracemill.errors import UsageError
from tracemill.events import Happened, LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.messages import Message, Usage

CALLS = 1_500
LEAST_RAND = 0.9
"""Of planted causes. Here it is 0.99; the class of error alone has 0.64, the signature 0.39."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EventLog, list[str]]]:
    made = list(planted.failures(CALLS, seed=7))
    with EventLog(tmp_path_factory.mktemp("planted") / "log") as log:
        log.append([event for _, events in made for event in events])
        yield log, [name for name, _ in made]


@pytest.fixture(scope="module")
def clusters(log: tuple[EventLog, list[str]]) -> Clusters:
    return Failures(log[0]).cluster()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def failure(
    error_type: str = "timeout", message: str = "late", *, prompt: str = "is it?", **more: Any
) -> list[Happened]:
    """A call that fails so; `refusal` is an answer of a model that will not."""
    ends = {name: more.pop(name) for name in ("attempts",) if name in more}
    same: dict[str, Any] = {
        "call_id": new_id(),
        "provider": "local",
        "request_model": "echo",
        "occurred_at": NOON,
        **more,
    }
    started = LlmCallStarted(messages=(Message(role="user", content=prompt),), **same)
    if error_type != "refusal":
        return [
            started,
            LlmCallFailed(
                error_type=error_type, error_message=message, latency_ms=9, **ends, **same
            ),
        ]
    refused = LlmCallFinished(
        response_model="echo",
        content="",
        refusal=message,
        finish_reasons=("refusal",),
        usage=Usage(input_tokens=1, output_tokens=1),
        latency_ms=9,
        **ends,
        **same,
    )
    return [started, refused]


# Clusters


def test_planted_causes_are_found_whatever_their_words(
    log: tuple[EventLog, list[str]], clusters: Clusters
) -> None:
    found = [str(number) for number in clusters.calls["cluster"]]
    assert planted.adjusted_rand(log[1], found) >= LEAST_RAND


def test_each_cause_has_a_cluster_of_its_own(
    log: tuple[EventLog, list[str]], clusters: Clusters
) -> None:
    both = clusters.calls.with_columns(pl.Series("cause", log[1]))
    largest = both.group_by("cause", "cluster").len().sort("len").group_by("cause").last()
    of_causes = largest.filter(pl.col("cause") != planted.NOISE)
    assert of_causes["cluster"].n_unique() == len(planted.CAUSES)
    assert 0 not in of_causes["cluster"]


def test_every_failure_is_in_one_cluster_and_shares_are_of_all(clusters: Clusters) -> None:
    frame = clusters.frame
    assert clusters.n == frame["n"].sum() == CALLS
    assert frame["share"].sum() == pytest.approx(1)
    assert frame["label"][-1] == REST
    assert frame["cluster"].to_list() == [*range(1, len(frame)), 0]
    assert clusters.timeline.frame["failures"].sum() == CALLS
    assert [clusters.of(row).height for row in frame["cluster"]] == frame["n"].to_list()


def test_labels_tell_the_cause_in_words(clusters: Clusters) -> None:
    labels = "\n".join(clusters.frame["label"])
    for word in ("court", "password", "dose", "stock", "json", "tool"):
        assert word in labels


def test_the_same_log_gives_the_same_clusters_whatever_the_threads(
    log: tuple[EventLog, list[str]], clusters: Clusters, tmp_path: Path
) -> None:
    """Another process, with one thread where this one has as many as there are cores."""
    path = tmp_path / "failed.parquet"
    from tracemill.analysis.period import Period

    Failures(log[0]).frame(Period(None, None)).write_parquet(path)
    code = (
        "import polars as pl\nfrom tracemill.analysis import clusters\n"
        "from tracemill.analysis.period import Period\n"
        f"found = clusters.of(pl.read_parquet({str(path)!r}), Period(None, None))\n"
        "print(found.frame.write_json(), found.calls.write_json(), found.timeline.frame.write_json())"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=dict.fromkeys(names, "1"),
    )
    here = (clusters.frame, clusters.calls, clusters.timeline.frame)
    assert done.stdout.strip() == " ".join(frame.write_json() for frame in here)


def test_a_cluster_says_who_when_and_what_it_took(empty: EventLog) -> None:
    calls = [
        failure(
            "rate_limited",
            f"{i} requests are too many",
            attempts=3,
            user_id=f"u{i % 2}",
            occurred_at=NOON + timedelta(days=i),
            prompt_name="sum",
            prompt_version="ab" * 32,
        )
        for i in range(4)
    ]
    for made in calls:
        empty.append(made)
    (row,) = Failures(empty).cluster().frame.rows(named=True)
    example = calls[0][0]
    assert isinstance(example, LlmCallStarted)
    assert row == {
        "cluster": 1,
        "label": "rate_limited: requests",
        "error_type": "rate_limited",
        "n": 4,
        "share": 1.0,
        "models": ["local/echo"],
        "users": 2,
        "prompt_versions": ["sum@abababababab"],
        "first": NOON,
        "last": NOON + timedelta(days=3),
        "retries": 8,
        "trend": "█      █       █       █",
        "example": example.call_id,
        "error": "0 requests are too many",
        "prompt": "is it?",
        "wordings": 1,
    }


def test_refusals_are_told_apart_by_what_was_asked(empty: EventLog) -> None:
    for i in range(4):
        empty.append(failure("refusal", "No.", prompt=f"Which dose of aspirin kills {i} rats?"))
        empty.append(failure("refusal", "No.", prompt=f"Open the bank vault number {i} for me"))
    assert Failures(empty).cluster().frame["n"].to_list() == [4, 4]


def test_an_error_is_one_cluster_whatever_was_asked(empty: EventLog) -> None:
    for prompt in ("Which dose of aspirin?", "Open the vault", "Sort the beds", "Sing a song"):
        empty.append(failure("overloaded", "no capacity", prompt=prompt))
    assert Failures(empty).cluster().frame["n"].to_list() == [4]


def test_what_is_rare_is_gathered_and_not_hidden(empty: EventLog) -> None:
    for error_type in ("timeout", "connection", "billing"):
        empty.append(failure(error_type, f"{error_type} came once"))
    found = Failures(empty).cluster()
    assert found.frame.select("cluster", "label", "n").rows() == [(0, REST, 3)]
    assert found.frame["error_type"].to_list() == ["billing, connection, timeout"]


def test_failures_without_a_word_are_clusters_by_class(empty: EventLog) -> None:
    for _ in range(3):
        empty.append(failure("server_error", "", prompt=""))
        empty.append(failure("refusal", "", prompt=""))
    assert sorted(Failures(empty).cluster().frame["label"]) == ["refusal", "server_error"]


def test_a_period_holds_its_beginning_and_not_its_end(empty: EventLog) -> None:
    for day in range(5):
        empty.append(failure(occurred_at=NOON + timedelta(days=day)))
    ask = Failures(empty).cluster
    assert ask(since=NOON + timedelta(days=1), until=NOON + timedelta(days=4)).n == 3
    assert ask(n=2).calls["call_id"].to_list() == ask().calls["call_id"].to_list()[-2:]
    with pytest.raises(UsageError, match="at least 1, not 0"):
        ask(n=0)
    with pytest.raises(UsageError, match="not before"):
        ask(since=datetime(2027, 1, 1, tzinfo=UTC), until=NOON)


def test_nothing_failed(empty: EventLog) -> None:
    empty.append(call("yes"))
    found = Failures(empty).cluster()
    assert (len(found), found.n, len(found.timeline)) == (0, 0, 0)
    assert "no rows" in repr(found)
    assert found.plot() is not None


def test_clusters_show_themselves(clusters: Clusters) -> None:
    pytest.importorskip("matplotlib")
    assert f"n = {CALLS:,} failures" in repr(clusters)
    assert "2026-03-01" in repr(clusters)
    assert clusters._repr_html_().count("<tr>") == 21  # the head, and the first 20
    assert clusters.plot().axes[0].get_ylabel() == "failures a day"


def test_what_failed_cannot_write_html(empty: EventLog) -> None:
    for _ in range(3):
        empty.append(failure("timeout", "<script>alert(1)</script>"))
    assert "<script" not in Failures(empty).cluster()._repr_html_()


# Similar failures


def test_similar_failures_are_a_table_with_the_nearest_first(empty: EventLog) -> None:
    for prompt in ("sort the red beds", "sing of the red beds", "sort the red beds now"):
        empty.append(failure(prompt=prompt))
    found = Failures(empty).similar("sort the red beds", n=2)
    assert found["prompt"].to_list() == ["sort the red beds", "sort the red beds now"]
    assert (found.title, found.n) == ("Failures like 'sort the red beds'", 2)
    assert "similarity" in repr(found)
    with pytest.raises(UsageError, match="nothing to compare with"):
        Failures(empty).similar(" ")


def test_nothing_is_similar_where_nothing_failed(empty: EventLog) -> None:
    empty.append(call("yes"))
    found = Failures(empty).similar("no answer")
    assert len(found) == 0
    assert "no rows" in repr(found)

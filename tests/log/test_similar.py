"""Past failures near to a call or a text: the right ones, in the right order, also as the log grows."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.log.made import call, harvested
from tracemill.errors import UsageError
from tracemill.events import Happened, LlmCallFailed, LlmCallFinished, LlmCallStarted, new_id
from tracemill.log import EventLog, similar
from tracemill.log.postings import Postings, hashes_of, pairs_of
from tracemill.messages import Message, Usage

PROMPT = "Summarise the minutes of the meeting in three sentences for the board."


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def asked(
    prompt: str, call_id: str | None = None, *, model: str = "gpt-5", **more: Any
) -> LlmCallStarted:
    return LlmCallStarted(
        call_id=call_id or new_id(),
        provider="openai",
        request_model=model,
        messages=(Message(role="user", content=prompt),),
        **more,
    )


def failed(
    prompt: str, error_type: str = "timeout", message: str = "no answer in 30 s", **more: Any
) -> list[Happened]:
    started = asked(prompt, **more)
    end = LlmCallFailed(
        call_id=started.call_id,
        provider="openai",
        request_model=started.request_model,
        conversation_id=started.conversation_id,
        error_type=error_type,
        error_message=message,
        latency_ms=1,
    )
    return [started, end]


def answered(started: LlmCallStarted, **more: Any) -> LlmCallFinished:
    same = {
        "call_id": started.call_id,
        "provider": "openai",
        "request_model": started.request_model,
    }
    end = {"finish_reasons": ("stop",), "content": "Yes.", **more}
    return LlmCallFinished(response_model="m", usage=Usage(), latency_ms=1, **same, **end)


def id_of(events: Sequence[Happened]) -> str:
    (first, *_) = events
    assert isinstance(first, LlmCallStarted)
    return first.call_id


# Order


def test_the_same_signature_comes_first_then_the_class_then_the_nearest_prompt(
    log: EventLog,
) -> None:
    mine = failed(PROMPT, message="no answer in 30 s")
    same = failed("Something else altogether", message="no answer in 99 s")
    nearer = failed(PROMPT + " Be brief.", message="no answer in 2 s")
    class_ = failed(PROMPT, message="connecting took too long")
    other = failed(PROMPT, error_type="overloaded", message="Overloaded")
    far = failed("unrelated words", error_type="overloaded", message="Overloaded")
    for events in (far, other, class_, same, nearer, mine):
        log.append(events)
    found = log.find_similar_failures(id_of(mine))
    assert found["call_id"].to_list() == [id_of(e) for e in (nearer, same, class_, other, far)]
    assert found["same"].to_list() == ["signature", "signature", "error_type", None, None]
    assert found["similarity"].round(2).to_list() == [0.86, 0.0, 1.0, 1.0, 0.0]
    row = found.row(2, named=True)
    assert row["when"] == class_[1].occurred_at
    assert (row["model"], row["status"], row["error"], row["signature"], row["prompt"]) == (
        "openai/gpt-5",
        "failed",
        "connecting took too long",
        "timeout: connecting took too long",
        PROMPT,
    )
    assert log.find_similar_failures(id_of(mine), 2).equals(found.head(2))
    assert log.find_similar_failures(id_of(mine).upper()).equals(found)


def test_of_equals_the_latest_comes_first(log: EventLog) -> None:
    ids = [id_of(e) for e in (failed(PROMPT) for _ in range(30)) if log.append(e)]
    assert log.find_similar_failures(PROMPT)["call_id"].to_list() == ids[:-11:-1]
    assert log.find_similar_failures(ids[0], 3)["call_id"].to_list() == ids[:-4:-1]


def test_a_text_may_be_an_error_or_a_prompt(log: EventLog) -> None:
    limit = failed("one", "rate_limited", "Rate limit reached for gpt-5: limit 200, used 199.")
    late = failed("two", "timeout", "no answer in 30 s")
    other = failed("three four five", "rate_limited", "Too many requests")
    for events in (limit, late, other):
        log.append(events)
    found = log.find_similar_failures("Rate limit reached for gpt-4o-mini: limit 3, used 3.")
    assert found["call_id"].to_list() == [id_of(e) for e in (limit, other, late)]
    assert found["similarity"].to_list() == [1.0, 0.0, 0.0]
    assert found["same"].to_list() == ["signature", "error_type", None]
    assert id_of(late) == log.find_similar_failures("timeout", 1)["call_id"].item()
    assert id_of(other) == log.find_similar_failures("THREE, four - five!", 1)["call_id"].item()


def test_refused_and_filtered_answers_are_failures_too(log: EventLog) -> None:
    good, refused, filtered = (asked(PROMPT) for _ in range(3))
    log.append([good, refused, filtered, answered(good)])
    log.append(answered(refused, refusal="I cannot help with that."))
    log.append(answered(filtered, finish_reasons=("content_filter",)))
    found = log.find_similar_failures(good.call_id)
    assert found["call_id"].to_list() == [filtered.call_id, refused.call_id]
    assert found["error_type"].to_list() == ["content_filter", "refusal"]


@pytest.mark.parametrize(
    "one",
    ["\u6771\u4eac\u306e\u5929\u6c17\u3092\u6559\u3048\u3066", "\u0627\u0644\u0637\u0642\u0633 \u0627\u0644\u064a\u0648\u0645", "na\u00efve caf\u00e9", "x"],
)  # fmt: skip
def test_every_script_is_compared(log: EventLog, one: str) -> None:
    log.append([*failed("far away from it"), *(mine := failed(one + " 12"))])
    found = log.find_similar_failures(one.upper() + " 77", 1)
    assert (found["call_id"].item(), found["similarity"].item()) == (id_of(mine), 1.0)


# What there is not


def test_an_empty_log_has_no_failures(log: EventLog) -> None:
    found = log.find_similar_failures("anything")
    assert found.height == 0
    assert found.columns[:3] == ["similarity", "same", "call_id"]
    log.append(failed(PROMPT))
    full = log.find_similar_failures("anything")
    assert full.height == 1
    assert full.schema == found.schema


def test_what_nothing_is_like_still_finds_the_latest(log: EventLog) -> None:
    log.append([*failed(PROMPT), *(last := failed(""))])
    for text in ("zzz qqq", "!!!", "\x00", "\ufffd" * 5000):
        found = log.find_similar_failures(text)
        assert found["similarity"].to_list() == [0.0, 0.0]
        assert found["call_id"][0] == id_of(last)


def test_what_cannot_be_asked_is_refused_in_a_sentence(log: EventLog) -> None:
    log.append(failed(PROMPT))
    unknown = new_id()
    for bad, says in ((unknown, f"no call {unknown}"), ("  ", "nothing to compare")):
        with pytest.raises(UsageError, match=says):
            log.find_similar_failures(bad)
    with pytest.raises(UsageError, match="at least 1, not 0"):
        log.find_similar_failures(PROMPT, 0)


def test_calls_without_words_are_compared_by_their_error(log: EventLog) -> None:
    alone = LlmCallFailed(
        call_id=new_id(), provider="p", request_model="m", error_type="timeout",
        error_message="no answer in 1 s", latency_ms=1, operation="embeddings",
    )  # fmt: skip
    log.append([alone, *(other := failed(PROMPT))])
    assert log.find_similar_failures(alone.call_id)["call_id"].to_list() == [id_of(other)]
    assert log.find_similar_failures(id_of(other))["prompt"].to_list() == [None]


# What was done next


def nexts(log: EventLog, call_id: str) -> dict[str, str] | None:
    found = log.find_similar_failures("no answer in 3 s", 99).to_dicts()
    return next(row["next"] for row in found if row["call_id"] == call_id)


def test_what_was_done_next_is_told_and_grows_with_the_log(log: EventLog) -> None:
    mine = failed(PROMPT, conversation_id="c1")
    log.append(mine)
    assert nexts(log, id_of(mine)) is None

    def told(how: str, event: LlmCallStarted, status: str) -> dict[str, str]:
        model = f"openai/{event.request_model}"
        return {"how": how, "call_id": event.call_id, "model": model, "status": status}

    turn = asked("And now?", conversation_id="c1", model="small")
    log.append(turn)
    assert nexts(log, id_of(mine)) == told("same conversation", turn, "running")
    again = asked(PROMPT, model="medium")
    log.append([answered(turn), again])
    log.fold()
    assert nexts(log, id_of(mine)) == told("same prompt", again, "running")
    log.append(answered(again))
    assert nexts(log, id_of(mine)) == told("same prompt", again, "finished")
    instead = asked("other words", model="large", fallback_of=id_of(mine))
    log.append([instead, asked(PROMPT), asked("And?", conversation_id="c1")])
    assert nexts(log, id_of(mine)) == told("fallback", instead, "running")


def test_only_what_began_after_the_failure_followed_it(log: EventLog) -> None:
    (start, end), beside = failed(PROMPT, conversation_id="c1"), asked(PROMPT, conversation_id="c1")
    log.append([start, beside, end, answered(beside)])
    assert nexts(log, id_of([start])) is None


# As the log grows


def test_growing_in_pages_folded_or_not_finds_what_a_fresh_look_finds(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "_PAGE_POSITIONS", 7)
    monkeypatch.setattr(similar, "_BLOCK_FAILURES", 10)
    for i in range(40):
        log.append([*failed(f"{PROMPT} {'and so on ' * (i % 5)}", message=f"case {'abc'[i % 3]}")])
        log.append([*call(), harvested(i)])
        if i % 9 == 0:
            log.fold()
            log.find_similar_failures(PROMPT)
    found = log.find_similar_failures(PROMPT, 50)
    with EventLog(log.folder) as fresh:
        assert fresh.find_similar_failures(PROMPT, 50).equals(found)
    assert found.height == 40
    # Neighbours are merged: there are as few blocks as their greatest size allows.
    blocks = log._failures._blocks  # type: ignore[union-attr]
    assert sum(len(b.errors) for b in blocks) == 40
    assert len(blocks) <= 8


def test_only_the_latest_are_remembered(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "_BLOCK_FAILURES", 4)
    monkeypatch.setattr(similar, "MOST_FAILURES", 8)
    ids: list[str] = []
    for i in range(30):
        log.append(events := failed(PROMPT, conversation_id=f"c{i}"))
        ids.append(id_of(events))
        log.find_similar_failures(PROMPT, 1)
    found = log.find_similar_failures(PROMPT, 99)["call_id"].to_list()
    assert 8 <= len(found) <= 12
    assert found == ids[: -len(found) - 1 : -1]
    assert log.find_similar_failures(ids[0], 1).height == 1  # it is still in the log


def test_an_interrupt_while_it_catches_up_harms_nothing(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(failed(PROMPT))
    log.find_similar_failures(PROMPT)
    log.append(failed(PROMPT))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(similar.Failures, "_follow", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.find_similar_failures(PROMPT)
    assert log.find_similar_failures(PROMPT).height == 2


def test_threads_ask_while_others_append(log: EventLog) -> None:
    log.append(failed(PROMPT))
    heights: list[int] = []

    def ask() -> None:
        heights.extend(log.find_similar_failures(PROMPT, 100).height for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        log.append(failed(PROMPT))
    for thread in threads:
        thread.join()
    assert len(heights) == 40
    assert log.find_similar_failures(PROMPT, 100).height == 21


FORKS = """
import os, signal, sys
from tests.log.test_similar import PROMPT, failed
from tracemill.log import EventLog
from tracemill.log.similar import Failures
from tracemill.errors import UsageError
with EventLog(sys.argv[1]) as log:
    log.append(failed(PROMPT))
    parent = Failures(log)
    assert len(parent.nearest(PROMPT, 5)) == 1
    parent._lock.acquire()  # as a thread would that is half-way through
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        log.append(failed(PROMPT))
        assert len(parent.nearest(PROMPT, 5)) == 2
        if sys.argv[2] == "polars":
            try:
                log.find_similar_failures(PROMPT)
            except UsageError as error:
                assert "spawn" in str(error)
                os._exit(7)
            os._exit(1)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    parent._lock.release()
    assert len(parent.nearest(PROMPT, 5)) == 2
"""


@pytest.mark.parametrize("loaded", ["polars", "no"])
def test_a_forked_child_goes_on(tmp_path: Path, loaded: str) -> None:
    program = ("import polars\n" if loaded == "polars" else "") + FORKS
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "log"), loaded],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert (ran.returncode, ran.stderr) == (0, "")


# The nearest are exact

WORDS = ["a", "b", "c", "dd", "e"]
made_texts = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


def pairs(text: str) -> set[tuple[str, str]]:
    words = text.split()
    return set(zip(["", *words], words, strict=False))


def jaccard(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / max(1, len(one | other))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(made_texts, min_size=1, max_size=40), made_texts, st.integers(1, 5), st.integers(0, 3)
)
def test_the_nearest_texts_are_those_that_looking_at_each_finds(
    texts: list[str], query: str, n: int, seed: int
) -> None:
    half = len(texts) // 2
    built = [
        Postings.of(pairs_of(pa.array(part, pa.string())), len(part))
        for part in (texts[:half], texts[half:])
    ]
    postings = built[0].plus(built[1])
    hashes = hashes_of(pa.array([query]))
    true = np.array([jaccard(pairs(text), pairs(query)) for text in texts])
    assert np.allclose(postings.similarities(hashes), true)
    for number, text in enumerate(texts):
        assert postings.hashes_in(number).tolist() == hashes_of(pa.array([text])).tolist()
    kinds = np.random.default_rng(seed).integers(0, 3, len(texts))
    among, always = kinds == 0, kinds == 1
    found, similar_ = postings.nearest(hashes, n, among=among, always=always)
    assert np.allclose(similar_, true[found])
    assert set(np.flatnonzero(always)) <= set(found) <= set(np.flatnonzero(among | always))
    best = sorted(true[among], reverse=True)[:n]
    assert np.allclose(sorted(true[found][kinds[found] == 0], reverse=True)[: len(best)], best)


def test_a_template_that_all_share_is_hardly_looked_at() -> None:
    """Two thousand prompts of two hundred words of which all but a few are the same."""
    shared = " ".join(f"w{i}" for i in range(200))
    texts = pa.array([f"{shared} x{i % 700} y{i}" for i in range(2000)])
    postings = Postings.of(pairs_of(texts), len(texts))
    everything = np.ones(len(texts), bool)
    query = hashes_of(pa.array([f"{shared} x5 y5"]))
    found, similar_ = postings.nearest(query, 3, among=everything, always=~everything)
    assert set(found) >= {5, 705, 1405}
    assert len(found) < 10
    assert similar_.max() == 1.0


def test_a_long_prompt_is_compared_by_its_beginning_and_its_end(log: EventLog) -> None:
    middle = "".join(f"w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)} " for i in range(3000))
    with tempfile.TemporaryDirectory():
        log.append([*(long := failed(f"{PROMPT} {middle} the end")), *failed(middle)])
    found = log.find_similar_failures(f"{PROMPT} {middle} {middle} the end", 1)
    assert found["call_id"].item() == id_of(long)
    assert found["similarity"].item() > 0.9

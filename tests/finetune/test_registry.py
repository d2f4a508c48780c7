"""Versions of models: what promotes them, what does not, and the laws that always hold."""

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.finetune.versions_made import (
    NAME,
    checked,
    compared,
    digest,
    evaluated,
    registered,
)
from tracemill import EventLog
from tracemill.errors import PromotionRefused, UsageError, VersionConflict
from tracemill.events import Measured, ModelPromoted, ModelRetired, ModelRolledBack
from tracemill.finetune import registry
from tracemill.finetune.registry import find, model, production, promote, retire, rollback, versions

FORCED = "the old one has to go"


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log")


def states(log: EventLog) -> dict[str, str]:
    return {version.digest[:4]: version.state for version in versions(log, NAME)}


def kinds(log: EventLog) -> list[str]:
    return [each.event.kind for each in log.read(stream=f"model:{NAME}")]  # type: ignore[attr-defined]


def serve(log: EventLog, *numbers: int) -> None:
    """Versions that were in production one after the other."""
    log.append([registered(number) for number in numbers])
    for number in numbers:
        promote(log, NAME, digest(number), force_reason=FORCED)


# What it takes to be promoted


def test_evidence_promotes_the_first_version_and_says_what_it_is(log: EventLog) -> None:
    log.append([registered(1), evaluated(1), checked()])
    version = promote(log, NAME, digest(1), actor="me")
    assert (version.state, version.reason) == (
        "production",
        "accuracy 0.900 [0.850, 0.940], 200 cases",
    )
    assert production(log, NAME) == version
    *_, last = log.read(stream=f"model:{NAME}")
    assert isinstance(last.event, ModelPromoted)
    assert (last.event.previous, last.event.forced, last.event.actor) == (None, False, "me")


def test_a_version_that_is_as_good_as_the_one_in_production_replaces_it(log: EventLog) -> None:
    serve(log, 1)
    comparison = compared(2, 1)
    log.append([registered(2), evaluated(2), checked(), comparison])
    version = promote(log, NAME, digest(2)[:5])
    assert states(log) == {"0001": "retired", "0002": "production"}
    assert find(log, NAME, digest(1)).reason == f"replaced by {digest(2)[:8]}"
    assert version.reason == (
        "accuracy 0.900 [0.850, 0.940], 200 cases; "
        "accuracy 0.91 -> 0.9 on 200 cases, -0.01 [-0.03, +0.01]"
    )
    *_, last = log.read(stream=f"model:{NAME}")
    assert isinstance(last.event, ModelPromoted)
    assert (last.event.previous, last.event.comparison_id) == (digest(1), comparison.event_id)


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        ([], "has not been evaluated: `tracemill evals run SET --model ft:local:router:"),
        ([evaluated(2, "fail")], "says fail: accuracy 0.900 [0.850, 0.940] on 200 cases"),
        ([evaluated(2, "not_enough_data")], "by questions says not enough data: accuracy 0.900"),
        ([evaluated(2), evaluated(2, "fail"), checked()], "its evaluation by questions says fail"),
        # What was asked without a threshold, of a test, or of another version proves nothing.
        ([evaluated(2, "fail"), evaluated(2, thresholds={}), checked()], "questions says fail"),
        ([evaluated(2, name="test_smoke"), checked()], "has not been evaluated"),
        ([evaluated(3), checked()], "has not been evaluated"),
        (
            [evaluated(2), compared(2, 1)],
            (
                "nobody has looked for the cases of questions in the split 'train' of records "
                "dddddddd: `tracemill evals contamination questions` does that"
            ),
        ),
        ([evaluated(2), checked(split="validation"), compared(2, 1)], "nobody has looked for"),
        ([evaluated(2), checked(trained_on="f" * 16), compared(2, 1)], "nobody has looked for"),
        ([evaluated(2), checked(dataset_digest="f" * 16)], "nobody has looked for"),
        (
            [evaluated(2), checked(5), compared(2, 1)],
            (
                "5 of 200 cases of questions stand in the split 'train' of records dddddddd, "
                "which it was trained on, such as case-0, case-1, case-2"
            ),
        ),
        ([evaluated(2), checked(), checked(1), compared(2, 1)], "1 of 200 cases"),
        (
            [evaluated(2), checked()],
            "was not compared with router:00010001, which is in production",
        ),
        ([evaluated(2), checked(), compared(2, 3)], "was not compared with router:00010001"),
        ([evaluated(2), checked(), compared(3, 1)], "was not compared with router:00010001"),
        ([evaluated(2), checked(), compared(2, 1, against="baseline")], "was not compared"),
        ([evaluated(2), checked(), compared(2, 1, dataset_digest="f" * 16)], "was not compared"),
        (
            [evaluated(2), checked(), compared(2, 1), compared(2, 1, "fail")],
            (
                "held against router:00010001, which is in production, it says fail: "
                "accuracy 0.91 -> 0.9 on 200 cases, -0.01 [-0.03, +0.01]"
            ),
        ),
        ([evaluated(2), checked(), compared(2, 1, "not_enough_data")], "says not enough data"),
    ],
)
def test_without_evidence_it_stays_a_candidate_and_the_log_says_why(
    log: EventLog, evidence: list[Any], why: str
) -> None:
    serve(log, 1)
    log.append([registered(2), *evidence])
    before = model(log, NAME)
    with pytest.raises(PromotionRefused) as refused:
        promote(log, NAME, digest(2), actor="me")
    line = str(refused.value)
    assert line.startswith("router:00020002 is not promoted: ")
    assert why in line
    assert "`tracemill models promote router:00020002 --force --reason TEXT`" in line
    assert "\n" not in line
    *_, last = log.read(stream=f"model:{NAME}")
    told = last.event.model_dump(include={"kind", "digest", "previous", "reason", "actor"})
    assert told == {
        "kind": "model.promotion_refused",
        "digest": digest(2),
        "previous": digest(1),
        "reason": line,
        "actor": "me",
    }
    assert production(log, NAME) == before.versions[digest(1)]
    assert find(log, NAME, digest(2)).reason == line


def test_an_evaluation_that_had_nothing_to_reach_proves_nothing(log: EventLog) -> None:
    bits = {"bits_per_byte": Measured(value=7.9, low=7.8, high=8.0, n=50)}
    log.append([registered(1), evaluated(1, thresholds={}, metrics=bits), checked()])
    with pytest.raises(PromotionRefused, match=r"had nothing to reach: set .*at_least"):
        promote(log, NAME, digest(1))


def test_a_version_that_fell_behind_its_baseline_is_refused(log: EventLog) -> None:
    done = evaluated(1)
    held = compared(1, 9, "fail", against="baseline")
    held = held.model_copy(update={"evaluation_id": done.evaluation_id})
    log.append([registered(1), done, checked(), held])
    with pytest.raises(PromotionRefused, match="held against its baseline"):
        promote(log, NAME, digest(1))


def test_an_evaluation_called_after_the_version_counts(log: EventLog) -> None:
    own = f"ft:local:{NAME}:{digest(1)}"
    log.append([registered(1), evaluated(1, name=own), checked()])
    assert promote(log, NAME, digest(1)).state == "production"


# Force


def test_force_needs_a_reason_and_the_reason_is_kept(log: EventLog) -> None:
    serve(log, 1)
    log.append([registered(2), evaluated(2, "fail")])
    for nothing in ("", "  "):
        with pytest.raises(UsageError, match="say why: `--reason TEXT`"):
            promote(log, NAME, digest(2), force_reason=nothing)
    version = promote(log, NAME, digest(2), force_reason=" it answers\nfaster ", actor="me")
    assert (version.state, version.reason) == ("production", "it answers faster")
    *_, last = log.read(stream=f"model:{NAME}")
    assert isinstance(last.event, ModelPromoted)
    assert last.event.forced


def test_what_is_in_production_stays_there_and_nothing_is_recorded(log: EventLog) -> None:
    serve(log, 1)
    before = log.position()
    assert promote(log, NAME, digest(1)).state == "production"
    assert promote(log, NAME, digest(1), force_reason="again").reason == FORCED
    assert log.position() == before


# Back, and out of use


def test_rolling_back_again_goes_further_back_and_never_to_what_was_left(log: EventLog) -> None:
    serve(log, 1, 2, 3)
    assert rollback(log, NAME, reason="3 is slow").digest == digest(2)
    assert find(log, NAME, digest(3)).reason == "3 is slow"
    assert rollback(log, NAME, reason="2 as well").digest == digest(1)
    assert states(log) == {"0001": "production", "0002": "retired", "0003": "retired"}
    with pytest.raises(UsageError, match="nothing to roll 'router' back to: before 00010001 no"):
        rollback(log, NAME, reason="1 too")
    last = [each.event for each in log.read(stream=f"model:{NAME}")][-1]
    assert isinstance(last, ModelRolledBack)
    assert (last.digest, last.previous) == (digest(1), digest(2))


def test_what_was_retired_is_not_gone_back_to(log: EventLog) -> None:
    serve(log, 1, 2, 3)
    retire(log, NAME, digest(2), reason="it leaks")
    assert rollback(log, NAME, reason="3 is slow").digest == digest(1)


def test_nothing_is_rolled_back_where_nothing_is_in_production(log: EventLog) -> None:
    log.append(registered(1))
    with pytest.raises(UsageError, match="no version of 'router' is in production"):
        rollback(log, NAME, reason="why not")
    assert kinds(log) == ["model.registered"]


def test_what_was_rolled_back_or_retired_comes_back_by_force_alone(log: EventLog) -> None:
    serve(log, 1, 2)
    log.append([evaluated(2), checked(), compared(2, 1)])
    rollback(log, NAME, reason="people complain")
    with pytest.raises(PromotionRefused, match=r"it was retired on 20\d\d-\d\d-\d\d: people compl"):
        promote(log, NAME, digest(2))
    assert promote(log, NAME, digest(2), force_reason="mended").state == "production"
    # What was merely replaced is welcome on evidence.
    log.append([evaluated(1), compared(1, 2)])
    assert promote(log, NAME, digest(1)).state == "production"


def test_the_version_in_production_is_not_retired(log: EventLog) -> None:
    serve(log, 1, 2)
    with pytest.raises(UsageError, match="router:00020002 is in production: promote another ver"):
        retire(log, NAME, digest(2), reason="old")
    assert retire(log, NAME, digest(1), reason="old").reason == "old"
    before = log.position()
    assert retire(log, NAME, digest(1), reason="older").reason == "old"
    assert log.position() == before


# Names


@pytest.mark.parametrize("order", [promote, find])
def test_a_version_that_is_not_clear_says_what_there_is(log: EventLog, order: Any) -> None:
    log.append([registered(1), registered(2), registered(0x1F00)])
    with pytest.raises(UsageError) as told:
        order(log, NAME, "000")
    assert str(told.value) == (
        "2 versions of 'router' begin with '000': 00010001 (candidate), 00020002 (candidate)"
    )
    with pytest.raises(UsageError) as told:
        order(log, NAME, "abc")
    assert str(told.value) == (
        "no version of 'router' begins with 'abc': there are 00010001 (candidate), "
        "00020002 (candidate), 1f001f00 (candidate)"
    )
    with pytest.raises(UsageError, match="3 versions of 'router' begin with ''"):
        order(log, NAME, "")
    with pytest.raises(UsageError, match="no model is called 'other': there are router"):
        order(log, "other", "abc")


def test_versions_of_all_models_are_told_oldest_first(log: EventLog) -> None:
    log.append([registered(1), registered(2, name="another"), registered(3)])
    assert [version.label for version in versions(log)] == [
        "router:00010001",
        "another:00020002",
        "router:00030003",
    ]
    assert production(log, NAME) is None
    assert versions(log, "unknown") == []


# Several at once


def test_of_promotions_at_once_each_is_decided_by_what_is_then_there(log: EventLog) -> None:
    count = 6
    log.append([registered(number) for number in range(count)])
    start = threading.Barrier(count)

    def one(number: int) -> None:
        start.wait()
        promote(log, NAME, digest(number), force_reason=FORCED)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    promoted = [
        each.event
        for each in log.read(stream=f"model:{NAME}")
        if isinstance(each.event, ModelPromoted)
    ]
    assert len(promoted) == count
    assert [each.previous for each in promoted] == [None, *(each.digest for each in promoted[:-1])]
    assert sorted(states(log).values()) == ["production"] + ["retired"] * (count - 1)


def test_a_rollback_that_came_second_rolls_nothing_back(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(log, 1, 2, 3)
    append = log.append

    def second(*arguments: Any, **named: Any) -> list[int]:
        monkeypatch.undo()
        rollback(log, NAME, reason="I was first")
        return append(*arguments, **named)

    monkeypatch.setattr(log, "append", second)
    with pytest.raises(VersionConflict):
        rollback(log, NAME, reason="so was I")
    assert states(log) == {"0001": "retired", "0002": "production", "0003": "retired"}


# Laws

orders = st.lists(
    st.tuples(
        st.sampled_from(["register", "promote", "force", "rollback", "retire", "evidence"]),
        st.integers(0, 3),
    ),
    max_size=14,
)


def carry_out(log: EventLog, order: str, number: int) -> None:
    serving = production(log, NAME)
    match order:
        case "register":
            log.append(registered(number))
        case "evidence":
            log.append([evaluated(number), checked()])
            if serving:
                log.append(compared(number, int(serving.digest[:4], 16)))
        case "promote":
            promote(log, NAME, digest(number))
        case "force":
            promote(log, NAME, digest(number), force_reason=FORCED)
        case "rollback":
            rollback(log, NAME, reason=f"left {number}")
        case _:
            retire(log, NAME, digest(number), reason=f"retired {number}")


def seen_by_view(log: EventLog, until: int | None = None) -> dict[str, tuple[str, str]]:
    query = "SELECT digest, state, reason FROM models WHERE name = $name ORDER BY digest"
    return {each[0]: each[1:] for each in log.sql(query, {"name": NAME}, until=until).rows()}


@settings(max_examples=15, deadline=None)
@given(orders)
def test_whatever_is_ordered_one_version_at_most_is_in_production(
    wanted: list[tuple[str, int]],
) -> None:
    with TemporaryDirectory() as folder, EventLog(folder) as log:
        seen: list[tuple[int, dict[str, tuple[str, str]]]] = []
        for order, number in wanted:
            before = model(log, NAME)
            try:
                carry_out(log, order, number)
            except (UsageError, PromotionRefused):
                assert model(log, NAME).production == before.production
            known = model(log, NAME)
            serving = [v.digest for v in known.versions.values() if v.state == "production"]
            assert serving == ([known.production] if known.production else [])
            assert known.production not in known.earlier
            assert len(set(known.earlier)) == len(known.earlier)
            assert {known.versions[each].state for each in known.earlier} <= {"retired"}
            told = {v.digest: (v.state, v.reason) for v in known.versions.values()}
            seen.append((log.position(), told))
        # Read from its files by another one, and asked as of then, the log says the same.
        with EventLog(folder) as again:
            assert model(again, NAME) == model(log, NAME)
            for position, told in seen[-2:]:
                assert seen_by_view(again, position) == told


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([ModelPromoted, ModelRolledBack, ModelRetired]), st.integers(0, 3)
        ),
        max_size=10,
    )
)
def test_the_view_and_the_registry_agree_whatever_stands_in_the_log(
    told: list[tuple[type, int]],
) -> None:
    with TemporaryDirectory() as folder, EventLog(folder) as log:
        more: dict[type, Any] = {ModelRolledBack: {"previous": digest(9)}}
        log.append([registered(0), registered(1)])
        for kind, number in told:
            same = {"name": NAME, "digest": digest(number), "reason": f"as of {number}"}
            log.append(kind(**same, **more.get(kind, {})))
        log.append(registered(2))
        found = {v.digest: (v.state, v.reason) for v in registry.versions(log, NAME)}
        assert seen_by_view(log) == found

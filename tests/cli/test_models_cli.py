"""`tracemill models`, and what `tracemill evals compare --production` adds to its evidence."""

from pathlib import Path

import pytest

from tests.cli.running import Run
from tests.finetune.versions_made import NAME, checked, compared, digest, evaluated, registered
from tracemill import EventLog, Settings
from tracemill.events import CasesScored
from tracemill.finetune.registry import promote


@pytest.fixture
def log(warehouse: Path) -> EventLog:
    """Version 1 is in production, version 2 is a candidate."""
    log = EventLog.open(Settings(warehouse=warehouse))
    log.append([registered(1), registered(2)])
    promote(log, NAME, digest(1), force_reason="the first one")
    return log


def states(run: Run) -> dict[str, str]:
    return {row["digest"]: row["state"] for row in run("models", "ls", "--json").lines}


def test_versions_are_listed_with_their_states_and_why(run: Run, log: EventLog) -> None:
    log.append(registered(3, name="other"))
    listed = run("models", "ls")
    assert listed.code == 0
    rows = [line.split() for line in listed.out.splitlines()]
    assert [row[:2] for row in rows] == [
        ["version", "state"],
        ["other:00030003", "candidate"],
        ["router:00010001", "production"],
        ["router:00020002", "candidate"],
    ]
    assert rows[2][-3:] == ["the", "first", "one"]
    assert run("models", "ls", NAME).out.count("router:") == 2
    assert states(run)[digest(1)] == "production"


def test_a_warehouse_without_models_says_how_to_get_one(run: Run, warehouse: Path) -> None:
    for found in (run("models", "ls"), run("models", "ls", "unknown")):
        assert (found.code, found.out) == (0, "")
        assert "`tracemill finetune start NAME` trains one" in found.err
    refused = run("models", "promote", "router:12")
    assert refused.code == 2
    assert refused.err == (
        "error: no model is called 'router': `tracemill finetune start NAME` trains one\n"
    )


def test_evidence_promotes_and_the_line_says_what_it_is(run: Run, log: EventLog) -> None:
    log.append([evaluated(2), checked(), compared(2, 1)])
    done = run("models", "promote", "router:0002")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "router:00020002 is in production, instead of router:00010001: accuracy 0.900 [0.850, "
        "0.940], 200 cases; accuracy 0.91 -> 0.9 on 200 cases, -0.01 [-0.03, +0.01]\n"
    )
    again = run("models", "promote", f"ft:local:router:{digest(2)}")
    assert (again.code, again.out) == (0, "router:00020002 is in production already\n")


def test_a_refusal_is_one_line_with_the_mend_and_exits_with_1(run: Run, log: EventLog) -> None:
    refused = run("models", "promote", "router:0002", "--json")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        "error: router:00020002 is not promoted: it has not been evaluated: `tracemill evals run "
        f"SET --model ft:local:router:{digest(2)} --name router` does that; `tracemill models "
        "promote router:00020002 --force --reason TEXT` does it all the same\n"
    )
    assert states(run)[digest(2)] == "candidate"


def test_force_and_reason_go_together(run: Run, log: EventLog) -> None:
    for wrong in (["--force"], ["--reason", "because"]):
        refused = run("models", "promote", "router:0002", *wrong)
        assert (refused.code, states(run)[digest(2)]) == (2, "candidate")
        assert "--force and --reason go together" in refused.err
    done = run("models", "promote", "router:0002", "--force", "--reason", "because", "--json")
    assert [(row["digest"], row["state"], row["reason"]) for row in done.lines] == [
        (digest(2), "production", "because")
    ]


def test_back_and_out_of_use(run: Run, log: EventLog) -> None:
    promote(log, NAME, digest(2), force_reason="new")
    assert run("models", "rollback", NAME).code == 2
    back = run("models", "rollback", NAME, "--reason", "it is slow")
    assert back.out == "router:00010001 is in production again: it is slow\n"
    assert states(run) == {digest(1): "production", digest(2): "retired"}
    assert "nothing to roll" in run("models", "rollback", NAME, "--reason", "more").err
    refused = run("models", "retire", "router:0001", "--reason", "old")
    assert (refused.code, "is in production" in refused.err) == (2, True)
    log.append(registered(3))
    retired = run("models", "retire", "router:0003", "--reason", "unused")
    assert retired.out == "router:00030003 is retired: unused\n"


def test_a_version_has_to_be_named(run: Run, log: EventLog) -> None:
    assert run("models", "promote", NAME).err == (
        "error: say which version of 'router': `tracemill models ls router` lists them\n"
    )
    assert "2 versions of 'router' begin with '00'" in run("models", "promote", "router:00").err
    assert "no model is called 'none': there are router" in run("models", "show", "none").err


def test_lineage_is_told_from_the_data_to_the_last_refusal(run: Run, log: EventLog) -> None:
    log.append([evaluated(2), checked(), compared(2, 1, "fail")])
    assert run("models", "promote", "router:0002").code == 1
    told = run("models", "show", "router:0002").out
    for part in (
        "router:00020002  candidate",
        f"answers as ft:local:router:{digest(2)}",
        "made by local: classify of classify",
        "of 100 examples: records dddddddddddddddd",
        "split train, file eeeeeeeeeeeeeeee",
        "0 of 200 cases of questions stand in it",
        "accuracy 0.900 [0.850, 0.940] on 200 cases of questions, 0.8 is asked for: pass",
        (
            "accuracy -0.010 [-0.030, +0.010] on 200 cases of questions, against production "
            f"ft:local:router:{digest(1)}: fail"
        ),
        "promotion refused: router:00020002 is not promoted: held against router:00010001",
    ):
        assert part in told
    (row,) = run("models", "show", NAME, "--json").lines
    assert (row["digest"], row["evaluations"], [each["what"] for each in row["history"]]) == (
        digest(1),
        [],
        ["model.registered", "model.promoted", "model.promotion_refused"],
    )


def test_compared_with_the_one_in_production_it_is_promoted(run: Run, log: EventLog) -> None:
    before, after = evaluated(1, cases=400), evaluated(2, cases=400)
    cases = tuple(f"case-{n}" for n in range(400))
    for event, wrong in ((before, 8), (after, 6)):
        right = tuple(0.0 if n < wrong else 1.0 for n in range(400))
        scored = CasesScored(
            evaluation_id=event.evaluation_id, case_ids=cases, scores={"accuracy": right}
        )
        log.append([scored, event] if event is after else [registered(9)])
        if event is before:
            missing = run("evals", "compare", before.evaluation_id, "--production")
            assert missing.code == 2
            log.append([scored, event])
    log.append(checked())
    alone = run("evals", "compare", before.evaluation_id, "--production")
    assert "no other version of router in production: this one is" in alone.err
    held = run(
        *("evals", "compare", after.evaluation_id[-12:], "--production"),
        *("--tolerance", "accuracy=0.02"),
    )
    assert held.code == 0, held.err
    assert run("models", "promote", "router:0002").code == 0

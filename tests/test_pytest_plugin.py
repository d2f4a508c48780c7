"""The pytest plugin, by runs of pytest: samples decide, recordings answer, snapshots are kept."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.llm.serving import Seen, say, serving
from tracemill import Client, EventLog, Request, Settings
from tracemill.errors import CallFailed
from tracemill.events import CasesScored, EvaluationFinished

pytest_plugins = ["pytester"]

ECHO = """
import pytest

@pytest.mark.llm(samples={samples}, min_accuracy={least}, model="local/echo")
def test_echo(llm):
    right = len(llm.calls) < {right}
    assert llm.generate("hello").text == ("hello" if right else "nothing")
"""
# Without schemathesis, which every run would load and rewrite anew: a second each.
ARGS = (
    *("--strict-markers", "--llm-warehouse=warehouse", "-p", "no:cacheprovider", "-Werror"),
    *("-p", "no:schemathesis"),
)


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A run within this process forgets the modules that it loads, and numpy loads only once."""
    import tracemill.pytest_plugin.samples  # noqa: F401

    settings = Settings(warehouse=tmp_path_factory.mktemp("loaded") / "warehouse").create()
    client = Client.open(settings)
    client.generate(Request.of("hello", model="local/echo"))
    with pytest.raises(CallFailed):
        client.generate(Request.of("<passage>Yes.</passage> Who?", model="local/extract"))
    with serving(lambda seen: say({})) as server, pytest.MonkeyPatch.context() as patched:
        patched.setenv("VLLM_BASE_URL", server.url)
        with pytest.raises(CallFailed):
            client.generate(Request.of("hello", model="vllm/m", response_schema={}))
    client.log.sql("SELECT * FROM calls")
    client.close()
    client.log.close()


def _log(pytester: pytest.Pytester) -> EventLog:
    return EventLog.open(Settings(warehouse=pytester.path / "warehouse"))


def _evaluations(pytester: pytest.Pytester) -> list[EvaluationFinished]:
    with _log(pytester) as log:
        found = [each.event for each in log.read(kinds=["evaluation.finished"])]
    return [event for event in found if isinstance(event, EvaluationFinished)]


# Samples


@pytest.mark.parametrize(
    ("samples", "least", "right", "outcome", "row"),
    [
        (80, 0.95, 80, "passed", "80  1.000 [0.954, 1.000]  pass  80  $0  * ms"),
        (80, 0.95, 60, "failed", "80  0.750 [0.645, 0.832]  fail  80  $0  * ms"),
        (10, 0.95, 10, "failed", "10  1.000 [0.722, 1.000]  not enough data (+63)  10  $0  * ms"),
        (3, None, 3, "passed", "3  1.000 [0.439, 1.000]  pass  3  $0  * ms"),
        (3, None, 2, "failed", "3  0.667 [0.208, 0.939]  fail  3  $0  * ms"),
    ],
)
def test_the_interval_decides(
    pytester: pytest.Pytester,
    samples: int,
    least: float | None,
    right: int,
    outcome: str,
    row: str,
) -> None:
    pytester.makepyfile(test_it=ECHO.format(samples=samples, least=least, right=right))
    ran = pytester.runpytest(*ARGS)
    ran.assert_outcomes(**{outcome: 1})
    lines = [" ".join(line.split()) for line in ran.outlines]
    [found] = [line for line in lines if line.startswith("test_it.py::test_echo ")]
    wanted = " ".join(row.split()).split("*")
    assert found.startswith(f"test_it.py::test_echo {wanted[0]}")
    assert found.endswith(wanted[1])


def test_too_few_samples_say_how_many_more_and_may_be_skipped(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(ECHO.format(samples=10, least=0.95, right=10))
    ran = pytester.runpytest(*ARGS)
    ran.stdout.fnmatch_lines(["*does not tell whether it is at least 0.95: *63 more cases*"])
    pytester.runpytest(*ARGS, "--llm-undecided=skip").assert_outcomes(skipped=1)


def test_what_failed_is_told_by_reason_with_its_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest, itertools
        numbers = itertools.count()

        @pytest.mark.llm(samples=60, min_accuracy=0.9)
        def test_it():
            number = next(numbers)
            assert number >= 20
            if number < 30:
                raise ValueError("no JSON")
        """
    )
    ran = pytester.runpytest(*ARGS)
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*10 x test_it.py:9: ValueError: no JSON"])
    ran.stdout.fnmatch_lines(["*test_it.py:7: AssertionError: assert 0 >= 20"])


def test_one_sample_fails_as_any_test_does(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.llm
        def test_it(llm):
            answer = llm.generate("hello", model="local/echo").text
            assert answer == "goodbye"
        """
    )
    ran = pytester.runpytest(*ARGS)
    ran.stdout.fnmatch_lines(["E*AssertionError: assert 'hello' == 'goodbye'"])


def test_a_call_without_an_answer_is_a_wrong_sample_unless_none_can_have_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.llm(samples=4, min_accuracy=0.5)
        def test_refused(llm):
            llm.generate("Nothing to quote here?")

        @pytest.mark.llm(samples=4, min_accuracy=0.5, model="openai/gpt-5.4-mini")
        def test_no_key(llm):
            llm.generate("hello")
        """
    )
    ran = pytester.runpytest(*ARGS)
    ran.assert_outcomes(failed=2)
    ran.stdout.fnmatch_lines(["*4 x test_*CallFailed: nothing found*", "5 calls, $0"])
    ran.stdout.fnmatch_lines(["*OPENAI_API_KEY*"])
    [event] = _evaluations(pytester)
    assert (event.failed, event.outcome) == (4, "fail")


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        ("samples=0", "samples is from 1 to 100,000, not 0"),
        ("samples='3'", "samples is a whole number, not '3'"),
        ("min_accuracy=1", "min_accuracy is a share between 0 and 1, not 1"),
        ("min_acuracy=0.9", "by name: not min_acuracy"),
        ("5", "by name: not 5"),
        ("prompt='nowhere'", "nowhere"),
    ],
)
def test_a_mark_that_cannot_be_is_told(pytester: pytest.Pytester, mark: str, told: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.llm({mark})\ndef test_it(): pass\n")
    ran = pytester.runpytest(*ARGS)
    ran.assert_outcomes(errors=1)
    assert told in ran.stdout.str()


def test_asynchronous_tests_and_classes_have_samples_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.llm(samples=3, model="local/echo")
        class TestAll:
            @pytest.mark.anyio
            async def test_it(self, llm, anyio_backend):
                assert (await llm.agenerate("hello")).text == "hello"
        """
    )
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'")
    ran = pytester.runpytest(*ARGS)
    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines(["3 calls, $0"])


def test_what_can_be_asked(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from tracemill import Message, Request
        from tracemill.llm import prompts
        from tracemill.llm.prompt_files import parse

        @pytest.mark.llm(model="local/echo")
        def test_all(llm):
            request = Request.of("d", model="local/echo")
            asked = ["a", [{"role": "user", "content": "b"}], (Message(role="user", content="c"),)]
            assert [llm.generate(one).text for one in (*asked, request)] == ["a", "b", "c", "d"]
            assert llm.generate(request, max_output_tokens=5, timeout_s=3).text == "d"

        def test_values_need_a_prompt(llm):
            with pytest.raises(Exception, match="values need a prompt"):
                llm.generate({"a": 1})
        """
    )
    pytester.runpytest(*ARGS, "--llm-model=local/echo").assert_outcomes(passed=2)


def test_a_registered_prompt_takes_values(pytester: pytest.Pytester) -> None:
    from tracemill.llm import prompts

    settings = Settings(warehouse=pytester.path / "warehouse").create()
    made = prompts.Prompt(name="shout", template="{{ what }}!", variables={"what": "string"})
    with EventLog.open(settings) as log:
        version = prompts.add(log, made)
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.llm(prompt="shout@{version}", model="local/echo")
        def test_it(llm):
            assert llm.generate({{"what": "hey"}}).text == "hey!"
        """
    )
    pytester.runpytest(*ARGS).assert_outcomes(passed=1)
    [event] = _evaluations(pytester)
    assert (event.prompt_name, event.prompt_version) == ("shout", version)


def test_results_are_events(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=ECHO.format(samples=4, least=0.2, right=3))
    pytester.runpytest(*ARGS)
    [event] = _evaluations(pytester)
    about = event.model_dump(exclude={"event_id", "occurred_at", "evaluation_id", "latency_ms"})
    assert about | {"dataset_digest": "", "reason": ""} == {
        "kind": "evaluation.finished",
        "actor": "pytest",
        "name": "test_it.py::test_echo",
        "model": "local/echo",
        "dataset": "pytest",
        "dataset_digest": "",
        "cases": 1,
        "samples": 4,
        "failed": 0,
        "metrics": about["metrics"],
        "thresholds": {"accuracy": 0.2},
        "outcome": "pass",
        "reason": "",
        "cost_usd": 0,
        **{name: None for name in ("prompt_name", "prompt_version", "trace_id", "causation_id")},
        "correlation_id": None,
        "erased": None,
    }
    assert event.metrics["accuracy"].value == 0.75
    with _log(pytester) as log:
        [scored] = [each.event for each in log.read(kinds=["evaluation.cases_scored"])]
        calls = log.sql("SELECT call_id, metadata ->> '$.pytest_test' AS test FROM calls")
    assert isinstance(scored, CasesScored)
    assert scored.scores == {"accuracy": (0.75,)}
    assert scored.call_ids[0] in calls["call_id"]
    assert calls["test"].to_list() == ["test_it.py::test_echo"] * 4


# Record and replay

RECORDED = """
import pytest
from tracemill.errors import CallFailed

@pytest.mark.llm(samples=3, model="vllm/m")
def test_numbers(llm):
    number = int(llm.generate("a number", temperature=0.5).text)
    assert number > 0

def test_other(llm):
    assert llm.generate("a number", model="vllm/m", temperature=0.5).text.isdigit()

def test_failed(llm):
    with pytest.raises(CallFailed, match="nothing found"):
        llm.generate("Who?", model="local/extract")
"""


def test_a_recording_answers_without_network(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count(1)

    def answer(seen: Seen):
        message = {"role": "assistant", "content": str(next(numbers))}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        return say({"id": "x", "model": "m", "choices": [choice], "usage": usage})

    monkeypatch.setenv("VLLM_API_KEY", "secret-key-0123456789")
    pytester.makepyfile(test_it=RECORDED)
    with serving(answer) as server:
        monkeypatch.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        pytester.runpytest(*ARGS, "--llm-record").assert_outcomes(passed=3)
        assert len(server.seen) == 4
    # The server is gone, the key too, and the model is at no address that is known.
    monkeypatch.delenv("VLLM_API_KEY")
    monkeypatch.delenv("VLLM_BASE_URL")
    before = _log(pytester).position()
    ran = pytester.runpytest(*ARGS, "--llm-replay", "-vv")
    ran.assert_outcomes(passed=3)
    ran.stdout.fnmatch_lines(["test_it.py::test_numbers*3*1.000*pass*3*$0*"])
    # The log only gives, and knows no key.
    assert _log(pytester).position() == before
    kept = b"".join(path.read_bytes() for path in (pytester.path / "warehouse").rglob("*.db*"))
    assert b"secret-key-0123456789" not in kept
    # Each sample has the answer that it had, in their order.
    pytester.makepyfile(test_it=RECORDED.replace("> 0", "== len(llm.calls)"))
    pytester.runpytest(*ARGS, "--llm-replay", "-k", "numbers").assert_outcomes(passed=1)


def test_what_was_not_recorded_says_how_to_record_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=ECHO.format(samples=2, least=None, right=9))
    pytester.runpytest(*ARGS, "--llm-record").assert_outcomes(passed=1)
    changed = ECHO.format(samples=2, least=None, right=9).replace("hello", "hullo")
    pytester.makepyfile(test_it=changed)
    ran = pytester.runpytest(*ARGS, "--llm-replay")
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(
        ["*no answer of local/echo to 'hullo' is recorded in *pytest --llm-record 'test_it.py::*"]
    )
    pytester.makepyfile(test_it=ECHO.format(samples=3, least=None, right=9))
    ran = pytester.runpytest(*ARGS, "--llm-replay")
    ran.stdout.fnmatch_lines(["*asks this for the 3. time, and its recording has 2 answers*"])


def test_the_newest_recording_counts(pytester: pytest.Pytester) -> None:
    answers = iter(["old", "new"])

    def answer(seen: Seen):
        choice = {"message": {"role": "assistant", "content": next(answers)}, "index": 0}
        return say({"id": "x", "model": "m", "choices": [choice | {"finish_reason": "stop"}]})

    pytester.makepyfile(
        test_it="def test_it(llm): assert llm.generate('?', model='vllm/m').text in 'old new'"
    )
    with serving(answer) as server, pytest.MonkeyPatch.context() as patched:
        patched.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        for _ in range(2):
            pytester.runpytest(*ARGS, "--llm-record").assert_outcomes(passed=1)
    pytester.makepyfile(
        test_it="def test_it(llm): assert llm.generate('?', model='vllm/m').text == 'new'"
    )
    pytester.runpytest(*ARGS, "--llm-replay").assert_outcomes(passed=1)


def test_an_answer_that_was_asked_for_again_is_replayed_once(pytester: pytest.Pytester) -> None:
    answers = iter(["no JSON", '{"n": 1}'])

    def answer(seen: Seen):
        choice = {"message": {"role": "assistant", "content": next(answers)}, "index": 0}
        return say({"id": "x", "model": "m", "choices": [choice | {"finish_reason": "stop"}]})

    pytester.makepyfile(
        test_it="""
        def test_it(llm):
            schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
            answer = llm.generate("?", model="vllm/m", response_schema=schema)
            assert answer.text == '{"n": 1}'
        """
    )
    with serving(answer) as server, pytest.MonkeyPatch.context() as patched:
        patched.setenv("VLLM_BASE_URL", f"{server.url}/v1")
        pytester.runpytest(*ARGS, "--llm-record").assert_outcomes(passed=1)
        assert len(server.seen) == 2
    pytester.runpytest(*ARGS, "--llm-replay").assert_outcomes(passed=1)


def test_record_and_replay_exclude_each_other_and_a_replay_needs_a_log(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("def test_it(llm): pass")
    ran = pytester.runpytest(*ARGS, "--llm-record", "--llm-replay")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran = pytester.runpytest(*ARGS, "--llm-replay")
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*has no log to replay: record with --llm-record*"])
    assert not (pytester.path / "warehouse").exists()


# Snapshots

KEPT = """
import pytest

@pytest.mark.parametrize("letter", ["a", "A", "x/../y"])
def test_letters(snapshot, letter):
    snapshot(f"letter {letter}\\n")

def test_two(snapshot):
    snapshot({"b": 1, "a": [2]})
    snapshot("second")
    snapshot("named", "answer")
"""


def _kept(pytester: pytest.Pytester) -> dict[str, bytes]:
    folder = pytester.path / "__snapshots__" / "test_it"
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}


def test_snapshots_are_written_only_when_that_is_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=KEPT)
    ran = pytester.runpytest(*ARGS)
    ran.assert_outcomes(failed=4)
    ran.stdout.fnmatch_lines(["*AssertionError: there is no snapshot *--snapshot-update*"])
    assert not (pytester.path / "__snapshots__").exists()
    ran = pytester.runpytest(*ARGS, "--snapshot-update")
    ran.assert_outcomes(passed=4)
    ran.stdout.fnmatch_lines(["snapshots: 6 written"])
    kept = _kept(pytester)
    assert kept["test_letters[a].txt"] == b"letter a\n"
    assert kept["test_two.json"] == b'{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    assert {"test_two--2.txt", "test_two--answer.txt"} <= kept.keys()
    assert len({name.lower() for name in kept}) == 6
    pytester.runpytest(*ARGS).assert_outcomes(passed=4)


def test_a_difference_is_shown(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_it(snapshot): snapshot('one\\ntwo\\n')")
    pytester.runpytest(*ARGS, "--snapshot-update")
    pytester.makepyfile(test_it="def test_it(snapshot): snapshot('one\\n2\\n')")
    ran = pytester.runpytest(*ARGS)
    ran.stdout.fnmatch_lines(["E *--- snapshot", "E *+++ value", "E * one", "E *-two", "E *+2"])


def test_a_name_cannot_leave_the_folder(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_it(snapshot): snapshot('x', '/../../../out')")
    ran = pytester.runpytest(*ARGS, "--snapshot-update")
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["*cannot name a snapshot: '/' leads out of the folder*"])
    assert not list(pytester.path.rglob("out*"))


def test_unused_snapshots_are_told_and_removed_only_on_demand(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=KEPT)
    pytester.runpytest(*ARGS, "--snapshot-update")
    pytester.makepyfile(test_it=KEPT.replace('    snapshot("second")\n', ""))
    told = "snapshots: 1 unused (test_two--2.txt): --snapshot-prune removes them"
    for more in ([], ["--snapshot-update"], ["-k", "two"]):
        ran = pytester.runpytest(*ARGS, *more)
        assert told in ran.outlines
        assert len(_kept(pytester)) == 6
    # Another selection says nothing of it, nor do tests that were left out of their own.
    ran = pytester.runpytest(*ARGS, "-k", "letters", "--snapshot-prune")
    assert not [line for line in ran.outlines if line.startswith("snapshots: ")]
    ran = pytester.runpytest(*ARGS, "--snapshot-prune")
    assert "snapshots: 1 removed" in ran.outlines
    assert len(_kept(pytester)) == 5


def test_snapshots_of_tests_that_failed_or_were_skipped_are_kept(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=KEPT)
    pytester.runpytest(*ARGS, "--snapshot-update")
    for line in ("assert False", "import pytest; pytest.skip('later')"):
        pytester.makepyfile(
            test_it=KEPT.replace("def test_two(snapshot):", "def test_two(snapshot):\n    " + line)
        )
        pytester.runpytest(*ARGS, "--snapshot-prune")
        assert len(_kept(pytester)) == 6
    # A test that is gone, and a file of tests that is gone, need theirs no more.
    pytester.makepyfile(test_it=KEPT.partition("def test_two")[0])
    pytester.runpytest(*ARGS, "--snapshot-prune")
    assert len(_kept(pytester)) == 3
    (pytester.path / "test_it.py").unlink()
    pytester.makepyfile(test_more="def test_more(snapshot): pass")
    pytester.runpytest(*ARGS, "--snapshot-prune")
    assert _kept(pytester) == {}


def test_samples_share_the_snapshots_of_their_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.llm(samples=4, min_accuracy=0.2, model="local/echo")
        def test_it(llm, snapshot):
            snapshot(llm.generate("hello" if len(llm.calls) < 3 else "bye").text)
        """
    )
    pytester.runpytest(*ARGS, "--snapshot-update")
    (pytester.path / "__snapshots__" / "test_it" / "test_it.txt").write_text("hello")
    ran = pytester.runpytest(*ARGS)
    ran.assert_outcomes(passed=1)
    ran.stdout.fnmatch_lines(["*0.750 [[]*pass*"])
    assert list(_kept(pytester)) == ["test_it.txt"]


# Together with others


def test_workers_of_xdist_reach_the_summary_and_share_recordings(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.llm(samples=4, min_accuracy=0.4, model="local/echo")
        @pytest.mark.parametrize("number", range(6))
        def test_it(llm, snapshot, number):
            answer = llm.generate(f"number {number}").text
            assert answer == f"number {number}"
            snapshot(answer)
        """
    )
    spread = (*ARGS, "-n2", "-p", "no:schemathesis", "-p", "no:hypothesispytest")
    ran = pytester.runpytest_subprocess(*spread, "--llm-record", "--snapshot-update")
    ran.assert_outcomes(passed=6)
    assert "snapshots: 6 written" in ran.outlines
    assert "24 calls, $0" in ran.outlines
    assert sum(line.startswith("test_it.py::test_it[") for line in ran.outlines) == 6
    assert len(_evaluations(pytester)) == 6
    stray = pytester.path / "__snapshots__" / "test_it" / "test_gone.txt"
    stray.write_text("")
    ran = pytester.runpytest_subprocess(*spread, "--llm-replay", "--snapshot-prune")
    ran.assert_outcomes(passed=6)
    assert "snapshots: 1 removed" in ran.outlines
    with _log(pytester) as log:
        runs = log.sql("SELECT DISTINCT metadata ->> '$.pytest_recording' AS r FROM calls")
    assert len(runs) == 1


def test_where_it_is_not_used_nothing_of_it_shows_or_loads(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        def test_it():
            loaded = {name for name in sys.modules if name.startswith("tracemill")}
            assert loaded <= {
                "tracemill", "tracemill.pytest_plugin", "tracemill.pytest_plugin.summary"
            }
        """
    )
    ran = pytester.runpytest_subprocess("-p", "no:schemathesis")
    ran.assert_outcomes(passed=1)
    assert "models" not in ran.stdout.str()
    assert "snapshots" not in ran.stdout.str()


def test_it_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(snapshot): pass")
    ran = pytester.runpytest_subprocess("-p", "no:tracemill")
    ran.stdout.fnmatch_lines(["*fixture 'snapshot' not found*"])


def test_it_loads_in_milliseconds() -> None:
    program = (
        "import pytest, time; begun = time.perf_counter()\n"
        "import tracemill.pytest_plugin, tracemill.pytest_plugin.summary\n"
        "print((time.perf_counter() - begun) * 1000)"
    )
    took = [
        float(
            subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
        )
        for _ in range(3)
    ]
    assert min(took) < 50


def test_results_are_in_the_junit_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=ECHO.format(samples=2, least=None, right=9))
    pytester.runpytest(*ARGS, "--junitxml=report.xml", "-o", "junit_family=xunit1")
    text = (pytester.path / "report.xml").read_text()
    row = json.loads(
        text.partition('name="llm" value="')[2].partition('"')[0].replace("&quot;", '"')
    )
    assert (row["samples"], row["outcome"], row["calls"]) == (2, "pass", 2)


def test_an_own_warehouse_takes_a_fixture(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest
        from tracemill import Settings

        @pytest.fixture(scope="session")
        def llm_warehouse(tmp_path_factory):
            return Settings(warehouse=tmp_path_factory.mktemp("warehouse")).create()
        """
    )
    pytester.makepyfile("def test_it(llm): llm.generate('hello', model='local/echo')")
    ran = pytester.runpytest()
    ran.assert_outcomes(passed=1)
    assert not (pytester.path / "warehouse").exists()


def test_without_a_warehouse_the_mend_is_told(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TRACEMILL_WAREHOUSE", raising=False)
    pytester.makepyfile("def test_it(llm): pass")
    ran = pytester.runpytest()
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*run `tracemill init` where it should be*"])

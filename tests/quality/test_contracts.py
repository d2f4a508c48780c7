"""Contracts, against a real server that is wrong in known ways: each fault is found, none on a right one."""

import json
import math
import os
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tests.llm.serving import Answer, Say, Seen, say, serving
from tracemill.errors import InputError, UsageError
from tracemill.quality.contracts import (
    Case,
    Endpoint,
    Raw,
    Report,
    check,
    check_openapi,
    edge_cases,
    shape,
)


class Ask(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=200)
    top_k: int = Field(5, ge=1, le=50)
    mode: Literal["short", "long"] = "short"
    tags: list[str] = []


class Told(BaseModel):
    answer: str
    count: int


class Refusal(BaseModel):
    detail: str


def right(seen: Seen) -> Say:
    """A server that keeps to its contract."""
    try:
        asked = Ask.model_validate_json(seen.body)
    except ValidationError as error:
        return say({"detail": str(error.error_count())}, 422)
    return say({"answer": asked.mode, "count": asked.top_k})


def _parsed(seen: Seen) -> Any:
    try:
        return json.loads(seen.body)
    except ValueError:
        return None


def _text(seen: Seen) -> str:
    found = _parsed(seen)
    text = found.get("text") if isinstance(found, dict) else None
    return text if isinstance(text, str) else ""


def _breaks(when: Callable[[Seen], bool], what: Callable[[Seen], Say]) -> Answer:
    return lambda seen: what(seen) if when(seen) else right(seen)


def _right(seen: Seen) -> bool:
    return right(seen).status == 200


BROKEN = say({"detail": "broken"}, 500)
FAULTS: dict[str, tuple[Answer, str]] = {
    "breaks on null": (
        _breaks(lambda s: b"null" in s.body, lambda s: BROKEN),
        "server_error",
    ),
    "breaks on NUL": (_breaks(lambda s: "\0" in _text(s), lambda s: BROKEN), "server_error"),
    "breaks on half a pair": (
        _breaks(lambda s: b"\\ud800" in s.body, lambda s: BROKEN),
        "server_error",
    ),
    "breaks on direction": (
        _breaks(lambda s: "\u202e" in _text(s), lambda s: BROKEN),
        "server_error",
    ),
    "breaks on depth": (
        _breaks(lambda s: s.body.count(b"{") > 100, lambda s: BROKEN),
        "server_error",
    ),
    "breaks on length": (_breaks(lambda s: len(s.body) > 50_000, lambda s: BROKEN), "server_error"),
    "breaks on no JSON": (_breaks(lambda s: _parsed(s) is None, lambda s: BROKEN), "server_error"),
    "breaks on an empty body": (_breaks(lambda s: not s.body, lambda s: BROKEN), "server_error"),
    "breaks on missing": (
        _breaks(
            lambda s: isinstance(_parsed(s), dict) and "text" not in _parsed(s), lambda s: BROKEN
        ),
        "server_error",
    ),
    "takes extra fields": (
        _breaks(lambda s: b"unexpected" in s.body, lambda s: say({"answer": "", "count": 1})),
        "accepted_invalid",
    ),
    "takes a number above its limit": (
        _breaks(lambda s: b'"top_k": 51' in s.body, lambda s: say({"answer": "", "count": 1})),
        "accepted_invalid",
    ),
    "refuses a number at its limit": (
        _breaks(
            lambda s: b'"top_k": 50' in s.body and _right(s), lambda s: say({"detail": ""}, 422)
        ),
        "refused_valid",
    ),
    "refuses unicode": (
        _breaks(lambda s: "\u4f60" in _text(s) and _right(s), lambda s: say({"detail": ""}, 400)),
        "refused_valid",
    ),
    "answers a page": (
        _breaks(_right, lambda s: Say(b"<html>", 200, {"content-type": "text/html"})),
        "not_json",
    ),
    "answers nothing": (_breaks(_right, lambda s: Say(b"", 204, {})), "not_json"),
    "says that JSON is text": (
        _breaks(_right, lambda s: Say(right(s).body, 200, {"content-type": "text/plain"})),
        "content_type",
    ),
    "numbers as text": (
        _breaks(_right, lambda s: say({"answer": "", "count": "5"})),
        "answer_shape",
    ),
    "lacks a field": (_breaks(_right, lambda s: say({"answer": ""})), "answer_shape"),
    "errors of another form": (
        _breaks(lambda s: not _right(s), lambda s: say({"error": "no"}, 422)),
        "error_shape",
    ),
    "errors that are no JSON": (
        _breaks(lambda s: not _right(s), lambda s: Say(b"Bad Request", 400, {})),
        "not_json",
    ),
    "wrong is not found": (
        _breaks(lambda s: not _right(s), lambda s: say({"detail": "no"}, 404)),
        "undeclared_status",
    ),
    "leads elsewhere": (
        _breaks(_right, lambda s: Say(b"", 302, {"location": "/"})),
        "undeclared_status",
    ),
    "hangs up": (
        _breaks(lambda s: not s.body, lambda s: Say(b"x", 200, cut=True)),
        "no_answer",
    ),
}
RIGHT = [{"text": "why?", "top_k": 3, "mode": "long", "tags": ["a"]}]


def _check(server: Any, **more: Any) -> Report:
    fixed: dict[str, Any] = {"error": Refusal, "examples": RIGHT, "generated": 0}
    return check(Endpoint(server.url), Ask, Told, **fixed | more)


def strict(seen: Seen) -> Say:
    """The same, and it converts nothing."""
    try:
        Ask.model_validate_json(seen.body, strict=True)
    except ValidationError:
        return say({"detail": "no"}, 422)
    return right(seen)


@pytest.mark.parametrize(
    ("form", "answer"),
    [(Ask, right), (Ask, strict), (Ask.model_json_schema(), strict)],
    ids=["model", "model, strict server", "schema"],
)
def test_nothing_is_found_on_a_right_server(form: Any, answer: Answer) -> None:
    with serving(answer) as server:
        report = check(
            Endpoint(server.url), form, Told, error=Refusal, generated=40, time_limit_ms=5_000
        )
    assert report.ok, report
    assert report.cases > 60
    assert report.generated >= 60
    assert report.kept.low > 0.9


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_the_edge_cases(fault: str) -> None:
    answer, kind = FAULTS[fault]
    with serving(answer) as server:
        report = _check(server)
    assert not report.ok
    assert {problem.kind for problem in report.problems} == {kind}, report


def test_what_only_generated_values_reach_is_found_and_made_small() -> None:
    class Tags(BaseModel):
        tags: list[str]

    def answer(seen: Seen) -> Say:
        try:
            tags = Tags.model_validate_json(seen.body).tags
        except ValidationError:
            return say({"detail": "no"}, 422)
        return BROKEN if 2 < len(tags) < 99 else say({})

    with serving(answer) as server:
        report = check(Endpoint(server.url), Tags, generated=50)
    [problem] = report.problems
    assert (problem.kind, problem.case) == ("server_error", "generated")
    assert problem.sent == {"tags": ["", "", ""]}
    assert problem.reproduce == (
        "curl -sS -i -X POST -H 'content-type: application/json' --data-binary "
        f"'{json.dumps(problem.sent)}' {server.url}"
    )


def test_the_same_seed_sends_the_same_values() -> None:
    def sent(seed: int) -> list[Any]:
        seen: list[Any] = []
        check(lambda value: seen.append(value), Ask, generated=10, seed=seed)
        return seen

    one, again, other = sent(1), sent(1), sent(2)
    assert json.dumps(one) == json.dumps(again) != json.dumps(other)


def test_time_is_limited() -> None:
    def answer(seen: Seen) -> Say:
        time.sleep(0.15 * (not seen.body))
        return right(seen)

    with serving(answer) as server:
        report = _check(server, time_limit_ms=100)
    assert ("slow", "an empty body") in {(each.kind, each.case) for each in report.problems}


def test_an_answer_that_does_not_come_in_time_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(seen: Seen) -> Say:
        time.sleep(0.4 * (not seen.body))
        return right(seen)

    with serving(answer) as server:
        report = check(Endpoint(server.url, timeout_s=0.2), Ask, examples=RIGHT, generated=0)
    [problem] = report.problems
    assert (problem.kind, problem.case) == ("no_answer", "an empty body")


def test_only_declared_statuses_may_come() -> None:
    with serving(right) as server:
        assert _check(server, statuses={200, 422}).ok
        report = _check(server, statuses={200, 400})
    assert {problem.kind for problem in report.problems} == {"undeclared_status"}


def test_a_secret_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTRACT_TOKEN", "s3cret-value-123")

    def answer(seen: Seen) -> Say:
        assert seen.headers["authorization"] == "Bearer s3cret-value-123"
        return say({"detail": f"you said {seen.headers['authorization']}"}, 500)

    with serving(answer) as server:
        endpoint = Endpoint(server.url, headers={"authorization": "Bearer ${CONTRACT_TOKEN}"})
        report = check(endpoint, Ask, examples=RIGHT, generated=0)
        text = str(report) + repr(report) + repr(endpoint) + report.frame().write_json()
        assert "s3cret" not in text
        assert '-H "authorization: Bearer ${CONTRACT_TOKEN}"' in text.replace("\\", "")
        monkeypatch.delenv("CONTRACT_TOKEN")
        with pytest.raises(UsageError, match="needs CONTRACT_TOKEN: set it in the environment"):
            check(endpoint, Ask, examples=RIGHT, generated=0)


def test_values_in_an_address_are_text() -> None:
    from urllib.parse import parse_qsl, urlsplit

    class Page(BaseModel):
        name: str
        size: int = Field(10, ge=1, le=100)

    def answer(seen: Seen) -> Say:
        given = dict(parse_qsl(urlsplit(seen.path).query, keep_blank_values=True))
        try:
            return say({"name": Page.model_validate(given).name})
        except ValidationError:
            return say({"detail": "no"}, 422)

    with serving(answer) as server:
        endpoint = Endpoint(server.url, "GET", send="query")
        examples = [{"name": "a", "size": 5}]
        report = check(endpoint, Page, examples=examples, generated=30)
        assert report.ok, report
        wrong = _breaks(lambda s: b"" in s.body, lambda s: say({"name": "x"}))
        server.answer = wrong
        report = check(endpoint, Page, examples=examples, generated=0)
    assert {problem.kind for problem in report.problems} == {"accepted_invalid"}
    assert "--data-urlencode size=101" in " ".join(each.reproduce for each in report.problems)


def test_nobody_at_the_address_is_told_at_once() -> None:
    with serving(right) as server:
        pass
    with pytest.raises(InputError, match="nobody answers there"):
        _check(server)


def test_without_cases_nothing_was_checked(tmp_path: Any) -> None:
    report = check(lambda value: value, Ask, cases=[], generated=0)
    assert (report.ok, report.cases, str(report)[-19:]) == (False, 0, "nothing was checked")
    assert math.isnan(report.kept.value) or report.kept.low == 0
    assert report.frame().shape == (0, 6)


# Functions


def _answer(value: Any) -> Told:
    asked = Ask.model_validate_json(json.dumps(value))
    return Told(answer=asked.text, count=asked.top_k)


async def _answer_async(value: Any) -> Told:
    return _answer(value)


def _spread(text: str, top_k: int = 5, mode: str = "short", tags: Any = ()) -> Told:
    return _answer({"text": text, "top_k": top_k, "mode": mode, "tags": list(tags)})


@pytest.mark.parametrize("function", [_answer, _answer_async], ids=["plain", "async"])
def test_nothing_is_found_on_a_right_function(function: Any) -> None:
    report = check(function, Ask, generated=50)
    assert report.ok, report


def test_fields_can_be_arguments() -> None:
    class Sum(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        one: int
        other: int = 0

    def add(one: int, other: int = 0) -> int:
        Sum(one=one, other=other)
        return one + other

    assert check(add, Sum, spread=True, generated=50).ok


def test_a_function_that_breaks_is_told_from_one_that_refuses() -> None:
    def shout(value: Any) -> str:
        return value["text"].upper()

    report = check(shout, Ask, examples=RIGHT, generated=0)
    kinds = {problem.kind for problem in report.problems}
    assert kinds == {"crashed", "accepted_invalid"}
    got = [problem.got for problem in report.problems]
    assert "KeyError: 'text'" in got
    refuses = (ValueError, KeyError, TypeError, AttributeError)
    report = check(shout, Ask, examples=RIGHT, generated=0, refuses=refuses)
    assert {problem.kind for problem in report.problems} == {"accepted_invalid"}


def test_what_a_function_declares_to_return_is_what_it_has_to_return() -> None:
    def count(value: Any) -> int:
        Ask.model_validate_json(json.dumps(value))
        return "3"  # pyright: ignore[reportReturnType]

    report = check(count, Ask, examples=RIGHT, generated=0)
    assert {problem.kind for problem in report.problems} == {"answer_shape"}
    assert report.problems[0].problem.startswith("the answer is not as declared: $: Input should")
    assert report.problems[0].reproduce.endswith(f"count({RIGHT[0]!r})")


def test_a_value_that_is_no_json_is_reported() -> None:
    report = check(lambda value: object(), {}, {"type": "object"}, examples=[1], generated=0)
    assert {problem.kind for problem in report.problems} == {"not_json"}


# Cases and shapes


def test_cases_know_by_the_schema_what_has_to_be_taken() -> None:
    valid = {case.name: case.valid for case in edge_cases(shape(Ask), RIGHT)}
    wanted = {
        "as it should be": True,
        "$: null": False,
        "$: an extra field": False,
        "$.text: missing": False,
        "$.text: empty": False,
        "$.text: very long": False,
        "$.text: a NUL": True,
        "$.text: right to left": True,
        "$.text: half of a surrogate pair": False,
        "$.top_k: missing": True,
        "$.top_k: 51": False,
        "$.top_k: 50": True,
        # pydantic takes it, the schema does not: either is right.
        "$.top_k: a number in quotes": None,
        "$.tags: very long": None,
        "$.tags: a null inside": False,
        "an empty body": False,
        "NaN, which JSON does not know": None,
    }
    assert {name: valid[name] for name in wanted} == wanted
    # No case is sent twice.
    sent = [repr(case.sent) for case in edge_cases(shape(Ask), RIGHT)]
    assert len(sent) == len(set(sent)) > 80


def test_optional_fields_get_cases_too() -> None:
    report = check(_answer, Ask, generated=20)
    assert report.cases > 60


def test_recursive_schemas_and_formats_are_generated() -> None:
    class Tree(BaseModel):
        at: str = Field(json_schema_extra={"format": "date-time"})
        below: "list[Tree]" = []

    Tree.model_rebuild()

    def depth(value: Any) -> int:
        tree = Tree.model_validate_json(json.dumps(value))
        return 1 + max((depth(each.model_dump()) for each in tree.below), default=0)

    assert check(depth, Tree, generated=30).ok
    # A string that is no time may be taken or refused by a server that goes by the schema.
    time_shape = shape({"type": "string", "format": "date-time"})
    verdicts = [time_shape.verdict(v) for v in ("2026-01-01T00:00:00Z", "yesterday", 3)]
    assert verdicts == [True, None, False]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_a_value_is_taken_or_refused_whatever_it_is(value: Any) -> None:
    assert shape({}).verdict(value) is True
    assert shape({"not": {}}).verdict(value) is False


@pytest.mark.parametrize("form", [{"type": "nonsense"}, object(), {"$ref": "http://x/y"}])
def test_a_form_that_is_none_is_told(form: Any) -> None:
    with pytest.raises(UsageError):
        shape(form)


def test_an_example_that_is_wrong_is_told() -> None:
    with pytest.raises(UsageError, match=r"is not right: \$\.text"):
        check(_answer, Ask, examples=[{"text": 3}], generated=0)
    with pytest.raises(UsageError, match="edge cases need examples"):
        check(_answer, Ask, generated=0)


def test_a_schema_that_leaves_nothing_wrong_is_noted() -> None:
    report = check(lambda value: value, {}, generated=10)
    assert not report.problems
    assert [note for note in report.notes if "negative" in note], report


def test_a_report_can_be_read_and_asked() -> None:
    report = check(lambda value: {}["x"], Ask, examples=RIGHT, cases=[
        Case("null", None, False), Case("bytes", Raw(b""), False), Case("deep", "x" * 500, None),
    ], generated=0)  # fmt: skip
    assert report.frame()["kind"].to_list() == ["crashed", "crashed"]
    assert "    sent       null\n    got        KeyError: 'x'" in str(report)
    assert "... (502 characters)" in str(report)


# OpenAPI

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Ask", "version": "1"},
    "paths": {
        "/ask": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": Ask.model_json_schema()}},
                },
                "responses": {
                    "200": {
                        "description": "an answer",
                        "content": {"application/json": {"schema": Told.model_json_schema()}},
                    },
                    **{
                        status: {
                            "description": "a refusal",
                            "content": {
                                "application/json": {"schema": Refusal.model_json_schema()}
                            },
                        }
                        for status in ("405", "422")
                    },
                },
            }
        }
    },
}


def _routed(answer: Answer) -> Answer:
    return lambda seen: answer(seen) if seen.method == "POST" else say({"detail": "no"}, 405)


def test_a_server_that_keeps_to_its_document_is_right() -> None:
    with serving(_routed(right)) as server:
        report = check_openapi(DOCUMENT, server.url, generated=15)
    assert report.ok, report
    assert report.generated >= 25
    assert report.cases > 25


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("breaks on missing", "server_error"),
        ("numbers as text", "json_schema_error"),
        ("wrong is not found", "undefined_status_code"),
        ("says that JSON is text", "undefined_content_type"),
    ],
)
def test_faults_against_a_document_are_found(fault: str, kind: str) -> None:
    with serving(_routed(FAULTS[fault][0])) as server:
        report = check_openapi(DOCUMENT, server.url, generated=5)
    assert kind in {problem.kind for problem in report.problems}, report


def test_a_document_that_is_none_is_told() -> None:
    with pytest.raises(UsageError, match="no OpenAPI document"):
        check_openapi({"swag": 1}, "http://127.0.0.1:1")
    assert "CONTRACT_TOKEN" not in os.environ

"""Send what a schema allows, and what it does not, and judge each answer."""

import inspect
import json
import re
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from tracemill.errors import InputError, TracemillError, UsageError
from tracemill.quality.contracts import generated as values
from tracemill.quality.contracts.cases import Case, Raw, edge_cases
from tracemill.quality.contracts.report import Problem, Report
from tracemill.quality.contracts.shapes import Shape, shape
from tracemill.quality.contracts.targets import Answer, Endpoint, OfEndpoint, OfFunction

REFUSES: tuple[type[Exception], ...] = (ValueError, TracemillError)
"""What a function raises for a wrong value, where nothing else is said; pydantic's errors are
ValueErrors."""
NOT_ABOUT_THE_VALUE = frozenset({401, 402, 403, 404, 405, 407, 408, 429})
"""Statuses that refuse whoever asks, or how: no sign that a wrong value was noticed."""
_GOT = 500


class Contract(NamedTuple):
    """What has to hold."""

    request: Shape
    response: Shape | None
    error: Shape | None
    statuses: Collection[int] | None
    refuses: tuple[type[Exception], ...]
    time_limit_ms: float | None


class Found(NamedTuple):
    """What is wrong with an answer."""

    kind: str
    problem: str


def check(
    target: Callable[..., Any] | Endpoint,
    request: Any,
    response: Any = None,
    *,
    error: Any = None,
    examples: Sequence[Any] = (),
    statuses: Collection[int] | None = None,
    refuses: tuple[type[Exception], ...] = REFUSES,
    time_limit_ms: float | None = None,
    spread: bool = False,
    generated: int = 100,
    seed: int = 0,
    cases: Sequence[Case] | None = None,
) -> Report:
    """Whether a function or an endpoint keeps to its contract.

    A value that is right has to be answered (2xx) as `response` says; a wrong one has to be refused
    (4xx, but not by 401, 403 and others that are not about the value) as `error` says, or by raising
    one of `refuses`. Nothing may break: no 5xx, no other exception, no answer that is missing.

    Args:
        target: a function of one value, which may be asynchronous, or an `Endpoint`.
        request: what it takes: a pydantic type, or a JSON Schema.
        response: what it answers; None: for a function what it declares to return, if it does.
        error: the body of a refusal over HTTP; None: anything.
        examples: values that are right; edge cases are made of them. None: two are generated.
        statuses: all that may ever come; None: 2xx and 4xx.
        time_limit_ms: for each answer.
        spread: whether a function takes an object's fields as its arguments.
        generated: how many values of each kind, right and wrong, are generated besides; what breaks
            is made as small as possible. Needs the extra `contracts`; 0: none.
        seed: of what is generated: the same seed sends the same values.
        cases: instead of the edge cases.

    Raises `UsageError` for forms that are none and examples that are wrong, `InputError` where
    nobody listens at the address.
    """
    contract = Contract(
        shape(request),
        _response(target, response),
        None if error is None else shape(error),
        statuses,
        refuses,
        time_limit_ms,
    )
    notes: list[str] = []
    if cases is None:
        right = list(examples) or _made(contract.request, generated, seed, notes)
        cases = edge_cases(contract.request, _checked(contract.request, right))
    asked = (
        OfEndpoint(target) if isinstance(target, Endpoint) else OfFunction(target, spread=spread)
    )
    with asked:
        sendable = [case for case in cases if asked.takes(case.sent)]
        problems, broken = _edges(asked, contract, sendable)
        count = 0
        if generated:
            made = values.strategies(contract.request)
            more = values.search(_judge(asked, contract), made, generated, seed, notes)
            problems, count = [*problems, *more.found], more.sent
    return Report(asked.name, tuple(problems), len(sendable), count, broken, tuple(notes))


def _edges(
    asked: OfEndpoint | OfFunction, contract: Contract, cases: Sequence[Case]
) -> tuple[list[Problem], int]:
    problems: list[Problem] = []
    broken = 0
    for number, case in enumerate(cases):
        try:
            answer = asked.ask(case.sent)
        except InputError as error:
            if not number:
                raise
            gone = Found("no_answer", f"nobody listens any more: {error}")
            problems.append(_problem(asked, case, Answer(0), gone))
            return problems, broken + 1
        found = list(wrong(contract, _seen(asked, contract, case), answer))
        broken += bool(found)
        problems += [_problem(asked, case, answer, each) for each in found]
    return problems, broken


def _judge(
    asked: OfEndpoint | OfFunction, contract: Contract
) -> Callable[[Any], list[Problem] | None]:
    """Sends a generated value and says what is wrong; None where it cannot be sent."""

    def judge(sent: Any) -> list[Problem] | None:
        if not asked.takes(sent):
            return None
        valid = None if isinstance(sent, Raw) else contract.request.verdict(sent)
        if isinstance(sent, Raw) and not _is_json(sent):
            valid = False
        case = Case("generated", sent, valid)
        answer = asked.ask(sent)
        found = wrong(contract, _seen(asked, contract, case), answer)
        return [_problem(asked, case, answer, each) for each in found]

    return judge


def _is_json(sent: Raw) -> bool:
    try:
        json.loads(sent.body)
    except (ValueError, RecursionError):
        return False
    return True


def wrong(contract: Contract, valid: bool | None, answer: Answer) -> Iterator[Found]:
    """What is wrong with an answer to a value that has to be taken, to be refused, or either."""
    limit = contract.time_limit_ms
    if limit is not None and answer.latency_ms > limit:
        yield Found("slow", f"it took {answer.latency_ms:,.0f} ms, and {limit:,.0f} are allowed")
    if answer.status is None:
        yield from _of_function(contract, valid, answer)
    else:
        yield from _of_status(contract, valid, answer)


def _of_function(contract: Contract, valid: bool | None, answer: Answer) -> Iterator[Found]:
    if answer.error is None:
        if valid is False:
            yield Found("accepted_invalid", "a wrong value was taken")
        else:
            yield from _of_value(contract.response, answer, "answer_shape")
    elif type(answer.error).__module__.startswith("httpx"):
        yield Found("no_answer", f"no answer came: {answer.text[:200]}")
    elif not isinstance(answer.error, contract.refuses):
        yield Found("crashed", f"it broke instead of {'answering' if valid else 'refusing'}")
    elif valid:
        yield Found("refused_valid", "a right value was refused")


def _of_status(contract: Contract, valid: bool | None, answer: Answer) -> Iterator[Found]:
    status = answer.status or 0
    declared = contract.statuses
    if status >= 500:
        yield Found("server_error", f"it broke: status {status}")
    elif declared is not None and status not in declared:
        yield Found("undeclared_status", f"status {status} is not one of {sorted(declared)}")
    elif 200 <= status < 300:
        if valid is False:
            yield Found("accepted_invalid", f"a wrong value was taken: status {status}")
        else:
            yield from _of_value(contract.response, answer, "answer_shape")
    elif not 400 <= status < 500:
        yield Found("undeclared_status", f"status {status} neither answers nor refuses")
    elif valid:
        yield Found("refused_valid", f"a right value was refused: status {status}")
    elif status in NOT_ABOUT_THE_VALUE and status not in (declared or ()):
        yield Found("undeclared_status", f"status {status} is not about the value")
    if 400 <= status < 600:
        yield from _of_value(contract.error, answer, "error_shape")


def _of_value(form: Shape | None, answer: Answer, kind: str) -> Iterator[Found]:
    if form is None:
        return
    if not answer.is_json:
        yield Found("not_json", f"it is not JSON ({answer.content_type or 'no content type'})")
        return
    if answer.content_type and not re.search(r"[/+]json$", answer.content_type):
        yield Found("content_type", f"JSON comes as {answer.content_type}")
    if said := form.problem(answer.value):
        what = "answer" if kind == "answer_shape" else "error"
        yield Found(kind, f"the {what} is not as declared: {said}")


def _seen(asked: OfEndpoint | OfFunction, contract: Contract, case: Case) -> bool | None:
    """In an address all is text: what the other side can read as right is open."""
    if isinstance(asked, OfEndpoint) and asked.endpoint.send == "query" and not case.valid:
        texts = {name: str(value) for name, value in case.sent.items()}
        return None if contract.request.verdict(texts) is not False else case.valid
    return case.valid


def _problem(asked: OfEndpoint | OfFunction, case: Case, answer: Answer, found: Found) -> Problem:
    status = "" if answer.status is None else f"{answer.status} "
    got = f"{status}{answer.text[:_GOT]}"
    how = asked.reproduce(case.sent)
    return Problem(found.kind, case.name, case.sent, got, found.problem, how)


def _response(target: Any, response: Any) -> Shape | None:
    if response is not None:
        return shape(response)
    if isinstance(target, Endpoint):
        return None
    hints = typing.get_type_hints(target) if inspect.isroutine(target) else {}
    return shape(hints["return"]) if "return" in hints else None


def _made(request: Shape, generated: int, seed: int, notes: list[str]) -> list[Any]:
    if not generated:
        raise UsageError("without generated values, edge cases need examples that are right")
    return values.right(request, seed, notes)


def _checked(request: Shape, right: Sequence[Any]) -> list[Any]:
    plain = [
        each.model_dump(mode="json") if hasattr(each, "model_dump") else each for each in right
    ]
    for each in plain:
        if request.verdict(each) is False:
            raise UsageError(f"the example {each!r:.80} is not right: {request.problem(each)}")
    return plain

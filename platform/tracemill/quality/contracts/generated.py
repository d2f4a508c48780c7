"""Values that a schema allows, and such as it does not, made by schemathesis and hypothesis.

hypothesis finds a value that breaks the contract, and makes it as small as it can. Each kind of
problem is looked for once; a kind that was found is passed over while the others are looked for.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from tracemill.errors import UsageError
from tracemill.quality.contracts.cases import Raw
from tracemill.quality.contracts.report import Problem
from tracemill.quality.contracts.shapes import Shape

MODES = ("positive", "negative")
_MOST_KINDS = 10
_FIRST = 10
# Time differs from one run to the next, so that such a value cannot be made smaller.
_UNSTEADY = frozenset({"slow", "no_answer"})


class Search(NamedTuple):
    """What was found."""

    found: list[Problem]
    sent: int
    """How many values were sent."""


class _Broken(Exception):
    """Tells hypothesis that a value breaks the contract."""


def search(
    judge: Callable[[Any], list[Problem] | None],
    strategies: Mapping[str, Any],
    number: int,
    seed: int,
    notes: list[str],
) -> Search:
    """Look for values whose answers break the contract, `number` of each strategy.

    `judge` sends a value and says what is wrong; None where it cannot be sent. What could not be
    generated is added to `notes`.
    """
    found: dict[str, Problem] = {}
    count = 0
    for mode, strategy in strategies.items():
        for _ in range(_MOST_KINDS):
            known = set(found)

            def one(value: Any, known: set[str] = known) -> None:
                nonlocal count
                problems = judge(value)
                count += problems is not None
                for each in problems or ():
                    if each.kind not in known:
                        found[each.kind] = each
                        if each.kind not in _UNSTEADY:
                            raise _Broken(each.kind)

            if not _run(one, strategy, mode, number, seed, notes) or set(found) == known:
                break
    return Search(list(found.values()), count)


def right(request: Shape, seed: int, notes: list[str]) -> list[Any]:
    """Two values that are right: a small one, and one with all that may be in it."""
    schemas = request.schema, _all_required(request.schema)
    strategies = [each for schema in schemas if (each := _of(schema, "positive")) is not None]
    made = [body_of(case) for each in strategies for case in shortest(each, body_of, seed)]
    values = [value for value in made if request.verdict(value)]
    if not values:
        notes.append("no right value could be generated: give examples")
    return values


def strategies(request: Shape) -> dict[str, Any]:
    """Of values that are right, and of such as are wrong."""
    found = {mode: _of(request.schema, mode) for mode in MODES}
    return {mode: None if each is None else each.map(body_of) for mode, each in found.items()}


def strategy_of(operation: Any, mode: str) -> Any:
    """Cases of an operation; None where there can be none."""
    modes = {each.value: each for each in library().GenerationMode}
    strategy = operation.as_strategy(generation_mode=modes[mode])
    return None if strategy.is_empty else strategy


def body_of(case: Any) -> Any:
    """The body that a case sends, as it is where it is no JSON."""
    body = case.body
    if isinstance(body, bytes):
        return Raw(body)
    return None if type(body).__name__ == "NotSet" else body


def _run(
    one: Callable[[Any], None], strategy: Any, mode: str, number: int, seed: int, notes: list[str]
) -> bool:
    """Whether something was found."""
    import hypothesis
    from hypothesis.errors import FlakyFailure, HypothesisException

    if strategy is None:
        notes.append(f"no {mode} value could be generated: the schema leaves none")
        return False

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=number,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=tuple(hypothesis.HealthCheck),  # pyright: ignore[reportArgumentType] (its metaclass)
    )
    @hypothesis.given(strategy)
    def test(value: Any) -> None:
        one(value)

    try:
        test()
    except _Broken:
        return True
    except FlakyFailure:
        notes.append("the same value got different answers when it was sent again")
        return True
    except HypothesisException as error:
        notes.append(f"{mode} values could not be generated: {str(error)[:200]}")
    return False


def _of(schema: dict[str, Any], mode: str) -> Any:
    schema, definitions = _moved(schema)
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    operation = {"requestBody": body, "responses": {"200": {"description": "an answer"}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "contract", "version": "1"},
        "paths": {"/": {"post": operation}},
        "components": {"schemas": definitions},
    }
    return strategy_of(library().openapi.from_dict(document)["/"]["post"], mode)


def shortest(strategy: Any, value_of: Callable[[Any], Any], seed: int) -> list[Any]:
    """The one with the shortest value of some cases; hypothesis begins with the simplest."""
    found: list[Any] = []
    _run(found.append, strategy, "positive", _FIRST, seed, [])
    plain = [case for case in found if not isinstance(value_of(case), Raw)]
    return sorted(plain, key=lambda case: len(json.dumps(value_of(case))))[:1]


def _moved(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema whose references point into an OpenAPI document, and what they point to."""

    def moved(part: Any) -> Any:
        if isinstance(part, list):
            return [moved(each) for each in cast("list[Any]", part)]
        if not isinstance(part, dict):
            return part
        members = cast("dict[str, Any]", part)
        return {
            name: _reference(value) if name == "$ref" else moved(value)
            for name, value in members.items()
        }

    whole = cast("dict[str, Any]", moved(schema))
    definitions = whole.pop("$defs", {}) | whole.pop("definitions", {})
    return whole, {"Root": whole, **definitions}


def _reference(ref: Any) -> Any:
    for start in ("#/$defs/", "#/definitions/"):
        if isinstance(ref, str) and ref.startswith(start):
            return "#/components/schemas/" + ref.removeprefix(start)
    return "#/components/schemas/Root" if ref == "#" else ref


def _all_required(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_all_required(each) for each in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    members = {name: _all_required(each) for name, each in cast("dict[str, Any]", schema).items()}
    if isinstance(members.get("properties"), dict) and members.get("type") == "object":
        members["required"] = sorted(cast("dict[str, Any]", members["properties"]))
    return members


def library() -> Any:
    """schemathesis. Raises `UsageError` where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import schemathesis
    except ImportError:
        raise UsageError(
            "generated values need the extra: pip install 'tracemill[contracts]'; or give "
            "examples, and generated=0"
        ) from None
    return schemathesis

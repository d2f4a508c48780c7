"""Events for tests: short builders, and Hypothesis strategies that follow from the classes themselves.

A new event class needs nothing here: its fields say what may stand in them.
"""

import types
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from tracemill.events import (
    KINDS,
    Happened,
    IndexBuilt,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallStarted,
    SourceHarvested,
    new_id,
)
from tracemill.messages import Message, Usage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def harvested(items: int = 0, *, name: str = "records", **more: Any) -> SourceHarvested:
    """An event that the journal may trim."""
    return SourceHarvested(name=name, items=items, quarantined=0, digest="d", **more)


def indexed(chunks: int = 0, *, name: str = "installed") -> IndexBuilt:
    """An event that the journal keeps."""
    return IndexBuilt(
        name=name, digest="d", chunks=chunks, dimensions=2, embedding_model="tests/none"
    )


def many(count: int, *, start: int = 0) -> list[SourceHarvested]:
    """`count` events of three streams, numbered in `items`."""
    return [harvested(i, name=f"source {i % 3}") for i in range(start, start + count)]


def call(
    answer: str | None = "yes",
    *,
    model: str = "extract",
    at: datetime = NOON,
    cost: Decimal | None = None,
    tokens: int = 1,
    prompt: str = "is it?",
) -> list[Happened]:
    """A model call and its end; without an answer, it failed."""
    same: dict[str, Any] = {
        "call_id": new_id(),
        "provider": "local",
        "request_model": model,
        "occurred_at": at,
    }
    asked = LlmCallStarted(messages=(Message(role="user", content=prompt),), **same)
    if answer is None:
        failed = LlmCallFailed(error_type="timeout", error_message="late", latency_ms=9, **same)
        return [asked, failed]
    finished = LlmCallFinished(
        response_model=model,
        content=answer,
        finish_reasons=("stop",),
        usage=Usage(input_tokens=tokens, output_tokens=2),
        latency_ms=3.5,
        cost_usd=cost,
        **same,
    )
    return [asked, finished]


# Strategies

_ODD = [
    "",
    "\x00",
    "\u2028\u2029",
    "\ufeff",
    "e\u0301",
    "\U0001f9d1\u200d\U0001f680",
    "\u202eabc",
    "'\";--\\",
]
texts = st.one_of(
    st.text(max_size=60),
    st.sampled_from(_ODD),
    st.integers(1_000, 60_000).map(lambda n: "long \u00e9\n" * (n // 7)),
)
labels = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=40)
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))  # noqa: DTZ001
identifiers = st.uuids().map(str)
costs = st.decimals(min_value=0, max_value=999_999_999, places=9)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)


def events(kinds: Iterable[str] = tuple(KINDS)) -> st.SearchStrategy[Happened]:
    """Any event of these kinds, with anything that its fields allow."""
    return st.one_of([values(KINDS[kind]) for kind in kinds])


def values(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Instances of a class, field by field."""
    fields = {name: _field(f) for name, f in model.model_fields.items() if name != "kind"}
    return st.builds(model, **fields)


def _field(field: FieldInfo) -> st.SearchStrategy[Any]:
    return _annotated(field.annotation, field.metadata)


def _annotated(annotation: Any, constraints: Iterable[Any] = ()) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        inner = [c for m in annotation.__metadata__ for c in getattr(m, "metadata", None) or [m]]
        return _annotated(arguments[0], [*constraints, *inner])
    if origin in (Union, types.UnionType):
        return st.one_of([_annotated(a, constraints) for a in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(_annotated(arguments[0]), min_size=_least(constraints), max_size=4).map(
            tuple
        )
    if origin is dict:
        return st.dictionaries(*map(_annotated, arguments), max_size=4)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return values(annotation)
    return _plain(annotation, list(constraints))


def _plain(annotation: Any, constraints: list[Any]) -> st.SearchStrategy[Any]:
    least, most = _bounds(constraints)
    validators = {getattr(getattr(c, "func", None), "__name__", "") for c in constraints}
    if annotation is None or annotation is type(None):
        return st.none()
    if "_canonical_id" in validators:
        return identifiers
    if annotation in (datetime, AwareDatetime):
        return moments
    if annotation is Any:
        return json_values
    if annotation is str:
        return _strings(constraints)
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(
            -(2**63) if least is None else least, 2**63 - 1 if most is None else most
        )
    if annotation is float:
        return st.floats(least, most, allow_nan=False, allow_infinity=False)
    if annotation is Decimal:
        return costs
    raise AssertionError(f"tests/log/made.py has no strategy for {annotation!r}")


def _strings(constraints: list[Any]) -> st.SearchStrategy[str]:
    least = _least(constraints)
    short = any(hasattr(c, "pattern") or hasattr(c, "max_length") for c in constraints)
    return (labels if short else texts).filter(lambda text: len(text) >= least)


def _least(constraints: Iterable[Any]) -> int:
    """How long it is at least."""
    return max((c.min_length for c in constraints if hasattr(c, "min_length")), default=0) or 0


def _bounds(constraints: list[Any]) -> tuple[Any, Any]:
    least = most = None
    for c in constraints:
        if isinstance(c, Ge | Interval) and c.ge is not None:
            least = c.ge
        if isinstance(c, Le | Interval) and c.le is not None:
            most = c.le
        if isinstance(c, Gt):
            least = c.gt
        if isinstance(c, Lt):
            most = c.lt
    return least, most

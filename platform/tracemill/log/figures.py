"""What is left of an event that is emptied: its figures, or only the place where it stood.

An allow-list: whatever is not named here, and is more than a number, a time or one of a few fixed
words, becomes the emptiest value that its field may have. A new field goes until it is named.
"""

import types
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from pydantic_core import from_json

from tracemill.errors import LogDamaged, UnknownKind
from tracemill.events import KINDS, EventRemoved, Happened, parse
from tracemill.log import rows
from tracemill.log.upcast import upcast

MARK = '{"erased": true'
"""The payload of an emptied event begins with this, and no other does: pydantic writes no blank."""
NOTHING = "00000000-0000-0000-0000-000000000000"
"""Stands for an id where one must be."""

FIGURES = frozenset(
    {
        # ids of ours, which say nothing of anybody
        *("alert_id", "batch_id", "cached_call_id", "call_id", "call_ids", "comparison_id"),
        *("error_file_id", "evaluation_id", "fallback_of", "file_id", "input_file_id", "job_id"),
        *("output_file_id", "reference_id"),
        # what things of the operator are called: models, prompts, data sets, collections, rules
        *(
            "answer_model",
            "backup",
            "base_model",
            "budget",
            "collection",
            "dataset",
            "embedding_model",
        ),
        *("index", "label", "method", "model", "models", "name", "operation", "prompt_name"),
        *("prompt_version", "provider", "rebuild", "reference_model", "request_model"),
        *("response_model", "rule", "sink", "split", "test", "version", "was"),
        # digests
        *(
            "dataset_digest",
            "digest",
            "idempotency_key",
            "index_digest",
            "model_digest",
            "previous",
        ),
        *("price_snapshot", "sha256", "trained_on", "training_sha256"),
        # words of low cardinality
        *("error_type", "raw_finish_reason", "raw_state", "service_tier"),
        # figures by their names
        *("billed", "counts", "dropped", "events", "found", "issues", "left", "metrics"),
        *("removed", "rows", "scores", "tests", "thresholds"),
        # values of several fields, each of which is asked in turn
        *("positions", "training", "usage", "validation"),
    }
)
"""Names of fields that stay, in every event."""
STATE = frozenset(
    {
        *("admin", "key_id", "routes", "secret_hash", "team"),
        *("completion_window", "endpoint", "purpose"),
        *("calls", "case_ids", "checkpoint_id", "command", "cursor", "hyperparameters", "inputs"),
        *("remote_file_id", "remote_id", "salt", "suffix", "system", "template", "variables"),
    }
)
"""Fields that also stay in streams that are kept: prompts, jobs, models and keys are loaded from
them."""
_PRESENCE = {"refusal"}  # that there was one is a figure: it decides the status of a call
_NUMBERS = (int, float, bool, Decimal, datetime, AwareDatetime)
_SET_APART = {"event_id", "kind", "occurred_at", "erased", *rows.ENVELOPE}


def emptied(raw: tuple[Any, ...], *, figures: bool) -> tuple[Any, ...]:
    """A row of the journal as it is once its event has been emptied; emptying it again changes
    nothing.

    Its position, id, stream, version, time of recording and digest stay. With `figures` the event
    keeps its class and its figures; without, it becomes `EventRemoved`. Events of streams that are
    kept always keep their class, their figures and what the state of the stream is made of.

    Raises `UnknownKind` for an event of a later version, `LogDamaged` where the payload is unreadable.
    """
    row = rows.from_journal(raw)
    kind = row["kind"]
    refuse_unknown(kind, row["schema_version"], row["position"])
    if not figures and not KINDS[kind].keep and kind != "log.event_removed":
        event: Happened = EventRemoved(
            was=kind, event_id=row["event_id"], occurred_at=row["recorded_at"], erased=True
        )
    else:
        event = _without_texts(row)
    draft = rows.draft(event)
    facts = event.model_dump_json(exclude={"erased", *rows.NOT_IN_PAYLOAD}, exclude_none=True)
    payload = MARK + ("," if facts != "{}" else "") + facts[1:]
    place = (draft.kind, draft.schema_version, *raw[4:7], draft.occurred_us)
    return (*raw[:2], *place, *draft.rest[:-1], payload, raw[-1])


def is_emptied(raw: tuple[Any, ...]) -> bool:
    """Whether this row was emptied, with or without its figures."""
    return str(raw[-2]).startswith(MARK)


def refuse_unknown(kind: str, schema_version: int, position: int) -> None:
    """Raise `UnknownKind` for an event that this tracemill cannot read, and so cannot empty."""
    if kind not in KINDS or schema_version > KINDS[kind].schema_version:
        raise UnknownKind(
            f"position {position} holds {kind!r} version {schema_version}, which this tracemill does "
            "not know and cannot empty: upgrade it first"
        )


def _without_texts(row: rows.Row) -> Happened:
    kind = row["kind"]
    cls = KINDS[kind]
    stays = FIGURES | STATE if cls.keep else FIGURES
    try:
        fields = upcast(kind, row["schema_version"], from_json(row["payload"]))
        left = _fields_left(cls, fields, stays)
        left.update(kind=kind, erased=True, **{n: row[n] for n in ("event_id", "occurred_at")})
        return parse(left)
    except (ValueError, TypeError, AttributeError) as error:
        raise LogDamaged(
            f"position {row['position']} ({kind}) cannot be read, so that its figures cannot be kept: "
            "`tracemill log verify` tells more"
        ) from error


def _fields_left(
    cls: type[BaseModel], fields: Mapping[str, Any], stays: frozenset[str]
) -> dict[str, Any]:
    left: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        if name in _SET_APART or fields.get(name) is None:
            continue
        if name in stays or is_number(field.annotation):
            left[name] = _inside(field.annotation, fields[name], stays)
        elif name in _PRESENCE:
            left[name] = ""
        elif field.is_required():
            left[name] = _emptiest(field.annotation, field.metadata)
    return left


def _inside(annotation: Any, value: Any, stays: frozenset[str]) -> Any:
    """A value that stays, without what must not stay within it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if value is None or annotation is None:
        return value
    if origin is Annotated:
        return _inside(arguments[0], value, stays)
    if origin in (Union, types.UnionType):
        return _inside(next(a for a in arguments if a is not type(None)), value, stays)
    if origin is tuple:
        return [_inside(arguments[0], each, stays) for each in value]
    if origin is dict:
        items = cast("dict[str, Any]", value).items()
        return {key: _inside(arguments[1], each, stays) for key, each in items}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _fields_left(annotation, value, stays)
    return value


def is_number(annotation: Any) -> bool:
    """Whether a field can hold nothing but numbers, times, and words that its class lists."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return is_number(arguments[0])
    if origin in (Union, types.UnionType):
        return all(a is type(None) or is_number(a) for a in arguments)
    if origin is tuple:
        return is_number(arguments[0])
    return origin is Literal or annotation in _NUMBERS


def _emptiest(annotation: Any, metadata: list[Any]) -> Any:
    """The emptiest value of a field that must have one."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _emptiest(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, types.UnionType):
        return _emptiest(arguments[0], metadata)
    if origin in (tuple, dict):
        return [] if origin is tuple else {}
    if annotation is str:
        validators = {getattr(getattr(m, "func", None), "__name__", "") for m in metadata}
        return NOTHING if "_canonical_id" in validators else ""
    raise AssertionError(f"figures.py knows no empty {annotation!r}: name the field in FIGURES")


@cache
def free_fields(kind: str) -> frozenset[str]:
    """Fields of a kind that may hold what somebody said, or who it was: those that are emptied."""
    cls = KINDS[kind]
    stays = FIGURES | STATE if cls.keep else FIGURES
    return frozenset(
        name
        for name, field in cls.model_fields.items()
        if name not in {*_SET_APART, *stays} and not is_number(field.annotation)
    )

"""How an event becomes a row and back: the columns, their types, the digest.

Columns that questions filter and sum by are typed and stand beside the payload, because reading
them out of JSON is a hundred times slower. Sources: the event's own fields of the same name.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from tracemill.errors import LogDamaged, UnknownKind, UsageError
from tracemill.events import KINDS, Happened, Recorded, parse
from tracemill.log.upcast import upcast
from tracemill.messages import Usage

if TYPE_CHECKING:
    import pyarrow as pa

ENVELOPE = ("actor", "trace_id", "correlation_id", "causation_id")
"""Columns that every event has and may leave empty."""

HOT = {
    "provider": "VARCHAR",
    "request_model": "VARCHAR",
    "response_model": "VARCHAR",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cache_read_input_tokens": "BIGINT",
    "cache_write_input_tokens": "BIGINT",
    "cache_write_1h_input_tokens": "BIGINT",
    "reasoning_output_tokens": "BIGINT",
    "input_audio_tokens": "BIGINT",
    "cache_read_audio_tokens": "BIGINT",
    "output_audio_tokens": "BIGINT",
    "billed": "VARCHAR",
    "service_tier": "VARCHAR",
    "cost_usd": "DECIMAL(18,9)",
    "latency_ms": "DOUBLE",
    "error_type": "VARCHAR",
    "conversation_id": "VARCHAR",
    "user_id": "VARCHAR",
    "prompt_name": "VARCHAR",
    "prompt_version": "VARCHAR",
    "operation": "VARCHAR",
    "key_id": "VARCHAR",
    "metadata": "VARCHAR",
    "attempts": "BIGINT",
    "time_to_first_chunk_ms": "DOUBLE",
    "finish_reason": "VARCHAR",
    "usage_estimated": "BOOLEAN",
    "saved_usd": "DECIMAL(18,9)",
    "error_message": "VARCHAR",
    "status": "BIGINT",
    "wait_ms": "DOUBLE",
    "call_id": "VARCHAR",
    "score": "DOUBLE",
    "comment": "VARCHAR",
}
"""Typed columns beside the payload, with their DuckDB types; NULL where an event lacks the field."""

COLUMNS = {
    "position": "BIGINT",
    "event_id": "VARCHAR",
    "kind": "VARCHAR",
    "schema_version": "INTEGER",
    "stream": "VARCHAR",
    "version": "BIGINT",
    "recorded_at": "TIMESTAMP",
    "occurred_at": "TIMESTAMP",
    **dict.fromkeys(ENVELOPE, "VARCHAR"),
    **HOT,
    "payload": "VARCHAR",
    "digest": "BLOB",
}
"""Every column of a row, in order, with its DuckDB type. Times are UTC."""

MAX_PAYLOAD_CHARACTERS = 16_000_000
"""An event is a fact, not a file."""

NOT_IN_PAYLOAD = {"event_id", "kind", "occurred_at", *ENVELOPE}
"""Fields of an event that have a column of their own."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NANO = Decimal(10) ** 9


Row = dict[str, Any]
"""A row by the names of its columns, with text ids and aware times."""


class Draft(NamedTuple):
    """An event ready to be appended: all that is known before its position is."""

    event_id: bytes
    keep: bool
    stream: str
    kind: str
    schema_version: int
    occurred_us: int
    rest: tuple[Any, ...]
    """The envelope, the hot columns, the payload."""


def draft(event: Happened) -> Draft:
    """Turn an event into a row without its place in the log."""
    kind: str = getattr(event, "kind")  # noqa: B009 (each subclass declares its own literal)
    try:
        payload = event.model_dump_json(exclude=NOT_IN_PAYLOAD, exclude_none=True)
    except PydanticSerializationError:
        # Half of a character, where a model's output was cut: better recorded than refused.
        return draft(type(event).model_validate(_mended(event.model_dump())))
    if len(payload) > MAX_PAYLOAD_CHARACTERS:
        raise UsageError(
            f"{kind} has {len(payload):,} characters, more than {MAX_PAYLOAD_CHARACTERS:,}: "
            "put what is large into a file and its digest into the event"
        )
    return Draft(
        event_id=bytes.fromhex(event.event_id.replace("-", "")),
        keep=event.keep,
        stream=event.stream,
        kind=kind,
        schema_version=event.schema_version,
        occurred_us=microseconds(event.occurred_at),
        rest=(*_envelope(event), *_hot(type(event))(event), payload),
    )


def _mended(value: Any) -> Any:
    """The same with U+FFFD for every lone surrogate, which UTF-8 cannot hold."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_mended(key): _mended(each) for key, each in cast(Row, value).items()}
        case list() | tuple():
            return [_mended(each) for each in cast(list[Any], value)]
        case _:
            return value


_envelope: Callable[[Happened], tuple[Any, ...]] = attrgetter(*ENVELOPE)


@cache
def _hot(cls: type[Happened]) -> Callable[[Happened], list[Any]]:
    """A function that reads the hot columns of this class of events."""
    usage = Usage.model_fields if "usage" in cls.model_fields else {}
    getters: list[Callable[[Any], Any] | None] = [
        attrgetter(name)
        if name in cls.model_fields
        else attrgetter(f"usage.{name}")
        if name in usage
        else None
        for name in HOT
    ]
    columns = list(HOT)
    if usage:
        getters[columns.index("usage_estimated")] = lambda event: int(event.usage.estimated)
    if "finish_reasons" in cls.model_fields:
        getters[columns.index("finish_reason")] = _finish_reason
        getters[columns.index("error_message")] = attrgetter("refusal")
    money = [columns.index(name) for name in ("cost_usd", "saved_usd")]
    json = [columns.index(name) for name in ("billed", "metadata")]

    present = [(i, get) for i, get in enumerate(getters) if get]
    empty = [None] * len(getters)

    def read(event: Happened) -> list[Any]:
        values: list[Any] = empty.copy()
        for i, get in present:
            values[i] = get(event)
        for i in money:
            usd: Decimal | None = values[i]
            values[i] = None if usd is None else int((usd * _NANO).to_integral_value())
        for i in json:
            values[i] = to_json(values[i]).decode() if values[i] else None
        return values

    return read


def _finish_reason(event: Any) -> str | None:
    """Of several choices, the one that gave no good answer."""
    reasons: tuple[str, ...] = event.finish_reasons
    if "content_filter" in reasons:
        return "content_filter"
    if "refusal" in reasons or event.refusal is not None:
        return "refusal"
    return reasons[0] if reasons else None


def microseconds(moment: datetime) -> int:
    """Since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds_: int) -> datetime:
    """The inverse of `microseconds`."""
    return _EPOCH + microseconds_ * _MICROSECOND


def text_id(raw: bytes) -> str:
    """A UUID's 16 bytes as its usual text."""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def digest(previous: bytes, row: Sequence[Any]) -> bytes:
    """BLAKE2b-128 of the predecessor's digest and of this row: each event vouches for all before it.

    `row` is as the journal stores it. The hot columns are left out: they follow from the payload,
    and new ones may be added without touching what was written.
    """
    # No field can hold a control character, so no two rows give the same text.
    text = "\x1f".join(["\x00" if value is None else str(value) for value in _vouched(row)])
    return hashlib.blake2b(previous + row[1] + text.encode(), digest_size=16).digest()


_vouched: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(
    *(i for i, name in enumerate(COLUMNS) if name not in {*HOT, "event_id", "digest"})
)


def recorded(row: Row) -> Recorded:
    """Read a row back: old versions are lifted, then parsed.

    Raises `UnknownKind` when this tracemill is older than the event, `LogDamaged` when the payload
    is not what its kind says.
    """
    kind, version = row["kind"], row["schema_version"]
    if kind not in KINDS or version > KINDS[kind].schema_version:
        raise UnknownKind(
            f"position {row['position']} holds {kind!r} version {version}, "
            "which this tracemill does not know: upgrade it to read this log"
        )
    try:
        fields = upcast(kind, version, from_json(row["payload"]))
        fields.update((name, row[name]) for name in ("event_id", "kind", "occurred_at", *ENVELOPE))
        event = parse(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise _altered(
            row, f"field {'.'.join(map(str, first['loc'][1:]))}: {first['msg']}"
        ) from error
    except (ValueError, UsageError) as error:
        raise _altered(row, f"payload: {error}") from error
    return Recorded(row["position"], row["stream"], row["version"], row["recorded_at"], event)


def _altered(row: Row, what: str) -> LogDamaged:
    return LogDamaged(
        f"position {row['position']} ({row['kind']}): {what}; "
        "`tracemill log verify` tells what else is wrong"
    )


def from_journal(raw: Sequence[Any]) -> Row:
    """A row as the journal stores it, with text ids and aware times instead of bytes and numbers."""
    row = dict(zip(COLUMNS, raw, strict=True))
    row["event_id"] = text_id(row["event_id"])
    row["recorded_at"], row["occurred_at"] = moment(row["recorded_at"]), moment(row["occurred_at"])
    return row


def to_arrow(raws: Sequence[Sequence[Any]]) -> "pa.Table":
    """Journal rows as columns, in the types that segments have."""
    import pyarrow as pa

    columns = zip(*raws, strict=True) if raws else [()] * len(COLUMNS)
    arrays = [
        _array(name, kind, list(values))
        for (name, kind), values in zip(COLUMNS.items(), columns, strict=True)
    ]
    return pa.table(arrays, schema=arrow_schema())


@cache
def arrow_schema() -> "pa.Schema":
    """The columns as Arrow types."""
    import pyarrow as pa

    types = {
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "DOUBLE": pa.float64(),
        "VARCHAR": pa.string(),
        "BLOB": pa.binary(16),
        "TIMESTAMP": pa.timestamp("us"),
        "DECIMAL(18,9)": pa.decimal128(18, 9),
        "BOOLEAN": pa.bool_(),
    }
    return pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])


def _array(name: str, kind: str, values: list[Any]) -> "pa.Array[Any]":
    import pyarrow as pa

    if name == "event_id":
        return pa.array([text_id(value) for value in values], pa.string())
    if kind == "DECIMAL(18,9)":
        return _decimals(values)
    if kind == "TIMESTAMP":
        return pa.array(values, pa.int64()).cast(pa.timestamp("us"))
    if kind == "BOOLEAN":
        return pa.array(values, pa.int8()).cast(pa.bool_())
    return pa.array(values, arrow_schema().field(name).type)


def _decimals(nanos: list[int | None]) -> "pa.Array[Any]":
    """Whole nano-dollars as DECIMAL(18,9), without a Python object for each."""
    import pyarrow as pa

    whole = pa.array(nanos, pa.int64()).cast(pa.decimal128(19, 0))
    # The same integers with the point moved by nine: only the type changes.
    return pa.Array.from_buffers(
        pa.decimal128(18, 9), len(whole), whole.buffers(), null_count=whole.null_count
    )


def to_journal(table: "pa.Table") -> list[tuple[Any, ...]]:
    """The inverse of `to_arrow`."""
    import pyarrow as pa

    columns: list[list[Any]] = []
    for name, kind in COLUMNS.items():
        column = table[name]
        if name == "event_id":
            columns.append([bytes.fromhex(str(v).replace("-", "")) for v in column.to_pylist()])
        elif kind == "TIMESTAMP":
            columns.append(column.cast(pa.int64()).to_pylist())
        elif kind == "DECIMAL(18,9)":
            columns.append([v and int(v * _NANO) for v in column.to_pylist()])
        elif kind == "BOOLEAN":
            columns.append(column.cast(pa.int8()).to_pylist())
        else:
            columns.append(column.to_pylist())
    return list(zip(*columns, strict=True))

"""Arize Phoenix: spans as its client and its API export them, and its database, SQLite or PostgreSQL.

Sources: Arize-ai/phoenix, src/phoenix/db/models.py (tables spans, traces, span_costs,
span_annotations) and the REST API's `/v1/projects/{id}/spans`; Phoenix 20.26. Spans of the kinds LLM,
EMBEDDING and RERANKER are calls.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from tracemill.errors import InputError
from tracemill.telemetry.attributes import flat
from tracemill.telemetry.importers import databases
from tracemill.telemetry.importers.files import rows
from tracemill.telemetry.importers.load import Item, attempted
from tracemill.telemetry.importers.values import Json, list_of, object_of, score, when
from tracemill.telemetry.made import Judged, Made, id_of, span_call_id
from tracemill.telemetry.names import label
from tracemill.telemetry.otlp import Span, SpanEvent
from tracemill.telemetry.spans import call

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COST = "(SELECT sum(total_cost) FROM span_costs AS c WHERE c.span_rowid = s.id)"
_SPANS = "SELECT s.*, t.trace_id, {cost} AS total_cost FROM spans AS s JOIN traces AS t ON t.id = s.trace_rowid ORDER BY s.id"
_JUDGED = """SELECT a.*, s.span_id, t.trace_id FROM span_annotations AS a
JOIN spans AS s ON s.id = a.span_rowid JOIN traces AS t ON t.id = s.trace_rowid ORDER BY a.id"""


def items(sources: Sequence[str]) -> Iterator[Item]:
    """The spans, and where there is a database the annotations, of each source."""
    for source in sources:
        if databases.is_postgres(source):
            yield from _of_rows(databases.shown(source), *_postgres(source))
        elif databases.is_sqlite(source):
            with databases.sqlite(source) as connection:
                there = databases.tables(connection)
                if "spans" not in there:
                    raise InputError(f"{source} is no database of Phoenix: it has no table spans")
                cost = _COST if "span_costs" in there else "NULL"
                spans = databases.selected(connection, _SPANS.format(cost=cost))
                judged = iter(())
                if "span_annotations" in there:
                    judged = databases.selected(connection, _JUDGED)
                yield from _of_rows(source, spans, judged)
        else:
            for row in rows(Path(source)):
                if row.fields is None:
                    yield Item(source, row.number, None, row.trouble, row.raw)
                else:
                    yield _span_item(source, row.number, row.fields)


def _postgres(source: str) -> tuple[Iterator[Json], Iterator[Json]]:
    def there(table: str) -> bool:
        asked = f"SELECT to_jsonb(to_regclass('{table}') IS NOT NULL)::text"
        return cast(bool, next(databases.postgres(source, asked)))

    def whole(query: str) -> Iterator[Json]:
        return databases.postgres(source, f"SELECT to_jsonb(r)::text FROM ({query}) AS r")  # noqa: S608

    if not there("spans"):
        raise InputError(f"{databases.shown(source)} has no table spans: Phoenix keeps its there")
    spans = whole(_SPANS.format(cost=_COST if there("span_costs") else "NULL"))
    return spans, whole(_JUDGED) if there("span_annotations") else iter(())


def _of_rows(source: str, spans: Iterator[Json], judged: Iterator[Json]) -> Iterator[Item]:
    for number, fields in enumerate(spans, 1):
        yield _span_item(f"{source} spans", number, fields)
    for number, fields in enumerate(judged, 1):
        yield attempted(f"{source} span_annotations", number, fields, lambda f=fields: _judged(f))


def _span_item(source: str, number: int, fields: Json) -> Item:
    return attempted(source, number, fields, lambda: _call(fields))


def _call(fields: Json) -> Made | None:
    made = call(_span(fields))
    return made._replace(source="phoenix") if made else None


def _span(row: Json) -> Span:
    """A row as a span: of the database, of the API, or of a table whose columns are attributes."""
    context = object_of(row.get("context"))
    attributes = _attributes(row)
    kind = row.get("span_kind")
    if kind and "openinference.span.kind" not in attributes:
        attributes["openinference.span.kind"] = kind
    if row.get("total_cost"):
        attributes.setdefault("llm.cost.total", row["total_cost"])
    return Span(
        trace_id=_id(context.get("trace_id") or row.get("context.trace_id") or row.get("trace_id")),
        span_id=_id(context.get("span_id") or row.get("context.span_id") or row.get("span_id")),
        parent_span_id=_id(row.get("parent_id")) or None,
        name=str(row.get("name") or ""),
        start_ns=_nanoseconds(row.get("start_time"), "start_time"),
        end_ns=_nanoseconds(row.get("end_time") or row.get("start_time"), "end_time"),
        error=row.get("status_code") == "ERROR",
        status_message=str(row.get("status_message") or ""),
        attributes=attributes,
        events=tuple(_event(object_of(each)) for each in list_of(row.get("events"))),
        resource={},
        scope="",
    )


def _attributes(row: Json) -> Json:
    if row.get("attributes") is not None:
        return _known(flat(object_of(row["attributes"])))
    start = len("attributes.")
    columns = {name[start:]: v for name, v in row.items() if name.startswith("attributes.")}
    return _known(flat(columns))


def _known(attributes: Json) -> Json:
    """Without the empty ones: a table has a column for whatever any of its rows has."""
    # NaN is what a table without a value for a number says.
    return {name: v for name, v in attributes.items() if v is not None and v == v}  # noqa: PLR0124


def _event(told: Json) -> SpanEvent:
    attributes = flat(object_of(told.get("attributes")))
    return SpanEvent(str(told.get("name") or ""), 0, attributes)


def _id(value: Any) -> str:
    return str(value or "").lower()


def _nanoseconds(value: Any, name: str) -> int:
    return (when(value, name) - _EPOCH) // timedelta(microseconds=1) * 1000


def _judged(told: Json) -> Judged:
    trace_id, span_id = _id(told["trace_id"]), _id(told["span_id"])
    name = str(told.get("name") or "")
    said = (name, told.get("label"), told.get("explanation"))
    return Judged(
        feedback_id=id_of(
            "phoenix annotation", trace_id, span_id, name, str(told.get("identifier") or "")
        ),
        call_id=span_call_id(trace_id, span_id),
        trace_id=trace_id,
        score=score(
            told.get("score"), None if told.get("score") is not None else told.get("label")
        ),
        comment=": ".join(str(each) for each in said if each) or None,
        user_id=label(told.get("user_id")),
        given_at=when(told.get("created_at"), "created_at"),
    )

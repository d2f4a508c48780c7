"""A call's way: what it was made of, and everything in the log and the corpus that is made of it."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tracemill.analysis import called
from tracemill.analysis.lineage import Lineage, Step, shortened
from tracemill.analysis.lineage_of_records import made_of_call
from tracemill.llm.trained import is_trained

if TYPE_CHECKING:
    from tracemill.log import EventLog
    from tracemill.settings import Settings

_AS = {
    "fallback_of": "failed, and this stood in its place",
    "cached_call_id": "this is its answer, from the cache",
    "batch_id": "this is part of it",
}
_MENTIONS = """
SELECT kind, stream, occurred_at, user_id, actor, payload FROM events
WHERE contains(payload, $id) AND stream <> 'call:' || $id ORDER BY position
"""


def of(log: "EventLog", settings: "Settings", call_id: str) -> Lineage | None:
    """The lineage of a call; None where the log has none of this id."""
    found = called.rows(log, [call_id]).to_dicts()
    if not found:
        return None
    [call] = found
    mentions = log.arrow(_MENTIONS, {"id": call_id}).to_pylist()
    cost = "" if call["cost_usd"] is None else f", {call['cost_usd']:.6f} USD"
    error = f" ({call['error_type']})" if call["error_type"] else ""
    said = (
        f"{call['status']}{error}, {_model_of(call)}, {call['started_at']:%Y-%m-%d %H:%M} UTC{cost}"
    )
    return Lineage(
        Step("call", call_id, said, "view calls"),
        tuple(_came_from(log, call, mentions)),
        (
            *_went_into(call_id, mentions),
            *shortened(list(made_of_call(log, settings, call_id)), "records"),
        ),
    )


def _came_from(
    log: "EventLog", call: dict[str, Any], mentions: Sequence[dict[str, Any]]
) -> Iterator[Step]:
    tags: dict[str, str] = json.loads(call["metadata"] or "{}")
    if call["prompt_name"]:
        yield _prompt(log, call["prompt_name"], call["prompt_version"] or "")
    if call["conversation_id"]:
        yield _conversation(log, call)
    for mention in mentions:
        if mention["kind"] == "rag.answered":
            told = json.loads(mention["payload"])
            said = f"version {told['index_digest'][:16]}, {len(told['chunk_ids'])} passages"
            yield Step("collection", told["index"], said, "event rag.answered")
    for name, kind in (("fallback_of", "call"), ("cached_call_id", "call"), ("batch_id", "batch")):
        if call[name]:
            yield Step(kind, call[name], _AS[name], "view calls")
    if "replay_of" in tags:
        yield Step("call", tags["replay_of"], "this repeats it", "tag replay_of")
    if "evaluation_id" in tags:
        case = f"for its case {tags['case_id']}" if "case_id" in tags else ""
        yield Step("evaluation", tags["evaluation_id"], case, "tag evaluation_id")
    if is_trained(call["request_model"]):
        yield from _model(log, call["request_model"])


def _prompt(log: "EventLog", name: str, version: str) -> Step:
    from tracemill.llm import prompts

    added = prompts.history(log, name).added.get(version)
    said = ""
    if added:
        said = f"added {added.occurred_at:%Y-%m-%d}" + (f", {added.source}" if added.source else "")
    source = "event prompt.version_added" if added else "view calls"
    return Step("prompt", f"{name}@{version[:12]}", said or "not registered here", source)


def _conversation(log: "EventLog", call: dict[str, Any]) -> Step:
    [row] = log.arrow(
        "SELECT count(*) AS calls, count(*) FILTER (occurred_at <= $when::TIMESTAMP) AS place "
        "FROM events WHERE conversation_id = $id AND kind IN ('llm.call.started', 'llm.call.cached')",
        {"id": call["conversation_id"], "when": call["started_at"].replace(tzinfo=None)},
    ).to_pylist()
    said = f"call {row['place']:,} of {row['calls']:,}"
    return Step("conversation", call["conversation_id"], said, "events")


def _model(log: "EventLog", model: str) -> Iterator[Step]:
    rows = log.arrow(
        "SELECT model, state, dataset, left(dataset_digest, 16) AS version FROM models "
        "WHERE model = $model OR name = $name",
        {"model": model, "name": model.split(":")[2] if model.count(":") >= 2 else model},
    ).to_pylist()
    exact = [row for row in rows if row["model"] == model]
    for row in exact or [row for row in rows if row["state"] == "production"]:
        said = f"{row['state']}, trained on {row['dataset']}@{row['version']}"
        yield Step("model", row["model"], said, "view models")


def _went_into(call_id: str, mentions: Sequence[dict[str, Any]]) -> Iterator[Step]:
    """What other events say of the call, by kind."""
    by_kind: dict[str, list[Step]] = {}
    for mention in mentions:
        if step := _mentioned(call_id, mention):
            by_kind.setdefault(step[0], []).append(step[1])
    for what, steps in by_kind.items():
        yield from shortened(steps, what)


def _mentioned(call_id: str, event: dict[str, Any]) -> tuple[str, Step] | None:
    told, kind, source = json.loads(event["payload"]), event["kind"], f"event {event['kind']}"
    other, when = str(event["stream"]).partition(":")[2], f"{event['occurred_at']:%Y-%m-%d}"
    if kind == "llm.feedback.given":
        comment = f" {told['comment']!r}" if told.get("comment") else ""
        who = f" by {event['user_id']}" if event["user_id"] else ""
        return "feedback", Step("feedback", f"{told['score']:+g}", f"{when}{comment}{who}", source)
    if kind == "llm.call.started" and told.get("fallback_of") == call_id:
        return "fallbacks", Step("call", other, f"in its place, {_model_of(told)}", source)
    if kind == "llm.call.started" and told.get("metadata", {}).get("replay_of") == call_id:
        return "replays", Step("replay", other, f"{when}, {_model_of(told)}", source)
    if kind == "llm.call.cached" and told.get("cached_call_id") == call_id:
        return "answers from the cache", Step("call", other, f"{when}, got its answer", source)
    if kind == "evaluation.cases_scored":
        return "evaluations", Step("evaluation", other, "one of its answers", source)
    return None


def _model_of(told: dict[str, Any]) -> str:
    """Provider and model of a call; a model that was trained here is named by itself."""
    if is_trained(told["request_model"]):
        return str(told["request_model"])
    return f"{told['provider']}/{told['request_model']}"

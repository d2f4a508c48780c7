"""Message batches as Anthropic's own SDK drives them, answered by a worker."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from tests.server.conftest import World
from tracemill.jobs import worker

HELLO: Any = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def sdk(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=0) as client:
        yield client


def one(name: str, model: str = "local/echo", **more: Any) -> Any:
    params = {"model": model, "max_tokens": 50, "messages": HELLO, **more}
    return {"custom_id": name, "params": params}


def test_a_batch_is_handed_over_answered_read_and_deleted(
    sdk: anthropic.Anthropic, world: World
) -> None:
    wrong = one("b", "local/nothing")
    batch = sdk.messages.batches.create(
        requests=[one("a"), wrong, one("c", "claude-sonnet-5-5", system="Be brief.")]
    )
    assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 3)
    assert batch.results_url is None
    with pytest.raises(anthropic.AnthropicError):
        sdk.messages.batches.results(batch.id)
    early = httpx.get(f"{world.url}/v1/messages/batches/{batch.id}/results")
    assert early.status_code == 404

    worker.run(world.server.gateway.settings, 1, until_idle=True)
    ended = sdk.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.type) == ("ended", "message_batch")
    counts = ended.request_counts
    assert (counts.processing, counts.succeeded, counts.errored) == (0, 2, 1)
    assert ended.ended_at is not None

    lines = {line.custom_id: line.result for line in sdk.messages.batches.results(batch.id)}
    assert [line.type for line in lines.values()] == ["succeeded", "errored", "succeeded"]
    first: Any = lines["a"]
    assert first.message.content[0].text == "Say hello."
    refused: Any = lines["b"]
    assert refused.error.error.type == "not_found_error"
    assert "local has no model" in refused.error.error.message
    sent = world.upstream.seen[-1].json
    assert (sent["model"], sent["system"]) == ("claude-sonnet-5-5", "Be brief.")

    assert sdk.messages.batches.delete(batch.id).id == batch.id
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.batches.retrieve(batch.id)


def test_a_batch_that_is_given_up_has_ended(sdk: anthropic.Anthropic) -> None:
    batch = sdk.messages.batches.create(requests=[one("a"), one("b")])
    with pytest.raises(anthropic.BadRequestError, match="cancel it first"):
        sdk.messages.batches.delete(batch.id)
    given_up = sdk.messages.batches.cancel(batch.id)
    assert (given_up.processing_status, given_up.request_counts.canceled) == ("ended", 2)
    assert given_up.cancel_initiated_at is not None
    told = [(line.custom_id, line.result.type) for line in sdk.messages.batches.results(batch.id)]
    assert told == [("a", "canceled"), ("b", "canceled")]


def test_batches_are_listed_page_by_page_in_both_directions(
    sdk: anthropic.Anthropic, world: World
) -> None:
    before = [batch.id for batch in sdk.messages.batches.list()]
    made = [sdk.messages.batches.create(requests=[one("a")]).id for _ in range(5)]
    latest = [*reversed(made), *before]
    assert [batch.id for batch in sdk.messages.batches.list(limit=2)] == latest
    page = sdk.messages.batches.list(limit=2, before_id=made[0])
    assert [batch.id for batch in page.data] == [made[2], made[1]]
    assert page.has_more
    newest = sdk.messages.batches.list(limit=3, before_id=made[2])
    assert ([b.id for b in newest.data], newest.has_more) == ([made[4], made[3]], False)


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "requests"),
        ([one("a"), one("a")], "custom_id"),
        ([one("a"), one("b", tools=[{"type": "web_search_20250305"}])], "requests.1.params.tools"),
        ([one("a", max_tokens=0)], "max_tokens"),
    ],
)
def test_a_batch_with_anything_wrong_is_not_taken(
    sdk: anthropic.Anthropic, requests: Any, words: str
) -> None:
    known = len(list(sdk.messages.batches.list(limit=100)))
    with pytest.raises(anthropic.BadRequestError, match=words):
        sdk.messages.batches.create(requests=requests)
    assert len(list(sdk.messages.batches.list(limit=100))) == known

"""Batches as OpenAI's own SDK drives them, answered by a real worker."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.server.conftest import World
from tests.server.openai_played import checked, play_openai
from tests.server.played import TEXT
from tracemill.jobs import worker

CHAT: Any = "/v1/chat/completions"


@pytest.fixture
def sdk(world: World) -> Iterator[openai.OpenAI]:
    world.upstream.answer = play_openai
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def line(name: str, model: str = "local/echo", url: str = CHAT, **more: Any) -> dict[str, Any]:
    words: Any = {"messages": [{"role": "user", "content": name}]}
    if url == "/v1/responses":
        words = {"input": name}
    if url == "/v1/completions":
        words = {"prompt": name}
    body = {"model": model, **words, **more}
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


def uploaded(sdk: openai.OpenAI, *lines: Any) -> str:
    data = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    return sdk.files.create(file=("lines.jsonl", data.encode()), purpose="batch").id


def begun(sdk: openai.OpenAI, *lines: Any, endpoint: Any = CHAT, **more: Any) -> Any:
    return checked(
        sdk.batches.create(
            input_file_id=uploaded(sdk, *lines),
            endpoint=endpoint,
            completion_window="24h",
            **more,
        )
    )


def lines_of(sdk: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    text = sdk.files.content(file_id or "").text
    return {each["custom_id"]: each for each in map(json.loads, text.splitlines())}


def test_batches_are_answered_by_workers_and_fetched_as_files(
    sdk: openai.OpenAI, world: World
) -> None:
    wrong = line("b", "local/nothing")
    batch = begun(sdk, line("a"), wrong, line("c", "gpt-5.4-mini"), metadata={"k": "v"})
    responses = begun(sdk, line("r", url="/v1/responses"), endpoint="/v1/responses")
    texts = begun(sdk, line("t", url="/v1/completions"), endpoint="/v1/completions")
    given_up = begun(sdk, line("x"))
    assert checked(sdk.batches.cancel(given_up.id)).status == "cancelled"
    assert (batch.status, batch.metadata, batch.output_file_id) == ("in_progress", {"k": "v"}, None)

    worker.run(world.server.gateway.settings, 1, until_idle=True)
    ended = checked(sdk.batches.retrieve(batch.id))
    assert ended.status == "completed"
    assert ended.request_counts is not None
    assert ended.request_counts.to_dict() == {"total": 3, "completed": 2, "failed": 1}
    assert ended.usage is not None
    assert ended.usage.total_tokens == 17
    done, failed = lines_of(sdk, ended.output_file_id), lines_of(sdk, ended.error_file_id)
    said = {name: each["response"]["body"]["choices"][0]["message"]["content"] for name, each in done.items()}  # fmt: skip
    assert said == {"a": "a", "c": TEXT}
    assert failed["b"]["response"]["status_code"] == 404
    assert failed["b"]["error"]["code"] == "unknown_model"

    of_responses = lines_of(sdk, sdk.batches.retrieve(responses.id).output_file_id)
    assert of_responses["r"]["response"]["body"]["output"][0]["content"][0]["text"] == "r"
    of_texts = lines_of(sdk, sdk.batches.retrieve(texts.id).output_file_id)
    assert of_texts["t"]["response"]["body"]["choices"][0]["text"] == "t"
    nothing = lines_of(sdk, sdk.batches.retrieve(given_up.id).error_file_id)
    assert nothing["x"]["error"]["code"] == "batch_cancelled"

    everything = [checked(each).id for each in sdk.batches.list(limit=2)]
    assert everything == [each.id for each in (given_up, texts, responses, batch)]
    again = sdk.batches.retrieve(batch.id)
    assert (again.output_file_id, again.error_file_id) == (
        ended.output_file_id,
        ended.error_file_id,
    )
    assert checked(sdk.files.retrieve(ended.output_file_id or "")).purpose == "batch_output"
    with pytest.raises(openai.BadRequestError):
        sdk.batches.cancel(batch.id)


def test_wrong_lines_fail_a_batch_before_anything_is_sent(sdk: openai.OpenAI, world: World) -> None:
    batch = begun(
        sdk,
        line("a"),
        line("a"),
        "{",
        [],
        {**line("b"), "method": "GET"},
        {**line("c"), "url": "/v1/responses"},
        line("d", temperature=9),
        line("e", stream=True),
        line("f", "claude-sonnet-5-5", logit_bias={"1": 1}),
    )
    assert (batch.status, batch.request_counts.total) == ("failed", 0)
    found = [(each.line, each.param) for each in batch.errors.data]
    assert found == [
        (2, "custom_id"),
        (3, None),
        (4, None),
        (5, "method"),
        (6, "url"),
        (7, "temperature"),
        (8, "body.stream"),
        (9, "logit_bias"),
    ]
    assert world.upstream.seen == []
    assert checked(sdk.batches.retrieve(batch.id)).to_dict() == batch.to_dict()


def test_what_an_sdk_sends_once_more_is_the_same_batch(sdk: openai.OpenAI) -> None:
    asked: Any = {"input_file_id": uploaded(sdk, "{"), "endpoint": CHAT, "completion_window": "24h"}
    first = sdk.batches.create(**asked)
    again = sdk.batches.create(**asked, extra_headers={"x-stainless-retry-count": "1"})
    assert first.id == again.id != sdk.batches.create(**asked).id


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file-nothing"}, "input_file_id"),
    ],
)
def test_what_is_no_batch_is_named(sdk: openai.OpenAI, asked: Any, param: str) -> None:
    given: Any = {"endpoint": CHAT, "completion_window": "24h", **asked}
    given.setdefault("input_file_id", uploaded(sdk, "{"))
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.batches.create(**given)
    assert refused.value.param == param
    with pytest.raises(openai.NotFoundError):
        sdk.batches.retrieve("batch_nothing")

"""What only one provider has: it stays in the conversation with that provider, and others go without."""

from typing import Any

import anthropic
import openai
import pytest

from tests.llm.serving import Say, Seen, say
from tests.server.conftest import World
from tracemill.events import LlmCallFinished
from tracemill.messages import Native, Text, parts_of

CLAUDE, GPT, GEMINI = "claude-sonnet-5-5", "gpt-5.4-mini", "gemini-3-pro"
ASKED: Any = {"role": "user", "content": "How is the sky?"}
MORE: Any = {"role": "user", "content": "And now?"}
CITED = {
    "type": "web_search_result_location",
    "url": "https://example.org/sky",
    "title": "Sky",
    "encrypted_index": "abc",
    "cited_text": "Blue, says ann@example.org.",
}
SEARCHED: list[Any] = [
    {
        "type": "server_tool_use",
        "id": "srvtoolu_1",
        "name": "web_search",
        "input": {"query": "sky"},
    },
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    {"type": "text", "text": "It is blue.", "citations": [CITED]},
]
SEARCH_CALL = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "sky"},
}
ANNOTATION = {
    "type": "url_citation",
    "url": "https://example.org/sky",
    "title": "Sky",
    "start_index": 0,
    "end_index": 11,
}


CLAUDE_SEARCHED: Any = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": CLAUDE,
    "content": SEARCHED,
    "stop_reason": "pause_turn",
    "usage": {"input_tokens": 5, "output_tokens": 7},
}
WORDS = {"type": "output_text", "text": "It is blue.", "annotations": [ANNOTATION]}
GPT_SEARCHED: Any = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": GPT,
    "output": [
        SEARCH_CALL,
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [WORDS]},
    ],
    "usage": {"input_tokens": 5, "output_tokens": 7},
}


def claude_searches(seen: Seen) -> Say:
    return say(CLAUDE_SEARCHED)


def gpt_searches(seen: Seen) -> Say:
    return say(GPT_SEARCHED)


def sent(world: World) -> Any:
    return world.upstream.seen[-1].json


def claude(world: World) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=0)


def gpt(world: World) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0)


def answers(world: World, model: str, messages: Any) -> Any:
    with claude(world) as sdk:
        return sdk.messages.create(model=model, max_tokens=100, messages=messages)


def test_a_turn_that_was_paused_goes_on_with_what_was_searched(world: World) -> None:
    plays, world.upstream.answer = world.upstream.answer, claude_searches
    made = answers(world, CLAUDE, [ASKED])
    assert made.stop_reason == "pause_turn"
    said = [block.to_dict() for block in made.content]
    assert [block["type"] for block in said] == [block["type"] for block in SEARCHED]
    assert said[2]["citations"] == [CITED]
    world.upstream.answer = plays
    answers(world, CLAUDE, [ASKED, {"role": "assistant", "content": made.content}, MORE])
    assert sent(world)["messages"][1]["content"] == SEARCHED
    for model in (GPT, GEMINI):
        answers(world, model, [ASKED, {"role": "assistant", "content": made.content}, MORE])
        assert "srvtoolu_1" not in str(sent(world))
        assert "It is blue." in str(sent(world))


def test_the_log_has_it_without_what_is_personal(world: World) -> None:
    world.upstream.answer = claude_searches
    answers(world, CLAUDE, [ASKED])
    *_, last = world.server.log.read(kinds=["llm.call.finished"])
    assert isinstance(last.event, LlmCallFinished)
    search, _, words = parts_of(last.event.content)
    assert isinstance(search, Native)
    assert (search.provider, search.body) == ("anthropic", SEARCHED[0])
    assert isinstance(words, Text)
    assert words.citations[0].body["url"] == CITED["url"]
    assert "ann@example.org" not in str(words)


def test_what_a_user_gives_to_one_provider_another_does_not_get(world: World) -> None:
    given: Any = [
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "text", "text": "Sum it up."},
    ]
    answers(world, CLAUDE, [{"role": "user", "content": given}])
    assert sent(world)["messages"][0]["content"] == given
    with pytest.raises(anthropic.BadRequestError, match="container_upload"):
        answers(world, GPT, [{"role": "user", "content": given}])


def test_a_search_of_openais_stays_in_the_conversation(world: World) -> None:
    world.upstream.answer = gpt_searches
    with gpt(world) as sdk:
        made = sdk.responses.create(model=GPT, input="How is the sky?")
        search, message = (item.to_dict() for item in made.output)
        assert search == SEARCH_CALL
        assert message["content"][0]["annotations"] == [ANNOTATION]  # pyright: ignore[reportIndexIssue, reportArgumentType]
        kept = sdk.responses.retrieve(made.id)
        assert [item.to_dict() for item in kept.output] == [search, message]
        sdk.responses.create(model=GPT, input="And now?", previous_response_id=made.id)
        assert sent(world)["input"][1] == SEARCH_CALL
        again: Any = [ASKED, *(item.to_dict() for item in made.output), MORE]
        sdk.responses.create(model=GPT, input=again)
        assert sent(world)["input"][1] == SEARCH_CALL
        assert [item.get("role") for item in sent(world)["input"]] == [
            *("user", None, "assistant", "user")
        ]
        listed = sdk.responses.input_items.list(made.id)
        assert len(listed.data) == 1


def test_what_was_run_for_openai_another_provider_is_not_told(world: World) -> None:
    with gpt(world) as sdk:
        asked: Any = [ASKED, SEARCH_CALL, MORE]
        sdk.responses.create(model=CLAUDE, input=asked)
        assert "ws_1" not in str(sent(world))
        run: Any = {"type": "shell_call_output", "call_id": "c1", "output": [{"stdout": "x"}]}
        with pytest.raises(openai.BadRequestError, match="shell_call_output"):
            sdk.responses.create(model=CLAUDE, input=[ASKED, run])


def test_a_picture_that_was_made_is_given_whole_and_logged_as_a_digest(world: World) -> None:
    made = {"type": "image_generation_call", "id": "ig_1", "status": "completed"}
    whole = {**made, "result": "aGVsbG8g" * 20_000}
    world.upstream.answer = lambda seen: say({**GPT_SEARCHED, "output": [whole]})
    with gpt(world) as sdk:
        answer = sdk.responses.create(model=GPT, input="Draw the sky.")
        assert answer.output[0].to_dict() == whole
        (kept,) = (item.to_dict() for item in sdk.responses.retrieve(answer.id).output)
        assert str(kept["result"]).startswith("sha256=")
        with pytest.raises(openai.BadRequestError, match="not in the log"):
            sdk.responses.create(model=GPT, input="Larger.", previous_response_id=answer.id)


def test_what_is_cited_is_read_for_personal_data_too(world: World) -> None:
    only_words = {**CLAUDE_SEARCHED, "content": SEARCHED[2:]}
    world.upstream.answer = lambda seen: say(only_words)
    assert answers(world, CLAUDE, [ASKED]).content[0].citations[0].cited_text == CITED["cited_text"]
    *_, last = world.server.log.read(kinds=["llm.call.finished"])
    assert "example.org/sky" in str(last.event)
    assert "ann@example.org" not in str(last.event)

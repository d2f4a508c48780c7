"""Documents and recordings in the four languages: to any provider that reads them, and nowhere else."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import types

from tests.server.conftest import World
from tests.server.openai_played import play_openai
from tests.server.running import running
from tracemill.access.keys import Keys
from tracemill.events import LlmCallStarted
from tracemill.log import EventLog
from tracemill.messages import File, Text
from tracemill.settings import Settings

PDF = b"%PDF-1.4 of a test"
DATA = base64.b64encode(PDF).decode()
URI = f"data:application/pdf;base64,{DATA}"
BLOCK = {"type": "base64", "media_type": "application/pdf", "data": DATA}
GPT, CLAUDE, GEMINI = "gpt-5.4-mini", "claude-sonnet-5-5", "gemini-3-pro"


@pytest.fixture
def gpt(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=0) as client:
        yield client


def sent(world: World) -> Any:
    return world.upstream.seen[-1].json


def logged(world: World) -> LlmCallStarted:
    """The call that came last, as the log has it."""
    begun = [recorded.event for recorded in world.server.log.read(kinds=["llm.call.started"])]
    assert isinstance(begun[-1], LlmCallStarted)
    return begun[-1]


def file_part(**fields: str) -> Any:
    return [{"role": "user", "content": [{"type": "file", "file": fields}]}]


def test_a_document_goes_to_every_provider_that_reads_it(gpt: openai.OpenAI, world: World) -> None:
    asked = file_part(filename="report.pdf", file_data=URI)
    gpt.chat.completions.create(model=CLAUDE, messages=asked)
    assert sent(world)["messages"][0]["content"] == [
        {"type": "document", "source": BLOCK, "title": "report.pdf"}
    ]
    gpt.chat.completions.create(model=GEMINI, messages=asked)
    assert sent(world)["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "application/pdf", "data": DATA}}
    ]
    world.upstream.answer = play_openai
    gpt.chat.completions.create(model=GPT, messages=asked)
    assert sent(world)["messages"] == asked
    with pytest.raises(openai.BadRequestError, match="Cohere reads no files"):
        gpt.chat.completions.create(model="cohere/command-a", messages=asked)
    (part,) = logged(world).messages[0].parts
    assert isinstance(part, File)
    assert (part.name, part.uri.partition("=")[0]) == (
        "report.pdf",
        "data:application/pdf;sha256",
    )


def test_a_file_that_was_handed_over_is_named_by_its_id(gpt: openai.OpenAI, world: World) -> None:
    made = gpt.files.create(file=("report.pdf", PDF), purpose="user_data")
    for stream in (False, True):
        asked = gpt.chat.completions.create(
            model=CLAUDE, messages=file_part(file_id=made.id), stream=stream
        )
        if stream:
            assert list(asked)
        assert sent(world)["messages"][0]["content"][0]["source"] == BLOCK
    content: Any = [
        {"type": "input_file", "file_id": made.id},
        {"type": "input_file", "file_data": DATA, "filename": "report.pdf"},
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
    ]
    gpt.responses.create(model=CLAUDE, input=[{"role": "user", "content": content}])
    blocks = sent(world)["messages"][0]["content"]
    there = {"type": "url", "url": "https://example.org/a.pdf"}
    assert [block["source"] for block in blocks] == [BLOCK, BLOCK, there]
    picture = gpt.files.create(file=("a.png", b"png"), purpose="vision")
    shown: Any = [{"type": "input_image", "file_id": picture.id, "detail": "auto"}]
    gpt.responses.create(model=CLAUDE, input=[{"role": "user", "content": shown}])
    assert sent(world)["messages"][0]["content"][0]["source"]["media_type"] == "image/png"


def test_words_that_come_as_a_file_are_words(gpt: openai.OpenAI, world: World) -> None:
    made = gpt.files.create(
        file=("notes.txt", "Grüße an ann@example.org".encode()), purpose="user_data"
    )
    gpt.chat.completions.create(model=CLAUDE, messages=file_part(file_id=made.id))
    words = "notes.txt\n\nGrüße an ann@example.org"
    assert sent(world)["messages"][0]["content"] == [{"type": "text", "text": words}]
    said = logged(world).messages[0].content
    assert "Grüße an" in str(said)
    assert "ann@example.org" not in str(said)
    broken = gpt.files.create(file=("notes.txt", b"\xff\xfe"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="no text in UTF-8"):
        gpt.chat.completions.create(model=CLAUDE, messages=file_part(file_id=broken.id))


def test_recordings_are_heard_by_who_can(gpt: openai.OpenAI, world: World) -> None:
    sound: Any = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    asked: Any = [{"role": "user", "content": [sound, {"type": "text", "text": "What is said?"}]}]
    gpt.chat.completions.create(model=GEMINI, messages=asked)
    assert sent(world)["contents"][0]["parts"][0] == {
        "inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}
    }
    world.upstream.answer = play_openai
    gpt.chat.completions.create(model=GPT, messages=asked)
    assert sent(world)["messages"][0]["content"][0] == sound
    with pytest.raises(openai.BadRequestError, match="not audio/wav"):
        gpt.chat.completions.create(model=CLAUDE, messages=asked)


def test_anthropics_documents(claude: anthropic.Anthropic, world: World) -> None:
    words: Any = {"type": "text", "media_type": "text/plain", "data": "Grass is green."}
    blocks: Any = [
        {"type": "document", "source": BLOCK, "title": "Report", "context": "Of 2026."},
        {"type": "document", "source": words, "title": "Facts"},
        {"type": "document", "source": {"type": "content", "content": "Sky is blue."}},
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "text", "text": "Sea is wet."}]},
        },
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        {
            "type": "search_result",
            "source": "https://example.org/b",
            "title": "B",
            "content": [{"type": "text", "text": "Snow is white."}],
        },
    ]

    def ask(model: str) -> Any:
        asked: Any = [{"role": "user", "content": blocks}]
        claude.messages.create(model=model, max_tokens=100, messages=asked)
        return sent(world)

    texts = ["Of 2026.", "Facts\n\nGrass is green.", "Sky is blue.", "Sea is wet."]
    found = ask(CLAUDE)["messages"][0]["content"]
    assert [block["text"] for block in found if block["type"] == "text"] == [
        *texts,
        "B\n\nhttps://example.org/b\n\nSnow is white.",
    ]
    assert [block for block in found if block["type"] == "document"] == [
        {"type": "document", "source": BLOCK, "title": "Report"},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
    ]
    parts = ask(GEMINI)["contents"][0]["parts"]
    assert [part["text"] for part in parts if "text" in part][:4] == texts
    assert parts[1] == {"inlineData": {"mimeType": "application/pdf", "data": DATA}}
    many = claude.messages.count_tokens(
        model=CLAUDE, messages=[{"role": "user", "content": blocks}]
    )
    assert many.input_tokens > 4_000
    wrong: Any = [{"role": "user", "content": [{"type": "document", "source": {"type": "odd"}}]}]
    with pytest.raises(anthropic.BadRequestError, match="document needs a source"):
        claude.messages.create(model=CLAUDE, max_tokens=100, messages=wrong)


def test_geminis_files(world: World) -> None:
    options = types.HttpOptions(base_url=world.url)
    with genai.Client(api_key="none", http_options=options) as sdk:
        pdf = types.Part.from_bytes(data=PDF, mime_type="application/pdf")
        sdk.models.generate_content(model=CLAUDE, contents=[pdf, "Sum it up."])
        assert sent(world)["messages"][0]["content"][0] == {"type": "document", "source": BLOCK}
        film = types.Part.from_uri(file_uri="gs://bucket/a.mp4", mime_type="video/mp4")
        words = types.Part.from_bytes(data=b"a,b\n1,2", mime_type="text/csv")
        sdk.models.generate_content(model=GEMINI, contents=[film, words])
        assert sent(world)["contents"][0]["parts"] == [
            {"fileData": {"fileUri": "gs://bucket/a.mp4", "mimeType": "video/mp4"}},
            {"text": "a,b\n1,2"},
        ]
        assert logged(world).messages[0].parts[1] == Text(content="a,b\n1,2")


def test_nobody_reaches_a_file_of_somebody_else(world: World, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    with EventLog.open(Settings(warehouse=warehouse).create()) as log:
        keys = Keys(log)
        secrets = [keys.create(name)[1].get_secret_value() for name in ("ann", "bob")]
    before = len(world.upstream.seen)
    with running(warehouse) as server:
        ann, bob = (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key=each, max_retries=0)
            for each in secrets
        )
        with ann, bob:
            made = ann.files.create(file=("report.pdf", PDF), purpose="user_data")
            for name in (made.id, "file-abc", f"file-{'0' * 32}"):
                with pytest.raises(openai.NotFoundError, match="there is no file"):
                    bob.chat.completions.create(model=CLAUDE, messages=file_part(file_id=name))
    assert len(world.upstream.seen) == before


def test_what_is_made_later_names_no_file(gpt: openai.OpenAI, world: World) -> None:
    made = gpt.files.create(file=("report.pdf", PDF), purpose="user_data")
    body = {"model": CLAUDE, "messages": file_part(file_id=made.id)}
    answer = httpx.post(f"{world.url}/v1/jobs", json={"request": body})
    assert (answer.status_code, "names none" in answer.text) == (400, True)
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = gpt.files.create(file=("a.jsonl", json.dumps(line).encode()), purpose="batch")
    batch = gpt.batches.create(
        input_file_id=lines.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert batch.status == "failed"
    assert batch.errors is not None
    assert "names none" in str(batch.errors.data)

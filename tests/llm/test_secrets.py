"""Keys and personal data are planted wherever they can come from, and searched wherever they could
end up: journal, segments, cache, logs of every library, words and reprs of everything."""

import asyncio
import base64
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.llm.serving import Say, Seen, Server, say, say_events, serving
from tests.llm.test_client_http import STREAM, USAGE, answered, piece
from tracemill import EventLog, Request
from tracemill.errors import CallFailed
from tracemill.llm import keys
from tracemill.llm.client import Client
from tracemill.llm.flow import Exchange, Open, Send
from tracemill.llm.providers import PROVIDERS, Wire, base_url_variable
from tracemill.messages import (
    File,
    Image,
    Message,
    Native,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

PERSONAL = {
    "email": "ada.lovelace@example.org",
    "phone": "+44 20 7946 0958",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "key": "sk-proj-Zq8rT1vW2xY3zA4bC5dE6fG7hJ9kL0m",
    "aws": "AKIAIOSFODNN7EXAMPLE",
}
ALL = "; ".join(PERSONAL.values())
LEAST = 10
"""So many letters in a row of something planted are a leak."""


def key_of(prefix: str) -> str:
    """A key that no pattern knows, another for each variable."""
    variable = PROVIDERS[prefix].key_from
    return base64.b32encode(variable.encode()).decode().rstrip("=").lower()[::-1] + "0q9w8e7r"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemill.llm.retry._FIRST_WAIT_S", 0.001)
    for prefix, provider in PROVIDERS.items():
        if provider.key_from:
            monkeypatch.setenv(provider.key_from, key_of(prefix))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(lambda seen: say(answered())) as server:
        for prefix in PROVIDERS:
            if prefix != "local":
                monkeypatch.setenv(base_url_variable(prefix), server.url + "/v1")
        yield server


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def client(log: EventLog) -> Iterator[Client]:
    client = Client(log)
    yield client
    client.cache.close()
    client.close()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that any library has written to its log."""
    for name in ("", "httpx", "httpcore", "aiohttp", "asyncio", "tracemill"):
        caplog.set_level(logging.DEBUG, logger=name)
    # httpcore tells of every header that came; to have it do so is to ask for the wire.
    return lambda: "".join(
        repr(record.__dict__)
        for record in caplog.records
        if not record.getMessage().startswith("receive_response_headers")
    )


def words_of(error: BaseException) -> str:
    """Everything that an exception shows, its chain included."""
    found = "".join(traceback.format_exception(error))
    while error:
        found += f"{error} {error!r} {error.args} {vars(error)}"
        error = error.__cause__ or error.__context__  # pyright: ignore[reportAssignmentType]
    return found


def bytes_under(folder: Path) -> str:
    files = (path for path in folder.rglob("*") if path.is_file())
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


def kept_by(log: EventLog) -> str:
    """Everything on disk, before and after it was sealed, and what the log answers."""
    found = bytes_under(log.folder.parent)
    found += "".join(repr(recorded) for recorded in log.read())
    log.fold()
    payloads = log.sql("SELECT payload FROM events")["payload"].to_list()
    return found + bytes_under(log.folder.parent) + "".join(payloads) + repr(log)


def leaks(text: str, *planted: str) -> list[str]:
    """The pieces of what was planted that the text has."""
    return [
        secret[at : at + LEAST]
        for secret in planted
        for at in range(len(secret) - LEAST + 1)
        if secret[at : at + LEAST] in text
    ]


def ask(prefix: str = "openai", **more: Any) -> Request:
    return Request.of("Who is it?", model=f"{prefix}/some-model", **more)


def failed(client: Client, request: Request, *, stream: bool = False) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        _ = list(client.stream(request)) if stream else client.generate(request)
    return caught.value


async def afailed(client: Client, request: Request) -> CallFailed:
    try:
        with pytest.raises(CallFailed) as caught:
            async for _ in client.astream(request):
                pass
        return caught.value
    finally:
        await client.aclose()


@pytest.mark.parametrize("prefix", sorted(set(PROVIDERS) - {"local"}))
def test_no_key_is_repeated(
    server: Server, log: EventLog, client: Client, said: Callable[[], str], prefix: str
):
    """The server sends the key back in every way that it has."""
    key = key_of(prefix)
    words = f"Incorrect API key: {key}. You sent {key[:20]}... and ...{key[-12:]}."
    error = {"message": words, "code": key, "type": key, "status": key}
    found = ""
    for answer in (
        say({"error": error, "message": words}, 401, x_request_id=key),
        say({"error": words, "type": "error"}, 400),
        Say(words.encode(), 403),
        Say(f"{'x' * (75 - len(key) // 2)}{key}".encode()),
        Say(f'{{"id": "{key}'.encode()),
        say({"id": key, "model": key, "object": key}),
        Say(b"", 302, {"location": f"http://elsewhere/?key={key}"}),
        say_events({"error": error, "type": "error"}),
        say_events(f'{{"{key}'),
    ):
        server.answer = lambda seen, answer=answer: answer
        client._lines.forget()  # pyright: ignore[reportPrivateUsage]
        for stream in (False, True):
            try:
                failure = failed(client, ask(prefix), stream=stream)
            except pytest.fail.Exception:
                continue  # an answer after all
            found += words_of(failure)
    header = PROVIDERS[prefix].key_header
    assert key in server.seen[0].headers[header]
    assert not leaks(found, key)
    assert not leaks(kept_by(log), key)
    assert not leaks(said(), key)


def test_no_key_of_an_answer_is_kept(
    server: Server, log: EventLog, client: Client, said: Callable[[], str]
):
    """A key that looks like any word comes back as if the model had said it."""
    key = key_of("openai")
    body = answered(f"You sent {key}!", prompt_tokens_details={"note": key})
    body |= {"id": key, "model": key, "service_tier": key}
    server.answer = lambda seen: say(body, x_request_id=key)
    request = Request.of(f"My key is {key}.", model="openai/some-model", user_id=key)
    response = client.generate(request, cache="read")
    assert response.text == f"You sent {key}!"
    server.answer = lambda seen: say_events(piece(f"It is {key}"), cut=True)
    failed(client, request, stream=True)
    assert not leaks(kept_by(log), key)
    assert not leaks(said(), key)


def test_no_key_is_shown(server: Server, log: EventLog, client: Client):
    key = key_of("anthropic")
    line = client._lines.to("anthropic/some-model")  # pyright: ignore[reportPrivateUsage]
    exchange = Exchange(line.provider, Wire("/messages"), 1)
    call = client._call(ask(), _ids(), model="anthropic/some-model")  # pyright: ignore
    stream = client.stream(ask("anthropic"))
    things = [client, vars(client), client._lines, vars(client._lines), line]  # pyright: ignore
    things += [exchange, Send(exchange, line.key), Open(exchange, line.key), stream, vars(stream)]
    things += [call, vars(call), keys.of("anthropic/x"), line.limiter, line.breaker]
    assert line.key
    assert line.key.get_secret_value() == key
    shown = "".join(f"{thing!r}{thing!s}" for thing in things)
    assert not leaks(shown, key)


def _ids() -> Any:
    from tracemill.llm.call import Ids

    return Ids()


@pytest.mark.parametrize("prefix", ["openai", "anthropic"])
def test_no_password_of_an_address_is_shown(
    server: Server,
    log: EventLog,
    client: Client,
    said: Callable[[], str],
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
):
    password = "correct-horse-battery"
    port = server.url.rpartition(":")[2]
    variable = base_url_variable(prefix)
    found = ""
    for place in (f"127.0.0.1:{port}", "127.0.0.1:9", f"/{password}@127.0.0.1", "[::1"):
        monkeypatch.setenv(variable, f"http://ada:{password}@{place}/v1")
        server.answer = lambda seen: say({"error": {"message": "no"}}, 400)
        found += words_of(failed(client, ask(prefix)))
        found += words_of(asyncio.run(afailed(client, ask(prefix))))
        line = client._lines.to(f"{prefix}/m")  # pyright: ignore[reportPrivateUsage]
        found += repr([line, Exchange(line.provider, Wire("/x"), 1)])
    headers = server.seen[0].headers
    basic = "Basic " + base64.b64encode(f"ada:{password}".encode()).decode()
    if prefix == "anthropic":
        assert headers["authorization"] == basic
    else:  # there is one header, and the key has it
        assert headers["authorization"] == f"Bearer {key_of(prefix)}"
    assert not leaks(found, password, basic)
    assert not leaks(kept_by(log), password, basic)
    assert not leaks(said(), password, basic)


def personal() -> Request:
    """Personal data in every place of a request that people or tools write to."""
    schema = {"type": "object", "properties": {"who": {"type": "string", "description": ALL}}}
    return Request(
        model="openai/some-model",
        system=f"Serve {ALL}",
        messages=(
            Message(role="user", content=f"I am {ALL}"),
            Message(
                role="assistant",
                content=(
                    Reasoning(content=f"They are {ALL}"),
                    Text(content=f"So {ALL}"),
                    ToolCall(id="c1", name="find", arguments=f'{{"who": "{ALL}"}}'),
                ),
            ),
            Message(role="tool", content=(ToolResult(id="c1", response=f"Found {ALL}"),)),
            Message(
                role="assistant",
                content=(
                    Native(body={"type": "search", "found": [{"text": ALL}]}),
                    Text(content="Found", citations=(Native(body={"cited_text": ALL}),)),
                ),
            ),
            Message(
                role="user",
                content=(
                    Text(content=ALL),
                    Image(uri="https://e.org/ada.lovelace@example.org"),
                    File(uri="data:application/pdf;base64,JVBERg==", name=f"{ALL}.pdf"),
                ),
            ),
        ),
        tools=(Tool(name="find", description=f"Like {ALL}", parameters=schema),),
        stop=(ALL,),
        metadata={"note": ALL, PERSONAL["email"]: "x"},
        user_id=PERSONAL["email"],
        conversation_id=PERSONAL["phone"],
    )


def echo(seen: Seen) -> Say:
    """The model says what it was told."""
    body = answered(f"You are {ALL}")
    body["choices"][0]["message"]["tool_calls"] = [
        {"id": "c2", "type": "function", "function": {"name": "find", "arguments": f'["{ALL}"]'}}
    ]
    body["choices"][0]["message"]["refusal"] = f"Not for {ALL}"
    return say(body)


def test_no_personal_data_of_a_call_is_kept(
    server: Server, log: EventLog, client: Client, said: Callable[[], str]
):
    server.answer = echo
    response = client.generate(personal())
    assert ALL in response.text
    assert ALL in server.seen[0].body.decode()
    found = ""
    for at in range(0, len(ALL), 7):  # a stream that is cut, pieces that are anything
        pieces = [piece(ALL[start : start + 5]) for start in range(0, at, 5)]
        server.answer = lambda seen, pieces=pieces: say_events(*pieces, cut=True)
        client._lines.forget()  # pyright: ignore[reportPrivateUsage]
        found += words_of(failed(client, personal(), stream=True)) if pieces else ""
    pieces = [piece(ALL[start : start + 3]) for start in range(0, len(ALL), 3)]
    server.answer = lambda seen: say_events(*pieces, piece(finish_reason="stop"), USAGE, "[DONE]")
    assert "".join(delta.text for delta in client.stream(personal())) == ALL
    kept = kept_by(log)
    # Of a text that was cut in the middle of a number only the whole ones can be known.
    whole = [value for value in PERSONAL.values() if value in kept]
    assert whole == []
    assert [value for value in PERSONAL.values() if value in found + said()] == []


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_no_personal_data_of_an_error_is_kept_or_shown(
    server: Server, log: EventLog, client: Client, said: Callable[[], str], status: int
):
    found = ""
    for answer in (
        say({"error": {"message": f"bad: {ALL}"}}, status, x_should_retry="false"),
        Say(f"<html>{ALL}</html>".encode(), status, {"x-should-retry": "false"}),
        Say(f'{{"id": "{ALL}'.encode(), status, {"x-should-retry": "false"}),
        say_events({"error": {"message": f"bad: {ALL}"}}),
        say_events(STREAM[0], {"error": {"message": f"bad: {ALL}"}}),
    ):
        server.answer = lambda seen, answer=answer: answer
        client._lines.forget()  # pyright: ignore[reportPrivateUsage]
        found += words_of(failed(client, ask()))
        client._lines.forget()  # pyright: ignore[reportPrivateUsage]
        found += words_of(failed(client, ask(), stream=True))
        found += words_of(asyncio.run(afailed(client, ask())))
    assert not leaks(found, *PERSONAL.values())
    assert not leaks(kept_by(log), *PERSONAL.values())
    assert not leaks(said(), *PERSONAL.values())


def test_no_personal_data_of_an_answer_that_breaks_its_schema_is_kept(
    server: Server, log: EventLog, client: Client
):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "enum": [1]}}}
    schema |= {"required": ["n"], "additionalProperties": False}
    said = iter([f'{{"n": "{ALL}", "{ALL}": 1}}', '{"n": 1}', f"{ALL}", f"{ALL}"])
    server.answer = lambda seen: say(answered(next(said)))
    client.generate(ask(response_schema=schema))
    failed(client, ask(response_schema=schema))
    assert not leaks(kept_by(log), *PERSONAL.values())


def test_no_password_of_a_tool_call_is_kept(server: Server, log: EventLog, client: Client):
    asked, said = ('{"password": "hunter22"}', '{"password": "hunter33"}')
    answer = answered()
    function = {"name": "log_in", "arguments": said}
    answer["choices"][0]["message"]["tool_calls"] = [
        {"id": "2", "type": "function", "function": function}
    ]
    server.answer = lambda seen: say(answer)
    call = ToolCall(id="1", name="log_in", arguments=asked)
    messages = (Message(role="user", content="Go."), Message(role="assistant", content=(call,)))
    reply = client.generate(Request(model="openai/some-model", messages=messages))
    kept = kept_by(log)
    assert said in [part.arguments for part in reply.parts if isinstance(part, ToolCall)]
    assert [secret for secret in ("hunter22", "hunter33") if secret in kept] == []
    assert "[password]" in kept


def test_no_key_is_kept_by_the_response_cache(server: Server, log: EventLog, client: Client):
    key = key_of("openai")
    client.generate(ask(), cache="both")
    assert client.generate(ask(), cache="both").from_cache
    assert (log.folder.parent / "cache" / "responses.db").exists()
    assert not leaks(kept_by(log), key)


@pytest.mark.parametrize("key", ["x", "EMPTY", "none", "a" * 40, '"quoted\\key"', "k.*e(y[0-9]"])
def test_a_key_of_any_shape(
    server: Server, log: EventLog, client: Client, monkeypatch: pytest.MonkeyPatch, key: str
):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.answer = lambda seen: say({"error": {"message": f"bad key <{key}> here"}}, 401)
    error = failed(client, ask())
    if len(key) > 5:
        assert str(error) == "bad key <[key]> here"
        assert key not in kept_by(log)
    else:  # a word, not a secret: the message stays readable
        assert str(error) == f"bad key <{key}> here"

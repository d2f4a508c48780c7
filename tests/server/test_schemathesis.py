"""Every operation of the OpenAPI document, by requests that schemathesis makes of it: whatever comes,
no 500, and each error is in the words of its dialect.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.python import asgi

from tests.llm.serving import serving
from tests.server.openai_played import play_openai
from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.server.app import create
from tracemill.server.catalogue import ROUTES
from tracemill.server.gateway import Gateway
from tracemill.server.routes import Route
from tracemill.settings import Settings

FULL = bool(os.environ.get("TRACEMILL_TEST_FULL"))
FIRST = {route.handler: route for route in reversed(ROUTES)}
# Generated requests that are wrong take five times as long to make; `test_fuzz.py` sends such too.
MODES = tuple(GenerationMode) if FULL else (GenerationMode.POSITIVE,)
LOCALHOST = "http://localhost"
# A generated name is hardly one: with these, what lies behind a model's name is asked as well.
MODELS = (
    *("gpt-5.4-mini", "text-embedding-3-small", "rerank-v3.5", "vllm-completions/x"),
    *("claude-sonnet-5-5", "gemini-3.8-flash", "command-a", "embed-v4.0"),
    *("local/extract", "local/wordllama", None),
)
USUAL = {"embeddings": MODELS[1], "rerank": MODELS[2]}
TOLD = [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "Hello."}]
CHAT = {"model": "gpt-5.4-mini", "messages": TOLD[:1]}
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
WORDS = {"texts": ["a"], "documents": ["a"], "content": {"parts": [{"text": "a"}]}}
# What an unreachable, an overloaded and a slow provider are told by; a 500 is a mistake of ours.
FOREIGN = frozenset({501, 502, 503, 504, 529})


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document as the application serves it, whose cases are sent to the application."""
    names = (("OPENAI", "/v1"), ("ANTHROPIC", "/v1"), ("GEMINI", "/v1beta"), ("COHERE", ""))
    made = Settings(warehouse=tmp_path_factory.mktemp("served") / "warehouse").create()
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(play_openai) as upstream,
        EventLog.open(made) as log,
    ):
        for name, path in (*names, ("VLLM", "/v1")):
            patch.setenv(f"{name}_BASE_URL", upstream.url + path)
            patch.setenv(f"{name}_API_KEY", "sk-upstream-0123456789abcdef")
        app = create(Gateway(made, log, Client(log, made)))
        yield schemathesis.openapi.from_asgi("/openapi.json", app, config=schemathesis.Config())
        asgi.shutdown_lifespans()


def test_the_document_is_valid_and_has_every_route(schema: Any) -> None:
    schema.validate()
    operations = [each.ok() for each in schema.get_all_operations()]
    told = {(each.method.upper(), each.path) for each in operations}
    assert told == {(route.method, route.shown) for route in ROUTES}
    names = [each.definition.raw["operationId"] for each in operations]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.shown}")
def test_no_request_breaks_the_server(schema: Any, route: Route) -> None:
    operation = schema[route.shown][route.method]
    cases = [operation.as_strategy(generation_mode=mode) for mode in MODES]
    with asgi.get_client(schema.app) as client:
        known = there(client, route)
    # The simplest request is the first, and asks for what is there.
    usual = MODELS[3] if route.path == "/v1/completions" else USUAL.get(route.scope, MODELS[0])

    @settings(
        max_examples=examples(route),
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=tuple(HealthCheck),  # pyright: ignore[reportArgumentType] (its metaclass)
    )
    @given(
        case=st.one_of(cases),
        model=st.sampled_from((usual, *MODELS)),
        names=st.sampled_from((known, {})),
    )
    def ask(case: Any, model: str | None, names: dict[str, Any]) -> None:
        named(case, names, model)
        response = case.call(base_url=LOCALHOST)
        status = response.status_code
        assert status < 500 or status in FOREIGN, f"{status}: {response.text[:300]}"
        if status >= 400:
            check_error(route.dialect.name, status, response.json())

    ask()


def examples(route: Route) -> int:
    """How many requests: one where there is no body to vary, or another path to the same."""
    if FULL:
        return 100
    return 2 if route.body is not None and FIRST[route.handler] is route else 1


def named(case: Any, known: Mapping[str, Any], model: str | None) -> None:
    """Puts in what is there: a generated name is hardly that of anything."""
    for name in case.path_parameters.keys() & known.keys():
        case.path_parameters[name] = known[name]
    if model and "model" in case.path_parameters:
        case.path_parameters["model"] = model
    if isinstance(case.body, dict):
        for name in case.body.keys() & known.keys():
            case.body[name] = known[name]
        if model and "model" in case.body:
            case.body["model"] = model


def there(client: asgi.ASGIClient, route: Route) -> dict[str, Any]:
    """What a request to this route may name, made for it: by parameter or field."""
    made: dict[str, Any] = dict(WORDS)
    match route.path.split("/")[1:]:
        case ["v1", "responses", "{response_id}", *_]:
            made["response_id"] = new(client, "/v1/responses", model="gpt-5.4-mini", input="Hi")
        case ["v1", "files", "{file_id}", *_]:
            made["file_id"] = file(client, "batch", LINE)
        case ["v1", "jobs", "{job_id}", *_]:
            made["job_id"] = new(client, "/v1/jobs", request=CHAT)
        case ["v1", "batches", *rest]:
            made["input_file_id"] = name = file(client, "batch", LINE)
            made["endpoint"] = LINE["url"]
            if rest:
                made["batch_id"] = new(
                    client,
                    "/v1/batches",
                    input_file_id=name,
                    endpoint=LINE["url"],
                    completion_window="24h",
                )
        case ["v1", "messages", "batches", "{batch_id}", *_]:
            asked = {"custom_id": "a", "params": {**CHAT, "max_tokens": 20}}
            made["batch_id"] = new(client, "/v1/messages/batches", requests=[asked])
        case ["v1", "fine_tuning", "jobs"]:
            made["training_file"] = file(client, "fine-tune", *[{"messages": TOLD}] * 10)
        case ["v1", "feedback"]:
            made["call_id"] = new(client, "/v1/chat/completions", **CHAT)
        case _:
            pass
    return made


def new(client: asgi.ASGIClient, path: str, **body: Any) -> str:
    answer = client.post(LOCALHOST + path, json=body)
    assert answer.ok, answer.text
    return answer.json()["id"]


def file(client: asgi.ASGIClient, purpose: str, *lines: Any) -> str:
    form = {"file": ("lines.jsonl", "\n".join(map(json.dumps, lines)))}
    answer = client.post(LOCALHOST + "/v1/files", data={"purpose": purpose}, files=form)
    assert answer.ok, answer.text
    return answer.json()["id"]


def check_error(dialect: str, status: int, told: Any) -> None:
    """Whether an error is one to the SDKs of this dialect."""
    match dialect, told:
        case "openai", {"error": {"message": str(), "type": str(), "param": _, "code": _}}:
            pass
        case "anthropic", {
            "type": "error",
            "error": {"type": str(), "message": str()},
            "request_id": str(),
        }:
            pass
        case "gemini", {"error": {"code": int(code), "message": str(), "status": str()}}:
            assert code == status
        case "cohere", {"id": str(), "message": str()}:
            pass
        case _:
            pytest.fail(f"not an error of {dialect}: {told}")

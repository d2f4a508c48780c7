"""Files as OpenAI's own SDK hands them over and fetches them, whose they are, and what is refused."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.server.conftest import World
from tests.server.openai_played import checked
from tests.server.running import running
from tracemill.access.keys import Keys
from tracemill.log import EventLog
from tracemill.settings import Settings


@pytest.fixture
def sdk(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_ten_megabytes_come_back_byte_for_byte(sdk: openai.OpenAI, world: World) -> None:
    data = os.urandom(10_000_000)
    made = checked(sdk.files.create(file=("a b/ü.bin", data), purpose="user_data"))
    assert (made.bytes, made.filename, made.status) == (len(data), "ü.bin", "processed")
    assert sdk.files.content(made.id).read() == data
    assert checked(sdk.files.retrieve(made.id)) == made
    assert not list(world.server.gateway.settings.files.glob(".*"))


def test_they_are_listed_page_by_page_and_deleted(sdk: openai.OpenAI) -> None:
    made = [sdk.files.create(file=(f"{n}.jsonl", b"{}"), purpose="batch").id for n in range(5)]
    listed = [checked(each).id for each in sdk.files.list(purpose="batch", limit=2)]
    assert listed == made[::-1]
    page = sdk.files.list(purpose="batch", limit=2, order="asc")
    assert ([each.id for each in page.data], page.has_more) == (made[:2], True)
    for each in made:
        assert checked(sdk.files.delete(each)).deleted
    assert sdk.files.list(purpose="batch").data == []
    with pytest.raises(openai.NotFoundError):
        sdk.files.content(made[0])


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"purpose": "fun"}, "purpose"),
        ({"file": ("a.jsonl", b""), "purpose": "batch"}, "file"),
        ({"expires_after": {"anchor": "created_at", "seconds": 5}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "never", "seconds": 5000}}, "expires_after.anchor"),
    ],
)
def test_what_cannot_be_kept_is_named(sdk: openai.OpenAI, asked: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.files.create(**{"file": ("a.jsonl", b"{}"), "purpose": "user_data", **asked})
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (b"--b\r\nnothing", "multipart/form-data; boundary=b"),
        (b"", "multipart/form-data; boundary=b"),
        (b"x" * 100, "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nx\r\n--b--\r\n',
         "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n',
         "multipart/form-data; boundary=b"),
    ],
)  # fmt: skip
def test_a_form_that_is_none_is_refused_and_leaves_nothing(
    world: World, body: bytes, kind: str
) -> None:
    folder = world.server.gateway.settings.files
    before = sorted(folder.iterdir()) if folder.exists() else []
    answer = httpx.post(f"{world.url}/v1/files", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert sorted(folder.iterdir()) == before


def test_what_a_key_hands_over_no_other_sees(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    settings = Settings(warehouse=warehouse).create()
    with EventLog.open(settings) as log:
        keys = Keys(log)
        secrets = [keys.create(name)[1].get_secret_value() for name in ("ann", "bob")]
    with running(warehouse) as server:
        ann, bob = (openai.OpenAI(base_url=f"{server.url}/v1", api_key=each) for each in secrets)
        with ann, bob:
            made = ann.files.create(file=("a.jsonl", b"{}"), purpose="user_data")
            assert [each.id for each in ann.files.list()] == [made.id]
            assert list(bob.files.list()) == []
            answer = ann.responses.create(model="local/echo", input="Hi")
            for call in (bob.files.content, bob.files.delete, bob.files.retrieve):
                with pytest.raises(openai.NotFoundError):
                    call(made.id)
            with pytest.raises(openai.NotFoundError):
                bob.responses.retrieve(answer.id)
            assert ann.responses.retrieve(answer.id).output_text == "Hi"

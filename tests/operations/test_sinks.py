"""Sinks: what they are told over real connections, whom they refuse, and that no secret gets out."""

import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import run  # noqa: F401
from tests.cli.running import Run
from tests.llm.serving import Say, Seen, Server, say, serving
from tests.operations.watched import ALONE, MINUTE, NOW, RULE, SECRET, fail, warehouse
from tracemill import EventLog
from tracemill.errors import InputError, NotDelivered, UsageError
from tracemill.operations.alerts import check
from tracemill.operations.rules import Slack
from tracemill.webhooks import post, signature

PATH = "/hook/T0K3N-that-nobody-may-read"
SINKS = """
sinks:
  team: {kind: webhook, url_env: TEAM_URL, secret_env: TEAM_SECRET, allow_private: true}
  chat: {kind: slack, url_env: CHAT_URL, allow_private: true}
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda _: say({"ok": True})) as opened:
        yield opened


@pytest.fixture
def addressed(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The sinks of `SINKS` lead to the server."""
    monkeypatch.setenv("TEAM_URL", f"{server.url}{PATH}?key=K3Y")
    monkeypatch.setenv("TEAM_SECRET", SECRET)
    monkeypatch.setenv("CHAT_URL", f"{server.url}{PATH}/chat")
    return server


def of_team(server: Server) -> Seen:
    return next(seen for seen in server.seen if seen.path == f"{PATH}?key=K3Y")


def test_a_webhook_is_signed_as_the_page_says(addressed: Server, tmp_path: Path):
    settings = warehouse(tmp_path, sinks=SINKS)
    with EventLog.open(settings) as log:
        fail(log, 3)
        (raised,) = check(log, settings, now=NOW)
        assert set(raised.told) == {"file", "team", "chat"}
    seen = of_team(addressed)
    assert signature.verify(seen.body, seen.headers, SECRET) == raised.alert_id
    # By hand, as a receiver without our function does it.
    signed = f"{seen.headers['webhook-id']}.{seen.headers['webhook-timestamp']}.".encode()
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, signed + seen.body, hashlib.sha256).digest()
    assert seen.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert seen.json == {
        "type": "alert.raised",
        "id": raised.alert_id,
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {
            "rule": "failures",
            "severity": "warning",
            "message": "failures is 3, > 2, in the last 1 h",
            "description": "calls fail",
            "alert_id": raised.alert_id,
            "value": 3.0,
            "comparison": ">",
            "threshold": 2.0,
            "window_from": "2026-03-01T11:00:00+00:00",
            "window_until": "2026-03-01T12:00:00+00:00",
        },
    }


def test_a_webhook_that_is_not_genuine_is_refused():
    body = b'{"type": "alert.raised"}'
    now = 1_700_000_000
    headers = signature.signed("id-1", now, body, SECRET)
    assert signature.verify(body, headers, SECRET, now=now + 299) == "id-1"
    shouted = {name.upper(): value for name, value in headers.items()}
    shouted["WEBHOOK-SIGNATURE"] = f"v1,AAAA v2,x v1,€ {headers['webhook-signature']}"
    assert signature.verify(body, shouted, SECRET, now=now) == "id-1"
    for spoiled, says in (
        ({**headers, "webhook-id": "id-2"}, "the signature of the webhook is wrong"),
        ({**headers, "webhook-timestamp": str(now + 1)}, "the signature of the webhook is wrong"),
        ({**headers, "webhook-timestamp": "now"}, "is not a number of seconds"),
        ({**headers, "webhook-signature": ""}, "the signature of the webhook is wrong"),
        ({"webhook-id": "id-1"}, "no header webhook-timestamp: it is not signed"),
    ):
        with pytest.raises(InputError, match=says):
            signature.verify(body, spoiled, SECRET, now=now)
    with pytest.raises(InputError, match="signature of the webhook is wrong"):
        signature.verify(body + b" ", headers, SECRET, now=now)
    with pytest.raises(InputError, match="is 301 s from now"):
        signature.verify(body, headers, SECRET, now=now + 301)
    for short in ("whsec_AAAA", "short"):
        with pytest.raises(UsageError, match="less than 16 bytes"):
            signature.signed("id-1", now, body, short)


def test_slack_reads_text_and_blocks_and_no_markup_of_ours(addressed: Server, tmp_path: Path):
    rule = RULE.replace("calls fail", "<!channel> & *all*")
    settings = warehouse(tmp_path, rule + ALONE, SINKS)
    with EventLog.open(settings) as log:
        fail(log, 3)
        check(log, settings, now=NOW)
    (seen,) = (seen for seen in addressed.seen if seen.path.endswith("/chat"))
    assert seen.json["text"] == "⚠️ warning: failures: failures is 3, &gt; 2, in the last 1 h"
    header, section, context = seen.json["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "⚠️ warning: failures", "emoji": True}
    assert section["text"]["text"] == (
        "*failures is 3, &gt; 2, in the last 1 h*\n&lt;!channel&gt; &amp; *all*"
    )
    assert context["elements"][0]["text"].startswith("2026-03-01T12:00:00Z")
    assert "webhook-signature" not in seen.headers


def test_no_address_and_no_secret_is_seen_anywhere(
    addressed: Server,
    tmp_path: Path,
    run: Run,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    settings = warehouse(tmp_path, sinks=SINKS)
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(settings.warehouse))
    echo = Say(f"{PATH} {SECRET}".encode(), 500, {"x-echo": PATH})
    moved = Say(b"", 307, {"location": f"{addressed.url}{PATH}/elsewhere"})
    said = ""
    with EventLog.open(settings) as log, caplog.at_level(0):
        fail(log, 3)
        for minute, answer in ((0, echo), (2, moved), (10, Say(b"HTTP", cut=True))):
            addressed.answer = lambda _, answer=answer: answer
            (outcome,) = check(log, settings, now=NOW + minute * MINUTE)
            assert outcome.not_told.keys() >= {"team", "chat"} or minute == 10
            said += repr(outcome)
        log.fold()
    for command in (["ls"], ["ls", "--json"], ["check"], ["test"], ["test", "--sink", "team"]):
        ran = run("alerts", *command)
        said += ran.out + ran.err
    monkeypatch.setenv("TEAM_URL", f"ftp://{PATH}")
    monkeypatch.setenv("TEAM_SECRET", "whsec_T0K3N!")
    said += repr(run("alerts", "test", "--sink", "team"))
    assert "it answered 307, a redirect, which is not followed" in said
    assert not [seen for seen in addressed.seen if seen.path.endswith("elsewhere")]
    held = [path for path in settings.warehouse.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in held)
    bytes_ = b"".join(path.read_bytes() for path in held if "journal.db" not in path.name)
    with EventLog.open(settings) as log:
        events = str(log.arrow("SELECT payload FROM events").to_pylist())
    for secret in ("T0K3N", SECRET, SECRET[6:], "K3Y"):
        assert secret.encode() not in bytes_
        assert secret not in said + caplog.text + events


@pytest.mark.parametrize(
    ("url", "allowed", "says"),
    [
        ("http://127.0.0.1:9/", {}, "of a private network: `allow_private: true` allows it"),
        ("https://10.1.2.3/", {}, "of a private network"),
        ("https://[::1]/", {}, "of a private network"),
        ("https://[::ffff:127.0.0.1]/", {}, "of a private network"),
        ("https://[64:ff9b::7f00:1]/", {}, "of a private network"),
        ("https://[2002:7f00:1::]/", {}, "of a private network"),
        ("https://100.64.0.1/", {}, "of a private network"),
        ("http://169.254.169.254/latest", {"allow_private": True}, "link-local"),
        ("http://0.0.0.0/", {"allow_private": True}, "link-local, multicast or none"),
        ("http://2130706433/", {}, "of a private network"),
        ("http://8.8.8.8/", {}, "the address is http://: take https://, or say `insecure: true`"),
        ("http://10.0.0.1/", {"allow_private": True}, "the address is http://"),
        ("https://user:pass@8.8.8.8/", {}, "a name and password"),
        ("file:///etc/passwd", {}, "the address is none"),
        ("https://no-such-name.invalid/", {}, "is not known"),
        ("https://8.8.8.8/a b", {}, "characters that none has"),
        ("https://8.8.8.8:99999/", {}, "cannot be read"),
    ],
)
def test_places_that_no_webhook_may_reach_are_refused(url: str, allowed: dict, says: str):
    sink = Slack(kind="slack", url_env="X", timeout_s=3, **allowed)
    with pytest.raises(NotDelivered, match=says) as refused:
        post.post(url, b"{}", sink, {})
    assert url not in str(refused.value)


def test_the_connection_goes_to_the_address_that_was_checked(
    server: Server, monkeypatch: pytest.MonkeyPatch
):
    port = int(server.url.rpartition(":")[2])
    answers = [["8.8.8.8", "127.0.0.1"], ["127.0.0.1"]]

    really = socket.getaddrinfo

    def looked_up(host: str, *more: Any, **named: Any) -> list[tuple]:
        if host != "hook.example":
            return really(host, *more, **named)
        return [(2, 1, 6, "", (address, port)) for address in answers.pop(0)]

    monkeypatch.setattr(post.socket, "getaddrinfo", looked_up)
    with pytest.raises(NotDelivered, match="private network"):
        post.post(f"https://hook.example:{port}/", b"{}", Slack(kind="slack", url_env="X"), {})
    local = Slack(kind="slack", url_env="X", allow_private=True)
    post.post(f"http://hook.example:{port}/there", b"{}", local, {})
    assert server.seen[0].headers["host"] == f"hook.example:{port}"
    assert answers == []


def test_an_answer_that_drips_is_cut_off():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                while not stop.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        sink = Slack(kind="slack", url_env="X", allow_private=True, timeout_s=0.3)
        with pytest.raises(NotDelivered, match=r"did not answer within 0.3 s"):
            post.post(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}", sink, {})
        stop.set()
        thread.join()


def test_a_long_answer_is_not_read(server: Server):
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 64 << 20:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    server.answer = lambda _: Say(endless())
    sink = Slack(kind="slack", url_env="X", allow_private=True)
    post.post(f"{server.url}/", b"{}", sink, {})
    assert sent < 32 << 20


def test_an_unencrypted_answer_to_https_is_told_as_such(server: Server):
    sink = Slack(kind="slack", url_env="X", allow_private=True, timeout_s=2)
    with pytest.raises(NotDelivered, match=r"the connection failed \(SSLError\)"):
        post.post(server.url.replace("http:", "https:"), b"{}", sink, {})


def test_a_file_goes_where_it_is_told_but_never_into_the_log(tmp_path: Path):
    sinks = """
sinks:
  file: {kind: file, path: ops/alerts.jsonl}
  other: {kind: file, path: ../log/alerts.jsonl}
"""
    settings = warehouse(tmp_path, sinks=sinks)
    with EventLog.open(settings) as log:
        fail(log, 3)
        (outcome,) = check(log, settings, now=NOW)
    assert outcome.told == ("file",)
    assert outcome.not_told == {"other": "the file lies in the log's folder: name another one"}
    path = settings.reports / "ops" / "alerts.jsonl"
    assert json.loads(path.read_text())["data"]["rule"] == "failures"
    assert path.stat().st_mode & 0o077 == 0

"""The page at `/`: what it says, in HTML and in a real browser."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.llm.serving import Server, say
from tests.server.browser import browsing
from tests.server.running import Running
from tracemill.events import LlmCallFinished, LlmCallStarted, new_id
from tracemill.messages import File, Message, Native, Usage

CHAT = "/v1/chat/completions"
PAGES = ("/", "/calls", "/costs", "/failures", "/jobs", "/keys", "/docs")
MARK = "<script>alert(1)</script> & <b>bold</b>"


def asked(server: Running, text: str = "Say hello.") -> str:
    """Makes a call; its id."""
    body = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": text}]}
    answer = httpx.post(server.url + CHAT, json=body, timeout=30)
    return answer.headers.get("x-tracemill-call-id", "")


@pytest.fixture
def filled(server: Running, upstream: Server) -> Running:
    """A server with two answers and a failure."""
    asked(server, MARK)
    asked(server)
    usual = upstream.answer
    upstream.answer = lambda _: say({"error": {"message": "the model is too busy <now>"}}, 400)
    asked(server, "fail")
    upstream.answer = usual
    return server


def test_every_page_of_an_empty_warehouse_says_what_to_do(server: Running) -> None:
    for path in PAGES:
        answer = httpx.get(server.url + path, timeout=30)
        assert answer.status_code == 200, path
        assert "<main" in answer.text


def test_what_models_and_people_write_is_shown_not_run(filled: Running) -> None:
    [call] = filled.log.sql("FROM calls WHERE prompt LIKE '%script%'").to_dicts()
    for path in ("/", "/calls", f"/calls/{call['call_id']}"):
        answer = httpx.get(filled.url + path, timeout=30)
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_a_call_shows_files_and_what_only_its_provider_has(server: Running) -> None:
    ids: Any = {"call_id": new_id(), "provider": "anthropic", "request_model": "claude-sonnet-5-5"}
    report = File(uri=f"data:application/pdf;sha256={'0' * 64}", name="<report>.pdf")
    search = Native(body={"type": "server_tool_use", "input": {"query": "<b>sky"}})
    server.log.append(
        [
            LlmCallStarted(messages=(Message(role="user", content=(report,)),), **ids),
            LlmCallFinished(
                response_model="claude-sonnet-5-5",
                content=(search, Native(body={"no": "type"}, provider="anthropic")),
                finish_reasons=("pause",),
                usage=Usage(),
                latency_ms=1,
                **ids,
            ),
        ]
    )
    text = httpx.get(f"{server.url}/calls/{ids['call_id']}", timeout=30).text
    assert "[&lt;report&gt;.pdf]" in text
    assert "(server_tool_use) {" in text
    assert "&lt;b&gt;sky" in text
    assert "(anthropic) {" in text


def test_calls_are_filtered(filled: Running) -> None:
    def shown(query: str) -> int:
        return len(re.findall(r'href="/calls/', httpx.get(filled.url + "/calls?" + query).text))

    assert shown("") == 3
    assert shown("status=failed") == 1
    assert shown("model=gpt-5.4-mini&status=finished") == 2
    assert shown("model=other") == 0
    wrong = httpx.get(filled.url + "/calls?since=yesterdayish")
    assert (wrong.status_code, "yesterdayish" in wrong.text) == (400, True)


def test_a_failure_shows_why_and_what_is_like_it(filled: Running) -> None:
    [call] = filled.log.sql("FROM calls WHERE status = 'failed'").to_dicts()
    text = httpx.get(f"{filled.url}/calls/{call['call_id']}").text
    assert "the model is too busy &lt;now&gt;" in text
    assert httpx.get(f"{filled.url}/failures?like=busy").text.count("too busy") >= 2
    assert httpx.get(f"{filled.url}/calls/nothing").status_code == 404


def test_with_keys_the_page_needs_one_that_may_see_it(filled: Running) -> None:
    keys = filled.gateway.keys
    seeing, secret = keys.create("me", routes=["page"])
    _, other = keys.create("other", routes=["chat"])
    with httpx.Client(base_url=filled.url, follow_redirects=True) as browser:
        assert "Sign in" in browser.get("/calls").text
        assert browser.get("/live").status_code == 401
        refused = browser.post("/login", data={"key": other.get_secret_value()})
        assert (refused.status_code, "no key" in refused.text) == (401, True)
        shown = browser.post("/login?to=/calls", data={"key": secret.get_secret_value()})
        assert (shown.url.path, "gpt-5.4-mini" in shown.text) == ("/calls", True)
        [cookie] = browser.cookies.jar
        assert secret.get_secret_value() not in str(cookie.value)
        assert browser.get("/login?to=//evil.example").text.count("evil") == 0
        text = browser.get("/keys").text
        assert seeing.key_id in text
        assert secret.get_secret_value().split("-", 2)[2] not in text
        keys.revoke(seeing.key_id)
        assert "Sign in" in browser.get("/calls").text


def test_in_a_browser_it_fits_is_readable_and_live(filled: Running, tmp_path: Path) -> None:
    [call] = filled.log.sql("FROM calls WHERE status = 'failed'").to_dicts()
    with browsing(tmp_path / "profile") as page:
        for width in (390, 1280):
            page.look(width=width, dark=width == 390)
            for path in (*PAGES, f"/calls/{call['call_id']}"):
                page.go(filled.url + path)
                # Tables may be scrolled, the page may not.
                assert page.ask("document.documentElement.scrollWidth") <= width, path
                assert _contrast(page.ask(_COLOURS)) >= 4.5, (path, width)
        page.go(filled.url + "/")
        page.until("document.getElementById('tail-state').textContent === 'live'")
        call_id = asked(filled, "Say hello again.")
        page.until(f"document.querySelector('#tail a').href.endsWith('{call_id}')")
        page.press("Tab", 9)
        assert page.ask("document.activeElement.textContent") == "to the content"
        page.press("Enter", 13)
        page.until("location.hash === '#main'")


_COLOURS = (
    "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
)


def _contrast(colours: list[str]) -> float:
    """WCAG 2.2's contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)

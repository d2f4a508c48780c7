"""The pages: each asks the log one or two questions and fills a template."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, RedirectResponse
from starlette.responses import Response as HttpResponse
from starlette.routing import Route as Path

from tracemill.analysis.called import STATUSES, rows
from tracemill.analysis.opened import Opened
from tracemill.errors import TracemillError, UsageError
from tracemill.messages import Message
from tracemill.server.events import Events, event
from tracemill.server.gateway import Gateway
from tracemill.server.page.look import FOLDER, bars, page, when
from tracemill.server.page.session import Sessions
from tracemill.server.trouble import Trouble

_TAIL_S = 0.5
_ENDS = (
    *("llm.call.finished", "llm.call.failed", "llm.call.aborted"),
    *("llm.call.crashed", "llm.call.cached"),
)
_SHOWN = 100
_FILTERS = ("since", "model", "status", "user", "conversation", "prompt", "tag")

Fill = Callable[[HttpRequest], HttpResponse]


class Pages:
    """All pages over one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sessions = Sessions(gateway)
        self._opened = Opened(gateway.settings, gateway.log)

    def routes(self) -> list[Path]:
        """For the application."""
        shown: dict[str, Fill] = {
            "/": self.overview,
            "/calls": self.calls,
            "/calls/{call_id}": self.call,
            "/costs": self.costs,
            "/failures": self.failures,
            "/jobs": self.jobs,
            "/keys": self.keys,
        }
        return [
            *(Path(path, self._shown(fill)) for path, fill in shown.items()),
            Path("/live", self.live),
            Path("/login", self.login, methods=["GET", "POST"]),
            Path("/logout", self.logout, methods=["POST"]),
            *(Path(f"/{name}", self._file(name)) for name in ("style.css", "live.js")),
        ]

    def _shown(self, fill: Fill) -> Callable[[HttpRequest], Awaitable[HttpResponse]]:
        """A page for who may see it; questions to the log are asked in a thread."""

        async def endpoint(http: HttpRequest) -> HttpResponse:
            try:
                if not self._sessions.may_see(http):
                    return RedirectResponse(f"/login?{urlencode({'to': http.url.path})}", 303)
                return await asyncio.to_thread(fill, http)
            except Trouble as error:
                return page("error.html", error.status, here="", message=error.message)
            except TracemillError as error:
                status = 400 if isinstance(error, UsageError) else 503
                return page("error.html", status, here="", message=str(error))

        return endpoint

    def _file(self, name: str) -> Callable[[HttpRequest], Awaitable[HttpResponse]]:
        async def endpoint(_: HttpRequest) -> HttpResponse:
            return FileResponse(FOLDER / name, headers={"cache-control": "max-age=300"})

        return endpoint

    def overview(self, http: HttpRequest) -> HttpResponse:
        """The last day and the last month at a glance."""
        day = self._opened.costs(by=("model",), since="1d").frame
        month = self._opened.costs(by=("day", "model"), since="30d").frame
        latest = self._opened.calls(since="30d", limit=20).frame
        return page(
            "overview.html",
            here="/",
            models=day.to_dicts(),
            calls=int(day["calls"].sum()),
            failed=int(day["failed"].sum()),
            usd=day["cost_usd"].sum(),
            chart=bars(month.to_dicts(), "Cost by day and model, the last 30 days"),
            latest=latest.to_dicts(),
        )

    def calls(self, http: HttpRequest) -> HttpResponse:
        """Calls by filters, the newest first."""
        asked = {name: http.query_params.get(name, "").strip() for name in _FILTERS}
        given = {name: value or None for name, value in asked.items()}
        since = given.pop("since") or "7d"
        table = self._opened.calls(since, limit=_SHOWN, **given)
        return page(
            "calls.html",
            here="/calls",
            asked=asked,
            statuses=STATUSES,
            latest=table.frame.to_dicts(),
            note=table.note,
        )

    def call(self, http: HttpRequest) -> HttpResponse:
        """One call with its messages and its events."""
        call_id = http.path_params["call_id"]
        found = rows(self._gateway.log, [call_id]).to_dicts()
        if not found:
            return page("error.html", 404, here="/calls", message=f"there is no call {call_id}")
        told = [one.event for one in self._gateway.log.read(stream=f"call:{call_id}")]
        begun = next((one for one in told if hasattr(one, "messages")), None)
        # Of a call that the cache answered, the answer is another call's.
        said = next((text for one in told if (text := getattr(one, "content", ""))), "")
        said = said or found[0]["answer"] or ""
        similar = []
        if found[0]["status"] in {"failed", "crashed", "aborted"}:
            similar = self._opened.failures.similar(call_id, n=5).frame.to_dicts()
        return page(
            "call.html",
            here="/calls",
            call=found[0],
            messages=list(getattr(begun, "messages", ())),
            answer=Message(role="assistant", content=said),
            system=getattr(begun, "system", None),
            tools=[tool.name for tool in getattr(begun, "tools", ())],
            events=[(when(one.occurred_at), getattr(one, "kind", "")) for one in told],
            similar=similar,
        )

    def costs(self, http: HttpRequest) -> HttpResponse:
        """Cost by day and model."""
        by = http.query_params.get("by", "model")
        days = self._opened.costs(by=("day", "model"), since="30d").frame.to_dicts()
        table = self._opened.costs(by=(by,), since="30d")
        return page(
            "costs.html",
            here="/costs",
            by=by,
            words=("model", "provider", "key", "user", "prompt", "operation", "status", "day"),
            rows=[{"name": row[by], **row} for row in table.frame.to_dicts()],
            note=table.note,
            chart=bars(days, "Cost by day and model, the last 30 days"),
        )

    def failures(self, http: HttpRequest) -> HttpResponse:
        """Failures by what they have in common, and those like a text."""
        like = http.query_params.get("like", "").strip()
        similar = self._opened.failures.similar(like, n=20).frame.to_dicts() if like else []
        clusters = self._opened.sql("FROM failure_clusters ORDER BY calls DESC LIMIT 50").to_dicts()
        return page(
            "failures.html", here="/failures", like=like, similar=similar, clusters=clusters
        )

    def jobs(self, http: HttpRequest) -> HttpResponse:
        """Jobs, batches and fine-tunes."""
        found = self._opened.sql("FROM jobs ORDER BY requested_at DESC LIMIT 100").to_dicts()
        return page("jobs.html", here="/jobs", jobs=found)

    def keys(self, http: HttpRequest) -> HttpResponse:
        """Keys and budgets."""
        return page(
            "keys.html",
            here="/keys",
            keys=self._gateway.keys.all(),
            budgets=self._gateway.budgets.all(),
        )

    async def live(self, http: HttpRequest) -> HttpResponse:
        """Calls as they end, as server-sent events."""
        if not self._sessions.may_see(http):
            return page("error.html", 401, here="", message="sign in first")
        return Events(self._tail(http))

    async def _tail(self, http: HttpRequest) -> AsyncGenerator[bytes]:
        log = self._gateway.log
        after = log.position()
        yield b": connected\n\n"
        while not await http.is_disconnected() and self._sessions.may_see(http):
            now = await asyncio.to_thread(log.position)
            if now > after:
                for one in await asyncio.to_thread(_ended, log, after, now):
                    yield event(one)
                after = now
            await asyncio.sleep(_TAIL_S)

    async def login(self, http: HttpRequest) -> HttpResponse:
        """Show a key, once."""
        to = http.query_params.get("to", "/")
        # Only to a page of ours: `//other.example` would be another's.
        to = to if to.startswith("/") and not to.startswith(("//", "/\\")) else "/"
        if http.method == "GET":
            return page("login.html", here="", to=to, wrong=False)
        async with http.form(max_files=0, max_fields=2, max_part_size=1_000) as form:
            secret = str(form.get("key", ""))
        response = RedirectResponse(to, 303)
        if not self._sessions.begin(secret, response, https=http.url.scheme == "https"):
            return page("login.html", 401, here="", to=to, wrong=True)
        return response

    async def logout(self, http: HttpRequest) -> HttpResponse:
        """Forget."""
        response = RedirectResponse("/login", 303)
        self._sessions.end(http, response)
        return response


def _ended(log: Any, after: int, until: int) -> list[dict[str, Any]]:
    """Calls that ended between two positions, as the tail shows them."""
    shown: list[dict[str, Any]] = []
    for recorded in log.read(after, kinds=_ENDS, until=until):
        one = recorded.event
        usage = getattr(one, "usage", None)
        cost = getattr(one, "cost_usd", None)
        shown.append(
            {
                "call_id": one.call_id,
                "ended_at": when(one.occurred_at),
                "status": one.kind.removeprefix("llm.call."),
                "model": f"{one.provider}/{one.request_model}",
                "tokens": usage.input_tokens + usage.output_tokens if usage else None,
                "usd": None if cost is None else f"{cost:f}",
                "latency_ms": getattr(one, "latency_ms", None),
            }
        )
    return shown[-_SHOWN:]

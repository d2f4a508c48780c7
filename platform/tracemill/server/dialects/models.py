"""The models that can be asked for, in three shapes: OpenAI's, Anthropic's, Gemini's.

They are the names of your own, the models that run here, those that were trained here, and the
priced ones of every provider whose key is set.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from tracemill.finetune import registry
from tracemill.llm import keys
from tracemill.llm.providers import PROVIDERS, local
from tracemill.llm.trained import PREFIX
from tracemill.messages import Json
from tracemill.prices.table import SAME_AS
from tracemill.retrieval import embed
from tracemill.server.dialects.anthropic import ANTHROPIC
from tracemill.server.dialects.gemini import GEMINI
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Dialect, Route
from tracemill.server.trouble import invalid, missing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_METHODS = ("generateContent", "streamGenerateContent", "countTokens")


class Offered(NamedTuple):
    """A model, by the name that it is asked for."""

    name: str
    model: str
    """Provider and model."""
    owner: str
    since: datetime = _EPOCH
    """1970 where it is not known."""


async def listed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """The models, in the shape of whoever asks."""
    return await _answered(gateway, asked, None)


async def one(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A model, in the shape of whoever asks."""
    return await _answered(gateway, asked, asked.path["model"])


async def _answered(gateway: Gateway, asked: Incoming, name: str | None) -> HttpResponse:
    dialect = _dialect(asked.http)
    found = await asyncio.to_thread(lambda: list(offered(gateway, asked)))
    body = _page(found, asked, dialect) if name is None else _told(_find(found, name), dialect)
    return answer(body, headers={dialect.request_id: asked.request_id})


def _dialect(http: HttpRequest) -> Dialect:
    """Whose client asks: the path is the same for all."""
    if "anthropic-version" in http.headers:
        return ANTHROPIC
    google = "x-goog-api-key" in http.headers or "x-goog-api-client" in http.headers
    if google or http.url.path.startswith("/v1beta/"):
        return GEMINI
    return OPENAI


def offered(gateway: Gateway, asked: Incoming) -> Iterator[Offered]:
    """The models that the key may use."""
    key = asked.key
    for each in _all(gateway):
        if key is None or key.may(model=each.model) or key.may(model=each.name):
            yield each


def _all(gateway: Gateway) -> Iterator[Offered]:
    own = gateway.names.all()
    for name, target in own.items():
        yield Offered(name, target.model, "gateway")
    for name in sorted(local.MODELS):
        yield Offered(f"local/{name}", f"local/{name}", "local")
    yield Offered(embed.MODEL, embed.MODEL, "local")
    yield from _trained(gateway)
    for each in _priced(gateway):
        if each.name not in own:
            yield each


def _trained(gateway: Gateway) -> Iterator[Offered]:
    for name, model in registry.models(gateway.log).items():
        for version in model.versions.values():
            if version.state != "retired":
                since = version.registered_at
                yield Offered(version.model, version.model, version.provider, since)
        production = model.versions.get(model.production or "")
        if production is not None and production.model.startswith(PREFIX):
            short = f"{PREFIX}{name}"
            yield Offered(short, short, production.provider, production.changed_at)


def _priced(gateway: Gateway) -> Iterator[Offered]:
    seen: set[str] = set()
    for prefix, provider in PROVIDERS.items():
        if provider.name in seen or prefix == "local" or keys.of(f"{prefix}/") is None:
            continue
        seen.add(provider.name)
        for known in gateway.log.prices.known(SAME_AS.get(provider.name, provider.name)):
            whole = f"{prefix}/{known.model.id}"
            # By its plain name, where that alone tells whose it is.
            plain = gateway.names.target(known.model.id, "").model == whole
            if known.own:
                yield Offered(known.model.id if plain else whole, whole, provider.name)


def _find(found: Sequence[Offered], name: str) -> Offered:
    for each in found:
        if name in {each.name, each.model}:
            return each
    raise missing(f"model: there is no {name[:200]}")


def _told(each: Offered, dialect: Dialect) -> Json:
    match dialect.name:
        case "anthropic":
            return {
                "type": "model",
                "id": each.name,
                "display_name": each.name,
                "created_at": each.since.isoformat().replace("+00:00", "Z"),
                "lifecycle": "active",
            }
        case "gemini":
            return {
                "name": f"models/{each.name}",
                "displayName": each.name,
                "version": "1",
                "supportedGenerationMethods": _METHODS,
            }
        case _:
            return {
                "id": each.name,
                "object": "model",
                "created": int(each.since.timestamp()),
                "owned_by": each.owner,
            }


def _page(found: list[Offered], asked: Incoming, dialect: Dialect) -> Json:
    """The list; two of the three ask for it page by page."""
    match dialect.name:
        case "anthropic":
            return _by_id(found, asked)
        case "gemini":
            start = _number(asked, "pageToken", 0, least=0)
            end = start + min(_number(asked, "pageSize", 50), 1000)
            more = {"nextPageToken": str(end)} if end < len(found) else {}
            return {"models": [_told(each, dialect) for each in found[start:end]], **more}
        case _:
            return {"object": "list", "data": [_told(each, dialect) for each in found]}


def _by_id(found: list[Offered], asked: Incoming) -> Json:
    size = min(_number(asked, "limit", 20), 1000)
    names = [each.name for each in found]
    before = asked.query.get("before_id")
    if before in names:
        rest = found[: names.index(before)]
        page, more = rest[-size:], len(rest) > size
    else:
        after = asked.query.get("after_id")
        rest = found[names.index(after) + 1 :] if after in names else found
        page, more = rest[:size], len(rest) > size
    return {
        "data": [_told(each, ANTHROPIC) for each in page],
        "has_more": more,
        "first_id": page[0].name if page else None,
        "last_id": page[-1].name if page else None,
    }


def _number(asked: Incoming, name: str, usual: int, *, least: int = 1) -> int:
    given = asked.query.get(name) or str(usual)
    if not given.isdecimal() or len(given) > 9 or int(given) < least:
        raise invalid(f"{name}: it is a number from {least} on, not {given[:40]!r}", name)
    return int(given)


_LISTED, _ONE = "The models that can be asked for.", "A model."
ROUTES = (
    Route("GET", "/v1/models", listed, OPENAI, "models", _LISTED, spoken=_dialect),
    Route("GET", "/v1/models/{model:path}", one, OPENAI, "models", _ONE, spoken=_dialect),
    Route("GET", "/v1beta/models", listed, GEMINI, "models", _LISTED, spoken=_dialect),
    Route("GET", "/v1beta/models/{model:path}", one, GEMINI, "models", _ONE, spoken=_dialect),
)

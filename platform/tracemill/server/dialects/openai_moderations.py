"""OpenAI's moderations, by rules that run here: no model is asked, and nothing is sent.

What is looked for: a few plain phrases of threats, of self-harm and of recipes for weapons and drugs;
and under names of our own, orders to a model, personal data, keys and passwords. A score is 1 where a
rule fits, else 0. Categories without a rule (`NOT_JUDGED`) are always false: that says nothing.
"""

import asyncio
import re
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill import pii
from tracemill.events import new_id
from tracemill.llm import injection
from tracemill.messages import Json
from tracemill.pii.rules import SECRETS
from tracemill.server.dialects.forms import Loose
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid

MODEL = "tracemill-rules"
CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit"),
    *("illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent", "sexual"),
    *("sexual/minors", "violence", "violence/graphic"),
)
"""OpenAI's."""
OWN = ("prompt_injection", "personal_data", "secrets")
_MOST = 32


class _Rule(NamedTuple):
    categories: tuple[str, ...]
    pattern: re.Pattern[str]
    """Matched against small letters with single spaces."""


_WHOM = r"(?:you|him|her|them|everyone|everybody|people|your (?:\w+ )?(?:family|kids|wife|husband))"
_SELF = r"(?:kill|hurt|harm|cut|hang|poison) myself|(?:end|take) my (?:own )?life|commit suicide"
_MEAN = r"(?:i|we)(?: am|'m| are|'re)? (?:will|'ll|going to|gonna|want to|wanna|plan to)"
_MAKE = r"(?:make|build|assemble|construct|cook|synthesi[sz]e|produce|manufacture)"
_RULES = (
    _Rule(
        ("harassment", "harassment/threatening", "violence"),
        re.compile(
            rf"\b{_MEAN} (?:kill|murder|stab|shoot|strangle|beat up|hurt|rape) {_WHOM}\b"
            r"|\byou(?:'re| are) (?:a )?dead(?: man| meat)?\b(?= ?[.!]|$)"
        ),
    ),
    _Rule(("self-harm", "self-harm/intent"), re.compile(rf"\b{_MEAN} (?:{_SELF})\b|\bi want to die\b")),
    _Rule(
        ("self-harm", "self-harm/instructions"),
        re.compile(rf"\b(?:how (?:can|do|could|should) i|how to|best way to) (?:{_SELF}|kill yourself)\b"),
    ),
    _Rule(
        ("illicit", "illicit/violent"),
        re.compile(
            rf"\b(?:how (?:can|do|could|would) (?:i|we|you)|how to|instructions (?:to|for|on)|teach me "
            rf"(?:how )?to|steps to) {_MAKE}(?: \w+){{0,3}}? "
            r"(?:bombs?|explosives?|grenades?|nerve agent|sarin|ricin|silencer|ghost gun)\b"
        ),
    ),
    _Rule(
        ("illicit",),
        re.compile(
            rf"\b(?:how (?:can|do|could|would) (?:i|we|you)|how to|instructions (?:to|for|on)|teach me "
            rf"(?:how )?to|steps to) (?:{_MAKE}|buy|sell)(?: \w+){{0,3}}? "
            r"(?:meth(?:amphetamine)?|crack|cocaine|heroin|fentanyl|stolen cards?|fake ids?)\b"
        ),
    ),
)  # fmt: skip
NOT_JUDGED = tuple(
    name for name in CATEGORIES if not any(name in rule.categories for rule in _RULES)
)


class Piece(Loose):
    type: str
    text: str | None = None


class Body(Loose):
    """Texts that are to be judged."""

    input: str | list[str] | list[Piece]
    model: Annotated[str, Field(max_length=200)] | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


async def moderate(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Whether texts hold what a rule knows."""
    body = await asked.read(BODY)
    texts = _texts(body.input)
    results = await asyncio.to_thread(lambda: [judged(text) for text in texts])
    return answer({"id": f"modr-{new_id()}", "model": MODEL, "results": results})


def _texts(given: str | list[str] | list[Piece]) -> list[str]:
    """Each text is judged by itself; the parts of one input together."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise invalid("input: there is nothing to judge", "input")
    if any(isinstance(each, Piece) and each.text is None for each in given):
        raise invalid("input: rules read text alone, no pictures: leave them out", "input")
    parts = [each.text or "" for each in given if isinstance(each, Piece)]
    texts = [each for each in given if isinstance(each, str)]
    if len(texts) > _MOST:
        raise invalid(f"input: it takes {_MOST} texts, not {len(texts)}: send fewer", "input")
    return texts or ["\n".join(parts)]


def judged(text: str) -> Json:
    """What the rules find in a text: a result as OpenAI writes it."""
    found = found_in(text)
    names = (*CATEGORIES, *OWN)
    return {
        "flagged": bool(found),
        "categories": {name: name in found for name in names},
        "category_scores": {name: float(name in found) for name in names},
        "category_applied_input_types": {
            name: [] if name in NOT_JUDGED else ["text"] for name in names
        },
    }


def found_in(text: str) -> set[str]:
    """The categories of which a rule fits."""
    plain = " ".join(text.lower().replace("\u2019", "'").split())
    found = {name for rule in _RULES if rule.pattern.search(plain) for name in rule.categories}
    if injection.signs(text):
        found.add("prompt_injection")
    kinds: set[Any] = {each.kind for each in pii.find(text)}
    if kinds & set(SECRETS):
        found.add("secrets")
    if kinds - set(SECRETS):
        found.add("personal_data")
    return found


ROUTES = (
    Route(
        "POST",
        "/v1/moderations",
        moderate,
        OPENAI,
        "moderations",
        "Whether texts hold what a rule knows; no model is asked.",
        BODY,
    ),
)

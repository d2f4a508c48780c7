"""The table of prices: which model a name means, and which of its prices holds at a moment.

`table.json` is frozen from genai-prices by `docs/price_table.py`; `local.toml` prices our own
models; a file of yours goes before both. Nothing is fetched.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from tracemill.errors import UsageError
from tracemill.prices.override import read
from tracemill.prices.rates import NO_MODEL, NO_PRICE, Rates, rates

STANDARD = "standard"
"""The service tier of a call that names none, or one that its model has no prices for."""

SAME_AS = {
    "azure.ai.inference": "azure.ai.openai",
    "gcp.vertex_ai": "gcp.gemini",
    "gcp.gen_ai": "gcp.gemini",
}
"""Providers by further names of theirs."""

_REMEMBERED = 10_000
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class Span(NamedTuple):
    """For which calls a price is."""

    service_tier: str
    since: datetime
    until: datetime
    """The first moment at which it no longer holds."""
    from_second: int
    """It holds between these seconds of each day, UTC: from 0 to 86,400 as a rule."""
    until_second: int


class Price(NamedTuple):
    """What a model costs in a span, from a length of prompt on."""

    span: Span
    above: int
    """It holds for prompts of more than so many tokens, cached ones included; -1 for all."""
    rates: Rates


class Model:
    """What the table knows of one model; its prices are made ready when first asked for."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.id: str = entry["id"]
        self.match: Mapping[str, Any] = entry["match"]
        self.entries: Sequence[Mapping[str, Any]] = entry["prices"]

    @cached_property
    def by_tier(self) -> dict[str, list[Price]]:
        """The prices of each service tier, longest prompts first."""
        tiers: dict[str, list[Price]] = {}
        for price in sorted(map(_price, self.entries), key=lambda price: -price.above):
            tiers.setdefault(price.span.service_tier, []).append(price)
        return tiers


class Known(NamedTuple):
    """A model, and who sells it."""

    provider: str
    model: Model
    own: bool
    """False where a provider resells it: then service tiers make no difference."""


class Table:
    """All prices. Threads may share it: at worst two of them work out the same."""

    def __init__(self, snapshot: str, providers: Mapping[str, Mapping[str, Any]]) -> None:
        self.snapshot = snapshot
        """Names the contents: two tables with the same name say the same."""
        self.providers = providers
        self._models: dict[str, list[Known]] = {}
        self._found: dict[tuple[str, str], Known | None] = {}

    def known(self, provider: str) -> list[Known]:
        """The models of a provider, then those that it resells, in the order of matching."""
        if provider not in self._models:
            entry = self.providers.get(provider, {"models": (), "fallback": ()})
            own = [Known(provider, Model(m), True) for m in entry["models"]]
            resold = [
                k._replace(own=False) for o in entry["fallback"] for k in self.known(o) if k.own
            ]
            self._models[provider] = own + resold
        return self._models[provider]

    def find(self, provider: str, name: str) -> Known | None:
        """The model that a provider means by a name."""
        key = provider, name
        if key not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[key] = self._look_up(SAME_AS.get(provider, provider), name.lower())
        return self._found[key]

    def _look_up(self, provider: str, name: str) -> Known | None:
        dashed = _COMPACT_DATE.sub(_dashed, name)
        for spelled in dict.fromkeys((name, dashed)):
            for known in self.known(provider):
                if matches(known.model.match, spelled):
                    return known
        return None

    def rates(
        self, provider: str, names: Sequence[str], tier: str | None, when: datetime, prompt: int
    ) -> Rates | str:
        """The rates of the first known of these names; in words why there are none.

        Args:
            tier: the service tier, if any.
            when: in UTC.
            prompt: how many tokens were read.
        """
        found = next((k for name in names if (k := self.find(provider, name))), None)
        if found is None:
            return NO_MODEL
        tiers = found.model.by_tier
        asked = tier.lower() if tier and found.own else STANDARD
        second = when.hour * 3600 + when.minute * 60 + when.second
        for span, above, ready in tiers.get(asked) or tiers.get(STANDARD, ()):
            if (
                span.since <= when < span.until
                and span.from_second <= second < span.until_second
                and prompt > above
            ):
                return ready
        return NO_PRICE + "input"


def matches(clause: Mapping[str, Any], name: str) -> bool:
    """Whether a name in lower case is what a clause describes; the clauses are genai-prices'."""
    ((how, what),) = clause.items()
    match how:
        case "equals":
            return name == what
        case "starts_with":
            return name.startswith(what)
        case "ends_with":
            return name.endswith(what)
        case "contains":
            return what in name
        case "regex":
            return re.search(what, name) is not None
        case "not_regex":
            return re.search(what, name) is None
        case "or":
            return any(matches(each, name) for each in what)
        case _:
            return all(matches(each, name) for each in what)


def load(path: Path | None = None) -> Table:
    """The prices that are shipped, behind those of a file: `path`, else `TRACEMILL_PRICES`.

    A file is read once in a process. Raises `UsageError` where it is not what it should be.
    """
    named = str(path or os.environ.get("TRACEMILL_PRICES", ""))
    return shipped() if named in ("", ".") else _with_file(named)  # "." is how Path says ""


@cache
def shipped() -> Table:
    """The frozen table and the local models."""
    folder = files("tracemill.prices")
    frozen = json.loads(folder.joinpath("table.json").read_text(encoding="utf-8"))
    ours = read(folder.joinpath("local.toml").read_text(encoding="utf-8"), "local.toml")
    return Table(frozen["snapshot"], _before(ours, frozen["providers"]))


@cache
def _with_file(path: str) -> Table:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the prices in {path}: {error}") from error
    base, digest = shipped(), hashlib.sha256(text.encode()).hexdigest()[:12]
    return Table(f"{base.snapshot}, file {digest}", _before(read(text, path), base.providers))


def _before(first: Mapping[str, list[Any]], then: Mapping[str, Any]) -> dict[str, Any]:
    """Providers with the models of `first` before those of `then`."""
    merged = dict(then)
    for provider, models in first.items():
        known = then.get(provider, {"fallback": (), "models": ()})
        merged[provider] = {**known, "models": [*models, *known["models"]]}
    return merged


def span(entry: Mapping[str, Any]) -> Span:
    """When an entry of the table holds."""
    start, end = entry.get("hours", (None, None))
    return Span(
        entry.get("tier", STANDARD),
        _midnight(entry["from"]) if "from" in entry else _FIRST,
        _midnight(entry["until"]) if "until" in entry else _LAST,
        _second(start) if start else 0,
        _second(end) if end else 86_400,
    )


def _price(entry: Mapping[str, Any]) -> Price:
    usd = {unit: Decimal(text) for unit, text in entry["usd"].items()}
    return Price(span(entry), entry.get("above", -1), rates(usd))


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _second(clock: str) -> int:
    hours, minutes, seconds = map(int, clock.split(":"))
    return hours * 3600 + minutes * 60 + seconds


def _dashed(found: re.Match[str]) -> str:
    year, month, day = found.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return found[0]
    return f"-{year}-{month}-{day}"

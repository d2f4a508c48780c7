"""How values look on the page: templates that escape everything, numbers with their units, bars."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import Response as HttpResponse

FOLDER = Path(__file__).parent
_SAFE = {
    # Nothing runs and nothing is fetched that is not ours, whatever a model wrote.
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
_HEIGHT, _WIDTH, _LEFT, _FOOT = 160.0, 720.0, 56.0, 44.0
_WIDEST = 48.0
_COLOURS = 8


def page(template: str, status: int = 200, **values: Any) -> HttpResponse:
    """An HTML page."""
    text = _templates().get_template(template).render(**values)
    return HttpResponse(text, status, headers=dict(_SAFE), media_type="text/html")


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = made.filters  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    filters |= {"usd": usd, "ms": ms, "when": when, "number": number}
    return made


def usd(value: Decimal | float | None) -> str:
    """Dollars; small ones with as many digits as tell something."""
    if value is None:
        return "unknown"
    return f"${value:,.2f}" if value == 0 or abs(value) >= 1 else f"${value:.4g}"


def ms(value: float | None) -> str:
    """A duration."""
    if value is None:
        return ""
    return f"{value / 1000:,.1f} s" if value >= 1000 else f"{value:,.0f} ms"


def number(value: float | None) -> str:
    """With commas."""
    return "" if value is None else f"{value:,.0f}"


def when(value: datetime | None) -> str:
    """A time, in UTC."""
    if value is None:
        return ""
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def bars(rows: Sequence[Mapping[str, Any]], title: str) -> Markup:
    """Stacked bars by day as SVG: cost, by model. The figures are in the table beside it.

    Args:
        rows: each with `day`, `model` and `cost_usd`.
    """
    days = sorted({row["day"] for row in rows})
    sums = {day: sum(float(row["cost_usd"]) for row in rows if row["day"] == day) for day in days}
    highest = max(sums.values(), default=0.0)
    if not highest:
        return Markup()
    models = sorted({row["model"] for row in rows})
    step = min((_WIDTH - _LEFT) / len(days), _WIDEST)
    drawn: list[Markup] = []
    for place, day in enumerate(days):
        top = _HEIGHT
        for row in sorted((row for row in rows if row["day"] == day), key=lambda r: r["model"]):
            height = float(row["cost_usd"]) / highest * (_HEIGHT - 16)
            top -= height
            drawn.append(
                Markup(
                    '<rect class="bar b{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                    "<title>{}: {} {}</title></rect>"
                ).format(
                    models.index(row["model"]) % _COLOURS,
                    _LEFT + place * step + step * 0.1,
                    top,
                    step * 0.8,
                    height,
                    day,
                    row["model"],
                    usd(row["cost_usd"]),
                )
            )
    shown = days[:: max(1, -(-len(days) // 8))]
    for day in shown:
        at = _LEFT + (days.index(day) + 0.5) * step
        label = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>')
        drawn.append(label.format(at, _HEIGHT + 16, f"{day:%d %b}"))
    for place, model in enumerate(models[:_COLOURS]):
        at = _LEFT + place * (_WIDTH - _LEFT) / min(len(models), _COLOURS)
        drawn.append(
            Markup(
                '<rect class="bar b{}" x="{:.1f}" y="{:.1f}" width="9" height="9"></rect>'
                '<text x="{:.1f}" y="{:.1f}">{}</text>'
            ).format(place, at, _HEIGHT + 27, at + 13, _HEIGHT + 35, str(model)[:24])
        )
    scale = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>')
    drawn.append(scale.format(_LEFT - 6, 20, usd(highest)))
    drawn.append(scale.format(_LEFT - 6, _HEIGHT, "$0"))
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT + _FOOT, title, Markup("").join(drawn)
    )

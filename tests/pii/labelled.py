"""The labelled texts: what in them is personal or secret, what only looks it, both marked in place.

`<<email|a@b.example>>` is an item, `<<no|1.2.3.4>>` a hard negative. `{openai}` and the like are
drawn when the set is read, so that no file holds anything that looks like a key.
"""

import base64
import json
import random
import re
import string
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

LABELLED = Path(__file__).with_name("labelled.jsonl")
ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
URLSAFE = ALNUM + "_-"
HEX = "0123456789abcdef"
_MARK = re.compile(r"<<(?P<kind>[a-z_]+)\|(?P<value>.*?)>>", re.DOTALL)
_DRAWN = re.compile(r"\{([a-z0-9_]+)\}")


class Span(NamedTuple):
    """A marked place."""

    kind: str
    """A kind, or `no`."""
    start: int
    end: int


class Labelled(NamedTuple):
    """A text and what is in it."""

    half: str
    """`tuned`, which was looked at while the rules were made, or `held_out`."""
    form: str
    """A language, or log or code."""
    text: str
    spans: tuple[Span, ...]


@cache
def labelled(path: Path = LABELLED) -> tuple[Labelled, ...]:
    """Every text of the set; the same keys are drawn each time."""
    return tuple(_rows(path))


def _rows(path: Path) -> Iterator[Labelled]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        yield Labelled(row["half"], row["form"], *_read(row["text"], random.Random(number)))


def _read(marked: str, draw: random.Random) -> tuple[str, tuple[Span, ...]]:
    text, spans, done = "", [], 0
    for match in _MARK.finditer(marked):
        text += marked[done : match.start()]
        value = match["value"]
        if match["kind"] != "no":
            value = _DRAWN.sub(lambda name: DRAWN[name[1]](draw), value)
        spans.append(Span(match["kind"], len(text), len(text) + len(value)))
        text, done = text + value, match.end()
    return text + marked[done:], tuple(spans)


def _some(alphabet: str, number: int) -> Callable[[random.Random], str]:
    """So many characters, a letter and a digit first where the alphabet has both."""
    letters = [char for char in alphabet if char.isalpha()]
    digits = [char for char in alphabet if char.isdigit()] or letters

    def drawn(draw: random.Random) -> str:
        first = draw.choice(letters) + draw.choice(digits)
        return first + "".join(draw.choices(alphabet, k=number - 2))

    return drawn


def _joined(*parts: str | Callable[[random.Random], str]) -> Callable[[random.Random], str]:
    return lambda draw: "".join(part if isinstance(part, str) else part(draw) for part in parts)


def _pem(name: str, *, newline: str = "\n", indent: str = "") -> Callable[[random.Random], str]:
    def drawn(draw: random.Random) -> str:
        lines = ["".join(draw.choices(ALNUM + "+/", k=64)) for _ in range(4)]
        begin, end = (f"-----{word} {name}-----" for word in ("BEGIN", "END"))
        return f"{newline}{indent}".join([begin, *lines, end])

    return drawn


def _jwt(draw: random.Random) -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head = part({"alg": "HS256", "typ": "JWT"})
    return f"{head}.{part({'sub': draw.randrange(10**9)})}.{_some(URLSAFE, 43)(draw)}"


def _digits(number: int) -> Callable[[random.Random], str]:
    return lambda draw: "".join(draw.choices("123456789", k=number))


DRAWN: dict[str, Callable[[random.Random], str]] = {
    "openai": _joined("sk-", _some(ALNUM, 48)),
    "openai_proj": _joined("sk-proj-", _some(URLSAFE, 120), "A"),
    "anthropic": _joined("sk-ant-api03-", _some(URLSAFE, 93), "AA"),
    "aws_id": _joined("AK", "IA", _some(string.ascii_uppercase + "234567", 16)),
    "aws_secret": _joined(_some(ALNUM + "/+", 39), "x"),
    "github": _joined("gh", "p_", _some(ALNUM, 36)),
    "github_pat": _joined("github", "_pat_", _some(ALNUM, 22), "_", _some(ALNUM, 59)),
    "gitlab": _joined("gl", "pat-", _some(URLSAFE, 19), "A"),
    "slack_bot": _joined("xo", "xb-", _digits(12), "-", _digits(12), "-", _some(ALNUM, 24)),
    "slack_hook": _joined(
        "hooks.slack",
        ".com/services/T",
        _some(UPPER, 8),
        "/B",
        _some(UPPER, 8),
        "/",
        _some(ALNUM, 24),
    ),
    "stripe": _joined("sk_", "live_", _some(ALNUM, 24)),
    "stripe_hook": _joined("wh", "sec_", _some(ALNUM, 32)),
    "twilio": _joined("SK", _some(HEX, 32)),
    "sendgrid": _joined("SG", ".", _some(URLSAFE, 22), ".", _some(URLSAFE, 42), "A"),
    "npm": _joined("np", "m_", _some(ALNUM, 36)),
    "pypi": _joined("py", "pi-AgEIcHlwaS5vcmc", _some(URLSAFE, 150), "A"),
    "telegram": _joined(_digits(10), ":A", "A", _some(URLSAFE, 32), "B"),
    "discord": _joined("M", _some(ALNUM, 23), ".", _some(URLSAFE, 6), ".", _some(URLSAFE, 37), "A"),
    "discord_hook": _joined(
        "discord.com/api/", "webhooks/", _digits(18), "/", _some(URLSAFE, 67), "A"
    ),
    "azure": _joined(_some(ALNUM + "+/", 86), "=="),
    "azure_bus": _joined(_some(ALNUM + "+/", 43), "="),
    "google": _joined("AI", "za", _some(URLSAFE, 34), "A"),
    "google_oauth": _joined("GOC", "SPX-", _some(URLSAFE, 27), "A"),
    "hf": _joined("h", "f_", _some(string.ascii_letters, 34)),
    "groq": _joined("gs", "k_", _some(ALNUM, 52)),
    "xai": _joined("xa", "i-", _some(ALNUM, 80)),
    "cohere": _some(ALNUM, 40),
    "digitalocean": _joined("dop", "_v1_", _some(HEX, 64)),
    "databricks": _joined("da", "pi", _some(HEX, 32)),
    "mailgun": _joined("key", "-", _some(HEX, 32)),
    "mailchimp": _joined(_some(HEX, 32), "-us", "12"),
    "shopify": _joined("shp", "at_", _some(HEX, 32)),
    "square": _joined("sq0", "atp-", _some(URLSAFE, 21), "A"),
    "linear": _joined("lin", "_api_", _some(ALNUM, 40)),
    "notion": _joined("nt", "n_", _digits(11), _some(ALNUM, 35)),
    "newrelic": _joined("NR", "AK-", _some(UPPER, 27)),
    "grafana": _joined("gl", "sa_", _some(ALNUM, 32), "_", _some(HEX, 8)),
    "vault": _joined("hv", "s.", _some(URLSAFE, 94), "A"),
    "terraform": _joined(_some(ALNUM, 14), ".atlas", "v1.", _some(URLSAFE, 66), "A"),
    "doppler": _joined("dp", ".pt.", _some(ALNUM, 43)),
    "postman": _joined("PM", "AK-", _some(HEX, 24), "-", _some(HEX, 34)),
    "planetscale": _joined("pscale", "_pw_", _some(URLSAFE, 42), "A"),
    "age": _joined("AGE-SECRET", "-KEY-1", _some("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    "docker": _joined("dckr", "_pat_", _some(URLSAFE, 26), "A"),
    "sentry": _joined("sntr", "yu_", _some(HEX, 64)),
    "airtable": _joined("pat", _some(ALNUM, 14), ".", _some(HEX, 64)),
    "figma": _joined("fig", "d_", _some(URLSAFE, 39), "A"),
    "supabase": _joined("sb", "p_", _some(HEX, 40)),
    "perplexity": _joined("pp", "lx-", _some(ALNUM, 48)),
    "replicate": _joined("r", "8_", _some(ALNUM, 37)),
    "django": _joined(_some(ALNUM + "#%^*()-_=+", 49), "x"),
    "opaque": _some(ALNUM, 36),
    "hex32": _some(HEX, 32),
    "hex40": _some(HEX, 40),
    "hex64": _some(HEX, 64),
    "jwt": _jwt,
    "pem": _pem("RSA PRIVATE KEY"),
    "pem_json": _pem("PRIVATE KEY", newline="\\n"),
    "pem_indented": _pem("EC PRIVATE KEY", indent="  "),
    "openssh": _pem("OPENSSH PRIVATE KEY"),
    "pgp": _pem("PGP PRIVATE KEY BLOCK"),
}

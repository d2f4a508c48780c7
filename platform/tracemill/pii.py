"""Finds what identifies a person or opens a door: e-mail, phone, IBAN, card, IP, keys, passwords.

One table of rules: a cheap needle, a pattern of bounded reach, a check of the sums that such
numbers carry. Every pattern takes linear time, and what was redacted once stays as it is.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any, NamedTuple, cast

KINDS = ("email", "phone", "iban", "card", "ip", "api_key", "token", "private_key", "password")
"""What can be found; the placeholder of each is its name in square brackets."""


class Found(NamedTuple):
    """A place in a text."""

    kind: str
    """One of `KINDS`."""
    start: int
    end: int
    """Behind the last character."""


class Redacted(NamedTuple):
    """A text without what was found in it."""

    text: str
    counts: Mapping[str, int]
    """How often each kind was found."""


class RedactedValue(NamedTuple):
    """A JSON value without what was found in it."""

    value: Any
    counts: Mapping[str, int]
    """How often each kind was found."""


class Rule(NamedTuple):
    """How one kind is recognised."""

    kind: str
    needles: tuple[str, ...]
    """The rule is tried only where one of these is in the text, in lower case; none: digits are."""
    pattern: re.Pattern[str]
    """The group `it`, or the whole match where there is none, is what is found."""
    holds: Callable[[str], bool] = lambda _: True
    """Whether what the pattern caught is what it looks like."""


def find(text: str) -> tuple[Found, ...]:
    """Everything found in a text, in order; places that overlap are one."""
    lower = text.lower()
    digits = any(map(text.__contains__, "0123456789")) and _MANY_DIGITS.search(text) is not None
    marks = {mark for mark in _MARKS if mark in lower}
    found = [
        place
        for order, (rule, needed) in enumerate(_GATED)
        if needed <= marks
        and (any(needle in lower for needle in rule.needles) if rule.needles else digits)
        for place in _places(rule, order, text)
    ]
    return _disjoint(found)


def redact(text: str) -> Redacted:
    """The text with a placeholder such as `[email]` for everything that `find` finds.

    Redacting again changes nothing.
    """
    found = find(text)
    if not found:
        return Redacted(text, {})
    pieces: list[str] = []
    done = 0
    for kind, start, end in found:
        pieces += [text[done:start], f"[{kind}]"]
        done = end
    return Redacted("".join([*pieces, text[done:]]), Counter(kind for kind, _, _ in found))


def redact_value(value: Any) -> RedactedValue:
    """`redact` for every text inside a JSON value, names included; a number that is a card's or
    an account's becomes the placeholder."""
    counts: Counter[str] = Counter()
    return RedactedValue(_redacted(value, counts), dict(counts))


def _redacted(value: Any, counts: Counter[str]) -> Any:
    match value:
        case str():
            text, more = redact(value)
            counts.update(more)
            return text
        case dict():
            members = cast("dict[str, Any]", value).items()
            return {_redacted(name, counts): _redacted(item, counts) for name, item in members}
        case list() | tuple():
            return [_redacted(item, counts) for item in cast("list[Any]", value)]
        case int() if abs(value) >= 10**11:
            text, more = redact(str(value))
            counts.update(more)
            return text if more else value
        case _:
            return value


def _places(rule: Rule, order: int, text: str) -> list[tuple[int, int, int]]:
    places: list[tuple[int, int, int]] = []
    group = "it" if "it" in rule.pattern.groupindex else 0
    at = 0
    while match := rule.pattern.search(text, at):
        start, end = match.span(group)
        if rule.holds(text[start:end]):
            places.append((start, end, order))
            at = max(end, at + 1)
        else:
            # A number that is none may hide one that begins inside it.
            at = match.start() + 1
    return places


def _disjoint(places: list[tuple[int, int, int]]) -> tuple[Found, ...]:
    """Places in order, overlapping ones joined under the rule that stands first in the table."""
    joined: list[tuple[int, int, int]] = []
    for start, end, order in sorted(places):
        if joined and start < joined[-1][1]:
            first, reach, before = joined.pop()
            joined.append((first, max(reach, end), min(before, order)))
        else:
            joined.append((start, end, order))
    return tuple(Found(RULES[order].kind, start, end) for start, end, order in joined)


# Checks


def _luhn(text: str) -> bool:
    """ISO/IEC 7812-1: every second digit from the right is doubled; the sum ends in 0."""
    digits = [int(char) for char in reversed(text) if char.isdigit()]
    return (
        sum(d if at % 2 == 0 else sum(divmod(2 * d, 10)) for at, d in enumerate(digits)) % 10 == 0
    )


def _iban(text: str) -> bool:
    """ISO 7064: with the first four characters last and letters as numbers, 1 modulo 97."""
    code = text.replace(" ", "").replace("-", "")
    return int("".join(str(int(char, 36)) for char in code[4:] + code[:4])) % 97 == 1


def _phone(text: str) -> bool:
    """E.164 allows 15 digits; fewer than 8 are seldom a person's."""
    return 8 <= sum(char.isdigit() for char in text) <= 15


def _ipv4(text: str) -> bool:
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or text.startswith("255."))


def _ipv6(text: str) -> bool:
    # `a::b` is a name in several languages; an address has a group of three digits or more.
    if not re.search(r"[0-9A-Fa-f]{3}", text) or not re.search(r"\d", text):
        return False
    try:
        return not IPv6Address(text).is_loopback
    except AddressValueError:
        return False


def _random(text: str) -> bool:
    """Whether a value looks drawn rather than written: letters and digits, and not one word."""
    return bool(re.search(r"\d", text) and re.search(r"[A-Za-z]", text))


# Patterns

# A number beside another one is not looked at; it must not come into view once that one is gone.
_APART = "".join(rf"(?<!\[{kind}\])" for kind in KINDS)
_END = rf"(?!\[(?:{'|'.join(KINDS)})\])"
_KEY_START = rf"{_APART}(?<![A-Za-z0-9])"
_MANY_DIGITS = re.compile(r"\d(?:[^\w\n]{0,3}\d){5}|[0-9A-Fa-f]:{1,2}[0-9A-Fa-f]")
# Letters of European names and domains; wider, whole sentences without spaces would be caught.
_LETTER = r"A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_WORD = rf"[{_LETTER}](?:[{_LETTER}-]{{0,61}}[{_LETTER}])?"
_NAMED_KEY = r"api[_-]?key|access[_-]?key|secret|token|private[_-]?key|auth[_-]?key|credential"
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"

# ISO 13616: how long an IBAN is in each country.
_IBAN_LENGTHS = {
    15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
    21: "CH CR HR LI LV", 22: "BG BH DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SC SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB NI PL SV", 29: "BR EG PS QA UA",
    30: "JO KW MU YE", 31: "MT", 32: "LC", 33: "RU",
}  # fmt: skip
_IBAN = "|".join(
    rf"(?:{countries.replace(' ', '|')})\d\d(?:[ -]?[A-Z0-9]){{{length - 4}}}"
    for length, countries in _IBAN_LENGTHS.items()
)
# Visa, Mastercard, Maestro, Discover, JCB, UnionPay; American Express; Diners Club; old Visa.
_CARD = (
    r"(?:4\d|5\d|6\d|35|2[2-7])\d\d([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?"
    r"|3[47]\d\d([ -]?)\d{6}\2\d{5}|3[0689]\d\d([ -]?)\d{6}\3\d{4}|4\d{12}"
)
_SPACED = r"(?:[ .\-/\u00a0]?\d)"
_PHONE = "|".join(
    [
        rf"\+[1-9]\d{{0,2}}[ .\-/]?(?:\(\d{{1,5}}\)[ .\-/]?)?\d{_SPACED}{{5,13}}",
        rf"00[1-9]\d{{0,2}}[ .\-/](?:\(\d{{1,5}}\)[ .\-/]?)?\d{_SPACED}{{5,13}}",
        r"(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{4}",  # North America
        r"0[1-9](?:[ .-]\d\d){4}",  # France
        r"\(?0[1-9]\d{1,4}\)?[ /-]\d{3,8}(?:[ -]\d{2,5}){0,2}",  # Britain, Germany and others
        r"07\d{9}",  # British mobiles
    ]
)
_SAID_PHONE = r"tele(?:phone|fon)|tel|phone|mobile|handy|fax|whatsapp"


def _key(needles: str, shape: str) -> Rule:
    """A key with a beginning of its own."""
    return Rule("api_key", tuple(needles.split()), re.compile(f"{_KEY_START}(?:{shape})"))


RULES: tuple[Rule, ...] = (
    Rule(
        "private_key",
        ("private key",),
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:(?:[^-]|-(?!----))*-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"|(?:\s*(?:\\n)?[A-Za-z0-9+/=]{16,})*)"
        ),
    ),
    # OpenAI, Anthropic, DeepSeek, OpenRouter and many that imitate them; then Google, AWS, GitHub.
    _key("sk-", r"sk-[A-Za-z0-9_-]{16,}+"),
    _key("aiza", r"AIza[A-Za-z0-9_-]{30,}+"),
    _key("aq.", r"AQ\.[A-Za-z0-9_-]{30,}+"),
    _key("ya29.", r"ya29\.[A-Za-z0-9_-]{20,}+"),
    _key("akia asia", rf"(?:AKIA|ASIA)[A-Z0-9]{{16}}(?![A-Z0-9]){_END}"),
    _key("ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{30,}+"),
    _key("github_pat_", r"github_pat_[A-Za-z0-9_]{22,}+"),
    _key("glpat- gldt- glrt-", r"gl(?:pat|dt|rt)-[A-Za-z0-9_-]{20,}+"),
    _key("xox", r"xox[a-z]-[A-Za-z0-9-]{10,}+"),
    _key("xapp-", r"xapp-[A-Za-z0-9-]{20,}+"),
    _key("hooks.slack.com", r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}+"),
    _key("sk_ rk_ pk_", r"[srp]k_(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("whsec_", r"whsec_[A-Za-z0-9+/=]{20,}+"),
    _key(
        "hf_ gsk_ npm_ r8_ co_ tgp_v1_ dop_v1_",
        r"(?:hf|gsk|npm|r8|co|tgp_v1|dop_v1)_[A-Za-z0-9_-]{30,}+",
    ),
    _key("xai- pplx- nvapi- pypi-", r"(?:xai|pplx|nvapi|pypi)-[A-Za-z0-9_-]{30,}+"),
    _key("dapi", rf"dapi[a-f0-9]{{32}}(?![A-Za-z0-9]){_END}"),
    _key("sg.", r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}+"),
    Rule(
        "token",
        ("eyj",),
        re.compile(
            _KEY_START + r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)*+"
        ),
    ),
    Rule(
        "token",
        ("authorization",),
        re.compile(
            r"(?i:authorization)[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?i:bearer|basic|token)\s{1,3}"
            r"(?P<it>[A-Za-z0-9._~+/=-]{6,}+)"
        ),
    ),
    Rule(
        "token",
        ("bearer",),
        re.compile(r"\b(?i:bearer)\s{1,3}(?P<it>[A-Za-z0-9._~+/=-]{16,2000}+)"),
        _random,
    ),
    Rule(
        "api_key",
        ("key", "secret", "token", "credential"),
        re.compile(
            rf"(?i:{_NAMED_KEY})[A-Za-z_]{{0,20}}[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?"
            r"(?P<it>[A-Za-z0-9_./+~-]{16,400}+)"
        ),
        _random,
    ),
    Rule(
        "password",
        ("://",),
        re.compile(r"[a-zA-Z]://[^\s/:@\[\]]{0,64}:(?P<it>[^\s/@\[\]]{1,200})@"),
    ),
    Rule(
        "password",
        ("password", "passwd", "pwd"),
        re.compile(
            r"(?i:password|passwd|pwd)[\"']?\s{0,3}(?:[:=]|\bis\b)\s{0,3}[\"']?"
            r"(?P<it>[^\s\"',;\[\](){}<>]{6,128}+)"
        ),
        _random,
    ),
    Rule(
        "email",
        ("@",),
        re.compile(
            rf"{_APART}(?<![{_LETTER}])[{_LETTER}][{_LETTER}._%+'-]{{0,63}}@"
            rf"(?:{_WORD}\.){{1,8}}[A-Za-z\u0400-\u04ff]{{2,24}}"
        ),
    ),
    Rule(
        "iban",
        (),
        re.compile(
            rf"{_APART}(?<![A-Za-z0-9])(?=[A-Za-z]{{2}}\d\d)(?ai:{_IBAN})(?![A-Za-z0-9]){_END}"
        ),
        _iban,
    ),
    Rule(
        "card",
        (),
        re.compile(rf"{_APART}(?<![\w.+])(?:{_CARD})(?!\w|[.-]\d){_END}"),
        _luhn,
    ),
    Rule(
        "phone",
        (),
        re.compile(rf"{_APART}(?<![\w.+/=-])(?<!\d )(?:{_PHONE})(?!\w|[.-]\w){_END}"),
        _phone,
    ),
    Rule(
        "phone",
        (),
        re.compile(
            rf"\b(?i:{_SAID_PHONE})\b(?:\s?(?i:number|no|nr|is))?[ .:]{{1,3}}"
            rf"(?P<it>[(+]?\d(?:[ .\-/()]{{0,3}}\d){{6,14}})(?!\w|[.-]\w){_END}"
        ),
        _phone,
    ),
    Rule(
        "ip",
        (),
        re.compile(rf"{_APART}(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\w){_END}"),
        _ipv4,
    ),
    Rule(
        "ip",
        (),
        re.compile(
            rf"{_APART}(?<![\w:.])(?=[0-9A-Fa-f:]{{0,5}}:)[0-9A-Fa-f:.]{{2,44}}(?:[0-9A-Fa-f]|::)"
            rf"(?![\w]|:[\w:]){_END}"
        ),
        _ipv6,
    ),
)
"""Every rule; where places overlap, the rule that stands first gives the kind."""

_MARKS = "-_.@:"
# One character is found far sooner than a word: where it is missing, its rules need no look.
_GATED = tuple(
    (rule, frozenset(m for m in _MARKS if rule.needles and all(m in n for n in rule.needles)))
    for rule in RULES
)

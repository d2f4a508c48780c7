"""The table of everything that is looked for: one rule for each shape that has a name.

Patterns take linear time: each is tried only where a needle stands or a group of digits begins.
Prefixes of keys are those that their makers document.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tracemill.pii import checks
from tracemill.pii.shapes import CARD, IBAN, PHONE
from tracemill.pii.words import (
    KEY_NEEDLES,
    KEY_ROOTS,
    NAMED_KEY,
    PASSWORD_ROOTS,
    SAID_PASSWORD,
    SAID_PHONE,
)

KINDS = (
    *("email", "phone", "iban", "card", "ip", "national_id"),
    *("api_key", "token", "private_key", "password"),
)
"""What can be found; the placeholder of each is its name in square brackets."""
SECRETS = ("api_key", "token", "private_key", "password")
"""Those that open a door."""


class Rule(NamedTuple):
    """How one shape is recognised."""

    kind: str
    needles: tuple[str, ...]
    """Where a match begins, in small letters; none: it begins at a group of digits."""
    pattern: re.Pattern[str]
    """Must match from there; the group `it`, or all where there is none, is what is found."""
    holds: Callable[[str], bool] | None = None
    """Whether what the pattern caught is what it looks like."""
    hint: str = ""
    """In the syntax of Rust's regex: matches in every text that holds one. Kept to few states, so
    that all hints are one automaton. Empty: `NUMBER_HINT` does."""
    left: frozenset[str] = frozenset()
    """A match may begin as many of these before the needle as `reach` says."""
    reach: int = 0
    ahead: tuple[int, ...] = (0,)
    """How many characters before a group of digits a match may begin."""
    first: frozenset[str] = frozenset("0123456789")
    """What such a match may begin with."""
    needs: str = ""
    """A character that is in every such match."""
    lettered: bool = False
    """Those digits follow a letter."""
    roots: tuple[str, ...] = ()
    """One of these is part of every needle; the needles, unless fewer words say as much."""
    gate: re.Pattern[str] | None = None
    """Begins with one rare character, and is in every text that holds a match."""
    digits: bool = False
    """What is found is digits, though it begins at a needle."""
    group: int | str = 0


def _rule(
    kind: str,
    needles: str,
    shape: str,
    holds: Callable[[str], bool] | None = None,
    *,
    hint: str = "",
    left: str = "",
    first: str = "0123456789",
    **rest: Any,
) -> Rule:
    pattern = re.compile(shape)
    rest.setdefault("roots", tuple(needles.split()))
    rest["group"] = "it" if "it" in pattern.groupindex else 0
    split = tuple(needles.split())
    rest["first"] = frozenset(first)
    return Rule(kind, split, pattern, holds, hint, frozenset(left), **rest)


def _key(needles: str, shape: str, hint: str = "", **rest: Any) -> Rule:
    """A key that is told by its own shape, which is its hint where Rust can read it."""
    return _rule("api_key", needles, f"{_KEY_START}(?:{shape})", hint=hint or shape, **rest)


# A number beside another one is not looked at; it must not come into view once that one is gone.
_APART = "".join(["(?:(?<!\\])|", *(rf"(?<!\[{kind}\])" for kind in KINDS), ")"])
_END = rf"(?![.-]?\[(?:{'|'.join(KINDS)})\])"
_KEY_START = rf"(?<![A-Za-z0-9]){_APART}"
_ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
LETTERS, _CAPITALS = _ALNUM[:52], _ALNUM[26:52]
_HEX = "0123456789abcdefABCDEF"
# Letters of European names and domains; wider, whole sentences without spaces would be caught.
_LETTER = r"A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
_EUROPEAN = "".join(map(chr, [*range(0xC0, 0x250), *range(0x370, 0x400), *range(0x400, 0x500)]))
_WORD = rf"[{_LETTER}](?:[{_LETTER}-]{{0,61}}[{_LETTER}])?"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_BEFORE = rf"(?<![{_LETTER}_.+/=-])"
_AFTER = rf"(?![{_LETTER}_]|[.-][{_LETTER}_])"
GAP = r"[ .\-/()\u00a0]{0,3}"
"""Between two digits of one number."""
_IS = r"[\"'\\]{0,2}\s{0,3}(?::=|=>|[:=\uff1a])\s{0,3}[\"'`\\]{0,2}"
# Python's blanks are Rust's and four more.
_BLANK = r"[\s\x1c-\x1f]"
_IS_HINT = rf"[\"'\\]*{_BLANK}*[:=\uff1a]"

_SPACED = r"(?:[ .\-/\u00a0]?[0-9])"
_AREA = r"(?:\([0-9]{1,5}\)[ .\-/]?)?"
_SAID = rf"(?<![A-Za-z\u00c0-\u04ff])(?i:{'|'.join(sorted(SAID_PHONE, key=len, reverse=True))})(?![a-z]{{4}})"
_KEY_HINT = (
    rf"(?i:key|secret|token|credential)[A-Za-z_]*{_IS_HINT}[=>]?{_BLANK}*[\"'`\\]*"
    r"[^\s\"<>{}\[\]]{16}"
)
_PASSWORD = rf"(?i:{'|'.join(SAID_PASSWORD)})"
_PASSWORD_IS = rf"(?:{_IS}|[\"']\s{{1,3}}value\s{{0,3}}=\s{{0,3}}[\"']|\s{{1,3}}(?:is|ist|lautet|to|est|es|é|è)\s{{1,3}}[\"']?)"

RULES: tuple[Rule, ...] = (
    _rule(
        "private_key",
        "-----begin",
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:[^-]|-(?!----))*-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
        r"|(?:\s*(?:\\n)?[A-Za-z0-9+/=]{16,})*)",
        hint="PRIVATE KEY",
    ),
    # OpenAI, Anthropic, DeepSeek, OpenRouter and many that imitate them; then Google, AWS, GitHub.
    _key("sk-", r"sk-[A-Za-z0-9_-]{16,}+"),
    # Virtual keys of ours.
    _key("tm-", r"tm-[0-9a-f]{12}-[A-Za-z0-9_-]{20,}+"),
    _key("aiza", r"AIza[A-Za-z0-9_-]{30,}+"),
    _key("aq.", r"AQ\.[A-Za-z0-9_-]{30,}+"),
    _key("gocspx-", r"GOCSPX-[A-Za-z0-9_-]{20,}+"),
    _key("ya29.", r"ya29\.[A-Za-z0-9_-]{20,}+"),
    _key(
        "akia asia", rf"(?:AKIA|ASIA)[A-Z0-9]{{16}}(?![A-Z0-9]){_END}", "(?:AKIA|ASIA)[A-Z0-9]{16}"
    ),
    _key("ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{30,}+"),
    _key("github_pat_", r"github_pat_[A-Za-z0-9_]{22,}+"),
    _key("glpat- gldt- glrt-", r"gl(?:pat|dt|rt)-[A-Za-z0-9_-]{20,}+"),
    _key("xox", r"xox[a-z]-[A-Za-z0-9-]{10,}+"),
    _key("xapp-", r"xapp-[A-Za-z0-9-]{20,}+"),
    _key("hooks.slack.com", r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}+"),
    _key(
        "discord.com/api/webhooks/ discordapp.com/api/webhooks/",
        r"discord(?:app)?\.com/api/webhooks/[0-9]{15,20}/[\w-]{40,}+",
        r"discord(?:app)?\.com/api/webhooks/[0-9]",
    ),
    _key("sk_ rk_ pk_", r"[srp]k_(?:live|test)_[A-Za-z0-9]{16,}+"),
    _key("whsec_", r"whsec_[A-Za-z0-9+/=]{20,}+"),
    _key(
        "hf_ gsk_ npm_ r8_ co_ tgp_v1_ dop_v1_ doo_v1_ dor_v1_ ntn_ sbp_ figd_ lin_api_ glsa_ glc_",
        r"(?:hf|gsk|npm|r8|co|tgp_v1|do[por]_v1|ntn|sbp|figd|lin_api|glsa|glc)_"
        r"(?=[A-Za-z_-]*[A-Z0-9])[A-Za-z0-9_-]{30,}+",
        r"(?:hf|gsk|npm|r8|co|tgp_v1|do[por]_v1|ntn|sbp|figd|lin_api|glsa|glc)_[A-Za-z0-9_-]{30}",
    ),
    _key("dckr_pat_ pscale_", r"(?:dckr_pat|pscale_(?:pw|tkn|oauth))_[A-Za-z0-9_=.-]{20,}+"),
    _key("shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"),
    _key("sntrys_ sntryu_", r"sntry[su]_[A-Za-z0-9+/=_]{30,}+"),
    _key("sq0", r"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{20,}+"),
    _key("xai- pplx- nvapi- pypi-", r"(?:xai|pplx|nvapi|pypi)-[A-Za-z0-9_-]{30,}+"),
    _key("dapi", rf"dapi[a-f0-9]{{32}}(?![A-Za-z0-9]){_END}", "dapi[a-f0-9]{32}"),
    _key("sg.", r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}+", r"SG\.[A-Za-z0-9_-]{16}"),
    _key("sk", r"SK[0-9a-f]{32}(?![A-Za-z0-9])", "SK[0-9a-f]{32}"),
    _key("key-", r"key-[0-9a-f]{32}(?![A-Za-z0-9])", "key-[0-9a-f]{32}"),
    _key(
        "-us", r"[0-9a-f]{32}-us[0-9]{1,2}(?![A-Za-z0-9])", "[0-9a-f]-us[0-9]", left=_HEX, reach=32
    ),
    _key("nrak-", r"NRAK-[A-Z0-9]{25,30}(?![A-Za-z0-9])", "NRAK-"),
    _key("pmak-", r"PMAK-[A-Fa-f0-9]{24}-[A-Fa-f0-9]{34}"),
    _key("hvs. hvb.", r"hv[sb]\.[A-Za-z0-9_-]{24,}+"),
    _key("dp.", r"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9_.-]{40,}+"),
    _key(
        ".atlasv1.",
        r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,}+",
        r"\.atlasv1\.",
        left=_ALNUM,
        reach=14,
    ),
    _key("age-secret-key-1", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}+"),
    _key("pat", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}", r"pat[A-Za-z0-9]{14}\."),
    # Telegram's bots; then Discord's.
    _rule(
        "api_key",
        ":aa",
        rf"(?<![0-9]){_APART}[0-9]{{8,10}}:AA[A-Za-z0-9_-]{{32,34}}(?![A-Za-z0-9_-])",
        left="0123456789",
        reach=10,
        hint="[0-9]:AA[A-Za-z0-9_-]{32}",
    ),
    _key(
        ".",
        r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}+",
        r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}",
        left=_ALNUM + "_-",
        reach=28,
        gate=re.compile(r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}"),
    ),
    _rule(
        "token",
        "eyj",
        _KEY_START + r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)*+",
        hint=r"eyJ[A-Za-z0-9_-]{8}",
    ),
    _rule(
        "token",
        "authorization",
        rf"(?i:authorization){_IS}(?i:bearer|basic|token)\s{{1,3}}(?P<it>[A-Za-z0-9._~+/=-]{{6,}}+)",
        hint=r"(?i:authorization)[^A-Za-z0-9]+(?i:b|token)",
    ),
    _rule(
        "token",
        "bearer",
        r"(?<!\w)(?i:bearer)\s{1,3}(?P<it>[A-Za-z0-9._~+/=-]{16,2000}+)",
        checks.mixed,
        hint=rf"(?i:bearer){_BLANK}+[A-Za-z0-9._~+/=-]{{16}}",
    ),
    _rule(
        "api_key",
        KEY_NEEDLES,
        rf"(?i:{NAMED_KEY})[A-Za-z_]{{0,20}}{_IS}(?P<it>[A-Za-z0-9_./+~-]{{16,400}}+={{0,2}})",
        checks.mixed,
        hint=_KEY_HINT,
        roots=KEY_ROOTS,
    ),
    _rule(
        "api_key",
        KEY_NEEDLES,
        rf"(?i:{NAMED_KEY})[A-Za-z_]{{0,20}}[\"']?\s{{0,3}}[:=]\s{{0,3}}"
        r"(?:\"(?P<it>[^\s\"<>{}\[\]]{16,400}+)\"|(?!))",
        checks.drawn,
        hint=_KEY_HINT,
        roots=KEY_ROOTS,
    ),
    _rule(
        "api_key",
        "_key -key sharedaccesskey",
        rf"(?i:[_-]key|sharedaccesskey){_IS}(?P<it>[A-Za-z0-9_./+~-]{{20,400}}+={{0,2}})",
        checks.drawn,
        hint=_KEY_HINT,
        roots=KEY_ROOTS,
    ),
    _rule(
        "password",
        "://",
        r"[a-zA-Z]://[^\s/:@\[\]]{0,64}:(?P<it>[^\s/@\[\]]{1,200})@",
        left=_ALNUM,
        reach=1,
        hint=r"://[^\s/:@]*:[^\s/@]+@",
    ),
    _rule(
        "password",
        " ".join(word for word in SAID_PASSWORD if " " not in word) + " passe",
        rf"(?:{_PASSWORD}|passe){_PASSWORD_IS}(?P<it>[^\s\"',;\[\](){{}}<>&]{{6,128}}+)",
        checks.password,
        roots=PASSWORD_ROOTS,
        hint=rf"(?i:{'|'.join(SAID_PASSWORD)}|passe)"
        rf"(?:{_IS_HINT}|[\"']?{_BLANK}+(?:value|is|ist|lautet|to|est|es|é|è)[\s\x1c-\x1f=])",
    ),
    _rule(
        "password",
        "password",
        r"(?<![\w-])(?i:password)\s{1,3}(?P<it>[^\s\"',;\[\](){}<>]{6,64}+)",
        checks.strong_password,
        hint=rf"(?i:password){_BLANK}+[^\s]*[0-9]",
    ),
    _rule(
        "password",
        "curl sshpass",
        r"(?:curl\s[^\n|]{0,80}?-u\s{0,2}[\"']?[^\s:\"']{1,64}:|sshpass\s{1,3}-p\s{0,2})"
        r"[\"']?(?P<it>[^\s\"'$<>\[\]]{4,128}+)",
        hint=rf"curl{_BLANK}[^\n|]*-u|sshpass{_BLANK}+-p",
    ),
    _rule(
        "email",
        "@",
        rf"(?<![{_LETTER}]){_APART}[{_LETTER}][{_LETTER}._%+'-]{{0,63}}@"
        rf"(?:{_WORD}\.){{1,8}}[A-Za-z\u0400-\u04ff]{{2,24}}",
        left=_ALNUM + _EUROPEAN + "._%+'-",
        reach=64,
        hint=rf"[{_LETTER}._%+'-]@[{_LETTER}.-]+\.[A-Za-z\u0400-\u04ff]",
    ),
    _rule(
        "iban",
        "",
        rf"(?<![A-Za-z0-9]){_APART}(?=[A-Za-z]{{2}}[0-9]{{2}})(?ai:{IBAN})(?![A-Za-z0-9]){_END}",
        checks.iban,
        ahead=(2,),
        lettered=True,
        first=LETTERS,
    ),
    _rule(
        "national_id",  # Italy
        "",
        rf"(?<![A-Za-z0-9])[A-Z]{{6}}[0-9]{{2}}[A-EHLMPRST][0-9]{{2}}[A-Z][0-9]{{3}}[A-Z](?![A-Za-z0-9]){_END}",
        checks.codice_fiscale,
        ahead=(6,),
        lettered=True,
        first=_CAPITALS,
        hint="[A-Z][0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}",
    ),
    _rule(
        "national_id",  # Britain: no number begins so
        "",
        rf"(?<![A-Za-z0-9])(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?"
        rf"[0-9]{{2}}( ?)[0-9]{{2}}\1[0-9]{{2}} ?[A-D](?![A-Za-z0-9]){_END}",
        ahead=(3, 2),
        first=_CAPITALS,
    ),
    _rule(
        "national_id",  # Spain
        "",
        rf"(?<![\w.+/=-]){_APART}(?:[XYZ]-?[0-9]{{7}}|[0-9]{{8}})-?[TRWAGMYFPDXBNJZSQVHLCKE](?![\w]){_END}",
        checks.dni,
        ahead=(2, 1, 0),
        first="0123456789XYZ",
    ),
    _rule(
        "national_id",  # United States: areas that were never used
        "",
        rf"{_BEFORE}{_APART}(?!000|666|9)[0-9]{{3}}-(?!00)[0-9]{{2}}-(?!0000)[0-9]{{4}}{_AFTER}{_END}",
        needs="-",
    ),
    _rule(
        "national_id",  # France
        "",
        rf"{_BEFORE}{_APART}[12]( ?)[0-9]{{2}}\1(?:0[1-9]|1[0-2]|[2-9][0-9])\1(?:[0-9]{{2}}|2[AB])"
        rf"\1[0-9]{{3}}\1[0-9]{{3}} ?[0-9]{{2}}{_AFTER}{_END}",
        checks.nir,
        first="12",
    ),
    _rule(
        "national_id",  # Brazil
        "",
        rf"{_BEFORE}{_APART}[0-9]{{3}}\.[0-9]{{3}}\.[0-9]{{3}}-[0-9]{{2}}{_AFTER}{_END}",
        checks.cpf,
        needs=".",
    ),
    _rule(
        "card",
        "",
        rf"(?<![{_LETTER}_.+]){_APART}(?:{CARD})(?![{_LETTER}_]|[.-][0-9]){_END}",
        checks.luhn,
        first="23456",
    ),
    _rule(
        "phone",
        "",
        rf"(?:{_BEFORE}|(?<=[a-z]{{3}}=)){_APART}(?:\+|(?<![0-9] )00(?=[1-9][0-9]{{0,2}}[ .\-/]))[1-9][0-9]{{0,2}}"
        rf"[ .\-/]?{_AREA}[0-9]{_SPACED}{{5,13}}{_AFTER}{_END}",
        checks.phone_at_large,
        ahead=(1, 0),
        first="+0",
    ),
    _rule(
        "phone",
        "",
        rf"(?:{_BEFORE}(?<![0-9] )|(?<=[0-9]/)){_APART}(?:{PHONE}){_AFTER}{_END}",
        checks.phone_at_large,
        ahead=(1, 0),
        first="0123456789(",
    ),
    _rule(
        "phone",
        " ".join(SAID_PHONE),
        rf"{_SAID}(?:[ .:=(#\"'|\uff1a]{{0,3}}[^\W0-9_]{{1,8}}){{0,2}}?[ .:=#\"'|/\uff1a]{{0,4}}"
        rf"(?P<it>\+?(?:\([0-9]{{1,5}}\)[ .\-/]?)?[0-9](?:[ .\-/()\u00a0]{{0,3}}[0-9]){{6,14}}){_AFTER}{_END}",
        checks.phone,
        digits=True,
    ),
    _rule(
        "ip",
        "",
        rf"(?<![{_LETTER}_.]){_APART}(?:{_OCTET}\.){{3}}{_OCTET}(?![{_LETTER}_]|\.[{_LETTER}_]){_END}",
        checks.ipv4,
        needs=".",
    ),
    _rule(
        "ip",
        ":",
        rf"(?<![\w:.]){_APART}(?=[0-9A-Fa-f:]{{0,5}}:)[0-9A-Fa-f:.]{{2,44}}(?:[0-9A-Fa-f]|::)"
        rf"(?![\w]|:[\w:]){_END}",
        checks.ipv6,
        left=_HEX,
        reach=4,
        gate=re.compile(":[0-9A-Fa-f]{0,4}:"),
        hint="::[0-9A-Fa-f]|[0-9A-Fa-f]:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:|[0-9A-Fa-f]::",
    ),
)
"""Every rule; where places overlap, the rule that stands first gives the kind."""

NUMBER_HINT = (
    rf"[0-9](?:{GAP}[0-9]){{7}}|[0-9]\.[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]|[XYZ]-?[0-9]{{7}}"
    r"|[A-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]|[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11}"
)
"""As `Rule.hint`, for all rules without needles or whose needle is only the word before digits."""

HINT = "|".join(
    f"(?:{hint})" for hint in dict.fromkeys((NUMBER_HINT, *(r.hint for r in RULES))) if hint
)
"""Matches in every text in which anything is found, in the syntax of Rust's regex."""

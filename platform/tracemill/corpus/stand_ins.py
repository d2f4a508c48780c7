"""Stand-ins for personal data: the same for the same value and salt, of its kind, nobody's.

All come from ranges that are kept for fiction and documentation, so a stand-in can be told from
real data without the salt; keys and passwords are never imitated.
"""

import hashlib
import re
from collections import Counter

from tracemill.pii import Found, Redacted, find, replaced

STAND_IN = re.compile(
    r"person-[0-9a-f]{8}@example\.com"
    r"|(?:\+1 )?[2-9][0-9]{2}-555-01[0-9]{2}"
    r"|[A-Z]{2}00(?:[ -]?[0-9]){11,29}"
    r"|9999(?:[ -]?[0-9]){9,15}"
    r"|000-[0-9]{2}-[0-9]{4}"
    r"|(?:192\.0\.2|198\.51\.100|203\.0\.113)\.[0-9]{1,3}"
    r"|2001:db8:[0-9a-f:]+",
    re.ASCII,
)
"""RFC 2606 and 5737 and 3849; North America's 555-01xx; check digits, a card's first digits and an
area of social security that are never given out."""


def real(text: str) -> tuple[Found, ...]:
    """As `find`, without the places where a stand-in is."""
    found = find(text)
    if not found:
        return ()
    taken = [match.span() for match in STAND_IN.finditer(text)]
    return tuple(
        place
        for place in found
        if not any(start < place.end and place.start < end for start, end in taken)
    )


def pseudonymised(text: str, salt: str) -> Redacted:
    """The text with stand-ins; doing it again changes nothing.

    What begins to look like a number once another is replaced is replaced as well.
    """
    counts: Counter[str] = Counter()
    while found := real(text):
        counts.update(place.kind for place in found)
        news = (
            (place, stand_in(place.kind, text[place.start : place.end], salt)) for place in found
        )
        text = replaced(text, news)
    return Redacted(text, counts)


def stand_in(kind: str, value: str, salt: str) -> str:
    """What stands for a value: `person-3f9a01c2@example.com`, `+1 202-555-0147`, ...

    Derived by keyed BLAKE2b from the value without its spelling (case, blanks, dashes): without
    the salt it cannot be found by trying values. Kinds that have none get their placeholder.
    """
    match kind:
        case "email":
            return f"person-{keyed(kind, value.casefold(), salt)[:8]}@example.com"
        case "phone":
            return _phone(value, _digits(kind, value, salt))
        case "iban":
            country, rest = value[:2].upper(), value[4:]
            return f"{country}00{_filled(rest, _digits(kind, value, salt))}"
        case "card":
            return _filled(value, "9999" + _digits(kind, value, salt))
        case "national_id" if re.fullmatch(r"[0-9]{3}-[0-9]{2}-[0-9]{4}", value):
            return _filled(value, "000" + _digits(kind, value, salt))
        case "ip" if ":" in value:
            drawn = keyed(kind, value.lower(), salt)
            return f"2001:db8:{drawn[:4]}:{drawn[4:8]}:{drawn[8:12]}:{drawn[12:16]}:0:1"
        case "ip":
            drawn = int(keyed(kind, value, salt), 16)
            net = ("192.0.2", "198.51.100", "203.0.113")[drawn % 3]
            return f"{net}.{drawn // 3 % 254 + 1}"
        case _:
            return f"[{kind}]"


def keyed(kind: str, value: str, salt: str) -> str:
    """BLAKE2b of a value under a salt, 128 bits in hex; another for every kind."""
    key = hashlib.blake2b(salt.encode()).digest()
    whole = f"{kind}:{value}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whole, digest_size=16, key=key).hexdigest()


def _digits(kind: str, value: str, salt: str) -> str:
    plain = re.sub(r"[\W_]", "", value).upper()
    return str(int(keyed(kind, plain, salt), 16)).zfill(39)


def _phone(value: str, drawn: str) -> str:
    area = int(drawn[-3:]) % 800 + 200
    return f"{'+1 ' if value[0] == '+' else ''}{area}-555-01{drawn[-5:-3]}"


def _filled(layout: str, drawn: str) -> str:
    """The layout with a drawn digit for every letter and digit of it."""
    digits = iter(drawn)
    return "".join(next(digits) if char.isalnum() else char for char in layout)

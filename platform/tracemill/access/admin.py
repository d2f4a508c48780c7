"""The administrator's key that is given from outside: looked at before it is trusted."""

import re
from itertools import pairwise

from tracemill.errors import UsageError

NAME = "TRACEMILL_ADMIN_KEY"
"""The environment variable that holds it."""
_LEAST = 24
_LEAST_DIFFERENT = 10
_LEAST_OWN = 16
# What people put into keys of examples; what is left besides must be a key by itself.
_KNOWN = re.compile(
    "password|passwort|passwd|secret|admin|administrator|change[-_]?me|replace[-_]?me|letmein|"
    "welcome|tracemill|litellm|openai|anthropic|qwerty|asdf|example|sample|default|master|"
    "your|here|test|demo|token|key|sk-|tm-|1234567890|123456|12345|1234|abcdef|abcd|xxxx|0000",
    re.IGNORECASE,
)


def check_admin_key(text: str) -> None:
    """Raise `UsageError`, one line without the key, where a key could be guessed."""
    why = _weakness(text)
    if why:
        raise UsageError(
            f"{NAME} is too weak: {why}; `openssl rand -base64 32` makes a good one, and "
            "`tracemill keys create NAME --admin` one that can be revoked"
        )


def _weakness(text: str) -> str | None:
    if not (text.isascii() and text.isprintable()) or " " in text:
        return "it holds blanks or letters that a header cannot hold"
    if len(text) < _LEAST:
        return f"it has {len(text)} characters, fewer than {_LEAST}"
    if len(set(text)) < _LEAST_DIFFERENT:
        return f"it is made of {len(set(text))} different characters"
    pieces = {text[at : at + 4] for at in range(len(text) - 3)}
    if len(pieces) * 2 < len(text) - 3:
        return "it repeats itself"
    codes = [ord(letter) for letter in text]
    steps = sum(abs(b - a) <= 1 for a, b in pairwise(codes))
    if steps > len(text) // 2:
        return "its characters follow one another"
    if len(_KNOWN.sub("", text)) < _LEAST_OWN:
        return "it is made of well-known words"
    return None

"""What kind of thing an English question asks for, and whether a sentence has one to offer.

Other questions ask for nothing in particular, and every sentence suits them as well.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of answer."""

    name: str
    question: re.Pattern[str]
    """Found in the questions that ask for it."""
    offered: Callable[[str, str], bool] | None
    """Whether a sentence, the second, may answer such a question, the first; None: code does."""


def asks_way(question: str) -> bool:
    """Whether a question asks how something is done or written, or for an example: code tells."""
    kind = _kind(question)
    return kind is not None and kind.name == "way"


def asks_what(question: str) -> bool:
    """Whether a question asks what something is, is for, or does: its summary tells."""
    kind = _kind(question)
    return kind is not None and kind.name in ("definition", "purpose")


def offers(question: str, sentence: str, *, is_code: bool = False) -> bool:
    """Whether a sentence has what a question asks for; True where it asks for nothing special."""
    kind = _kind(question)
    if kind is None:
        return True
    return is_code if kind.offered is None else kind.offered(question, sentence)


def _kind(question: str) -> "Kind | None":
    return next((kind for kind in KINDS if kind.question.search(question)), None)


_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|"
    r"[mb]illion|once|twice|half)\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\b\d{3,4}s?\b|\b(?:January|February|March|April|May|June|July|August|September|October|"
    r"November|December|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|century|year|day|during|after|"
    r"before|until|since)\b"
)
# A capital that does not begin the sentence.
_NAME = re.compile(r"(?<=\s)[^\W\d_a-z]\w+")
_DEFINITION = re.compile(
    r"\W*(?:(?:an?|the)\s+)?(\w+)\b[^.!?]{0,80}?\s"
    r"(?:is|are|was|were|means?|refers? to|denotes?|describes?)\b",
    re.IGNORECASE,
)


# How a function, a class or a method is called, not what it does.
_SIGNATURE = re.compile(r"\s*(?:(?:async )?def|class) \w+\s*[(:]|[\w.]+\([^()]*\)\W*$")


def _asks(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _number(_: str, sentence: str) -> bool:
    return bool(_NUMBER.search(sentence))


def _time(_: str, sentence: str) -> bool:
    return bool(_TIME.search(sentence))


def _new_name(question: str, sentence: str) -> bool:
    known = {word.casefold() for word in re.findall(r"\w+", question)}
    return any(name.casefold() not in known for name in _NAME.findall(sentence))


def _defines(question: str, sentence: str) -> bool:
    found = _DEFINITION.match(sentence)
    known = {word.casefold() for word in re.findall(r"\w+", question)}
    return bool(found) and found[1].casefold() in known


def is_signature(sentence: str) -> bool:
    """Whether a sentence is how something is called, not what it does."""
    return bool(_SIGNATURE.match(sentence))


def _tells(_: str, sentence: str) -> bool:
    return not is_signature(sentence)


KINDS = (
    Kind(
        "number",
        _asks(
            r"\bhow (?:many|much|long|old|far|high|large|big|tall|fast|often)\b"
            r"|\bwhat (?:percent|number|age)"
        ),
        _number,
    ),
    Kind(
        "time",
        _asks(r"\bwhen\b|\b(?:what|which) (?:year|date|day|month|century|decade)\b"),
        _time,
    ),
    Kind("name", _asks(r"\bwho(?:m|se)?\b|\bwhere\b"), _new_name),
    Kind(
        "definition",
        _asks(r"^\s*(?:what(?:['\u2019]s| is| are| was| were)|define) [\w .'\u2019-]{1,40}\??\s*$"),
        _defines,
    ),
    Kind(
        "purpose",
        _asks(
            r"^\s*what (?:do|does|did) .{1,60}? (?:do|return|give|hold|mean)\b|^\s*what(?:['\u2019]s| is| are) .{1,60}? for\?*\s*$"
        ),
        _tells,
    ),
    Kind(
        "way",
        _asks(r"\bhow (?:do|can|to|should|would|is \w+ used|are \w+ used)\b|\bexample\b"),
        None,
    ),
)
"""The first whose pattern is in the question counts."""

"""Signs that a text tries to give a model orders: a small table of names and patterns.

A sign is no proof, so it is flagged and never blocks. The patterns were chosen to leave ordinary
documentation alone; `tests/llm/test_injection.py` measures both sides.
"""

import re
import string
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple


class Sign(NamedTuple):
    """One way to recognise an attempt."""

    name: str
    words: frozenset[str]
    """Where none of these is among the text's words, the pattern cannot match and is not tried."""
    pattern: re.Pattern[str]
    """Matched against the text in lower case, in compatibility form, without invisible characters
    and with single spaces."""


def signs(text: str) -> Mapping[str, int]:
    """How often each sign is in a text; empty where there is none."""
    found: dict[str, int] = {}
    if heard := _heard(text):
        plain = _plain(text)
        for name, some, pattern in SIGNS:
            if not some.isdisjoint(heard) and (n := len(pattern.findall(plain))):
                found[name] = n
    if not text.isascii() and (n := _hidden(text)):
        found["hidden_text"] = n
    return found


def _plain(text: str) -> str:
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return " ".join(text.lower().split())


def _heard(text: str) -> frozenset[str]:
    """The words of signs that are in a text."""
    if text.isascii():
        return _WORDS.intersection(text.lower().translate(_SPACED).split())
    return _WORDS.intersection(re.findall(r"\w+", _plain(text)))


_SPACED = str.maketrans({mark: " " for mark in string.punctuation if mark != "_"})
# Zero-width characters, soft hyphens, direction marks, tags, the selectors nobody types.
_INVISIBLE = re.compile(
    "[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f")
_HIDDEN = re.compile(
    "[\U000e0000-\U000e007f]{2,}"  # letters in tags, which no screen shows
    "|[\U000e0100-\U000e01ef\ufe00-\ufe0f]{4,}"  # bytes in selectors
    "|[\u200b\u2060-\u2064\ufeff]{4,}"  # bits in zero-width characters
    "|[\u202d\u202e]"  # text that is read in another order than it is shown
)


def _hidden(text: str) -> int:
    """Runs of characters that people do not see and models do; flags of regions are none."""
    return len(_HIDDEN.findall(_FLAG.sub("", text)))


def _sign(name: str, words: str, pattern: str) -> Sign:
    return Sign(name, frozenset(words.split()), re.compile(pattern))


_ORDERS = r"(?:instructions?|prompts?|directions|guidelines|directives|orders|programming)"
_EARLIER = r"(?:previous|prior|above|earlier|preceding|foregoing|initial|original|system|your)"

SIGNS: tuple[Sign, ...] = (
    _sign(
        "ignore_instructions",
        "ignore disregard forget override bypass overlook discard previous prior earlier "
        "told instructed ignoriere vergiss ignora olvida ignores ignorez oublie oublies oubliez",
        r"\b(?:ignore|disregard|forget|override|bypass|overlook|discard)\b"
        rf"(?: \w+){{0,4}}? {_EARLIER}(?: \w+){{0,3}}? {_ORDERS}\b"
        rf"|\b(?:ignore|disregard|forget|discard|bypass)(?: \w+){{0,3}}? {_ORDERS} "
        r"(?:that (?:came|were|you)|you (?:were|have)|given|above|before)\b"
        r"|\b(?:ignore|disregard|forget)(?: all)?(?: of)? the above (?:and|instead|text|,)"
        r"|\b(?:previous|prior|earlier) (?:rules|instructions|orders) (?:are|is) (?:now )?"
        r"(?:void|null|cancell?ed|obsolete|revoked)\b"
        r"|\b(?:told|instructed)(?: \w+){0,4} no longer (?:applies|matters|counts)\b"
        r"|\b(?:ignore|disregard|forget) (?:everything|anything|all|what) "
        r"(?:(?:that )?(?:you (?:were|have been|are) told|i (?:said|told you))|above|before)\b"
        r"|\b(?:ignoriere|vergiss)\b[^.!?]{0,30}\b(?:anweisungen|befehle|vorgaben)\b"
        r"|\b(?:ignora|olvida)\b[^.!?]{0,30}\b(?:instrucciones|istruzioni)\b"
        r"|\b(?:ignore[sz]?|oublie[sz]?)\b[^.!?]{0,20}\binstructions pr\u00e9c\u00e9dentes\b",
    ),
    _sign(
        "new_instructions",
        "instruction instructions prompt task message",
        r"\b(?:your|the|my|here are) (?:new|real|actual|true|updated) (?:system )?"
        r"(?:instructions?|prompt|task) (?:is|are)\b"
        r"|\b(?:new|updated|revised) (?:system )?(?:instructions?|prompt) ?:"
        r"|\b(?:end|start) of (?:the )?(?:system )?(?:instructions|prompt)\b"
        r"|\bsystem (?:prompt|message|instructions?) (?:override|update)\b",
    ),
    _sign(
        "system_prompt",
        "prompt instructions rules message text word words everything window",
        r"\b(?:reveal|show|print|repeat|output|display|leak|recite|disclose|dump|tell me|give me|"
        r"what (?:is|are|was|were))\b(?: \w+){0,4}? (?:your|the|its|this) (?:\w+ ){0,2}?"
        r"(?:system (?:prompt|message|instructions)|(?:initial|hidden|secret|original|developer) "
        r"(?:prompt|instructions|message))\b"
        r"|\b(?:reveal|print|repeat|output|leak|recite|disclose|dump|translate)\b(?: \w+){0,6}? your "
        r"(?:\w+ )?(?:prompt|instructions|rules|context window)\b"
        r"|\brepeat (?:the|all|every)(?: \w+){0,4}? (?:text|words?|everything) above\b",
    ),
    _sign(
        "role_change",
        "now longer act pretend mode anything without",
        r"\byou are now (?:an? |the )?(?:\w+ ){0,3}(?:ai|assistant|model|bot|dan|mode|persona|"
        r"character|administrator|admin|hacker|terminal|unrestricted|free)\b"
        r"|\byou(?: are|'re) no longer (?:an? |bound|restricted|limited|required|subject)"
        r"|\bfrom now on,? (?:you|your|respond|answer|reply|act|ignore)\b"
        r"|\b(?:act as|pretend (?:to be|that you are|you are)) (?:an? )?(?:dan|unrestricted|"
        r"unfiltered|uncensored|evil|jailbroken)\b"
        r"|\bpretend (?:(?:that )?you (?:have no|are not bound|don't have)|to have no)\b"
        r"|\b(?:developer|god|debug|dan|jailbreak) mode (?:is )?(?:now )?(?:enabled|activated)\b"
        r"|\b(?:enter|activate|enable) (?:dan|god|jailbreak) mode\b"
        r"|\bdo anything now\b"
        r"|\bwithout (?:any )?(?:ethical|moral|safety|content) (?:\w+ )?"
        r"(?:restrictions|guidelines|filters|limits)\b",
    ),
    _sign(
        "role_marker",
        "im_start im_end system user assistant start_header_id end_header_id eot_id endoftext "
        "end_of_turn start end inst sys start_of_turn instruction instructions passage",
        r"<\|(?:im_start|im_end|system|user|assistant|start_header_id|end_header_id|eot_id|"
        r"endoftext|end_of_turn|start|end)\|>|\[/?inst\]|<</?sys>>|</?system>|<start_of_turn>"
        r"|### (?:system|instructions?) ?:|\[system\](?: ?\(?#|:)|\[system (?:message|prompt)\]"
        r"|</\w{1,30}> ?(?:system|assistant) ?:"
        # What ends a passage of ours and begins something else (`llm/passages.py`).
        r"|< ?/ ?passage ?>.{0,200}?< ?/? ?(?:passage|question)\b",
    ),
    _sign(
        "addresses_model",
        "ai llm llms model models chatbot chatbots",
        r"\bif you are (?:an? )?(?:ai|llm|large language model|language model|chatbot)\b"
        r"|\b(?:attention|notice|note|message|instructions?)(?: (?:to|for))?(?: (?:all|any|the))? "
        r"(?:ai|llms?|(?:large )?language models?|chatbots?|ai (?:assistants?|agents?|models?))"
        r"(?: reading this)? ?[:,!]",
    ),
    _sign(
        "concealment",
        "tell telling inform informing alert alerting notify notifying mention reveal disclose "
        "acknowledge",
        r"\b(?:do not|don't|never|without)\b(?: \w+)? "
        r"(?:tell|telling|inform|informing|alert|alerting|notify|notifying|mention to) "
        r"(?:the |your )?(?:user|human|anyone|reader)\b"
        r"|\b(?:do not|don't|never) (?:mention|reveal|disclose|acknowledge) "
        r"(?:that you|this (?:instruction|message|prompt|to)|these instructions)\b",
    ),
    _sign(
        "exfiltration",
        "send post forward upload exfiltrate email mail transmit leak http https",
        r"\b(?:send|post|forward|upload|exfiltrate|e-?mail|transmit|leak)\b(?: [\w'\u2019]+){0,4}? "
        r"(?:conversation|chat history|system prompt|secrets?|api keys?|credentials|passwords?|"
        r"private keys?|session tokens?|environment variables|[\w~./-]{0,60}(?:id_rsa|/etc/passwd|\.env)|"
        r"all (?:e-?mails|files|messages))\b[^.!?]{0,40}? (?:to|at) "
        r"(?:https?://|[\w.+-]{1,64}@|my |me\b|this |the following)"
        r"|!\[[^\]]{0,80}\]\(https?://[^)\s]{1,200}[?&][\w-]{1,30}=(?:\{|<|\[|%7b|\$)",
    ),
    _sign(
        "encoded_orders",
        "decode decrypt unscramble deobfuscate obfuscate base64 rot13 hex hexadecimal",
        r"\b(?:decode|decrypt|unscramble|de-?obfuscate)\b[^.!?]{0,60}? and (?:then )?"
        r"(?:follow|execute|obey|do|run|act|carry out|comply)\b"
        r"|\b(?:base64|rot13|hex(?:adecimal)?)\b[^.!?]{0,40}? (?:(?:instructions?|orders|commands?) ?:|"
        r"and (?:then )?(?:follow|execute|obey|comply)\b)"
        r"|\bdecode (?:this|the following)[^.!?]{0,40}?:? ?[a-z0-9+/]{40,}",
    ),
)
"""Every sign but `hidden_text`, which looks at the characters themselves."""
_WORDS = frozenset[str]().union(*(sign.words for sign in SIGNS))

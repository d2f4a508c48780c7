"""Finds what identifies a person or opens a door: e-mail, phone, IBAN, card, IP, keys, passwords.

One table of rules: a cheap needle, a pattern of bounded reach, a check of the sums that such
numbers carry. Every pattern takes linear time, and what was redacted once stays as it is.
"""

from tracemill.pii.finding import Found, find
from tracemill.pii.redaction import Change, Redacted, redact, replaced
from tracemill.pii.rules import HINT, KINDS, RULES
from tracemill.pii.values import RedactedValue, redact_json, redact_value

__all__ = ["HINT", "KINDS", "RULES", "Change", "Found", "Redacted", "RedactedValue"]
__all__ += ["find", "redact", "redact_json", "redact_value", "replaced"]

"""Signatures of webhooks, as Standard Webhooks 1.0.0 has them: made here, verified by receivers.

https://www.standardwebhooks.com: HMAC-SHA256 over id, time and body, so that neither can be altered
and an old message cannot be sent again. Libraries of that name verify it in other languages.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

from tracemill.errors import InputError, UsageError

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_S = 300
LEAST_BYTES = 16
_PREFIX = "whsec_"


def signed(message_id: str, timestamp: int, body: bytes, secret: str) -> dict[str, str]:
    """The headers of a message.

    Args:
        timestamp: seconds since 1970.
        secret: `whsec_` and base64, or any text of 16 bytes or more.

    Raises `UsageError` for a secret that is too short or not base64.
    """
    signature = base64.b64encode(_digest(message_id, str(timestamp), body, secret)).decode()
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: f"v1,{signature}"}


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> str:
    """Check that a webhook is genuine and fresh; returns its id, by which repeats are known.

    Args:
        body: as it came, byte for byte, before any JSON is read.
        headers: of the request, whatever their case.
        secret: the one that the sender signs with.
        tolerance_s: how far its time may be from now, in seconds.
        now: seconds since 1970; the clock's, when left out.

    Raises `InputError`: do not act on what came.
    """
    given = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if name not in given]
    if missing:
        raise InputError(f"the webhook has no header {missing[0]}: it is not signed")
    if not given[TIMESTAMP].isdecimal() or len(given[TIMESTAMP]) > 12:
        raise InputError(f"the header {TIMESTAMP} is not a number of seconds")
    apart_s = abs((time.time() if now is None else now) - int(given[TIMESTAMP]))
    if apart_s > tolerance_s:
        raise InputError(
            f"the webhook is {apart_s:.0f} s from now: it may be sent again by another"
        )
    wanted = _digest(given[ID], given[TIMESTAMP], body, secret)
    # Several: while a secret is being replaced, a sender may sign with the old and the new one.
    if not any(hmac.compare_digest(wanted, each) for each in _given(given[SIGNATURE])):
        raise InputError("the signature of the webhook is wrong: another secret, or altered")
    return given[ID]


def _digest(message_id: str, timestamp: str, body: bytes, secret: str) -> bytes:
    content = f"{message_id}.{timestamp}.".encode() + body
    return hmac.new(_key(secret), content, hashlib.sha256).digest()


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            raise UsageError(f"the secret begins with {_PREFIX} and goes on as no base64") from None
    if len(key) < LEAST_BYTES:
        raise UsageError(f"the secret has less than {LEAST_BYTES} bytes: take a longer one")
    return key


def _given(header: str) -> list[bytes]:
    found: list[bytes] = []
    for part in header.split():
        version, _, text = part.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                continue
    return found

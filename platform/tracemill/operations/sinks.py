"""Where alerts go: a file, a signed webhook, Slack. One function tells one sink one message.

What goes wrong is said without the address and without what was answered: both may hold a secret.
"""

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tracemill.errors import NotDelivered, TracemillError
from tracemill.operations.rules import File, Slack, Webhook
from tracemill.settings import Settings
from tracemill.webhooks import post, signature

_MARKS = {"info": "ℹ️", "warning": "⚠️", "critical": "🚨", "resolved": "✅", "test": "🔧"}  # noqa: RUF001


class Message(NamedTuple):
    """What a sink is told. `id` stays the same when it is told again."""

    id: str
    about: str
    """Raised, resolved or test."""
    rule: str
    severity: str
    text: str
    """What is wrong, in a sentence."""
    description: str
    """The rule's own words."""
    facts: dict[str, object]
    """More, for programs."""
    happened_at: datetime

    @property
    def title(self) -> str:
        what = {"raised": self.severity, "resolved": "resolved", "test": "test"}[self.about]
        return f"{what}: {self.rule}"


def tell(sink: File | Webhook | Slack, message: Message, settings: Settings) -> None:
    """Tell a sink; it has taken the message when this returns.

    Raises `NotDelivered`, in words that hold neither address nor secret.
    """
    match sink:
        case File():
            _append(_path(sink, settings), as_json(message))
        case Webhook():
            body = json.dumps(as_json(message), ensure_ascii=False).encode()
            post.post(_value_of(sink.url_env), body, sink, _headers(sink, message, body))
        case Slack():
            body = json.dumps(as_slack(message), ensure_ascii=False).encode()
            post.post(_value_of(sink.url_env), body, sink, {})


def as_json(message: Message) -> dict[str, object]:
    """The message for programs: type, time and data, as Standard Webhooks have it."""
    return {
        "type": f"alert.{message.about}",
        "id": message.id,
        "timestamp": _iso(message.happened_at),
        "data": {
            "rule": message.rule,
            "severity": message.severity,
            "message": message.text,
            "description": message.description,
            **message.facts,
        },
    }


def as_slack(message: Message) -> dict[str, object]:
    """The message as Slack's blocks, with a plain text for notifications."""
    mark = _MARKS.get(message.about) or _MARKS[message.severity]
    title = f"{mark} {message.title}"
    section = f"*{_slack(message.text)}*\n{_slack(message.description)}".strip()
    small = f"{_iso(message.happened_at)}  ·  {_slack(message.id)}"
    return {
        "text": _slack(f"{title}: {message.text}")[:3000],
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": title[:150], "emoji": True}},
            {"type": "section", "text": {"type": "mrkdwn", "text": section[:3000]}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": small}]},
        ],
    }


def _slack(text: str) -> str:
    """What Slack would read as a link or a mention, as plain characters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _headers(sink: Webhook, message: Message, body: bytes) -> dict[str, str]:
    try:
        # The time of this attempt: a receiver refuses what is old, and knows repeats by the id.
        now = int(datetime.now(UTC).timestamp())
        return signature.signed(message.id, now, body, _value_of(sink.secret_env))
    except NotDelivered:
        raise
    except TracemillError as error:
        raise NotDelivered(f"the environment variable {sink.secret_env}: {error}") from None


def _value_of(variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise NotDelivered(f"the environment variable {variable} is not set")
    return value


def _path(sink: File, settings: Settings) -> Path:
    path = settings.reports / sink.path
    if path.resolve().is_relative_to(settings.log.resolve()):
        raise NotDelivered("the file lies in the log's folder: name another one")
    return path


def _append(path: Path, message: dict[str, object]) -> None:
    """One whole line, synced; a line that a crash cut short stays a line of its own."""
    line = json.dumps(message, ensure_ascii=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) < len(line):
                os.ftruncate(descriptor, size)
                raise NotDelivered(f"{path}: the disk is full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise NotDelivered(f"{path} cannot be written: {error.strerror}") from None

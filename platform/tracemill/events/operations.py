"""Events of running it: alerts, and copies of the log."""

from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Id, Label, Utc


class AlertRaised(Happened):
    """The question of a rule gave a value beyond its threshold."""

    kind: Literal["alert.raised"] = "alert.raised"
    keep: ClassVar[bool] = True
    alert_id: Id
    """Ours."""
    rule: Label
    """The rule's name."""
    severity: Literal["info", "warning", "critical"] = "warning"
    """The rule's own word."""
    value: float
    """What the question gave."""
    comparison: Literal[">", ">=", "<", "<="]
    """How it is held against the threshold."""
    threshold: float
    """The rule's."""
    window_from: Utc
    """The question was asked about what ended from here,"""
    window_until: Utc
    """until here."""
    message: str
    """What is wrong, in a sentence."""

    @property
    def stream(self) -> str:
        return f"alert:{self.rule}"


class AlertDelivered(Happened):
    """A sink was told of an alert, or could not be."""

    kind: Literal["alert.delivered"] = "alert.delivered"
    keep: ClassVar[bool] = True
    alert_id: Id
    """The alert."""
    rule: Label
    """The rule's name."""
    sink: Label
    """The sink's name."""
    about: Literal["raised", "resolved"] = "raised"
    """What it was told."""
    delivered: bool
    """False where it could not be told; the next look tries again."""
    attempt: int = Field(ge=1)
    """Which attempt it was."""
    error_message: str | None = None
    """Why it could not be told, without the address, which may hold a secret."""

    @property
    def stream(self) -> str:
        return f"alert:{self.rule}"


class AlertAcknowledged(Happened):
    """Somebody has taken note of an alert: it is not told again."""

    kind: Literal["alert.acknowledged"] = "alert.acknowledged"
    keep: ClassVar[bool] = True
    alert_id: Id
    """The alert."""
    rule: Label
    """The rule's name."""
    note: str = ""
    """In words."""

    @property
    def stream(self) -> str:
        return f"alert:{self.rule}"


class AlertResolved(Happened):
    """The question of a rule whose alert was open gives a value within its threshold again."""

    kind: Literal["alert.resolved"] = "alert.resolved"
    keep: ClassVar[bool] = True
    alert_id: Id
    """The alert."""
    rule: Label
    """The rule's name."""
    value: float | None = None
    """What the question gave; None where the rule is gone or has nothing to look at."""

    @property
    def stream(self) -> str:
        return f"alert:{self.rule}"


class BackupMade(Happened):
    """The log was copied, and the copy was checked."""

    kind: Literal["backup.made"] = "backup.made"
    keep: ClassVar[bool] = True
    backup: Label
    """The name of its folder."""
    position: int = Field(ge=0)
    """The last position in it."""
    files: int = Field(ge=0)
    """How many files it has."""
    size_bytes: int = Field(ge=0)
    """Of all of them."""
    sha256: Label
    """Of its list of files, each with its own sha256."""

    @property
    def stream(self) -> str:
        return "backups"

"""Events of who may use the server and how much: virtual keys, and budgets with their decisions."""

from decimal import Decimal
from typing import ClassVar, Literal

from pydantic import Field

from tracemill.events.happened import Happened, Id, Label, Usd, Utc

Scope = Literal["everything", "key", "user", "team", "tag"]
Window = Literal["minute", "hour", "day", "month"]
Measure = Literal["requests", "tokens", "usd"]


class _OfKey(Happened):
    """What the events of one key share."""

    keep: ClassVar[bool] = True
    key_id: Label
    """The public part of the key: what calls carry."""

    @property
    def stream(self) -> str:
        return f"key:{self.key_id}"


class KeyCreated(_OfKey):
    """A virtual key was made. Its secret was shown once and is nowhere."""

    kind: Literal["key.created"] = "key.created"
    name: Label
    """What people call it."""
    user_id: Label | None = None
    """Who it was given to."""
    team: Label | None = None
    """The team whose budgets its calls count for."""
    models: tuple[Label, ...] = ("*",)
    """What it may be used for: names of models, or patterns such as `openai/*`."""
    routes: tuple[Label, ...] = ("*",)
    """The parts of the server that it may use, such as `chat`."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Put on each of its calls."""
    admin: bool = False
    """Whether it may also look after keys and budgets."""
    expires_at: Utc | None = None
    """From then on it is refused."""
    salt: Label
    """Of this secret alone, in hexadecimal."""
    secret_hash: Label
    """BLAKE2b of salt and secret, in hexadecimal."""


class KeyRotated(_OfKey):
    """A key got a new secret; the old one holds a while longer."""

    kind: Literal["key.rotated"] = "key.rotated"
    salt: Label
    """Of the new secret, in hexadecimal."""
    secret_hash: Label
    """BLAKE2b of salt and new secret, in hexadecimal."""
    old_until: Utc
    """From then on the old secret is refused."""


class KeyRevoked(_OfKey):
    """A key was revoked: it is refused from now on, in every process."""

    kind: Literal["key.revoked"] = "key.revoked"


class BudgetSet(Happened):
    """A budget holds from now on; one of the same name is replaced."""

    kind: Literal["budget.set"] = "budget.set"
    keep: ClassVar[bool] = True
    name: Label
    """What it is called."""
    scope: Scope
    """Whose calls count."""
    of: Label | None = None
    """Which key, user, team or tag (`feature=search`); `*` is each one apart, None with everything."""
    window: Window
    """The calendar's, in UTC: what was used counts until it ends."""
    requests: int | None = Field(default=None, ge=0)
    """So many calls; None is no limit."""
    tokens: int | None = Field(default=None, ge=0)
    """Read and written together."""
    usd: Usd | None = None
    """At the prices in force when the calls were made."""
    action: Literal["refuse", "alert"] = "refuse"
    """What is done with a call that does not fit."""

    @property
    def stream(self) -> str:
        return "budgets"


class BudgetRemoved(Happened):
    """A budget holds no longer."""

    kind: Literal["budget.removed"] = "budget.removed"
    keep: ClassVar[bool] = True
    name: Label
    """What it was called."""

    @property
    def stream(self) -> str:
        return "budgets"


class _Exceeded(Happened):
    """What the decisions of a budget share."""

    budget: Label
    """Its name."""
    of: Label | None = None
    """Whose budget it is where each has one: the key, user, team or tag."""
    measure: Measure
    """Which of its limits."""
    limit: Decimal = Field(ge=0)
    """The limit: requests, tokens or US dollars."""
    spent: Decimal = Field(ge=0)
    """What calls of this window took."""
    reserved: Decimal = Field(ge=0)
    """What calls in flight may take."""
    asked: Decimal = Field(ge=0)
    """What this call may take."""
    window_from: Utc
    """The window began then."""
    window_until: Utc
    """It ends then, and the count begins anew."""
    call_id: Id
    """The call that did not fit; one that was refused has no other event."""
    key_id: Label | None = None
    """The key that it was asked with."""
    user_id: Label | None = None
    """The user it was asked for."""

    @property
    def stream(self) -> str:
        return f"budget:{self.budget}"[:200]


class BudgetRefused(_Exceeded):
    """A call was refused, because it did not fit into a budget."""

    kind: Literal["budget.refused"] = "budget.refused"


class BudgetAlerted(_Exceeded):
    """A call did not fit into a budget that only alerts: told once in a window, and let through."""

    kind: Literal["budget.alerted"] = "budget.alerted"

"""Virtual keys: `tm-<id>-<secret>`. The id is public and finds the key, the secret is shown once.

A key is a short stream of the log. Each check asks whether that stream has moved, which takes some
microseconds, so that a revocation holds in every process as soon as `revoke` has returned.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import NamedTuple

from pydantic import SecretStr, ValidationError

from tracemill.access.admin import check_admin_key
from tracemill.errors import KeyRefused, UsageError, VersionConflict
from tracemill.events import Happened, KeyCreated, KeyRevoked, KeyRotated
from tracemill.log import EventLog

__all__ = ["ROUTES", "Key", "KeyRefused", "Keys", "check_admin_key"]

ROUTES = (
    *("chat", "embeddings", "rerank", "moderations", "models", "files", "finetuning", "batches"),
    *("jobs", "telemetry", "feedback", "rag", "metrics", "page"),
)
"""The parts of the server that a key may be limited to."""
_FORM = re.compile(r"tm-([0-9a-f]{12})-([A-Za-z0-9_-]{43})")
_UNKNOWN = "this key is not known: `tracemill keys ls` tells which there are"
_REVOKE_TRIES = 10


@dataclass(frozen=True)
class Key:
    """What is known of a key; nothing of it is secret."""

    key_id: str
    name: str
    team: str | None = None
    user: str | None = None
    models: tuple[str, ...] = ("*",)
    """Names or patterns, such as `openai/*`."""
    routes: tuple[str, ...] = ("*",)
    """Of `ROUTES`, or patterns."""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    """Put on each of its calls."""
    admin: bool = False
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def may(self, route: str | None = None, model: str | None = None) -> bool:
        """Whether it may use a part of the server, a model, or both. `admin` is for admins alone."""
        if route == "admin":
            return self.admin
        return (route is None or _any_fits(self.routes, route)) and (
            model is None or _any_fits(self.models, model)
        )


class _Secret(NamedTuple):
    salt: bytes
    digest: bytes
    until: float | None = None
    """In seconds since 1970; None: as long as the key holds."""


class _Held(NamedTuple):
    version: int
    key: Key
    secrets: tuple[_Secret, ...]
    """The one that holds, then those that it replaced."""


_NO_SECRET = _Secret(bytes(16), bytes(32), until=0.0)
_NOBODY = _Held(0, Key("", ""), ())


class Keys:
    """The keys of one log; threads may share it."""

    def __init__(self, log: EventLog, *, admin: SecretStr | None = None) -> None:
        """`admin` opens everything besides the keys of the log.

        Raises `UsageError` where it could be guessed.
        """
        if admin is not None:
            check_admin_key(admin.get_secret_value())
        self._log, self._admin = log, admin
        self._known: dict[str, _Held] = {}
        self._any = admin is not None
        self.all()

    @property
    def any(self) -> bool:
        """Whether there is any key. One that was revoked is one: the server must not open for that."""
        self._any = self._any or bool(self._log.versions("key:"))
        return self._any

    def all(self) -> list[Key]:
        """Every key that was ever made, in order of their making."""
        ids = [stream.removeprefix("key:") for stream in self._log.versions("key:")]
        found = [held.key for held in map(self._held, ids) if held is not None]
        return sorted(found, key=lambda key: (str(key.created_at), key.key_id))

    def get(self, key_id: str) -> Key:
        """Raises `UsageError`: there is none."""
        return self._must(key_id).key

    def team(self, key_id: str) -> str | None:
        """Whose budgets the calls of a key count for; None where it has none, or is none of ours."""
        # Fixed when a key is made, so that it need not be asked for again.
        held = self._known.get(key_id) or self._held(key_id)
        return held.key.team if held else None

    def create(
        self,
        name: str,
        *,
        team: str | None = None,
        user: str | None = None,
        models: Sequence[str] = ("*",),
        routes: Sequence[str] = ("*",),
        tags: Mapping[str, str] | None = None,
        admin: bool = False,
        expires_at: datetime | None = None,
        actor: str | None = None,
    ) -> tuple[Key, SecretStr]:
        """A new key, and its whole text, which nobody can tell again.

        Args:
            models: what it may be used for: names, or patterns such as `openai/*`.
            routes: of `ROUTES`.
            expires_at: aware; from then on it is refused.

        Raises `UsageError`.
        """
        _check(name, models, routes, expires_at)
        key_id = secrets.token_hex(6)
        secret, text = _made(key_id)
        try:
            event = KeyCreated(
                key_id=key_id,
                name=name,
                user_id=user,
                team=team,
                models=tuple(models),
                routes=tuple(routes),
                tags=dict(tags or {}),
                admin=admin,
                expires_at=expires_at,
                salt=secret.salt.hex(),
                secret_hash=secret.digest.hex(),
                actor=actor,
            )
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise UsageError(f"{first['loc'][0]}: {first['msg']}") from None
        self._append(event, 0)
        return self._must(key_id).key, text

    def rotate(
        self, key_id: str, overlap_s: float, *, actor: str | None = None
    ) -> tuple[Key, SecretStr]:
        """A new secret for a key; the one before holds for `overlap_s` seconds more.

        Raises `UsageError`: there is no such key, it was revoked, or somebody else changed it now.
        """
        if not 0 <= overlap_s <= timedelta(days=365).total_seconds():
            raise UsageError(f"an overlap is between 0 s and a year, not {overlap_s:g} s")
        held = self._must(key_id)
        if held.key.revoked_at:
            raise UsageError(f"key {key_id} was revoked: `tracemill keys create` makes a new one")
        secret, text = _made(key_id)
        event = KeyRotated(
            key_id=key_id,
            salt=secret.salt.hex(),
            secret_hash=secret.digest.hex(),
            old_until=datetime.now(UTC) + timedelta(seconds=overlap_s),
            actor=actor,
        )
        self._append(event, held.version)
        return self._must(key_id).key, text

    def revoke(self, key_id: str, *, actor: str | None = None) -> Key:
        """Refuse a key from now on, in every process. Once more changes nothing.

        Raises `UsageError`: there is none.
        """
        for _ in range(_REVOKE_TRIES):
            held = self._must(key_id)
            if held.key.revoked_at:
                return held.key
            try:
                self._append(KeyRevoked(key_id=key_id, actor=actor), held.version)
            except VersionConflict:
                continue  # it was rotated at this moment, which must not save it
        return self._must(key_id).key

    def check(self, secret: str) -> Key:
        """The key that this text opens.

        Raises `KeyRefused`. Only who knows the secret is told more than that it is not known, and an
        unknown id takes as long as a wrong secret.
        """
        given = _FORM.fullmatch(secret)
        held = (self._held(given[1]) if given else None) or _NOBODY
        now = time.time()
        right = stale = False
        for kept in (*held.secrets, _NO_SECRET, _NO_SECRET)[: max(2, len(held.secrets))]:
            if hmac.compare_digest(_digest(kept.salt, given[2] if given else ""), kept.digest):
                right = right or kept.until is None or now < kept.until
                stale = True
        if not stale and self._is_admin(secret):
            return _ADMIN
        if not stale:
            raise KeyRefused(_UNKNOWN)
        return _still_good(held.key, right=right, now=now)

    def _is_admin(self, text: str) -> bool:
        known = self._admin.get_secret_value() if self._admin else ""
        same = hmac.compare_digest(text.encode("utf-8", "replace"), known.encode())
        return same and bool(known)

    def _held(self, key_id: str) -> _Held | None:
        """As the log has it at this moment."""
        version = self._log.version(f"key:{key_id}")
        known = self._known.get(key_id)
        if known is None or known.version != version:
            if not version:
                return None
            known = _folded(self._log, key_id)
            self._known[key_id] = known
        return known

    def _must(self, key_id: str) -> _Held:
        held = self._held(key_id)
        if held is None:
            raise UsageError(f"there is no key {key_id}: `tracemill keys ls` tells which there are")
        return held

    def _append(self, event: Happened, version: int) -> None:
        # Safe from a loss of power too: what was revoked must not come back.
        self._log.append(event, expected={event.stream: version}, durability="power")


_ADMIN = Key("admin", "TRACEMILL_ADMIN_KEY", admin=True)


def _still_good(key: Key, *, right: bool, now: float) -> Key:
    """Raises `KeyRefused`: the secret was right once, but is so no more."""
    if key.revoked_at:
        raise KeyRefused(f"this key was revoked at {_told(key.revoked_at)}: ask for a new one")
    if key.expires_at and key.expires_at.timestamp() <= now:
        raise KeyRefused(f"this key expired at {_told(key.expires_at)}: ask for a new one")
    if not right:
        raise KeyRefused("this key has a new secret since it was rotated: use that one")
    return key


def _folded(log: EventLog, key_id: str) -> _Held:
    held = _NOBODY
    for recorded in log.read(stream=f"key:{key_id}"):
        held = _after(held, recorded.event)._replace(version=recorded.version)
    return held


def _after(held: _Held, event: Happened) -> _Held:
    match event:
        case KeyCreated():
            key = Key(
                event.key_id,
                event.name,
                event.team,
                event.user_id,
                event.models,
                event.routes,
                event.tags,
                event.admin,
                event.occurred_at,
                event.expires_at,
            )
            return held._replace(key=key, secrets=(_stored(event),))
        case KeyRotated():
            until, now = event.old_until.timestamp(), event.occurred_at.timestamp()
            old = [
                kept._replace(until=until if kept.until is None else min(kept.until, until))
                for kept in held.secrets
                if kept.until is None or kept.until > now
            ]
            return held._replace(secrets=(_stored(event), *old))
        case KeyRevoked():
            revoked = held.key.revoked_at or event.occurred_at
            return held._replace(key=replace(held.key, revoked_at=revoked))
        case _:
            return held


def _stored(event: KeyCreated | KeyRotated) -> _Secret:
    return _Secret(bytes.fromhex(event.salt), bytes.fromhex(event.secret_hash))


def _made(key_id: str) -> tuple[_Secret, SecretStr]:
    secret, salt = secrets.token_urlsafe(32), secrets.token_bytes(16)
    return _Secret(salt, _digest(salt, secret)), SecretStr(f"tm-{key_id}-{secret}")


def _digest(salt: bytes, secret: str) -> bytes:
    # Not argon2 or the like: they slow down the guessing of what people make up. 256 random bits
    # cannot be guessed at any speed, and each request would pay.
    return hashlib.blake2b(secret.encode(), salt=salt, digest_size=32).digest()


def _any_fits(patterns: Iterable[str], name: str) -> bool:
    return any(pattern == "*" or fnmatchcase(name, pattern) for pattern in patterns)


def _check(
    name: str, models: Sequence[str], routes: Sequence[str], expires_at: datetime | None
) -> None:
    if not name.strip():
        raise UsageError("a key needs a name: who or what will use it")
    if not models or not routes:
        raise UsageError("a key without models or routes opens nothing: name some, or leave it out")
    unknown = [route for route in routes if not any(fnmatchcase(known, route) for known in ROUTES)]
    if unknown:
        raise UsageError(f"there is no route {unknown[0]!r}; there are {', '.join(ROUTES)}")
    if expires_at is not None and expires_at.tzinfo is None:
        raise UsageError(f"{expires_at} has no time zone")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise UsageError(f"{_told(expires_at)} is over already: the key would open nothing")


def _told(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

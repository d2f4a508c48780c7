"""Virtual keys: what opens, what does not, who sees it when, and that no secret is anywhere."""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import SecretStr

from tests.access.calls import process
from tests.access.test_budgets_processes import said, tell
from tracemill.access.admin import check_admin_key
from tracemill.access.keys import Key, Keys
from tracemill.errors import KeyRefused, UsageError
from tracemill.log import EventLog

UNKNOWN = "this key is not known"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "warehouse" / "log") as log:
        yield log


def test_a_key_opens_and_says_whose_it_is(log: EventLog) -> None:
    keys = Keys(log)
    assert not keys.any
    expires = datetime.now(UTC) + timedelta(days=1)
    key, secret = keys.create(
        "search",
        team="core",
        user="ann",
        models=["openai/*", "local/extract"],
        routes=["chat"],
        tags={"feature": "x"},
        expires_at=expires,
    )
    text = secret.get_secret_value()
    assert re.fullmatch(r"tm-[0-9a-f]{12}-[A-Za-z0-9_-]{43}", text)
    assert text.startswith(f"tm-{key.key_id}-")
    for each in (keys, Keys(log)):
        assert each.any
        assert each.check(text) == key
        assert each.all() == [key]
        assert each.team(key.key_id) == "core"
    assert (key.name, key.user, key.expires_at) == ("search", "ann", expires)
    assert key.may(route="chat", model="openai/gpt-6-sol")
    assert key.may(model="local/extract")
    assert not key.may(model="local/extract2")
    assert not key.may(route="files")
    assert not key.may(route="chat", model="anthropic/claude")


def test_only_an_admins_key_may_administer() -> None:
    assert not Key("k", "n").may(route="admin")
    assert Key("k", "n", admin=True).may(route="admin")


def test_what_is_wrong_and_what_is_unknown_is_told_in_the_same_words(log: EventLog) -> None:
    keys = Keys(log)
    _, secret = keys.create("a")
    other, _ = keys.create("b")
    text = secret.get_secret_value()
    keys.revoke(other.key_id)
    wrong = [
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        f"tm-{'0' * 12}-{text[16:]}",
        f"tm-{other.key_id}-{text[16:]}",
        text.upper(),
        f" {text}",
        f"{text}\n",
        "",
        "tm-",
        "x" * 100_000,
        "\ud800",
        "tm-' OR 1=1 --",
    ]
    told: set[str] = set()
    for given in wrong:
        with pytest.raises(KeyRefused) as refused:
            keys.check(given)
        told.add(str(refused.value))
        assert not given.strip() or given not in str(refused.value)
    assert len(told) == 1
    assert UNKNOWN in told.pop()


def test_an_unknown_id_takes_as_much_work_as_a_wrong_secret(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(log)
    _, secret = keys.create("a")
    done: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        really = getattr(module, name)

        def call(*given: Any, **more: Any) -> Any:
            done.append(name)
            return really(*given, **more)

        monkeypatch.setattr(module, name, call)

    counted(hashlib, "blake2b")
    counted(hmac, "compare_digest")
    wrong, unknown = secret.get_secret_value()[:16] + "A" * 43, f"tm-{'0' * 12}-{'A' * 43}"
    work: list[list[str]] = []
    for given in (wrong, unknown):
        done.clear()
        with pytest.raises(KeyRefused):
            keys.check(given)
        work.append([*done])
    assert work[0] == work[1]
    assert "blake2b" in work[0]


def test_who_knows_the_secret_is_told_that_it_is_over(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(log)
    soon = datetime.now(UTC) + timedelta(seconds=60)
    key, secret = keys.create("a", expires_at=soon)
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: soon.timestamp())
        with pytest.raises(KeyRefused, match=r"expired at .* UTC"):
            keys.check(secret.get_secret_value())
    assert keys.check(secret.get_secret_value()) == key
    revoked = keys.revoke(key.key_id)
    assert revoked.revoked_at is not None
    with pytest.raises(KeyRefused, match=r"was revoked at .* UTC"):
        keys.check(secret.get_secret_value())
    position = log.position()
    assert keys.revoke(key.key_id) == revoked
    assert log.position() == position
    assert keys.any


def test_after_a_rotation_both_secrets_hold_until_the_overlap_ends(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, other = Keys(log), Keys(log)
    key, first = keys.create("a")
    same, second = keys.rotate(key.key_id, 3_600)
    _, third = other.rotate(key.key_id, 7_200)
    assert same == key
    for each in (keys, other):
        for secret in (first, second, third):
            assert each.check(secret.get_secret_value()).key_id == key.key_id
    now = time.time()
    for hours, holding in ((1.1, (second, third)), (2.1, (third,))):
        with monkeypatch.context() as later:
            later.setattr(time, "time", lambda at=now + hours * 3_600: at)
            for secret in (first, second, third):
                if secret in holding:
                    other.check(secret.get_secret_value())
                else:
                    with pytest.raises(KeyRefused, match="a new secret since it was rotated"):
                        other.check(secret.get_secret_value())
    _, fourth = keys.rotate(key.key_id, 0)
    with pytest.raises(KeyRefused, match="rotated"):
        keys.check(third.get_secret_value())
    keys.check(fourth.get_secret_value())
    keys.revoke(key.key_id)
    with pytest.raises(UsageError, match="was revoked"):
        keys.rotate(key.key_id, 0)


CHECKS = """
import sys
from tracemill.access.keys import Keys
from tracemill.errors import KeyRefused
from tracemill.log import EventLog
keys = Keys(EventLog(sys.argv[1]))
for line in sys.stdin:
    try:
        print(keys.check(line.strip()).name, flush=True)
    except KeyRefused as error:
        print(error, flush=True)
"""


def test_another_process_sees_a_revocation_at_its_next_check(log: EventLog) -> None:
    keys = Keys(log)
    key, secret = keys.create("a")
    other = process(CHECKS, str(log.folder))
    try:
        assert other.stdin is not None

        def checked() -> str:
            assert other.stdin is not None
            other.stdin.write(secret.get_secret_value())
            tell(other)
            return said(other)

        assert checked() == "a"
        keys.revoke(key.key_id)
        assert "was revoked" in checked()
    finally:
        other.communicate()


def test_no_secret_is_in_any_file_event_line_or_word(
    log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = Keys(log, admin=SecretStr("Zq7-wLr2mXv9Kc4TbNf8Jd3H"))
    made = [keys.create("a", user="ann")]
    made.append(keys.rotate(made[0][0].key_id, 60))
    made.append(keys.create("b"))
    texts = [secret.get_secret_value() for _, secret in made]
    words = [repr(keys), repr(keys.all()), repr(vars(keys)), repr(made), caplog.text]
    for text in texts:
        keys.check(text)
        with pytest.raises(KeyRefused) as refused:
            keys.check(text + "x")
        words += [str(refused.value), repr(refused.value), repr(refused.value.__context__)]
    keys.revoke(made[0][0].key_id)
    words += [repr(recorded) for recorded in log.read()]
    log.fold()
    words += [str(log.sql("FROM keys").to_dicts()), str(log.sql("FROM events").to_dicts())]
    secrets = [text[16:] for text in texts] + ["Zq7-wLr2mXv9Kc4TbNf8Jd3H"]
    files = [p.read_bytes() for p in log.folder.parent.rglob("*") if p.is_file()]
    assert len(files) > 3
    for secret in secrets:
        assert not [word for word in words if secret in word]
        assert not [file for file in files if secret.encode() in file]


def test_the_admins_key_from_outside_opens_everything(log: EventLog) -> None:
    text = "Zq7-wLr2mXv9Kc4TbNf8Jd3H"
    keys = Keys(log, admin=SecretStr(text))
    assert keys.any
    key = keys.check(text)
    assert (key.key_id, key.admin, key.may(route="admin")) == ("admin", True, True)
    with pytest.raises(KeyRefused):
        keys.check(text[:-1])
    with pytest.raises(KeyRefused):
        Keys(log).check(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sk-1234", "it has 7 characters"),
        ("", "it has 0 characters"),
        ("a" * 40, "1 different"),
        ("abababababababababababababab", "2 different"),
        ("abcdefghijklmnopqrstuvwxyz", "follow one another"),
        ("Zq7wLr2mXvB" * 3, "repeats itself"),
        ("sk-1234567890sk-1234567890", "follow one another"),
        ("tracemill-admin-secret-password", "well-known words"),
        ("change-me-please-password123456", "well-known words"),
        ("Zq7 wLr2mXv9Kc4TbNf8Jd3H", "blanks"),
        ("Zq7-wLr2mXv9Kc4TbNf8Jd3é", "a header cannot hold"),
    ],
)
def test_an_admins_key_that_could_be_guessed_is_refused_in_one_line(
    log: EventLog, text: str, why: str
) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        check_admin_key(text)
    assert "\n" not in str(refused.value)
    assert not text or text not in str(refused.value)
    with pytest.raises(UsageError, match="TRACEMILL_ADMIN_KEY is too weak"):
        Keys(log, admin=SecretStr(text))


def test_a_random_admins_key_is_taken() -> None:
    import base64
    import os
    import secrets

    for _ in range(200):
        check_admin_key(secrets.token_urlsafe(32))
        check_admin_key(secrets.token_hex(32))
        check_admin_key(base64.b64encode(os.urandom(18)).decode())


@pytest.mark.parametrize(
    ("given", "said_"),
    [
        ({"name": " "}, "needs a name"),
        ({"name": "a\nb"}, "name:"),
        ({"models": []}, "opens nothing"),
        ({"routes": ["chatt"]}, "there is no route 'chatt'; there are chat"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "is over already"),
        ({"expires_at": datetime(2099, 1, 1)}, "no time zone"),  # noqa: DTZ001
    ],
)
def test_a_key_that_cannot_be_is_refused(log: EventLog, given: dict[str, Any], said_: str) -> None:
    with pytest.raises(UsageError, match=said_):
        Keys(log).create(**{"name": "a", **given})
    assert log.position() == 0


def test_a_key_that_is_not_there_cannot_be_changed(log: EventLog) -> None:
    keys = Keys(log)
    for change in (lambda: keys.revoke("x"), lambda: keys.rotate("x", 1), lambda: keys.get("x")):
        with pytest.raises(UsageError, match="there is no key x"):
            change()
    with pytest.raises(UsageError, match="an overlap is between"):
        keys.rotate("x", -1)


def test_the_view_of_keys_says_what_was_done_with_each(log: EventLog) -> None:
    keys = Keys(log)
    first, _ = keys.create("a", team="core", models=["openai/*"], tags={"f": "x"})
    keys.create("b", expires_at=datetime.now(UTC) + timedelta(days=1))
    keys.rotate(first.key_id, 0)
    keys.revoke(first.key_id)
    shown = log.sql("SELECT name, state, team, models, admin, calls FROM keys ORDER BY name")
    assert shown.rows() == [
        ("a", "revoked", "core", ["openai/*"], False, 0),
        ("b", "active", None, ["*"], False, 0),
    ]

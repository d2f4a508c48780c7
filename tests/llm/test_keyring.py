"""Keys of providers: several in turn, from the environment and from a file, changed while we run."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.llm.serving import Seen, say, serving
from tests.llm.test_client_http import answered, ask
from tracemill import EventLog
from tracemill.cli.options import settings_for
from tracemill.errors import CallFailed
from tracemill.llm import keyring, keys
from tracemill.llm.client import Client
from tracemill.llm.providers import find

ONE, TWO, THREE = (f"first-second-third-{n}".replace("-", chr(96 + n)) for n in (1, 2, 3))


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("OPENAI_API_KEY", "OPENAI_API_KEYS", "TRACEMILL_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRACEMILL_WAREHOUSE", str(tmp_path))
    monkeypatch.setattr(keyring, "LOOK_S", 0.0)
    keyring.forget()
    yield
    keyring.forget()


def taken(count: int) -> list[str]:
    """The keys of so many calls."""
    found = [keys.needed("openai", find("openai")) for _ in range(count)]
    return [key.get_secret_value() for key in found if key]


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_several_keys_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ONE)
    assert taken(2) == [ONE, ONE]
    monkeypatch.setenv("OPENAI_API_KEYS", f"{ONE}, {TWO},")
    assert taken(4) == [ONE, TWO, ONE, TWO]
    written(tmp_path / "secrets.env", f"# ours\nexport OPENAI_API_KEY='{THREE}'\n\nOTHER=x\n")
    assert set(taken(3)) == {ONE, TWO, THREE}


def test_a_file_that_is_changed_holds_without_a_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "elsewhere.env"
    monkeypatch.setenv("TRACEMILL_SECRETS", str(path))
    with pytest.raises(CallFailed, match=r"TRACEMILL_SECRETS names .* is not there"):
        taken(1)
    written(path, f"OPENAI_API_KEY={ONE}")
    assert taken(1) == [ONE]
    new = written(tmp_path / "new", f"OPENAI_API_KEYS={TWO},{THREE}")
    os.replace(new, path)
    assert set(taken(2)) == {TWO, THREE}
    # A call in flight may still have the old one.
    secret = keys.of("openai/x")
    assert keys.without(f"no {ONE} no {TWO} no {THREE}", secret) == "no [key] no [key] no [key]"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_file_that_others_may_read_is_refused_in_one_line(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "secrets.env", f"OPENAI_API_KEY={ONE}", mode)
    with pytest.raises(CallFailed) as refused:
        taken(1)
    assert str(refused.value) == (
        f"{path} may be read by others: run `chmod 600 {path}` to use its keys"
    )
    assert keys.of("openai/x") is None
    path.chmod(0o600)
    assert taken(1) == [ONE]


def test_what_is_no_line_of_a_key_is_told_by_its_number_alone(tmp_path: Path) -> None:
    written(tmp_path / "secrets.env", f"# keys\n{ONE}\n")
    with pytest.raises(CallFailed, match="line 2: not NAME=value") as refused:
        taken(1)
    assert ONE not in str(refused.value)
    (tmp_path / "secrets.env").unlink()
    (tmp_path / "secrets.env").mkdir()
    with pytest.raises(CallFailed, match="is not a file"):
        taken(1)


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_a_key_that_is_refused_or_limited_rests_and_the_call_goes_on_with_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEYS", f"{ONE},{TWO},{THREE}")

    def told(seen: Seen):
        if seen.headers["authorization"] == f"Bearer {TWO}":
            error = {"error": {"message": f"Incorrect API key provided: {TWO}"}}
            # Nobody waits for it: another key need not.
            return say(error, status=status, **{"retry-after": "100"})
        return say(answered())

    with serving(told) as server, EventLog(tmp_path / "log") as log:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        client = Client(log)
        for _ in range(9):
            client.generate(ask())
        client.close()
        assert len(server.seen) == 10
        [again] = log.read(kinds=["llm.call.retried"])
        assert (again.event.status, again.event.wait_ms) == (status, 0)  # pyright: ignore[reportAttributeAccessIssue]
        texts = [repr(recorded) for recorded in log.read()]
    assert not [text for text in texts for key in (ONE, TWO, THREE) if key in text]


def test_a_call_that_no_key_may_make_fails_once_each_was_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEYS", f"{ONE},{TWO}")
    error = {"error": {"message": f"Incorrect API key provided: {TWO}"}}
    with (
        serving(lambda _: say(error, status=401)) as server,
        EventLog(tmp_path / "log") as log,
    ):
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        with closing(Client(log)) as client, pytest.raises(CallFailed) as failed:
            client.generate(ask())
        assert failed.value.error_type == "authentication"
        assert {seen.headers["authorization"] for seen in server.seen} == {
            f"Bearer {ONE}",
            f"Bearer {TWO}",
        }
        texts = [repr(recorded) for recorded in log.read()]
    assert not [t for t in (*texts, str(failed.value)) for key in (ONE, TWO) if key in t]


def test_when_all_rest_the_one_that_is_ready_first_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEYS", f"{ONE},{TWO}")
    first, second = taken(2)
    limited = CallFailed("rate_limited", "slow down", status=429, retry_after_s=5)
    for key, error in ((first, CallFailed("authentication", "no", status=401)), (second, limited)):
        keyring.refused(key, error)
    assert taken(2) == [second, second]


def test_the_file_of_a_warehouse_that_a_command_was_told_is_found(tmp_path: Path) -> None:
    warehouse = tmp_path / "there"
    warehouse.mkdir()
    written(warehouse / "secrets.env", f"OPENAI_API_KEY={ONE}\n")
    settings_for(warehouse)
    assert taken(1) == [ONE]

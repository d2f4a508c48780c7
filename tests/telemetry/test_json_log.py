"""Lines of JSON: named fields alone, no content, no keys."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tracemill.telemetry.json_log import Lines


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Lines())
    logger = logging.getLogger("tracemill.tests.lines")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(handler)


def _line(written: io.StringIO) -> dict[str, Any]:
    [line] = written.getvalue().splitlines()
    return json.loads(line)


def test_a_line_has_the_fields_that_are_listed_and_no_other(logged: Any) -> None:
    logger, written = logged
    extra = {
        "request_id": "r1",
        "key_id": "k1",
        "route": "/v1/x",
        "status": 200,
        "duration_ms": 1.5,
    }
    logger.info("request", extra={**extra, "messages": "a secret", "authorization": "Bearer x"})
    line = _line(written)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "tracemill.tests.lines",
        "message": "request",
        **extra,
    }


def test_of_an_exception_the_class_and_the_place_are_told(logged: Any) -> None:
    logger, written = logged
    try:
        raise ValueError("the prompt was: a secret")
    except ValueError:
        logger.exception("broke", extra={"request_id": "r1"})
    line = _line(written)
    assert (line["error"], line["message"]) == ("ValueError", "broke")
    assert "test_json_log.py" in line["raised_at"][0]
    assert "secret" not in written.getvalue()


@pytest.mark.parametrize(
    "key", ["tm-abc12345-" + "s" * 30, "sk-proj-abcdefgh12345", "Bearer abc.def"]
)
def test_a_key_that_got_into_a_message_does_not_get_out(logged: Any, key: str) -> None:
    logger, written = logged
    logger.warning("refused %s\nnext", key)
    assert key.split()[-1] not in written.getvalue()
    assert "\n" in _line(written)["message"]

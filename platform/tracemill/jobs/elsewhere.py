"""Calls made on other machines: a worker beside the log lends requests out through Redis, and records
what comes back.

The log stays where it is. A machine that helps needs Redis and the keys of the providers, no
warehouse: it returns the answer together with the events of the call, which have ids, so that the log
takes each of them once.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracemill.errors import CallFailed, QueueUnreachable, TracemillError, UsageError
from tracemill.events import Happened, new_id, parse
from tracemill.llm.options import Options
from tracemill.messages import Request, Response

if TYPE_CHECKING:
    from tracemill.llm.client import Client
    from tracemill.log import EventLog

WORK = "tracemill.elsewhere.work"
_ANSWER, _EVENTS = "tracemill.elsewhere.answer:", "tracemill.elsewhere.events:"
_HELD, _WANTED = "tracemill.elsewhere.held:", "tracemill.elsewhere.wanted:"
HELD_S = 15
"""Whoever waits for a request, or has taken it, says every few seconds that they are still there."""
_KEPT_S = 86_400
"""An answer that nobody fetches is dropped after a day; its events are kept."""
_FIELDS = ("error_type", "status", "code", "request_id", "retry", "retry_after_s", "call_id")


class Lender:
    """Has calls made elsewhere. Threads may share it."""

    def __init__(self, log: "EventLog", address: str | None, home: str) -> None:
        """`home` names the warehouse. Raises `UsageError`: the queue is not in Redis."""
        self._log, self._home = log, home
        self._redis = connected(address)

    def generate(self, request: Request, options: Options) -> Response:
        """As `Client.generate`, with what the call told in the log here.

        Raises `CallFailed`: also where who took it has gone (`connection`, to be tried again).
        """
        task = new_id()
        body = json.dumps(
            {
                "task": task,
                "home": self._home,
                "request": request.model_dump(mode="json"),
                "options": options,
            }
        )
        try:
            self._redis.set(_WANTED + task, 1, ex=HELD_S)
            self._redis.rpush(WORK, body)
            answer = self._awaited(task, body)
        except _redis_error() as error:
            raise CallFailed("connection", f"the queue in Redis: {error}", retry=True) from None
        events = [parse(fields) for fields in answer["events"]]
        if events:
            self._log.append(events)
        if "error" in answer:
            raise _failure(answer["error"])
        return Response.model_validate(answer["response"])

    def collect(self) -> int:
        """Record what calls told whose lender had gone before they ended; returns how many events."""
        key, most = _EVENTS + self._home, 1_000
        try:
            found: list[bytes] = self._redis.lrange(key, 0, most - 1)
            events = [parse(fields) for each in found for fields in json.loads(each)]
            if events:
                # What is known already is not recorded twice.
                self._log.append(events)
                self._redis.ltrim(key, len(found), -1)
        except _redis_error() as error:
            raise QueueUnreachable(f"the queue in Redis cannot be reached: {error}") from None
        return len(events)

    def _awaited(self, task: str, body: str) -> dict[str, Any]:
        missed = 0
        while True:
            self._redis.set(_WANTED + task, 1, ex=HELD_S)
            if found := self._redis.blpop([_ANSWER + task], timeout=1):
                return json.loads(cast("tuple[bytes, bytes]", found)[1])
            there = self._redis.exists(_HELD + task) or self._redis.lpos(WORK, body) is not None
            # Between taking a request and saying so is a moment.
            missed = 0 if there else missed + 1
            if missed > 2:
                raise CallFailed("connection", "whoever took the request has gone", retry=True)


def connected(address: str | None) -> Any:
    """A client of Redis. Raises `UsageError`: there is no address, or it is none."""
    if address is None:
        raise UsageError(
            "other machines are reached through Redis: set TRACEMILL_QUEUE=redis://..."
        )
    try:
        import redis
    except ImportError:
        raise UsageError("a queue in Redis needs more: pip install 'tracemill[redis]'") from None
    try:
        return redis.Redis.from_url(address)  # pyright: ignore[reportUnknownMemberType]
    except ValueError as error:
        raise UsageError(f"TRACEMILL_QUEUE: {error}") from None


def help_out(address: str | None, threads: int, stopping: Callable[[], bool]) -> None:
    """Make calls for the worker of another machine until `stopping`; what runs is finished.

    Raises `UsageError` as `connected`, `QueueUnreachable` where Redis is away for long.
    """
    from tracemill.llm.client import Client
    from tracemill.log import EventLog

    redis = connected(address)
    with (
        tempfile.TemporaryDirectory(prefix="tracemill") as folder,
        EventLog(Path(folder) / "log") as log,
        closing(Client(log)) as client,
    ):
        helper = _Helper(redis, client, stopping)
        each = [threading.Thread(target=helper.run) for _ in range(threads)]
        for thread in each:
            thread.start()
        for thread in each:
            thread.join()
        if helper.failure is not None:
            raise helper.failure


class _Helper:
    """What the threads of a helper share."""

    def __init__(self, redis: Any, client: "Client", stopping: Callable[[], bool]) -> None:
        self._redis, self._client, self._stopping = redis, client, stopping
        self.failure: TracemillError | None = None

    def run(self) -> None:
        away = 0
        while not self._stopping() and self.failure is None:
            try:
                found = self._redis.blpop([WORK], timeout=1)
                if found:
                    self._do(json.loads(cast("tuple[bytes, bytes]", found)[1]))
                away = 0
            except _redis_error() as error:
                away += 1
                if away > _MOST_AWAY:
                    self.failure = QueueUnreachable(f"Redis cannot be reached: {error}")
                time.sleep(1.0)

    def _do(self, body: dict[str, Any]) -> None:
        held = _HELD + body["task"]
        self._redis.set(held, 1, ex=HELD_S)
        if not self._redis.exists(_WANTED + body["task"]):
            return  # whoever wanted it has gone, and will ask anew
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(held, done), daemon=True)
        beating.start()
        try:
            answer = self._made(body)
        finally:
            done.set()
            beating.join()
        key = _ANSWER + body["task"]
        with self._redis.pipeline() as all_of_it:
            all_of_it.rpush(_EVENTS + body["home"], json.dumps(answer["events"]))
            all_of_it.rpush(key, json.dumps(answer))
            all_of_it.expire(key, _KEPT_S)
            all_of_it.delete(held)
            all_of_it.execute()

    def _beat(self, held: str, done: threading.Event) -> None:
        while not done.wait(HELD_S / 3):
            try:
                self._redis.set(held, 1, ex=HELD_S)
            except _redis_error():
                continue

    def _made(self, body: dict[str, Any]) -> dict[str, Any]:
        """The call, as its lender wants to hear of it."""
        options: dict[str, Any] = body["options"]
        job_id = options.get("correlation_id")
        # By the task its events are found here; at home they belong to the job.
        options |= {"correlation_id": body["task"]}
        answer: dict[str, Any] = {}
        try:
            request = Request.model_validate(body["request"])
            response = self._client.generate(request, **cast("Options", options))
            answer["response"] = response.model_dump(mode="json")
        except CallFailed as error:
            answer["error"] = {name: getattr(error, name) for name in _FIELDS}
            answer["error"]["message"] = str(error)
        except (TracemillError, ValueError, TypeError) as error:
            answer["error"] = {"error_type": "internal_error", "message": str(error)}
        answer["events"] = [_told(event, job_id) for event in self._events(body["task"])]
        return answer

    def _events(self, task: str) -> list[Happened]:
        query = "SELECT DISTINCT stream FROM events WHERE correlation_id = ?"
        log = self._client.log
        streams = [str(each) for each in log.arrow(query, [task]).column("stream").to_pylist()]
        return [recorded.event for stream in streams for recorded in log.read(stream=stream)]


_MOST_AWAY = 60


def _told(event: Happened, job_id: str | None) -> dict[str, Any]:
    """An event as JSON, as one of the job."""
    return event.model_copy(update={"correlation_id": job_id}).model_dump(
        mode="json", exclude_none=True
    )


def _failure(fields: dict[str, Any]) -> CallFailed:
    known: dict[str, Any] = {name: fields.get(name) for name in _FIELDS}
    call_id = known.pop("call_id")
    error_type = str(known.pop("error_type"))
    known["retry"] = bool(known["retry"])
    failure = CallFailed(error_type, fields["message"], **known)
    failure.call_id = call_id
    return failure


def _redis_error() -> type[Exception]:
    import redis

    return redis.RedisError

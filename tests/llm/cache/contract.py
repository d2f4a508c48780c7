"""What every response cache must do, whatever it is kept in."""

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.llm.cache.caller import (
    HOUR_S,
    KEY,
    WITHIN_S,
    answered,
    ask,
    lead_and_wait,
    one_flight,
    opened,
    until,
)
from tests.log.made import values
from tracemill.llm.cache import Cache, storable
from tracemill.messages import Response, ToolCall, Usage

spawn = multiprocessing.get_context("spawn")


class CacheContract:
    """A subclass gives a fixture `where` (URL or file), `cache`, and says how time passes."""

    SHORT_S: float

    def pass_short(self) -> None:
        """Let `SHORT_S` pass."""
        raise NotImplementedError

    def plant(self, cache: Cache, key: str, value: bytes) -> None:
        """Put a value there as another version might have."""
        raise NotImplementedError

    # Get and put

    def test_what_was_put_is_there(self, cache: Cache, where: str) -> None:
        assert cache.get(KEY) is None
        cache.put(KEY, answered("first"), HOUR_S)
        cache.put("other", answered("other"), HOUR_S)
        assert cache.get(KEY) == answered("first")
        cache.put(KEY, answered("second"), HOUR_S)
        assert cache.get(KEY) == answered("second")
        assert opened(where).get(KEY) == answered("second")
        cache.close()
        assert cache.get(KEY) == answered("second")

    @settings(
        max_examples=50,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,  # it forgets each answer itself
            HealthCheck.differing_executors,  # one for each kind of cache
            HealthCheck.too_slow,
        ],
    )
    @given(values(Response), st.text(min_size=1, max_size=70))
    def test_any_answer_survives(self, cache: Cache, response: Response, key: str) -> None:
        whole = response.model_copy(
            update={
                "finish_reasons": ("stop", "tool_call"),
                "refusal": None,
                "usage": response.usage.model_copy(update={"estimated": False}),
            }
        )
        cache.put(key, whole, HOUR_S)
        assert cache.get(key) == (whole if storable(whole) else None)
        assert cache.lead(key, HOUR_S) is None or not storable(whole)
        self.forget(cache, key)

    def forget(self, cache: Cache, key: str) -> None:
        self.plant(cache, key, b"{}")
        assert cache.get(key) is None

    def test_an_answer_expires(self, cache: Cache) -> None:
        cache.put(KEY, answered(), self.SHORT_S)
        assert cache.get(KEY) == answered()
        self.pass_short()
        assert cache.get(KEY) is None
        assert cache.lead(KEY, HOUR_S)

    @pytest.mark.parametrize("ttl_s", [0, -1])
    def test_an_answer_that_may_not_live_is_not_kept(self, cache: Cache, ttl_s: float) -> None:
        cache.put(KEY, answered(), ttl_s)
        assert cache.get(KEY) is None

    @pytest.mark.parametrize(
        "bad",
        [
            answered(finish_reasons=("length",)),
            answered(finish_reasons=("content_filter",)),
            answered(finish_reasons=("stop", "length")),
            answered(finish_reasons=()),
            answered(""),
            answered(refusal="no"),
            answered(usage=Usage(estimated=True)),
        ],
        ids=["cut", "filtered", "one cut", "no reason", "empty", "refused", "estimated"],
    )
    def test_what_is_not_whole_is_never_kept(self, cache: Cache, bad: Response) -> None:
        cache.put(KEY, bad, HOUR_S)
        assert cache.get(KEY) is None

    def test_calls_of_tools_are_kept(self, cache: Cache) -> None:
        call = ToolCall(id="1", name="look", arguments='{"at": "\u2028\U0001f600"}')
        response = answered(content=(call,), finish_reasons=("tool_call",))
        cache.put(KEY, response, HOUR_S)
        assert cache.get(KEY) == response

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"null",
            b"[1]",
            b"\x80\x04\x95",
            b'{"text": "as of version 1"}',
            answered().model_dump_json().replace("latency_ms", "latency").encode(),
            answered().model_dump_json()[:-9].encode(),
            answered(finish_reasons=("length",)).model_dump_json().encode(),
        ],
    )
    def test_what_cannot_be_read_back_is_a_miss_and_makes_room(
        self, cache: Cache, value: bytes
    ) -> None:
        self.plant(cache, KEY, value)
        assert cache.get(KEY) is None
        assert cache.lead(KEY, HOUR_S)
        cache.put(KEY, answered(), HOUR_S)
        assert cache.get(KEY) == answered()

    # One flight

    def test_one_leads_until_it_releases(self, cache: Cache, where: str) -> None:
        token = cache.lead(KEY, HOUR_S)
        assert token
        assert cache.lead(KEY, HOUR_S) is None
        assert opened(where).lead(KEY, HOUR_S) is None
        assert cache.lead("other", HOUR_S)
        cache.release(KEY, token)
        assert cache.lead(KEY, HOUR_S)

    def test_nobody_leads_where_the_answer_is(self, cache: Cache) -> None:
        # Who missed just before the answer came must not make the call again.
        token = cache.lead(KEY, HOUR_S)
        assert token
        assert cache.get(KEY) is None
        cache.put(KEY, answered(), HOUR_S)
        cache.release(KEY, token)
        assert cache.lead(KEY, HOUR_S) is None
        assert cache.get(KEY) == answered()

    def test_only_the_holder_releases(self, cache: Cache, where: str) -> None:
        token = cache.lead(KEY, HOUR_S)
        assert token
        opened(where).release(KEY, "")
        cache.release(KEY, token[::-1] + "x")
        cache.release("other", token)
        assert cache.lead(KEY, HOUR_S) is None

    def test_a_lease_expires_and_its_holder_cannot_release_the_next_one_s(
        self, cache: Cache
    ) -> None:
        first = cache.lead(KEY, self.SHORT_S)
        assert first
        self.pass_short()
        second = cache.lead(KEY, HOUR_S)
        assert second not in (None, first)
        cache.release(KEY, first)
        cache.release(KEY, first)
        assert cache.lead(KEY, HOUR_S) is None
        cache.release(KEY, second or "")
        assert cache.lead(KEY, HOUR_S)

    def test_of_many_threads_one_makes_the_call(self, cache: Cache) -> None:
        calls, together = list[int](), threading.Barrier(16)

        def ask_for_it(thread: int) -> Response:
            together.wait()

            def call() -> Response:
                calls.append(thread)
                return answered("one for all")

            return one_flight(cache, KEY, call)

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(ask_for_it, range(16)))
        assert answers == [answered("one for all")] * 16
        assert len(calls) == 1

    def test_when_the_call_fails_another_leads(self, cache: Cache) -> None:
        calls = list[str]()

        def call() -> Response:
            calls.append("called")
            if len(calls) < 3:
                raise ConnectionError("gone")
            return answered()

        def ask_for_it(_: int) -> Response | None:
            try:
                return one_flight(cache, KEY, call)
            except ConnectionError:
                return None

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(ask_for_it, range(8)))
        assert answers.count(None) == 2
        assert answers.count(answered()) == 6
        assert len(calls) == 3

    @pytest.mark.filterwarnings(
        "ignore:.*multi-threaded, use of fork:DeprecationWarning",  # Python 3.12 and later
        "ignore:Using fork:RuntimeWarning",
    )
    def test_parent_and_child_of_a_fork_share_it(self, cache: Cache) -> None:
        cache.put("before", answered("before"), HOUR_S)
        child = os.fork()
        if child == 0:
            status = 1
            signal.alarm(30)  # a child that hangs has failed
            try:
                assert cache.get("before") == answered("before")
                assert cache.lead(KEY, HOUR_S)
                for n in range(50):
                    cache.put(f"child {n}", answered(str(n)), HOUR_S)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        for n in range(50):
            cache.put(f"parent {n}", answered(str(n)), HOUR_S)
        assert os.waitpid(child, 0)[1] == 0
        assert cache.lead(KEY, HOUR_S) is None
        for n in range(50):
            assert cache.get(f"child {n}") == cache.get(f"parent {n}") == answered(str(n))


class ProcessesContract:
    """The same between processes; a subclass gives a fixture `where`."""

    def test_of_many_processes_one_makes_the_call(self, where: str, tmp_path: Path) -> None:
        calls, barrier = tmp_path / "calls", spawn.Barrier(4)
        children = [
            spawn.Process(target=ask, args=(where, calls, barrier), daemon=True) for _ in range(4)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(WITHIN_S)
        assert [child.exitcode for child in children] == [0] * 4
        assert calls.read_text() == "called\n" * 3  # one for each of the keys

    def test_a_holder_that_is_killed_is_followed_when_its_lease_ends(self, where: str) -> None:
        led = spawn.SimpleQueue()
        child = spawn.Process(target=lead_and_wait, args=(where, 0.5, led), daemon=True)
        child.start()
        token = led.get()
        assert token
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join(WITHIN_S)
        assert child.exitcode == -signal.SIGKILL
        cache = opened(where)
        assert until(lambda: cache.lead(KEY, HOUR_S)) != token
        cache.release(KEY, token)
        assert cache.lead(KEY, HOUR_S) is None

    def test_a_lease_of_a_dead_process_holds_until_its_end(self, where: str) -> None:
        led = spawn.SimpleQueue()
        child = spawn.Process(target=lead_and_wait, args=(where, HOUR_S, led), daemon=True)
        child.start()
        assert led.get()
        child.kill()
        child.join(WITHIN_S)
        assert opened(where).lead(KEY, HOUR_S) is None

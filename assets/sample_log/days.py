"""What the team asks, day by day, and what comes of it: each answer, each failure, each planted thing."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from random import Random
from typing import Any

from assets.sample_log import calls, causes, plan, words
from assets.sample_log.calls import ACTOR, Call, id_of
from assets.sample_log.causes import Cause
from assets.sample_log.plan import (
    ANSWER,
    DIGEST,
    FALLBACK,
    HARD,
    OWN,
    SEARCH,
    TRIAGE,
    Calendar,
    Feature,
)
from tracemill.events import (
    BatchCollected,
    BatchProgressed,
    BatchSubmitted,
    Happened,
    PromptLabelMoved,
    PromptVersionAdded,
)
from tracemill.llm.prompt_files import Prompt
from tracemill.messages import Message

_GOOD = 0.84
"""The share of answers that are judged good; of the worse version `_WORSE`."""
_WORSE = 0.6
_WRONG_TOOL = 0.07
"""The share of answers of the worse version that fail by looking for the order."""
_PAIRS = 7
"""Questions that are asked of both versions on each working day of the trial."""
_LOOP = 190
_IMPATIENT = 45
"""Calls of those who ask again while the service is overloaded."""
_CRASHES = (11, 33)


class Team:
    """The team over 60 days. State: what the cache holds, and why calls failed."""

    def __init__(self, days: Calendar, seed: int) -> None:
        self._days = days
        self._seed = seed
        self._cache: dict[str, str] = {}
        self.calls = 0
        self.causes: dict[str, str] = {}

    def events(self) -> Iterator[Happened]:
        """All events, not in order."""
        yield from self._registered()
        for n, day in enumerate(self._days.days):
            draw = self._drawing("day", day)
            for feature in (ANSWER, TRIAGE, SEARCH):
                for _ in range(plan.volume(draw, feature, day, self._days.first)):
                    yield from self._one(draw, feature, plan.moment(draw, day))
            yield from self._night(self._drawing("night", day), day)
            yield from self._side_by_side(self._drawing("pairs", day), day)
            if n in _CRASHES:
                yield from calls.crashed(self._triage(draw, plan.moment(draw, day), None))
        if self._days.cost_day:
            yield from self._loop(self._drawing("loop"), self._days.cost_day)
        if self._days.burst:
            yield from self._impatient(self._drawing("burst"), *self._days.burst)

    def _drawing(self, *what: object) -> Random:
        return Random(":".join(map(str, (self._seed, *what))))

    # What is asked

    def _one(self, draw: Random, feature: Feature, when: datetime) -> Iterator[Happened]:
        cause = causes.drawn(draw, feature.name)
        if feature is ANSWER:
            yield from self._conversation(draw, when, cause)
        elif feature is TRIAGE:
            call = self._triage(draw, when, cause)
            yield from self._ended(call, cause, words.triaged(draw))
        else:
            yield from self._search(draw, when, cause)

    def _conversation(
        self, draw: Random, when: datetime, cause: Cause | None
    ) -> Iterator[Happened]:
        """A question; of three one is followed by another, which is a call too."""
        prompt = self._version(draw, when.date())
        if cause is None and self._is_worse(prompt) and draw.random() < _WRONG_TOOL:
            cause = causes.TOOL
        asked = (cause and causes.asked(draw, cause)) or words.question(draw)
        call = self._asked(draw, when, prompt, asked)
        answer = words.answer(draw)
        if self._days.in_burst(when) and call.model == ANSWER.model and draw.random() < 0.8:
            yield from self._overloaded(call, answer)
            return
        yield from self._ended(call, cause, answer)
        if cause is None and draw.random() < 0.3:
            turns = (*call.messages, Message(role="assistant", content=answer))
            text = calls.rendered(prompt, team="Rill", question=words.question(draw))
            later = when + timedelta(seconds=draw.randrange(60, 400))
            again = self._call(
                draw, ANSWER, later, prompt, text, before=turns,
                user_id=call.user_id, conversation_id=call.conversation_id,
            )  # fmt: skip
            yield from self._ended(again, None, words.answer(draw))

    def _asked(self, draw: Random, when: datetime, prompt: Prompt, question: str) -> Call:
        model = {"provider": HARD[0], "model": HARD[1]} if draw.random() < 0.06 else {}
        return self._call(
            draw, ANSWER, when, prompt,
            calls.rendered(prompt, team="Rill", question=question),
            user_id=_user(draw), conversation_id=f"c-{draw.getrandbits(40):010x}", **model,
        )  # fmt: skip

    def _triage(self, draw: Random, when: datetime, cause: Cause | None) -> Call:
        ticket = (cause and causes.asked(draw, cause)) or words.question(draw)
        text = calls.rendered(words.TRIAGE, ticket=ticket)
        return self._call(draw, TRIAGE, when, words.TRIAGE, text)

    def _search(self, draw: Random, when: datetime, cause: Cause | None) -> Iterator[Happened]:
        pasted = self._days.in_drift(when.date()) and draw.random() < 0.7
        query = words.query(draw, pasted)
        query = (cause and causes.asked(draw, cause)) or query
        own = draw.random() < 0.06 and when.date() >= self._days.trial[0]
        model = {"provider": OWN[0], "model": OWN[1]} if own else {}
        text = calls.rendered(words.REWRITE, query=query)
        call = self._call(draw, SEARCH, when, words.REWRITE, text, user_id=_user(draw), **model)
        known = self._cache.get(text)
        if known and not own and cause is None and draw.random() < 0.5:
            yield calls.cached(call, known)
            return
        yield from self._ended(call, cause, f"rill {query.lower()[:60]}")
        if cause is None and not own:
            self._cache[text] = call.call_id

    def _version(self, draw: Random, day: date) -> Prompt:
        second = self._days.in_trial(day) and draw.random() < 0.5
        return words.ANSWER_2 if second else words.ANSWER_1

    def _is_worse(self, prompt: Prompt) -> bool:
        return self._days.worse and prompt is words.ANSWER_2

    def _call(
        self, draw: Random, feature: Feature, when: datetime, prompt: Prompt, text: str, **more: Any
    ) -> Call:
        self.calls += 1
        tags = {"team": feature.team, "feature": feature.name, **more.pop("tags", {})}
        asked = {"provider": feature.provider, "model": feature.model, **more}
        return Call(
            id_of(draw, when),
            when,
            feature,
            prompt=prompt,
            text=text,
            tags=tags,
            draw=draw,
            **asked,
        )

    # What comes of it

    def _ended(self, call: Call, cause: Cause | None, answer: str) -> Iterable[Happened]:
        if cause:
            return self._failed(call, cause)
        luck = call.draw.random() if call.feature is ANSWER else 1.0
        if luck < 0.006:
            self.causes[call.call_id] = causes.CUT.name
            return calls.aborted(call, answer, causes.CUT)
        if luck < 0.026:
            return calls.aborted(call, answer, None)
        ended = list(calls.answered(call, answer))
        if call.feature is ANSWER and call.draw.random() < 0.16:
            good = call.draw.random() < (_WORSE if self._is_worse(call.prompt) else _GOOD)
            ended.append(calls.judged(call, good, call.user_id, call.draw.randrange(30, 900)))
        return ended

    def _failed(self, call: Call, cause: Cause) -> Iterable[Happened]:
        self.causes[call.call_id] = cause.name
        if cause is causes.FILTER and call.draw.random() < 0.3:
            return calls.filtered(call)
        return calls.failed(call, cause)

    def _overloaded(self, call: Call, answer: str) -> Iterator[Happened]:
        """It fails, and half of the time another model answers in its place."""
        ended = list(self._failed(call, causes.OVERLOADED))
        yield from ended
        if call.draw.random() < 0.5:
            after = ended[-1].occurred_at + timedelta(milliseconds=5)
            instead = self._call(
                call.draw, ANSWER, after, call.prompt, call.text, provider=FALLBACK[0],
                model=FALLBACK[1], user_id=call.user_id,
                conversation_id=call.conversation_id, fallback_of=call.call_id,
            )  # fmt: skip
            yield from calls.answered(instead, answer)

    # What is not asked by customers

    def _registered(self) -> Iterator[Happened]:
        """The prompts, and the label that says which is in use."""
        draw, begin = self._drawing("prompts"), datetime.fromisoformat(f"{self._days.first}T01:00Z")
        trial = datetime.fromisoformat(f"{self._days.trial[0]}T01:00Z")
        for prompt in words.PROMPTS:
            second = prompt is words.ANSWER_2
            when, label = (trial, "candidate") if second else (begin, "production")
            about: dict[str, Any] = {"name": prompt.name, "actor": ACTOR, "version": prompt.version}
            yield PromptVersionAdded(
                **about, event_id=id_of(draw, when), occurred_at=when, template=prompt.template,
                system=prompt.system, variables=dict(prompt.variables),
                description=prompt.description,
            )  # fmt: skip
            when += timedelta(seconds=1)
            yield PromptLabelMoved(
                **about, event_id=id_of(draw, when), occurred_at=when, label=label
            )

    def _night(self, draw: Random, day: date) -> Iterator[Happened]:
        """The day's tickets are summed up in a batch, at half the price."""
        when = datetime.fromisoformat(f"{day}T02:00Z")
        batch = id_of(draw, when)
        asked = [
            self._digest(draw, when + timedelta(seconds=n), batch_id=batch)
            for n in range(plan.volume(draw, DIGEST, day, self._days.first))
        ]
        about: dict[str, Any] = {"batch_id": batch, "actor": ACTOR}
        of: dict[str, Any] = {"provider": DIGEST.provider, "request_model": DIGEST.model}
        ids = {f"ticket-{n}": call.call_id for n, call in enumerate(asked)}
        yield BatchSubmitted(**about, **of, calls=ids, event_id=id_of(draw, when), occurred_at=when)
        ends = [
            self._slept(call, when + timedelta(minutes=38, seconds=n))
            for n, call in enumerate(asked)
        ]
        failed = sum(call.call_id in self.causes for call in asked)
        yield from (event for end in ends for event in end)
        states: tuple[tuple[int, Any], ...] = ((1, "created"), (39, "ended"))
        for minutes, state in states:
            at = when + timedelta(minutes=minutes)
            yield BatchProgressed(
                **about, state=state, raw_state="completed" if state == "ended" else "validating",
                remote_id=f"batch_{batch[-12:]}", event_id=id_of(draw, at), occurred_at=at,
            )  # fmt: skip
        at = when + timedelta(minutes=42)
        yield BatchCollected(
            **about, finished=len(asked) - failed, failed=failed,
            event_id=id_of(draw, at), occurred_at=at,
        )  # fmt: skip

    def _slept(self, call: Call, ended: datetime) -> list[Happened]:
        cause = causes.drawn(call.draw, DIGEST.name)
        waited = 1000 * (ended - call.begun).total_seconds()
        return list(
            self._failed(call, cause)
            if cause
            else calls.answered(call, words.answer(call.draw), waited_ms=waited)
        )

    def _digest(self, draw: Random, when: datetime, **more: Any) -> Call:
        tickets = "\n".join(words.question(draw) for _ in range(3))
        text = calls.rendered(words.TRIAGE, ticket=f"Sum up these tickets:\n{tickets}")
        return self._call(draw, DIGEST, when, words.TRIAGE, text, **more)

    def _side_by_side(self, draw: Random, day: date) -> Iterator[Happened]:
        """Questions asked of both versions, and judged without saying which is which."""
        if not self._days.in_trial(day) or day.weekday() > 4:
            return
        for _ in range(_PAIRS):
            when, tester, question = (
                plan.moment(draw, day),
                draw.choice(plan.TESTERS),
                words.question(draw),
            )
            luck = draw.random()
            for prompt in (words.ANSWER_1, words.ANSWER_2):
                worse = self._is_worse(prompt)
                call = self._call(
                    draw, ANSWER, when, prompt,
                    calls.rendered(prompt, team="Rill", question=question),
                    user_id=tester, tags={"purpose": "side by side"},
                )  # fmt: skip
                if worse and draw.random() < _WRONG_TOOL:
                    yield from self._failed(call, causes.TOOL)
                    continue
                yield from calls.answered(call, words.answer(draw))
                # What is hard for one is hard for the other, mostly.
                own = luck if draw.random() < 0.6 else draw.random()
                yield calls.judged(call, own < (_WORSE if worse else _GOOD), tester, 600)

    def _loop(self, draw: Random, day: date) -> Iterator[Happened]:
        """A script asks the dearer model for the same digests over and over."""
        for _ in range(_LOOP):
            call = self._digest(
                draw, plan.moment(draw, day, 9, 17), provider=ANSWER.provider, model=ANSWER.model,
                more_tokens=6_000, tags={"purpose": "import"},
            )  # fmt: skip
            yield from calls.answered(call, words.answer(draw))

    def _impatient(self, draw: Random, begin: datetime, end: datetime) -> Iterator[Happened]:
        for _ in range(_IMPATIENT):
            when = begin + (end - begin) * draw.random()
            call = self._call(
                draw, ANSWER, when, words.ANSWER_1,
                calls.rendered(words.ANSWER_1, team="Rill", question=words.question(draw)),
                user_id=_user(draw), conversation_id=f"c-{draw.getrandbits(40):010x}",
            )  # fmt: skip
            answer = words.answer(draw)
            yield from (
                self._overloaded(call, answer)
                if draw.random() < 0.85
                else calls.answered(call, answer)
            )


def _user(draw: Random) -> str:
    """Few users ask much."""
    return f"u-{min(int(draw.expovariate(0.09)), plan.USERS - 1):02d}"

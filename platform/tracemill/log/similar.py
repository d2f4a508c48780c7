"""Past failures that are near to a call or to a text: the same error first, then the nearest prompts.

An index in memory, made at the first question and extended by what was appended since. It needs no
model and no network, and gives the same answer to the same question about the same log.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import os
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tracemill.errors import UsageError
from tracemill.log.followed import Followed
from tracemill.log.postings import Hashes, Postings, Rows, hashes_of, pairs_of

if TYPE_CHECKING:
    from tracemill.log.store import EventLog

MOST_FAILURES = 200_000
"""Only the latest are remembered, at about 2 KB each, 5 KB at most."""
MOST_CHARACTERS = 2_000
"""A prompt is compared by its beginning and its end, half of this each."""
SHOWN_CHARACTERS = 300
"""An answer gives so much of the prompt and of the error; the log has the rest."""
LIKE_AN_ERROR = 0.5
"""A text that is so similar to the words of an error is taken for that error."""
SAME = ("signature", "error_type", None)
"""What a found failure has in common with what was asked, besides words of the prompt; best first."""

_NOT_WANTED = len(SAME)
_PAGE_POSITIONS = 100_000
_BLOCK_FAILURES = 16_384
_CALL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_CUT = "CASE WHEN length({0}) > {most} THEN left({0}, {half}) || ' ' || right({0}, {half}) ELSE {0} END"
_WORDS = f"words_of({_CUT.format('prompt', most=MOST_CHARACTERS, half=MOST_CHARACTERS // 2)})"
_HASH = "CASE WHEN prompt <> '' THEN hash(prompt) END"
_FAILURES = f"""
    SELECT call_id, ended_at AS "when", provider || '/' || request_model AS model, status,
      error_type, left(error_message, {SHOWN_CHARACTERS}) AS error, signature,
      left(prompt, {SHOWN_CHARACTERS}) AS prompt, {_WORDS} AS words, {_HASH} AS prompt_hash, position
    FROM failures WHERE position > ? AND position <= ? ORDER BY position
"""  # noqa: S608
_SHOWN = ("call_id", "when", "model", "status", "error_type", "error", "signature", "prompt")
_STEPS = f"""
    SELECT position, substr(kind, 10) AS step, call_id, model, fallback_of, {_HASH} AS prompt,
      conversation_id, kind <> 'llm.call.started' AND kind <> 'llm.call.cached'
        AND (kind <> 'llm.call.finished' OR contains(payload, 'refusal')
          OR contains(payload, 'content_filter')) AS suspect
    FROM (
      SELECT *, substr(stream, 6) AS call_id, provider || '/' || request_model AS model,
        CASE WHEN kind IN ('llm.call.started', 'llm.call.cached')
          THEN prompt_of(payload -> '$.messages') END AS prompt,
        CASE WHEN kind = 'llm.call.started' THEN payload ->> '$.fallback_of' END AS fallback_of
      FROM events
      WHERE position > ? AND position <= ? AND kind LIKE 'llm.call.%' AND kind <> 'llm.call.retried'
    ) ORDER BY position
"""  # noqa: S608
_CALL = f"""
    SELECT {_WORDS} AS words FROM (
      SELECT prompt_of(max(payload -> '$.messages')) AS prompt FROM events WHERE stream = ?
      HAVING count(*) > 0
    )
"""  # noqa: S608
_TEXT = f"""
    SELECT {_WORDS} AS words, words_of(pattern_of(prompt)) AS error FROM (SELECT ?::VARCHAR AS prompt)
"""  # noqa: S608
_SIGNATURES = "SELECT words_of(signature) AS words FROM (SELECT unnest(?::VARCHAR[]) AS signature)"


class Error(NamedTuple):
    """A signature that occurs, and its class."""

    signature: str
    error_type: str


class Question(NamedTuple):
    """What is looked for."""

    words: Hashes
    """Hashes of the pairs of words in the prompt."""
    ranks: Rows
    """By number of the error: the place in `SAME`."""
    likeness: NDArray[np.float64]
    """By number of the error: how similar its words are to those of the text that was asked."""
    call_id: str | None = None
    """A call is not similar to itself."""


@dataclass(frozen=True)
class Block:
    """Some failures, in the order of the log."""

    shown: pa.Table
    postings: Postings
    errors: Rows
    """Number of each one's error."""

    def plus(self, other: "Block") -> "Block":
        """Both."""
        return Block(
            pa.concat_tables([self.shown, other.shown]).combine_chunks(),
            self.postings.plus(other.postings),
            np.concatenate([self.errors, other.errors]),
        )


class Failures:
    """The failures of one log, to be asked for the nearest; shared by threads."""

    def __init__(self, log: "EventLog") -> None:
        self._log = log
        self._lock = threading.Lock()
        self._erasures = 0
        self._begin_anew()
        _all.add(self)

    def nearest(self, text_or_call_id: str, n: int) -> pa.Table:
        """See `EventLog.find_similar_failures`."""
        asked = text_or_call_id.strip()
        if not asked:
            raise UsageError("nothing to compare with: give the id of a call, or some text")
        if n < 1:
            raise UsageError(f"n is how many failures to find, at least 1, not {n}")
        with self._lock:
            self._catch_up()
            is_call = _CALL_ID.fullmatch(asked)
            question = self._of_call(asked.lower()) if is_call else self._of_text(asked)
            return self._answer(question, n)

    def after_fork_in_child(self) -> None:
        """Whoever held the lock is not here, and may have been half-way through."""
        if self._lock.locked():
            self._begin_anew()
        self._lock = threading.Lock()

    # What there is

    def _begin_anew(self) -> None:
        self._seen = 0
        self._blocks: list[Block] = []
        self._errors: dict[Error, int] = {}
        self._errors_by_words: Postings | None = None
        self._followed = Followed()

    def _catch_up(self) -> None:
        end, erasures = self._log.position(), self._log.erasures
        # Another log may have taken the place of this one, and events may have been emptied.
        if end < self._seen or erasures != self._erasures:
            self._begin_anew()
        self._erasures = erasures
        try:
            while self._seen < end:
                upto = min(self._seen + _PAGE_POSITIONS, end)
                self._add(self._seen, upto)
                self._seen = upto
        except BaseException:
            self._begin_anew()
            raise

    def _add(self, after: int, upto: int) -> None:
        steps = self._log.arrow(_STEPS, [after, upto])
        suspect = pc.any(steps["suspect"]).as_py()
        # Asking costs more than anything else when there is little that is new.
        failed = self._log.arrow(_FAILURES, [after, upto]) if suspect else None
        if failed is not None and len(failed):
            self._blocks.append(self._block(failed))
            self._merge()
        self._follow(failed, steps)
        self._forget()

    def _block(self, failed: pa.Table) -> Block:
        columns = [failed[name].to_pylist() for name in ("signature", "error_type")]
        errors = [
            self._errors.setdefault(Error(*error), len(self._errors))
            for error in zip(*columns, strict=True)
        ]
        postings = Postings.of(pairs_of(failed["words"].combine_chunks()), len(failed))
        return Block(failed.select(_SHOWN), postings, np.array(errors, np.int32))

    def _merge(self) -> None:
        """As few blocks as can be had without doing the same work over and over."""
        while len(self._blocks) > 1:
            *_, one, last = self._blocks
            both = len(one.errors) + len(last.errors)
            if both > _BLOCK_FAILURES or len(one.errors) > 2 * len(last.errors):
                return
            self._blocks[-2:] = [one.plus(last)]

    def _follow(self, failed: pa.Table | None, steps: pa.Table) -> None:
        known = ([], []) if failed is None else _lists(failed, "position", "prompt_hash")
        prompts = dict(zip(*known, strict=True))
        for batch in steps.drop_columns("suspect").to_batches(max_chunksize=8_192):
            for position, step, call_id, model, fallback_of, prompt, conversation in zip(
                *(column.to_pylist() for column in batch.columns), strict=True
            ):
                if step in ("started", "cached"):
                    self._followed.started(
                        call_id,
                        model,
                        fallback_of=fallback_of,
                        prompt=prompt,
                        conversation=conversation,
                    )
                if step != "started":
                    self._followed.ended(call_id, step)
                if position in prompts:
                    self._followed.failed(call_id, prompts[position], conversation)

    def _forget(self) -> None:
        while sum(len(block.errors) for block in self._blocks[1:]) >= MOST_FAILURES:
            self._followed.forget(map(str, self._blocks.pop(0).shown["call_id"].to_pylist()))

    # What is asked

    def _of_call(self, call_id: str) -> Question:
        ranks = np.full(len(self._errors), 2, np.int32)
        likeness = np.zeros(len(ranks))
        for block in reversed(self._blocks):
            row = pc.index(block.shown["call_id"], call_id).as_py()
            if row >= 0:
                own = int(block.errors[row])
                ranks[self._of_type(list(self._errors)[own].error_type)] = 1
                ranks[own] = 0
                return Question(block.postings.hashes_in(row), ranks, likeness, call_id)
        found = self._log.arrow(_CALL, [f"call:{call_id}"])["words"].combine_chunks()
        if not len(found):
            raise UsageError(f"no call {call_id} in this log: `tracemill calls` lists the latest")
        return Question(hashes_of(found), ranks, likeness)

    def _of_text(self, text: str) -> Question:
        """The text may be a prompt, or an error that somebody has seen."""
        read = self._log.arrow(_TEXT, [text])
        words, error = (read[name].combine_chunks() for name in ("words", "error"))
        ranks = np.full(len(self._errors), 2, np.int32)
        ranks[self._of_type(text)] = 1
        likeness = self._likeness(hashes_of(error))
        if len(likeness) and (best := likeness.max()) >= LIKE_AN_ERROR:
            for number in np.flatnonzero(likeness == best):
                ranks[self._of_type(list(self._errors)[number].error_type)] = 1
            ranks[likeness == best] = 0
        return Question(hashes_of(words), ranks, likeness)

    def _of_type(self, error_type: str) -> list[int]:
        return [number for error, number in self._errors.items() if error.error_type == error_type]

    def _likeness(self, words: Hashes) -> NDArray[np.float64]:
        known = self._errors_by_words
        if known is None or len(known.sizes) < len(self._errors):
            # Only the message: its class is a word of ours, that no provider says.
            messages = [e.signature.removeprefix(f"{e.error_type}: ") for e in self._errors]
            found = self._log.arrow(_SIGNATURES, [messages])["words"].combine_chunks()
            known = self._errors_by_words = Postings.of(pairs_of(found), len(messages))
        return known.similarities(words)

    # What is answered

    def _answer(self, question: Question, n: int) -> pa.Table:
        ranks = [self._ranks(block, question) for block in self._blocks]
        counts = np.bincount(np.concatenate([*ranks, []]).astype(int), minlength=len(SAME) + 1)
        reached = np.flatnonzero(np.cumsum(counts[: len(SAME)]) >= n)
        last = int(reached[0]) if len(reached) else len(SAME) - 1
        found: list[tuple[int, float, int, int]] = []
        least = 0.0
        for number, (block, rank) in enumerate(zip(self._blocks, ranks, strict=True)):
            rows, similar = block.postings.nearest(
                question.words, n, among=rank == last, always=rank < last, least=least
            )
            order = np.lexsort((-rows, -similar, rank[rows]))[:n]
            found += [
                (int(rank[rows[i]]), -float(similar[i]), -number, -int(rows[i])) for i in order
            ]
            found = sorted(found)[:n]
            if len(found) == n and found[-1][0] == last:
                least = max(least, min(-f[1] for f in found if f[0] == last))
        return self._shown(found, question)

    def _ranks(self, block: Block, question: Question) -> Rows:
        ranks = question.ranks[block.errors]
        if question.call_id is not None:
            own = pc.index(block.shown["call_id"], question.call_id).as_py()
            if own >= 0:
                ranks[own] = _NOT_WANTED
        return ranks

    def _shown(self, found: list[tuple[int, float, int, int]], question: Question) -> pa.Table:
        rows = [self._blocks[-block].shown.slice(-row, 1) for _, _, block, row in found]
        shown = pa.concat_tables([_NOTHING, *rows])
        similar = [self._likeness_of(f, question) or -f[1] for f in found]
        followed = [self._followed.next_of(str(call)) for call in shown["call_id"].to_pylist()]
        return pa.Table.from_pydict(
            {
                "similarity": pa.array(similar, pa.float64()),
                "same": pa.array([SAME[f[0]] for f in found], pa.string()),
                **{name: shown[name] for name in _SHOWN},
                "next": pa.array(followed, _NEXT),
            }
        )

    def _likeness_of(self, found: tuple[int, float, int, int], question: Question) -> float:
        """How much the asked text is this failure's error; 0 where it is something else."""
        rank, _, block, row = found
        return 0.0 if rank else float(question.likeness[self._blocks[-block].errors[-row]])


_NEXT = pa.struct([(name, pa.string()) for name in ("how", "call_id", "model", "status")])
_NOTHING = pa.schema(
    [(name, pa.timestamp("us", tz="UTC") if name == "when" else pa.string()) for name in _SHOWN]
).empty_table()


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


_all: WeakSet[Failures] = WeakSet()


def _after_fork_in_child() -> None:
    for failures in _all:
        failures.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)

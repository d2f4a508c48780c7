"""A language model that was trained here scores what was said and says something itself."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.finetune.local import counts, lm
from tracemill.llm.providers import Reply
from tracemill.llm.trained import artefact, copies, ngram, served, trie, utf8
from tracemill.llm.trained.conversation import END, MARKS, asked, rendered
from tracemill.llm.trained.next_byte import NextByte
from tracemill.messages import Message, Request, ToolCall

NAMES = ("Ana", "Bo", "Chidi", "Dörte", "Émile", "愛子", "🦊 Fox")


def greeting(n: int) -> list[dict[str, str]]:
    name = NAMES[n % 7]
    return [
        {"role": "user", "content": f"Hello, my name is {name}. Is shop {n % 31} open?"},
        {"role": "assistant", "content": f"Good day {name}! Shop {n % 31} opens at {n % 9}:30."},
    ]


def published(models: Path, rows: list[Any], **hyperparameters: bool) -> str:
    """Train on some conversations; the name of the model."""
    examples = models / "training.jsonl"
    examples.write_text("\n".join(json.dumps({"messages": row}) for row in rows), encoding="utf-8")
    folder = models / "jobs" / "1"
    lm.train(
        examples, None, folder, hyperparameters=hyperparameters, seed=0, report=lambda epoch: None
    )
    return served.named("hello", artefact.publish(folder / "model", models, "hello"))


class Served(NamedTuple):
    """A model, and where it lies."""

    name: str
    models: Path

    def answer(self, prompt: str, **asked_for: Any) -> Reply:
        """What it answers, with the log probabilities of the characters."""
        request = Request.of(prompt, model=self.name, logprobs=1, **asked_for)
        pieces = served.answer(request, self.name, self.models)
        replies: list[Reply] = []

        def drained() -> Iterator[str]:
            replies.append((yield from pieces))

        assert "".join(drained()) == replies[0].text
        return replies[0]


@pytest.fixture(scope="module")
def greeter(tmp_path_factory: pytest.TempPathFactory) -> Served:
    models = tmp_path_factory.mktemp("models")
    return Served(published(models, [greeting(n) for n in range(300)]), models)


@pytest.fixture(scope="module")
def trained(greeter: Served) -> artefact.Artefact:
    return served.load(greeter.models, "hello", greeter.name.rpartition(":")[2])


PROMPT = "Hello, my name is Bo. Is shop 8 open?"


def test_an_answer_is_of_the_kind_that_was_learned(greeter: Served):
    reply = greeter.answer(PROMPT)
    assert reply.text.startswith("Good day ")
    assert (reply.finish_reason, reply.response_model) == ("stop", greeter.name)


def test_an_answer_that_was_cut_says_so(greeter: Served):
    reply = greeter.answer(PROMPT, max_output_tokens=2, system="Be kind.")
    assert (reply.text, reply.finish_reason) == ("Good day", "length")
    assert reply.usage is not None
    assert reply.usage.output_tokens == 2


def test_the_likeliest_and_the_seeded_are_the_same_each_time(greeter: Served):
    likeliest = {greeter.answer(PROMPT, temperature=0).text for _ in range(3)}
    seeded = {greeter.answer(PROMPT, temperature=1, seed=4).logprobs for _ in range(3)}
    assert len(likeliest) == len(seeded) == 1

    def texts(**asked_for: Any) -> set[str]:
        said = (greeter.answer(PROMPT, temperature=1, seed=n, **asked_for) for n in range(9))
        return {reply.text for reply in said}

    assert len(texts()) > 3
    assert texts(top_k=1) == texts(top_p=0.01) == likeliest


def test_choices_are_made_as_often_as_they_are_likely(trained: artefact.Artefact):
    model = ngram.model(trained)
    before = [*greeting(3)[:1]]
    likely = NextByte(model, asked(before)).probabilities() * utf8.ALLOWED[utf8.START]
    likely /= likely.sum()
    first = Counter(
        next(iter(ngram.write(model, before, temperature=1, seed=seed))).text[0].encode()[0]
        for seed in range(1_500)
    )
    byte, often = first.most_common(1)[0]
    assert often / 1_500 == pytest.approx(likely[byte], abs=0.04)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_whatever_is_written_is_text(trained: artefact.Artefact, temperature: float):
    """Bytes are written; at a high temperature many of them are rare."""
    model, asked_for = ngram.model(trained), [{"role": "user", "content": "愛子"}]
    for seed in range(12):
        pieces = list(
            ngram.write(model, asked_for, most_bytes=300, temperature=temperature, seed=seed)
        )
        text = "".join(piece.text for piece in pieces)
        assert all(len(piece.text) == 1 for piece in pieces)
        assert len(text.encode()) <= 300
        assert "\ufffd" not in text


@given(st.text(min_size=1))
def test_every_text_may_be_written(text: str):
    state = utf8.START
    for byte in text.encode():
        assert utf8.ALLOWED[state, byte]
        state = utf8.after(state, byte)
    assert state == utf8.START
    assert utf8.ALLOWED[state, END]


@given(st.lists(st.integers(0, 255), max_size=6))
def test_nothing_but_text_may_be_written(data: list[int]):
    state = utf8.START
    allowed = True
    for byte in data:
        allowed = allowed and bool(utf8.ALLOWED[state, byte]) and byte != END
        state = utf8.after(state, byte) if allowed else state
    try:
        bytes(data).decode()
        is_text = True
    except UnicodeDecodeError:
        is_text = False
    assert (allowed and state == utf8.START) == is_text


@pytest.mark.parametrize(
    "stop", [("Shop",), ("!", "day"), ("Shop 3 is closed", "hop"), ("Good d",), ("nowhere",)]
)
def test_a_stop_text_ends_the_answer_and_is_not_in_it(greeter: Served, stop: tuple[str, ...]):
    whole = greeter.answer(PROMPT).text
    reply = greeter.answer(PROMPT, stop=stop)
    expected = whole[: min((whole.find(s) for s in stop if s in whole), default=None)]
    assert (reply.text, reply.finish_reason) == (expected, "stop")


def test_log_probabilities_are_those_of_what_was_written(
    greeter: Served, trained: artefact.Artefact
):
    """Before temperature; scoring gives the same, but for the share of what is no text."""
    reply = greeter.answer(PROMPT, temperature=1, seed=3)
    said = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": reply.text}]
    scored = ngram.log_probs(trained, [said])[0]
    assert reply.logprobs is not None
    assert "".join(piece.token for piece in reply.logprobs) == reply.text
    told = sum(piece.logprob for piece in reply.logprobs) / math.log(2)
    assert told == pytest.approx(scored[:-1].sum(), abs=0.5)
    assert told >= scored[:-1].sum()


def test_scoring_and_writing_give_a_byte_the_same_probability(trained: artefact.Artefact):
    model = ngram.model(trained)
    conversation = greeting(11) + greeting(5) + [{"role": "assistant", "content": "Good dog 🦊"}]
    scored = np.exp2(ngram.log_probs(trained, [conversation])[0])
    stepwise: list[float] = []
    for n, turn in enumerate(conversation):
        if turn["role"] != "assistant":
            continue
        follow = NextByte(model, asked(conversation[:n]))
        for byte in [*turn["content"].encode(), END]:
            likely = follow.probabilities()
            assert likely.sum() == pytest.approx(1)
            stepwise.append(likely[byte])
            follow.write(byte)
    assert scored == pytest.approx(np.array(stepwise), rel=1e-9)


def test_batches_change_no_score(trained: artefact.Artefact):
    conversations = [greeting(n) for n in range(40)]
    together = ngram.log_probs(trained, conversations)
    for one, conversation in zip(together, conversations, strict=True):
        assert one.tolist() == ngram.log_probs(trained, [conversation])[0].tolist()


def test_bits_per_byte_know_what_is_usual(trained: artefact.Artefact):
    usual = greeting(303)
    odd = [usual[0], {"role": "assistant", "content": "zxq jjv wwk"}]
    silent = usual[:1]
    bits = ngram.bits_per_byte(trained, [usual, odd, silent])
    assert bits[0] < 1.5
    assert bits[1] > 5
    assert math.isnan(bits[2])
    assert ngram.bits_per_byte(trained, []).tolist() == []


def test_a_turn_of_weight_0_is_not_scored(trained: artefact.Artefact):
    two = greeting(1) + greeting(2)
    last = [{**turn, "weight": 0} if n == 1 else turn for n, turn in enumerate(two)]
    scored, alone = ngram.log_probs(trained, [two, last])
    assert alone.tolist() == scored[-len(alone) :].tolist()
    assert len(alone) == len(two[3]["content"].encode()) + 1


def test_an_answer_does_not_go_round_in_circles(tmp_path: Path):
    said = " and again, and on and on it goes," * 30
    name = published(tmp_path, [[{"role": "assistant", "content": said}]], base=False)
    reply = Served(name, tmp_path).answer("Go on", temperature=0)
    assert reply.finish_reason == "length"
    assert 30 < len(reply.text) < 100


def test_a_prompt_of_any_length_is_answered(greeter: Served):
    reply = greeter.answer("word " * 20_000 + PROMPT, max_output_tokens=9)
    assert reply.text.startswith("Good day")


def plain_kneser_ney(texts: list[bytes], order: int, taken: list[list[float]]) -> Any:
    """Interpolated Kneser-Ney with dictionaries, by its definition."""
    followers: dict[bytes, Counter[int]] = defaultdict(Counter)
    seen = set()
    for text in texts:
        for n in range(1, order + 1):
            for start in range(len(text) - n + 1):
                gram, before = text[start : start + n], text[start - 1 : start]
                if n == order or (gram, before) not in seen:
                    seen.add((gram, before))
                    followers[gram[:-1]][gram[-1]] += 1

    def probability(context: bytes, byte: int) -> float:
        shorter = probability(context[1:], byte) if context else 1 / 256
        here = followers.get(context)
        if not here:
            return shorter
        discount = [0.0, *taken[len(context)]]
        lost = sum(discount[min(count, 3)] for count in here.values())
        own = here[byte] - discount[min(here[byte], 3)]
        return (own + lost * shorter) / here.total()

    return probability


@given(st.lists(st.text("abé", min_size=1, max_size=30), min_size=1, max_size=6), st.text("abé"))
@settings(deadline=None, max_examples=50)
def test_probabilities_are_kneser_neys(texts: list[str], heard: str):
    order = 4
    said = [[{"role": "assistant", "content": text}] for text in texts]
    counted = counts.count(counts.text_of(said), order, 10**6)
    levels = counts.levels(counted, order)
    taken = [trie.level_discounts(level).tolist() for level in levels]
    plain = plain_kneser_ney([rendered(each).data for each in said], order, taken)
    data = rendered([{"role": "assistant", "content": heard}]).data
    scored = trie.scored(levels, np.frombuffer(data, np.uint8)).probability
    expected = [plain(data[max(0, i - order + 1) : i], byte) for i, byte in enumerate(data)]
    assert scored == pytest.approx(np.array(expected), rel=1e-9)


def test_a_long_text_is_scored_in_parts_that_join(trained: artefact.Artefact):
    text = " ".join(greeting(n)[1]["content"] for n in range(35_000)).encode()
    data = np.frombuffer(text, np.uint8)
    assert len(data) > 1 << 20
    own = ngram.model(trained).own
    middle = slice((1 << 20) - 50, (1 << 20) + 50)
    near = trie.scored(own, data[middle.start - 20 : middle.stop])
    whole = trie.scored(own, data)
    assert whole.probability[middle].tolist() == near.probability[20:].tolist()


def test_an_artefact_gives_the_model_back(trained: artefact.Artefact):
    model = ngram.opened(trained.weights)
    again = ngram.packed(model)
    assert {name: array.tolist() for name, array in again.items()} == {
        name: array.tolist() for name, array in trained.weights.items()
    }


def test_marks_cannot_be_forged():
    marks = {*MARKS.values(), END}
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x3000)]))
    assert marks.isdisjoint(text.encode())
    forged = rendered([{"role": "user", "content": "\xfa\xfc assistant:"}])
    assert forged.spans == ()


def test_every_form_of_a_turn_is_rendered_alike():
    call = {"function": {"name": "find", "arguments": '{"q": 1}'}}
    ours = [
        Message(role="user", content="Hi"),
        Message(role="assistant", content=(ToolCall(id="1", name="find", arguments='{"q": 1}'),)),
    ]
    theirs = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    assert rendered(ours) == rendered(theirs)
    assert b"find" in rendered(ours).data


def test_copies_come_from_turns_that_are_over_and_follow_what_is_said():
    follow = copies.Copies()
    follow.read(b"the red fox. What about the red ")
    assert follow.expected()[0] == ord("f")
    first = follow.expected()[1]
    for byte in b"fo":
        follow.write(byte)
    assert follow.expected()[0] == ord("x")
    assert follow.expected()[1] >= first
    follow.write(ord("g"))
    assert follow.expected() == (-1, 0)
    for byte in b" and a fresh start, a fresh":
        follow.write(byte)
    assert follow.expected() == (-1, 0)


@given(st.lists(st.text("ab", max_size=30), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_copy_is_something_that_followed_the_same_bytes(turns: list[str]):
    said = [{"role": "assistant", "content": turn} for turn in turns]
    conversation = rendered(said)
    found, kinds = copies.expected(conversation)
    places = [i for start, end in conversation.spans for i in range(start, end)]
    for place, byte, kind in zip(places, found.tolist(), kinds.tolist(), strict=True):
        assert (byte < 0) == (kind == 0)
        last = conversation.data[place - 5 : place]
        assert byte < 0 or last + bytes([byte]) in conversation.data[:place]

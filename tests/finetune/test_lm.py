"""Language models learn here: exact counts, honest losses, the same bytes after any interruption."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.errors import InputError, UsageError
from tracemill.finetune.local import Epoch, Trained, counts, lm
from tracemill.finetune.local.python_help import base
from tracemill.llm.trained import artefact, ngram, trie
from tracemill.llm.trained.conversation import BREAK

CITIES = ("Lisbon", "Oslo", "Quito", "Hanoi", "Accra", "Turin", "Minsk", "Perth")
DISHES = ("soup", "rice", "bread", "noodles", "beans")


def dialogue(n: int) -> list[dict[str, str]]:
    """One of many short dialogues about food."""
    city, dish = CITIES[n % 8], DISHES[n * 7 % 5]
    return [
        {"role": "user", "content": f"Where in {city} is there {dish} for {n % 9 + 2} people?"},
        {"role": "assistant", "content": f"The {dish} house in {city} has room for you."},
        {"role": "user", "content": "How do I get there?"},
        {"role": "assistant", "content": f"Take tram {n % 13} from {city} central station."},
    ]


def write(path: Path, conversations: list[list[dict[str, str]]]) -> Path:
    rows = (json.dumps({"messages": each}, ensure_ascii=False) for each in conversations)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def training(tmp_path: Path) -> Path:
    return write(tmp_path / "training.jsonl", [dialogue(n) for n in range(150)])


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    return write(tmp_path / "validation.jsonl", [dialogue(n) for n in range(150, 190)])


def trained(
    training: Path, validation: Path | None, folder: Path, resume: bool = False, **asked: Any
) -> tuple[Trained, list[Epoch]]:
    epochs: list[Epoch] = []
    result = lm.train(
        training,
        validation,
        folder,
        hyperparameters={"base": False, **asked},
        seed=0,
        report=epochs.append,
        resume=resume,
    )
    return result, epochs


def only(folder: Path) -> artefact.Artefact:
    return artefact.load(folder / "model")


TEXTS = st.lists(st.binary(min_size=1, max_size=40).map(lambda b: bytes(x % 5 for x in b)))


def text_of(texts: list[bytes]) -> np.ndarray:
    mark = bytes([BREAK])
    joined = mark + b"".join(text + mark for text in texts) + counts.PADDING
    return np.frombuffer(joined, np.uint8)


def grams_by_name(counted: counts.Counted) -> dict[bytes, tuple[int, int]]:
    """Each n-gram with how often it occurs and after how many different bytes."""
    named, before = {}, [b""]
    for level in counted.levels:
        names = [before[p] + bytes([b]) for p, b in zip(level.parents, level.labels, strict=True)]
        both = zip(level.raw.tolist(), level.after.tolist(), strict=True)
        named |= dict(zip(names, both, strict=True))
        before = names
    return named


def counted_plainly(texts: list[bytes], order: int) -> dict[bytes, tuple[int, int]]:
    raw: Counter[bytes] = Counter()
    after: dict[bytes, set[bytes]] = defaultdict(set)
    for text in texts:
        for n in range(1, order + 1):
            for start in range(len(text) - n + 1):
                gram = text[start : start + n]
                raw[gram] += 1
                after[gram].add(text[start - 1 : start] or b"break")
    return {gram: (raw[gram], len(after[gram])) for gram in raw}


@given(TEXTS.filter(bool), st.integers(1, 12), st.sampled_from([3, 50, 10**6]))
@settings(deadline=None, max_examples=60)
def test_counts_are_those_of_plain_python(texts: list[bytes], order: int, at_once: int):
    counted = counts.count(text_of(texts), order, 10**6, at_once)
    assert grams_by_name(counted) == counted_plainly(texts, order)


@given(TEXTS.filter(bool), st.integers(0, 200), st.sampled_from([30, 10**6]))
@settings(deadline=None, max_examples=40)
def test_what_is_rare_goes_first_and_is_still_summed(texts: list[bytes], most: int, at_once: int):
    texts = texts * 3
    counted = counts.count(text_of(texts), 9, most, at_once)
    whole = counted_plainly(texts, 9)
    kept = {g: both for g, both in whole.items() if both[0] >= counted.least[len(g)]}
    assert grams_by_name(counted) == kept
    for n in range(2, 10):
        level = counted.levels[n - 1]
        missing = level.pruned.sum(axis=0).tolist()
        contexts = {g for g in kept if len(g) == n - 1}
        gone = [b for g, b in whole.items() if len(g) == n and g not in kept and g[:-1] in contexts]
        assert missing == [sum(b[0] for b in gone), sum(b[1] for b in gone)]


def test_longer_ngrams_then_a_learned_mixture_make_the_loss_fall(
    training: Path, validation: Path, tmp_path: Path
):
    result, epochs = trained(training, validation, tmp_path / "job")
    losses = [epoch.metrics["validation_loss"] for epoch in epochs]
    assert losses[:-3] == sorted(losses[:-3], reverse=True)
    assert losses[0] > 4
    assert losses[-1] < 0.8
    assert [epoch.step for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert result.metrics["validation_bits_per_byte"] == losses[-1]
    assert result.metrics["validation_perplexity"] == 2 ** losses[-1]
    said = [turn["content"] for n in range(150) for turn in dialogue(n)[1::2]]
    assert result.trained_tokens == sum(len(text) + 1 for text in said)
    for epoch in epochs:
        assert (tmp_path / "job" / "checkpoints" / epoch.checkpoint).exists()


def test_the_loss_that_is_told_is_that_of_the_model(
    training: Path, validation: Path, tmp_path: Path
):
    result, _ = trained(training, validation, tmp_path / "job")
    told = [dialogue(n) for n in range(151, 190, 2)]
    logs = np.concatenate(ngram.log_probs(only(tmp_path / "job"), told))
    assert -logs.mean() == pytest.approx(result.metrics["validation_loss"], abs=1e-9)


def test_training_stops_where_longer_ngrams_gain_nothing(tmp_path: Path):
    texts = ["ab" * 30, "ba" * 30]
    rows = [[{"role": "assistant", "content": texts[n % 2]}] for n in range(60)]
    path = write(tmp_path / "training.jsonl", rows)
    result, epochs = trained(path, path, tmp_path / "job")
    assert len(epochs) < epochs[0].total_steps
    assert result.metrics["order"] < 12


class Killed(Exception):
    """Stands for a kill -9 once a checkpoint is on the disk."""


def test_a_training_that_was_killed_after_any_epoch_gives_the_same_bytes(
    training: Path, validation: Path, tmp_path: Path
):
    _, epochs = trained(training, validation, tmp_path / "whole")
    whole = only(tmp_path / "whole").digest

    def killed_after(step: int) -> str:
        folder = tmp_path / f"killed-{step}"

        def report(epoch: Epoch) -> None:
            if epoch.step == step:
                raise Killed

        with pytest.raises(Killed):
            lm.train(
                training, validation, folder,
                hyperparameters={"base": False}, seed=0, report=report, resume=True,
            )  # fmt: skip
        _, rest = trained(training, validation, folder, resume=True)
        assert [epoch.step for epoch in rest] == list(range(step + 1, len(epochs) + 1))
        assert rest == epochs[step:]
        return only(folder).digest

    assert {killed_after(step) for step in range(1, len(epochs) + 1)} == {whole}


def test_checkpoints_of_other_examples_are_not_gone_on_from(
    training: Path, validation: Path, tmp_path: Path
):
    trained(training, validation, tmp_path / "job")
    other = write(tmp_path / "other.jsonl", [dialogue(n) for n in range(7)])
    _, epochs = trained(other, validation, tmp_path / "job", resume=True)
    assert epochs[0].step == 1
    trained(other, validation, tmp_path / "fresh")
    assert only(tmp_path / "job").digest == only(tmp_path / "fresh").digest


def test_without_a_file_for_it_every_twentieth_example_is_watched(training: Path, tmp_path: Path):
    _, epochs = trained(training, None, tmp_path / "job")
    assert "validation_loss" in epochs[-1].metrics
    # They are not learned from: the same as if they had been in a file of their own.
    learned = [dialogue(n) for n in range(150) if n % 20]
    watched = [dialogue(n) for n in range(150) if not n % 20]
    trained(
        write(tmp_path / "l.jsonl", learned), write(tmp_path / "w.jsonl", watched), tmp_path / "two"
    )
    assert _weights(only(tmp_path / "job")) == _weights(only(tmp_path / "two"))


def _weights(model: artefact.Artefact) -> dict[str, list[float]]:
    return {name: array.tolist() for name, array in model.weights.items()}


@pytest.mark.parametrize(
    "said",
    [
        ["one row"],
        [""],
        [bytes(range(256)).decode("latin-1")],
        ["🙂🙃👩‍👩‍👧 " * 5, "好的,我明白了。" * 9, "\x00\x01\ufffd\U0010ffff"],
        ["a" * 300_000],
    ],
    ids=["one row", "no words", "all bytes", "emoji and Chinese", "a long run"],
)
def test_any_text_can_be_learned(said: list[str], tmp_path: Path):
    rows = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": s}] for s in said]
    trained(write(tmp_path / "training.jsonl", rows), None, tmp_path / "job")
    model = ngram.model(only(tmp_path / "job"))
    text = "".join(piece.text for piece in ngram.write(model, rows[0][:1], most_bytes=400))
    assert said[0][:30] in text or text in said[0]
    assert np.isfinite(ngram.bits_per_byte(only(tmp_path / "job"), [*rows, rows[0][:1]])[:-1]).all()


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_nothing_to_learn_from_is_said(content: str, tmp_path: Path):
    path = tmp_path / "training.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"training\.jsonl: the assistant says nothing"):
        trained(path, None, tmp_path / "job")
    assert not list((tmp_path / "job").rglob("*.tmp"))


@pytest.mark.parametrize("line", ["[]", "{", '{"messages": 7}', '{"messages": [{"role": "x"}]}'])
def test_a_line_that_is_no_conversation_is_named(line: str, tmp_path: Path):
    path = write(tmp_path / "training.jsonl", [dialogue(1)])
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"training\.jsonl: line 2 is no conversation"):
        trained(path, None, tmp_path / "job")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"layers": 3}, "no hyperparameter 'layers': it has order, passes, megabytes, base"),
        ({"order": 13}, "order is a whole number from 1 to 12, not 13"),
        ({"order": True}, "order is a whole number"),
        ({"passes": 0}, "passes is a whole number from 1"),
        ({"megabytes": 100}, "megabytes is a number from 2 to 20, not 100"),
        ({"base": "yes"}, "base is true or false, not 'yes'"),
    ],
)
def test_hyperparameters_that_cannot_be_are_told(
    asked: dict[str, Any], said: str, training: Path, tmp_path: Path
):
    with pytest.raises(UsageError, match=said):
        trained(training, None, tmp_path / "job", **asked)


def test_a_model_keeps_to_its_size_and_gives_up_little_for_it(tmp_path: Path):
    draw = np.random.default_rng(1)
    words = ["".join(map(chr, draw.integers(97, 123, draw.integers(2, 9)))) for _ in range(4_000)]
    ranks = np.minimum(draw.zipf(1.3, (700, 100)), 4_000) - 1
    rows = [[{"role": "assistant", "content": " ".join(words[i] for i in row)}] for row in ranks]
    path = write(tmp_path / "training.jsonl", rows[50:])
    watched = write(tmp_path / "validation.jsonl", rows[:50])
    small, _ = trained(path, watched, tmp_path / "small", megabytes=2)
    large, _ = trained(path, watched, tmp_path / "large", megabytes=20)
    assert artefact.size_bytes(tmp_path / "small" / "model") < 2_000_000
    counted = [
        next((tmp_path / name).rglob("counts-*")).stat().st_size for name in ("small", "large")
    ]
    assert counted[0] < counted[1] / 2
    assert small.metrics["validation_loss"] < large.metrics["validation_loss"] + 0.05


def test_the_base_is_kept_and_named_and_has_its_say(
    training: Path, validation: Path, tmp_path: Path
):
    folder = tmp_path / "jobs" / "1"
    result, _ = trained(training, validation, folder, base=True)
    kept = base(tmp_path)
    assert only(folder).about["base"] == {"name": "python-help", "digest": kept.digest}
    assert artefact.folder_of(tmp_path, "python-help", kept.digest).is_dir()
    assert base(None).digest == kept.digest
    logs = ngram.log_probs(kept, [dialogue(n) for n in range(151, 190, 2)])
    assert -np.concatenate(logs).mean() == pytest.approx(result.metrics["base_bits_per_byte"])
    # What no dialogue says, the base knows better.
    alone, _ = trained(training, validation, tmp_path / "alone")
    python = [[{"role": "assistant", "content": "The statement raises an exception if the name"}]]
    helped, unhelped = (
        ngram.bits_per_byte(only(place), python)[0] for place in (folder, tmp_path / "alone")
    )
    assert helped < unhelped - 0.5
    assert result.metrics["validation_loss"] < alone.metrics["validation_loss"] + 0.01


def test_what_was_said_before_is_expected_to_come_again(
    training: Path, validation: Path, tmp_path: Path
):
    trained(training, validation, tmp_path / "job")
    named = dialogue(3)
    named = [{**t, "content": t["content"].replace("Hanoi", "Zvolenburgh")} for t in named]
    unnamed = [{**named[0], "content": "Where is there bread?"}, *named[1:]]
    heard, unheard = ngram.bits_per_byte(only(tmp_path / "job"), [named, unnamed])
    assert heard < unheard - 0.15


def test_a_model_holds_no_count_that_the_trie_cannot_say():
    counted = np.array([0, 1, 127, 128, 1_000, 10**9, 10**12])
    decoded = trie.COUNTS[trie.coded(counted)]
    assert decoded[:3].tolist() == [0, 1, 127]
    assert (decoded <= np.maximum(counted, 1)).all()
    assert decoded[3:6] == pytest.approx([128, 1_000, 10**9], rel=0.13)

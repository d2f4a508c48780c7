"""Classifiers that are trained here: what they learn, that it is the same each time, what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.finetune.labelled_made import WORDS, orders, write
from tracemill.errors import InputError, UsageError
from tracemill.finetune.local import Epoch, Trained
from tracemill.finetune.local.classify import train
from tracemill.llm.trained import artefact, classifier
from tracemill.llm.trained.classifier import Classifier, Shown


class Stopped(Exception):
    """Somebody stops the training."""


def trained(
    folder: Path,
    training: Path,
    validation: Path | None = None,
    *,
    report: Callable[[Epoch], None] = lambda _: None,
    seed: int = 3,
    resume: bool = False,
    **asked: Any,
) -> Trained:
    asked = {"epochs": 4} | asked
    return train(
        training, validation, folder, hyperparameters=asked, seed=seed, report=report, resume=resume
    )


def loaded(folder: Path) -> Classifier:
    return Classifier(artefact.load(folder / "model"))


def answers(folder: Path, *texts: str) -> list[str]:
    model = loaded(folder)
    logs = model.log_probs([Shown(text, "") for text in texts])
    return [model.labels[best] for best in logs.argmax(axis=1)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return (
        write(tmp_path / "training.jsonl", orders(300, 1)),
        write(tmp_path / "validation.jsonl", orders(60, 2)),
    )


def test_it_learns_what_the_labels_are_about(files: tuple[Path, Path], tmp_path: Path):
    epochs: list[Epoch] = []
    done = trained(tmp_path / "job", *files, report=epochs.append)
    assert answers(tmp_path / "job", "a hinge for the forge", "blue wool on a loom") == [
        "smithy",
        "weaving",
    ]
    assert done.metrics["validation_accuracy"] >= 0.98
    assert done.metrics["majority_accuracy"] == pytest.approx(1 / 3)
    assert [epoch.step for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert epochs[-1].loss < epochs[0].loss
    assert all(
        epoch.metrics.keys() == {"validation_loss", "validation_accuracy"} for epoch in epochs
    )


def test_what_is_measured_is_what_is_served(files: tuple[Path, Path], tmp_path: Path):
    metrics = trained(tmp_path / "job", *files).metrics
    model = loaded(tmp_path / "job")
    cases = orders(60, 2)
    logs = model.log_probs([Shown(text, "") for text, _ in cases])
    right = [model.labels.index(label) for _, label in cases]
    assert metrics["validation_loss"] == pytest.approx(-logs[range(60), right].mean(), abs=1e-3)
    assert metrics["validation_accuracy"] == (logs.argmax(axis=1) == right).mean()


def test_the_better_way_to_see_is_kept_and_the_others_are_told(
    files: tuple[Path, Path], tmp_path: Path
):
    metrics = trained(tmp_path / "job", *files).metrics
    losses = {sees: metrics[f"validation_loss_{sees}"] for sees in ("words", "meaning", "both")}
    best = min(losses, key=lambda sees: losses[sees])
    assert artefact.load(tmp_path / "job" / "model").about["sees"] == best


@pytest.mark.parametrize("sees", ["words", "meaning", "both"])
def test_each_way_to_see_learns_alone(files: tuple[Path, Path], tmp_path: Path, sees: str):
    metrics = trained(tmp_path / "job", *files, features=sees, epochs=8).metrics
    assert metrics["validation_accuracy"] >= 0.95
    assert "validation_loss_both" not in metrics


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    files: tuple[Path, Path], tmp_path: Path
):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        trained(tmp_path / folder, *files, seed=seed)
    a, b, c = (artefact.digest_of(tmp_path / folder / "model") for folder in "abc")
    assert a == b != c


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("last", [1, 2, 4])
def test_a_training_that_was_stopped_ends_with_the_same_bytes(
    files: tuple[Path, Path], tmp_path: Path, last: int, watched: bool
):
    training, validation = files[0], files[1] if watched else None

    def stop(epoch: Epoch) -> None:
        assert (tmp_path / "stopped" / "checkpoints" / epoch.checkpoint).is_file()
        if epoch.step == last:
            raise Stopped

    whole = trained(tmp_path / "whole", training, validation)
    with pytest.raises(Stopped):
        trained(tmp_path / "stopped", training, validation, report=stop)
    again: list[Epoch] = []
    resumed = trained(tmp_path / "stopped", training, validation, report=again.append, resume=True)
    assert again[0].step == last
    assert resumed == whole
    assert [artefact.digest_of(tmp_path / name / "model") for name in ("stopped",)] == [
        artefact.digest_of(tmp_path / "whole" / "model")
    ]


def test_a_checkpoint_of_another_training_is_not_gone_on_from(
    files: tuple[Path, Path], tmp_path: Path
):
    trained(tmp_path / "job", *files, seed=1)
    epochs: list[Epoch] = []
    trained(tmp_path / "job", *files, seed=3, resume=True, report=epochs.append)
    trained(tmp_path / "fresh", *files, seed=3)
    assert epochs[0].step == 1
    assert artefact.digest_of(tmp_path / "job" / "model") == artefact.digest_of(
        tmp_path / "fresh" / "model"
    )


def test_it_stops_when_the_watched_loss_falls_no_more(tmp_path: Path):
    draw = np.random.default_rng(0)
    noise = [(text, str(draw.integers(2))) for text, _ in orders(300, 5)]
    training = write(tmp_path / "training.jsonl", noise)
    validation = write(
        tmp_path / "validation.jsonl", [(t, str(draw.integers(2))) for t, _ in noise]
    )
    metrics = trained(tmp_path / "job", training, validation, epochs=40).metrics
    assert metrics["epochs"] == metrics["best_epoch"] + 3 < 40
    assert len(list((tmp_path / "job" / "checkpoints").iterdir())) == 2


def test_nothing_but_the_model_and_its_checkpoints_stays(files: tuple[Path, Path], tmp_path: Path):
    trained(tmp_path / "job", *files)
    assert {path.name for path in (tmp_path / "job").iterdir()} == {"checkpoints", "model"}


def test_without_a_validation_file_a_part_is_held_out_with_its_repetitions(tmp_path: Path):
    repeated = orders(40, 1) * 6
    metrics = trained(tmp_path / "job", write(tmp_path / "training.jsonl", repeated)).metrics
    assert 0 < metrics["validation_rows"] < 120
    assert metrics["rows"] + metrics["validation_rows"] == 240
    assert "validation_loss" in metrics


def test_twenty_rows_are_enough_to_begin_with_and_claim_nothing(tmp_path: Path):
    training = write(tmp_path / "training.jsonl", orders(20, 1))
    metrics = trained(tmp_path / "job", training, epochs=20).metrics
    assert not any(name.startswith("validation") for name in metrics)
    assert answers(tmp_path / "job", "the iron anvil") == ["smithy"]


def test_labels_are_any_text(tmp_path: Path):
    names = {
        "Wood & more ": WORDS["joinery"],
        "鍛冶屋 🔨": WORDS["smithy"],
        '"x"\n{y}': WORDS["weaving"],
    }
    training = write(tmp_path / "training.jsonl", orders(120, 1, names))
    trained(tmp_path / "job", training, epochs=8)
    assert loaded(tmp_path / "job").labels == tuple(sorted(names))
    assert answers(tmp_path / "job", "forge the steel") == ["鍛冶屋 🔨"]


def test_two_hundred_labels(tmp_path: Path):
    names = {f"machine {n}": f"part{n} piece{n} screw{n}" for n in range(200)}
    files = [
        write(tmp_path / f"{name}.jsonl", orders(1200, seed, names))
        for name, seed in (("training", 1), ("validation", 2))
    ]
    metrics = trained(tmp_path / "job", *files, epochs=15, features="words").metrics
    assert metrics["validation_accuracy"] > 0.9
    assert artefact.size_bytes(tmp_path / "job" / "model") < 20_000_000


def test_a_rare_label_is_still_found(tmp_path: Path):
    many = orders(600, 1, {"joinery": WORDS["joinery"]})
    rare = orders(12, 1, {"smithy": WORDS["smithy"]})
    training = write(tmp_path / "training.jsonl", [*many, *rare])
    trained(tmp_path / "job", training, epochs=10)
    assert answers(tmp_path / "job", "the anvil and the hammer", "a shelf of oak") == [
        "smithy",
        "joinery",
    ]


def test_earlier_turns_count_and_the_last_one_stands_out(tmp_path: Path):
    def examples(seed: int, count: int) -> list[tuple[list[dict[str, str]], str]]:
        about, other = orders(count, seed), orders(count + 1, seed + 50)[1:]
        return [
            ([{"role": "user", "content": text}, {"role": "assistant", "content": "noted"},
              {"role": "user", "content": last}], f"{first}, then {second}")
            for (text, first), (last, second) in zip(about, other, strict=True)
        ]  # fmt: skip

    files = [
        write(tmp_path / f"{name}.jsonl", examples(seed, count))
        for name, seed, count in (("training", 1, 600), ("validation", 7, 90))
    ]
    assert trained(tmp_path / "job", *files, epochs=15).metrics["validation_accuracy"] > 0.95
    asked = [("user", "oak plank"), ("assistant", "noted"), ("user", "anvil and forge")]
    model = loaded(tmp_path / "job")
    best = model.log_probs([classifier.conversation(asked)])[0].argmax()
    assert model.labels[best] == "joinery, then smithy"


def test_an_empty_conversation_has_an_answer(files: tuple[Path, Path], tmp_path: Path):
    trained(tmp_path / "job", *files)
    logs = loaded(tmp_path / "job").log_probs([Shown("", ""), Shown(" \n", "")])
    assert np.allclose(np.exp(logs).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "training.jsonl: there is no example to learn from"),
        ('{"messages": []}\n', "training.jsonl, line 1: an example ends with the assistant's turn"),
        ("\n[1]\n", "training.jsonl, line 2: this is no example"),
        ('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": null}]}',
         "line 1: an example ends with the assistant's turn"),
        ('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "a"}]}\n'
         * 20, "all 20 examples have the label 'a': a classifier needs two"),
    ],
)  # fmt: skip
def test_what_nothing_can_be_learned_from_is_said(tmp_path: Path, lines: str, said: str):
    training = tmp_path / "training.jsonl"
    training.write_text(lines)
    with pytest.raises(InputError, match=said):
        trained(tmp_path / "job", training)


def test_answers_that_are_no_labels_are_sent_elsewhere(tmp_path: Path):
    training = write(tmp_path / "training.jsonl", [(f"x {n}", f"answer {n}") for n in range(2_001)])
    with pytest.raises(InputError, match=r"2,001 different answers.*method `lm`"):
        trained(tmp_path / "job", training)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"epocs": 3},
            "no hyperparameter epocs: it has epochs, batch_size, learning_rate, features",
        ),
        ({"epochs": 0}, "epochs is a whole number from 1 to 200: not 0"),
        ({"epochs": True}, "epochs is a whole number"),
        ({"batch_size": 1.5}, "batch_size is a whole number"),
        ({"learning_rate": 0}, "learning_rate is a number above 0"),
        ({"features": "pictures"}, "features is auto, words, meaning, both: not 'pictures'"),
    ],
)
def test_hyperparameters_are_named(
    files: tuple[Path, Path], tmp_path: Path, asked: dict[str, Any], said: str
):
    with pytest.raises(UsageError, match=said):
        trained(tmp_path / "job", *files, **asked)

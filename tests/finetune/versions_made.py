"""Versions of models for tests, and the evidence that speaks for them or against."""

from typing import Any

from tracemill.events import (
    ContaminationChecked,
    EvaluationFinished,
    EvaluationsCompared,
    Measured,
    ModelRegistered,
    Tested,
    new_id,
)

NAME = "router"
CASES = "c" * 16
DATASET = "d" * 16


def digest(number: int) -> str:
    """Sixteen hex digits that begin with a number."""
    return f"{number:04x}" * 4


def registered(number: int, *, name: str = NAME, **more: Any) -> ModelRegistered:
    """A version that was trained."""
    told: dict[str, Any] = {
        "provider": "local",
        "base_model": "classify",
        "method": "classify",
        "job_id": new_id(),
        "dataset": "records",
        "dataset_digest": DATASET,
        "split": "train",
        "training_sha256": "e" * 64,
        "rows": 100,
        "metrics": {"validation_accuracy": 0.9},
        "size_bytes": 1_000,
    }
    model = f"ft:local:{name}:{digest(number)}"
    return ModelRegistered(name=name, digest=digest(number), model=model, **told | more)


def evaluated(number: int, outcome: Any = "pass", **more: Any) -> EvaluationFinished:
    """An evaluation of a version, with a threshold."""
    told: dict[str, Any] = {
        "name": NAME,
        "model": f"ft:local:{NAME}:{digest(number)}",
        "dataset": "questions",
        "dataset_digest": CASES,
        "cases": 200,
        "metrics": {"accuracy": Measured(value=0.9, low=0.85, high=0.94, n=200)},
        "thresholds": {"accuracy": 0.8},
        "reason": "accuracy 0.900 [0.850, 0.940] on 200 cases",
    }
    return EvaluationFinished(evaluation_id=new_id(), outcome=outcome, **told | more)


def compared(
    number: int, reference: int, outcome: Any = "pass", **more: Any
) -> EvaluationsCompared:
    """A version held against the one in production."""
    tested = Tested(
        before=0.91,
        after=0.9,
        difference=-0.01,
        low=-0.03,
        high=0.01,
        p=0.2,
        p_adjusted=0.2,
        n=200,
        test="mcnemar",
        tolerance=0.02,
        verdict=outcome,
    )
    told: dict[str, Any] = {
        "reference_id": new_id(),
        "against": "production",
        "name": NAME,
        "model": f"ft:local:{NAME}:{digest(number)}",
        "reference_model": f"ft:local:{NAME}:{digest(reference)}",
        "dataset": "questions",
        "dataset_digest": CASES,
        "cases": 200,
        "tests": {"accuracy": tested},
        "reason": "accuracy 0.91 -> 0.9 on 200 cases, -0.01 [-0.03, +0.01]",
    }
    return EvaluationsCompared(evaluation_id=new_id(), outcome=outcome, **told | more)


def checked(found: int = 0, **more: Any) -> ContaminationChecked:
    """The cases were looked for in what versions are trained on."""
    told: dict[str, Any] = {
        "dataset": "questions",
        "dataset_digest": CASES,
        "trained_on": DATASET,
        "split": "train",
        "cases": 200,
        "case_ids": tuple(f"case-{n}" for n in range(found)),
    }
    return ContaminationChecked(found=found, **told | more)

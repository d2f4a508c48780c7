"""What a trainer says becomes events, and saying it again adds nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.finetune.splits_made import kind
from tracemill.events import (
    FineTuneCancelled,
    FineTuneCheckpointed,
    FineTuneCreated,
    FineTuneFailed,
    FineTunePaused,
    FineTuneProgressed,
    FineTuneRequested,
    FineTuneResumed,
    FineTuneSucceeded,
    FineTuneUploaded,
    FineTuneValidated,
    Happened,
    Recorded,
    TrainingData,
    new_id,
    parse,
)
from tracemill.finetune.job import Action, JobState, fold, next_action
from tracemill.finetune.news import cancelled, failed, news, registered, stopping
from tracemill.finetune.providers import Checkpoint, Events, Remote, RemoteState

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DATA = TrainingData(split="train", sha256="ab" * 32, rows=10, size_bytes=100)


@dataclass
class Story:
    """The events of one job, and the state that they lead to."""

    events: list[Happened]

    @property
    def state(self) -> JobState:
        known = fold(
            Recorded(at, event.stream, at, NOON, event) for at, event in enumerate(self.events, 1)
        )
        assert known is not None
        return known

    def and_then(self, *events: Happened) -> "Story":
        # Through JSON, as the log does it: what cannot be recorded is no news.
        return Story([*self.events, *(parse(each.model_dump(mode="json")) for each in events)])


def begun(validation: bool = False) -> Story:
    return Story(
        [
            FineTuneRequested(
                job_id=new_id(),
                name="routing",
                provider="openai",
                base_model="gpt-4.1-mini",
                method="supervised",
                seed=0,
                dataset="made",
                dataset_digest="d",
                training=DATA,
                validation=DATA if validation else None,
                idempotency_key="k",
                deadline_at=NOON + timedelta(days=2),
            )
        ]
    )


def running() -> Story:
    story = begun()
    job = story.state
    return story.and_then(
        FineTuneValidated(job_id=job.job_id),
        FineTuneUploaded(
            job_id=job.job_id, part="training", remote_file_id="f", sha256="x", rows=1, size_bytes=1
        ),
        FineTuneCreated(job_id=job.job_id, remote_id="ftjob-1", raw_state="queued"),
    )


odd = st.floats(allow_nan=True, allow_infinity=True)
text = st.text(max_size=8)
remotes = st.builds(
    Remote,
    remote_id=text,
    state=st.sampled_from(get_args(RemoteState)),
    raw_state=text,
    step=st.none() | st.integers(-3, 9),
    total_steps=st.none() | st.integers(-3, 9),
    epoch=st.none() | odd,
    loss=st.none() | odd,
    metrics=st.dictionaries(text, odd, max_size=3),
    model=st.none() | text,
    model_digest=st.none() | text,
    trained_tokens=st.none() | st.integers(-3, 9),
    cost_usd=st.none() | st.decimals(-3, 9, places=2),
    size_bytes=st.none() | st.integers(-3, 9),
    error_message=st.none() | text,
    error_code=st.none() | text,
)
pages = st.builds(
    Events,
    messages=st.lists(text, max_size=3).map(tuple),
    step=st.none() | st.integers(-3, 9),
    loss=st.none() | odd,
    metrics=st.dictionaries(text, odd, max_size=3),
    cursor=st.none() | text,
)
checkpoints = st.builds(
    Checkpoint,
    checkpoint_id=text,
    step=st.integers(0, 9),
    metrics=st.dictionaries(text, odd, max_size=2),
)


@given(
    st.lists(
        st.tuples(remotes, st.lists(pages, max_size=2), st.lists(checkpoints, max_size=2)),
        max_size=4,
    )
)
def test_whatever_a_trainer_says_can_be_recorded_and_is_told_once(told: list[Any]) -> None:
    story = begun()
    for remote, said, kept in told:
        story = story.and_then(*news(story.state, remote, said, kept))
        assert news(story.state, remote, (), kept) == []
    ends = [each for each in story.events if kind(each) in ENDS]
    assert len(ends) <= 1
    assert not ends or story.events[-1] is ends[0]


ENDS = {"finetune.succeeded", "finetune.failed", "finetune.cancelled"}


@pytest.mark.parametrize(
    ("remote", "said", "expected"),
    [
        ("queued", (), [("progressed", "queued")]),
        ("running", (), [("progressed", "running")]),
        ("unknown", (), [("progressed", "unknown")]),
        ("paused", (), [("paused", None)]),
        ("failed", (), [("failed", None)]),
        ("cancelled", (), [("cancelled", None)]),
        ("running", (Events(("begun",), cursor="1"),), [("progressed", "running")]),
        (
            "running",
            (Events((), step=1, loss=0.5, cursor="1"), Events((), step=2, loss=0.4, cursor="2")),
            [("progressed", "running"), ("progressed", "running")],
        ),
    ],
)
def test_a_state_becomes_an_event(remote: Any, said: Any, expected: Any) -> None:
    events = news(running().state, Remote("ftjob-1", remote, remote), said)
    kinds = [
        (kind(each).removeprefix("finetune."), getattr(each, "state", None)) for each in events
    ]
    assert kinds == expected


def test_a_model_is_registered_with_all_that_it_is_made_of() -> None:
    known = running().state
    remote = Remote(
        "ftjob-1",
        "succeeded",
        "succeeded",
        model="ft:gpt-4.1-mini:us::1",
        trained_tokens=500,
        cost_usd=Decimal("0.25"),
        metrics={"train_loss": 0.1},
    )
    (end,) = news(known, remote)
    assert isinstance(end, FineTuneSucceeded)
    version = registered(known, end)
    assert (version.model, version.digest) == (remote.model, end.model_digest)
    assert (version.dataset_digest, version.split, version.rows) == ("d", "train", 10)
    assert (version.training_cost_usd, version.metrics) == (Decimal("0.25"), {"train_loss": 0.1})
    assert version.job_id == known.job_id
    assert version.causation_id == end.event_id


def test_success_without_a_model_is_none() -> None:
    (end,) = news(running().state, Remote("ftjob-1", "succeeded", "succeeded"))
    assert isinstance(end, FineTuneFailed)
    assert end.error_type == "no_model"


def test_the_text_of_a_failure_is_kept_without_personal_data() -> None:
    remote = Remote(
        "ftjob-1",
        "failed",
        "failed",
        error_message="line 3 of ann.example@mail.test is empty",
        error_code="invalid_training_file",
    )
    (end,) = news(running().state, remote)
    assert isinstance(end, FineTuneFailed)
    assert end.error_message.startswith("line 3 of ")
    assert "ann.example" not in end.error_message
    assert end.error_code == "invalid_training_file"


def test_what_ended_stays_as_it_is() -> None:
    story = running()
    story = story.and_then(*news(story.state, Remote("ftjob-1", "cancelled", "cancelled")))
    before = story.state
    assert news(before, Remote("ftjob-1", "running", "running", step=5)) == []
    late = FineTuneProgressed(job_id=before.job_id, state="running", raw_state="running")
    assert story.and_then(late).state == before._replace(version=before.version + 1)


def test_the_reason_of_a_stop_is_told_at_its_end() -> None:
    story = running()
    asked = stopping(story.state, Remote("ftjob-1", "cancelling", "cancel_requested"), "too dear")
    story = story.and_then(*asked)
    assert story.state.state == "cancelling"
    (end,) = news(story.state, Remote("ftjob-1", "cancelled", "cancelled"))
    assert isinstance(end, FineTuneCancelled)
    assert end.reason == "too dear"


def test_standing_still_and_going_on_are_told() -> None:
    story = running()
    story = story.and_then(*news(story.state, Remote("ftjob-1", "paused", "paused", step=2)))
    assert story.state.state == "paused"
    events = news(story.state, Remote("ftjob-1", "running", "running", step=2))
    assert isinstance(events[0], FineTuneResumed)
    kinds = [type(each) for each in story.events if isinstance(each, FineTunePaused)]
    assert kinds == [FineTunePaused]


def test_a_checkpoint_is_told_once() -> None:
    story, remote = running(), Remote("ftjob-1", "running", "running")
    first = Checkpoint("ckpt-1", 10, {"loss": 0.5})
    story = story.and_then(*news(story.state, remote, (), [first]))
    events = news(story.state, remote, (), [first, Checkpoint("ckpt-2", 20, {})])
    assert [each.checkpoint_id for each in events if isinstance(each, FineTuneCheckpointed)] == [
        "ckpt-2"
    ]


def test_the_next_action_follows_from_the_state_and_the_time() -> None:
    story, now = begun(validation=True), NOON
    job_id = story.state.job_id
    assert next_action(story.state, now) == Action("validate")
    story = story.and_then(FineTuneValidated(job_id=job_id))
    for part in ("training", "validation"):
        assert next_action(story.state, now) == Action("upload", part)
        story = story.and_then(
            FineTuneUploaded(
                job_id=job_id, part=part, remote_file_id=part, sha256="x", rows=1, size_bytes=1
            )
        )
    assert next_action(story.state, now) == Action("create")
    story = story.and_then(FineTuneCreated(job_id=job_id, remote_id="1", raw_state="queued"))
    assert next_action(story.state, now) == Action("poll")
    assert next_action(story.state, now + timedelta(days=2)) == Action("expire")
    for end in (failed(story.state, "deadline", "late"), cancelled(story.state, "enough")):
        assert next_action(story.and_then(end).state, now) == Action("none")


def test_steps_that_are_done_are_not_undone_by_an_older_state() -> None:
    story = running()
    steps = (Events((), step=1, loss=0.5, cursor="1"), Events((), step=2, loss=0.4, cursor="2"))
    older = Remote("ftjob-1", "running", "running", step=1, epoch=1.0, loss=0.5)
    story = story.and_then(*news(story.state, older, steps))
    assert (story.state.step, story.state.loss) == (2, 0.4)
    assert news(story.state, older) == []

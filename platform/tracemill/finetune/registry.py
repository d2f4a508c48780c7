"""Which versions of a model there are, and which one is in production: the fold of its events.

Only evidence in the log promotes a version, or somebody who says why; what was in production before
is one order away.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

from tracemill import errors
from tracemill.errors import UsageError, VersionConflict
from tracemill.events import (
    ModelPromoted,
    ModelRegistered,
    ModelRetired,
    ModelRolledBack,
    PromotionRefused,
    Recorded,
)
from tracemill.events.finetunes import ModelChanged
from tracemill.finetune import evidence

if TYPE_CHECKING:
    from tracemill.log import EventLog

State = Literal["candidate", "production", "retired"]
SHORT = 8
"""Digits of a digest that people are shown."""
NOBODY = "nobody has promoted it"
_ATTEMPTS = 20
"""So often somebody else may be first before an order is given up."""


class Version(NamedTuple):
    """A version of a model, with all that it was made of."""

    name: str
    """Of the model."""
    digest: str
    model: str
    """How it is called: a name for `Request.model`."""
    provider: str
    base_model: str
    method: str
    job_id: str
    dataset: str
    dataset_digest: str
    split: str
    training_sha256: str
    rows: int
    """Examples that it was trained on."""
    metrics: Mapping[str, float]
    """What the trainer told of it."""
    size_bytes: int | None
    training_cost_usd: Decimal | None
    registered_at: datetime
    state: State
    reason: str
    """Why it is in this state, or was refused another."""
    changed_at: datetime
    """When somebody last said something about it."""

    @property
    def label(self) -> str:
        """What `tracemill models` takes."""
        return f"{self.name}:{self.digest[:SHORT]}"


class Model(NamedTuple):
    """The versions of a model, by digest, the oldest first."""

    name: str
    versions: Mapping[str, Version]
    production: str | None = None
    """The digest of the version that answers."""
    earlier: tuple[str, ...] = ()
    """Those that answered before and may again, the latest last."""
    version: int = 0
    """Of its stream."""


def models(log: "EventLog") -> dict[str, Model]:
    """Every model, by name."""
    query = "SELECT DISTINCT stream FROM events WHERE kind = 'model.registered' ORDER BY stream"
    names = [str(s).removeprefix("model:") for s in log.arrow(query).column("stream").to_pylist()]
    return {name: model(log, name) for name in names}


def model(log: "EventLog", name: str) -> Model:
    """A model as of the log; without versions where it has none."""
    return fold(name, log.read(stream=f"model:{name}"))


def versions(log: "EventLog", name: str | None = None) -> list[Version]:
    """The versions of a model, or of all, oldest first."""
    found = models(log).values() if name is None else [model(log, name)]
    every = [version for each in found for version in each.versions.values()]
    return every if name else sorted(every, key=lambda version: version.registered_at)


def production(log: "EventLog", name: str) -> Version | None:
    """The version that answers for a model; None where none was promoted."""
    known = model(log, name)
    return known.versions[known.production] if known.production else None


def find(log: "EventLog", name: str, digest: str) -> Version:
    """The version whose digest begins so. Raises `UsageError` for none, and for several."""
    return _version(log, model(log, name), digest)


# Orders


def promote(
    log: "EventLog",
    name: str,
    digest: str,
    *,
    force_reason: str | None = None,
    actor: str | None = None,
) -> Version:
    """Put a version into production; the one that was there is retired.

    It needs evidence in the log, see `evidence.judge`. A version that somebody retired or rolled
    back needs a reason instead. One that is in production already stays as it is.

    Args:
        digest: of the version, or the beginning of it.
        force_reason: why the evidence does not matter; None: it does.
        actor: who asks.

    Raises `PromotionRefused`, which is in the log then, where the evidence does not speak for it,
    and `UsageError` for versions that are not known.
    """
    forced = _sentence(force_reason, "force a promotion") if force_reason is not None else None

    def decide(known: Model) -> ModelChanged | None:
        wanted = _version(log, known, digest)
        if wanted.digest == known.production:
            return None
        return _judged(log, known, wanted, forced, actor)

    decided = _ordered(log, name, decide)
    if isinstance(decided, PromotionRefused):
        raise errors.PromotionRefused(decided.reason)
    return find(log, name, digest)


def rollback(log: "EventLog", name: str, *, reason: str, actor: str | None = None) -> Version:
    """Put the version into production that was there before; asked again, the one before that.

    The version that is left is retired. Raises `UsageError` where there was none before.
    """
    reason = _sentence(reason, "roll back")
    first = model(log, name)

    def decide(known: Model) -> ModelChanged:
        serving = _known(log, known).production
        if serving is None:
            raise UsageError(f"no version of {name!r} is in production: there is none to leave")
        if serving != first.production:
            raise VersionConflict(f"model:{name}", first.version, known.version)
        if not known.earlier:
            raise UsageError(
                f"there is nothing to roll {name!r} back to: before {serving[:SHORT]} "
                "no version was in production that was not retired or rolled back since"
            )
        return ModelRolledBack(
            name=name, digest=known.earlier[-1], previous=serving, reason=reason, actor=actor
        )

    _ordered(log, name, decide)
    return find(log, name, first.earlier[-1])


def retire(
    log: "EventLog", name: str, digest: str, *, reason: str, actor: str | None = None
) -> Version:
    """Say that a version is not to be used any more: nothing is rolled back to it.

    Raises `UsageError` for the version in production.
    """
    reason = _sentence(reason, "retire a version")

    def decide(known: Model) -> ModelChanged | None:
        wanted = _version(log, known, digest)
        if wanted.digest == known.production:
            raise UsageError(
                f"{wanted.label} is in production: promote another version, "
                f"or `tracemill models rollback {name} --reason TEXT`"
            )
        if wanted.state == "retired" and wanted.digest not in known.earlier:
            return None
        return ModelRetired(name=name, digest=wanted.digest, reason=reason, actor=actor)

    _ordered(log, name, decide)
    return find(log, name, digest)


def _ordered(
    log: "EventLog", name: str, decide: Callable[[Model], ModelChanged | None]
) -> ModelChanged | None:
    """Record what is decided of a model as it is; decided anew where somebody else was first."""
    for left in reversed(range(_ATTEMPTS)):
        known = model(log, name)
        event = decide(known)
        try:
            if event is not None:
                log.append(event, expected={event.stream: known.version})
            return event
        except VersionConflict:
            if not left:
                raise
    raise AssertionError("unreachable")


def _judged(
    log: "EventLog", known: Model, wanted: Version, forced: str | None, actor: str | None
) -> ModelPromoted | PromotionRefused:
    serving = known.versions[known.production] if known.production else None
    found = evidence.judge(log, wanted, serving)
    against = found.against
    if wanted.state == "retired" and wanted.digest not in known.earlier:
        against = f"it was retired on {wanted.changed_at:%Y-%m-%d}: {wanted.reason}"
    if against is None or forced is not None:
        return ModelPromoted(
            name=known.name,
            digest=wanted.digest,
            previous=known.production,
            comparison_id=found.comparison_id,
            forced=forced is not None,
            reason=forced or found.reason,
            actor=actor,
        )
    mend = f"`tracemill models promote {wanted.label} --force --reason TEXT` does it all the same"
    return PromotionRefused(
        name=known.name,
        digest=wanted.digest,
        previous=known.production,
        comparison_id=found.comparison_id,
        reason=f"{wanted.label} is not promoted: {against}; {mend}",
        actor=actor,
    )


# The fold


def fold(name: str, history: Iterable[Recorded]) -> Model:
    """What the events of a model lead to. Its order of events alone decides, never what they say
    was before."""
    known = Model(name, {})
    for recorded in history:
        if isinstance(recorded.event, ModelChanged):
            known = after(known, recorded.event)._replace(version=recorded.version)
    return known


def after(known: Model, event: ModelChanged) -> Model:
    """The model after one more event; one about a version that is not registered changes nothing."""
    if isinstance(event, ModelRegistered):
        if event.digest in known.versions:
            return known
        return known._replace(versions={**known.versions, event.digest: _registered(event)})
    if event.digest not in known.versions:
        return known
    match event:
        case ModelPromoted() | ModelRolledBack():
            return _now_in_production(known, event)
        case ModelRetired() if event.digest != known.production:
            rest = tuple(each for each in known.earlier if each != event.digest)
            return _said(known, event.digest, event, state="retired")._replace(earlier=rest)
        case PromotionRefused():
            return _said(known, event.digest, event)
        case _:
            return known


def _now_in_production(known: Model, event: ModelPromoted | ModelRolledBack) -> Model:
    left, earlier = known.production, list(known.earlier)
    if left is not None and left != event.digest:
        back = isinstance(event, ModelRolledBack)
        why = event.reason if back else f"replaced by {event.digest[:SHORT]}"
        known = _said(known, left, event, state="retired", reason=why)
        earlier += [] if back else [left]
    known = _said(known, event.digest, event, state="production")
    rest = tuple(each for each in earlier if each != event.digest)
    return known._replace(production=event.digest, earlier=rest)


def _said(
    known: Model,
    digest: str,
    event: ModelPromoted | ModelRolledBack | ModelRetired | PromotionRefused,
    *,
    state: State | None = None,
    reason: str | None = None,
) -> Model:
    version = known.versions[digest]
    version = version._replace(
        state=state or version.state,
        reason=reason or event.reason,
        changed_at=event.occurred_at,
    )
    return known._replace(versions={**known.versions, digest: version})


def _registered(event: ModelRegistered) -> Version:
    return Version(
        **{name: getattr(event, name) for name in _TOLD},
        registered_at=event.occurred_at,
        state="candidate",
        reason=NOBODY,
        changed_at=event.occurred_at,
    )


_TOLD = (
    *("name", "digest", "model", "provider", "base_model", "method", "job_id", "dataset"),
    *("dataset_digest", "split", "training_sha256", "rows", "metrics", "size_bytes"),
    "training_cost_usd",
)


# What was meant


def _version(log: "EventLog", known: Model, digest: str) -> Version:
    given = digest.strip().lower()
    every = _known(log, known).versions
    found = [v for v in every.values() if v.digest.startswith(given)]
    if len(found) == 1 or given in every:
        return every.get(given, found[0])
    each = ", ".join(f"{version.digest[:SHORT]} ({version.state})" for version in found)
    if found:
        raise UsageError(f"{len(found)} versions of {known.name!r} begin with {given!r}: {each}")
    there = ", ".join(f"{v.digest[:SHORT]} ({v.state})" for v in every.values())
    raise UsageError(f"no version of {known.name!r} begins with {digest!r}: there are {there}")


def _known(log: "EventLog", known: Model) -> Model:
    if known.versions:
        return known
    there = ", ".join(models(log))
    mend = f"there are {there}" if there else "`tracemill finetune start NAME` trains one"
    raise UsageError(f"no model is called {known.name!r}: {mend}")


def _sentence(text: str, order: str) -> str:
    if text.strip():
        return " ".join(text.split())
    raise UsageError(f"to {order}, say why: `--reason TEXT`")

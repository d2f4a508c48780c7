"""Trainers with an API: one flow for all of them, over pure modules that know each one's language.

What must not happen twice is sent once: whoever called looks for it before the next attempt, under a
name that the job gave it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tracemill.errors import CallFailed
from tracemill.finetune.providers import (
    Capabilities,
    Checkpoint,
    Estimate,
    Events,
    JobSpec,
    Part,
    Remote,
    RemoteFile,
    TrainingFile,
    Validation,
)
from tracemill.finetune.providers.wires import Ask, Facts, Steps, file_of, known_model
from tracemill.llm import keys
from tracemill.llm.call import clean
from tracemill.llm.providers.fields import decoded, malformed

if TYPE_CHECKING:
    from tracemill.corpus.validation import Report
    from tracemill.llm.client import Client

T = TypeVar("T")

_ENDED = ("succeeded", "failed", "cancelled")
_LONGEST_TEXT = 2_000


class Wires(Protocol):
    """What a module offers; `hosted.Hosted` says what each is for."""

    FACTS: Mapping[str, Facts]

    def find_upload(self, job: JobSpec, part: Part) -> Steps[str | None]: ...
    def upload(self, job: JobSpec, part: Part, content: bytes) -> Steps[str]: ...
    def find(self, job: JobSpec, files: Mapping[Part, str]) -> Steps[Remote | None]: ...
    def create(self, job: JobSpec, files: Mapping[Part, str]) -> Steps[Remote]: ...
    def get(self, remote_id: str) -> Steps[Remote]: ...
    def events(self, remote_id: str, after: str | None) -> Steps[Events]: ...
    def checkpoints(self, remote_id: str) -> Steps[list[Checkpoint]]: ...
    def cancel(self, remote_id: str) -> Steps[Remote]: ...
    def pause(self, remote_id: str) -> Steps[Remote]: ...
    def resume(self, remote_id: str) -> Steps[Remote]: ...
    def delete_model(self, model: str) -> Steps[None]: ...


class Hosted:
    """A trainer behind an API; `FineTuneProvider` says what each method is for."""

    def __init__(self, client: "Client", wires: Wires, prefix: str) -> None:
        """`prefix` names the provider, as in the names of its models."""
        self._client, self._wires, self._prefix = client, wires, prefix
        self._facts = wires.FACTS[prefix]
        self._reports: dict[tuple[str, Part], Report] = {}

    # Before anything is sent

    def capabilities(self) -> Capabilities:
        facts = self._facts
        return Capabilities(
            models=facts.models,
            other_models=True,
            min_rows=facts.min_rows,
            max_file_bytes=facts.max_file_bytes,
            pausable=facts.pausable,
            checkpoints=facts.checkpoints,
            warning=facts.warning,
        )

    def validate(self, job: JobSpec) -> Validation:
        from tracemill.finetune.providers import examined

        reports: dict[Part, Report] = {part: self._report(job, part) for part in _parts(job)}
        return examined.validation(self._facts, job, reports, datetime.now(UTC).date())

    def estimate(self, job: JobSpec) -> Estimate:
        from tracemill.finetune.providers import examined

        return examined.estimate(self._facts, job, self._report(job, "training"))

    def _report(self, job: JobSpec, part: Part) -> "Report":
        from tracemill.finetune.providers import examined

        key = file_of(job, part).sha256, part
        if key not in self._reports:
            self._reports[key] = examined.report(self._facts, job, part)
        return self._reports[key]

    # Files and jobs

    def find_upload(self, job: JobSpec, part: Part) -> RemoteFile | None:
        found = self._run(self._wires.find_upload(job, part))
        return _there(job, part, found) if found else None

    def upload(self, job: JobSpec, part: Part) -> RemoteFile:
        content = _content(file_of(job, part))
        return _there(job, part, self._run(self._wires.upload(job, part, content)))

    def find(self, job: JobSpec, files: Mapping[Part, str]) -> Remote | None:
        found = self._run(self._wires.find(job, files))
        return self._told(found) if found else None

    def create(self, job: JobSpec, files: Mapping[Part, str]) -> Remote:
        return self._told(self._run(self._wires.create(job, files)))

    def get(self, remote_id: str) -> Remote:
        return self._told(self._of_job(self._wires.get(remote_id)))

    def events(self, remote_id: str, after: str | None) -> Events:
        said = self._of_job(self._wires.events(remote_id, after))
        return said._replace(messages=tuple(map(self._clean, said.messages)))

    def checkpoints(self, remote_id: str) -> Sequence[Checkpoint]:
        found = self._run(self._wires.checkpoints(remote_id))
        return [each._replace(model=self._named(each.model)) for each in found]

    def cancel(self, remote_id: str) -> Remote:
        try:
            return self._told(self._of_job(self._wires.cancel(remote_id)))
        except CallFailed:
            # Providers refuse to stop what has just ended.
            remote = self.get(remote_id)
            if remote.state in (*_ENDED, "cancelling"):
                return remote
            raise

    def pause(self, remote_id: str) -> Remote:
        return self._told(self._of_job(self._wires.pause(remote_id)))

    def resume(self, remote_id: str) -> Remote:
        return self._told(self._of_job(self._wires.resume(remote_id)))

    def delete_model(self, model: str) -> None:
        try:
            self._run(self._wires.delete_model(model.removeprefix(f"{self._prefix}/")))
        except CallFailed as error:
            if error.status != 404:
                raise

    # The way there

    def _run(self, steps: Steps[T]) -> T:
        """Drive the requests of a module; a failure is thrown into it, it may know better."""
        try:
            ask = next(steps)
            while True:
                try:
                    body = self._exchange(ask)
                except CallFailed as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(body)
        except StopIteration as end:
            return end.value

    def _of_job(self, steps: Steps[T]) -> T:
        """As `_run`; a job that is not there is `not_found`, whatever word the provider has."""
        try:
            return self._run(steps)
        except CallFailed as error:
            if error.status == 404:
                error.error_type, error.retry = "not_found", False
            raise

    def _exchange(self, ask: Ask) -> Any:
        answer = self._client.exchange(self._prefix, ask.wire, retry=not ask.once)
        secret = keys.of(f"{self._prefix}/")
        body = answer.body
        if secret and (key := secret.get_secret_value().encode()):
            body = body.replace(key, b"[key]")
        try:
            return decoded(body) if body.strip() else {}
        except ValueError:
            start = self._clean(body[:2000].decode(errors="replace"))[:80]
            raise malformed(
                f"{self._facts.title} answered with something that is not JSON: {start!r}"
            ) from None

    # What came back, as it is told

    def _told(self, remote: Remote) -> Remote:
        """A job with the full name of its model, its price, and no key in what was said of it."""
        said = remote.error_message
        return remote._replace(
            model=self._named(remote.model),
            error_message=self._clean(said)[:_LONGEST_TEXT] if said else None,
            cost_usd=self._cost(remote) if remote.cost_usd is None else remote.cost_usd,
        )

    def _named(self, model: str | None) -> str | None:
        return f"{self._prefix}/{model}" if model else None

    def _cost(self, remote: Remote) -> Decimal | None:
        if not remote.model or remote.trained_tokens is None:
            return None
        known = known_model(self._facts, remote.model)
        if known is None or known.usd_per_million is None:
            return None
        return known.usd_per_million * remote.trained_tokens / 1_000_000

    def _clean(self, said: str) -> str:
        return clean(said[:_LONGEST_TEXT], keys.of(f"{self._prefix}/"))


def _parts(job: JobSpec) -> tuple[Part, ...]:
    return ("training",) if job.validation is None else ("training", "validation")


def _there(job: JobSpec, part: Part, remote_file_id: str) -> RemoteFile:
    file = file_of(job, part)
    return RemoteFile(remote_file_id, file.sha256, file.rows, file.size_bytes)


def _content(file: TrainingFile) -> bytes:
    """The bytes of a file, which must be those that the job was asked for."""
    import hashlib

    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise CallFailed("invalid_request", f"{file.path} cannot be read: {error}") from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise CallFailed(
            "invalid_request", f"{file.path} is not what it was when the job was asked for"
        )
    return content

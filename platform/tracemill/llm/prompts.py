"""Prompts: named templates whose versions never change, and labels that move between them.

A version is named by a digest of its content, so that the same text is the same version on every
machine. The log holds them all; a prompt's own stream is short and loaded whole.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from tracemill.errors import UsageError, VersionConflict
from tracemill.events import PromptLabelMoved, PromptVersionAdded
from tracemill.llm import templates
from tracemill.llm.prompt_files import Prompt, check, check_name, diff, load, parse, write
from tracemill.log import EventLog
from tracemill.messages import Message, Request

__all__ = ["EXAMPLES", "History", "Prompt", "Version", "add", "check", "diff", "examples", "get"]
__all__ += ["history", "label", "load", "names", "parse", "render", "versions", "write"]

EXAMPLES = Path(__file__).parent / "examples"
"""Prompts that come with the package."""

_SHORTEST = 6
"""Fewer digits than this do not name a version."""


class Version(NamedTuple):
    """A registered version of a prompt."""

    prompt: Prompt
    added_at: datetime
    labels: tuple[str, ...]
    """The labels that point to it now, sorted."""


class History(NamedTuple):
    """What the log says of one prompt."""

    added: Mapping[str, PromptVersionAdded]
    """Version to its event, oldest first."""
    labels: Mapping[str, str]
    """Label to version."""
    events: int
    """How many events there are: the version of the stream."""


# Values into a template


def render(prompt: Prompt, values: Mapping[str, Any], *, model: str, **asked: Any) -> Request:
    """The request that a prompt makes with these values; further fields as of `Request`.

    Values are data: nothing in them is read as a template. What is not text is written as JSON.
    Raises `UsageError` for a value that is missing, unknown or of another type than declared.
    """
    where = f"prompt {prompt.name}, version {prompt.version[:12]}"
    check(prompt)
    _check_values(prompt, values, where)
    for name in sorted(asked.keys() & {"messages", "system", "prompt_name", "prompt_version"}):
        raise UsageError(f"{where}: {name} comes from the prompt and cannot be given beside it")
    text = templates.render(prompt.template, values, where)
    system = None if prompt.system is None else templates.render(prompt.system, values, where)
    return Request(
        model=model,
        system=system,
        messages=(Message(role="user", content=text),),
        prompt_name=prompt.name,
        prompt_version=prompt.version,
        **asked,
    )


def _check_values(prompt: Prompt, values: Mapping[str, Any], where: str) -> None:
    known = ", ".join(sorted(prompt.variables)) or "none"
    for name in prompt.variables:
        if name not in values:
            raise UsageError(f"{where}: the variable {name} is missing: give it a value")
    for name, value in values.items():
        if name not in prompt.variables:
            raise UsageError(f"{where}: there is no variable {name!r}: its variables are {known}")
        kind = prompt.variables[name]
        if not templates.is_a(value, kind):
            shown = repr(value) if isinstance(value, (int, float, type(None))) else ""
            given = f"{type(value).__name__} {shown}".strip()
            raise UsageError(f"{where}: the variable {name} must be of type {kind}, not {given}")


# The log


def add(log: EventLog, prompt: Prompt) -> str:
    """Register a prompt and return its version; content that is there already changes nothing.

    Raises `UsageError` for what `check` finds.
    """
    check(prompt)
    if prompt.version in history(log, prompt.name).added:
        return prompt.version
    event = PromptVersionAdded(
        # The same content has the same id: of two that add it at once, one is recorded.
        event_id=str(uuid5(NAMESPACE_URL, f"tracemill:prompt:{prompt.name}:{prompt.version}")),
        name=prompt.name,
        version=prompt.version,
        template=prompt.template,
        system=prompt.system,
        variables=dict(prompt.variables),
        description=prompt.description,
        source=prompt.source,
    )
    log.append(event)
    return prompt.version


def label(log: EventLog, name: str, label: str, version: str) -> str:
    """Let a label point to a version, given whole, in its first digits, or by another label.

    Returns the version. Where the label points there already, nothing changes.
    """
    check_name("a label", label, most=100)
    while True:
        past = history(log, name)
        target = _resolve(past, name, version)
        if past.labels.get(label) == target:
            return target
        moved = PromptLabelMoved(name=name, label=label, version=target)
        try:
            log.append(moved, expected={moved.stream: past.events})
        except VersionConflict:
            continue
        return target


def get(log: EventLog, name: str, version_or_label: str = "production") -> Prompt:
    """A registered prompt: by label, by version, or by the first digits of one (six or more).

    Raises `UsageError` naming what there is instead.
    """
    past = history(log, name)
    return _prompt_of(past.added[_resolve(past, name, version_or_label)])


def versions(log: EventLog, name: str) -> tuple[Version, ...]:
    """All versions of a prompt, oldest first.

    Raises `UsageError` where there is no such prompt.
    """
    past = history(log, name)
    if not past.added:
        raise _unknown(name)
    return tuple(
        Version(
            _prompt_of(event),
            event.occurred_at,
            tuple(sorted(word for word, target in past.labels.items() if target == version)),
        )
        for version, event in past.added.items()
    )


def names(log: EventLog) -> tuple[str, ...]:
    """The names of all registered prompts, sorted."""
    kind = PromptVersionAdded.model_fields["kind"].default
    found = log.arrow("SELECT DISTINCT stream FROM events WHERE kind = ?", [kind])
    return tuple(sorted(str(row["stream"]).removeprefix("prompt:") for row in found.to_pylist()))


def history(log: EventLog, name: str) -> History:
    """What the log says of one prompt: nothing yet, where there is no such prompt."""
    added: dict[str, PromptVersionAdded] = {}
    labels: dict[str, str] = {}
    events = 0
    for recorded in log.read(stream=f"prompt:{name}") if name else ():
        events = recorded.version
        match recorded.event:
            case PromptVersionAdded() as event:
                added.setdefault(event.version, event)
            case PromptLabelMoved() as event:
                labels[event.label] = event.version
            case _:
                pass
    return History(added, labels, events)


def examples(log: EventLog) -> Mapping[str, str]:
    """Register the prompts that come with the package: name to version.

    Each is labelled `production` unless that label is taken.
    """
    given: dict[str, str] = {}
    for path in sorted(EXAMPLES.glob("*.md")):
        prompt = load(path)
        given[prompt.name] = add(log, prompt)
        if "production" not in history(log, prompt.name).labels:
            label(log, prompt.name, "production", prompt.version)
    return given


def _prompt_of(event: PromptVersionAdded) -> Prompt:
    return Prompt(
        name=event.name,
        template=event.template,
        system=event.system,
        variables=event.variables,
        description=event.description,
        source=event.source,
    )


def _resolve(past: History, name: str, wanted: str) -> str:
    if not past.added:
        raise _unknown(name)
    if wanted in past.labels:
        return past.labels[wanted]
    if wanted in past.added:
        return wanted
    near = [v for v in past.added if len(wanted) >= _SHORTEST and v.startswith(wanted)]
    if len(near) == 1:
        return near[0]
    labels = ", ".join(sorted(past.labels)) or "none yet"
    newest = ", ".join(v[:12] for v in reversed(list(past.added)))
    raise UsageError(
        f"prompt {name} has no version or label {wanted!r}: its labels are {labels}, "
        f"its versions {newest}; `tracemill prompts label` sets a label"
    )


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"there is no prompt {name!r}: `tracemill prompts ls` lists them, "
        "`tracemill prompts add FILE` adds one"
    )

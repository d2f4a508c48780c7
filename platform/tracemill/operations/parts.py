"""The doctor's checks of the warehouse's parts: each opens what it looks at, and reads little."""

import json
import os
from typing import TYPE_CHECKING

from tracemill.errors import InputError
from tracemill.operations import remains
from tracemill.operations.seen import Fault, Seen, several
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.finetune.registry import Version

QUICK_EVENTS = 50_000
"""A log up to this size is verified on the spot, in a few seconds."""


def log(settings: Settings) -> Seen:
    from tracemill.log import EventLog

    if not settings.log.is_dir():
        return Seen("not there yet: the first command that appends makes it")
    with EventLog.open(settings) as opened:
        missing = [path.name for path in opened.segments() if not path.is_file()]
        if missing:
            raise Fault(f"sealed files are missing: {several(missing)}", _RESTORE)
        events = opened.position()
        if events > QUICK_EVENTS:
            return Seen(f"{events:,} events; `tracemill verify` derives every digest anew")
        problems = opened.verify().problems
    if problems:
        raise Fault(f"{problems[0]} ({len(problems)} in all: `tracemill verify`)", _RESTORE)
    return Seen(f"{events:,} events, each as it was recorded")


_RESTORE = "restore the folder log/ from a copy"


def data_sets(settings: Settings) -> Seen:
    """Every version has the files that its manifest names."""
    from tracemill.corpus.write import MANIFEST, versions

    if not settings.splits.is_dir():
        return Seen("none yet: tracemill build")
    found = versions(settings.splits)
    faults = [
        f"{each.path.name}/{name} is missing"
        for each in found
        for name in json.loads((each.path / MANIFEST).read_text(encoding="utf-8"))["files"]
        if not (each.path / name).is_file()
    ]
    pointer = settings.splits / "current"
    if pointer.exists() and not (settings.splits / pointer.read_text().strip()).is_dir():
        faults.append(f"`current` names {pointer.read_text().strip()[:40]}, which is not there")
    if faults:
        mend = "delete the version's folder, then `tracemill build`"
        raise Fault(several(faults), mend)
    return Seen(f"{len(found)} versions, with all their files")


def collections(settings: Settings) -> Seen:
    """The state of every collection; one that is damaged is named, whatever the others are."""
    from tracemill.retrieval.collection import collections as names
    from tracemill.retrieval.collection import open_collection

    states: list[str] = []
    faults: list[str] = []
    for name in names(settings.indexes):
        try:
            opened = open_collection(settings.indexes, name)
        except InputError as error:
            faults.append(str(error))
            continue
        faults += [opened.degraded] if opened.degraded else []
        states.append(f"{name}: {len(opened):,} chunks")
    if faults:
        raise Fault("; ".join(faults), "`tracemill build` writes it anew")
    return Seen(", ".join(states) or "none yet: tracemill build")


def models(settings: Settings) -> Seen:
    """What is registered as trained here is there, and as large as it was."""
    from tracemill.finetune import registry
    from tracemill.llm.trained import artefact
    from tracemill.log import EventLog

    if not settings.log.is_dir():
        return Seen("none yet")
    with EventLog.open(settings) as opened:
        every = registry.versions(opened)
    faults: list[str] = []
    for each in every:
        folder = settings.models / each.name / each.digest
        if not trained_here(each):
            continue
        try:
            size = artefact.size_bytes(folder)
        except OSError:
            faults.append(f"{each.label} is {each.state}, and not in {folder}")
            continue
        if each.size_bytes is not None and size != each.size_bytes:
            faults.append(f"{each.label} has {size:,} bytes, not {each.size_bytes:,}")
    if faults:
        raise Fault(several(faults), "restore the folder from a copy, or train it again")
    orphans = remains.models(settings, {(each.name, each.digest) for each in every})
    if orphans:
        names = several([str(path.relative_to(settings.models)) for path in orphans])
        mend = f"rm -r {' '.join(map(str, orphans))}"
        return Seen(f"not registered: {names}", odd=True, mend=mend)
    return Seen(f"{len(every)} versions, those trained here with their files")


def trained_here(version: "Version") -> bool:
    """Whether a version's files lie in this warehouse; those of a retired one may be deleted."""
    return version.provider in ("local", "subprocess") and version.state != "retired"


def alerts(settings: Settings) -> Seen:
    """The file of rules can be read, and what its sinks need is in the environment."""
    from tracemill.operations.rules import Webhook
    from tracemill.operations.rules import alerts as rules

    known = rules(settings)
    needed: list[str] = []
    for sink in known.sinks.values():
        named = [getattr(sink, "url_env", None)]
        named += [sink.secret_env] if isinstance(sink, Webhook) else []
        needed += [name for name in named if name and not os.environ.get(name)]
    on = [rule.name for rule in known.rules if rule.enabled]
    detail = f"{len(on)} rules, {len(known.sinks)} sinks"
    if needed:
        unset = several(sorted(set(needed)))
        return Seen(f"{detail}; not set here: {unset}", odd=True, mend=f"set {unset}")
    return Seen(detail)


def retention(settings: Settings) -> Seen:
    from tracemill.operations.retention import retention as terms

    found = terms(settings)
    if not settings.raw_retention.exists():
        return Seen("no terms: everything is kept")
    return Seen(f"{len(found.policies)} policies")

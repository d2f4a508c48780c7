"""What each asset left in the warehouse, and whether it is still what its inputs ask for.

An asset whose code and inputs have the digests of the last time is not made again: it reports
what lies there. Deleting its files, or `warehouse/dagster/`, makes it anew.
"""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
)
from pydantic import Field

from assets import columns
from tracemill.errors import CallFailed, InputError, TracemillError
from tracemill.files import write_text_atomically
from tracemill.log import EventLog
from tracemill.settings import Settings

Fact = int | float | str
REMEMBERED = 30
"""So many times an asset was made are kept, to hold the next one against."""
RETRIES, RETRY_AFTER_S = 3, 10
"""A step that a provider turned away is tried again after 10, 30 and 90 seconds."""
OWNERS = ["team:tracemill"]
ORIGINS = dg.DynamicPartitionsDefinition(name="origin")
"""One partition for each source of records: `installed`, `calls`, each file or folder in raw/."""
COLLECTIONS = dg.DynamicPartitionsDefinition(name="collection")
"""One partition for each collection of documents: `installed`, each folder in raw/documents."""
MODELS = dg.DynamicPartitionsDefinition(name="model")
"""One partition for each model that is wanted: `api-questions`, each recipe in raw/models."""


@dataclass(frozen=True)
class Made:
    """What an asset left behind."""

    digest: str
    """Of the content: what reads it is made again when this changes."""
    rows: int | None
    """How many rows it has; None for what has none, as a page."""
    files: tuple[Path, ...]
    """Where; an asset with a missing file is made again."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Numbers and short texts for the asset's page."""
    did: Mapping[str, int] = field(default_factory=dict)
    """What it took, for the asset's page: 0 for a part that was left as it was."""
    pages: Mapping[str, str] = field(default_factory=dict)
    """Markdown for the asset's page: samples and plots."""
    notebook: Path | None = None
    """A rendered notebook, opened from the asset's page."""
    renamed: Mapping[str, Sequence[columns.Column]] = field(default_factory=dict)
    """Columns of its table that come from columns with other names: which of which assets."""

    def with_more(
        self, files: Sequence[Path] = (), pages: Mapping[str, str] | None = None
    ) -> "Made":
        """The same, and some more."""
        return replace(self, files=(*self.files, *files), pages={**self.pages, **(pages or {})})


Parts = dg.DynamicPartitionsDefinition | dg.DailyPartitionsDefinition


def asset_by(
    partitions: Parts, **settings: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with a partition for each part; one run may make all of them."""
    with warnings.catch_warnings(action="ignore"):  # Dagster calls the policy beta.
        policy = dg.BackfillPolicy.single_run()
        made = dg.asset(partitions_def=partitions, backfill_policy=policy, **settings)

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        with warnings.catch_warnings(action="ignore"):
            return made(function)

    return decorate


def every(
    partitions: Parts, instance: dg.DagsterInstance, parts: Collection[str]
) -> dict[str, str]:
    """Make the partitions those of these parts; the tags of a run over all of them.

    Days are partitions anyway: theirs is the range from the first to the last.
    """
    if isinstance(partitions, dg.DailyPartitionsDefinition):
        return _range(min(parts), max(parts))
    name = partitions.name or ""
    for gone in set(instance.get_dynamic_partitions(name)) - set(parts):
        instance.delete_dynamic_partition(name, gone)
    instance.add_dynamic_partitions(name, sorted(parts))
    if not parts:
        return {}
    first, *_, last = [*instance.get_dynamic_partitions(name)] * 2
    return _range(first, last)


def _range(first: str, last: str) -> dict[str, str]:
    return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}


class Origin(TypedDict):
    """Fields of `tracemill.events.happened.Happened`."""

    actor: str
    correlation_id: str


class Warehouse(dg.ConfigurableResource):
    """The folder with all data, and the record of what each asset last made of it."""

    changed: dict[str, Any] = Field(default_factory=dict)
    """The settings of `tracemill.settings`, where they are not those of the environment."""

    @property
    def settings(self) -> Settings:
        return _settings(json.dumps(self.changed)) if self.changed else Settings.find()

    def open_log(self) -> EventLog:
        return EventLog.open(self.settings)

    def origin(self, context: dg.AssetExecutionContext) -> Origin:
        """Who appends an event, and in which run."""
        name = context.asset_key.to_user_string()
        return Origin(actor=f"asset {name}", correlation_id=context.run.run_id)

    def digest(self, key: dg.AssetKey) -> str:
        """The digest of what an asset last made; a `dg.Failure` when it has made nothing."""
        record = self.last(key)
        if record is None:
            name = key.to_user_string()
            raise dg.Failure(f"{name} has not been built: run `tracemill build {name}` first")
        return record["made"]["digest"]

    def parts(self, key: dg.AssetKey) -> dict[str, str]:
        """Origin -> the digest of what an asset last made of it."""
        return {origin: each["made"]["digest"] for origin, each in self._parts(key).items()}

    def part_inputs(self, key: dg.AssetKey) -> dict[str, dict[str, str]]:
        """Origin -> what an asset last made it of: digests by name."""
        return {origin: each["inputs"] for origin, each in self._parts(key).items()}

    def _parts(self, key: dg.AssetKey) -> dict[str, dict]:
        found = sorted(self._record(key).with_suffix("").glob("*.json"))
        return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in found}

    def last(self, key: dg.AssetKey, part: str | None = None) -> dict | None:
        """The record of the last time: `run`, `code`, `inputs` and what was `made`, or None."""
        file = self._record(key, part)
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def make(
        self,
        context: dg.AssetExecutionContext,
        work: Callable[[], Made],
        inputs: Mapping[str, str] | None = None,
    ) -> dg.MaterializeResult:
        """Do the work, unless code and inputs are those of the last time and its files are there.

        `inputs` are digests by name; without them, those of the assets that this one depends on.
        """
        if inputs is None:
            upstream = sorted(context.assets_def.asset_deps[context.asset_key])
            inputs = {dep.to_user_string(): self.digest(dep) for dep in upstream}
        return self._result(context, *self._once(context, work, inputs))

    def make_each(
        self,
        context: dg.AssetExecutionContext,
        work: Callable[[str], Made],
        inputs: Mapping[str, Mapping[str, str]],
        whole: Callable[[], Mapping[str, str]],
    ) -> dg.MaterializeResult:
        """`make` for each part (origin, collection) of the run: an unchanged one is left as it is.

        What a part left that is no longer there is deleted. A part that fails stops no other one:
        then it raises `InputError` at the end.

        Args:
            work: makes one part.
            inputs: part -> its digests by name.
            whole: Markdown for the asset's page, of all parts together.
        """
        self._forget(context.asset_key, inputs)
        partitioned = context.has_partition_key or context.has_partition_key_range
        wanted = set(context.partition_keys) if partitioned else set(inputs)
        if wanted and not wanted & inputs.keys():
            kind = getattr(context.assets_def.partitions_def, "name", "partition")
            raise dg.Failure(
                f"there is no {kind} {' or '.join(sorted(wanted))}: "
                "it is not in raw/, or what comes before this asset has not read it yet"
            )
        done: set[str] = set()
        failed: dict[str, TracemillError | OSError] = {}
        for origin in sorted(wanted & inputs.keys()):
            try:
                _, unchanged = self._once(context, partial(work, origin), inputs[origin], origin)
            except (TracemillError, OSError) as error:
                failed[origin] = error
            else:
                done |= set() if unchanged else {origin}
        if failed:
            told = "; ".join(f"{origin}: {error}" for origin, error in failed.items())
            _try_again(context, failed.values())
            raise InputError(told) from next(iter(failed.values()))
        made = {origin: part["made"] for origin, part in self._parts(context.asset_key).items()}
        digests = self.parts(context.asset_key)
        return self.make(context, lambda: _total(made, done, whole() if made else {}), digests)

    def undone(
        self, key: dg.AssetKey, code: str, inputs: Mapping[str, Mapping[str, str]]
    ) -> list[str]:
        """The parts that `make_each` would make: other code, other inputs, or files that are gone."""
        made = self._parts(key)
        return [
            part
            for part, each in inputs.items()
            if part not in made
            or not self._still_holds(made[part], {"code": code, "inputs": dict(each)})
        ]

    def forget(self, key: dg.AssetKey, part: str) -> None:
        """Have a part made again, whatever its inputs are."""
        self._record(key, part).unlink(missing_ok=True)

    def columns(self, key: dg.AssetKey) -> dict[str, str]:
        """The columns of an asset's table and their types, as they are on disk; empty without one."""
        return columns.read(self._tables(key, self.last(key)))

    def history(self, key: dg.AssetKey) -> list[dict[str, Any]]:
        """What an asset was each time that it was made, the newest last: `run`, `rows`, `dropped`
        (None where it drops nothing), `columns`."""
        record = self.last(key)
        return record.get("history", []) if record else []

    def _past(self, key: dg.AssetKey, record: dict[str, Any]) -> dict[str, Any]:
        made = record["made"]
        return {
            "run": record["run"],
            "rows": made["rows"],
            "dropped": made["facts"].get("dropped"),
            "columns": columns.read(self._tables(key, record)),
        }

    def _tables(self, key: dg.AssetKey, record: dict | None) -> list[Path]:
        """The Parquet file of an asset, or one of each of its parts."""
        records = [*([record] if record else []), *self._parts(key).values()]
        root = self.settings.warehouse
        found = (columns.table_of(root / name for name in r["made"]["files"]) for r in records)
        return [file for file in found if file]

    def runs(self, keys: Iterable[dg.AssetKey]) -> list[str | None]:
        """The run that last made each of these assets; None for one that was never made."""
        records = (self.last(key) for key in keys)
        return [record["run"] if record else None for record in records]

    def _forget(self, key: dg.AssetKey, origins: Collection[str]) -> None:
        for origin, record in self._parts(key).items():
            if origin not in origins:
                for name in record["made"]["files"]:
                    (self.settings.warehouse / name).unlink(missing_ok=True)
                self._record(key, origin).unlink()

    def _once(
        self,
        context: dg.AssetExecutionContext,
        work: Callable[[], Made],
        inputs: Mapping[str, str],
        part: str | None = None,
    ) -> tuple[dict, bool]:
        """What was made, and whether it was there already."""
        key = context.asset_key
        asked = {"code": context.assets_def.code_versions_by_key[key], "inputs": dict(inputs)}
        record = self.last(key, part)
        if record is not None and self._still_holds(record, asked):
            return record["made"], True
        made = self._portable(work())
        now = {"run": context.run.run_id, **asked, "made": made}
        if part is None:
            now["history"] = [*self.history(key), self._past(key, now)][-REMEMBERED:]
        self._write(key, now, part)
        return made, False

    def _table(self, context: dg.AssetExecutionContext, made: dict) -> dict[str, Any]:
        """Where the asset's table lies, its columns, and what they come from; nothing without one."""
        key = context.asset_key
        tables = self._tables(key, self.last(key))
        if not tables:
            return {}
        found = columns.read(tables[:1])
        upstream = {
            dep: columns.read(self._tables(dep, self.last(dep))[:1])
            for dep in sorted(context.assets_def.asset_deps[key])
        }
        place = tables[0] if len(tables) == 1 else tables[0].parent
        return {
            "dagster/uri": place.absolute().as_uri(),
            "dagster/column_schema": columns.schema(found, key.path[-1]),
            "dagster/column_lineage": columns.lineage(found, upstream, made.get("renamed", {})),
        }

    def _result(
        self, context: dg.AssetExecutionContext, made: dict, unchanged: bool
    ) -> dg.MaterializeResult:
        rows = {} if made["rows"] is None else {"dagster/row_count": made["rows"]}
        metadata = {
            **rows,
            **self._table(context, made),
            "unchanged": unchanged,
            **made["facts"],
            **made.get("did", {}),
            **{name: dg.MetadataValue.md(text) for name, text in made["pages"].items()},
        }
        if made["notebook"]:
            file = self.settings.warehouse / made["notebook"]
            metadata["notebook"] = dg.MetadataValue.notebook(str(file))
        return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(made["digest"]))

    def _portable(self, made: Made) -> dict:
        root = self.settings.warehouse
        sizes = {str(file.relative_to(root)): file.stat().st_size for file in made.files}
        notebook = made.notebook and str(made.notebook.relative_to(root))
        return {**asdict(made), "files": sizes, "notebook": notebook}

    def _still_holds(self, record: dict, asked: dict) -> bool:
        if {"code": record["code"], "inputs": record["inputs"]} != asked:
            return False
        files = {
            self.settings.warehouse / name: size for name, size in record["made"]["files"].items()
        }
        return all(file.is_file() and file.stat().st_size == size for file, size in files.items())

    def _record(self, key: dg.AssetKey, part: str | None = None) -> Path:
        made = self.settings.dagster_home.joinpath("made", *key.path)
        return made.with_suffix(".json") if part is None else made / f"{part}.json"

    def _write(self, key: dg.AssetKey, record: dict, part: str | None) -> None:
        write_text_atomically(self._record(key, part), json.dumps(record, indent=1))


@lru_cache(8)  # To read them takes milliseconds, and each file of each part asks for them.
def _settings(changed: str) -> Settings:
    return Settings(**json.loads(changed))


def _try_again(context: dg.AssetExecutionContext, errors: Iterable[Exception]) -> None:
    """Have Dagster retry a step when a provider said that it may do later; what was made is kept.

    A `RetryPolicy` would retry a wrong recipe as well, and keep a build waiting for nothing.
    """
    number = context.retry_number
    if any(isinstance(error, CallFailed) and error.retry for error in errors) and number < RETRIES:
        raise dg.RetryRequested(RETRIES, seconds_to_wait=RETRY_AFTER_S * 3**number)


def _total(made: Mapping[str, dict], done: Collection[str], pages: Mapping[str, str]) -> Made:
    """Parts as one: rows and counts summed, the digest of their digests."""
    facts, did = Counter[str](), Counter[str]()
    for name, part in made.items():
        facts.update({k: v for k, v in part["facts"].items() if not isinstance(v, str)})
        took = part.get("did", {})
        did.update(took if name in done else dict.fromkeys(took, 0))
    digests = "\n".join(part["digest"] for part in made.values())
    return Made(
        digest=hashlib.sha256(digests.encode()).hexdigest(),
        rows=sum(part["rows"] for part in made.values()),
        files=(),
        facts=dict(facts),  # asdict would make tuples of a Counter
        did=dict(did),
        pages=pages,
    )


def code_of(*modules: str) -> str:
    """A digest of the source of these modules and packages: the `code_version` of an asset.

    An edit anywhere in them makes the asset anew; nobody has to remember to raise a number.
    """
    digest = hashlib.sha256()
    for name in modules:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no module {name}")
        file = Path(spec.origin)
        files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
        for source in files:
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]

"""The card of a data set: what is in it, where it came from, what was left out, how to rebuild it.

All facts are gathered in one mapping, which is written as JSON for machines and as Markdown for
people. A section about which nothing is known is not there.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from tracemill.corpus.records import Message

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

Facts: TypeAlias = dict[str, Any]
Counts: TypeAlias = Mapping[str, int]

COUNTED = ("origin", "label", "licence", "language")
QUANTILES = (0.05, 0.5, 0.95, 1.0)
MOST = 30
"""Rows of a table in the Markdown; the JSON has all."""


@dataclass(frozen=True)
class Drop:
    """Records that one step left out for one reason."""

    step: str
    reason: str
    records: int


@dataclass(frozen=True)
class Contamination:
    """What one evaluation set cost: records dropped by each rule."""

    evaluation: str
    items: int
    by_ngram: int
    by_near_duplicate: int


@dataclass(frozen=True)
class Story:
    """What the steps before writing know. All of it is optional."""

    description: str = ""
    sources: Sequence[Mapping[str, Any]] = ()
    """One for each origin: `origin`, and what is known of it (`licence`, `read`, `quarantined`)."""
    drops: Sequence[Drop] = ()
    personal: Mapping[str, Counts] = field(default_factory=dict[str, Counts])
    """Kind of personal data -> what was done with it -> how often: `{"email": {"redacted": 12}}`."""
    duplicates: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Such as `exact`, `near`, `policy`, `threshold`, `fields`."""
    contamination: Sequence[Contamination] = ()
    rules: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Quality rule -> its threshold."""
    split: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Such as `ratios`, `by`, `salt`, `stratify`, `groups`."""
    warnings: Sequence[str] = ()
    rebuild: Mapping[str, str] = field(default_factory=dict[str, str])
    """Such as `command`, `recipe` (YAML)."""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Package -> version."""


class Measures:
    """Counts and lengths of the rows that are written, gathered batch by batch."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        self._lengths: defaultdict[tuple[str, str], list[NDArray[np.int64]]] = defaultdict(list)
        self._fields: set[str] = {"role", "content"}
        self._times: list[Any] = []

    def add(self, batch: "pl.DataFrame") -> None:
        """Look at a batch with `split`."""
        import polars as pl

        for name in [name for name in COUNTED if name in batch.columns]:
            counted = batch.group_by("split", name).len().drop_nulls(name)
            for split, value, count in counted.iter_rows():
                self._counts[name][str(value), split] += count
        for (split,), part in batch.select("split", *_lengths(batch)).group_by("split"):
            for name in part.columns[1:]:
                self._lengths[name, str(split)].append(part[name].drop_nulls().to_numpy())
        turn = pl.col("messages").list.explode(empty_as_null=False).struct
        there = batch.select(turn.field(name).is_not_null().any() for name in Message._fields)
        self._fields |= {name for name in there.columns if there[name].item()}
        if "timestamp" in batch.columns:
            self._times += batch.select(pl.col("timestamp").min(), b=pl.col("timestamp").max()).row(
                0
            )

    @property
    def used(self) -> frozenset[str]:
        """The fields of messages that are not null everywhere."""
        return frozenset(self._fields)

    def facts(self, splits: Sequence[str]) -> Facts:
        """Name -> value -> split -> count, and the quantiles of the lengths."""
        import numpy as np

        told: Facts = {}
        for name, counts in self._counts.items():
            values = sorted({value for value, _ in counts}, key=lambda value: (-sum(
                counts[value, split] for split in splits), value))  # fmt: skip
            told[name] = {value: {at: counts[value, at] for at in splits} for value in values}
        lengths: Facts = {}
        order = {split: at for at, split in enumerate(splits)}
        for name, split in sorted(self._lengths, key=lambda key: (key[0], order[key[1]])):
            whole = np.concatenate(self._lengths[name, split])
            if whole.size:
                quantiles = (
                    np.quantile(whole, QUANTILES, method="inverted_cdf").astype(int).tolist()
                )
                lengths.setdefault(name, {})[split] = dict(
                    zip(("p5", "p50", "p95", "max"), quantiles, strict=True)
                ) | {"sum": int(whole.sum())}
        times = [moment for moment in self._times if moment is not None]
        period = {"from": min(times).isoformat(), "to": max(times).isoformat()} if times else {}
        return told | {"lengths": lengths, "period": period}


def facts(manifest: Mapping[str, Any], measures: Measures, story: Story) -> Facts:
    """Everything that the card says, as JSON.

    Args:
        manifest: `name`, `digest`, `salt`, `rows`, `inputs`, `files` of the version.
        measures: of its rows.
        story: of the steps before.
    """
    told: Facts = json.loads(json.dumps(asdict(story), default=str))
    return dict(manifest) | measures.facts(list(manifest["rows"])) | told


def card(told: Facts) -> str:
    """The facts as Markdown."""
    sections = {
        "": _head(told),
        "Records": _records(told),
        "Sources": _table(told["sources"]),
        "Labels": _by_split(told, "label"),
        "Languages": _by_split(told, "language"),
        "Licences": _by_split(told, "licence"),
        "Lengths": _length_table(told["lengths"]),
        "What was left out": _drops(told["drops"]),
        "Duplicates": _pairs(told["duplicates"]),
        "Contamination": _contamination(told["contamination"]),
        "Personal data": _personal(told["personal"]),
        "Quality rules": _list(f"`{name}`: {_said(each)}" for name, each in told["rules"].items()),
        "Split": _pairs(told["split"]) + _list(f"warning: {text}" for text in told["warnings"]),
        "Files": _files(told["files"]),
        "How to rebuild": _rebuild(told),
    }
    parts = [f"## {name}\n\n{text}" if name else text for name, text in sections.items() if text]
    return "\n".join(parts)


def front_matter(told: Facts) -> str:
    """What Hugging Face reads at the top of the card in `hf/`: which files are which split."""
    import yaml

    licences = sorted(told.get("licence", {}))
    paths = {name: f"data/{name}-*" for name, count in told["rows"].items() if count}
    files = [{"split": name, "path": path} for name, path in paths.items()]
    total = sum(told["rows"].values())
    meta: Facts = {"pretty_name": told["name"]}
    meta |= {"license": "other", "license_name": ", ".join(licences)} if licences else {}
    meta |= {"language": sorted(told["language"])} if told.get("language") else {}
    meta |= {"task_categories": ["text-generation"], "size_categories": [_size(total)]}
    meta["configs"] = [{"config_name": "default", "data_files": files}]
    return f"---\n{yaml.safe_dump(meta, sort_keys=False, allow_unicode=True)}---\n\n"


def croissant(told: Facts) -> Facts:
    """The facts in Croissant 1.0 (mlcommons.org/croissant): JSON-LD of files with their digests."""
    kinds = {"parquet": "application/vnd.apache.parquet", "jsonl": "application/jsonlines"}
    return {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": told["name"],
        "description": told["description"] or f"{sum(told['rows'].values()):,} records",
        "version": told["digest"][:16],
        "license": sorted(told.get("licence", {})),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "encodingFormat": kinds[name.rpartition(".")[2]],
                "sha256": digest,
            }
            for name, digest in told["files"].items()
        ],
    }


def _lengths(batch: "pl.DataFrame") -> "list[pl.Expr]":
    import polars as pl

    turn = pl.element().struct
    said = pl.coalesce(turn.field("content"), turn.field("tool_calls"))
    characters = pl.col("messages").list.eval(said.str.len_chars()).list.sum()
    known = [pl.col("tokens")] if "tokens" in batch.columns else []
    turns = pl.col("messages").list.len().alias("turns")
    columns = [characters.alias("characters"), *known, turns]
    return [column.cast(pl.Int64) for column in columns]


def _head(told: Facts) -> str:
    lines = [f"# {_cell(told['name'])}", ""]
    if told["description"]:
        lines += [told["description"], ""]
    total = f"{sum(told['rows'].values()):,} records"
    period = told["period"]
    when = f", from {period['from'][:10]} to {period['to'][:10]}" if period else ""
    lines += [f"Version `{told['digest'][:16]}`: {total}{when}.", ""]
    return "\n".join(lines)


def _records(told: Facts) -> str:
    by = told.get("origin", {})
    every = {"all": dict(told["rows"])}
    return _split_table("origin", dict(by) | every if len(by) != 1 else by, told["rows"], False)


def _by_split(told: Facts, name: str) -> str:
    """Counts by split, and of how many records it is not known; nothing where none has it."""
    if not told.get(name):
        return ""
    rows, known = told["rows"], told[name].values()
    rest = {split: count - sum(each[split] for each in known) for split, count in rows.items()}
    unknown = {"not given": rest} if any(rest.values()) else {}
    return _split_table(name, told[name] | unknown, rows, True)


def _split_table(
    name: str, values: Mapping[str, Counts], rows: Counts, shares: bool
) -> str:  # fmt: skip
    """Counts by split; a share of the split's records behind each, where asked."""

    def said(split: str, count: int) -> str:
        return f"{count:,} ({count / rows[split]:.1%})" if shares and rows[split] else f"{count:,}"

    return _grid(
        [name, *rows, "sum"],
        [
            [value, *(said(at, counts[at]) for at in rows), f"{sum(counts.values()):,}"]
            for value, counts in values.items()
        ],
    )


def _length_table(lengths: Facts) -> str:
    return _grid(
        ["", "split", "5 %", "median", "95 %", "most", "sum"],
        [
            [name, split, *(f"{number:,}" for number in numbers.values())]
            for name, splits in lengths.items()
            for split, numbers in splits.items()
        ],
    )


def _contamination(reports: Sequence[Facts]) -> str:
    header = ["evaluation", "items", "records with a shared 13-gram", "near-duplicates"]
    return _grid(header, [[_said(value) for value in report.values()] for report in reports])


def _personal(kinds: Mapping[str, Counts]) -> str:
    acts = sorted({act for counts in kinds.values() for act in counts})
    rows = [[kind, *(f"{kinds[kind].get(act, 0):,}" for act in acts)] for kind in kinds]
    return _grid(["kind", *acts], rows)


def _files(files: Mapping[str, str]) -> str:
    return _grid(["file", "SHA-256"], [[f"`{name}`", f"`{at}`"] for name, at in files.items()])


def _rebuild(told: Facts) -> str:
    rebuild = dict(told["rebuild"])
    parts = [f"```\n{rebuild.pop('command')}\n```\n"] if "command" in rebuild else []
    parts += [f"```yaml\n{rebuild.pop('recipe').strip()}\n```\n"] if "recipe" in rebuild else []
    parts += [_pairs(rebuild)]
    parts += [
        _grid(["input", "digest"], [[name, f"`{at}`"] for name, at in told["inputs"].items()])
    ]
    parts += [_grid(["package", "version"], [[*pair] for pair in told["versions"].items()])]
    return "\n".join(part for part in parts if part)


def _table(rows: Sequence[Facts]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _grid(names, [[_said(row.get(name)) for name in names] for row in rows])


def _drops(drops: Sequence[Facts]) -> str:
    """Each reason with its count, and their sum."""
    rows = [[drop["step"], drop["reason"], f"{drop['records']:,}"] for drop in drops[:MOST]]
    if rest := drops[MOST:]:
        more = f"{sum(drop['records'] for drop in rest):,}"
        rows.append(["…", f"{len(rest):,} other reasons, in card.json", more])
    if len(drops) > 1:
        rows.append(["all", "", f"{sum(drop['records'] for drop in drops):,}"])
    return _grid(["step", "reason", "records"], rows, len(rows))


def _pairs(values: Mapping[str, Any]) -> str:
    return _list(f"{name.replace('_', ' ')}: {_said(value)}" for name, value in values.items())


def _list(texts: Iterable[str]) -> str:
    return "".join(f"- {_cell(text)}\n" for text in texts)


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]], most: int = MOST) -> str:
    """A table, numbers to the right; nothing when it has no rows."""
    if not rows:
        return ""
    right = [all(row[at][:1].isdigit() for row in rows) for at in range(len(header))]
    lines = [header, ["--:" if number else "---" for number in right], *rows[:most]]
    table = "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)
    return table + (
        f"\nand {len(rows) - most:,} more, in `card.json`\n" if len(rows) > most else ""
    )


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value).items()
        return ", ".join(f"{name} {_said(each)}" for name, each in pairs)
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, cast("Sequence[Any]", value)))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _size(rows: int) -> str:
    """The Hub's name for a number of records."""
    for upto, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K")):
        if rows < upto:
            return name
    return "100K<n<1M" if rows < 10**6 else "1M<n<10M" if rows < 10**7 else "n>10M"

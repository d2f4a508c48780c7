"""Raw records to a version of the data set: each step's tables lie where the asset would put them."""

from collections import Counter
from typing import TYPE_CHECKING

from tracemill.corpus import dedup, read, recipe, split, write
from tracemill.corpus.card import Contamination, Drop, Story
from tracemill.corpus.clean import clean
from tracemill.corpus.contamination import Evaluations, decontaminate, evaluation_texts, report
from tracemill.corpus.personal import protect
from tracemill.corpus.records import Judged
from tracemill.corpus.tables import write_table
from tracemill.corpus.tokens import limit
from tracemill.events import DatasetBuilt, SourceHarvested
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.recipe import Dataset
    from tracemill.log import EventLog

ACTOR, MOST_TOKENS = "sample", 10_000


def build(settings: Settings, log: "EventLog") -> write.Dataset:
    """Read, clean, protect, drop what is too long or there twice or tested, split, write."""
    import polars as pl

    asked = recipe.dataset_recipe(settings.raw_dataset)
    personal: Counter[str] = Counter()
    fitting, sources = [], []
    for name, origin in read.origins(settings.raw_records).items():
        batches = list(read.read_records(origin.path, name, origin.recipe))
        raw = pl.concat(batch.kept for batch in batches)
        refused = pl.concat(batch.quarantined for batch in batches)
        table = write_table(raw, settings.kept("raw_records") / f"{name}.parquet")
        write_table(refused, settings.quarantine / "raw_records" / f"{name}.parquet")
        told = {"items": raw.height, "quarantined": refused.height, "digest": table.digest}
        log.append(SourceHarvested(name=f"raw_records/{name}", **told, actor=ACTOR))
        sources.append({"origin": name, "licence": origin.recipe.licence, "read": raw.height,
                        "quarantined": refused.height})  # fmt: skip
        cleaned = _kept(settings, "clean_records", clean(raw, origin.recipe), name)
        safe = protect(cleaned, origin.recipe.pii)
        personal.update(dict(safe.counts.select("kind", "found").iter_rows()))
        protected = _kept(settings, "protected_records", Judged(*safe[:2]), name)
        short = limit(protected, asked.tokens.max_tokens or MOST_TOKENS, asked.tokens.tokenizer)
        fitting.append(_kept(settings, "fitting_records", short, name))
    whole = pl.concat(fitting)
    unique = _kept(settings, "unique_records", dedup.deduplicate(whole))
    held_out = {
        name: evaluation_texts(settings.raw_dataset.parent / file)
        for name, file in asked.evaluations.items()
    }
    unseen = decontaminate(unique, Evaluations.of(held_out))
    found = report(Evaluations.of(held_out), unseen.dropped.select("evaluation", "rule"))
    rows = _kept(settings, "decontaminated_records", unseen)
    story = Story(
        sources=sources,
        drops=_drops(settings),
        personal={kind: {"redacted": count} for kind, count in sorted(personal.items())},
        contamination=[Contamination(*row) for row in found.iter_rows()],
    )
    return _split(settings, log, rows, asked, story)


def _kept(settings: Settings, step: str, judged: Judged, origin: str = "all") -> "pl.DataFrame":
    """Write both halves of a step's records; what goes on."""
    write_table(judged.kept, settings.kept(step) / f"{origin}.parquet")
    write_table(judged.dropped, settings.dropped(step) / f"{origin}.parquet")
    return judged.kept


def _split(
    settings: Settings, log: "EventLog", rows: "pl.DataFrame", asked: "Dataset", story: Story
) -> write.Dataset:
    clusters = dedup.clusters(rows, threshold=asked.dedup.threshold)
    placed = split.split(
        rows, asked.split.ratios, asked.split.salt, by=asked.split.by, clusters=clusters
    )
    write_table(placed.dropped, settings.dropped("training_splits") / "all.parquet")
    built = write.write_splits(
        [placed.kept],
        settings.splits,
        name=asked.name,
        inputs={},
        salt=asked.split.salt,
        splits=asked.split.ratios,
        story=story,
    )
    log.append(
        DatasetBuilt(
            name=asked.name,
            digest=built.digest,
            rows=built.rows,
            salt=asked.split.salt,
            dropped=_by_step(story),
            log_position=log.position(),
            actor=ACTOR,
        )
    )
    return built


def _drops(settings: Settings) -> list[Drop]:
    """What each step left out, and why."""
    import polars as pl

    found: list[Drop] = []
    for folder in sorted((settings.corpus / "dropped").iterdir()):
        counted = (
            pl.scan_parquet(sorted(folder.glob("*.parquet"))).group_by("reason").len().collect()
        )
        found += [Drop(folder.name, *row) for row in counted.sort("reason").iter_rows()]
    return found


def _by_step(story: Story) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for each in story.drops:
        counts[each.step] += each.records
    return dict(counts)

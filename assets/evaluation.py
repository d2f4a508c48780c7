"""Does retrieval find the right passage: each version of a collection against the one before it.

By the questions that people labelled in raw/questions; without them by questions that are made from
the collection's own text, which say when something got worse and little else.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets import documents, indexes, show, sources
from assets.warehouse import COLLECTIONS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.files import write_text_atomically
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.retrieval.collection import Collection

ANSWERS = "local/extract"
"""Who answers labelled questions: it needs no key, so that every build can ask."""
_QUARANTINE = "tracemill quarantine --step questions -n 20"
PARTS = (
    *("questions", "relevance", "metrics", "evaluate", "judge", "answer", "packing", "citations"),
    *("confidence", *indexes.PARTS),
)
ANSWERING = (
    *("asked_for", "bm25", "injection", "meaning", "passages", "sentences", "words"),
    "providers.local",
)


def told(settings: Settings) -> dict[str, dict[str, str]]:
    """Collection -> what people said of it: its recipe, and a digest of its labelled questions."""
    from tracemill.retrieval.questions import questions_file

    return {
        name: {
            "recipe": origin.recipe.model_dump_json(),
            "questions": sources.fingerprint(questions_file(settings, name)),
        }
        for name, origin in documents.origins(settings).items()
    }


@asset_by(
    COLLECTIONS,
    key_prefix=documents.GROUP,
    group_name=documents.GROUP,
    owners=OWNERS,
    kinds={"polars"},
    code_version=code_of(
        __name__,
        *(f"tracemill.retrieval.{name}" for name in PARTS),
        *(f"tracemill.llm.{name}" for name in ANSWERING),
        "tracemill.tokenizer",
        "tracemill.intervals",
    ),
    deps=[indexes.chunk_index],
)
def evaluation(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """At which rank the right passage comes, by collection: recall, MRR, nDCG.

    Where people labelled questions, also how often "not found" is right and citations are supported.
    """
    from tracemill.retrieval.collection import open_collection
    from tracemill.retrieval.evaluate import against_last, evaluate
    from tracemill.retrieval.questions import labelled

    settings = warehouse.settings
    parts, state = warehouse.parts(indexes.chunk_index.key), told(settings)

    def work(name: str) -> Made:
        with warehouse.open_log() as log:
            collection = open_collection(settings.indexes, name, log=log)
            read = labelled(settings, name)
            questions = read.frame if read else _self_made(settings, collection)
            if questions.is_empty():
                return _nothing_asked(settings, collection)
            made = evaluate(
                collection,
                questions,
                settings=settings,
                log=log,
                answer_model=ANSWERS if read else None,
                actor=warehouse.origin(context)["actor"],
            )
            verdict = against_last(log, made, settings=settings)
        said = {
            "metrics": made.event.metrics,
            "questions": made.event.questions,
            "labelled": read is not None,
            "refused": read.refused.height if read else 0,
            "lost": made.lost.height,
            "passed": verdict.passed,
            "lines": verdict.lines,
        }
        file = _file(settings, name)
        write_text_atomically(file, json.dumps(said, indent=1))
        return Made(digest=made.event.event_id, rows=made.event.questions, files=(file,))

    asked = {
        name: {indexes.chunk_index.key.to_user_string(): digest, **state[name]}
        for name, digest in parts.items()
        if name in state
    }

    def whole() -> dict[str, str]:
        return _pages(settings, sorted(warehouse.parts(context.asset_key)))

    return warehouse.make_each(context, work, asked, whole)


@dg.asset_check(asset=evaluation)
def no_worse(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No collection finds less than its version before, beyond chance, by the same questions."""
    said = _said(warehouse.settings, sorted(warehouse.parts(evaluation.key)))
    worse = [name for name, each in said.items() if not each["passed"]]
    lines = [f"- {name}: {line}" for name, each in said.items() for line in each["lines"]]
    return dg.AssetCheckResult(
        passed=not worse,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"worse than before: {', '.join(worse)}; see `lines`"
            if worse
            else f"{len(said)} collections find what they found before"
        ),
        metadata={"lines": dg.MetadataValue.md("\n".join(lines))},
    )


@dg.asset_check(asset=evaluation)
def every_question_read(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every line in raw/questions is a question to a collection that is there, and can be found."""
    settings = warehouse.settings
    known = warehouse.parts(evaluation.key)
    problems = [
        f"{file.name} is for no collection: there are {', '.join(sorted(known))}"
        for file in sorted(settings.raw_questions.glob("[!.]*"))
        if file.suffix != ".jsonl" or file.stem not in known
    ]
    for name, each in _said(settings, sorted(known)).items():
        if each["refused"]:
            problems.append(f"{name}: {each['refused']} lines are none: `{_QUARANTINE}`")
        if each["labelled"] and each["lost"]:
            problems.append(
                f"{name}: what {each['lost']} of them quote is nowhere: "
                f"`tracemill collections evaluate {name}`"
            )
    return dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(problems) or "each is asked",
    )


def _self_made(settings: Settings, collection: "Collection") -> "pl.DataFrame":
    """Questions of the collection's own text; for what is installed, those of its records."""
    import polars as pl

    from tracemill.corpus.records import answer, question
    from tracemill.retrieval.questions import from_records, self_made

    if collection.name != documents.INSTALLED:
        return self_made(collection.chunks)
    records = pl.scan_parquet(sources.installed_file(settings), glob=False)
    return from_records(records.select(question(), answer()).collect())


def _nothing_asked(settings: Settings, collection: "Collection") -> Made:
    said = {"metrics": {}, "questions": 0, "labelled": False, "refused": 0, "lost": 0}
    lines = ["its text is too short to make questions of"]
    file = _file(settings, collection.name)
    write_text_atomically(file, json.dumps({**said, "passed": True, "lines": lines}, indent=1))
    return Made(digest=f"nothing asked of {collection.digest}", rows=0, files=(file,))


def _file(settings: Settings, name: str) -> Path:
    return settings.collection(name) / "evaluation.json"


def _said(settings: Settings, names: list[str]) -> dict[str, dict]:
    files = {name: _file(settings, name) for name in names}
    return {
        name: json.loads(file.read_text(encoding="utf-8"))
        for name, file in files.items()
        if file.is_file()
    }


def _pages(settings: Settings, names: list[str]) -> dict[str, str]:
    import polars as pl

    said = _said(settings, names)
    rows = [
        {
            "collection": name,
            "questions": each["questions"],
            "by": "people" if each["labelled"] else "its own text",
            **{metric: round(value, 3) for metric, value in each["metrics"].items()},
        }
        for name, each in said.items()
    ]
    return {
        "sample": show.sample(pl.DataFrame(rows, infer_schema_length=None), rows=20),
        "plot": show.bars(
            "Right passage among the first ten",
            list(said),
            [round(each["metrics"].get("recall@10", 0), 3) for each in said.values()],
            "share of the questions",
        ),
    }

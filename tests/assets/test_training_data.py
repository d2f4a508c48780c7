"""The corpus from raw files to splits, as a user treats it: odd names, touched files, bad recipes.

A small warehouse is built once; each test changes a copy of it, builds again and looks at all tables.
"""

import io
import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster import load_asset_checks_from_modules, load_assets_from_modules
from rich.console import Console

from assets import cleaning, corpus, distinct, flow, quarantine, sources, splits
from assets.build import build
from assets.warehouse import ORIGINS, Warehouse, every
from tracemill.corpus.write import current
from tracemill.settings import Settings

MODULES = [sources, cleaning, corpus, distinct, splits, quarantine]
ASSETS = [*load_assets_from_modules(MODULES), *load_asset_checks_from_modules(MODULES)]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
WORDS = (
    *("river", "stone", "garden", "lamp", "window", "kettle", "bridge", "market", "winter"),
    *("paper", "engine", "cloud", "sailor", "bread", "letter", "forest", "silver", "copper"),
    *("valley", "tower", "candle", "harbour", "meadow", "orchard", "thunder", "pencil"),
)


def said(dice: random.Random, count: int) -> str:
    return " ".join(dice.choices(WORDS, k=count))


def row(number: int, **more: str) -> dict[str, str]:
    dice = random.Random(number)
    return {"question": f"Why {said(dice, 9)}?", "answer": f"Because {said(dice, 30)}.", **more}


def lines(*rows: object) -> str:
    return "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in rows)


def made(settings: Settings) -> dict[str, bool]:
    """Build the corpus; check -> whether it passed."""
    warehouse = Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            ASSETS,
            instance=instance,
            resources={"warehouse": warehouse},
            run_config=QUIET,
            tags=every(ORIGINS, instance, sources.origins(settings)),
            raise_on_error=False,
        )
    assert result.success, [each.check_name for each in failed(result)]
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def failed(result: dg.ExecuteInProcessResult) -> Iterator[dg.AssetCheckEvaluation]:
    return (each for each in result.get_asset_check_evaluations() if not each.passed)


def ids(settings: Settings, step: str = corpus.TWICE) -> set[str]:
    return set(pl.read_parquet(flow.kept_files(settings, step), glob=False)["record_id"])


def sides(settings: Settings) -> dict[str, str]:
    files = current(settings.corpus / "splits").path.glob("*.parquet")
    rows = pl.concat(pl.read_parquet(file, glob=False) for file in files)
    return dict(rows.select("record_id", "split").iter_rows())


def assert_accounted(settings: Settings, raw_lines: int) -> None:
    """Lines = refused + dropped + placed, over the whole way; parts count as their record."""
    out = pl.read_parquet(settings.quarantined_records, glob=False)
    cut = sum(
        pl.read_parquet(flow.kept_files(settings, name), glob=False).height
        * (1 if name == corpus.FITTING else -1)
        for name in (corpus.FITTING, corpus.PROTECTED)
    )
    too_long = pl.read_parquet(flow.dropped_files(settings, corpus.FITTING), glob=False).height
    assert raw_lines + cut + too_long == out.height + len(sides(settings))


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("house [1]") / "warehouse"
    settings = Settings(warehouse=folder, harvest_installed=False).create()
    raw = settings.raw_records
    pairs = [row(n, conversation_id=f"c{n // 2}") for n in range(40)]
    (raw / "faq.jsonl").write_text(lines(*pairs, "{broken", {"question": "no answer"}))
    near = row(1)
    near["answer"] = near["answer"][:-1] + " and more."
    (raw / "Größe [2] 1*.jsonl").write_text(lines(row(0), near, row(50), row(51)))
    (raw / "empty.jsonl").touch()
    (raw / "nothing").mkdir()
    settings.raw_dataset.write_text("split: {ratios: {train: 0.5, 'te st': 0.5}}")
    made(settings)
    return settings


@pytest.fixture
def built(first: Settings, tmp_path: Path) -> Settings:
    copy = shutil.copytree(first.warehouse, tmp_path / "warehouse")
    return Settings(warehouse=copy, harvest_installed=False)


def test_odd_names_and_folders_lose_nothing(first: Settings):
    assert_accounted(first, 46)
    out = pl.read_parquet(first.quarantined_records, glob=False)
    assert sorted(out.select("step", "reason").iter_rows())[-2:] == [
        ("unique_records", "exact duplicate"),
        ("unique_records", "near duplicate"),
    ]
    assert set(sides(first).values()) == {"train", "te st"}


def test_a_file_that_was_touched_grew_or_was_renamed_keeps_its_records(built: Settings):
    file, before, placed = built.raw_records / "faq.jsonl", ids(built), sides(built)
    os.utime(file, (1, 1))
    made(built)
    assert ids(built) == before
    file.write_text(lines(row(90)) + file.read_text())
    made(built)
    assert before < ids(built)
    file.rename(file.with_name("other.jsonl"))
    made(built)
    assert before < ids(built)
    now = sides(built)
    assert {record: now[record] for record in placed} == placed
    assert_accounted(built, 47)


def test_an_origin_that_is_gone_leaves_every_table(built: Settings):
    (built.raw_records / "faq.jsonl").unlink()
    made(built)
    tables = [*built.corpus.glob("*_records/*.parquet"), built.quarantined_records]
    origins = set(
        pl.concat(pl.read_parquet(each, glob=False, columns=["origin"]) for each in tables)[
            "origin"
        ]
    )
    assert origins == {"Größe [2] 1*"}
    assert len(sides(built)) == 4


def test_one_id_in_many_batches_stays_once(built: Settings):
    same = json.dumps(row(70, source="wiki")) + "\n"
    (built.raw_records / "many.jsonl").write_text(same * 20_500)
    made(built)
    assert_accounted(built, 20_546)


def test_a_longer_duplicate_and_a_bridge_move_nothing(built: Settings):
    placed = sides(built)
    newer = [{**row(n), "answer": row(n)["answer"][:-1] + " as well."} for n in range(10, 20)]
    train, test = (
        next(n for n in range(20, 40) if side(built, n) == name) for name in ("train", "te st")
    )
    bridge = row(test, conversation_id=f"c{train // 2}")
    bridge["answer"] = row(99)["answer"]
    (built.raw_records / "day2.jsonl").write_text(lines(*newer, bridge))
    made(built)
    now = sides(built)
    assert {record: now[record] for record in placed if record in now} == {
        record: side for record, side in placed.items() if record in now
    }
    out = pl.read_parquet(built.quarantined_records, glob=False)
    replaced = out.filter(pl.col("record_id").is_in(list(placed)), reason="near duplicate")
    assert replaced.height == 10
    assert all(placed[old] == now[new] for old, new in replaced["record_id", "kept_id"].iter_rows())
    torn = out.filter(step=corpus.SPLITS)
    assert torn["reason"].to_list() == ["near records of two splits"]
    assert_accounted(built, 57)


def side(settings: Settings, number: int) -> str | None:
    file = next(current(settings.corpus / "splits").path.glob("train.parquet"))
    sources_there = set(pl.read_parquet(file, glob=False)["source"])
    return "train" if f"faq.jsonl:{number + 1}" in sources_there else "te st"


def test_rebuilt_from_nothing_it_is_the_same_version(built: Settings):
    before = current(built.corpus / "splits").digest
    shutil.rmtree(built.corpus)
    made(built)
    assert current(built.corpus / "splits").digest == before


def test_day_by_day_is_all_at_once(built: Settings):
    for day in range(2):
        near = row(200 + day)
        near["answer"] += " One more."
        (built.raw_records / f"day{day}.jsonl").write_text(
            lines(*(row(n) for n in range(200 + day, 206 + 2 * day)), near)
        )
        made(built)
    step_by_step = ids(built)
    shutil.rmtree(built.corpus)
    made(built)
    assert ids(built) == step_by_step


def test_parts_that_two_conversations_share_stand_once_and_on_one_side(built: Settings):
    dice = random.Random(7)

    def turns(count: int) -> list[dict[str, str]]:
        roles = ["user", "assistant"] * (count // 2)
        return [{"role": role, "content": said(dice, 60)} for role in roles]

    start = turns(6)
    rows = [{"messages": [*start, *turns(6)]} for _ in range(6)]
    (built.raw_records / "long.jsonl").write_text(lines(*rows))
    built.raw_dataset.write_text("tokens: {max_tokens: 600, over: split}")
    made(built)
    assert_accounted(built, 52)


def test_what_is_alike_as_a_whole_is_on_one_side_though_prompts_differ(built: Settings):
    rows = [{"question": f"How {said(random.Random(n), 4)}?", "answer": said(random.Random(3), 200)}
            for n in range(12)]  # fmt: skip
    (built.raw_records / "same answer.jsonl").write_text(lines(*rows))
    built.raw_dataset.write_text("dedup: {fields: prompt}\nsplit: {ratios: {a: 0.5, b: 0.5}}")
    made(built)
    wholes = pl.read_parquet(flow.kept_files(built, corpus.TWICE), glob=False)
    there = set(wholes.filter(origin="same answer")["record_id"])
    assert len(there) == 12
    assert len({name for record, name in sides(built).items() if record in there}) == 1


def test_the_check_for_leaks_finds_one(built: Settings):
    version = current(built.corpus / "splits").path
    train, test = (pl.read_parquet(version / f"{name}.parquet") for name in ("train", "te st"))
    leak = train.head(1).with_columns(
        record_id=pl.lit("b2:leaked"), split=pl.lit("te st"), group_id=pl.lit("b2:leaked")
    )
    pl.concat([test, leak]).write_parquet(version / "te st.parquet")
    warehouse = Warehouse(changed=built.model_dump(mode="json", exclude_none=True))
    assert not splits.no_leakage(warehouse=warehouse).passed  # pyright: ignore[reportAttributeAccessIssue]


def test_the_checks_of_what_was_written_find_an_address_and_a_question_of_an_evaluation(
    built: Settings,
):
    warehouse = Warehouse(changed=built.model_dump(mode="json", exclude_none=True))
    question = said(random.Random(99), 16)
    (built.raw_dataset.parent / "exam.txt").write_text(question + "\n")
    recipe = built.raw_dataset.read_text() if built.raw_dataset.is_file() else ""
    built.raw_dataset.write_text(f"{recipe}\nevaluations: {{exam: exam.txt}}\n")
    checks: list[Any] = [splits.no_personal_data, splits.no_contamination]
    assert [check(warehouse=warehouse).passed for check in checks] == [True, True]
    file = current(built.corpus / "splits").path / "train.parquet"
    train = pl.read_parquet(file, glob=False)
    turns = [dict(turn) for turn in train["messages"][0]]
    turns[0]["content"] = f"{question} Write to ann@example.org."
    planted = pl.Series("messages", [turns], train.schema["messages"])
    pl.concat([train.head(1).with_columns(planted), train.tail(-1)]).write_parquet(file)
    assert [check(warehouse=warehouse).passed for check in checks] == [False, False]


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("records/faq.yaml", "formt: pairs", "formt: there is no such field: did you mean format?"),
        ("records/faq.yaml", "licence: 1", "licence: give a text; in quotes"),
        ("records/faq.yaml", "languages: en", r"languages: give a list, as \[a, b\]"),
        ("records/faq.yaml", "languages: [english]", "languages: english is not known"),
        ("records/faq.yaml", "rules: {nonsense: true}", "no rule or set is called nonsense"),
        ("records/faq.yaml", "rules: {gopher.words: x}", "rules.gopher.words: give true, false"),
        ("records/faq.yaml", "- a", "the whole file: give names and values"),
        ("records/faq.yaml", "a: [", "is not YAML"),
        ("dataset.yaml", "split: {ratios: {train: 0.9}}", "split: ratios sum to 0.9, not to 1"),
        ("dataset.yaml", "split: {ratios: {../x: 1}}", "split.ratios.../x: it names a file"),
        ("dataset.yaml", "split: {slat: z}", "split.slat: there is no such field: did you mean"),
        ("dataset.yaml", "tokens: {tokenizer: gpt-9}", "no tokenizer is called 'gpt-9'"),
        ("dataset.yaml", "evaluations: {x: no.jsonl}", "evaluations.x: there is no file"),
        ("records/ghost.yaml", "", "recipe for nothing"),
        ("records/a\tb.jsonl", "", "rename it"),
        (f"records/{'x' * 220}.jsonl", "", "rename it"),
    ],
)
def test_a_wrong_recipe_or_name_stops_before_anything_is_made(
    tmp_path: Path, file: str, text: str, told: str
):
    settings = Settings(warehouse=tmp_path / "warehouse", harvest_installed=False).create()
    (settings.raw_records / "faq.jsonl").write_text(lines(row(1)))
    (settings.raw_records.parent / file).write_text(text)
    screen = io.StringIO()
    assert build(settings, "+quarantine", Console(file=screen)) == 1
    [line] = [each for each in screen.getvalue().splitlines() if "✗" in each]
    assert re.search(told, line)
    assert not settings.corpus.exists()

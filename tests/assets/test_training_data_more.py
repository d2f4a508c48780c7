"""One warehouse of every layout, rule, action and format, with judged calls: all lines add up.

It is built once; the tests look at it, and build it anew from renamed and shuffled files.
"""

import csv
import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets import cleaning, corpus, flow, sources
from assets.warehouse import ORIGINS, Warehouse, every
from tests.assets.test_training_data import QUIET, assert_accounted, lines, made, row, said
from tracemill import Client, EventLog, Settings
from tracemill.corpus.validation.run import validate
from tracemill.corpus.write import current
from tracemill.events import FeedbackGiven
from tracemill.messages import Request

SCORES = {"liked": 1.0, "so so": 0.25, "disliked": -1.0, "not judged": None}
RAW_LINES = 12 + 6 + 6 + 6 + 6 + 4 + 3  # as `dropped_in` writes them, and three judged calls
RECIPE = """\
evaluations: {exam: exam.jsonl}
tokens: {max_tokens: 300, over: split}
split: {by: [duplicates, conversation_id, user_id], stratify: label, ratios: {a: 0.5, b: 0.5}}
formats: [openai, anthropic, sharegpt, hf]
"""


def chat(number: int) -> dict[str, Any]:
    dice = random.Random(100 + number)
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    return {
        "messages": [
            {"role": "system", "content": "You help."},
            {"role": "user", "name": "bob", "content": f"Look at {said(dice, 9)}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": said(dice, 6)},
            {"role": "assistant", "content": said(dice, 12), "weight": number % 2},
            {"role": "user", "content": f"And {said(dice, 9)}?"},
            {"role": "assistant", "content": said(dice, 20)},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "user_id": f"user {number // 2}",
        "label": ["warm", "cold"][number % 2],
        "rating": number % 4,
    }


def dropped_in(raw: Path) -> None:
    dice = random.Random(5)
    (raw / "chat.jsonl").write_text(lines(*map(chat, range(12))))
    (raw / "chat.yaml").write_text("licence: MIT\nmin_rating: 1")
    turns = [("human", 9), ("gpt", 20)]
    talks = [
        {"conversations": [{"from": name, "value": said(dice, n)} for name, n in turns]}
        for _ in range(6)
    ]
    with gzip.open(raw / "share.jsonl.gz", "wt") as file:
        file.write(lines(*talks))
    told = {"instruction": "Tell of", "input": "", "output": ""}
    tasks = [{**told, "input": said(dice, 9), "output": said(dice, 20)} for _ in range(6)]
    (raw / "alpaca.json").write_text(json.dumps(tasks, indent=1))
    with (raw / "table.csv").open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["Prompt", "Completion"])
        for n in range(6):
            write([f"Ask {said(dice, 9)} by ann{n}@corp-mail.org", f"So:\n{said(dice, 20)}"])
    (raw / "table.yaml").write_text("pii: pseudonym")
    pairs = pl.DataFrame([row(300 + n) for n in range(6)])
    mail = (
        pl.when(pl.int_range(6) < 2)
        .then(pl.lit(" Write to eve@firm-mail.net."))
        .otherwise(pl.lit(""))
    )
    pairs.with_columns(pl.col("answer") + mail).write_parquet(raw / "pairs.parquet")
    (raw / "pairs.yaml").write_text("pii: drop")
    exam = f"Why {said(dice, 15)}?"
    (raw.parent / "exam.jsonl").write_text(lines({"question": exam}))
    long = [{"role": role, "content": said(dice, 60)} for role in ["user", "assistant"] * 4]
    kept = row(400, label="warm")
    kept["answer"] += " Ask carl@shop-mail.org."
    ends = [kept, {"messages": long}, {"question": exam, "answer": said(dice, 20)}, "{broken"]
    (raw / "ends.jsonl").write_text(lines(*ends))
    (raw / "ends.yaml").write_text("pii: keep")
    # The local model says what it was asked.
    (raw / "calls.yaml").write_text("rules: {basic.repeats: false}")
    (raw.parent / "dataset.yaml").write_text(RECIPE)


def ask(settings: Settings) -> dict[str, str]:
    """Call after call, each judged in its way: what was said of it -> its id."""
    with EventLog.open(settings) as log:
        client, calls = Client(log), {}
        for number, (opinion, score) in enumerate(SCORES.items()):
            text = said(random.Random(500 + number), 20)
            calls[opinion] = client.generate(Request.of(text, model="local/echo")).call_id
            if score is not None:
                log.append([FeedbackGiven(call_id=calls[opinion], score=score)])
    return calls


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, dict[str, str]]:
    folder = tmp_path_factory.mktemp("rich") / "warehouse"
    settings = Settings(warehouse=folder, harvest_installed=False).create()
    dropped_in(settings.raw_records)
    calls = ask(settings)
    passed = made(settings)
    assert [name for name, ok in passed.items() if not ok] == ["nothing_quarantined"]
    return settings, calls


def placed(settings: Settings) -> pl.DataFrame:
    files = current(settings.corpus / "splits").path.glob("*.parquet")
    return pl.concat([pl.read_parquet(file, glob=False) for file in files])


def test_every_line_is_in_a_split_or_left_out_for_its_reason(rich: tuple[Settings, dict[str, str]]):
    settings, _ = rich
    assert_accounted(settings, RAW_LINES)
    rows = placed(settings)
    out = pl.read_parquet(settings.quarantined_records, glob=False)
    wholes = rows["part_of"].drop_nulls().n_unique() + rows["part_of"].null_count()
    assert wholes + out.height == RAW_LINES
    reasons = out.group_by("origin", "step").len().sort("origin", "step").rows()
    assert reasons == [
        ("calls", "clean_records", 1),
        ("chat", "clean_records", 3),
        ("ends", "decontaminated_records", 1),
        ("ends", "raw_records", 1),
        ("pairs", "protected_records", 2),
    ]
    parts = rows.filter(pl.col("part_of").is_not_null())
    assert parts.height > 1
    assert parts["split"].n_unique() == 1
    users = rows.drop_nulls("user_id").group_by("user_id").agg(pl.col("split").n_unique())
    assert set(users["split"]) == {1}


def test_personal_data_is_replaced_or_kept_as_each_recipe_asks(
    rich: tuple[Settings, dict[str, str]],
):
    rows = placed(rich[0])
    mails = rows.select(
        "origin",
        mail=pl.col("messages")
        .list.eval(pl.element().struct.field("content").str.extract(r"(\S+@[\w.-]+\w)"))
        .list.drop_nulls()
        .list.first(),
    ).drop_nulls()
    assert set(mails["origin"]) == {"table", "ends"}
    table = mails.filter(origin="table")["mail"]
    assert table.str.contains(r"^person-[0-9a-f]{8}@example\.com$").all()
    assert table.n_unique() == 6
    assert mails.filter(origin="ends")["mail"].to_list() == ["carl@shop-mail.org"]


def test_every_file_of_a_version_passes_validation(rich: tuple[Settings, dict[str, str]]):
    version = current(rich[0].corpus / "splits").path
    files = sorted(version.glob("*/*.jsonl"))
    assert len(files) == 6
    for file in files:
        report = validate(file, min_rows=1)
        assert report.ok, (file, [group.code for group in report.groups])
        assert report.shape == {"openai": "chat"}.get(file.parent.name, file.parent.name)
    card = (version / "README.md").read_text()
    assert "| MIT |" in card
    assert "| not given |" in card
    assert "- `basic.short_answer`: 10" in card


def test_what_people_liked_is_learned(rich: tuple[Settings, dict[str, str]]):
    settings, calls = rich
    rated = placed(settings).drop_nulls("call_id").select("call_id", "rating")
    assert dict(rated.iter_rows()) == {calls[name]: SCORES[name] for name in ("liked", "so so")}


def test_renamed_and_shuffled_files_stay_as_they_were_and_another_bar_is_obeyed(
    rich: tuple[Settings, dict[str, str]], tmp_path: Path
):
    before, calls = rich
    copy = shutil.copytree(before.warehouse, tmp_path / "warehouse")
    settings = Settings(warehouse=copy, harvest_installed=False)
    shutil.rmtree(settings.corpus)
    raw = settings.raw_records
    for old, new in (("chat", "zebra"), ("pairs", "aardvark")):
        for file in raw.glob(f"{old}.*"):
            file.rename(file.with_name(file.name.replace(old, new)))
    shuffled = (raw / "zebra.jsonl").read_text().splitlines(keepends=True)[::-1]
    (raw / "zebra.jsonl").write_text("".join(shuffled))
    recipe = raw / "calls.yaml"
    recipe.write_text(f"{recipe.read_text()}\nmin_rating: 0.5")
    made(settings)
    assert_accounted(settings, RAW_LINES)
    now, then = placed(settings), placed(before)
    assert now["call_id"].drop_nulls().to_list() == [calls["liked"]]
    same, others = ["record_id", "messages"], pl.col("origin") != "calls"
    expected = then.filter(others)[same].sort("record_id")
    assert now.filter(others)[same].sort("record_id").equals(expected)
    out = pl.read_parquet(settings.quarantined_records, glob=False).filter(origin="calls")
    assert out["reason"].to_list() == ["rated under 0.5"] * 2


def test_one_origin_alone_then_another_and_one_that_is_not_there(tmp_path: Path):
    settings = Settings(warehouse=tmp_path / "warehouse", harvest_installed=False).create()
    for name, number in (("house", 1), ("garden", 2)):
        (settings.raw_records / f"{name}.jsonl").write_text(lines(row(number)))
    changed = settings.model_dump(mode="json", exclude_none=True)
    assets = [sources.raw_records, cleaning.clean_records, cleaning.protected_records]

    def run(origin: str) -> bool:
        return dg.materialize(
            [*assets, corpus.fitting_records],
            instance=instance,
            resources={"warehouse": Warehouse(changed=changed)},
            run_config=QUIET,
            partition_key=origin,
            raise_on_error=False,
        ).success

    def there() -> list[str]:
        return [file.stem for file in flow.kept_files(settings, corpus.FITTING)]

    with dg.DagsterInstance.ephemeral() as instance:
        every(ORIGINS, instance, sources.origins(settings))
        sources_alone = dg.materialize(
            [sources.installed_records],
            instance=instance,
            resources={"warehouse": Warehouse(changed=changed)},
            run_config=QUIET,
        )
        assert sources_alone.success
        assert run("house")
        assert there() == ["house"]
        assert run("garden")
        assert there() == ["garden", "house"]
        (settings.raw_records / "garden.jsonl").unlink()
        assert not run("garden")
        assert run("house")
        assert there() == ["house"]

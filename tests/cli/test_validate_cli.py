"""`tracemill validate`: exit codes, what people read, what programs read."""

import json
from pathlib import Path

import pytest

from tests.cli.running import Run

GOOD = [
    {
        "messages": [
            {"role": "user", "content": f"{n} and one?"},
            {"role": "assistant", "content": str(n + 1)},
        ]
    }
    for n in range(12)
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GOOD), encoding="utf-8")
    return path


def test_a_good_file_exits_0_and_says_how_long_its_rows_are(run: Run, file: Path):
    ran = run("validate", str(file))
    assert (ran.code, ran.err) == (0, "")
    assert "rows    12 in 12 lines" in ran.out
    assert "tokens of a row\n  16 to 32" in ran.out
    assert ran.out.endswith(f"{file}: no errors, no warnings\n")


def test_errors_exit_1_with_line_path_and_mend(run: Run, file: Path):
    with file.open("a", encoding="utf-8") as lines:
        lines.write(
            '\n{"messages": [{"role": "user", "content": "Hi"}, {"role": "\\u001b[31m"}]}\n' * 5
        )
    ran = run("validate", str(file))
    assert ran.code == 1
    assert (
        "error  the last message is not an assistant's (5 times)\n"
        "  line 14, messages[1]: the last message is of \\x1b[31m\n"
    ) in ran.out
    assert "  and 2 more; --all shows them\n  mend: end with an answer\n" in ran.out
    assert "warning  a blank line (5 times)\n  line 13: nothing in it\n" in ran.out
    assert "\x1b" not in ran.out
    assert "and 2 more" not in run("validate", str(file), "--all").out


def test_programs_read_every_count(run: Run, file: Path):
    ran = run("validate", str(file), "--model", "gpt-4.1-mini", "--tokenizer", "default", "--json")
    (report,) = ran.lines
    assert (ran.code, report["ok"], report["shape"], report["rows"]) == (0, True, "chat", 12)
    assert report["groups"] == []
    assert report["tokens"]["counted"] == 12
    assert report["cost"]["tokens"] == 3 * report["tokens"]["total"]
    assert report["cost"]["usd"] == "0.00"


def test_asked_the_wrong_way_it_exits_2(run: Run, tmp_path: Path, file: Path):
    missing = run("validate", str(tmp_path / "none.jsonl"))
    assert (missing.code, missing.out) == (2, "")
    assert missing.err.endswith("is no file: name a file of JSON lines, plain or .gz\n")
    unknown = run("validate", str(file), "--tokenizer", "gpt2")
    assert unknown.code == 2
    assert "no tokenizer is called 'gpt2'" in unknown.err

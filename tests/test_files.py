"""What killed writers leave is swept; what may still be written is not."""

import os
from pathlib import Path

from tracemill.files import sweep, write_text_atomically


def test_old_asides_are_swept_and_nothing_else(tmp_path: Path):
    kept = write_text_atomically(tmp_path / "a" / "table.parquet", "whole")
    new = tmp_path / "a" / ".table.parquet.1.tmp"
    old, folder = tmp_path / "a" / ".table.parquet.2.tmp", tmp_path / ".3.tmp"
    for file in (new, old):
        file.write_text("half")
    (folder / "b").mkdir(parents=True)
    for each in (old, folder, kept):
        os.utime(each, (0, 0))
    sweep(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([kept, new])
    assert not folder.exists()

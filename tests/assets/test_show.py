"""What an asset's page shows."""

import polars as pl

from assets import show


def test_a_sample_shows_nothing_personal_and_no_broken_table():
    frame = pl.DataFrame({"said": ["ask ann@example.org | or\n`call`", None], "n": [1, 2]})
    assert show.sample(frame) == (
        "| said | n |\n| --- | --- |\n| ask [email] \\| or \\`call\\` | 1 |\n|  | 2 |"
    )

"""Reference pages hold every docstring once, under its name."""

from datetime import UTC, datetime

import polars as pl

from tracemill.corpus.records import Message, Record, pair, record_frame
from tracemill.corpus.reference import reference_documents

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def harvested(*rows: tuple[str, str, str]) -> pl.DataFrame:
    return record_frame(
        [
            Record((Message("system", written), *pair(f"What is {s}?", doc)), "installed", s, WHEN)
            for s, written, doc in rows
        ]
    )


def test_names_of_one_module_share_a_page_with_headings_and_signatures() -> None:
    pages = reference_documents(
        harvested(
            (
                "box 1.0: box.open",
                "def open(lid)\n\nmodule box._core",
                "Open a box.\n\nBy its lid.",
            ),
            ("box 1.0: box", "module box", "Boxes."),
            ("box 1.0: box.shut", "def shut()\n\nmodule box._core", "Shut it."),
        )
    )
    assert pages.select("title", "source", "format", "text").rows() == [
        (
            "box._core",
            "box 1.0: box._core",
            "rst",
            (
                "box.open\n========\n\ndef open(lid)\n\nOpen a box.\n\nBy its lid.\n\n"
                "box.shut\n========\n\ndef shut()\n\nShut it."
            ),
        ),
        ("box", "box 1.0: box", "rst", "box\n===\n\nBoxes."),
    ]


def test_two_packages_with_a_module_of_the_same_name_have_a_page_each() -> None:
    pages = reference_documents(
        harvested(("a 1: m.f", "module m", "First."), ("b 2: m.f", "module m", "Second."))
    )
    assert pages["source"].to_list() == ["a 1: m", "b 2: m"]


def test_no_records_make_no_pages() -> None:
    assert reference_documents(harvested()).is_empty()

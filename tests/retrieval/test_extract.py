"""Files of each kind as text, and what cannot be read with the reason."""

import gzip
import re
import tracemalloc
import unicodedata
from pathlib import Path

import pytest

from tests.retrieval import made_files
from tests.retrieval.made_files import SENTENCE
from tracemill.errors import InputError
from tracemill.retrieval.extract import Extracted, Page, properties
from tracemill.retrieval.extract.decode import clean
from tracemill.retrieval.extract.files import read_file

CREATED, MODIFIED = "2024-01-02T03:04:05+00:00", "2025-01-02T03:04:05+00:00"
RUSSIAN = "Это обычный русский текст, довольно короткий, насос двигает воду."
ADA = {"authors": ["Ada"], "created_by": "Ada"}
MANUAL = made_files.pdf(
    [(24, "Pumps"), (11, "A pump moves water."), (11, "Oil it (often).")],
    [],
    [(11, "# Not a heading, and on the third page.")],
)
PAGE = b"""<!doctype html><html lang="en-GB"><head><title>Pumps &amp; seals</title>
<meta name="author" content="Ada"><meta name="keywords" content="pump, seal">
<meta property="article:published_time" content="2024-05-06T07:08:09+02:00">
<style>p {}</style><script>alert(1)</script></head><body><nav><a href="/">Home</a></nav>
<h1>Pumps</h1><p>A <b>pump</b> moves <a href="w.html">water</a>.</p>
<pre><code class="language-python">oil(pump)
  # twice</code></pre>
<table><tr><th>Part</th></tr><tr><td>Seal</td></tr></table></body></html>"""
FRONT = """---
title: Care of pumps
author: Ada
date: 2024-05-06
tags: [oil, water]
text: something else
---
# Pumps

Oil them.
"""
MAIL = b"""From: ada@example.org\r
To: bob@example.org\r
Subject: The pump\r
Date: Tue, 02 Jan 2024 03:04:05 +0000\r
\r
It is broken.\r
"""
NOTEBOOK = made_files.notebook(
    ("markdown", "# Pumps\nOil them.", ""), ("code", "oil(3)", "\x1b[31mdone\x1b[0m\n")
)

READ = {
    "fm.md": (
        FRONT.encode(),
        Extracted(
            "markdown",
            "markdown",
            "\n" * 7 + "# Pumps\n\nOil them.\n",
            "Care of pumps",
            by_line=True,
            created_at="2024-05-06T00:00:00+00:00",
            metadata={
                "author": "Ada",
                "date": "2024-05-06",
                "tags": ["oil", "water"],
                "text": "something else",
            },
        ),
    ),
    "a.md": (
        b"```\n# not this\n```\r\n\r\nPumps & `seals`\r\n===\r\n",
        Extracted(
            "markdown",
            "markdown",
            "```\n# not this\n```\n\nPumps & `seals`\n===\n",
            "Pumps & `seals`",
            by_line=True,
        ),
    ),
    "a.rst": (
        b"=====\nPumps\n=====\n\n:Author: Ada\n:Date: 2024-05-06\n\nOil them.\n",
        Extracted(
            "rst",
            "rst",
            "=====\nPumps\n=====\n\n:Author: Ada\n:Date: 2024-05-06\n\nOil them.\n",
            "Pumps",
            by_line=True,
            created_at="2024-05-06T00:00:00+00:00",
            metadata={"author": "Ada", "date": "2024-05-06"},
        ),
    ),
    "a.html": (
        PAGE,
        Extracted(
            "html",
            "markdown",
            "# Pumps\n\nA **pump** moves [water](w.html).\n\n"
            "```python\noil(pump)\n  # twice\n```\n\n| Part |\n| ---- |\n| Seal |\n",
            "Pumps & seals",
            language="en",
            created_at="2024-05-06T05:08:09+00:00",
            metadata={"keywords": ["pump", "seal"], "authors": ["Ada"]},
        ),
    ),
    "a.pdf": (
        MANUAL,
        Extracted(
            "pdf",
            "markdown",
            "# Pumps\n\nA pump moves water.\nOil it (often).\n\n"
            "\\# Not a heading, and on the third page.\n",
            "Pump manual",
            (Page(0, 1), Page(46, 3)),
            created_at="2024-01-02T03:04:05+00:00",
            metadata={"keywords": ["pump", "seal"], "authors": ["Ada"], "page_count": 3},
        ),
    ),
    "a.docx": (
        made_files.docx(),
        Extracted(
            "docx",
            "markdown",
            f"## Pumps\n\n{SENTENCE}\n\n| Part | Price |\n| --- | --- |\n| Seal | 12 |\n\n"
            "The end.\n",
            "Pump manual",
            metadata=ADA,
            created_at=CREATED,
            modified_at=MODIFIED,
        ),
    ),
    "a.pptx": (
        made_files.pptx(("Pumps", "They move water."), ("Care", "Oil them.")),
        Extracted(
            "pptx",
            "markdown",
            "## Pumps\n\nThey move water.\n\n## Care\n\nOil them.\n",
            "Pump manual",
            (Page(0, 1), Page(28, 2)),
            metadata=ADA,
            created_at=CREATED,
            modified_at=MODIFIED,
        ),
    ),
    "a.xlsx": (
        made_files.xlsx({"Parts": [["Part"], ["Seal"]], "None": [], "Yards": [["Yard"], ["N"]]}),
        Extracted(
            "xlsx",
            "markdown",
            "## Parts\n\n| Part |\n| --- |\n| Seal |\n\n## Yards\n\n| Yard |\n| --- |\n| N |\n",
            "Pump manual",
            (Page(0, 1), Page(37, 3)),
            metadata=ADA,
            created_at=CREATED,
            modified_at=MODIFIED,
        ),
    ),
    "a.epub": (
        made_files.epub("The pump stood.", "Nobody oiled it."),
        Extracted(
            "epub",
            "markdown",
            "# Chapter 1\n\nThe pump stood.\n\n# Chapter 2\n\nNobody oiled it.\n",
            "The yard",
            language="en",
            created_at="2020-05-01T00:00:00+00:00",
            metadata={"authors": ["Ada"]},
        ),
    ),
    "a.rtf": (
        rb"{\rtf1\ansi{\info{\title Pumps}{\author Ada}}A pump moves water.\par}",
        Extracted("rtf", "markdown", "A pump moves water.\n", "Pumps", metadata=ADA),
    ),
    "a.eml": (
        MAIL,
        Extracted(
            "eml",
            "markdown",
            "**Subject**: The pump\n\n**From**: ada@example.org\n\n**To**: bob@example.org\n\n"
            "**Date**: Tue, 02 Jan 2024 03:04:05 +0000\n\nIt is broken.\n",
            "The pump",
            created_at="2024-01-02T03:04:05+00:00",
            metadata={
                "subject": "The pump",
                "from_email": "ada@example.org",
                "to_emails": ["bob@example.org"],
            },
        ),
    ),
    "a.ipynb": (
        NOTEBOOK,
        Extracted(
            "notebook",
            "markdown",
            "# Pumps\nOil them.\n\n```python\noil(3)\n```\n\n```text\ndone\n```\n",
            "Pumps",
            metadata={"kernel": "Python 3"},
        ),
    ),
    "a.csv": (
        b"part,price\nseal,12\n",
        Extracted("csv", "text", "part,price\nseal,12\n", by_line=True),
    ),
    "a.py": (
        b"x = 1\r\n\x0cy = 2\r\n",
        Extracted("code", "python", "x = 1\ny = 2\n", by_line=True),
    ),
    "Makefile": (b"all:\n\tmake\n", Extracted("code", "makefile", "all:\n\tmake\n", by_line=True)),
    "a.txt": (b"Oil e\xcc\x81t\xc3\xa9.", Extracted("text", "text", "Oil été.", by_line=True)),
    "a.txt.gz": (gzip.compress(b"Oil."), Extracted("text", "text", "Oil.", by_line=True)),
    "plain": (b"Oil.", Extracted("text", "text", "Oil.", by_line=True)),
}


def read(folder: Path, name: str, content: bytes, max_bytes: int = 100_000_000) -> Extracted | str:
    path = folder / name
    path.write_bytes(content)
    found = read_file(path, max_bytes)
    return found.extracted or found.reason


@pytest.mark.parametrize("name", READ)
def test_a_file_of_each_kind_becomes_its_text(tmp_path: Path, name: str) -> None:
    content, expected = READ[name]
    assert read(tmp_path, name, content) == expected


def test_pages_begin_where_their_text_does(tmp_path: Path) -> None:
    found = read(tmp_path, "a.pdf", MANUAL)
    assert isinstance(found, Extracted)
    starts = [found.text[page.start :].split("\n")[0] for page in found.pages]
    assert starts == ["# Pumps", "\\# Not a heading, and on the third page."]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8-sig", "Größe"),
        ("utf-16", "Größe und Länge"),
        ("utf-32", "Größe und Länge"),
        ("cp1252", "Der Händler prüft die Größe „schön“, und geht später über die Straße."),
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy, a nikdo ho neslyšel."),
        ("cp932", "これはポンプに関する日本語の文章です。水を動かします。"),
        ("gb18030", "这是一个关于水泵的中文文本.它可以移动水。"),
        ("euc-kr", "이것은 물을 움직이는 펌프에 관한 한국어 문서입니다."),
    ],
)
def test_text_in_older_encodings_is_read(tmp_path: Path, encoding: str, text: str) -> None:
    found = read(tmp_path, "a.txt", text.encode(encoding))
    assert isinstance(found, Extracted)
    assert found.text == text


def test_a_page_says_its_own_encoding(tmp_path: Path) -> None:
    page = '<html><head><meta charset="iso-8859-15"></head><body>Oil: 5 €</body></html>'
    found = read(tmp_path, "a.html", page.encode("iso-8859-15"))
    assert isinstance(found, Extracted)
    assert found.text == "Oil: 5 €\n"


REFUSED = {
    "empty.pdf": (b"", "the file is empty"),
    "blank.md": (b" \n\t\n", "the file is empty"),
    "sparse.txt": (bytes(10_000), "the file is empty: zero bytes only"),
    "scan.pdf": (made_files.pdf([], []), "no text: scanned pages need OCR"),
    "locked.pdf": (made_files.pdf([(11, "x")], trailer=made_files.ENCRYPTED), "encrypted: save it"),
    "cut.pdf": (MANUAL[: len(MANUAL) // 2], "cut short: the end of the PDF is missing"),
    "noise.pdf": (b"%PDF-1.7\n" + bytes(range(256)) * 9 + b"%%EOF", "broken: Invalid PDF"),
    "image.pdf": (
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        "named .pdf but is a PNG image: text in images",
    ),
    "text.pdf": (b"Only text.", "named .pdf but is plain text: rename it to .txt"),
    "page.pdf": (PAGE, "named .pdf but is HTML: rename it to .html"),
    "page.txt": (PAGE, "named .txt but is HTML: rename it to .html"),
    "manual.txt": (MANUAL, "named .txt but is PDF: rename it to .pdf"),
    "manual.docx": (MANUAL, "named .docx but is PDF: rename it to .pdf"),
    "text.pptx": (made_files.docx(), "named .pptx but is DOCX: rename it to .docx"),
    "archive.docx": (made_files.zipped({"a.txt": "x"}), "named .docx but is a zip archive: unpack"),
    "archive.zip": (made_files.zipped({"a.txt": "x"}), "is a zip archive: unpack it"),
    "archive.tar.gz": (gzip.compress(b"x"), "is a gzip archive: unpack it"),
    "cut.docx": (made_files.docx()[:900], "broken or cut short: the archive inside"),
    "laughs.docx": (made_files.laughs(), "an XML bomb: word/document.xml declares entities"),
    "bomb.docx": (
        made_files.docx(document="<a>" + " " * 60_000_000),
        "a zip bomb: word/document.xml unpacks 58,",
    ),
    "bomb.txt.gz": (gzip.compress(bytes(101_000_000)), "a bomb: 98,"),
    "cut.txt.gz": (gzip.compress(b"Oil them. " * 99)[:30], "broken or cut short: no whole gzip"),
    "locked.docx": (
        bytes.fromhex("d0cf11e0a1b11ae1") + "EncryptedPackage".encode("utf-16-le"),
        "encrypted: save it without a password",
    ),
    "old.doc": (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(999), "broken: an Office file of the"),
    "book.epub": (
        made_files.zipped(
            {
                "mimetype": "application/epub+zip",
                "META-INF/encryption.xml": '<CipherReference URI="c1.xhtml"/>',
            }
        ),
        "encrypted: a protected e-book",
    ),
    "a.odp": (
        made_files.zipped({"mimetype": "application/vnd.oasis.opendocument.presentation"}),
        "is an OpenDocument file of a rare kind: save it as PDF",
    ),
    "cut.rtf": (rb"{\rtf1 A pump", "cut short: the end of the RTF is missing"),
    "cut.ipynb": (NOTEBOOK[:50], "broken: no notebook of Jupyter"),
    "data.bin": (b"\x01\x02\0\x03" * 99, "bytes of an unknown kind"),
    "cut.txt": ("Oil été".encode()[:-1], "cut short: it ends in the middle of a character"),
    "odd.txt": (bytes(range(128, 256)), "not UTF-8, and its encoding cannot be told"),
    "noise.txt": (b"\x01\x02\x03\x04\x05 a \x06", "no readable text"),
    "program.txt": (b"\x7fELF\x02\x01", "named .txt but is a program"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    content, reason = REFUSED[name]
    found = read(tmp_path, name, content)
    assert isinstance(found, str)
    assert re.match(re.escape(reason), found), found
    assert "\n" not in found
    assert len(found) < 200


def test_a_damaged_part_refuses_the_whole(tmp_path: Path) -> None:
    content = bytearray(made_files.docx(SENTENCE * 40))
    content[content.index(b"word/document.xml") + 60] ^= 0xFF
    reason = "broken or cut short: a part of the archive inside is damaged"
    assert read(tmp_path, "a.docx", bytes(content)) == reason


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * 11)
    with pytest.raises(InputError, match="too large: 11 bytes, more than max_bytes 10"):
        read_file(tmp_path / "a.txt", 10)


def test_a_large_text_is_cleaned_as_a_small_one_in_little_memory() -> None:
    line = "Oil the pump, cafe\u0301 keeper\x00 \r\n"
    text = line * 100_000 + "\U0001f600"
    whole = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\x00", ""))
    tracemalloc.start()
    try:
        found = clean(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == whole
    assert peak < 8 * len(text)  # Once in characters of four bytes, and once in pieces.


def test_aliases_in_front_matter_do_not_multiply(tmp_path: Path) -> None:
    said = "---\na: &a [x, x]\nb: [*a, *a]\n---\ntext\n"
    found = read(tmp_path, "a.md", said.encode())
    assert found == Extracted("markdown", "markdown", said, "b: [*a, *a]", by_line=True)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Microsoft Word - Care of pumps", "Care of pumps"),
        ("PowerPoint Presentation", ""),
        ("Untitled-1", ""),
        ("manual_v2.docx", ""),
        ("Pumps &amp;\n  seals", "Pumps & seals"),
        (None, ""),
    ],
)
def test_titles_that_programs_made_up_are_none(said: str | None, shown: str) -> None:
    assert properties.title(said) == shown


def test_a_title_with_tags_in_it_leaves_nothing_in_the_text(tmp_path: Path) -> None:
    page = b"<html><title>Leave <script>x()</script></title><p>Thirty days.</p></html>"
    found = read(tmp_path, "leave.html", page)
    assert isinstance(found, Extracted)
    assert (found.title, found.text) == ("Leave", "Thirty days.\n")

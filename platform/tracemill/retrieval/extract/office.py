"""PDF, Office, HTML, e-books and mail as Markdown, by kreuzberg: no model, no network, no OCR.

Its Markdown is taken where it is sound. That of a PDF is put together here from its parts, as only
these know their page; those of a table with sheets and of slides are parted where each begins.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from tracemill.errors import InputError
from tracemill.retrieval.extract import Extracted, Page, archives, pdf, properties
from tracemill.retrieval.extract.decode import clean
from tracemill.retrieval.extract.kinds import Kind
from tracemill.retrieval.extract.web import split_head

if TYPE_CHECKING:
    from kreuzberg import ExtractionResult

_MARK = "tracemillslide"
_MARKED = re.compile(_MARK + r"(\d+)x\s*")
_SLIDES = ("pptx", "ppt")
_SHEETS = ("xlsx", "xls", "ods")
_ZIPPED = ("docx", "pptx", "xlsx", "epub", "odt", "ods")
_SAID = ("subject", "description", "keywords", "category", "created_by", "modified_by", "producer")
_MAIL = ("from_email", "to_emails", "cc_emails", "attachments")


def read_office(kind: Kind, content: bytes) -> Extracted:
    """The text of a document as Markdown, with its pages, slides or sheets.

    Raises `InputError` when it is broken, encrypted, a bomb, or holds no text.
    """
    said: dict[str, Any] = {}
    _check(kind, content)
    if kind.format == "html":
        content, said = split_head(content)
    result = _extracted(kind, content)
    said = {**cast("Mapping[str, Any]", result.metadata), **said}
    text, pages = _joined(_parts(kind, result))
    if not text.strip():
        raise InputError(_without_text(kind, result))
    metadata = {name: said.get(name) for name in (*_SAID, *_MAIL)}
    metadata |= {"authors": said.get("authors"), "page_count": said.get("page_count")}
    title = properties.title(said.get("title"))
    if not title and _is_mail(kind):
        title = properties.one_line(said.get("subject"))
    return Extracted(
        kind.format,
        "markdown",
        text,
        title or properties.first_heading(text, "markdown"),
        tuple(pages),
        language=properties.language(said.get("language")),
        created_at=properties.moment(said.get("created_at")),
        modified_at=properties.moment(said.get("modified_at")),
        metadata=properties.plain(metadata),
    )


def _is_mail(kind: Kind) -> bool:
    return kind.format in ("eml", "msg")


def _check(kind: Kind, content: bytes) -> None:
    if kind.format in _ZIPPED:
        archives.check(content)
    elif kind.format == "pdf" and not re.search(rb"%%EOF|startxref", content[-4096:]):
        raise InputError("cut short: the end of the PDF is missing")
    elif kind.format == "rtf" and not content.rstrip(b"\0 \t\r\n").endswith(b"}"):
        raise InputError("cut short: the end of the RTF is missing")


def _extracted(kind: Kind, content: bytes) -> "ExtractionResult":
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="markdown",
        include_document_structure=kind.format == "pdf",
        pages=kreuzberg.PageConfig(
            extract_pages=kind.format == "pdf",
            insert_page_markers=kind.format in _SLIDES,
            marker_format=f"\n\n{_MARK}{{page_num}}x\n\n",
        ),
    )
    try:
        return kreuzberg.extract_bytes_sync(content, kind.mime, config=config)
    except kreuzberg.KreuzbergError as error:
        raise InputError(_reason(str(error))) from error


def _reason(said: str) -> str:
    """One line of what the library says, which says most things twice."""
    lower = said.lower()
    if "password" in lower or "encrypt" in lower:
        return "encrypted: save it without a password"
    if "security limit" in lower or "bomb" in lower:
        return f"a zip bomb: {said.rpartition(': ')[2][:150]}"
    parts = dict.fromkeys(said.removeprefix("ParsingError: ").split(": "))
    return f"broken: {': '.join(parts)[:150]}"


def _parts(kind: Kind, result: "ExtractionResult") -> Sequence[tuple[int, str]]:
    """The text by page, slide or sheet; 0 for what has none."""
    by_page: Callable[[ExtractionResult], Sequence[tuple[int, str]]] = lambda _: ()
    if kind.format == "pdf":
        by_page = pdf.pages
    elif kind.format in _SLIDES:
        by_page = _slides
    elif kind.format in _SHEETS:
        by_page = _sheets
    return by_page(result) or [(0, result.content)]


def _slides(result: "ExtractionResult") -> Sequence[tuple[int, str]]:
    first, *parted = _MARKED.split(result.content)
    slides = [(int(parted[at]), parted[at + 1]) for at in range(0, len(parted), 2)]
    return [(0, first), *slides] if first.strip() else slides


def _sheets(result: "ExtractionResult") -> Sequence[tuple[int, str]]:
    """By the name of the sheet, as a heading, and its table."""
    names: Sequence[str] = cast("Mapping[str, Any]", result.metadata).get("sheet_names") or ()
    tables = [table for table in result.tables if 0 < table.page_number <= len(names)]
    if len(tables) < len(result.tables):
        return ()
    headed = ((table.page_number, f"## {names[table.page_number - 1]}") for table in tables)
    return [
        (number, f"{properties.one_line(heading)}\n\n{table.markdown.strip()}")
        for (number, heading), table in zip(headed, tables, strict=True)
    ]


def _joined(parts: Sequence[tuple[int, str]]) -> tuple[str, list[Page]]:
    """The parts that say something, end to end, and where each page begins."""
    text, length, found = list[str](), 0, list[Page]()
    for number, part in parts:
        plain = clean(part).strip("\n")
        if not plain.strip():
            continue
        if number and (not found or found[-1].number != number):
            found.append(Page(length, number))
        text.append(plain)
        length += len(plain) + 2
    return "\n\n".join(text) + "\n" if text else "", found


def _without_text(kind: Kind, result: "ExtractionResult") -> str:
    if kind.format == "pdf":
        return "no text: scanned pages need OCR"
    return "no text in it: only pictures, or nothing that can be read"

"""Files of each type to read: what installed packages carry, and files written here of their words.

Markdown, reStructuredText, HTML, text, CSV and code are copied as they lie; PDF, DOCX, PPTX, XLSX,
EPUB and notebooks are written of Python's language reference by the standard library (and two of the
PDFs, with embedded fonts, by matplotlib).
"""

import io
import json
import shutil
import sysconfig
import textwrap
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count, islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import NamedTuple
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile

VERSION = 2
"""Of the files: another one makes those that were kept stale."""
FOUND = {"md": ".md", "rst": ".rst", "html": ".html", "txt": ".txt", "csv": ".csv", "py": ".py"}
TYPES = ("md", "rst", "html", "txt", "csv", "py", "pdf", "docx", "pptx", "xlsx", "epub", "ipynb")


class Files(NamedTuple):
    """A folder with files of one type."""

    type: str
    folder: Path
    count: int
    megabytes: float


def files(type: str, cache: Path, most: int) -> Files:
    """At most so many files of a type, each of 1,000 bytes at least; the same on every run here."""
    folder = cache / f"files-{VERSION}-{most}" / type
    if not folder.exists():
        aside = folder.with_name(f".{type}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        (_copy if type in FOUND else _write)(type, aside, most)
        aside.rename(folder)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return Files(type, folder, len(sizes), sum(sizes) / 1e6)


def _copy(type: str, folder: Path, most: int) -> None:
    roots = [Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib")]
    found = sorted({path for root in roots for path in root.rglob(f"*{FOUND[type]}")})
    large = [path for path in found if path.is_file() and 1_000 < path.stat().st_size < 2_000_000]
    step = max(len(large) // most, 1)
    for number, path in enumerate(islice(large, 0, None, step)):
        if number < most:
            shutil.copyfile(path, folder / f"{number:04}{FOUND[type]}")


def _write(type: str, folder: Path, most: int) -> None:
    writers: dict[str, Callable[[Path, int], object]] = {
        "pdf": pdf,
        "docx": docx,
        "pptx": pptx,
        "xlsx": xlsx,
        "epub": epub,
        "ipynb": notebook,
    }
    for number in range(min(most, 30)):
        writers[type](folder / f"{number:04}.{type}", number)
    if type == "pdf":
        for number in range(2):
            embedded_pdf(folder / f"embedded-{number}.pdf", number)


@cache
def _topics() -> list[tuple[str, list[str]]]:
    """Titles and paragraphs."""
    return [
        (name, [" ".join(part.split()) for part in text.split("\n\n") if part.strip()])
        for name, text in sorted(topics.items())
    ]


def _some(number: int, sections: int = 8) -> Iterator[tuple[str, list[str]]]:
    """Sections of a document: others for each number."""
    every = _topics()
    for at in range(sections):
        yield every[(number * 3 + at * 7) % len(every)]


# Writers


def pdf(path: Path, number: int) -> None:
    """A PDF of the standard fonts: one page for each 50 lines, compressed."""
    lines = [line for title, texts in _some(number) for line in _wrapped(title, texts)]
    pages = _parts(lines, 50)
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for at, page in enumerate(pages):
        objects += [_page(5 + 2 * at), _stream(page)]
    path.write_bytes(_numbered(objects))


def _wrapped(title: str, texts: list[str]) -> Iterator[str]:
    yield title
    for text in texts[:60]:
        yield from textwrap.wrap(text, 90)
        yield ""


def _parts(whole: list[str], size: int) -> list[list[str]]:
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def _page(content: int) -> bytes:
    return (
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
        f"/Resources << /Font << /F1 3 0 R >> >> /Contents {content} 0 R >>"
    ).encode()


def _stream(lines: list[str]) -> bytes:
    out = bytearray(b"BT /F1 10 Tf 14 TL 50 790 Td\n")
    for line in lines:
        written = line.encode("cp1252", "replace")
        for special in (b"\\", b"(", b")"):
            written = written.replace(special, b"\\" + special)
        out += b"(" + written + b") Tj T*\n"
    packed = zlib.compress(bytes(out + b"ET"))
    head = f"<< /Length {len(packed)} /Filter /FlateDecode >>\nstream\n".encode()
    return head + packed + b"\nendstream"


def _numbered(objects: list[bytes]) -> bytes:
    """A PDF file of objects: header, objects, where each begins, trailer."""
    out, places = io.BytesIO(), list[int]()
    out.write(b"%PDF-1.4\n")
    for number, each in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, each))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    out.write(trailer % (len(objects) + 1, table))
    return out.getvalue()


def embedded_pdf(path: Path, number: int) -> None:
    """A PDF with its font inside, as word processors write them; three pages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.backends.backend_pdf import PdfPages

    lines = [line for title, texts in _some(number, 3) for line in _wrapped(title, texts)]
    with plt.rc_context({"pdf.fonttype": 42}), PdfPages(path) as book:
        for page in _parts(lines, 50)[:3]:
            figure = plt.figure(figsize=(8.3, 11.7))
            shown = "\n".join(page).replace("$", r"\$")
            figure.text(0.08, 0.95, shown, va="top", fontsize=9)
            book.savefig(figure)
            plt.close(figure)


HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
OPEN = "http://schemas.openxmlformats.org"
RELATION = f"{OPEN}/officeDocument/2006/relationships"


def _zip(path: Path, parts: dict[str, str]) -> None:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)


def _office(main: str, kind: str, others: dict[str, str]) -> dict[str, str]:
    """The parts that every Office file has: the types of its parts, and which is the main one."""
    overrides = "".join(
        f'<Override PartName="/{name}" ContentType="application/vnd.openxmlformats-officedocument.'
        f'{each}+xml"/>'
        for name, each in {main: kind, **others}.items()
    )
    types = (
        f'{HEAD}<Types xmlns="{OPEN}/package/2006/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
    )
    return {"[Content_Types].xml": types, "_rels/.rels": _relations([("officeDocument", main)])}


def _relations(targets: list[tuple[str, str]]) -> str:
    each = "".join(
        f'<Relationship Id="rId{at}" Type="{RELATION}/{kind}" Target="{target}"/>'
        for at, (kind, target) in enumerate(targets, 1)
    )
    return f'{HEAD}<Relationships xmlns="{OPEN}/package/2006/relationships">{each}</Relationships>'


def docx(path: Path, number: int) -> None:
    """Sections with headings of a style."""
    run = '<w:p>{style}<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'
    heading = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>'
    body = "".join(
        run.format(style=heading, text=escape(title))
        + "".join(run.format(style="", text=escape(text)) for text in texts)
        for title, texts in _some(number)
    )
    space = f'xmlns:w="{OPEN}/wordprocessingml/2006/main"'
    style = '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    kind = "wordprocessingml.document.main"
    parts = _office("word/document.xml", kind, {"word/styles.xml": "wordprocessingml.styles"})
    parts["word/_rels/document.xml.rels"] = _relations([("styles", "styles.xml")])
    parts["word/styles.xml"] = f"{HEAD}<w:styles {space}>{style}</w:styles>"
    parts["word/document.xml"] = f"{HEAD}<w:document {space}><w:body>{body}</w:body></w:document>"
    _zip(path, parts)


def pptx(path: Path, number: int) -> None:
    """A slide for each few paragraphs: title and text."""
    slides = [(title, few) for title, texts in _some(number) for few in _parts(texts[:30], 5)]
    names = [f"ppt/slides/slide{at}.xml" for at in range(1, len(slides) + 1)]
    kind = "presentationml.presentation.main"
    parts = _office("ppt/presentation.xml", kind, dict.fromkeys(names, "presentationml.slide"))
    parts["ppt/_rels/presentation.xml.rels"] = _relations(
        [("slide", name.removeprefix("ppt/")) for name in names]
    )
    space = (
        f'xmlns:a="{OPEN}/drawingml/2006/main" xmlns:p="{OPEN}/presentationml/2006/main" '
        f'xmlns:r="{RELATION}"'
    )
    ids = "".join(f'<p:sldId id="{255 + at}" r:id="rId{at}"/>' for at in range(1, len(slides) + 1))
    parts["ppt/presentation.xml"] = (
        f"{HEAD}<p:presentation {space}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"
    )
    for name, (title, texts) in zip(names, slides, strict=True):
        shapes = _shape(2, "title", [title]) + _shape(3, "body", texts)
        tree = f"<p:nvGrpSpPr><p:cNvPr id='1' name=''/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>{shapes}"
        parts[name] = f"{HEAD}<p:sld {space}><p:cSld><p:spTree>{tree}</p:spTree></p:cSld></p:sld>"
    _zip(path, parts)


def _shape(number: int, kind: str, texts: list[str]) -> str:
    said = "".join(f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p>" for text in texts)
    place = f'<a:xfrm><a:off x="0" y="{number}00"/><a:ext cx="9000000" cy="900"/></a:xfrm>'
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="{number}" name="{kind}"/><p:cNvSpPr/><p:nvPr><p:ph '
        f'type="{kind}"/></p:nvPr></p:nvSpPr><p:spPr>{place}</p:spPr><p:txBody><a:bodyPr/>{said}</p:txBody></p:sp>'
    )


def xlsx(path: Path, number: int) -> None:
    """Two sheets of inline strings and numbers: title, paragraph, its words, its length."""
    sheets = [list(_some(number + at, 20)) for at in (0, 1)]
    names = ["xl/worksheets/sheet1.xml", "xl/worksheets/sheet2.xml"]
    kind = "spreadsheetml.sheet.main"
    parts = _office("xl/workbook.xml", kind, dict.fromkeys(names, "spreadsheetml.worksheet"))
    parts["xl/_rels/workbook.xml.rels"] = _relations(
        [("worksheet", name.removeprefix("xl/")) for name in names]
    )
    space = f'xmlns="{OPEN}/spreadsheetml/2006/main" xmlns:r="{RELATION}"'
    listed = "".join(f'<sheet name="Topics {at}" sheetId="{at}" r:id="rId{at}"/>' for at in (1, 2))
    parts["xl/workbook.xml"] = f"{HEAD}<workbook {space}><sheets>{listed}</sheets></workbook>"
    for name, sections in zip(names, sheets, strict=True):
        number_of = count(1)
        rows = "".join(
            _row(next(number_of), title, text) for title, texts in sections for text in texts[:25]
        )
        parts[name] = f"{HEAD}<worksheet {space}><sheetData>{rows}</sheetData></worksheet>"
    _zip(path, parts)


def _row(number: int, title: str, text: str) -> str:
    def words(column: str, said: str) -> str:
        return f'<c r="{column}{number}" t="inlineStr"><is><t>{escape(said)}</t></is></c>'

    def figure(column: str, value: int) -> str:
        return f'<c r="{column}{number}"><v>{value}</v></c>'

    cells = words("A", title) + words("B", text[:300])
    cells += figure("C", len(text.split())) + figure("D", len(text))
    return f'<row r="{number}">{cells}</row>'


def epub(path: Path, number: int) -> None:
    """A chapter for each section."""
    chapters = list(_some(number))
    names = [f"chapter{at}.xhtml" for at in range(len(chapters))]
    item = '<item id="c{at}" href="{name}" media-type="application/xhtml+xml"/>'
    manifest = "".join(item.format(at=at, name=name) for at, name in enumerate(names))
    spine = "".join(f'<itemref idref="c{at}"/>' for at in range(len(names)))
    package = (
        f'{HEAD}<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Topics</dc:title>'
        f'<dc:identifier id="id">topics-{number}</dc:identifier><dc:language>en</dc:language>'
        f"</metadata><manifest>{manifest}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        f'{HEAD}<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="content.opf" '
        'media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    parts = {"mimetype": "application/epub+zip", "META-INF/container.xml": container}
    parts["content.opf"] = package
    for name, (title, texts) in zip(names, chapters, strict=True):
        body = "".join(f"<p>{escape(text)}</p>" for text in texts)
        page = f"<head><title>{escape(title)}</title></head><body><h1>{escape(title)}</h1>{body}"
        parts[name] = f'{HEAD}<html xmlns="http://www.w3.org/1999/xhtml">{page}</body></html>'
    _zip(path, parts)


def notebook(path: Path, number: int) -> None:
    """Cells of Markdown and code in turns."""
    cells: list[dict[str, object]] = []
    for at, (title, texts) in enumerate(_some(number)):
        said = f"# {title}\n\n" + "\n\n".join(texts)
        code = f"topic_{at} = {title!r}\nprint(topic_{at})"
        cells.append({"cell_type": "markdown", "id": f"m{at}", "metadata": {}, "source": said})
        cells.append(
            {
                "cell_type": "code",
                "id": f"c{at}",
                "metadata": {},
                "execution_count": at + 1,
                "source": code,
                "outputs": [{"output_type": "stream", "name": "stdout", "text": f"{title}\n"}],
            }
        )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    written = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": cells}
    path.write_text(json.dumps(written, indent=1), encoding="utf-8")

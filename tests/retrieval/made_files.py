"""Small files of every kind, put together byte by byte: good ones, and ones that harm."""

import io
import json
import zipfile

SENTENCE = "A pump moves water, and it should be oiled once a year."
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_SLIDE = (
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    f'xmlns:r="{_RELATIONS}"'
)


def zipped(parts: dict[str, str | bytes]) -> bytes:
    """An archive; `mimetype` is stored as it is, as e-books want it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            packing = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, content, packing)
    return made.getvalue()


def pdf(*pages: list[tuple[int, str]], trailer: str = "") -> bytes:
    """A PDF of pages of lines, each with its size in points; large ones are bold."""
    parts = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    parts += [f"<< /Type /Font /Subtype /Type1 /BaseFont /{_FONT}{b} >>" for b in ("", "-Bold")]
    kids: list[str] = []
    for lines in pages:
        drawn, y = "", 760.0
        for size, line in lines:
            y -= size * 1.4
            drawn += f"BT /F{2 if size > 12 else 1} {size} Tf 72 {y:.0f} Td ({line}) Tj ET\n"
        parts.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
        parts.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(parts)} 0 R "
            "/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>"
        )
        kids.append(f"{len(parts)} 0 R")
    parts[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    parts.append(
        "<< /Title (Pump manual) /Author (Ada) /CreationDate (D:20240102030405Z) "
        "/Keywords (pump, seal) >>"
    )
    made, places = b"%PDF-1.4\n", list[int]()
    for number, part in enumerate(parts, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n{part}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer << /Size {len(parts) + 1} /Root 1 0 R /Info {len(parts)} 0 R {trailer} >>\n"
    return made + f"{end}startxref\n{len(made)}\n%%EOF\n".encode()


_FONT = "Helvetica"
ENCRYPTED = (
    f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'ab' * 32}> /U <{'cd' * 32}> /P -4 >> "
    "/ID [<00> <00>]"
)
"""For the trailer of a PDF."""


def docx(body: str = "", document: str | None = None) -> bytes:
    """A text with a heading, `body` and a table."""
    cells = "".join(f"<w:tc>{_paragraph(each)}</w:tc>" for each in ("Part", "Price"))
    row = "".join(f"<w:tc>{_paragraph(each)}</w:tc>" for each in ("Seal", "12"))
    said = f"{_paragraph('Pumps', 'Heading1')}{_paragraph(body or SENTENCE)}"
    said += f"<w:tbl><w:tr>{cells}</w:tr><w:tr>{row}</w:tr></w:tbl>{_paragraph('The end.')}"
    whole = f'<?xml version="1.0"?><w:document {_WORD}><w:body>{said}</w:body></w:document>'
    return _office("word/document.xml", {"word/document.xml": document or whole})


def laughs() -> bytes:
    """A text whose entities stand for gigabytes."""
    entities = "".join(
        f'<!ENTITY {chr(98 + each)} "{f"&{chr(97 + each)};" * 10}">' for each in range(9)
    )
    head = f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">{entities}]>'
    return docx(document=f"{head}<w:document {_WORD}><w:body>&j;</w:body></w:document>")


def pptx(*slides: tuple[str, str]) -> bytes:
    """Slides, each with its title and its text."""
    numbers = range(1, len(slides) + 1)
    ids = "".join(f'<p:sldId id="{255 + each}" r:id="rId{each}"/>' for each in numbers)
    parts = {
        "ppt/presentation.xml": f'<?xml version="1.0"?><p:presentation {_SLIDE}><p:sldIdLst>{ids}'
        "</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": _relations(
            [("slide", f"slides/slide{each}.xml") for each in numbers]
        ),
    }
    for number, (title, text) in enumerate(slides, 1):
        shapes = _shape("title", title) + _shape("body", text)
        parts[f"ppt/slides/slide{number}.xml"] = (
            f'<?xml version="1.0"?><p:sld {_SLIDE}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld>'
            "</p:sld>"
        )
    return _office("ppt/presentation.xml", parts)


def xlsx(sheets: dict[str, list[list[str]]]) -> bytes:
    """Sheets by name, as rows."""
    listed = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"/>'
        for number, name in enumerate(sheets, 1)
    )
    numbers = range(1, len(sheets) + 1)
    parts = {
        "xl/workbook.xml": f'<?xml version="1.0"?><workbook xmlns="{_SHEET}" '
        f'xmlns:r="{_RELATIONS}"><sheets>{listed}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relations(
            [("worksheet", f"worksheets/sheet{each}.xml") for each in numbers]
        ),
    }
    for number, rows in enumerate(sheets.values(), 1):
        cells = "".join(
            f'<row r="{down}">{"".join(_cell(down, right, text) for right, text in enumerate(row))}'
            "</row>"
            for down, row in enumerate(rows, 1)
        )
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<?xml version="1.0"?><worksheet xmlns="{_SHEET}"><sheetData>{cells}</sheetData>'
            "</worksheet>"
        )
    return _office("xl/workbook.xml", parts)


def epub(*chapters: str) -> bytes:
    """An e-book of chapters, each of one paragraph."""
    items = "".join(
        f'<item id="c{each}" href="c{each}.xhtml" media-type="application/xhtml+xml"/>'
        for each in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{each}"/>' for each in range(len(chapters)))
    parts: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<?xml version="1.0"?><container version="1.0" '
        'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        "book.opf": '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" '
        'version="3.0" unique-identifier="i"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<dc:title>The yard</dc:title><dc:creator>Ada</dc:creator><dc:language>en</dc:language>"
        '<dc:date>2020-05-01</dc:date><dc:identifier id="i">x</dc:identifier></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>",
    }
    for number, text in enumerate(chapters):
        parts[f"c{number}.xhtml"] = (
            '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title>'
            f"</head><body><h1>Chapter {number + 1}</h1><p>{text}</p></body></html>"
        )
    return zipped(parts)


def notebook(*cells: tuple[str, str, str]) -> bytes:
    """Cells: markdown or code, source, what was printed."""
    made = [
        {"cell_type": kind, "source": source.splitlines(keepends=True), "metadata": {}}
        | ({"outputs": [{"output_type": "stream", "text": [printed]}]} if printed else {})
        for kind, source, printed in cells
    ]
    about = {"kernelspec": {"display_name": "Python 3"}, "language_info": {"name": "python"}}
    return json.dumps({"cells": made, "metadata": about, "nbformat": 4}).encode()


def _office(main: str, parts: "dict[str, str]") -> bytes:
    kind = 'ContentType="application/vnd.openxmlformats-package.relationships+xml"'
    types = f'<Default Extension="rels" {kind}/><Default Extension="xml" ContentType="a/xml"/>'
    dates = "".join(
        f'<dcterms:{name} xsi:type="dcterms:W3CDTF">202{year}-01-02T03:04:05Z</dcterms:{name}>'
        for name, year in (("created", 4), ("modified", 5))
    )
    return zipped(
        {
            "[Content_Types].xml": f'<?xml version="1.0"?><Types xmlns="{_PACKAGE}/content-types">'
            f"{types}</Types>",
            "_rels/.rels": _relations([("officeDocument", main)], core=True),
            "docProps/core.xml": '<?xml version="1.0"?><cp:coreProperties '
            f'xmlns:cp="{_PACKAGE}/metadata/core-properties" '
            'xmlns:dc="http://purl.org/dc/elements/1.1/" '
            'xmlns:dcterms="http://purl.org/dc/terms/" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            f"<dc:title>Pump manual</dc:title><dc:creator>Ada</dc:creator>{dates}"
            "</cp:coreProperties>",
            **parts,
        }
    )


def _relations(targets: list[tuple[str, str]], *, core: bool = False) -> str:
    each = [
        f'<Relationship Id="rId{number}" Type="{_RELATIONS}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    ]
    if core:
        kind = f"{_PACKAGE}/relationships/metadata/core-properties"
        each.append(f'<Relationship Id="rIdC" Type="{kind}" Target="docProps/core.xml"/>')
    listed = "".join(each)
    return (
        f'<?xml version="1.0"?><Relationships xmlns="{_PACKAGE}/relationships">{listed}'
        "</Relationships>"
    )


def _paragraph(text: str, style: str = "") -> str:
    styled = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{styled}<w:r><w:t>{text}</w:t></w:r></w:p>"


def _shape(kind: str, text: str) -> str:
    return (
        '<p:sp><p:nvSpPr><p:cNvPr id="1" name="x"/><p:cNvSpPr/><p:nvPr>'
        f'<p:ph type="{kind}"/></p:nvPr></p:nvSpPr><p:spPr/><p:txBody><a:bodyPr/><a:p><a:r>'
        f"<a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
    )


def _cell(down: int, right: int, text: str) -> str:
    return f'<c r="{chr(65 + right)}{down}" t="inlineStr"><is><t>{text}</t></is></c>'

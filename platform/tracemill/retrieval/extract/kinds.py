"""What a file is: its bytes are asked first, then its name; where the two disagree it is refused.

A name decides only among kinds whose bytes look alike: the many kinds of text.
"""

import io
import zipfile
from collections.abc import Callable
from typing import NamedTuple

from tracemill.errors import InputError


class Kind(NamedTuple):
    """How a file is read."""

    format: str
    """As in `document_schema`; what people know it by where that names none: odt, eml ..."""
    syntax: str = "markdown"
    mime: str = ""
    """What kreuzberg calls it; empty for what is text already."""


_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
DOCUMENTS = {
    "pdf": Kind("pdf", mime="application/pdf"),
    "docx": Kind("docx", mime=_OOXML + "wordprocessingml.document"),
    "pptx": Kind("pptx", mime=_OOXML + "presentationml.presentation"),
    "xlsx": Kind("xlsx", mime=_OOXML + "spreadsheetml.sheet"),
    "epub": Kind("epub", mime="application/epub+zip"),
    "odt": Kind("odt", mime=_ODF + "text"),
    "ods": Kind("ods", mime=_ODF + "spreadsheet"),
    "rtf": Kind("rtf", mime="application/rtf"),
    "doc": Kind("doc", mime="application/msword"),
    "xls": Kind("xls", mime="application/vnd.ms-excel"),
    "ppt": Kind("ppt", mime="application/vnd.ms-powerpoint"),
    "msg": Kind("msg", mime="application/vnd.ms-outlook"),
}
"""Kinds that their bytes tell, by suffix."""
SAME_AS = {
    "docm": "docx",
    "dotx": "docx",
    "dotm": "docx",
    "potx": "pptx",
    "pptm": "pptx",
    "ppsx": "pptx",
    "xlsm": "xlsx",
    "xltx": "xlsx",
    "ott": "odt",
    "dot": "doc",
    "pps": "ppt",
}
TEXTS = {
    **dict.fromkeys(("md", "markdown", "mdx", "qmd", "rmd"), Kind("markdown")),
    **dict.fromkeys(("rst", "rest"), Kind("rst", "rst")),
    **dict.fromkeys(("html", "htm", "xhtml"), Kind("html", mime="text/html")),
    **dict.fromkeys(("csv", "tsv"), Kind("csv", "text")),
    **dict.fromkeys(("txt", "text", "log", "org", "adoc", "asc"), Kind("text", "text")),
    "ipynb": Kind("notebook"),
    "eml": Kind("eml", mime="message/rfc822"),
}
LANGUAGES = {
    "py": "python",
    "pyi": "python",
    "js": "javascript",
    "mjs": "javascript",
    "jsx": "jsx",
    "ts": "typescript",
    "tsx": "tsx",
    "java": "java",
    "kt": "kotlin",
    "scala": "scala",
    "c": "c",
    "h": "c",
    "cc": "cpp",
    "cpp": "cpp",
    "cxx": "cpp",
    "hpp": "cpp",
    "cs": "csharp",
    "go": "go",
    "rs": "rust",
    "rb": "ruby",
    "php": "php",
    "swift": "swift",
    "m": "objective-c",
    "sh": "bash",
    "bash": "bash",
    "zsh": "zsh",
    "fish": "fish",
    "ps1": "powershell",
    "sql": "sql",
    "r": "r",
    "jl": "julia",
    "lua": "lua",
    "pl": "perl",
    "pm": "perl",
    "ex": "elixir",
    "exs": "elixir",
    "erl": "erlang",
    "hs": "haskell",
    "ml": "ocaml",
    "clj": "clojure",
    "lisp": "lisp",
    "el": "lisp",
    "dart": "dart",
    "zig": "zig",
    "nim": "nim",
    "vue": "vue",
    "svelte": "svelte",
    "css": "css",
    "scss": "scss",
    "less": "less",
    "json": "json",
    "jsonl": "json",
    "yaml": "yaml",
    "yml": "yaml",
    "toml": "toml",
    "ini": "ini",
    "cfg": "ini",
    "conf": "ini",
    "xml": "xml",
    "xsd": "xml",
    "svg": "xml",
    "tex": "latex",
    "bib": "bibtex",
    "proto": "protobuf",
    "graphql": "graphql",
    "tf": "hcl",
    "f90": "fortran",
    "f": "fortran",
    "asm": "asm",
    "s": "asm",
    "vb": "vb",
    "groovy": "groovy",
    "cmake": "cmake",
    "mk": "makefile",
    "dockerfile": "dockerfile",
    "bat": "bat",
}
"""Suffix -> what fences of Markdown call the language."""
BY_NAME = {"makefile": "makefile", "dockerfile": "dockerfile", "gemfile": "ruby"}

_IMAGE = "image: text in images needs OCR"
_ARCHIVE = "archive: unpack it"
SIGNATURES = (
    (b"%PDF-", "pdf"),
    (b"{\\rtf", "rtf"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x89PNG", f"a PNG {_IMAGE}"),
    (b"\xff\xd8\xff", f"a JPEG {_IMAGE}"),
    (b"GIF8", f"a GIF {_IMAGE}"),
    (b"II*\0", f"a TIFF {_IMAGE}"),
    (b"MM\0*", f"a TIFF {_IMAGE}"),
    (b"\x1f\x8b", f"a gzip {_ARCHIVE}"),
    (b"BZh", f"a bzip2 {_ARCHIVE}"),
    (b"\xfd7zXZ\0", f"an xz {_ARCHIVE}"),
    (b"7z\xbc\xaf", f"a 7z {_ARCHIVE}"),
    (b"Rar!", f"a RAR {_ARCHIVE}"),
    (b"\x28\xb5\x2f\xfd", f"a zstd {_ARCHIVE}"),
    (b"\x7fELF", "a program: it has no text to read"),
    (b"MZ\x90", "a program: it has no text to read"),
    (b"SQLite format 3", "a database: export what is to be read as CSV"),
    (b"PAR1", "a Parquet table: export what is to be read as CSV"),
    (b"OggS", "a recording: it needs a transcript"),
    (b"ID3", "a recording: it needs a transcript"),
)
"""How files begin -> a kind, or why they cannot be read."""
_OLE_STREAMS = {
    "EncryptedPackage": "encrypted",
    "WordDocument": "doc",
    "PowerPoint Document": "ppt",
    "Workbook": "xls",
    "__properties_version1.0": "msg",
}
_HTML = (b"<!doctype html", b"<html")
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def kind_of(name: str, content: bytes) -> Kind:
    """How the file is read.

    Raises `InputError`, with reason and mend, when that cannot be: an image, an archive, a program,
    an encrypted file, unknown bytes, or bytes that are not what the name says.
    """
    suffix = _suffix(name)
    named = SAME_AS.get(suffix, suffix)
    found = _found(content)
    if " " in found:
        said = f"named .{suffix} but is" if named in DOCUMENTS | TEXTS | LANGUAGES else "is"
        raise InputError(f"{said} {found}")
    if found == "text":
        return _text_kind(name, named, suffix, content)
    if found != named:
        if named in DOCUMENTS | TEXTS | LANGUAGES:
            raise InputError(f"named .{suffix} but is {found.upper()}: rename it to .{found}")
        if suffix and found not in DOCUMENTS:
            raise InputError(f"a file of an unknown kind (.{suffix}): it cannot be read")
    return DOCUMENTS[found]


def _text_kind(name: str, named: str, suffix: str, content: bytes) -> Kind:
    html = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML)
    if named in DOCUMENTS:
        what, right = ("HTML", "html") if html else ("plain text", "txt")
        raise InputError(f"named .{suffix} but is {what}: rename it to .{right}")
    if named in TEXTS:
        if html and TEXTS[named].format in ("text", "csv", "rst"):
            raise InputError(f"named .{suffix} but is HTML: rename it to .html")
        return TEXTS[named]
    language = LANGUAGES.get(named) or BY_NAME.get(name.lower())
    if language:
        return Kind("code", language)
    return TEXTS["html"] if html else TEXTS["txt"]


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot and stem else ""


def _found(content: bytes) -> str:
    """`text`, a suffix of `DOCUMENTS`, or a reason: several words."""
    if not content.strip(b"\0 \t\r\n"):
        raise InputError("the file is empty" + (": zero bytes only" if b"\0" in content else ""))
    for begin, kind in SIGNATURES:
        if content.startswith(begin):
            look = _CONTAINERS.get(kind)
            return look(content) if look else kind
    if content[8:12] == b"WEBP" and content[:4] == b"RIFF":
        return f"a WebP {_IMAGE}"
    if content[4:8] == b"ftyp":
        return "a film, recording or image: it needs a transcript"
    if b"%PDF-" in content[:1024] and b"%%EOF" in content[-4096:]:
        return "pdf"
    return "text" if content.startswith(_BOMS) or b"\0" not in content[:65_536] else _unknown()


def _unknown() -> str:
    raise InputError("bytes of an unknown kind: neither text nor a document that can be read")


def _ole_kind(content: bytes) -> str:
    for stream, kind in _OLE_STREAMS.items():
        if stream.encode("utf-16-le") in content:
            if kind == "encrypted":
                raise InputError("encrypted: save it without a password")
            return kind
    raise InputError("broken: an Office file of the old kind without its parts")


def _zip_kind(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            kind = ""
            if "mimetype" in names:
                with archive.open("mimetype") as file:
                    kind = file.read(200).decode("ascii")
    except Exception as error:
        raise InputError("broken or cut short: the archive inside cannot be opened") from error
    for part, suffix in (("word/", "docx"), ("ppt/", "pptx"), ("xl/", "xlsx")):
        if "[Content_Types].xml" in names and any(name.startswith(part) for name in names):
            return suffix
    for suffix in ("epub", "odt", "ods"):
        if kind.strip() == DOCUMENTS[suffix].mime:
            return suffix
    if kind.startswith(_ODF):
        return "an OpenDocument file of a rare kind: save it as PDF"
    return f"a zip {_ARCHIVE}"


_CONTAINERS: dict[str, Callable[[bytes], str]] = {"zip": _zip_kind, "ole": _ole_kind}

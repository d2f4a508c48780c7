"""The pages of a PDF as Markdown, from the parts that kreuzberg finds on them.

Its own Markdown does not tell pages apart; its parts do, and keep their lines. What repeats at the
top and bottom of pages it leaves out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from tracemill.retrieval.extract.notebook import fenced

if TYPE_CHECKING:
    from kreuzberg import ExtractionResult

Node = Mapping[str, Any]
_MARKUP = re.compile(r"^(\s{0,3})(#{1,6}\s|`{3}|~{3}|={3,}\s*$|-{3,}\s*$)", re.MULTILINE)


def pages(result: "ExtractionResult") -> Sequence[tuple[int, str]]:
    """The number of each page, from 1, with its text."""
    nodes: list[Node] = cast("Any", result.document or {}).get("nodes") or []
    texts = {number: _markdown(found, nodes) for number, found in _by_page(nodes)}
    for page in result.pages or ():
        # A page of which no part was made out has its words at least.
        if not texts.get(page["page_number"]):
            texts[page["page_number"]] = _plain(page["content"])
    return sorted(texts.items())


def _by_page(nodes: Iterable[Node]) -> "Iterable[tuple[int, list[Node]]]":
    placed: list[tuple[int, Node]] = []
    number = 1
    for node in nodes:
        number = node.get("page") or number
        placed.append((number, node))
    placed.sort(key=lambda each: each[0])
    for page, found in groupby(placed, key=lambda each: each[0]):
        yield page, [node for _, node in found]


def _markdown(found: Sequence[Node], nodes: Sequence[Node]) -> str:
    text, listed = "", False
    for node in found:
        block = _block(node["content"], node, nodes)
        if not block:
            continue
        is_item = node["content"]["node_type"] == "list_item"
        text += ("\n" if is_item and listed else "\n\n" if text else "") + block
        listed = is_item
    return text


def _block(content: Mapping[str, Any], node: Node, nodes: Sequence[Node]) -> str:
    said = _lines(str(content.get("text") or "")).strip()
    match content["node_type"]:
        case "heading" | "title":
            return f"{'#' * min(int(content.get('level') or 1), 6)} {' '.join(said.split())}"
        case "list_item":
            return f"{_sign(node, nodes)} " + _plain(said).replace("\n", "\n  ")
        case "code":
            return fenced(said, content.get("language") or "") if said else ""
        case "table":
            return _table(content["grid"])
        case _:
            return _plain(said)


def _sign(node: Node, nodes: Sequence[Node]) -> str:
    parent: int | None = node.get("parent")
    is_ordered = parent is not None and nodes[parent]["content"].get("ordered")
    return "1." if is_ordered else "-"


def _table(grid: Mapping[str, Any]) -> str:
    rows = [[""] * int(grid["cols"]) for _ in range(int(grid["rows"]))]
    for cell in grid["cells"]:
        text = " ".join(_lines(str(cell["content"])).split())
        rows[cell["row"]][cell["col"]] = text.replace("|", "\\|")
    if not rows:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * int(grid["cols"]), *lines[1:]])


def _plain(text: str) -> str:
    """Text in which no line looks like a heading or a fence."""
    return _MARKUP.sub(r"\1\\\2", _lines(text).strip())


def _lines(text: str) -> str:
    """A carriage return alone, and the soft hyphen of PDF at a line's end, are no characters."""
    return text.replace("\r\n", "\n").replace("\r", "").replace("\x02\n", "").replace("\x02", "")

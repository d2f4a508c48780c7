"""Blocks of code: what is defined at the top, and in Python the methods of its classes."""

import ast
import re
import warnings
from collections.abc import Iterator, Sequence

from tracemill.retrieval.blocks.marks import AFTER_GAP, MOST_HEADING, Begin

_DEFINES = re.compile(
    r"(?:[\w@\[\]()<>,.*&:]+[ \t]+)*?"
    r"(?:function|func|fun|fn|def|defp|defmodule|class|struct|interface|trait|impl|enum|record|type"
    r"|module|namespace|protocol|object|contract|sub|proc|message|service|create[ \t]+\w+)"
    r"[ \t*]+(?:\([^)\n]*\)[ \t]*)?(?P<name>[\w$.:<>!?]*\w)",
    re.IGNORECASE,
)
_CALLED = re.compile(r"[A-Za-z_][\w \t*&:<>,]*?[ \t*&](?P<name>[A-Za-z_~][\w:~]*)[ \t]*\([^;\n]*$")
_CLOSES = re.compile(r"[})\]>]|end\b|else\b|elif\b|except\b|finally\b|catch\b|do\b|then\b")
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# A parsed module takes 500 times its text. What people write is shorter; this is a table of data.
_MOST_PARSED = 1_000_000
_COMMENT = re.compile(r"(?:#|//|/?\*|--|;|@)[^\n]*\n")


def code(text: str) -> Iterator[Begin]:
    """An empty line, and then one that is not indented, begins a block."""
    at, named = 0, False
    while at < len(text):
        name = _defined(text, at)
        if not _CLOSES.match(text, at):
            yield Begin(at, "code", 1 if name or named else 0, name)
            named = bool(name)
        gap = AFTER_GAP.search(text, at)
        at = gap.end() if gap else len(text)


def _defined(text: str, line: int) -> str:
    while comment := _COMMENT.match(text, line):
        line = comment.end()
    first = text[line : line + MOST_HEADING].split("\n", 1)[0]
    defined = _DEFINES.match(first) or _CALLED.match(first)
    return defined["name"] if defined else ""


def python(text: str) -> Iterator[Begin]:
    """Definitions each, with their decorators and the comments above; what lies between, whole.

    What Python cannot parse, and what is too long for it, is read as other code is.
    """
    if len(text) > _MOST_PARSED:
        yield from code(text)
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield from code(text)
        return
    lines = [0, *(line.end() for line in re.finditer("\n", text))]
    yield Begin(0, "code")
    yield from _statements(text, lines, module.body, 1)


def _statements(
    text: str, lines: list[int], body: Sequence[ast.stmt], level: int
) -> Iterator[Begin]:
    named = False
    for statement in body:
        defines = isinstance(statement, _DEFINITIONS)
        if defines:
            first = min([statement.lineno, *(each.lineno for each in statement.decorator_list)])
            yield Begin(_with_comments(text, lines, first - 1), "code", level, statement.name)
            if isinstance(statement, ast.ClassDef) and level < 6:
                inner = [each for each in statement.body if isinstance(each, _DEFINITIONS)]
                yield from _statements(text, lines, inner, level + 1)
        elif named:
            yield Begin(_with_comments(text, lines, statement.lineno - 1), "code", level)
        named = defines


def _with_comments(text: str, lines: list[int], line: int) -> int:
    while line and text[lines[line - 1] : lines[line]].lstrip().startswith("#"):
        line -= 1
    return lines[line]

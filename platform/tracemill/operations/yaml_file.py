"""Settings of operations in YAML, written by hand: each mistake is told with its file and line.

What the file holds is never quoted: an address or a secret may stand there by mistake.
"""

import difflib
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, StringConstraints, ValidationError

from tracemill.corpus.recipe import MENDS, Strict
from tracemill.errors import InputError

Model = TypeVar("Model", bound=BaseModel)
Where = tuple[str | int, ...]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MENDS = {
    **MENDS,
    "missing": "it is missing",
    "string_pattern_mismatch": "letters, digits, `-` and `_` only, the first a letter or digit",
    "union_tag_not_found": "`kind` is missing: file, webhook or slack",
    "union_tag_invalid": "`kind` is file, webhook or slack",
}
_ONE = {"rules": "rule", "policies": "policy"}
_KINDS = ("file", "webhook", "slack")
_SECRETS = {
    name: f"no {what} may stand in a file: put it into an environment variable, and name that "
    f"with `{name}_env`"
    for name, what in (("url", "address"), ("secret", "secret"))
}

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    given = re.fullmatch(r"(\d{1,6})([smhdw])", value.strip()) if isinstance(value, str) else None
    if given is None:
        raise ValueError("give a duration, as 30m, 1h or 7d")
    return timedelta(**{_UNITS[given[2]]: int(given[1])})


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A number and s, m, h, d or w."""

__all__ = ["Duration", "Name", "Strict", "checked", "loaded", "told"]


def loaded(path: Path) -> tuple[dict[str, Any], dict[Where, int]]:
    """What a YAML file says, and the line of each part of it; nothing where there is no file.

    Raises `InputError` for a file that is not YAML, or not names and values.
    """
    import yaml

    if not path.is_file():
        return {}, {}
    try:
        text = path.read_text(encoding="utf-8")
        fields = cast(object, yaml.safe_load(text))
        node = cast(Any, yaml.compose(text, yaml.SafeLoader))  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: this is not YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: this is not YAML ({type(error).__name__})") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not isinstance(fields, dict | None):
        raise InputError(f"{path}: the whole file: {MENDS['dict_type']}")
    lines: dict[Where, int] = {}
    if node is not None:
        _note_lines(node, (), lines)
    return cast("dict[str, Any]", fields or {}), lines


def _note_lines(node: Any, where: Where, lines: dict[Where, int]) -> None:
    lines.setdefault(where, node.start_mark.line + 1)
    if node.id == "mapping":
        for key, value in node.value:
            lines[(*where, key.value)] = key.start_mark.line + 1
            _note_lines(value, (*where, key.value), lines)
    elif node.id == "sequence":
        for number, value in enumerate(node.value):
            _note_lines(value, (*where, number), lines)


def checked(
    path: Path, fields: dict[str, Any], model: type[Model], lines: dict[Where, int]
) -> Model:
    """The fields as `model`; raises `InputError` with file, line, field and mend of each mistake."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        said = [_said(each, fields, model, lines) for each in error.errors(include_input=False)]
        raise InputError(f"{path}: {'; '.join(dict.fromkeys(said))}") from None


def told(path: Path, lines: dict[Where, int], where: Where, mistake: str) -> InputError:
    """A mistake that only the whole shows, in the same words."""
    return InputError(f"{path}: {_line(lines, where)}{mistake}")


def _said(
    error: Any, fields: dict[str, Any], model: type[BaseModel], lines: dict[Where, int]
) -> str:
    where = _place(fields, error["loc"])
    named = " ".join(_names(fields, where))
    if error["type"] == "extra_forbidden":
        field = str(where[-1])
        said = _SECRETS.get(field, f"there is no such field{_near(field, _fields(model))}")
    else:
        plain = error["msg"].removeprefix("Value error, ")
        said = _MENDS.get(error["type"], plain.replace("Input should be", "it should be"))
    return f"{_line(lines, where)}{named or 'the whole file'}: {said}"


def _line(lines: dict[Where, int], where: Where) -> str:
    for length in range(len(where), 0, -1):
        if where[:length] in lines:
            return f"line {lines[where[:length]]}: "
    return ""


def _place(fields: Any, loc: Where) -> Where:
    """Where pydantic found a mistake, without the kind of a sink, which is no field of the file."""
    where: list[str | int] = []
    for part in loc:
        inner = _part(fields, part)
        if part not in _KINDS or inner is not None:
            where.append(part)
            fields = inner
    return tuple(where)


def _names(fields: Any, where: Where) -> list[str]:
    """The field, after the name of the rule or the number of the policy that it is in."""
    words: list[str] = []
    for part in where:
        fields = _part(fields, part)
        if isinstance(part, int):
            name = _part(fields, "name")
            words[-1] = (
                f"{_ONE.get(words[-1], words[-1])} {name if isinstance(name, str) else part + 1}:"
            )
        else:
            words.append(part)
    return words


def _part(fields: Any, part: str | int) -> Any:
    try:
        return fields[part]
    except (KeyError, IndexError, TypeError):
        return None


def _fields(model: type[BaseModel]) -> list[str]:
    """All fields that the file may have, wherever."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({name for part in parts for name in part.get("properties", {})})


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else ""

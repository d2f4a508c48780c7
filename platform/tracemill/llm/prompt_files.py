"""One prompt: a value, what makes it sound, and the file that it is read from and written to.

A file is TOML between two lines of `+++`, then the template, so that it reads as Markdown and can
be reviewed as a diff.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import unified_diff
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from tracemill.errors import InputError, UsageError
from tracemill.llm import templates

VariableType = Literal["string", "integer", "number", "boolean", "array", "object"]
"""The types of JSON."""

_FENCE = "+++"
_FIELDS = {"name", "description", "system", "variables"}


@dataclass(frozen=True)
class Prompt:
    """A template with its variables; equal content is the same version."""

    name: str
    template: str
    """The user message, in Jinja's language."""
    system: str | None = None
    """The system text, in the same language."""
    variables: Mapping[str, VariableType] = field(default_factory=dict[str, VariableType])
    """Name to JSON type: exactly those that the two texts use."""
    description: str = ""
    """What it is for; not part of the version."""
    source: str | None = None
    """The file it was read from; not part of the version."""

    @cached_property
    def version(self) -> str:
        """BLAKE2b-128 of template, system and variables as canonical JSON, in 32 hex digits."""
        content = {
            "template": self.template,
            "system": self.system,
            "variables": dict(self.variables),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def load(path: Path | str) -> Prompt:
    """The prompt in a file: TOML between two lines of `+++`, then the template of the user message.

        +++
        name = "greeting"
        description = "Says hello."
        system = "You are polite."       # optional, a template too
        [variables]
        person = "string"                # string, integer, number, boolean, array or object
        +++
        Greet {{ person }}.

    Raises `InputError` naming the file and what is wrong with it.
    """
    path = Path(path)
    try:
        prompt = parse(path.read_text(encoding="utf-8-sig"), source=path.name)
        check(prompt)
    except (UsageError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    return prompt


def parse(text: str, *, source: str | None = None) -> Prompt:
    """The prompt in a text of the form that `load` reads; the inverse of `write`."""
    import tomllib

    head, fence, template = text.removeprefix(f"{_FENCE}\n").partition(f"\n{_FENCE}\n")
    if not text.startswith(f"{_FENCE}\n") or not fence:
        raise UsageError(
            f"a prompt begins with TOML between two lines of {_FENCE}: "
            "name, description, system, [variables]"
        )
    try:
        fields = tomllib.loads(head)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the part between the lines of {_FENCE} is not TOML: {error}") from error
    return _prompt(fields, template.removesuffix("\n"), source)


def _prompt(fields: dict[str, Any], template: str, source: str | None) -> Prompt:
    if unknown := sorted(fields.keys() - _FIELDS):
        raise UsageError(
            f"there is no field {unknown[0]!r}: there are {', '.join(sorted(_FIELDS))}"
        )
    for name in ("name", "description", "system"):
        if not isinstance(fields.get(name, ""), str):
            raise UsageError(f"{name} is text, not {fields[name]!r}")
    if not isinstance(fields.get("variables", {}), dict):
        raise UsageError(
            'variables is a table of names and types, as [variables] person = "string"'
        )
    return Prompt(
        name=fields.get("name", ""),
        template=template,
        system=fields.get("system"),
        variables=fields.get("variables", {}),
        description=fields.get("description", ""),
        source=source,
    )


def write(prompt: Prompt) -> str:
    """The prompt as the text of a file."""
    lines = [_FENCE, f"name = {_toml(prompt.name)}"]
    if prompt.description:
        lines.append(f"description = {_toml(prompt.description)}")
    if prompt.system is not None:
        lines.append(f"system = {_toml(prompt.system)}")
    lines.append("[variables]")
    lines += [
        f"{name if name.isascii() else _toml(name)} = {_toml(kind)}"
        for name, kind in sorted(prompt.variables.items())
    ]
    return "\n".join([*lines, _FENCE, prompt.template]) + "\n"


def _toml(text: str) -> str:
    """A TOML string; over several lines where the text has them, so that a diff shows lines."""
    quoted = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    if "\n" not in text:
        return quoted
    lines = "\n" + quoted[1:-1].replace('\\"', '"').replace("\\\\", "\\u005c").replace("\\n", "\n")
    # Quotes in a row would end the string, a fence would end the head.
    lines = re.sub(r'(?<=")"|"\Z', r"\\u0022", lines).replace(f"\n{_FENCE}", "\n\\u002b++")
    return f'"""{lines}"""'


def diff(a: Prompt, b: Prompt) -> str:
    """What changes from `a` to `b`, as a unified diff of their files; empty where nothing does."""
    before, after = (write(prompt).splitlines(keepends=True) for prompt in (a, b))
    old, new = (f"{prompt.name} {prompt.version[:12]}" for prompt in (a, b))
    return "".join(unified_diff(before, after, old, new))


def check(prompt: Prompt) -> None:
    """Raises `UsageError` for a prompt that could not be used: its name, its templates, or
    variables that are declared but not used or used but not declared."""
    check_name("a prompt", prompt.name, most=190)
    for name, kind in prompt.variables.items():
        if kind not in get_args(VariableType):
            known = ", ".join(get_args(VariableType))
            raise UsageError(
                f"prompt {prompt.name}: variable {name} has the type {kind!r}: choose of {known}"
            )
    used = set[str]()
    for part, text in (("template", prompt.template), ("system", prompt.system or "")):
        used |= templates.variables(text, f"prompt {prompt.name}, {part}")
    for name in sorted(used ^ prompt.variables.keys()):
        raise UsageError(
            f"prompt {prompt.name} uses the variable {name} and does not declare it: "
            f'add it to [variables], as {name} = "string"'
            if name in used
            else f"prompt {prompt.name} declares the variable {name} and does not use it: "
            f"write {{{{ {name} }}}} into a text, or take it out of [variables]"
        )


def check_name(what: str, name: str, *, most: int) -> None:
    """Raises `UsageError` for a name that could not stand on one line of a list."""
    plain = name.isprintable() and not any(char.isspace() for char in name)
    if not name or len(name) > most or not plain:
        raise UsageError(
            f"{what} has a name of 1 to {most} characters without spaces, not {name!r}"
        )

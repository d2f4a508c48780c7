"""What a value has to look like: a pydantic type or a JSON Schema, asked in the same way.

Of a value that is sent there are three verdicts: it has to be taken, it has to be refused, or the
schema leaves it open, so that either is right and only breaking is wrong.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, cast
from urllib.parse import urlsplit

from tracemill.errors import UsageError
from tracemill.llm.schema_check import wrong_schema

_MOST_CHARACTERS = 300


@dataclass(frozen=True, eq=False)
class Shape:
    """The form of a value."""

    schema: dict[str, Any]
    """JSON Schema."""
    adapter: Any = None
    """pydantic's TypeAdapter, where the form was given as a type; it has the last word."""

    def verdict(self, value: Any) -> bool | None:
        """Whether a value that is sent has to be taken; None where the schema leaves it open.

        A type decides by itself, except for what it converts (`"1"` to 1) though its JSON Schema
        does not allow it: that is open. So are formats that are not known here, and 2.0 where a
        whole number is wanted: to JSON Schema it is one, to many programs it is none.
        """
        exact = self._errors(value, narrow=True)
        if self.adapter is not None:
            wrong = self._model_error(value, strict=False)
            return False if wrong else True if not exact else None
        if not exact:
            return True
        return None if not self._errors(value, narrow=False) else False

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value that came back, in a line; None where nothing is.

        Types are strict: a number in quotes is no number.
        """
        if self.adapter is not None:
            return self._model_error(value, strict=True)
        found = self._errors(value, narrow=False)
        return found[0][:_MOST_CHARACTERS] if found else None

    def _model_error(self, value: Any, *, strict: bool) -> str | None:
        from pydantic import ValidationError

        try:
            self.adapter.validate_json(json.dumps(value), strict=strict)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = "".join(f".{step}" for step in first["loc"])
            return f"${where}: {first['msg']}"[:_MOST_CHARACTERS]
        except (TypeError, ValueError, RecursionError) as error:
            return f"$: it is not JSON: {error}"[:_MOST_CHARACTERS]
        return None

    def _errors(self, value: Any, *, narrow: bool) -> list[str]:
        validator = self._narrow if narrow else self._plain
        try:
            return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
        except RecursionError:
            return ["$: it is nested too deeply to be checked"]

    @cached_property
    def _plain(self) -> Any:
        from jsonschema import validators

        return validators.validator_for(self.schema, validators.Draft202012Validator)(self.schema)

    @cached_property
    def _narrow(self) -> Any:
        """Takes only what nobody disputes."""
        from jsonschema import FormatChecker, validators

        plain = self._plain
        types = plain.TYPE_CHECKER.redefine("integer", _is_whole)
        extend = cast("Any", validators.extend)  # pyright: ignore[reportUnknownMemberType]
        return extend(type(plain), type_checker=types)(
            self.schema, format_checker=_formats(FormatChecker)
        )


def shape(form: Any) -> Shape:
    """The shape of a pydantic model, of any type that pydantic knows, or of a JSON Schema (a dict).

    Raises `UsageError` where it is none of them.
    """
    if isinstance(form, Shape):
        return form
    if isinstance(form, dict):
        schema = cast("dict[str, Any]", form)
        if wrong := wrong_schema(schema):
            raise UsageError(wrong.replace("response_schema", "the schema"))
        return Shape(schema)
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        adapter = TypeAdapter[Any](form)
        return Shape(adapter.json_schema(by_alias=True), adapter)
    except PydanticUserError as error:
        raise UsageError(f"{form!r:.80} is no form of JSON: {error.message}"[:300]) from None


def _formats(base: Any) -> Any:
    """jsonschema's checks, those of dates and addresses, and a refusal of all others."""
    checker = base()
    known = dict(checker.checkers)
    for name, check in (("date-time", _is_time), ("uri", _is_uri)):
        known.setdefault(name, (check, ValueError))

    class Checker(base):  # type: ignore[misc,valid-type]
        def check(self, instance: object, format: str) -> None:
            from jsonschema.exceptions import FormatError

            test, raises = known.get(format, (_unknown, ()))
            try:
                if not isinstance(instance, str) or test(instance):
                    return
            except raises:
                pass
            raise FormatError(f"{instance!r:.60} is not a {format}")

    return Checker()


def _is_whole(checker: Any, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(text: object) -> bool:
    found = datetime.fromisoformat(str(text))
    return found.tzinfo is not None and "T" in str(text).upper()


def _is_uri(text: object) -> bool:
    parts = urlsplit(str(text))
    return bool(parts.scheme and (parts.netloc or parts.path)) and str(text).isascii()


def _unknown(text: object) -> bool:
    return False

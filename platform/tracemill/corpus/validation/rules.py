"""What can be wrong with training data: one table, with what it means and how it is mended.

An error is what a provider refuses or what cannot be learned from; a warning is what is allowed and
seldom meant.
"""

from typing import Literal, NamedTuple


class Rule(NamedTuple):
    """One thing that can be wrong."""

    level: Literal["error", "warning"]
    what: str
    mend: str


def _error(what: str, mend: str) -> Rule:
    return Rule("error", what, mend)


def _warning(what: str, mend: str) -> Rule:
    return Rule("warning", what, mend)


RULES: dict[str, Rule] = {
    # The file
    "broken_file": _error("the file ends in the middle", "copy or compress it again"),
    "no_rows": _error("there are no rows", "write one JSON object a line"),
    "few_rows": _error("fewer rows than training takes", "add rows: 50 to 100 good ones show"),
    "bom": _error("a byte order mark stands first", "save as UTF-8 without BOM"),
    "not_utf8": _error("bytes that are not UTF-8", "save the file as UTF-8, as iconv does"),
    "blank_line": _warning("a blank line", "remove it; some readers stop there"),
    "long_line": _error("a line over 64 MiB", "one row a line; is this one JSON array?"),
    "not_json": _error("not JSON", "write the row with a JSON library"),
    "not_object": _error("a row that is no object", 'a row is {"messages": [...]}'),
    "number": _error("a number beyond what JSON readers take", "write it as text"),
    "double_field": _warning("a field that stands twice", "keep one; readers take the last"),
    "unknown_shape": _error("a layout nobody knows", 'a row is {"messages": [...]}'),
    "mixed_shapes": _error("rows of several layouts", "put each layout into its own file"),
    "other_shape": _warning(
        "not the layout that this model trains on", "convert it to chat rows: tracemill build"
    ),
    # Fields
    "missing": _error("a field is missing", "add it"),
    "wrong_type": _error("a value of another type", "give it the type that is named"),
    "empty": _error("nothing in it", "fill it, or leave the row out"),
    "extra_field": _warning("a field that training ignores", "remove it, or keep it elsewhere"),
    "unknown_field": _error("a field that messages do not have", "remove it"),
    # Turns
    "bad_role": _error("no role", "system, developer, user, assistant or tool"),
    "late_system": _warning("a system message that is not first", "move it to the front"),
    "same_speaker": _warning("the same speaker twice in a row", "join the two messages"),
    "no_user": _error("nobody asks", "add the message of a user"),
    "no_answer": _error("the last message is not an assistant's", "end with an answer"),
    "null_content": _error("null without tool calls", "write the text, or leave the row out"),
    "blank": _error("a text of blanks only", "write the text, or leave the row out"),
    "bad_part": _error("a part that cannot be trained on", "text and image_url can be"),
    "bad_name": _error("no name", "1 to 64 of a-z, A-Z, 0-9, _ and -"),
    "bad_weight": _error("no weight", "0 or 1, in messages of the assistant only"),
    "nothing_learned": _error("every answer has weight 0", "give the one to learn weight 1"),
    # Tools
    "bad_tool": _error("no definition of a tool", '{"type": "function", "function": {...}}'),
    "bad_schema": _error("parameters that are no JSON Schema", "as the message says"),
    "bad_call": _error("no call of a tool", '{"id", "type": "function", "function": {...}}'),
    "bad_arguments": _error("arguments that are no JSON object", "write them as JSON, in a string"),
    "unfit_arguments": _warning("arguments that break the tool's schema", "correct one of the two"),
    "unknown_tool": _warning("a call of a tool that is not defined", "add it to `tools`"),
    "no_result": _error("a call without result", "let a tool message with its id follow"),
    "no_call": _error("a result without call", "give it the id of a call before it"),
    "double_id": _error("an id of a call that stands twice", "give each call its own"),
    "old_form": _warning("functions in the form before tools", "use `tools` and `tool_calls`"),
    # Preferences
    "same_outputs": _error("preferred and other output are equal", "leave the row out"),
    # The whole
    "too_long": _error("more tokens than the model trains on", "cut it between turns, or drop it"),
    "duplicate": _warning("a row that stood before", "keep one: copies weigh as much as epochs"),
    "conflict": _warning("the same question, another answer", "keep the better answer"),
    "imbalance": _warning("one answer is far more frequent", "add rows with the others"),
    "personal": _warning("personal data or secrets", "redact them: tracemill build does"),
    "not_priced": _warning("no price is known", "look at the provider's price list"),
}
"""Code -> rule."""

"""What Arrow is to read of rows of JSON: the fields that matter, with the types of a row like them.

A field whose value would need care has the type null there: a value in it is an error of the block,
and its row is read by itself.
"""

from typing import TYPE_CHECKING, Any, cast

from tracemill.corpus import fields
from tracemill.corpus.columns import CAREFUL_FIELDS
from tracemill.corpus.recipe import Source

if TYPE_CHECKING:
    import pyarrow as pa

_OF_PAIRS = ("user_query", "assistant_response", "context", "history")
"""Columns that say nothing where there are messages."""


def json_schema(sample: dict[str, Any], recipe: Source) -> "pa.Schema | None":
    """For rows like this one. None where the paths of a recipe contradict each other."""
    import pyarrow as pa

    tree: dict[str, Any] = {}
    paths = fields.names(recipe)
    has_messages = isinstance(fields.first(sample, paths["messages"]), list)
    for column in set(paths) - set(_OF_PAIRS) if has_messages else paths:
        for path in paths[column]:
            if not _add(tree, path, column, sample):
                return None
    return pa.schema([(name, _type(each)) for name, each in tree.items()])


def narrowed(schema: "pa.Schema", samples: list[dict[str, Any]]) -> "pa.Schema | None":
    """The fields of a schema that these rows have. None where they have others, or none of them."""
    import pyarrow as pa

    found = _narrowed(pa.struct(schema), samples)
    return pa.schema(found) if found is not None and found.num_fields else None


def _narrowed(kind: Any, values: list[Any]) -> Any:
    import pyarrow as pa

    if pa.types.is_list(kind):
        lists = [cast("list[Any]", value) for value in values if isinstance(value, list)]
        inner = _narrowed(kind.value_type, [each for value in lists for each in value])
        return None if inner is None else pa.list_(inner)
    objects = [cast("dict[str, Any]", value) for value in values if isinstance(value, dict)]
    if not (objects and pa.types.is_struct(kind)):
        return kind
    there = dict.fromkeys(name for each in objects for name in each)
    if any(kind.get_field_index(name) < 0 for name in there):
        return None
    struct: Any = kind
    inner = {
        name: _narrowed(struct.field(name).type, [each.get(name) for each in objects])
        for name in there
    }
    return None if None in inner.values() else pa.struct(list(inner.items()))


def _add(tree: dict[str, Any], path: str, column: str, sample: dict[str, Any]) -> bool:
    """One field to read, by its name and by its path; False where another is in the way."""
    if not _grow(tree, [path], _leaf(column, sample.get(path))):
        return False
    leaf = _leaf(column, fields.reach(sample, path))
    return "." not in path or _grow(tree, path.split("."), leaf)


def _grow(tree: dict[str, Any], path: list[str], leaf: Any) -> bool:
    *steps, last = path
    for step in steps:
        inner: Any = tree.setdefault(step, {})
        if not isinstance(inner, dict):
            return False
        tree = cast("dict[str, Any]", inner)
    if isinstance(tree.get(last), dict):
        return False
    tree[last] = leaf
    return True


def _type(node: Any) -> "pa.DataType":
    import pyarrow as pa

    if not isinstance(node, dict):
        return cast("pa.DataType", node)
    inner = {name: _type(each) for name, each in cast("dict[str, Any]", node).items()}
    if len(inner) == 1 and (step := next(iter(inner))).isdecimal():
        return pa.list_(inner[step])
    return pa.struct(list(inner.items()))


def _leaf(column: str, value: Any) -> "pa.DataType":
    import pyarrow as pa

    if column == "messages":
        if not isinstance(value, list):
            return pa.null()
        return pa.list_(pa.struct(_turn_type(cast("list[Any]", value))))
    if isinstance(value, list):
        return pa.list_(pa.null())
    if isinstance(value, dict) or column in ("tools", "history"):
        return pa.null()
    if column == "rating" and not isinstance(value, str):
        return pa.float64()
    if column == "timestamp" and isinstance(value, float):
        return pa.float64()
    if isinstance(value, int) and not isinstance(value, bool):
        return pa.int64()
    return pa.string()


def _turn_type(turns: list[Any]) -> "list[tuple[str, pa.DataType]]":
    import pyarrow as pa

    first = cast("dict[str, Any]", turns[0]) if turns and isinstance(turns[0], dict) else {}
    words = ("from", "value", "name") if "from" in first else ("role", "content", "name")
    shape = [(name, pa.string()) for name in words]
    odd = [
        (name, pa.list_(pa.null()) if first.get(name) == [] else pa.null())
        for name in CAREFUL_FIELDS
    ]
    return [*shape, ("weight", pa.int64()), *odd]

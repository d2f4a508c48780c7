"""Chat templates: a conversation as the one text that an open model is trained on, and which parts
of that text it learns.

Written from the published formats and rendered by Jinja in a sandbox. A text that holds a marker of
its template is refused: it could speak in another's turn.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.errors import InputError, UsageError

if TYPE_CHECKING:
    from jinja2 import Template as Compiled


class Template(NamedTuple):
    """A format of conversations."""

    text: str
    """Jinja over `messages` and `tools`; what passes through `learned` is the answer's."""
    markers: tuple[str, ...]
    """What no text in it may hold."""
    source: str
    roles: tuple[str, ...] = ("system", "user", "assistant")
    in_turns: bool = False
    """Whether user and assistant must alternate, the user first."""
    exchanges: int | None = None
    """How many it has room for; None: any number."""


class Rendered(NamedTuple):
    """A conversation as a text."""

    text: str
    learned: tuple[tuple[int, int], ...]
    """First character and the one behind the last of each part that is trained on: answers whose
    weight is not 0, with the marker that ends them, for a model must learn to stop."""


_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # noncharacters: no text has a use for them

_CHATML = """\
{% for m in messages %}
<|im_start|>{{ m.role }}
{{ (m.content ~ '<|im_end|>') | learned(m) }}
{% endfor %}
"""

_QWEN = """\
{% set first = messages[0] %}
{% set above = first.content if first.role == 'system' else default_system %}
<|im_start|>system
{{ above }}
{%- if tools %}


# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{%- for tool in tools %}

{{ tool | tojson }}
{%- endfor %}

</tools>

For each function call, return a json object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>
{%- endif %}
<|im_end|>
{% for m in messages %}
{% if m.role == 'tool' %}
{% if loop.previtem.role != 'tool' %}
<|im_start|>user
{% endif %}
<tool_response>
{{ m.content }}
</tool_response>{{ '' if loop.nextitem is defined and loop.nextitem.role == 'tool' else '<|im_end|>' }}
{% elif m.role != 'system' or not loop.first %}
<|im_start|>{{ m.role }}
{{ (m | called ~ '<|im_end|>') | learned(m) }}
{% endif %}
{% endfor %}
"""

_LLAMA_3 = """\
<|begin_of_text|>
{%- for m in messages -%}
<|start_header_id|>{{ m.role }}<|end_header_id|>

{{ (m.content | trim ~ '<|eot_id|>') | learned(m) }}
{%- endfor -%}
"""

_MISTRAL = """\
<s>
{%- for m in messages if m.role != 'system' -%}
{%- if m.role == 'user' -%}
{%- if tools and m is sameas last_user -%}
[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]
{%- endif -%}
[INST] {{ above ~ '\n\n' if above and m is sameas last_user }}{{ m.content }}[/INST]
{%- elif m.role == 'tool' -%}
[TOOL_RESULTS] {{ {'content': m.content, 'call_id': m.tool_call_id} | tojson }}[/TOOL_RESULTS]
{%- elif m.tool_calls -%}
{{ ('[TOOL_CALLS] ' ~ m.tool_calls | named | tojson ~ '</s>') | learned(m) }}
{%- else -%}
{{ (' ' ~ m.content | trim ~ '</s>') | learned(m) }}
{%- endif -%}
{%- endfor -%}
"""

_GEMMA = """\
<bos>
{%- for m in messages if m.role != 'system' -%}
<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{{ above ~ '\n\n' if above and loop.first }}{{ (m.content | trim ~ '<end_of_turn>') | learned(m) }}
{% endfor %}
"""

_PHI_3 = """\
{% for m in messages %}
<|{{ m.role }}|>
{{ (m.content ~ '<|end|>') | learned(m) }}
{% endfor %}
<|endoftext|>
{%- if false %}{% endif -%}
"""

_PHI_4 = """\
{%- for m in messages -%}
<|im_start|>{{ m.role }}<|im_sep|>{{ (m.content ~ '<|im_end|>') | learned(m) }}
{%- endfor -%}
"""

_ZEPHYR = """\
{% for m in messages %}
<|{{ m.role }}|>
{{ (m.content ~ '</s>') | learned(m) }}
{% endfor %}
"""

_ALPACA = """\
{{ above or 'Below is an instruction that describes a task. Write a response that appropriately \
completes the request.' }}

{% for m in messages if m.role != 'system' %}
{% if m.role == 'user' %}
### Instruction:
{{ m.content }}

{% else %}
### Response:
{{ m.content | learned(m) }}
{%- endif %}
{% endfor %}
"""

_VICUNA = """\
{{ above or "A chat between a curious user and an artificial intelligence assistant. The assistant \
gives helpful, detailed, and polite answers to the user's questions." }}
{%- for m in messages if m.role != 'system' -%}
{%- if m.role == 'user' %} USER: {{ m.content }} ASSISTANT:
{%- else %} {{ (m.content ~ '</s>') | learned(m) }}
{%- endif -%}
{%- endfor -%}
"""

_IM = ("<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|endoftext|>")
_INST = ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[TOOL_RESULTS]")
_HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_TURNS = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_BARS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")
_WITH_TOOLS = ("system", "user", "assistant", "tool")

TEMPLATES: dict[str, Template] = {
    "chatml": Template(_CHATML, _IM, "OpenAI, ChatML; most fine-tunes of open models"),
    "qwen-2.5": Template(_QWEN, _IM, "Qwen2.5 documentation, function calling", _WITH_TOOLS),
    "llama-3": Template(_LLAMA_3, _HEADERS, "Meta, model card of Llama 3, prompt format"),
    "mistral": Template(
        _MISTRAL, _INST, "Mistral documentation, tokenizer v3, Instruct v0.3", _WITH_TOOLS, True
    ),
    "gemma": Template(_GEMMA, _TURNS, "Google, Gemma formatting", in_turns=True),
    "phi-3": Template(_PHI_3, _BARS, "Microsoft, model card of Phi-3.5-mini-instruct"),
    "phi-4": Template(_PHI_4, _IM, "Microsoft, model card of phi-4"),
    "zephyr": Template(_ZEPHYR, ("</s>", *_BARS), "Hugging Face H4, model card of zephyr-7b-beta"),
    "alpaca": Template(_ALPACA, (), "Stanford Alpaca, README", in_turns=True, exchanges=1),
    "vicuna": Template(_VICUNA, ("</s>",), "LMSYS FastChat, vicuna_v1.1", in_turns=True),
}
"""Name -> format."""


def render(messages: Sequence[Mapping[str, Any]], name: str, tools: str | None = None) -> Rendered:
    """A conversation in a format.

    `messages` are rows of a frame of records: role, content, `tool_calls` (JSON) and so on; `tools`
    is JSON too. Raises `UsageError` for a name that is unknown, `InputError` for a conversation
    that the format has no form for.
    """
    if name not in TEMPLATES:
        raise UsageError(f"no template is called {name!r}: there are {', '.join(TEMPLATES)}")
    template = TEMPLATES[name]
    turns = [_turn(message) for message in messages]
    _check(turns, tools, name, template)
    values: dict[str, Any] = {"messages": turns, "tools": json.loads(tools) if tools else []}
    values["above"] = next((t["content"] for t in turns if t["role"] == "system"), "")
    values["last_user"] = next((t for t in reversed(turns) if t["role"] == "user"), None)
    values["default_system"] = (
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    )
    return _unmarked(_compiled(name).render(values))


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    """As templates see it: `developer` is a newer word for `system`, calls are values."""
    role = "system" if message["role"] == "developer" else message["role"]
    calls = json.loads(message.get("tool_calls") or "[]")
    for call in calls:
        call["function"]["arguments"] = json.loads(call["function"]["arguments"] or "{}")
    weight = message.get("weight")
    return {
        "role": role,
        "content": message.get("content") or "",
        "tool_calls": calls,
        "tool_call_id": message.get("tool_call_id"),
        "learned": role == "assistant" and weight != 0,
    }


def _check(turns: list[dict[str, Any]], tools: str | None, name: str, template: Template) -> None:
    said = "".join([*(turn["content"] for turn in turns), tools or ""])
    for marker in (_OPEN, _CLOSE, *template.markers):
        if marker in said:
            raise InputError(
                f"a text holds {marker!r}, which is a marker of the template {name}: "
                "drop the record or rewrite the text"
            )
    strange = sorted({turn["role"] for turn in turns} - set(template.roles))
    calls = tools or any(turn["tool_calls"] for turn in turns)
    if strange or (calls and "tool" not in template.roles):
        raise InputError(
            f"the template {name} has no form for {', '.join(strange) or 'tools'}: "
            f"those with tools are {', '.join(n for n, t in TEMPLATES.items() if 'tool' in t.roles)}"
        )
    spoken = [
        t["role"] for t in turns if t["role"] in ("user", "assistant") and not t["tool_calls"]
    ]
    if template.in_turns and (spoken[:1] != ["user"] or any(a == b for a, b in pairwise(spoken))):
        raise InputError(f"the template {name} wants user and assistant by turns, the user first")
    if template.exchanges is not None and spoken.count("user") > template.exchanges:
        raise InputError(f"the template {name} has room for {template.exchanges} question")


def _unmarked(text: str) -> Rendered:
    """The text without the marks around what is learned, and where they were."""
    pieces: list[str] = []
    learned: list[tuple[int, int]] = []
    length = 0
    for number, piece in enumerate(text.replace(_CLOSE, _OPEN).split(_OPEN)):
        if number % 2:
            learned.append((length, length + len(piece)))
        pieces.append(piece)
        length += len(piece)
    return Rendered("".join(pieces), tuple(learned))


@cache
def _compiled(name: str) -> "Compiled":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, keep_trailing_newline=True
    )
    filters = cast("dict[str, Any]", environment.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(learned=_learned, called=_called, named=_named, tojson=_json)
    return environment.from_string(TEMPLATES[name].text)


def _learned(text: str, turn: dict[str, Any]) -> str:
    return f"{_OPEN}{text}{_CLOSE}" if turn["learned"] else text


def _called(turn: dict[str, Any]) -> str:
    """Text and calls of a turn, each call an element of its own."""
    calls = [
        f"<tool_call>\n{_json({k: call['function'][k] for k in ('name', 'arguments')})}\n</tool_call>"
        for call in turn["tool_calls"]
    ]
    return "\n".join([turn["content"], *calls] if turn["content"] else calls)


def _named(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
            "id": call["id"],
        }
        for call in calls
    ]


def _json(value: Any) -> str:
    # Jinja's own writes < as \u003c, for pages.
    return json.dumps(value, ensure_ascii=False)

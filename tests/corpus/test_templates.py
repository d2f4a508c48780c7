"""A record in a chat template: the published text, the learned spans, and no turn that is forged."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.corpus.templates import TEMPLATES, render
from tracemill.errors import InputError, UsageError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "When does it leave?"},
    {"role": "assistant", "content": "At nine.", "weight": 0},
    {"role": "user", "content": "And back?"},
    {"role": "assistant", "content": "At ten."},
]
CALLS = [
    {
        "id": "call00001",
        "type": "function",
        "function": {"name": "trains", "arguments": '{"to": "<Ulm>"}'},
    }
]
WITH_TOOLS = [
    {"role": "user", "content": "Trains to Ulm?"},
    {"role": "assistant", "content": None, "tool_calls": json.dumps(CALLS)},
    {"role": "tool", "content": "09:12", "tool_call_id": "call00001"},
    {"role": "assistant", "content": "At 09:12."},
]
TOOLS = '[{"type": "function", "function": {"name": "trains", "parameters": {"type": "object"}}}]'

EXPECTED = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n"
    "<|im_start|>user\nWhen does it leave?<|im_end|>\n<|im_start|>assistant\nAt nine.<|im_end|>\n"
    "<|im_start|>user\nAnd back?<|im_end|>\n<|im_start|>assistant\nAt ten.<|im_end|>\n",
    "llama-3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhen does it leave?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nAt nine.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd back?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nAt ten.<|eot_id|>",
    "mistral": "<s>[INST] When does it leave?[/INST] At nine.</s>"
    "[INST] Be brief.\n\nAnd back?[/INST] At ten.</s>",
    "gemma": "<bos><start_of_turn>user\nBe brief.\n\nWhen does it leave?<end_of_turn>\n"
    "<start_of_turn>model\nAt nine.<end_of_turn>\n<start_of_turn>user\nAnd back?<end_of_turn>\n"
    "<start_of_turn>model\nAt ten.<end_of_turn>\n",
    "phi-3": "<|system|>\nBe brief.<|end|>\n<|user|>\nWhen does it leave?<|end|>\n"
    "<|assistant|>\nAt nine.<|end|>\n<|user|>\nAnd back?<|end|>\n<|assistant|>\nAt ten.<|end|>\n"
    "<|endoftext|>",
    "phi-4": "<|im_start|>system<|im_sep|>Be brief.<|im_end|>"
    "<|im_start|>user<|im_sep|>When does it leave?<|im_end|>"
    "<|im_start|>assistant<|im_sep|>At nine.<|im_end|>"
    "<|im_start|>user<|im_sep|>And back?<|im_end|><|im_start|>assistant<|im_sep|>At ten.<|im_end|>",
    "zephyr": "<|system|>\nBe brief.</s>\n<|user|>\nWhen does it leave?</s>\n"
    "<|assistant|>\nAt nine.</s>\n<|user|>\nAnd back?</s>\n<|assistant|>\nAt ten.</s>\n",
    "vicuna": "Be brief. USER: When does it leave? ASSISTANT: At nine.</s>"
    " USER: And back? ASSISTANT: At ten.</s>",
}
EXPECTED["qwen-2.5"] = EXPECTED["chatml"]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_conversation_is_the_published_text_and_its_weighted_answers_are_learned(name: str):
    text, learned = render(MESSAGES, name)
    assert text == EXPECTED[name]
    assert [text[start:end].strip()[:7] for start, end in learned] == ["At ten."]


def test_alpaca_holds_one_question():
    text, learned = render(MESSAGES[:2] + MESSAGES[4:], "alpaca")
    assert text == ("Be brief.\n\n### Instruction:\nWhen does it leave?\n\n### Response:\nAt ten.")
    assert [text[start:end] for start, end in learned] == ["At ten."]
    with pytest.raises(InputError, match="alpaca has room for 1 question"):
        render(MESSAGES, "alpaca")


def test_tools_are_shown_where_the_format_has_a_place_for_them():
    qwen = render(WITH_TOOLS, "qwen-2.5", TOOLS)
    call = '<tool_call>\n{"name": "trains", "arguments": {"to": "<Ulm>"}}\n</tool_call><|im_end|>'
    assert [qwen.text[a:b] for a, b in qwen.learned] == [call, "At 09:12.<|im_end|>"]
    assert f"<tools>\n{TOOLS[1:-1]}\n</tools>" in qwen.text
    assert "<|im_start|>user\n<tool_response>\n09:12\n</tool_response><|im_end|>\n" in qwen.text
    mistral = render(WITH_TOOLS, "mistral", TOOLS)
    assert mistral.text == (
        f"<s>[AVAILABLE_TOOLS] {TOOLS}[/AVAILABLE_TOOLS][INST] Trains to Ulm?[/INST]"
        '[TOOL_CALLS] [{"name": "trains", "arguments": {"to": "<Ulm>"}, "id": "call00001"}]</s>'
        '[TOOL_RESULTS] {"content": "09:12", "call_id": "call00001"}[/TOOL_RESULTS] At 09:12.</s>'
    )
    with pytest.raises(InputError, match=r"no form for tool: those with tools are qwen-2\.5, mist"):
        render(WITH_TOOLS, "llama-3")


@pytest.mark.parametrize("name", [name for name, t in TEMPLATES.items() if t.markers])
def test_a_text_cannot_speak_in_anothers_turn(name: str):
    marker = TEMPLATES[name].markers[0]
    forged = [{"role": "user", "content": f"hi{marker}"}, {"role": "assistant", "content": "a"}]
    with pytest.raises(InputError, match="which is a marker of the template"):
        render(forged, name)


def test_jinja_in_a_text_is_only_text():
    said = "{{ messages }} {% raw %} <&>"
    text = render([{"role": "user", "content": said}, MESSAGES[-1]], "chatml").text
    assert said in text


@pytest.mark.parametrize("name", ["mistral", "gemma", "vicuna", "alpaca"])
def test_formats_without_names_for_turns_want_them_to_alternate(name: str):
    with pytest.raises(InputError, match="by turns"):
        render([MESSAGES[1], MESSAGES[1], MESSAGES[4]], name)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="there are chatml, qwen"):
        render(MESSAGES, "chatlm")


SAID = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=30)
CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", re.DOTALL)


@given(st.lists(st.tuples(SAID, SAID, st.sampled_from([None, 0, 1])), min_size=1, max_size=4))
def test_chatml_can_be_read_back_and_its_spans_are_the_learned_answers(talk):
    messages = [
        message
        for asked, said, weight in talk
        for message in (
            {"role": "user", "content": asked},
            {"role": "assistant", "content": said, "weight": weight},
        )
    ]
    text, learned = render(messages, "chatml")
    assert CHATML.findall(text) == [(m["role"], m["content"]) for m in messages]
    expected = [f"{said}<|im_end|>" for _, said, weight in talk if weight != 0]
    assert [text[start:end] for start, end in learned] == expected

"""Each file of tests/cases is a conversation, a template, and the text that must come of it, supervised part in ⟦ ⟧.

␠ stands for a space that an editor would strip. Adding a file adds a test.
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from tests.models import byte_tokenizer, plain_tokenizer
from transformers import AutoTokenizer

from heedful.encode.template import Template, choose_template
from heedful.encode.tokenise import Encoder, stop_ids
from heedful.errors import ModelError
from heedful.records import Conversation, Message, Place

CASES = sorted((Path(__file__).parent.parent / "cases").glob("*.txt"))
PLACE = Place("rows.json", 1)


def read_case(path: Path) -> tuple[Template, list[Message], str]:
    head, *blocks = re.split(r"^--- (.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    settings = dict(line.split(": ", 1) for line in head.strip().split("\n"))
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = settings.get("chat_template")
    messages: list[Message] = []
    expected = ""
    for title, block in zip(blocks[::2], blocks[1::2], strict=True):
        text = block.removesuffix("\n").replace("␠", " ")
        role, _, weight = title.partition(" weight=")
        if role == "expected":
            expected = text
        elif role == "input":
            messages[-1] = Message("user", messages[-1].content, input=text)
        else:
            messages.append(Message(role, text, supervised=False if weight == "0" else None))  # type: ignore[arg-type]
    return choose_template(settings["template"], tokenizer), messages, expected  # type: ignore[arg-type]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    template, messages, expected = read_case(path)
    runs = groupby(template.segments(messages), key=lambda segment: segment.supervised)
    bracketed = "".join(f"⟦{text}⟧" if on else text for on, text in ((on, _text(run)) for on, run in runs))
    assert bracketed == expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_tokens_of_a_case_are_its_text_and_its_brackets(path: Path) -> None:
    template, messages, expected = read_case(path)
    encoder = Encoder(template, stop_ids(template), 10_000)
    (example,), receipt = encoder.encode([Conversation("1", tuple(messages), PLACE)])
    assert _decode(template, example.ids) == re.sub("[⟦⟧]", "", expected)
    assert _decode(template, example.ids[example.supervised]) == "".join(re.findall("⟦(.*?)⟧", expected, re.DOTALL))
    assert int(example.ids[-1]) in encoder.stop_ids  # invariant 5
    assert example.supervised[-1]
    assert receipt.stop_supervised == 1


def test_the_alpaca_text_is_the_tutorials_byte_for_byte() -> None:
    def format_input(entry: dict[str, str]) -> str:  # the tutorial's own code
        instruction_text = (
            f"Below is an instruction that describes a task. "
            f"Write a response that appropriately completes the request."
            f"\n\n### Instruction:\n{entry['instruction']}"
        )
        input_text = f"\n\n### Input:\n{entry['input']}" if entry["input"] else ""
        return instruction_text + input_text

    template = choose_template("alpaca", byte_tokenizer())
    for entry in (
        {"instruction": "Name a color.", "input": "", "output": "Blue."},
        {"instruction": " Edit: ", "input": "He go home.\n", "output": " He goes home."},
    ):
        expected = format_input(entry) + f"\n\n### Response:\n{entry['output']}" + "<|im_end|>"
        messages = [Message("user", entry["instruction"], input=entry["input"]), Message("assistant", entry["output"])]
        assert _text(template.segments(messages)) == expected


def test_special_tokens_in_text_are_segments_of_their_own() -> None:
    template = choose_template("chatml", byte_tokenizer())
    segments = template.segments([Message("user", "a<|im_end|>b"), Message("assistant", "<|endoftext|>")])
    assert [s.text for s in segments if s.literal] == ["<|im_end|>", "<|endoftext|>"]


def test_thousands_of_special_tokens_in_text_are_told_apart() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{i}|>" for i in range(5_000)]})
    segments = choose_template("alpaca", tokenizer).segments([Message("user", "a<|4999|>b"), Message("assistant", "c")])
    assert [s.text for s in segments if s.literal] == ["<|4999|>"]


def test_characters_of_icon_fonts_stay_what_they_are() -> None:
    template = choose_template("chatml", byte_tokenizer())
    icons = "\U000f0001\U000f8000\U000f8000\U000f8001\U000f8003<|im_end|>\U000f8003\U0010e000\U0010f000"
    assert icons in _text(template.segments([Message("user", icons), Message("assistant", icons)]))


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "without a special token"),
        ("{{ messages | length }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}", "rewrites earlier"),
        ("{% for m in messages %}{{ m.content | upper + eos_token }}{% endfor %}", "changes or drops"),
        ("{{ raise_exception('no system, please') }}", "no system, please"),
        ("{% for %}", "refuses"),
        ("{{ 1 / 0 }}", "refuses a conversation: division by zero"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "refuses a conversation: Range too big"),
    ],
)
def test_a_template_that_cannot_be_followed_is_refused(source: str, complaint: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = source
    template = Template("own", source, "\n\n", tokenizer, ("<|im_end|>",))
    with pytest.raises(ModelError, match=complaint):
        template.segments([Message("user", "question"), Message("assistant", "answer")])


def test_auto_is_the_tokenizers_own_template_or_alpaca() -> None:
    tokenizer = byte_tokenizer()
    assert choose_template("auto", tokenizer).name == "alpaca"
    with pytest.raises(ModelError, match="no chat template"):
        choose_template("own", tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    assert choose_template("auto", tokenizer).name == "own"


def test_chatml_adds_its_tokens_once_and_only_where_they_are_missing() -> None:
    tokenizer = byte_tokenizer()
    assert choose_template("chatml", tokenizer).added == 0
    assert len(tokenizer) == 259
    bare = plain_tokenizer()
    assert choose_template("chatml", bare).added == 2
    assert choose_template("chatml", bare).added == 0
    assert choose_template("chatml", bare).stop_token() == "<|im_end|>"
    assert len(bare("<|im_end|>", add_special_tokens=False)["input_ids"]) == 1


LLAMA_3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "Today Date: " + date_string }}
{%- for m in messages %}{{- "<|im_start|>" + m.role + "\\n" + m.content + "<|im_end|>" }}{%- endfor %}
{%- if add_generation_prompt %}{{- "<|im_start|>assistant\\n" }}{%- endif %}"""


@pytest.mark.parametrize("source", [LLAMA_3, LLAMA_3.replace("date_string is defined", "false")])
def test_a_template_that_writes_the_date_is_saved_with_the_date_of_training(source: str, tmp_path: Path) -> None:
    """Invariant 10: whoever renders the saved template, on any day, gives the prompt of training."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = source
    template = choose_template("own", tokenizer)
    encoder = Encoder(template, stop_ids(template), 10_000)
    tokenizer.chat_template = template.source
    tokenizer.save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    prompt = saved.apply_chat_template([{"role": "user", "content": "u"}], add_generation_prompt=True, tokenize=False)
    assert "Today Date: 01 Jan 2025<" in prompt
    assert _decode(template, np.array(encoder.prompt_ids([Message("user", "u")]))) == prompt
    assert choose_template("own", saved).source == template.source
    assert template.shape([Message("user", "u"), Message("assistant", "a")]) is not None


def test_of_several_templates_the_default_is_taken_and_said() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"default": LLAMA_3, "tool_use": "{{ tools }}"}
    template = choose_template("auto", tokenizer)
    assert template.source.endswith(LLAMA_3)
    assert (template.name, template.label) == ("own", "own (the default of default, tool_use)")
    assert choose_template("alpaca", tokenizer).label == "alpaca"
    tokenizer.chat_template = {"rag": LLAMA_3, "tool_use": "{{ tools }}"}
    with pytest.raises(ModelError, match=r"\(rag, tool_use\) none is called default"):
        choose_template("auto", tokenizer)


def _text(segments) -> str:  # type: ignore[no-untyped-def]
    return "".join(segment.text for segment in segments)


def _decode(template: Template, ids) -> str:  # type: ignore[no-untyped-def]
    return str(template.tokenizer.decode(ids.tolist()))

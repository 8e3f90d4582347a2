"""Each answer is learned from its prompt's end to its stop token, whatever words stand in the template's headers."""

from __future__ import annotations

import string

import pytest
from tests.models import byte_tokenizer
from transformers import PreTrainedTokenizerBase

from heedful.config import EncodeConfig
from heedful.encode.tokenise import build_encoder
from heedful.records import Conversation, Message, Place

HARMONY = """<|start|>system<|message|>Reasoning: low<|end|>{% for m in messages %}
{%- if m.role == 'assistant' %}{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}
{{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
{%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""
LLAMA_3 = """{{ bos_token }}{% for m in messages %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"""
LLAMA_3_PROMPT = (
    LLAMA_3 + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
CHATML_BARE = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
QWEN_3 = """{% for m in messages %}{% set content = m.content %}{% set reasoning = '' %}
{%- if m.role == 'assistant' %}{% if '</think>' in content %}
{%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}
{%- if loop.last or reasoning %}
{{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}{{ '<|im_start|>assistant\\n' + content }}{% endif %}{{ '<|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
GEMMA = """{{ bos_token }}{% for m in messages %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content | trim }}
{{- '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
MISTRAL = """{{ bos_token }}{% for m in messages %}
{%- if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}
{%- endif %}{% endfor %}"""
DEEPSEEK = """{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% else %}
{{- '<｜Assistant｜>' + m.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"""
PHI_3 = """{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

TEMPLATES = {  # with the stop token, the end of text, and how many answers a conversation may hold
    "harmony": (HARMONY, "<|return|>", "<|return|>", 1),
    "llama 3": (LLAMA_3_PROMPT, "<|eot_id|>", "<|endoftext|>", 2),
    "llama 3 without generation prompt": (LLAMA_3, "<|eot_id|>", "<|endoftext|>", 2),
    "chatml without generation prompt": (CHATML_BARE, "<|im_end|>", "<|endoftext|>", 2),
    "qwen 3": (QWEN_3, "<|im_end|>", "<|im_end|>", 1),
    "gemma": (GEMMA, "<end_of_turn>", "<|endoftext|>", 2),
    "mistral": (MISTRAL, "</s>", "</s>", 2),
    "deepseek": (DEEPSEEK, "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>", 2),
    "phi 3": (PHI_3, "<|end|>", "<|endoftext|>", 2),
}
SPECIAL = [
    *("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<s>", "</s>"),
    *("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<|user|>", "<|assistant|>"),
]
WORDS = (
    "final in assistant user im_end im im_start channel message end end_of_turn return model eot eot_id header start s "
    "/s INST of sentence id turn think system low 1 42 3.5 | > |> <| < _ / ｜ ▁ e▁ 日 🙂 No. <|im_end|> </s> <|end|>"
)
ANSWERS = [
    *string.ascii_letters,
    *WORDS.split(),
    " a ",
    "final ",
    " assistant",
    "\nin\n",
    "a b",
    "The answer is final.",
]


def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.chat_template, _, tokenizer.eos_token, _ = TEMPLATES[name]
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_is_learned_up_to_its_stop_token(name: str) -> None:
    """Transformers' renderings tell what is learned: all behind the prompt, up to the last stop token."""
    tokenizer, (_, stop, _, turns) = tokenizer_of(name), TEMPLATES[name]
    encoder = build_encoder(EncodeConfig(), tokenizer, 10_000)
    rows, expected = [], []
    for k, answer in enumerate(ANSWERS):
        texts = ["Pick one.", answer, "Again?", ANSWERS[-k]][: 2 * turns]
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        rows.append(Conversation(str(k), tuple(Message(**m) for m in messages), Place("rows.json", k)))  # type: ignore[arg-type]
        learned = ""
        for i in range(1, len(messages), 2):
            prompt, whole = (
                str(tokenizer.apply_chat_template(some, tokenize=False, add_generation_prompt=begins))
                for some, begins in ((messages[:i], True), (messages[: i + 1], False))
            )
            assert whole.startswith(prompt)
            learned += whole[len(prompt) : whole.rindex(stop) + len(stop)]
        expected.append((whole[: whole.rindex(stop) + len(stop)], learned))
    examples, receipt = encoder.encode(rows)
    decoded = [(tokenizer.decode(e.ids.tolist()), tokenizer.decode(e.ids[e.supervised].tolist())) for e in examples]
    assert decoded == expected
    assert receipt.stop_supervised == len(rows)
    assert all(e.ids[-1] == tokenizer.convert_tokens_to_ids(stop) for e in examples)


def test_what_a_template_says_of_an_empty_answer_is_learned_whole() -> None:
    encoder = build_encoder(EncodeConfig(), tokenizer_of("harmony"), 10_000)
    (example,), _ = encoder.encode([Conversation("1", (Message("user", "q"), Message("assistant", "")), Place("f", 1))])
    learned = encoder.tokenizer.decode(example.ids[example.supervised].tolist())
    assert learned == "<|channel|>final<|message|><|return|>"


@pytest.mark.parametrize("answers", [("no",), ("no", "A long answer."), ("A long answer.", "no")])
def test_an_answer_that_ends_in_no_stop_token_is_refused_with_its_place(answers: tuple[str, ...]) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}"
        "{{ eos_token if m.content | length > 2 else '<|im_start|>' }}{% endif %}{% endfor %}"
    )
    encoder = build_encoder(EncodeConfig(), tokenizer, 10_000)
    turns = [message for answer in answers for message in (Message("user", "q"), Message("assistant", answer))]
    examples, receipt = encoder.encode([Conversation("7", tuple(turns), Place("rows.jsonl", 7, 9))])
    why = "The template 'own' ends an answer in '<|im_start|>', which is no stop token."
    assert not examples and receipt.refused == {"rows.jsonl:9 (row 7)": why}
    unlearned = [Message(m.role, m.content, supervised=False if m.content == "no" else None) for m in turns]
    examples, _ = encoder.encode([Conversation("7", tuple(unlearned), Place("rows.jsonl", 7, 9))])
    assert len(examples) == ("A long answer." in answers)

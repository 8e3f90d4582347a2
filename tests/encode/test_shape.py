"""A shape gives what Jinja gives, or is not used; its stretches give the tokens of the whole, or are not used."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.encode.encoders import gpt2_tokenizer, tokenizer_of
from tests.models import SPECIAL, byte_tokenizer
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from heedful.encode.borders import KNOWN, Borders
from heedful.encode.opaque import is_opaque
from heedful.encode.template import ALPACA, CHATML, Template, choose_template, special_tokens
from heedful.encode.tokenise import Encoder, stop_ids
from heedful.errors import ModelError
from heedful.model import pretrained
from heedful.records import Conversation, Message, Place

LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|im_start|>' + message['role'] + '\\n\\n' + message['content'] | trim + '<|im_end|>' %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n\\n' }}{% endif %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\\n' + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
QWEN_2 = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message.role == 'user' or (message.role == 'system' and not loop.first) "
    "or (message.role == 'assistant' and not message.tool_calls) %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- elif message.role == 'assistant' %}{%- for tool_call in message.tool_calls %}"
    "{{- tool_call.arguments | tojson }}{%- endfor %}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
QWEN_3 = (
    "{%- for message in messages %}{%- set content = message.content %}{%- if '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1] %}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
NAMESPACE = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.system = m.content + '\\n' %}{% endif %}{% endfor %}{% for m in messages[:] %}"
    "{% if m.role == 'user' %}{{ bos_token ~ ns.system ~ m.content ~ '\\n' }}"
    "{% elif m.role == 'assistant' %}{{ m['content'] ~ eos_token }}{% endif %}{% endfor %}"
)
DOUBLE_LINE = (
    CHATML.replace("BOS", "''")
    .replace("\\n' + message", "\\n\\n' + message")
    .replace("assistant\\n", "assistant\\n\\n")
)
NO_EOS_WHEN_LONG = "{% for m in messages %}{{ m.content + (eos_token if m.content | length > 0 else '') }}{% endfor %}"
UPPER = "{% for m in messages %}{{ m.content + eos_token if m.content != 'x' else 'y' + eos_token }}{% endfor %}"
BARE = {"alpaca": ALPACA.replace("BOS", "''"), "chatml": CHATML.replace("BOS", "''")}
TEMPLATES = BARE | {
    "llama 3": LLAMA_3, "zephyr": ZEPHYR, "qwen 2": QWEN_2, "qwen 3": QWEN_3, "namespace": NAMESPACE,
    "double line": DOUBLE_LINE,
    "length": NO_EOS_WHEN_LONG, "upper": UPPER,
}  # fmt: skip
LOOKING = {"llama 3", "qwen 3", "length", "upper"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_it_is_known_which_templates_look_at_texts(name: str) -> None:
    assert is_opaque(TEMPLATES[name]) is (name not in LOOKING)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content[0] }}",
        "{{ messages | tojson }}",
        "{{ messages }}",
        "{{ messages[0] }}",
        "{{ messages[0].get('content') | trim }}",
        "{% for k, v in messages[0].items() %}{{ v }}{% endfor %}",
        "{% for c in messages[0].content %}{{ c }}{% endfor %}",
        "{% set k = 'content' %}{{ messages[0][k] | trim }}",
        "{% set x = messages %}{% set y = x[0] %}{% set z = y.content %}{% if z %}a{% endif %}",
        "{% set n = namespace() %}{% for m in messages %}{% if n.x %}a{% endif %}{% set n.x = m.content %}{% endfor %}",
        "{% for m in messages %}{% if loop.first %}{{ x }}{% endif %}{% set x = m.content | upper %}{% endfor %}",
        "{% for m in messages %}{{ loop.previtem.content | trim }}{% endfor %}",
        "{% macro f(m) %}{{ m }}{% endmacro %}{{ f(messages[0].content) | trim }}",
        "{% filter upper %}{{ messages[0].content }}{% endfilter %}",
        "{% set x %}{{ messages[0].content }}{% endset %}{{ x | trim }}",
        "{% set ns = namespace(x='') %}{% set ns.x = messages[0].content %}{% if ns.x == 'a' %}b{% endif %}",
        "{{ '%s' % messages[0].content }}",
        "{{ messages[0].content * 2 }}",
        "{{ messages[0].content.upper() }}",
        "{{ [messages[0].content] | join }}",
        "{{ messages | map(attribute='content') | join }}",
        "{{ messages[0].content if messages[0].content else 'none' }}",
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{% if %}",
    ],
)
def test_every_way_to_look_at_a_text_is_seen(source: str) -> None:
    assert not is_opaque(source)


PARTS = [*" \n\t", "a", "b", "Paris", "é", "日", "🙂", "<|im_end|>", "<|endoftext|>", "<|im_", "end|>", "</think>", ":"]
PARTS += ["\U0010e000", "\U0010f001", "\u00a0", "\u2028", "\x1c", "'s", "12", "\r\n", "x", "{{ 1 }}", "\u0301", "<"]
TEXT = st.lists(st.sampled_from(PARTS), min_size=1, max_size=10).map("".join)
TURNS = st.lists(TEXT, min_size=2, max_size=5).filter(lambda turns: len(turns) % 2 == 0)
PROPERTY = settings(deadline=None, max_examples=60)


def conversation(turns: list[str], system: str | None = None, extra: str = "") -> Conversation:
    head = [Message("system", system)] if system else []
    body = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns)]
    body[0] = Message("user", turns[0], input=extra)
    return Conversation("1", (*head, *body), Place("rows.json", 1))


@cache
def template_of(name: str) -> Template:
    """Each example sees a template that has long stopped to check its shapes."""
    tokenizer = byte_tokenizer()
    return Template("own", TEMPLATES[name], "\n\n", tokenizer, SPECIAL)


@pytest.mark.parametrize("name", TEMPLATES)
@PROPERTY
@given(turns=TURNS, system=st.none() | TEXT, extra=st.just("") | TEXT)
@case(turns=[" x ", " y\n", "q", "\n"], system=" s ", extra=" e ")
@case(turns=["a", "x"], system=None, extra="")
def test_a_shape_gives_what_jinja_gives(name: str, turns: list[str], system: str | None, extra: str) -> None:
    template, messages = template_of(name), conversation(turns, system, extra).messages
    try:
        expected = template.render_pieces(messages)
    except ModelError:
        return
    assert template.pieces(messages) == expected


def test_a_shape_that_does_not_hold_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heedful.encode.template.is_opaque", lambda source: True)
    template = Template("own", LLAMA_3, "\n\n", byte_tokenizer(), SPECIAL)
    for turns in (["plain", "plain"], [" trimmed ", "yes"], [" trimmed ", "again"]):
        messages = conversation(turns).messages
        assert template.pieces(messages) == template.render_pieces(messages)


@cache
def modern_tokenizer(number: str, nfc: bool) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with the pattern of Qwen 2 or Llama 3, on text that merges across everything it may."""
    backend = Tokenizer(models.BPE())
    (pattern,) = (p for p in KNOWN if f"|{number}|" in p)
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.normalizer = normalizers.NFC() if nfc else None
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([ALPACA * 3, CHATML * 3, ":\n\n.\n  a\n b: é\n\n\n12\n" * 40], trainer)
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=SPECIAL[2], bos_token=SPECIAL[0])


@cache
def real_tokenizer(kind: str) -> PreTrainedTokenizerBase:
    if kind == "gpt2":
        return gpt2_tokenizer()
    if kind == "smollm2":
        try:
            return pretrained.load_tokenizer("smollm2-135m")[0]
        except Exception:
            pytest.skip("the weights of smollm2-135m are not on this machine")
    return modern_tokenizer(r"\p{N}{1,3}" if kind == "llama3" else r"\p{N}", kind == "qwen2")


@cache
def encoder_of(kind: str, name: str) -> Encoder:
    tokenizer = real_tokenizer(kind)
    bound = choose_template(name, tokenizer) if name in BARE else None  # type: ignore[arg-type]
    template = bound or Template("own", TEMPLATES[name], "\n\n", tokenizer, special_tokens(tokenizer))
    return Encoder(template, stop_ids(template), 100_000)


REAL = ("gpt2", "smollm2", "qwen2", "llama3")


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("name", ["alpaca", "chatml", "zephyr", "namespace", "double line"])
@PROPERTY
@given(turns=TURNS, system=st.none() | TEXT, extra=st.just("") | TEXT)
@case(turns=["q:", "plain", "q.", "a"], system=None, extra="")
@case(turns=["q\n", "\u0301a", "q ", "12"], system="s\n", extra="e\n\n")
def test_stretches_give_the_tokens_of_the_whole(
    kind: str, name: str, turns: list[str], system: str | None, extra: str
) -> None:
    """Invariant 10 for the quick way: it is the careful way, whatever the texts."""
    encoder, row = encoder_of(kind, name), conversation(turns, system, extra)
    expected = encoder.without_shapes(row.messages)
    encoder._stretches._checks.clear()
    encoder._stretches._checks.update(dict.fromkeys(encoder._stretches._known, 99))  # let nothing be mended
    (example,), _ = encoder.encode([row])
    assert example.ids.tolist() == expected[0].tolist()
    assert example.supervised[1:].tolist() == expected[1][1:].tolist()


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("name", ["alpaca", "chatml"])
def test_usual_rows_go_the_quick_way(kind: str, name: str) -> None:
    encoder = encoder_of(kind, name)
    rows = [conversation(["Name the capital.", "Paris"]), conversation(["Edit.", "Yes!"], extra="He go")]
    assert all(row is not None for row in encoder._stretches.encode([row.messages for row in rows]))
    odd = [conversation(["q", " a"]), conversation(["<|endoftext|>", "a"]), conversation(["q", "<|endoftext|>"])]
    assert encoder._stretches.encode([row.messages for row in odd]) == [None] * 3


@pytest.mark.parametrize("kind", ["byte", "word"])
def test_other_tokenizers_are_not_cut(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    assert not Borders(tokenizer, special_tokens(tokenizer)).known


def test_a_token_that_takes_part_of_another_leaves_it_no_border() -> None:
    tokenizer = gpt2_tokenizer()
    assert "<|endoftext|>" in Borders(tokenizer, special_tokens(tokenizer)).isolated
    tokenizer.add_tokens(["x<|"])
    assert "<|endoftext|>" not in Borders(tokenizer, special_tokens(tokenizer)).isolated
    tokenizer = gpt2_tokenizer()
    tokenizer.add_tokens(["<|endoftext|>s"])
    assert "<|endoftext|>" not in Borders(tokenizer, special_tokens(tokenizer)).isolated
    tokenizer.add_tokens(["a\nb"])
    assert not Borders(tokenizer, special_tokens(tokenizer)).known


def test_stretches_that_do_not_hold_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heedful.encode.shape.ends_line", lambda text: True)  # a wrong proof
    tokenizer = gpt2_tokenizer()
    choose_template("chatml", tokenizer)  # adds its tokens
    template = Template("own", DOUBLE_LINE, "\n\n", tokenizer, special_tokens(tokenizer))
    encoder, row = Encoder(template, stop_ids(template), 1000), conversation(["q", "a"])
    for _ in range(2):
        assert encoder.encode([row])[0][0].ids.tolist() == encoder.without_shapes(row.messages)[0].tolist()
    assert encoder._stretches.encode([row.messages]) == [None]


def test_shapes_without_end_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("template", "stretches"):
        monkeypatch.setattr(f"heedful.encode.{module}.MOST_SHAPES", 2)
    template = choose_template("chatml", modern_tokenizer(r"\p{N}", False))
    encoder = Encoder(template, stop_ids(template), 1000)
    rows = [conversation(["q", "a"] * turns) for turns in (1, 2, 3, 1)]
    examples, _ = encoder.encode(rows)
    assert [e.ids.tolist() for e in examples] == [encoder.without_shapes(row.messages)[0].tolist() for row in rows]
    assert len(encoder.template._shapes) == len(encoder._stretches._known) == 2

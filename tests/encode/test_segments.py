"""A special token's name in a text is that text and no more, also for tokenizers that begin words with a space."""

from __future__ import annotations

import json
import string

import pytest
from tests.models import byte_tokenizer, sentencepiece_tokenizer, word_tokenizer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from heedful.config import EncodeConfig
from heedful.encode.segments import SegmentTokenizer
from heedful.encode.tokenise import build_encoder
from heedful.records import Conversation, Message, Place, Segment

INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
METASPACE = {"type": "Metaspace", "replacement": "▁", "split": False}
PREPENDED = [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
]
STRIPPED = [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]
PARTS: dict[str, dict[str, object]] = {  # where they differ from Gemma's
    "gemma": {},
    "llama 2": {"normalizer": {"type": "Sequence", "normalizers": PREPENDED}, "pre_tokenizer": None},
    "first": {"normalizer": None, "pre_tokenizer": METASPACE | {"prepend_scheme": "first"}},
    "always": {"normalizer": None, "pre_tokenizer": METASPACE | {"prepend_scheme": "always"}},
}
KINDS = (*PARTS, "unigram", "byte level with a space")


def tokenizer_of(kind: str) -> PreTrainedTokenizerBase:
    if kind == "unigram":  # whose vocabulary holds the names, so that they are spelled
        tokenizer = word_tokenizer(["▁", "▁Write", "▁text", "](", "INST", *string.ascii_letters, *"()/<>[]"])
    else:
        base = byte_tokenizer() if kind not in PARTS else sentencepiece_tokenizer()
        parts = json.loads(base.backend_tokenizer.to_str().replace("<bos>", "<s>").replace("<eos>", "</s>"))
        if kind in PARTS:
            parts |= PARTS[kind] | ({"decoder": {"type": "Sequence", "decoders": STRIPPED}} if PARTS[kind] else {})
        else:
            parts["pre_tokenizer"] |= {"add_prefix_space": True, "use_regex": True}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(json.dumps(parts)), bos_token="<s>", eos_token="</s>",
            clean_up_tokenization_spaces=False,
        )  # fmt: skip
    tokenizer.chat_template = INST
    return tokenizer


TEXTS = ["Write <s>bold</s> text.", "<s>x</s>", "a<s><s> b", "  </s>\n</s> <s>", "</s>(s)", "é<s>日", "(a)", "plain"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_a_special_tokens_name_brings_no_spaces(kind: str, text: str) -> None:
    """What is learned and what is asked read as if the name were any other word in angle brackets."""
    tokenizer = tokenizer_of(kind)
    encoder = build_encoder(EncodeConfig(), tokenizer, 10_000)

    def read(text: str) -> tuple[str, str, str]:
        messages = (Message("user", text), Message("assistant", text))
        (example,), _ = encoder.encode([Conversation("1", messages, Place("rows.json", 1))])
        learned = example.ids[example.supervised].tolist()
        assert encoder.prompt_ids(messages[:1]) == example.ids[: -len(learned)].tolist()
        ids = example.ids.tolist()
        return tokenizer.decode(ids), tokenizer.decode([ids[0], *learned]), tokenizer.decode(ids[: -len(learned)])

    innocent = text.replace("</s>", "</t>").replace("<s>", "<t>")
    assert tuple(part.replace("</t>", "</s>").replace("<t>", "<s>") for part in read(innocent)) == read(text)


def test_an_answer_cut_off_its_prompt_gets_no_space() -> None:
    tokenizer = tokenizer_of("unigram")
    encoder = build_encoder(EncodeConfig(), tokenizer, 10_000)
    row = Conversation("1", (Message("user", "q"), Message("assistant", "(s)")), Place("rows.json", 1))
    (example,), receipt = encoder.encode([row])
    assert receipt.cut_in_pieces == 1
    assert tokenizer.decode(example.ids.tolist()).endswith("[/INST](s)</s>")


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_the_answer_begins_with_is_told_from_one_that_the_prompt_ends_with(kind: str) -> None:
    """As where a template puts nothing around a text."""
    tokenizer = tokenizer_of(kind)
    row = [Segment("<s>", False, True), Segment("</s>", True, True)]
    ((ids, supervised),) = SegmentTokenizer(tokenizer, ("<s>", "</s>")).tokenise([row])
    assert tokenizer.decode(ids.tolist()).strip() == "<s></s>"
    assert tokenizer.decode(ids[supervised].tolist()).strip() == "</s>"


def test_a_tokenizer_that_other_threads_use_is_not_switched_to_and_fro() -> None:
    """One that decodes meanwhile would find it borrowed."""
    tokenizer = tokenizer_of("gemma")  # whose names are no pieces, which would be spelled by a further call
    SegmentTokenizer(tokenizer, ("<s>", "</s>")).tokenise([[Segment("a", False), Segment("<s>", True, True)]])
    assert tokenizer.backend_tokenizer.encode_special_tokens is False

"""A GGUF file's tokenizer gives each text the tokens that llama.cpp gives it, or the file is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.export.runs import needs_llama_cpp
from tests.model.test_from_gguf import written
from tests.models import SPECIAL, begun_with_a_space, sentencepiece_tokenizer, trained_tokenizer
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from heedful.errors import ModelError
from heedful.export import llama_cpp, vocabulary
from heedful.model.pretrained import load

CONTROL = ("<｜User｜>", "<a b>")
USER_DEFINED = ("你好", "<tool call>", "  ")
TEXTS = [
    "a b", " a", "  a  b", "\n\na", "   three", "a  b   c    d", "What is the past tense in 2024, please",
    "<end_of_turn>hi x", "a <end_of_turn> b", "<|im_end|> capital of 1999", "<｜User｜>hi", "<a b> x<a b>  y",
    "say 你好 now", "<tool call>x  y",
]  # fmt: skip
TOKENIZERS = {
    "space": ("llama", lambda: begun_with_a_space(sentencepiece_tokenizer())),
    "no space": ("llama", sentencepiece_tokenizer),
    "gpt-2": ("gpt2", trained_tokenizer),
    "smollm": ("llama", lambda: trained_tokenizer("smollm")),
    "qwen2": ("qwen2", lambda: trained_tokenizer("qwen2")),
    "llama-bpe": ("llama", lambda: trained_tokenizer("llama-bpe")),
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEEDFUL_LLAMA_CPP", str(llama_cpp.home()))
    monkeypatch.setenv("HEEDFUL_HOME", str(tmp_path / "home"))


def with_special_tokens(tokenizer: Any) -> Any:
    """Add tokens of characters that byte-level merges do not know, which texts are cut at."""
    control = [AddedToken(text, special=True, normalized=False) for text in CONTROL]
    tokenizer.add_special_tokens({"additional_special_tokens": control}, replace_extra_special_tokens=False)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in USER_DEFINED])
    return tokenizer


@pytest.mark.parametrize("name", TOKENIZERS)
def test_texts_have_the_tokens_of_the_file(name: str, tmp_path: Path) -> None:
    kind, make = TOKENIZERS[name]
    tokenizer = with_special_tokens(make())
    _, file = written(tmp_path, kind, tokenizer)
    loaded = load(str(file)).tokenizer
    for text in TEXTS:
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"], text


@needs_llama_cpp
@pytest.mark.parametrize("name", TOKENIZERS)
def test_llama_cpp_reads_the_same_tokens(name: str, tmp_path: Path) -> None:
    kind, make = TOKENIZERS[name]
    _, file = written(tmp_path, kind, with_special_tokens(make()))
    said = llama_cpp.ask(file, TEXTS, [[5, 6]], 1, {1})
    loaded = load(str(file)).tokenizer
    for text, ids in zip(TEXTS, said.ids, strict=True):
        assert loaded(text, add_special_tokens=False)["input_ids"] == ids, text


def test_first_and_last_tokens_may_have_any_characters(tmp_path: Path) -> None:
    """As DeepSeek's have; they keep their ids."""
    tokenizer = with_special_tokens(trained_tokenizer("qwen2"))
    tokenizer.bos_token, tokenizer.eos_token = CONTROL
    _, file = written(tmp_path, "qwen2", tokenizer)
    loaded = load(str(file)).tokenizer
    assert [loaded.bos_token_id, loaded.eos_token_id] == tokenizer.convert_tokens_to_ids(list(CONTROL))


def whole_word(word: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer as Llama 3's, with a word that no merges make in the last token's place."""
    described = json.loads(trained_tokenizer("llama-bpe").backend_tokenizer.to_str())
    model = described["model"]
    last = max((token for token in model["vocab"] if token not in SPECIAL), key=lambda token: model["vocab"][token])
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) != last]
    model["vocab"][word] = model["vocab"].pop(last)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)), bos_token=SPECIAL[0], eos_token=SPECIAL[2]
    )


def test_a_whole_word_that_is_a_token_is_not_merged(tmp_path: Path) -> None:
    tokenizer = whole_word("zqx")
    _, file = written(tmp_path, "llama", tokenizer)
    assert load(str(file)).tokenizer("zqx", add_special_tokens=False)["input_ids"] == [tokenizer.vocab["zqx"]]


@pytest.mark.parametrize(("name", "begins"), [("llama-bpe", True), ("smollm", False)])
def test_a_name_says_whether_texts_begin_with_the_first_token(
    name: str, begins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the header does not."""
    import gguf

    tokenizer = trained_tokenizer(name)
    with monkeypatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "add_add_bos_token", lambda self, value: None)
        _, file = written(tmp_path, "llama", tokenizer)
    loaded = load(str(file)).tokenizer
    assert (loaded("a")["input_ids"][0] == tokenizer.bos_token_id) == begins
    (tmp_path / "told").mkdir()
    _, told = written(tmp_path / "told", "llama", tokenizer)  # that they do not
    assert load(str(told)).tokenizer("a")["input_ids"] == tokenizer("a")["input_ids"]


def test_a_special_token_that_would_be_cut_to_pieces_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_they_are = vocabulary._tokens

    def twice(*given: Any) -> tuple[list[str], list[int]]:
        tokens, types = as_they_are(*given)
        return [SPECIAL[1] if token == CONTROL[0] else token for token in tokens], types

    monkeypatch.setattr(vocabulary, "_tokens", twice)
    _, file = written(tmp_path, "llama", with_special_tokens(trained_tokenizer("smollm")))
    with pytest.raises(ModelError, match=r"its token '<\|im_start\|>' \(\d+\) would become other tokens\. Take"):
        load(str(file))

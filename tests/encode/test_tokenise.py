"""Ids and supervision are born together, the prompt is an exact prefix, and nothing in a message is a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example as case
from hypothesis import given
from hypothesis import strategies as st
from tests.encode.encoders import PROPERTY, TEXT, TOKENIZERS, conversation, encode, encoder_of
from tests.models import byte_tokenizer

from heedful.config import EncodeConfig
from heedful.encode.batch import Collator
from heedful.encode.examples import Examples, write_examples
from heedful.encode.template import choose_template
from heedful.encode.tokenise import Encoder, build_encoder, stop_ids
from heedful.records import Conversation, Message, Place, TokenizedExample


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("template", ["alpaca", "chatml"])
@PROPERTY
@given(turns=st.lists(TEXT, min_size=2, max_size=6).filter(lambda turns: len(turns) % 2 == 0))
@case(turns=["q", "\n\n leading", "q\n", " \n"])
@case(turns=["q", "\n", "q", "plain"])
@case(turns=["q", "plain", "q", "\nlate"])
def test_every_prompt_is_an_exact_prefix_of_its_example(kind: str, template: str, turns: list[str]) -> None:
    """Invariant 10: and the answer follows at once, supervised from its first token to its stop token."""
    encoder = encoder_of(kind, template)
    example = encode(encoder, *turns)
    for i in range(1, len(turns), 2):
        prompt = encoder.prompt_ids(conversation(*turns).messages[:i])
        assert example.ids[: len(prompt)].tolist() == prompt
        assert example.supervised[len(prompt)]
        assert not example.supervised[len(prompt) - 1]


@pytest.mark.parametrize("kind", ["byte", "gpt2"])
@pytest.mark.parametrize("template", ["alpaca", "chatml"])
@PROPERTY
@given(turns=st.lists(TEXT, min_size=2, max_size=4).filter(lambda turns: len(turns) % 2 == 0))
def test_the_ids_decode_to_the_text(kind: str, template: str, turns: list[str]) -> None:
    encoder = encoder_of(kind, template)
    text = "".join(segment.text for segment in encoder.template.segments(conversation(*turns).messages))
    assert encoder.tokenizer.decode(encode(encoder, *turns).ids.tolist()) == text


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("template", ["alpaca", "chatml"])
@PROPERTY
@given(user=TEXT, answer=TEXT)
def test_only_the_template_writes_special_tokens(kind: str, template: str, user: str, answer: str) -> None:
    """Invariant 11: whatever a message says, the control tokens are those of an innocent one."""
    encoder = encoder_of(kind, template)
    special = set(encoder.tokenizer.all_special_ids) - {encoder.tokenizer.unk_token_id}
    special |= {encoder.tokenizer.convert_tokens_to_ids(token) for token in encoder.template.special}

    def control(example: TokenizedExample) -> list[int]:
        return [i for i in example.ids.tolist() if i in special]

    assert control(encode(encoder, user, answer)) == control(encode(encoder, "q", "a"))


def test_a_whole_text_is_tokenised_as_every_server_does_it() -> None:
    encoder = encoder_of("gpt2", "alpaca")
    example = encode(encoder, "Name the capital of France.", "Paris is the capital.")
    text = "".join(
        segment.text
        for segment in encoder.template.segments(
            conversation("Name the capital of France.", "Paris is the capital.").messages
        )
    )
    assert example.ids.tolist() == encoder.tokenizer(text)["input_ids"]


def test_a_special_tokens_name_is_tokenised_like_any_other_text() -> None:
    encoder = encoder_of("gpt2", "alpaca")
    example = encode(encoder, "q", "<|endoftext|>")
    plain = encoder.tokenizer("<|endoftext|>", split_special_tokens=True)["input_ids"]
    assert example.ids[example.supervised].tolist() == [*plain, 50256]
    assert len(plain) > 1


def test_a_merge_across_the_border_is_counted() -> None:
    encoder = encoder_of("gpt2", "alpaca")
    rows = [conversation("q", "\n\nspaced"), conversation("q", "plain")]
    assert encoder.encode(rows)[1].cut_in_pieces == 1


def test_supervision_of_all_tokens_leaves_out_the_first_alone() -> None:
    example = encode(encoder_of("byte", "alpaca", supervise="all"), "q", "a")
    assert not example.supervised[0]
    assert example.supervised[1:].all()


def test_a_turn_of_weight_0_is_not_supervised() -> None:
    encoder = encoder_of("byte", "chatml")
    rows = [conversation("one", "WRONG", "two", "right", supervised=(None, False, None, None))]
    (example,), _ = encoder.encode(rows)
    assert encoder.tokenizer.decode(example.ids[example.supervised].tolist()) == "right<|im_end|>"


@pytest.mark.parametrize("chosen", [{"supervise": "all"}, {"prompt_weight": 0.25}])
@pytest.mark.parametrize("limit", [10_000, 110])
def test_a_turn_of_weight_0_counts_nothing_where_prompts_count(
    chosen: dict[str, Any], limit: int, tmp_path: Path
) -> None:
    """Also in a row that was cut, and in one read back from disk; every other token counts as it would without it."""
    config = EncodeConfig(template="chatml", max_tokens=limit, **chosen)
    encoder = build_encoder(config, byte_tokenizer(), 10_000)
    turns = ("u" * 60, "x", "one", "WRONG", "two", "right")
    rows = [conversation(*turns, supervised=(None, None, None, weight, None, None)) for weight in (False, None)]
    collator = Collator("tree", 0, config.prompt_weight, 4096)
    example, whole = encoder.encode(rows)[0]
    assert len(example) <= limit
    weights, usual = collator.weights(example), collator.weights(whole)
    silent = example.ids[weights != usual].tolist()
    assert encoder.tokenizer.decode(silent) == "WRONG<|im_end|>"
    assert not weights[weights != usual].any()
    write_examples(tmp_path, encoder, rows, "int32", lambda done: None)
    stored = Examples(tmp_path, "int32", str)
    assert [collator.weights(one).tolist() for one in stored] == [weights.tolist(), usual.tolist()]


def test_a_row_in_which_nothing_is_learned_is_no_example_and_is_named() -> None:
    encoder = encoder_of("byte", "chatml")
    for turns in (conversation("q" * 500, "a", supervised=(None, False)).messages, (Message("user", "q"),)):
        examples, receipt = encoder.encode([Conversation("7", turns, Place("rows.jsonl", 7, 9))])
        assert (examples, receipt.rows, receipt.unlearned) == ([], 0, ["rows.jsonl:9 (row 7)"])


@pytest.mark.parametrize("answer", ["b", "b" * 200])  # also where it is too long
def test_a_row_of_which_nothing_is_left_where_all_is_learned_is_named_too(answer: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content + (eos_token if m.role == 'assistant' else '') }}{% endfor %}"
    )
    encoder = build_encoder(EncodeConfig(template="own", supervise="all"), tokenizer, 100)
    row, other = conversation("q", answer, supervised=(None, False)), conversation("q", "b")
    (example,), receipt = encoder.encode([row, other])
    assert (receipt.rows, receipt.unlearned, receipt.dropped) == (1, [str(row.place)], [])
    assert example.supervised.tolist() == [False, True, True]


def test_batches_of_conversations_do_not_change_what_each_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("gpt2", "alpaca")
    rows = [conversation(f"q{k} <|endoftext|>", "\n" * (k % 3) + "a" * k) for k in range(11)]
    together, _ = encoder.encode(rows)
    monkeypatch.setattr("heedful.encode.tokenise.CHUNK", 2)
    by_two, _ = encoder.encode(rows)
    monkeypatch.setattr("heedful.encode.tokenise.CHUNK", 11)
    monkeypatch.setattr("heedful.encode.tokenise.PORTION", 30)
    sizes: list[int] = []
    taken = encoder._taken
    monkeypatch.setattr(Encoder, "_taken", lambda self, some, *rest: sizes.append(len(some)) or taken(some, *rest))
    by_size, _ = encoder.encode(rows)
    assert sum(sizes) == 11 and max(sizes) == 2  # of 17 characters and more
    for k, row in enumerate(rows):
        alone = encoder.encode([row])[0][0]
        for other in (together[k], by_two[k], by_size[k]):
            assert np.array_equal(alone.ids, other.ids)
            assert np.array_equal(alone.supervised, other.supervised)


@pytest.mark.parametrize(("asked", "positions", "limit"), [(None, 64, 64), (32, 64, 32), (5000, 64, 64)])
def test_examples_never_exceed_the_models_positions(asked: int | None, positions: int, limit: int) -> None:
    """Invariant 13."""
    encoder = build_encoder(EncodeConfig(template="chatml", max_tokens=asked), byte_tokenizer(), positions)
    examples, receipt = encoder.encode([conversation("u" * 3, "a" * 500)])
    assert receipt.limit == limit
    assert all(len(example) <= limit for example in examples)


def test_the_end_of_text_stops_an_answer_besides_the_stop_token() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    assert stop_ids(choose_template("chatml", tokenizer)) == {256, 258}


def test_data_are_encoded_in_moments(tmp_path: Path) -> None:
    encoder = encoder_of("gpt2", "alpaca")
    rows = [conversation(f"question {k}", "answer") for k in range(500)]
    assert encoder.encode(rows)[1].rows == 500


def test_a_token_that_templates_print_tells_encoders_apart() -> None:
    encoder = build_encoder(EncodeConfig(template="chatml"), byte_tokenizer(), 100)
    before = encoder.identity()
    encoder.tokenizer.bos_token = "<|im_end|>"  # it lies beside the backend's file
    assert encoder.identity() != before

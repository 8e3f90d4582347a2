"""A folder whose prompts are not those of training is refused; the receipt of the data adds up."""

from __future__ import annotations

import json
import re
import string
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.encode.test_segments import tokenizer_of
from tests.models import byte_tokenizer, word_tokenizer

from heedful.encode.examples import Examples
from heedful.encode.prepare import Prepared, prepare
from heedful.encode.prompt_receipt import PROMPT_RECEIPT, open_encoder, prompt_receipt
from heedful.encode.scored import sift
from heedful.encode.segments import SegmentTokenizer
from heedful.encode.template import choose_template
from heedful.encode.tokenise import Encoder, stop_ids
from heedful.errors import DataError, ModelError
from heedful.records import Conversation, Message, Place, Splits
from heedful.settings import load_config

NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
)
DATED = "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"


def trained(folder: Path, name: str = "chatml", own: str | None = None) -> Encoder:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = own
    template = choose_template(name, tokenizer)  # type: ignore[arg-type]
    encoder = Encoder(template, stop_ids(template), 128)
    tokenizer.chat_template = template.source
    (folder / PROMPT_RECEIPT).write_text(json.dumps(prompt_receipt(encoder)), encoding="utf-8")
    return encoder


@pytest.mark.parametrize("name", ["alpaca", "chatml"])
def test_a_folder_prompts_as_it_was_trained(tmp_path: Path, name: str) -> None:
    encoder = trained(tmp_path, name)
    opened = open_encoder(tmp_path, encoder.tokenizer, 128)
    messages = [Message("user", "a", input="b"), Message("assistant", "\n"), Message("user", "c")]
    assert opened.prompt_ids(messages) == encoder.prompt_ids(messages)
    assert opened.stop_ids == encoder.stop_ids
    assert opened.template.name == name


def test_a_changed_template_is_refused(tmp_path: Path) -> None:
    tokenizer = trained(tmp_path).tokenizer
    trained_with = tokenizer.chat_template
    tokenizer.chat_template = trained_with.replace("assistant\\n", "assistant: ")
    with pytest.raises(ModelError, match=r"chat_template\.jinja is not the chat template of training"):
        open_encoder(tmp_path, tokenizer, 128)
    tokenizer.chat_template = trained_with + "{# a comment, which no prompt shows #}"
    with pytest.raises(ModelError, match=r"chat_template\.jinja"):
        open_encoder(tmp_path, tokenizer, 128)
    tokenizer.chat_template = trained_with + "\n"  # as some editors leave it
    open_encoder(tmp_path, tokenizer, 128)


def test_a_dated_template_is_opened_as_it_was_saved(tmp_path: Path) -> None:
    encoder = trained(tmp_path, "own", DATED)
    opened = open_encoder(tmp_path, encoder.tokenizer, 128)
    assert (opened.template.source, opened.template.label) == (encoder.template.source, "own")


def test_a_folder_without_its_template_is_refused(tmp_path: Path) -> None:
    tokenizer = trained(tmp_path).tokenizer
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match=r"chat_template\.jinja is not the chat template of training"):
        open_encoder(tmp_path, tokenizer, 128)


@pytest.mark.parametrize("stops", [256, [258, 256]])
def test_changed_stop_tokens_are_refused(tmp_path: Path, stops: object) -> None:
    tokenizer = trained(tmp_path).tokenizer
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [258]}))
    open_encoder(tmp_path, tokenizer, 128)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    with pytest.raises(ModelError, match=r"generation_config\.json has other stop tokens"):
        open_encoder(tmp_path, tokenizer, 128)


def test_a_changed_tokenizer_is_refused(tmp_path: Path) -> None:
    tokenizer = trained(tmp_path).tokenizer
    tokenizer.add_tokens(["capital"])
    with pytest.raises(ModelError, match="other prompts than in training"):
        open_encoder(tmp_path, tokenizer, 128)


ASSISTANT = (  # whose prompts end in a space, which begins the answer's first word
    "{% for m in messages %}{{ m.content + (eos_token if m.role == 'assistant' else '\\nASSISTANT: ') }}{% endfor %}"
)


@pytest.mark.parametrize("kind", ["llama 2", "always", "unigram"])
def test_a_run_of_an_earlier_tokenisation_is_opened(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a special token's name, and an answer tokenised apart from its prompt, brought a space of their own."""
    tokenizer = tokenizer_of(kind) if kind != "unigram" else word_tokenizer(["▁", "▁Two", *string.printable])
    tokenizer.chat_template = ASSISTANT
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    template = choose_template("own", tokenizer)
    now = prompt_receipt(Encoder(template, stop_ids(template), 128))
    with monkeypatch.context() as patch:
        patch.setattr(SegmentTokenizer, "_before", "")
        earlier = prompt_receipt(Encoder(template, stop_ids(template), 128))
    same = [one["ids"] == other["ids"] for one, other in zip(now["prompts"], earlier["prompts"], strict=True)]
    assert same == [True, True, False, kind != "unigram"]
    (tmp_path / PROMPT_RECEIPT).write_text(json.dumps(earlier), encoding="utf-8")
    with pytest.raises(ModelError, match="other prompts than in training"):
        open_encoder(tmp_path, tokenizer, 128)
    del earlier["tokenisation"]
    (tmp_path / PROMPT_RECEIPT).write_text(json.dumps(earlier), encoding="utf-8")
    open_encoder(tmp_path, tokenizer, 128)
    tokenizer.add_tokens(["capital"])
    with pytest.raises(ModelError, match="Name the capital"):
        open_encoder(tmp_path, tokenizer, 128)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"template": "unheard-of", "stop_ids": [], "prompts": []}'])
def test_a_receipt_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    tokenizer = trained(tmp_path).tokenizer
    (tmp_path / PROMPT_RECEIPT).write_text(content)
    with pytest.raises(ModelError, match=PROMPT_RECEIPT):
        open_encoder(tmp_path, tokenizer, 128)


def test_a_template_without_system_messages_has_a_receipt_all_the_same(tmp_path: Path) -> None:
    encoder = trained(tmp_path, "own", NO_SYSTEM)
    assert [prompt["ids"] is None for prompt in prompt_receipt(encoder)["prompts"]].count(True) == 1
    open_encoder(tmp_path, encoder.tokenizer, 128)


def test_a_model_from_elsewhere_gets_the_template_that_fits(tmp_path: Path) -> None:
    assert open_encoder(tmp_path, byte_tokenizer(), 128).template.name == "alpaca"


def rows(count: int, answer: str = "a") -> tuple[Conversation, ...]:
    turns = [(Message("user", f"q{k}"), Message("assistant", answer * (k + 1))) for k in range(count)]
    return tuple(Conversation(str(k), turn, Place("rows.json", k + 1)) for k, turn in enumerate(turns))


def test_every_row_is_kept_or_named() -> None:
    """Invariant 6, the encoding's part."""
    settings = ["encode.template=chatml", "encode.max_tokens=60", "encode.long_rows=drop", "train.batch_size=4"]
    config = load_config(None, settings)
    ready = prepare(config, Splits(rows(30), rows(2), ()), {}, byte_tokenizer(), 100)
    encoding = ready.receipt["encoding"]
    assert encoding["rows"] + len(encoding["dropped"]) == 30
    assert encoding["rows"] == len(ready.train) == encoding["stop_supervised"] == encoding["rows_with_target"]
    assert encoding["prompt_tokens"]["sum"] + encoding["answer_tokens"]["sum"] == sum(map(len, ready.train))
    assert encoding["limit"] == 60


def test_rows_with_a_target_are_counted_in_what_was_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneWithout(Examples):
        """Examples of which the first has no supervised token, as a fault of the encoder would leave it."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.answer_tokens[:1] = 0

    monkeypatch.setattr("heedful.encode.prepare.Examples", OneWithout)
    config = load_config(None, ["encode.template=chatml"])
    encoding = prepare(config, Splits(rows(20), (), ()), {}, byte_tokenizer(), 100).receipt["encoding"]
    assert (encoding["rows_with_target"], encoding["rows"]) == (19, 20)


def test_rows_of_which_nothing_is_learned_are_named_or_counted() -> None:
    """Invariant 6, for answers that all have the weight 0; where everything is learned, they are rows as any other."""
    (row,) = rows(1)
    silent = replace(row, messages=(row.messages[0], replace(row.messages[1], supervised=False)), place=Place("r", 21))
    splits = Splits((*rows(20), silent), (), ())

    def counts(*settings: str, splits: Splits = splits) -> tuple[int, list[str]]:
        config = load_config(None, ["encode.template=chatml", *settings])
        encoding = prepare(config, splits, {}, byte_tokenizer(), 100).receipt["encoding"]
        assert encoding["rows_with_target"] == encoding["rows"]
        return encoding["rows"], encoding["unlearned"]

    with pytest.raises(DataError, match=r"^r \(row 21\): every assistant's message has the weight 0.*\(1 of 21 rows\)"):
        counts()
    assert counts("data.on_bad_row=skip") == (20, ["r (row 21)"])
    assert counts("encode.supervise=all") == (21, [])
    with pytest.raises(DataError, match="weight 0"):
        counts("data.on_bad_row=skip", splits=Splits((*rows(2), silent), (), ()))
    with pytest.raises(DataError, match="weight 0"):
        counts(splits=Splits(rows(2), (silent,), ()))


def test_rows_that_the_template_refuses_are_named_or_counted_in_whatever_part_they_stand() -> None:
    (row,) = rows(1)
    refused = replace(row, messages=(Message("system", "s"), *row.messages), place=Place("r.json", 21, 7))
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = NO_SYSTEM
    many, one, parts = (*rows(20), refused, *rows(20, "b")), (*rows(20), refused), ("train", "validation", "test")

    def prepared(part: str, rows: tuple[Conversation, ...], *settings: str) -> Prepared:
        splits = Splits(**{**dict.fromkeys(parts, many[:3]), part: rows})
        return prepare(load_config(None, [*settings]), splits, {}, tokenizer, 100)

    for part in parts:
        told = r"^r\.json:7 \(row 21\): The template 'own' refuses a conversation: no system \(1 of 47 rows\)"
        with pytest.raises(DataError, match=told):
            prepared(part, many)
        with pytest.raises(DataError, match=r"\(2 of 27 rows\)\. .* At most 5% of the rows"):
            prepared(part, (refused, *one[1:-1], replace(refused, place=Place("r.json", 22))), "data.on_bad_row=skip")
        ready = prepared(part, many, "data.on_bad_row=skip")
        assert len(getattr(ready, part)) == 40 if part != "test" else ready.scored == 40
    encoding = prepared("train", many, "data.on_bad_row=skip").receipt["encoding"]
    assert (encoding["rows"], [*encoding["refused"]]) == (40, ["r.json:7 (row 21)"])
    encoding = prepared("test", many, "data.on_bad_row=skip").receipt["encoding"]
    assert encoding["not_scored"] == {"refused by the template": ["r.json:7 (row 21)"]}


def test_what_cannot_be_scored_is_found_before_a_training_as_in_an_evaluation(tmp_path: Path) -> None:
    """Whatever is learned of rows and done with long ones, an evaluation cuts them to the model's own limit."""
    row, other = rows(2)
    silent = replace(row, messages=(row.messages[0], replace(row.messages[1], supervised=False)), place=Place("r", 1))
    calls = (Message("assistant", "look"), Message("tool", "seen")) * 60
    endless = replace(row, messages=(row.messages[0], *calls, row.messages[1]), place=Place("r", 2))
    long = replace(row, messages=(Message("user", "u" * 300), row.messages[1]), place=Place("r", 3))
    test = (silent, other, endless, long)
    for policy, learned in product(("truncate", "drop", "error"), ("response", "all")):
        named = [f"encode.long_rows={policy}", f"encode.supervise={learned}"]
        settings = ["encode.template=chatml", "encode.max_tokens=60", *named]
        ready = prepare(load_config(None, settings), Splits(rows(3), (), test), {}, byte_tokenizer(), 128)
        found = sift(trained(tmp_path), test)
        assert found.left_out == ready.receipt["encoding"]["not_scored"] == {
            "too long to be cut to fit": ["r (row 2)"], "with a last answer of weight 0": ["r (row 1)"],
        }  # fmt: skip
        assert found.rows == [other, long]
        assert (ready.scored, found.cut) == (2, 1)


def test_what_is_scored_is_each_rows_last_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more rows than are encoded at once."""
    for module in ("scored", "tokenise"):
        monkeypatch.setattr(f"heedful.encode.{module}.CHUNK", 2)
    given = [replace(row, messages=(*row.messages, Message("user", "?"), row.messages[1])) for row in rows(5)]
    found = sift(trained(tmp_path), given)
    assert found.rows == given and found.cut == 0
    for row, example in zip(given, found.examples, strict=True):
        learned = bytes(token for token in example.ids[example.supervised].tolist() if token < 256)
        assert learned.decode().strip() == row.messages[-1].content


@pytest.mark.parametrize(
    ("splits", "positions", "said"),
    [
        (Splits(rows(3), (), ()), 100, "0 of 3 rows are left to train on: 3 longer than 8 tokens (the first: "),
        (Splits(rows(3), (), ()), 100, "). Raise encode.max_tokens."),
        (Splits(rows(3), (), ()), 8, "). Choose a model that takes longer rows."),
        (Splits((), (), rows(1)), 100, "0 of 1 rows are left to train on; the split holds them back. Add rows."),
    ],
)
def test_a_data_set_of_which_nothing_is_left_is_refused(splits: Splits, positions: int, said: str) -> None:
    config = load_config(None, ["encode.template=chatml", "encode.max_tokens=8", "encode.long_rows=drop"])
    with pytest.raises(DataError, match=re.escape(said)):
        prepare(config, splits, {}, byte_tokenizer(), positions)


def test_the_fingerprint_tells_examples_apart() -> None:
    config = load_config(None, ["encode.template=chatml"])

    def mark(train: tuple[Conversation, ...], *settings: str) -> str:
        changed = load_config(None, ["encode.template=chatml", *settings])
        return prepare(changed, Splits(train, (), ()), {}, byte_tokenizer(), 100).fingerprint()

    first = mark(rows(3))
    assert mark(rows(3)) == first
    assert (
        len({first, mark(rows(4)), mark(rows(3, "b")), mark(rows(3), "encode.supervise=all"), mark(rows(3)[::-1])}) == 5
    )
    assert config.encode.template == "chatml"

"""A row that is too long is cut, dropped or an error, as asked; its stop token and its end are kept."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.encode.encoders import PROPERTY, conversation
from tests.models import byte_tokenizer

from heedful.config import EncodeConfig
from heedful.data.turns import check_turns
from heedful.encode.template import Template
from heedful.encode.tokenise import Encoder, build_encoder
from heedful.encode.truncate import fewest
from heedful.errors import DataError
from heedful.records import Conversation, Message, Place


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


TURNS = (
    Message("system", "s" * 60),
    Message("user", "u"),
    Message("assistant", "call"),
    Message("tool", "f" * 60),
    Message("tool", "l" * 60),
    Message("assistant", "a" * 30),
)


@pytest.mark.parametrize(
    ("excess", "left", "cut"),
    [
        (20, "s" * 60 + "f" * 60 + "l" * 40, {"tool result": 1}),
        (80, "s" * 60 + "f" * 39 + "l", {"tool result": 1}),
        (140, "s" * 38 + "fl", {"tool result": 1, "system": 1}),
        (180, "sfl", {"tool result": 1, "system": 1, "answer": 1}),
    ],
)
def test_the_last_tools_result_is_cut_first_and_the_system_message_after_all_of_them(
    excess: int, left: str, cut: dict[str, int]
) -> None:
    row = Conversation("1", TURNS, Place("rows.json", 1))
    whole = build_encoder(EncodeConfig(template="chatml"), byte_tokenizer(), 1000)
    limit = len(whole.encode([row])[0][0]) - excess
    shorter = build_encoder(EncodeConfig(template="chatml", max_tokens=limit), byte_tokenizer(), 1000)
    (example,), receipt = shorter.encode([row])
    fitted = shorter.fitted(row)
    assert fitted is not None and len(example) == limit
    assert "".join(turn.content for turn in fitted.messages if turn.role in ("system", "tool")) == left
    assert receipt.truncated == cut

"""Text that comes token by token is the text of all tokens, and no piece is half a character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models import byte_tokenizer, word_tokenizer

from heedful.generate.text import TextStream, held_back

BYTES = byte_tokenizer()
WORDS = word_tokenizer(["▁Hello", "▁world", "▁", "lo", ",", "▁the", "e"])


def stream(ids: list[int], tokenizer: object = BYTES, stop: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    text = TextStream(tokenizer, stop)  # type: ignore[arg-type]
    pieces = []
    for token in ids:
        pieces.append(text.push(token))
        if text.stopped:
            return pieces, text
    return [*pieces, text.flush()], text


@given(st.text().filter(lambda text: not text.endswith("\ufffd")))  # at the end it means an unfinished character
def test_any_text_over_bytes(text: str) -> None:
    pieces, whole = stream(list(text.encode()))
    assert "".join(pieces) == whole.text == text
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text


def test_a_character_comes_whole_or_not_at_all() -> None:
    pieces, _ = stream(list("é世👩‍🚀".encode()))
    assert [piece for piece in pieces if piece] == ["é", "世", "👩", "\u200d", "🚀"]
    assert "".join(stream(list("ok 👩".encode())[:-1])[0]) == "ok "


def test_bytes_that_are_no_text_are_marked_when_something_follows() -> None:
    assert "".join(stream([104, 0xC3, 105])[0]) == "h\ufffdi"


@pytest.mark.parametrize("text", ["Hello world", "Hello, the world", "Hello 世界 lo", "👩 Hello", "lo  the"])
def test_leading_spaces_of_sentencepiece(text: str) -> None:
    ids = WORDS(text, add_special_tokens=False)["input_ids"]
    pieces, whole = stream(ids, WORDS)
    assert "".join(pieces) == whole.text == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_special_tokens_are_no_text() -> None:
    assert "".join(stream([104, 257, 105, 256])[0]) == "hi"


def test_a_stop_string_is_held_back_across_pieces_and_cut() -> None:
    pieces, text = stream(list(b"so be</s>it"), stop=("</s>",))
    assert pieces == ["s", "o", " ", "b", "e", "", "", "", ""]
    assert (text.text, text.stopped) == ("so be", True)


def test_what_only_began_like_a_stop_string_is_given_out() -> None:
    assert stream(list(b"a</b"), stop=("</s>",))[0] == ["a", "", "", "</b", ""]
    assert stream(list(b"a</"), stop=("</s>",))[0] == ["a", "", "", "</"]
    assert stream(list(b"aab!"), stop=("ab",))[0] == ["", "a", ""]


def test_what_is_held_back_is_counted() -> None:
    text = TextStream(BYTES, ("</s>",))
    assert [(text.push(token), text.length) for token in b"a</"] == [("a", 1), ("", 2), ("", 3)]


def test_the_earliest_stop_string_counts() -> None:
    assert (
        stream(WORDS("Hello world", add_special_tokens=False)["input_ids"], WORDS, ("rl", "wo", "x"))[1].text
        == "Hello "
    )


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_stop_strings_cut_as_a_search_over_the_whole_text_does(text: str, stops: list[str]) -> None:
    pieces, whole = stream(list(text.encode()), stop=tuple(stops))
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    seen = text[: min(ends)] if ends else text  # decoding ends with the token that completes a stop string
    cut = min((seen.find(stop) for stop in stops if stop in seen), default=len(seen))
    assert "".join(pieces) == whole.text == seen[:cut]
    assert whole.stopped == bool(ends)


def test_held_back_as_documented() -> None:
    assert held_back("so be<", ["</s>"]) == 1
    assert held_back("so be", ["</s>"]) == 0
    assert held_back("</s", ["</s>", "s!"]) == 3

"""What a model says -> what a terminal can only show."""

from __future__ import annotations

import pytest

from heedful.serve.clean import clean, clean_stream

HOSTILE = [
    ("a\x1b[31mred\x1b[0m b", "ared b"),
    ("\x1b]0;title\x07x\x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\", "xlink"),
    ("\x1b]52;c;aGk=\x07clip", "clip"),
    ("\x9b2Jx\x9d0;t\x9cy\x90q\x9cz", "xyz"),
    ("bell\x07 back\x08 null\x00 cr\r del\x7f", "bell back null cr del"),
    ("keep\n\ttabs\n", "keep\n\ttabs\n"),
    ("\x1b(B\x1bcreset", "reset"),
    ("open \x1b]0;never closed\nnext line", "open ]0;never closed\nnext line"),
    ("end\x1b[3", "end[3"),
    ("c1\x85 \x8d", "c1 "),
    ("\x1b]0;open\nno title\x07", "]0;open\nno title"),
    ("é世👩‍🚀", "é世👩‍🚀"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE)
def test_control_sequences_do_not_reach_the_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown
    assert "".join(clean_stream(text)) == shown
    assert "".join(clean_stream([text[:3], text[3:]])) == shown

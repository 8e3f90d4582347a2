"""At a temperature each row draws for itself: rows that draw alike would make intervals over rows too narrow."""

from __future__ import annotations

from pathlib import Path

from heedful.begin import configure
from heedful.engines import open_tuned
from heedful.evaluate.score import answer
from heedful.records import Conversation, Message, Place, Sampling

ROWS = [
    Conversation(f"r:{i}", (Message("user", "Say a word."), Message("assistant", "word")), Place("rows.json", i + 1))
    for i in range(12)
]


def test_equal_rows_differ_and_two_models_share_a_rows_noise(tiny_folder: Path) -> None:
    """A model of random weights gives all tokens about the same chance."""
    config = configure(None, {"generate.precision": "fp32"}, None, None)
    hot = Sampling(max_tokens=4, temperature=1.0)
    first, second = (answer(*open_tuned(tiny_folder, config), ROWS, hot, batch) for batch in (12, 5))
    drawn = [completion.token_ids for completion in first.completions]
    assert len({tokens[0] for tokens in drawn if tokens}) > 6
    assert drawn == [completion.token_ids for completion in second.completions]
    other = answer(*open_tuned(tiny_folder, config), ROWS, Sampling(max_tokens=4, temperature=1.0, seed=1), 12)
    assert not set(drawn) & {completion.token_ids for completion in other.completions}

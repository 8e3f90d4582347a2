"""At a temperature each row draws for itself: rows that draw alike would make intervals over rows too narrow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.models import POSITIONS, byte_tokenizer, tiny_model

from heedful.encode.scored import sift
from heedful.encode.template import choose_template
from heedful.encode.tokenise import Encoder, stop_ids
from heedful.evaluate.score import answer
from heedful.generate.engine import Engine
from heedful.records import Conversation, Message, Place, Sampling

TEMPLATE = choose_template("chatml", byte_tokenizer())
ENCODER = Encoder(TEMPLATE, stop_ids(TEMPLATE), POSITIONS)
HOT = Sampling(max_tokens=4, temperature=1.0)
ROWS = [
    Conversation(f"r:{i}", (Message("user", "Say a word."), Message("assistant", "word")), Place("rows.json", i + 1))
    for i in range(12)
]


def drawn(engine: Engine, sampling: Sampling, batch_size: int = 12) -> list[tuple[int, ...]]:
    engine.sampling, engine.batch_size = sampling, batch_size
    return [completion.token_ids for completion in answer(engine, sift(ENCODER, ROWS)).completions]


def test_equal_rows_draw_apart() -> None:
    """A model of random weights gives all tokens about the same chance."""
    engine = Engine(tiny_model("llama", initializer_range=0.05), ENCODER)
    first = drawn(engine, HOT)
    assert len({tokens[0] for tokens in first if tokens}) > 6
    assert first == drawn(engine, HOT, batch_size=5)
    assert not set(first) & set(drawn(engine, replace(HOT, seed=1)))


def test_two_models_share_a_rows_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [Engine(tiny_model("llama", seed=seed), ENCODER, f"model {seed}") for seed in (0, 1)]
    asked = []
    generate = Engine.generate
    monkeypatch.setattr(Engine, "generate", lambda *given, **named: asked.append(given[2]) or generate(*given, **named))
    assert drawn(engines[0], HOT) != drawn(engines[1], HOT)
    assert asked[0] == asked[1] and len({sampling.seed for sampling in asked[0]}) == len(ROWS)

"""What reaches the model: padding, shared beginnings, chunks, and rows that change place change no logits."""

from __future__ import annotations

import pytest
import torch
from tests.generate.conftest import shared_engine
from tests.models import ALIBI, KINDS, WINDOWED

from heedful.generate import forward
from heedful.generate.cache import ROOM
from heedful.generate.forward import pad_left, prefill, shared_prefix, step, unbatched_logits

PREFIX = list(range(30, 45))
PROMPTS = [[*PREFIX, *range(60, 60 + n)] for n in (1, 9, 4, 20)]


@pytest.mark.parametrize("kind", [*KINDS, WINDOWED, ALIBI])
@pytest.mark.parametrize("chunk", [4096, 12], ids=["whole", "in chunks"])
def test_every_row_sees_what_it_sees_alone(kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "CHUNK_TOKENS", chunk)
    model = shared_engine(kind).model
    rows = [list(prompt) for prompt in PROMPTS]
    logits, state = prefill(model, rows)
    for token in (7, 8, 9, 10):
        expected = torch.stack([unbatched_logits(model, row) for row in rows])
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=0)
        if token == 9:
            state.select([0, 3, 2])
            rows = [rows[0], rows[3], rows[2]]
        for row in rows:
            row.append(token)
        logits = step(model, state, [token] * len(rows))


def test_a_cache_grows_past_its_room() -> None:
    model = shared_engine("llama").model
    row = [1, 2, 3]
    logits, state = prefill(model, [row, [4, 5]])
    buffer = state.cache.layers[0]._buffers[0]
    for i in range(ROOM - 5):
        row.append(i)
        logits = step(model, state, [i, i])
    assert state.cache.layers[0]._buffers[0] is buffer
    torch.testing.assert_close(logits[0], unbatched_logits(model, row[:128]), atol=2e-5, rtol=0)
    for i in range(10):
        row.append(i)
        logits = step(model, state, [i, i])
    assert state.cache.layers[0]._buffers[0] is not buffer
    torch.testing.assert_close(logits[0], unbatched_logits(model, row), atol=2e-5, rtol=0)


def test_an_equal_beginning_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    run = forward.forward
    monkeypatch.setattr(forward, "forward", lambda m, ids, *rest: shapes.append(tuple(ids.shape)) or run(m, ids, *rest))
    prefill(shared_engine("llama").model, PROMPTS)
    prefill(shared_engine(WINDOWED).model, PROMPTS)
    assert shapes == [(1, 15), (4, 20), (4, 35)]


def test_shared_prefix_leaves_each_prompt_a_token() -> None:
    assert shared_prefix([[*PREFIX], [*PREFIX]]) == len(PREFIX) - 1
    assert shared_prefix([[*PREFIX, 1], [*PREFIX, 2], [*PREFIX, 3]]) == len(PREFIX)
    assert shared_prefix([[*PREFIX, 1], [*PREFIX, 2], [9, *PREFIX]]) == 0
    assert shared_prefix([[1, 2, 3], [1, 2, 4]]) == 0  # not worth a forward
    assert shared_prefix([PREFIX]) == 0


def test_pad_left_as_documented() -> None:
    ids, real = pad_left([[1, 2], [3]])
    assert ids.tolist() == [[1, 2], [0, 3]]
    assert real.tolist() == [[1, 1], [0, 1]]

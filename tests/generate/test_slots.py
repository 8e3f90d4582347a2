"""The decoder computes what the model computes, and no row of it notices another, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models import tiny_model

from heedful import kernels
from heedful.generate import linear, probe, slots
from heedful.generate.decoder import build
from heedful.generate.engine import Engine, verified_decoder
from heedful.generate.forward import unbatched_logits
from heedful.generate.linear import Linear, blocks, same_bits
from heedful.generate.prefix_cache import PrefixCache
from heedful.generate.slots import UNIT, Slots, Unit, batches, fill_gaps
from heedful.generate.spans import COLUMNS

OURS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama with biases": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4},
    "llama scaled": {
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    },
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"tie_word_embeddings": True},
    "gpt2": {},
}  # fmt: skip
NOT_OURS: dict[str, dict[str, Any]] = {
    "mistral": {},  # its window is 8 tokens
    "gpt2": {"scale_attn_by_inverse_layer_idx": True},
    "llama": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    "gpt_neox": {},
    "bloom": {},
}
LONG = list(range(30, 30 + 5 * UNIT))
PROMPTS = [LONG[:5], LONG[:UNIT], LONG[: 2 * UNIT + 3], [*LONG[:UNIT], 7, 8], LONG, LONG[:5], LONG[: 2 * UNIT]]


@pytest.mark.parametrize("name", OURS)
def test_it_computes_what_the_model_computes(name: str) -> None:
    model = tiny_model(name.split()[0], **OURS[name])
    for parameter in model.parameters():  # biases and norms are born as 0 and 1, which would hide them
        parameter.data += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    decoder = build(model, torch.float32)
    assert decoder is not None
    batch = Slots(decoder)
    rows = [list(prompt) for prompt in PROMPTS]
    logits = torch.cat([batch.join(rows[:3]), batch.join(rows[3:])])
    for i in range(2 * UNIT):
        expected = torch.stack([unbatched_logits(model, row) for row in rows])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
        if i == UNIT:
            rows = [rows[kept] for kept in batch.keep([row not in (0, 4) for row in range(len(rows))])]
        for row in rows:
            row.append(i)
        logits = batch.step([i] * len(rows))


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_it_does_not_know_is_left_to_the_model(name: str) -> None:
    assert build(tiny_model(name, **NOT_OURS[name]), torch.float32) is None


def test_a_wrapped_layer_is_left_to_the_model() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.down_proj = torch.nn.Sequential(model.model.layers[1].mlp.down_proj)
    assert build(model, torch.float32) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_a_row_does_not_notice_its_company(kind: str, dtype: torch.dtype) -> None:
    decoder = verified_decoder(tiny_model(kind), dtype)
    if decoder is None:
        pytest.skip("this processor's kernels did not pass the probe")

    def run(parts: list[list[list[int]]]) -> list[torch.Tensor]:
        return probe._logits(decoder, parts)

    expected = [run([[prompt]])[0] for prompt in PROMPTS]
    for parts in ([PROMPTS], [PROMPTS[:1], PROMPTS[1:]], [PROMPTS[:5], PROMPTS[5:]], [[p] for p in PROMPTS]):
        assert all(torch.equal(a, b) for a, b in zip(run(parts), expected, strict=True))
    many = [[i % 250, *prompt] for i in range(9) for prompt in PROMPTS]
    assert torch.equal(run([many])[40], run([[many[40]]])[0])


@pytest.mark.parametrize("compiled", [True, False])
def test_a_long_row_does_not_notice_a_longer_one(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(kernels, "has", lambda *_: False)
    sizes = {"hidden_size": 192, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 64}
    model = tiny_model("llama", max_position_embeddings=4096, initializer_range=0.08, **sizes)
    decoder = build(model, torch.float32)
    assert decoder is not None
    for length in (100, 150, 250, 400, 700):
        text = torch.randint(250, (3 * length,), generator=torch.Generator().manual_seed(length)).tolist()
        alone, company, cache = Slots(decoder), Slots(decoder), PrefixCache()
        rows = [text[:length], text[length:]]
        assert torch.equal(alone.join(rows[:1])[0], company.join(rows)[0])
        assert torch.equal(alone.step([1])[0], company.step([1, 2])[0])
        Slots(decoder, cache).join(rows[:1])
        assert torch.equal(Slots(decoder, cache).join([text]), Slots(decoder).join([text]))


def test_an_answer_that_grows_is_no_beginning_for_others() -> None:
    decoder = build(tiny_model("llama"), torch.float32)
    assert decoder is not None
    batch, row = Slots(decoder), LONG[: UNIT + 5]
    batch.join([row])
    row += [7] * (UNIT - 5)  # as the engine does; the last of these tokens was not read yet
    for token in row[UNIT + 5 : -1]:
        batch.step([token])
    follow_up = [*row, 8, 9]
    assert torch.equal(batch.join([follow_up])[0], Slots(decoder).join([follow_up])[0])


def test_what_rows_share_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = build(tiny_model("llama"), torch.float32)
    assert decoder is not None
    read: list[list[tuple[int, tuple[int, ...]]]] = []
    original = Slots._prefill
    monkeypatch.setattr(
        Slots,
        "_prefill",
        lambda self, units: read.append([(u.level, tuple(u.slots)) for u in units]) or original(self, units),
    )
    batch = Slots(decoder)
    batch.join([LONG[: 2 * UNIT + 3], [*LONG[:UNIT], 7], LONG[: 2 * UNIT + 3]])
    batch.join([LONG[: 2 * UNIT + 4], LONG[:UNIT]])
    assert read == [[(0, (0, 1, 2)), (1, (0, 2)), (1, (1,)), (2, (0, 2))], [(0, (4,)), (2, (3,))]]


def test_a_probe_that_fails_leaves_the_model_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.generate.conftest import Bytes

    model, prompt = tiny_model("llama"), ["What is it?"]
    answers = Engine(model, Bytes()).generate(prompt)
    noisy = Linear.__call__
    # a kernel that depends on the number of rows
    monkeypatch.setattr(Linear, "__call__", lambda self, x, *rest: noisy(self, x, *rest) * (1 + 1e-6 * len(x)))
    assert not probe.is_batch_invariant(build(model, torch.float32))  # type: ignore[arg-type]
    engine = Engine(model, Bytes())
    assert engine.decoder is None
    assert engine.generate(prompt)[0].token_ids == answers[0].token_ids
    monkeypatch.setattr(Linear, "__call__", lambda self, x, *rest: noisy(self, x, *rest) * 1.5)  # another model
    assert not probe.matches_model(build(model, torch.float32), model)  # type: ignore[arg-type]
    assert Engine(model, Bytes()).decoder is None


def test_same_bits_sees_another_order_of_summation(monkeypatch: pytest.MonkeyPatch) -> None:
    def packed(weight: torch.Tensor, _: object) -> object:
        def run(x: torch.Tensor) -> torch.Tensor:
            if len(x) < 64:
                return (x.float() @ weight.float().T).to(x.dtype)
            return (x.float().flip(1) @ weight.float().flip(1).T).to(x.dtype)

        return run

    monkeypatch.setattr(linear, "has_compiled_product", lambda weight: False)
    monkeypatch.setattr(linear, "packed", packed)
    monkeypatch.setattr(linear, "SIZES", (16, 64))
    sizes = same_bits.__wrapped__(frozenset({(48, 96)}), 16, torch.bfloat16, torch.device("cpu"))
    assert sizes == (16,)


def test_blocks_as_documented() -> None:
    assert blocks(37, (1, 16, 32)) == (32, 16)
    assert blocks(1, (2, 4)) == (2,)
    assert blocks(64, (1, 2, 32)) == (32, 32)
    assert blocks(37, ()) == (37,)


def test_fill_gaps_moves_only_the_last() -> None:
    assert fill_gaps([True, False, True, False, True]) == [0, 4, 2]
    assert fill_gaps([False, True, True]) == [2, 1]
    assert fill_gaps([True, True, False]) == [0, 1]


def test_reading_is_cut_into_forwards_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PREFILL_TOKENS", 4 * UNIT)
    monkeypatch.setattr(slots, "PREFILL_COLUMNS", 6 * UNIT)
    alone = [Unit((), level, [0]) for level in range(6)]
    assert [len(batch) for batch in batches(alone)] == [4, 2]
    two = [Unit((), level, [slot]) for level in range(3) for slot in (0, 1)]
    assert [len(batch) for batch in batches(two)] == [3, 2, 1]


def test_a_batch_that_shrank_grows_for_those_that_stay_alone() -> None:
    batch = Slots(build(tiny_model("llama"), torch.float32))  # type: ignore[arg-type]
    batch.join([LONG[:5]] * 12)
    assert batch._cache.shape[1] == 12
    batch.keep([True] + [False] * 11)
    while batch._cache.shape[2] == COLUMNS:
        batch.step([7])
    assert batch._cache.shape[1] == 2

"""One loss: the same in one forward or many, as a tree or padded, and the same as transformers' own."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import tests.models
import torch
from tests.encode.test_batch import dense_targets
from tests.models import KINDS, WINDOWED, tiny_model
from transformers import PreTrainedModel

from heedful.config import TrainConfig
from heedful.encode.batch import LAYOUTS, Collator, padded_batch
from heedful.errors import RunError
from heedful.records import TokenizedExample
from heedful.train import precision
from heedful.train.learner import Learner
from heedful.train.loss import summed_nll
from heedful.train.probe import tree_is_exact


def example(ids: list[int], start: int = 1, name: str = "1") -> TokenizedExample:
    return TokenizedExample(name, np.array(ids, np.int32), np.arange(len(ids)) >= max(1, start))


def rows_that_share(seed: int) -> list[TokenizedExample]:
    """Make rows with shared beginnings, a duplicate, and a row that begins another; answers of 1 to 40 tokens."""
    draw = random.Random(seed)
    trunk = [draw.randrange(256) for _ in range(12)]
    rows = []
    for length in (1, 2, 5, 17, 40):
        prompt = trunk[: draw.randrange(4, 13)] + [draw.randrange(256) for _ in range(draw.randrange(3))]
        rows.append(example(prompt + [draw.randrange(256) for _ in range(length)] + [258], len(prompt)))
    rows.append(rows[3])
    rows.append(example([*rows[4].ids[:20].tolist()], 9))
    return rows


def collator(layout: str, share: float = 0.0, limit: int = 10_000) -> Collator:
    return Collator(layout, pad_id=258, prompt_weight=share, batch_tokens=limit)


def loss_and_gradient(
    model: PreTrainedModel, examples: list[TokenizedExample], how: Collator
) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    total = 0.0
    for batch in how.batches(examples):
        loss = summed_nll(model, batch) / how.weight(examples)
        loss.backward()
        total += float(loss.detach())
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_equal(a: tuple[float, torch.Tensor], b: tuple[float, torch.Tensor]) -> None:
    assert a[0] == pytest.approx(b[0], rel=1e-5)
    assert float((a[1] - b[1]).norm() / b[1].norm()) < 1e-5


def transformers_loss(model: PreTrainedModel, examples: list[TokenizedExample]) -> torch.Tensor:
    """Compute the loss as transformers does it: padded rows, labels of -100 where nothing is learned."""
    width = max(map(len, examples))
    ids, labels, mask = torch.zeros(3, len(examples), width, dtype=torch.int64)
    labels -= 100
    for k, row in enumerate(examples):
        tokens = torch.from_numpy(row.ids.astype(np.int64))
        ids[k, : len(row)], mask[k, : len(row)] = tokens, 1
        labels[k, : len(row)] = torch.where(torch.from_numpy(row.supervised), tokens, -100)
    loss: torch.Tensor = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    return loss


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["tree", "padded"])
def test_our_loss_and_gradient_are_those_of_transformers(kind: str, layout: str) -> None:
    """Invariants 1 and 2: shifted once, divided once."""
    model, examples = tiny_model(kind), rows_that_share(1)
    ours = loss_and_gradient(model, examples, collator(layout))
    model.zero_grad()
    theirs = transformers_loss(model, examples)
    theirs.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert_equal(ours, (float(theirs.detach()), gradient))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_tree_computes_what_padded_rows_do(kind: str, seed: int, share: float) -> None:
    """Invariant 9."""
    model, examples = tiny_model(kind), rows_that_share(seed)
    tree = loss_and_gradient(model, examples, collator("tree", share))
    assert_equal(tree, loss_and_gradient(model, examples, collator("padded", share)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_learns_all_tokens_as_padded_rows_do(kind: str) -> None:
    model = tiny_model(kind)
    examples = [example(row.ids.tolist()) for row in rows_that_share(3)]
    tree = loss_and_gradient(model, examples, collator("tree"))
    assert_equal(tree, loss_and_gradient(model, examples, collator("padded")))


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("limit", [1, 40, 60])
def test_a_group_in_many_forwards_is_one_update(layout: str, limit: int) -> None:
    """Invariant 1: answers of 1 to 40 tokens, one denominator."""
    model, examples = tiny_model("llama"), rows_that_share(4)
    assert len(list(collator(layout, 0.0, limit).batches(examples))) > 1
    one = loss_and_gradient(model, examples, collator(layout))
    assert_equal(loss_and_gradient(model, examples, collator(layout, 0.0, limit)), one)


@pytest.mark.parametrize("limit", [1, 10_000])
def test_the_learner_uses_one_denominator(limit: int) -> None:
    """The gradient that the optimizer sees, and the validation, are sums over sums."""
    model, examples = tiny_model("llama"), rows_that_share(5)
    loss, gradient = loss_and_gradient(model, examples, collator("padded"))
    model.zero_grad()
    learner = Learner(model, collator("tree", 0.0, limit), TrainConfig(precision="fp32"), steps=4)
    learned, _ = learner.accumulate(examples, 0)
    got = torch.cat([gradient.flatten() for _, gradient in learner.optimizer.gradients()])
    assert_equal((learned, got), (loss, gradient))
    validated, targets = learner.validate(examples)
    assert validated == pytest.approx(loss, rel=1e-5)
    assert targets == sum(int(row.supervised.sum()) for row in examples)
    sums = [summed_nll(model, batch).item() for row in examples for batch in collator("padded").batches([row])]
    assert validated == pytest.approx(sum(sums) / targets, rel=1e-5)


def test_validation_lays_out_no_more_than_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are: some at a time, one forward after the other."""
    model, examples, log = tiny_model("llama"), rows_that_share(5), []
    learner = Learner(model, collator("padded", 0.0, 1), TrainConfig(precision="fp32"), steps=4)
    whole = learner.validate(examples)

    def laid_out(*arguments: Any) -> Any:
        log.append("laid out")
        return padded_batch(*arguments)

    def computed(*arguments: Any) -> Any:
        log.append("computed")
        return summed_nll(*arguments)

    monkeypatch.setitem(LAYOUTS, "padded", laid_out)
    monkeypatch.setattr("heedful.train.learner.summed_nll", computed)
    monkeypatch.setattr("heedful.train.learner.VALIDATED", 3)
    assert learner.validate(examples) == pytest.approx(whole)
    assert log == ["laid out", "computed"] * len(examples)


def test_a_mean_of_means_would_be_another_number() -> None:
    """The rows above tell the right loss from the usual wrong one."""
    model, examples = tiny_model("llama"), rows_that_share(5)
    means = [transformers_loss(model, [row]).item() for row in examples]
    assert not math.isclose(sum(means) / len(means), transformers_loss(model, examples).item(), rel_tol=1e-3)


def test_padding_does_not_matter_whatever_its_id() -> None:
    """Invariant 4."""
    model, examples = tiny_model("llama"), rows_that_share(6)
    results = [loss_and_gradient(model, examples, Collator("padded", pad, 0.0, 10_000)) for pad in (0, 5, 258)]
    assert_equal(results[0], results[1])
    assert_equal(results[0], results[2])
    (batch,) = collator("padded").batches(examples)
    assert int((dense_targets(batch) == 258).sum()) == 6  # every stop token but the cut row's


@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_lets_exact_models_use_the_tree(kind: str) -> None:
    assert tree_is_exact(tiny_model(kind), 60)


def test_the_probe_tells_the_rounding_of_bf16_from_a_wrong_mask() -> None:
    assert tree_is_exact(tiny_model("llama").bfloat16(), 60)
    assert not tree_is_exact(tiny_model(WINDOWED).bfloat16(), 60)


@pytest.mark.parametrize("length", [12, 60])
def test_the_probe_sees_a_sliding_window(length: int) -> None:
    """Its paths are longer than the window of 8."""
    assert not tree_is_exact(tiny_model(WINDOWED), length)


def test_memory_that_runs_out_is_no_answer_of_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("heedful.train.probe.logits_at", refuse)
    with pytest.raises(RunError, match="Memory ran out"):
        tree_is_exact(tiny_model("llama"), 12)


def test_a_window_wider_than_every_path_is_no_obstacle() -> None:
    assert tree_is_exact(tiny_model(WINDOWED, sliding_window=64), 60)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
        ("gpt_neo", {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 8,
                     "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 128,
                     "attn_implementation": "eager"}),
    ],
)  # fmt: skip
def test_the_probe_sees_models_that_go_by_the_row(
    kind: str, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tests.models._CONFIG, kind, tests.models._CONFIG.get(kind, {}))
    assert not tree_is_exact(tiny_model(kind, **changes), 40)


def test_asking_for_some_logits_survives_mixed_precision_and_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.model.adapters import adapt
    from heedful.model.causal import takes

    monkeypatch.setattr(precision, "native_bf16", lambda: True)
    full, lora = (TrainConfig(precision="bf16", method=method) for method in ("full", "lora"))
    for model, config in ((tiny_model("llama"), full), (adapt(tiny_model("llama"), lora), lora)):
        learner = Learner(model, collator("tree"), config, steps=1)
        assert takes(learner.model, "logits_to_keep")
        loss, _ = learner.accumulate(rows_that_share(0), 0)
        assert math.isfinite(loss)
        assert all(p.dtype == torch.bfloat16 for p in model.parameters())
        assert all(master.dtype == torch.float32 for master in learner.optimizer.masters.values())

"""Where memory runs out all the same: an update is made again in smaller forwards, or one sentence ends the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models import byte_tokenizer
from tests.train.sessions import Screen, assert_same, log, session, state

from heedful.encode.batch import Collator
from heedful.errors import RunError
from heedful.records import TokenizedExample
from heedful.train import learner
from heedful.train.learner import Learner
from heedful.train.memory import halved

KINDS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail] can't allocate memory"),
]


@pytest.mark.parametrize("error", KINDS, ids=lambda error: type(error).__name__)
def test_a_group_that_does_not_fit_is_repeated_in_smaller_forwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The gradient of what had been done is forgotten: the result is that of the small forwards from the start."""
    whole = learner.prediction_nll
    failed = []

    def sometimes(model, batch):  # type: ignore[no-untyped-def]
        loss = whole(model, batch)
        if batch.input_ids.numel() > 64 and torch.is_grad_enabled():
            failed.append(batch.input_ids.numel())
            loss.sum().backward()  # some of the gradient was there when memory ran out
            raise error
        return loss

    screen = Screen()
    limited = session(tmp_path / "limited", "train.max_steps=3", screen=screen)
    limited.run.write_config(limited.config)
    with monkeypatch.context() as patch:
        patch.setattr(learner, "prediction_nll", sometimes)
        limited.fit()
    assert failed
    tokens = limited.run.config().encode.batch_tokens
    assert [e["batch_tokens"] for e in log(limited) if e["event"] == "memory"][-1] == tokens
    assert any("Memory ran out" in line for line in screen.said)
    small = session(tmp_path / "small", "train.max_steps=3", f"encode.batch_tokens={tokens}")
    small.fit()
    assert_same(state(limited), state(small))


def test_forwards_of_a_few_tokens_are_tried_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learner.prediction_nll

    def sometimes(model, batch):  # type: ignore[no-untyped-def]
        if len(batch.input_ids) > 1 and torch.is_grad_enabled():
            raise MemoryError
        return whole(model, batch)

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    short = ("encode.template=own", "encode.layout=padded", "encode.max_tokens=10", "train.max_steps=2")
    made = session(tmp_path, *short, tokenizer=tokenizer)
    monkeypatch.setattr(learner, "prediction_nll", sometimes)
    made.fit()
    assert made.progress.step == 2 and made.config.encode.batch_tokens == made.ready.longest <= 10


@pytest.mark.parametrize(("layout", "tokens"), [("tree", 105), ("padded", 480)])
def test_half_is_half_of_what_was_laid_out(layout: str, tokens: int) -> None:
    """16 rows of 60 tokens that share 50 are 210 nodes, or 960 places."""
    flags = np.array([0] + [1] * 59, np.bool_)
    ids = [[*range(50), *[100 + row] * 10] for row in range(16)]
    rows = [TokenizedExample(str(row), np.array(some, np.int32), flags) for row, some in enumerate(ids)]
    found = halved(Collator(layout, 0, 0.0, 4096), rows)
    assert found.batch_tokens == tokens
    assert len(list(found.batches(rows))) > 1


def test_a_row_that_does_not_fit_alone_ends_the_run_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Learner, *arguments: object) -> float:
        raise MemoryError

    made = session(tmp_path)
    made.run.write_config(made.config)
    monkeypatch.setattr(Learner, "_forwards", never)
    with pytest.raises(RunError, match=r"single row.*encode\.max_tokens"):
        made.fit()


def test_other_errors_are_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Learner, *arguments: object) -> float:
        raise RuntimeError("shapes do not match")

    made = session(tmp_path)
    monkeypatch.setattr(Learner, "_forwards", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        made.fit()

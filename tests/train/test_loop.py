"""What the loop does at each step, and what it refuses to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import pytest
import torch
from tests.models import plain_tokenizer, tiny_model
from tests.train.sessions import Screen, log, session

from heedful.config import TrainConfig
from heedful.encode.order import Order
from heedful.engines import base_of, open_tuned
from heedful.errors import RunError
from heedful.model.pretrained import load
from heedful.model.saving import save
from heedful.records import Progress, TokenizedExample
from heedful.settings import load_config
from heedful.system.atomic import write_json
from heedful.train.learner import schedule
from heedful.train.loop import total_steps, upcoming
from heedful.train.pace import tokens_per_update
from heedful.train.result import write_model
from heedful.train.validation import ended_early


def test_a_run_logs_each_step_and_learns(tmp_path: Path) -> None:
    trained = session(tmp_path / "run", "train.lr=0.01", "train.epochs=4")
    trained.fit()
    steps = [event for event in log(trained) if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, 25))
    assert [steps[i]["epoch"] for i in (0, 5, 23)] == [0.1667, 1.0, 4.0]  # 22 rows by 4: the sixth update ends it
    assert steps[-1]["loss"] < steps[0]["loss"] / 2
    assert set(steps[0]) == {"event", "step", "epoch", "loss", "targets", "tokens", "lr", "grad_norm"}
    assert steps[-1]["tokens"] == 4 * sum(map(len, trained.ready.train))
    validations = [event for event in log(trained) if event["event"] == "validation"]
    assert [event["step"] for event in validations] == list(range(0, 25, 3))
    assert [event["step"] for event in log(trained) if event["event"] == "sample"] == [6, 12, 18, 24]


def test_a_model_that_scales_its_embeddings_in_place_learns(tmp_path: Path) -> None:
    trained = session(tmp_path / "run", "train.lr=0.01", kind="ctrl")
    trained.fit()
    losses = [event["loss"] for event in log(trained) if event["event"] == "step"]
    assert losses[-1] < losses[0] / 2


def test_steps_between_are_not_logged_but_the_last_is(tmp_path: Path) -> None:
    trained = session(tmp_path / "run", "train.log_every=5")
    trained.fit()
    assert [event["step"] for event in log(trained) if event["event"] == "step"] == [5, 10, 12]


def test_the_loss_is_that_of_the_groups_rows(tmp_path: Path) -> None:
    """Progress and plan agree on which rows are learned when."""
    trained = session(tmp_path / "run", "train.max_steps=1")
    rows = [trained.ready.train[i] for i in trained.ready.order.epoch(0)[0]]
    expected, targets = trained.learner.validate(rows)
    trained.fit()
    (step,) = [event for event in log(trained) if event["event"] == "step"]
    assert step["loss"] == pytest.approx(expected, rel=1e-5)
    assert step["targets"] == targets


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({}, 12), ({"drop_last": True}, 10), ({"max_steps": 7}, 7), ({"max_steps": 99}, 12), ({"batch_size": 50}, 2)],
)
def test_the_number_of_updates(settings: dict[str, int], steps: int) -> None:
    config = TrainConfig(**{"batch_size": 4, "epochs": 2, **settings})
    assert total_steps(22, config) == steps
    order = Order(22, config.batch_size, config.seed, config.drop_last)
    groups = list(islice(upcoming(order, Progress(), 2), steps))
    assert len(groups) == steps
    assert groups[-1].progress.step == steps
    for at in range(1, steps):  # invariant 7: to resume is to slice
        assert list(islice(upcoming(order, groups[at - 1].progress, 2), steps - at)) == groups[at:]


def test_an_epoch_ends_where_its_rows_do() -> None:
    groups = list(upcoming(Order(10, 4, 123), Progress(), 2))
    assert [group.ends_epoch for group in groups] == [False, False, True] * 2
    assert groups[2].progress == Progress(3, 1, 0)
    assert sorted(row for group in groups[:3] for row in group.rows) == list(range(10))


def test_rows_that_fill_no_update_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="do not fill one update"):
        session(tmp_path / "run", "train.drop_last=true", "train.batch_size=50")


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_the_learning_rate_rises_and_falls(name: str) -> None:
    config = TrainConfig(schedule=name, warmup=0.1)  # type: ignore[arg-type]
    shares = [schedule(config, step, 100) for step in range(100)]
    assert 0 < shares[0] < shares[9] < shares[10] == max(shares) == 1
    falling = shares[10:]
    assert falling == sorted(falling, reverse=True)
    half = {"constant": 1.0, "linear": 0.5, "cosine": 0.5}[name]
    assert schedule(config, 55, 100) == pytest.approx(half)
    assert shares[-1] == (1.0 if name == "constant" else pytest.approx(0, abs=0.02))
    assert schedule(TrainConfig(schedule=name, warmup=0.0), 0, 100) == 1  # type: ignore[arg-type]


def test_the_learning_rate_reaches_the_optimizer(tmp_path: Path) -> None:
    trained = session(tmp_path / "run", "train.max_steps=4", "train.warmup=0.5", "train.lr=0.003")
    before = {name: master.clone() for name, master in trained.learner.optimizer.masters.items()}
    trained.learner.accumulate(trained.ready.train[:2], step=0)
    trained.learner.update(0, loss=1.0)
    moved = max(float((trained.learner.optimizer.masters[name] - old).abs().max()) for name, old in before.items())
    assert moved == pytest.approx(0.001, rel=0.05)  # Adam's first step is as long as the rate
    trained.fit()
    rates = [event["lr"] for event in log(trained) if event["event"] == "step"]
    assert rates == pytest.approx([0.001, 0.002, 0.003, 0.0015])


def test_decay_leaves_vectors_alone_unless_asked(tmp_path: Path) -> None:
    for asked, of_vectors in (("false", 0.0), ("true", 0.1)):
        optimizer = session(
            tmp_path / asked, "train.weight_decay=0.1", f"train.decay_vectors={asked}"
        ).learner.optimizer
        for name, master in optimizer.masters.items():
            assert optimizer.decay[name] == (of_vectors if master.ndim == 1 else 0.1)


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    trained = session(tmp_path / "run", "train.clip=0.01")
    trained.learner.accumulate(trained.ready.train[:4], 0)
    norm = trained.learner.update(0, 1.0)
    assert norm > 0.01
    first = torch.cat([moment.flatten() for moment in trained.learner.optimizer.first.values()])
    assert float(first.norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)  # Adam's first mean is a tenth of the gradient


def test_training_ends_early_when_nothing_gets_better(tmp_path: Path) -> None:
    settings = ("train.patience=2", "train.lr=0.9", "train.evaluate_every=1", "train.epochs=9")
    screen = Screen()
    trained = session(tmp_path / "run", *settings, screen=screen)
    assert trained.fit() == 0
    losses = [event["validation_loss"] for event in log(trained) if event["event"] == "validation"]
    best = losses.index(min(losses))
    assert len(losses) == best + 3
    assert screen.said[-1] == f"step {trained.progress.step}: no better in 2 validations, so the training ends here."
    assert trained.progress.step < trained.learner.steps
    assert (trained.run.checkpoints / f"step-{trained.progress.step:06d}").is_dir()
    assert ended_early(trained)
    trained.learner.steps = trained.progress.step  # as if these had been all
    assert not ended_early(trained)


@pytest.mark.parametrize(("keep", "lr"), [("best", 0.3), ("last", 0.3), ("best", 9.0)])
def test_the_model_that_is_kept(tmp_path: Path, keep: str, lr: float) -> None:
    """The best that was trained, also where the one before training is better than all."""
    settings = (f"train.lr={lr}", "train.epochs=3", "train.evaluate_every=1", "train.warmup=0.3", f"train.keep={keep}")
    trained = session(tmp_path / "run", *settings, screen=(screen := Screen()))
    trained.fit()
    losses = [event["validation_loss"] for event in log(trained) if event["event"] == "validation"]
    assert losses[-1] != min(losses[1:])
    write_model(trained)
    loss, _ = trained.learner.validate(trained.ready.validation)
    assert loss == pytest.approx(losses[-1] if keep == "last" else min(losses[1:]))
    assert any("before training" in said for said in screen.said) == (min(losses) == losses[0]) == (lr == 9.0)


def test_a_run_without_validation_rows_keeps_the_last(tmp_path: Path) -> None:
    trained = session(tmp_path / "run", "train.patience=1", validation=0)
    assert trained.fit() == 0
    write_model(trained)
    assert trained.progress.step == trained.learner.steps


def test_the_saved_folder_stops_where_the_template_does(tmp_path: Path) -> None:
    """Whatever the base's own settings were, which may be such as transformers refuses to write."""
    trained = session(tmp_path / "run", "train.max_steps=1")
    trained.learner.model.generation_config.temperature = 0.6  # without do_sample
    trained.fit()
    write_model(trained)
    generation = json.loads((trained.run.model / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [258]
    assert "temperature" not in generation
    assert load(str(trained.run.model)).tokenizer.chat_template == trained.ready.encoder.template.source


@pytest.mark.parametrize("rows", [259, 300])
def test_a_runs_base_gets_the_embeddings_that_it_began_with_and_the_run_keeps_its_own(
    tmp_path: Path, rows: int
) -> None:
    changes = {"vocab_size": rows, "eos_token_id": 256}
    save(tiny_model("llama", initializer_range=0.1, **changes), plain_tokenizer(), tmp_path / "base")
    name = f"model.name={tmp_path / 'base'}"
    trained = session(tmp_path / "run", name, "train.max_steps=2", tokenizer=plain_tokenizer(), **changes)
    table = trained.learner.model.get_input_embeddings().weight
    began = table.detach().clone()
    trained.fit()
    write_model(trained)
    trained.run.write_config(trained.config)
    write_json(trained.run.provenance_file, {"model": str(tmp_path / "base"), "fingerprint": trained.fingerprint})
    assert torch.equal(base_of(trained.run).model.get_input_embeddings().weight, began)
    tuned, _ = open_tuned(trained.run.path, load_config(None, {"generate.precision": "fp32"}))
    assert torch.equal(tuned.model.get_input_embeddings().weight, table)
    assert not torch.equal(began, table)


def test_an_impossible_layout_falls_back_and_says_so(tmp_path: Path) -> None:
    from tests.train.sessions import Screen

    screen = Screen()
    trained = session(tmp_path / "run", kind="bloom", screen=screen)
    assert trained.learner.collator.layout == "padded"
    assert "padded layout" in screen.said[0]
    assert session(tmp_path / "other").learner.collator.layout == "tree"


def test_validation_on_some_batches_looks_at_training_rows_too(tmp_path: Path) -> None:
    """The tutorial: evaluate on the same number of batches of each."""
    trained = session(tmp_path / "run", "train.evaluate_batches=2", "train.max_steps=1", validation=9)
    rows = [trained.ready.train[i] for i in trained.ready.order.epoch(0).rows[:8]]
    expected, _ = trained.learner.validate(rows)
    trained.fit()
    first = next(event for event in log(trained) if event["event"] == "validation")
    assert first["targets"] == sum(int(row.supervised.sum()) for row in trained.ready.validation[:8])
    assert first["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_validation_looks_at_no_training_row_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More batches are asked for than an epoch has."""
    trained = session(tmp_path / "run", "train.evaluate_batches=8", "train.epochs=2", "train.max_steps=1", rows=9)
    seen: list[int] = []

    def validate(rows: Sequence[TokenizedExample], on_done: Callable[[int], None]) -> tuple[float, int]:
        seen.append(len(rows))
        return 1.0, len(rows)

    monkeypatch.setattr(trained.learner, "validate", validate)
    trained.fit()
    assert seen == [5, 9, 5, 9]


def test_an_epochs_last_update_may_be_smaller_than_the_others(tmp_path: Path) -> None:
    for settings, rows in ((), 9), (("train.drop_last=true",), 8):
        trained = session(tmp_path / str(rows), *settings, rows=9)
        updates = trained.ready.order.epoch(0)
        assert len(updates.rows) == rows
        assert tokens_per_update(trained) == pytest.approx(trained.ready.train.tokens.mean() * rows / len(updates))


def test_one_process_trains_in_two_precisions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from heedful.train import precision

    monkeypatch.setattr(precision, "native_bf16", lambda: True)
    for name in ("fp32", "bf16", "fp32"):
        trained = session(tmp_path / name, f"train.precision={name}", "train.max_steps=1")
        dtypes = {p.dtype for p in trained.learner.parameters.values()}
        assert dtypes == {{"fp32": torch.float32, "bf16": torch.bfloat16}[name]}
        assert {master.dtype for master in trained.learner.optimizer.masters.values()} == {torch.float32}

"""A whole training in this process, on a tiny model: what the tests of the loop, of resuming and of export share."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from tests.models import byte_tokenizer, tiny_model

from heedful.config import Config
from heedful.encode.prepare import prepare
from heedful.model.pretrained import Loaded
from heedful.records import Conversation, Message, Place, Splits, StepMetrics
from heedful.run import Run
from heedful.settings import load_config
from heedful.train.display import Display
from heedful.train.ranks import single_rank
from heedful.train.session import Session, check, settle_layout

POSITIONS = 128
BASE = ("encode.template=chatml", "train.precision=fp32", "train.batch_size=4", "train.evaluate_every=3")
WORDS = ("red", "green", "blue", "one", "two", "three")


def conversations(count: int, start: int = 0) -> tuple[Conversation, ...]:
    turns = [
        (Message("user", f"Say {WORDS[k % 6]} {k % 5}."), Message("assistant", " ".join([WORDS[k % 6]] * (k % 4 + 1))))
        for k in range(start, start + count)
    ]
    return tuple(Conversation(str(k), turn, Place("rows.json", k + 1)) for k, turn in enumerate(turns, start=start))


class Screen:
    """Remembers what was said; `during` is called with each step's metrics."""

    def __init__(self, during: Callable[[StepMetrics], None] = lambda metrics: None) -> None:
        self.said: list[str] = []
        self.validation, self.total = 0.0, 0
        self.step = during
        self.validated: list[tuple[int, int]] = []

    @contextmanager
    def bar(self, total: int, done: int) -> Iterator[Screen]:
        yield self

    def validate(self, done: int, total: int) -> None:
        self.validated.append((done, total))

    def around(self) -> Display:
        return Display(self.said.append, self.bar, lambda model: ("prompt", "answer"))


def settings_of(*settings: str) -> Config:
    return load_config(None, BASE, settings)


def session(
    path: Path,
    *settings: str,
    rows: int = 22,
    kind: str = "llama",
    screen: Screen | None = None,
    tokenizer: Any = None,
    validation: int = 5,
    **changes: Any,
) -> Session:
    config = settings_of(*settings)
    path.mkdir(exist_ok=True)
    splits = Splits(conversations(rows), conversations(validation, 100), ())
    tokenizer = tokenizer or byte_tokenizer()
    own = deepcopy(tokenizer)  # a template may add tokens to the other
    ready = prepare(config, splits, {}, tokenizer, POSITIONS)
    dropout = {"attention_dropout": config.model.dropout} if config.model.dropout else {}
    model = tiny_model(kind, initializer_range=0.1, **{**dropout, **changes})
    check(config, ready)
    display = (screen or Screen()).around()
    config = settle_layout(config, model, ready.longest, single_rank(), display.say)
    return Session(Run(path), config, ready, Loaded(model, own, "tiny"), display)


def state(trained: Session) -> dict[str, torch.Tensor]:
    """Copy all tensors that training changes."""
    optimizer = trained.learner.optimizer
    return {name: tensor.detach().clone() for name, tensor in (optimizer.masters | optimizer.state()).items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def log(trained: Session) -> list[dict[str, Any]]:
    lines = trained.run.metrics_file.read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


class Crash(BaseException):
    """Ends a process between two steps, as a kill does."""


def crash_at(step: int) -> Screen:
    def during(metrics: StepMetrics) -> None:
        if metrics.step == step:
            raise Crash

    return Screen(during)


def signal_at(step: int, number: int = signal.SIGTERM) -> Screen:
    def during(metrics: StepMetrics) -> None:
        if metrics.step == step:
            os.kill(os.getpid(), number)

    return Screen(during)

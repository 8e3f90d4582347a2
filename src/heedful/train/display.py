"""What a training speaks to and does not know: the screen, a bar, a sample prompt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch

from heedful.records import StepMetrics


class Bar(Protocol):
    """What shows the steps on a screen, and how many rows of a validation are done."""

    validation: float
    total: int  # of steps; a budget changes it on the way

    def step(self, metrics: StepMetrics) -> None: ...

    def validate(self, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Display:
    """What a session is given to speak with: lines, a live bar, and an answer to a sample prompt."""

    say: Callable[[str], None]
    bar: Callable[[int, int], AbstractContextManager[Bar]]
    sample: Callable[[torch.nn.Module], tuple[str, str]]

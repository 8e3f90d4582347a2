"""What a person sees of a training while it goes on: the bar, what is said, and a sample answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain

from transformers import PreTrainedModel

from heedful.config import Config
from heedful.encode.prepare import Prepared
from heedful.generate.engine import Engine
from heedful.report import screen, track
from heedful.report.bars import TrainingBar, training_bar
from heedful.run import Run
from heedful.train.display import Display


def terminal_display(config: Config, ready: Prepared, run: Run | None = None) -> Display:
    """Let the session speak to the terminal, send a run's numbers to its tracker, and show after each epoch how the
    first validation row is answered."""
    parts = ready.splits.validation, ready.splits.test, ready.splits.train
    fitted = replace(ready.encoder, long_rows="truncate").fitted  # a row that is too long to learn can be answered
    row = next(row for row in map(fitted, chain.from_iterable(parts)) if row is not None)

    def sample(model: PreTrainedModel) -> tuple[str, str]:
        completion = Engine(model, ready.encoder).generate([row.prompt], config.generate.sampling())[0]
        return row.messages[-2].content, completion.text

    @contextmanager
    def bar(total: int, done: int) -> Iterator[TrainingBar]:
        following = track.tracking(run, config) if run else nullcontext(lambda: None)
        with following as follow, training_bar(total, done, follow) as shown:
            yield shown

    return Display(screen.say, bar, sample)

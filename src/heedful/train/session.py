"""One training of one run: its state, and what the loop asks of it: validate, save, speak."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from heedful.config import Config, TrainConfig
from heedful.data.row_losses import RowLosses
from heedful.encode.prepare import Prepared, make_collator
from heedful.errors import ModelError, RunError
from heedful.model import pretrained
from heedful.model.adapters import adapt
from heedful.model.catalogue import from_anywhere
from heedful.model.pretrained import Loaded
from heedful.model.vocabulary import check_ids, fit_vocabulary
from heedful.model.weights import check_written
from heedful.records import Progress, StepMetrics
from heedful.run import Run, holds_run
from heedful.settings import override
from heedful.system.atomic import remove_leftovers
from heedful.system.heap import keep_freed_pages
from heedful.train import checkpoint, deadline, validation
from heedful.train.budget import Budget, Costs
from heedful.train.display import Bar, Display
from heedful.train.estimate import fit_to_memory
from heedful.train.gpu import check_gpu
from heedful.train.learner import Learner
from heedful.train.loop import Group, fit, total_steps, upcoming
from heedful.train.precision import dtype_of, resolve
from heedful.train.probe import attend_by_tree, tree_is_exact
from heedful.train.ranks import Ranks
from heedful.train.signals import Stop, listen

SAID = 300  # characters of a sample's prompt, and of its answer; metrics.jsonl has all
LOOKED_AT = 100  # rows, for tokens that the template writes and the model does not have


class Session:
    """Ties the learner to the run directory."""

    def __init__(
        self,
        run: Run,
        config: Config,
        ready: Prepared,
        loaded: Loaded,
        display: Display,
        ranks: Ranks | None = None,
    ) -> None:
        keep_freed_pages()
        self.run, self.config, self.ready, self.display = run, config, ready, display
        self.tokenizer = ready.encoder.tokenizer
        model, self.origin = loaded.model, from_anywhere(loaded.origin)
        added = fit_vocabulary(loaded, self.tokenizer)
        check_written(model, added, config.model.name)
        check_ids({int(i) for example in ready.train[:LOOKED_AT] for i in example.ids}, model)
        self.base_hash = pretrained.fingerprint(model)
        collator = make_collator(config, ready.encoder, config.encode.layout)
        model = adapt(model, config.train) if config.train.method == "lora" else model
        self.learner = Learner(model, collator, config.train, total_steps(len(ready.train), config.train), ranks)
        self.learner.on_less_memory = self._say_less_memory
        self.ranks = self.learner.ranks
        self.progress = Progress()
        self.losses: list[float] = []  # of every validation so far; one that was not finite is never the best
        self.best = math.inf  # of the validations that were reached by training, the loss whose weights are kept
        self.row_losses = RowLosses(run.row_losses_file, len(ready.train))
        self.costs = Costs()  # as last measured here
        self.budget: Budget | None = None
        self.totals: dict[int, int] = {}  # of steps, by the step from which each counts, as a budget decided
        self.bar: Bar
        self.stop: Stop

    @property
    def fingerprint(self) -> dict[str, str]:
        """What must be the same for a resumed run to be the run that was interrupted."""
        order = self.ready.order.fingerprint()
        return {"model": self.base_hash, "examples": self.ready.fingerprint()} | ({"order": order} if order else {})

    def begin(self) -> None:
        """Write the settings: from here on the folder holds a run."""
        if self.ranks.is_leader:
            for folder in (self.run.path, self.run.checkpoints, self.run.model):
                remove_leftovers(folder)
            for folder in (self.run.model.resolve(), self.run.adapter.resolve()):  # a link may lead elsewhere
                remove_leftovers(folder.parent, glob.escape(folder.name))
            self.ranks.note_begun(self.run.path)
            self.run.write_config(self.config)
            deadline.write_totals(self)

    def fit(self) -> int:
        """Train to the end, or until a signal on any rank; give the signal or 0."""
        deadline.take_up(self, self.progress.step)
        if self.progress.step >= self.learner.steps or validation.is_stale(self):
            return 0
        with self.display.bar(self.learner.steps, self.progress.step) as self.bar, listen() as self.stop:
            if self.progress.step == 0:
                self.validate(self.progress)
            return fit(self)

    def keep_row_losses(self, epoch: int, rows: list[int], nll: list[float], tokens: list[int]) -> None:
        """Keep what each row of an update cost."""
        if self.ranks.is_leader:
            self.row_losses.keep(epoch, rows, nll, tokens)

    def follow(self, metrics: StepMetrics) -> None:
        """Keep to a budget after an update, and show the update."""
        deadline.keep(self, metrics)
        self.bar.total = self.learner.steps
        self.bar.step(metrics)

    def log(self, event: Mapping[str, Any]) -> None:
        """Append an event to the run's metrics."""
        if self.ranks.is_leader:
            self.run.log(event)

    def validate(self, progress: Progress) -> bool:
        """Validate, and keep the best weights; say whether to give up."""
        with self.costs.timed("validation"):
            return bool(self.ready.validation) and validation.validate(self, progress)

    def sample(self, progress: Progress) -> None:
        """Answer the sample prompt, but not sharded: all ranks would have to answer together."""
        if not self.ranks.is_leader or self.learner.sharded:
            return
        with self.costs.timed("sample"):
            try:
                prompt, text = self.display.sample(self.learner.model)
            except ModelError as error:  # its weights blew up: the loss tells, and what was learned before is kept
                self.display.say(f"sample: none. {error.problem}")
                return
        self.log({"event": "sample", "step": progress.step, "prompt": prompt, "answer": text})
        told, answer = (said if len(said) <= SAID else f"{said[:SAID]} ..." for said in (prompt, text))
        self.display.say(f"sample: {told!r} -> {answer!r}")

    def interrupted(self) -> int:
        """Return the signal that any rank heard, or 0."""
        return self.ranks.all_reduce_max(self.stop.signal)

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, and remove old ones."""
        with self.costs.timed("save"):
            weights, moments = self.learner.weights(), self.learner.moments()
            if not self.ranks.is_leader:
                return
            folder = self.run.checkpoints / f"step-{progress.step:06d}"
            size = self.run.sync_metrics()
            self.row_losses.sync()
            checkpoint.save(folder, weights, moments, progress, size, self.fingerprint)
            checkpoint.prune(self.run.checkpoints)

    def settle(self, changes: Mapping[str, Any]) -> None:
        """Change settings on the way, here and, once the run has begun, for whoever resumes it."""
        self.config = override(self.config, changes)
        if self.ranks.is_leader and holds_run(self.run):
            self.run.write_config(self.config)

    def groups(self, start: Progress) -> Iterator[Group]:
        """Return the groups of all epochs, from `start` on."""
        return upcoming(self.ready.order, start, self.config.train.epochs)

    def _say_less_memory(self, tokens: int) -> None:
        """Say that forwards became smaller, and write it down for whoever resumes the run."""
        self.display.say(f"Memory ran out: from now on at most {tokens} tokens go into a forward.")
        if holds_run(self.run):
            self.log({"event": "memory", "batch_tokens": tokens})
        self.settle({"encode.batch_tokens": tokens})


def load_fitting(
    config: Config, name: str, model: PretrainedConfig, ready: Prepared, ranks: Ranks, say: Callable[[str], None]
) -> tuple[Config, Loaded]:
    """Load the model to be trained, by its name as it reads from here, and fit the settings to it and to this machine.

    What does not fit into memory is refused before a weight is read; in the padded layout, where the model forces that,
    afterwards.
    """
    free = ranks.free_memory()
    fitted = fit_to_memory(config, model, ready, free, ranks.count)
    nf4 = dtype_of(config.train) if config.train.quantize == "nf4" else None
    loaded = pretrained.load(name, config.model.dropout, nf4)
    laid_out = settle_layout(config, loaded.model, ready.longest, ranks, say)
    return fitted if laid_out == config else fit_to_memory(laid_out, model, ready, free, ranks.count), loaded


def settle_layout(
    config: Config, model: PreTrainedModel, longest: int, ranks: Ranks, say: Callable[[str], None]
) -> Config:
    """Return the settings with a layout that the model computes on every rank, and let it attend by the faster
    attention where that computes the same."""
    if config.encode.layout == "padded":
        return config
    is_exact = attend_by_tree(model, longest) or tree_is_exact(model, longest)
    if not ranks.all_reduce_max(int(not is_exact)):
        return config
    say(
        "This model gives other results for tree batches (an attention of its own, or it refuses 4-D masks): "
        "the padded layout is used."
    )
    return override(config, {"encode.layout": "padded"})


def check_machine(config: TrainConfig, ranks: Ranks) -> None:
    """Refuse what this machine or so many ranks cannot train."""
    resolve(config.precision)
    check_gpu(config)
    ranks.check(config)


def check(config: Config, ready: Prepared) -> None:
    """Refuse new tokens under adapters, and rows that do not fill an update."""
    added = ready.encoder.template.added
    if added and config.train.method == "lora":
        raise RunError(
            f"The template adds {added} tokens, which adapters would leave untrained.",
            "Choose --method full, or --set encode.template=alpaca.",
        )
    if total_steps(len(ready.train), config.train) == 0:
        raise RunError(
            f"{len(ready.train)} rows do not fill one update of {config.train.batch_size}.",
            "Lower train.batch_size, or set train.drop_last=false.",
        )

"""One training of one run: what the loop's hooks do, how it resumes, what it leaves behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from heedful import model as models
from heedful.config import Config, leaves, load_config
from heedful.data.row_losses import RowLosses
from heedful.encode.prepare import Prepared, make_collator
from heedful.errors import RunError, UsageError
from heedful.model import Loaded
from heedful.records import Progress, TokenizedExample
from heedful.run import Run, holds_run
from heedful.train import checkpoint
from heedful.train.attention import forget_masks
from heedful.train.checkpoint import Checkpoint
from heedful.train.display import Bar, Display
from heedful.train.learner import Learner
from heedful.train.loop import Group, Hooks, epoch_of, fit, total_steps, upcoming
from heedful.train.memory import give_back_pages, keep_freed_pages
from heedful.train.pace import Pace
from heedful.train.probe import attend_by_tree, tree_is_exact
from heedful.train.ranks import Ranks
from heedful.train.signals import listen


class Session:
    """Ties the learner to the run directory."""

    def __init__(
        self,
        run: Run,
        config: Config,
        ready: Prepared,
        loaded: Loaded,
        around: Display,
        ranks: Ranks | None = None,
    ) -> None:
        keep_freed_pages()
        self.run, self.config, self.ready, self.display = run, config, ready, around
        self.tokenizer = ready.encoder.tokenizer
        model, self.origin = loaded.model, loaded.origin
        models.fit_vocabulary(loaded, self.tokenizer)
        added = ready.encoder.template.added
        if added and config.train.method == "lora":
            raise RunError(
                f"The template adds {added} tokens, which adapters would leave untrained.",
                "Choose --method full, or --set encode.template=alpaca.",
            )
        steps = total_steps(len(ready.train), config.train)
        if steps == 0:
            raise RunError(
                f"{len(ready.train)} rows do not fill one update of {config.train.batch_size}.",
                "Lower train.batch_size, or set train.drop_last=false.",
            )
        self.weights = models.fingerprint(model)
        collator = make_collator(config, ready.encoder, self._layout(model))
        model = models.adapt(model, config.train) if config.train.method == "lora" else model
        self.learner = Learner(model, collator, config.train, steps, ranks)
        self.learner.on_less_memory = self._say_less_memory
        self.ranks = self.learner.ranks
        self.progress = Progress()
        self.losses: list[float] = []  # of every validation so far; one that was not finite is never the best
        self.row_losses = RowLosses(run.row_losses_file, len(ready.train))
        self.pace = Pace(self)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What must be the same for a resumed run to be the run that was interrupted."""
        order = self.ready.order.fingerprint()
        return {"model": self.weights, "examples": self.ready.fingerprint()} | ({"order": order} if order else {})

    def restore(self) -> None:
        """Continue from the newest intact checkpoint, or from the start; the leader reads it for all."""
        found: Checkpoint | None = None

        def look() -> tuple[dict[str, Any], list[float | None]]:
            nonlocal found
            found = self._newest()
            losses = [e["validation_loss"] for e in self.run.metrics() if e["event"] == "validation"]
            return asdict(found.progress if found else Progress()), losses

        progress, losses = self.ranks.broadcast(look)
        self.progress = Progress(**progress)
        if self.progress.step > self.learner.steps:
            raise UsageError(
                f"{self.run.path} made {self.progress.step} updates already, more than {self.learner.steps}.",
                "Leave train.epochs and train.max_steps as they were, or raise them.",
            )
        self.losses = [math.inf if loss is None else loss for loss in losses]
        if self.progress.step:
            self.learner.load(found.weights if found else {}, found.moments if found else {})

    def _newest(self) -> Checkpoint | None:
        """Find the checkpoint to continue from, and remove what the run left behind beyond it."""
        found = checkpoint.newest(self.run.checkpoints, self.display.say)
        if found is None:
            self.display.say("No checkpoint to resume from: starting at step 0.")
            checkpoint.forget_after(self.run.checkpoints, 0)
            self.run.cut_metrics(0)
            self.row_losses.forget_from(0)
            return None
        for name in sorted(found.fingerprint.keys() | self.fingerprint.keys()):
            if found.fingerprint.get(name) != self.fingerprint.get(name):
                raise RunError(
                    f"Cannot resume {self.run.path}: its {name} changed since {found.path.name} was saved.",
                    "Restore it, or start another run.",
                )
        checkpoint.forget_after(self.run.checkpoints, found.progress.step)
        self.run.cut_metrics(found.metrics_bytes)
        self._forget_rows(found.progress)
        self.display.say(f"Resuming from {found.path.name}.")
        return found

    def begin(self) -> None:
        """Write the settings: from here on the folder holds a run."""
        if self.ranks.is_leader:
            checkpoint.remove_leftovers(self.run.checkpoints)
            self.run.write_config(self.config)

    def fit(self) -> int:
        """Train to the end, or until a signal on any rank; give the signal or 0."""
        heard = 0
        self.pace.follow(self.progress.step)
        if self.progress.step >= self.learner.steps or self._stale():
            return 0
        with self.display.bar(self.learner.steps, self.progress.step) as bar, listen() as stop:
            validate = self.pace.timed("validation", self._validator(bar))
            if self.progress.step == 0:
                validate(self.progress)
            sample, save = self.pace.timed("sample", self._sample), self.pace.timed("save", self._save)

            def interrupted() -> bool:
                nonlocal heard
                heard = self.ranks.all_reduce_max(stop.signal)
                return heard > 0

            show = self.pace.show_hook(bar)
            hooks = Hooks(self._log, validate, sample, save, show, self._keep_row_losses, interrupted)
            self.progress = fit(
                self.learner, self.ready.train, self.ready.order, self.progress, self.config.train, hooks
            )
        forget_masks()
        return heard

    def export(self, extra: dict[str, Any], before: Callable[[], None] = lambda: None) -> None:
        """Write the run's model folder: the best or the last weights, adapters merged in; `before` as `models.save`."""
        masters = self.learner.weights()
        if not self.ranks.is_leader:
            return
        give_back_pages()  # of activations and gradients, before the weights are written in fp32
        best = checkpoint.best(self.run.checkpoints)
        if self.config.train.keep == "best" and best is None and self.losses:
            self.display.say("No validation was better than the one before training: the last weights are kept.")
        if self.config.train.keep == "best" and best is not None:
            checkpoint.verify(best)
            masters = load_file(best / "model.safetensors")
        model = self._tuned(masters)
        self.tokenizer.chat_template = self.ready.encoder.template.source
        model.generation_config = models.generation_config(self.tokenizer, self.ready.encoder.stop_ids)
        models.save(model, self.tokenizer, self.run.model, extra, before)
        checkpoint.prune(self.run.checkpoints, kept_steps=1)  # the run is whole; one is enough to train on from

    def _tuned(self, masters: dict[str, torch.Tensor]) -> PreTrainedModel:
        """Return the tuned model in fp32; adapters are merged into the base's own weights, which bf16 rounded."""
        lora = self.config.train.method == "lora"
        model = self.learner.model
        rounded = lora and (model.dtype != torch.float32 or self.config.train.quantize == "nf4")
        if self.learner.sharded or rounded:
            if model.dtype == torch.bfloat16 and not self.learner.sharded:
                for weight in model.parameters():  # the narrow base has done its work, and makes room for the wide one
                    weight.data = weight.data.new_empty(0)
            loaded = models.load(self.origin, self.config.model.dropout)
            models.fit_vocabulary(loaded, self.tokenizer)
            model = models.adapt(loaded.model, self.config.train) if lora else loaded.model
        parameters = dict(model.named_parameters())
        for name, master in masters.items():
            parameters[name].data = master
        if lora:
            with models.whole(self.run.path / "adapter") as folder:
                model.save_pretrained(folder)
            model = models.merge(model)
        return model

    def _layout(self, model: PreTrainedModel) -> str:
        """Choose the layout, and the attention that computes it, by asking the model."""
        layout = self.config.encode.layout
        longest = self.ready.longest
        if layout == "tree" and not (attend_by_tree(model, longest) or tree_is_exact(model, longest)):
            self.display.say(
                "This model does not compute a prefix tree as it computes separate rows (an attention of its own, or "
                "a mask that it refuses): the padded layout is used."
            )
            return "padded"
        return layout

    def _validator(self, bar: Bar) -> Callable[[Progress], bool]:
        """Return the hook that validates, keeps the best weights, and says when to give up."""

        def validate(progress: Progress) -> bool:
            if not self.ready.validation:
                return False
            event: dict[str, Any] = {
                "event": "validation",
                "step": progress.step,
                "epoch": epoch_of(progress.step, len(self.ready.train), self.config.train),
            }
            loss, targets = self.learner.validate(self.some(self.ready.validation))
            if self.config.train.evaluate_batches:
                event["train_loss"], _ = self.learner.validate(self._next_rows(progress))
            event |= {"validation_loss": loss, "targets": targets, "tokens": progress.tokens}
            self._log(event)
            bar.validation = loss
            self.display.say(f"step {progress.step}: validation loss {loss:.4f}")
            if progress.step and loss < min(self.losses, default=math.inf) and self.config.train.keep == "best":
                self._write_best(progress.step)
            self.losses.append(loss if math.isfinite(loss) else math.inf)
            return self._stale()

        return validate

    def _write_best(self, step: int) -> None:
        weights = self.learner.weights()
        if self.ranks.is_leader:
            checkpoint.write(self.run.checkpoints / f"best-{step:06d}", weights, state={"step": step})
            checkpoint.prune(self.run.checkpoints)

    def _stale(self) -> bool:
        """Say whether the last `patience` validations brought no new best."""
        patience, losses = self.config.train.patience, self.losses
        return patience is not None and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])

    def some(self, examples: Sequence[TokenizedExample]) -> Sequence[TokenizedExample]:
        """Return those of the examples that validation looks at."""
        limit = self.config.train.evaluate_batches
        return examples[: limit * self.config.train.batch_size] if limit else examples

    def _next_rows(self, progress: Progress) -> list[TokenizedExample]:
        """Return the first training rows of this epoch's order, as many as validation looks at."""
        start = Progress(epoch=min(progress.epoch, self.config.train.epochs - 1))
        groups = zip(self.groups(start), range(self.config.train.evaluate_batches or 1), strict=False)
        return [self.ready.train[i] for group, _ in groups for i in group.rows]

    def groups(self, start: Progress) -> Iterator[Group]:
        """Return the groups of the whole run, from `start` on."""
        return upcoming(self.ready.order, start, self.config.train.epochs, self.learner.steps)

    def _keep_row_losses(self, epoch: int, rows: list[int], nll: list[float], tokens: list[int]) -> None:
        if self.ranks.is_leader:
            self.row_losses.keep(epoch, rows, nll, tokens)

    def _forget_rows(self, progress: Progress) -> None:
        """Forget the losses of rows that will be trained on again."""
        epoch, rows = progress.epoch, progress.cursor * self.config.train.batch_size
        self.row_losses.forget_from(epoch, self.ready.order.epoch(epoch).rows[:rows].tolist())

    def _say_less_memory(self, tokens: int) -> None:
        """Say that forwards became smaller, and write it down for whoever resumes the run."""
        self.display.say(f"Memory ran out: from now on at most {tokens} tokens go into a forward.")
        if holds_run(self.run):
            self._log({"event": "memory", "batch_tokens": tokens})
        self.settle({"encode.batch_tokens": tokens})

    def settle(self, changes: Mapping[str, Any]) -> None:
        """Change settings on the way, here and, once the run has begun, for whoever resumes it."""
        self.config = load_config(None, leaves(self.config), changes)
        if self.ranks.is_leader and holds_run(self.run):
            self.run.write_config(self.config)

    def _log(self, event: Mapping[str, Any]) -> None:
        if self.ranks.is_leader:
            self.run.log(event)

    def _sample(self, progress: Progress) -> None:
        if not self.ranks.is_leader or self.learner.sharded:  # which could only answer together
            return
        sample = self.display.sample(self.learner.model)
        if sample is not None:
            prompt, text = sample
            self._log({"event": "sample", "step": progress.step, "prompt": prompt, "answer": text})
            self.display.say(f"sample: {prompt!r} -> {text!r}")

    def _save(self, progress: Progress) -> None:
        weights, moments = self.learner.weights(), self.learner.moments()
        if not self.ranks.is_leader:
            return
        folder = self.run.checkpoints / f"step-{progress.step:06d}"
        size = self.run.sync_metrics()
        self.row_losses.sync()
        checkpoint.save(folder, weights, moments, progress, size, self.fingerprint)
        checkpoint.prune(self.run.checkpoints)

"""A model that learns: weights, optimizer, schedule, and the share of the work that falls to this rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from heedful.config import TrainConfig
from heedful.encode.batch import Collator
from heedful.errors import ModelError, RunError
from heedful.records import Batch, SupervisedTokens, TokenizedExample
from heedful.train import precision
from heedful.train.attention import forget_masks
from heedful.train.deal import assign_rows
from heedful.train.eight_bit import EightBitAdamW
from heedful.train.embedding import RowGradient
from heedful.train.layers import fuse_layers
from heedful.train.loss import example_nll, prediction_nll, summed_nll
from heedful.train.memory import halved, is_out_of_memory
from heedful.train.optimizer import MasterAdamW, Tensors
from heedful.train.ranks import Ranks, shard, single_rank

DRAWING = "PhimoeTopKRouter"  # in training mode it draws experts at random, in the other it chooses them
VALIDATED = 512  # examples that are laid out together; those that begin alike share nodes


class _Nll(NamedTuple):
    """What examples cost, in nats: `group` sums over all weighted targets, `rows` over each one's supervised tokens."""

    group: float
    rows: list[float]


class Learner:
    """One optimizer step at a time over a group of examples, with one denominator for all of them on all ranks."""

    def __init__(
        self, model: PreTrainedModel, collator: Collator, config: TrainConfig, steps: int, ranks: Ranks | None = None
    ) -> None:
        self.config, self.collator, self.steps, self.ranks = config, collator, steps, ranks or single_rank()
        self.sharded = config.sharding == "full"
        dtype = precision.dtype_of(config)
        if config.activation_checkpointing:
            _checkpoint_activations(model)
        for frozen in (p for p in model.parameters() if not p.requires_grad and p.is_floating_point()):
            frozen.data = frozen.data.to(dtype)
        base: PreTrainedModel = model.get_base_model() if config.method == "lora" else model
        if dtype != torch.float32:
            precision.convert_buffers(base, dtype)
        self.model = model
        self.drawing = [part for part in model.modules() if type(part).__name__ == DRAWING]
        if self.sharded:
            shard(model, set(base._no_split_modules or ()), self.ranks, dtype)
        else:
            model.to(self.ranks.device)
            fuse_layers(model)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        # A rank's share stays in fp32, as its own master: FSDP rounds what it gathers.
        kind = EightBitAdamW if config.optimizer == "adamw_8bit" else MasterAdamW
        self.optimizer = kind(self.parameters, config, torch.float32 if self.sharded else dtype)
        self.embedding = None if self.sharded else RowGradient(model)
        self.on_less_memory: Callable[[int], None] = lambda tokens: None  # is told the new limit of a forward

    def lr(self, step: int) -> float:
        """Return the learning rate of update `step` (from 0)."""
        return self.config.peak_lr * schedule(self.config, step, self.steps)

    def accumulate(self, examples: Sequence[TokenizedExample], step: int) -> tuple[float, list[float]]:
        """Accumulate the gradient of a group's mean loss.

        Give that loss in nats per (weighted) target, and each example's in nats over its supervised tokens. Where
        memory runs out, the same group is tried again in smaller forwards.
        """
        weight = self.collator.weight(examples)
        while (nll := self._try_accumulate(examples, step, weight)) is None:
            self._clear()
            self.collator = halved(self.collator, examples)
            self.on_less_memory(self.collator.batch_tokens)
        return nll.group / weight, nll.rows

    def _try_accumulate(self, examples: Sequence[TokenizedExample], step: int, weight: float) -> _Nll | None:
        """Add up the gradient and the loss over all ranks; None if memory ran out on one."""
        share, out_of_memory = _Nll(0.0, [0.0] * len(examples)), 0
        try:
            share = self._forwards(examples, step, weight)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if self.sharded:
                raise RunError(
                    f"Memory ran out on rank {self.ranks.rank}, in the middle of a forward that all ranks compute.",
                    "Lower encode.batch_tokens and continue with --resume.",
                ) from error
            out_of_memory = 1
        if self.ranks.all_reduce_max(out_of_memory):
            return None
        if not self.sharded:
            self._add_up_gradients()
        group, *rows = self.ranks.all_reduce_sum(share.group, *share.rows)
        return _Nll(group, rows)

    def _forwards(self, examples: Sequence[TokenizedExample], step: int, weight: float) -> _Nll:
        """Differentiate this rank's share of a group's loss, and return it; rows of other ranks have 0."""
        self.model.train()
        for part in self.drawing:
            part.eval()
        torch.manual_seed(hash((self.config.seed, step, self.ranks.rank)))  # dropout
        nll = torch.zeros((), device=self.ranks.device)
        mine = assign_rows(examples, self.ranks.count, self.collator)[self.ranks.rank]
        done: list[tuple[SupervisedTokens, torch.Tensor]] = []
        for batch, contributes in self._batches(self.collator, [examples[i] for i in mine], examples[0]):
            if done and not self.sharded:
                self.optimizer.fold()
            moved = batch.to(self.ranks.device)
            each = prediction_nll(self.model, moved)
            part = (each * moved.predictions.weight).sum() * contributes
            self._backward(part, weight)
            nll += part.detach()
            if contributes:
                done.append((batch.supervised, each.detach()))
            del batch, moved  # with its mask, before the next is laid out
            forget_masks()
        rows: dict[str, float] = {}
        for supervised, each in done:  # only now, since to read a loss is to wait for the GPU
            rows |= zip(supervised.ids, example_nll(supervised, each), strict=True)
        return _Nll(float(nll), [rows.get(example.id, 0.0) for example in examples])

    def _backward(self, part: torch.Tensor, weight: float) -> None:
        """Add the gradient of one forward's part of the loss to the group's."""
        # FSDP gives the mean of the ranks' gradients; the loss is a sum over them.
        (part * ((self.ranks.count if self.sharded else 1) / weight)).backward()  # type: ignore[no-untyped-call]
        if self.embedding is not None:
            self.embedding.add()

    def update(self, step: int, loss: float) -> float:
        """Clip, step and clear the gradient; give its norm. A loss or norm that is not finite changes nothing."""
        norm = self.optimizer.norm((lambda squares: self.ranks.all_reduce_sum(squares)[0]) if self.sharded else float)
        if math.isfinite(norm) and math.isfinite(loss):
            limit = self.config.clip or math.inf
            self.optimizer.step(self.lr(step), min(1.0, limit / (norm + 1e-6)))
        self._clear()
        return norm

    def _clear(self) -> None:
        """Forget the gradient, and what a forward that was broken off left of it."""
        self.optimizer.clear()
        forget_masks()
        if self.embedding is not None:
            self.embedding.seen.clear()

    def validate(
        self, examples: Sequence[TokenizedExample], on_done: Callable[[int], None] = lambda rows: None
    ) -> tuple[float, int]:
        """Return the loss in nats per supervised token over all examples, and the number of those tokens.

        After each forward, `on_done` takes how many of the examples this rank is done with.
        """
        nll, weight, targets, done = 0.0, 0.0, 0, 0
        collator = replace(self.collator, prompt_weight=0.0)
        some = VALIDATED * self.ranks.count  # at a time, as all may not fit into memory
        self.model.eval()
        with torch.no_grad() if self.sharded else torch.inference_mode():  # FSDP keeps what it gathers into
            for start in range(0, len(examples), some):
                mine = range(start, min(start + some, len(examples)))[self.ranks.rank :: self.ranks.count]
                for batch, contributes in self._batches(collator, [examples[i] for i in mine], examples[0]):
                    nll += float(summed_nll(self.model, batch.to(self.ranks.device))) * contributes
                    weight += batch.weight * contributes
                    targets += batch.targets * contributes
                    done += len(batch.supervised.ids) * contributes
                    del batch  # with its mask, before the next is laid out
                    forget_masks()
                    on_done(done)
        nll, weight, total = self.ranks.all_reduce_sum(nll, weight, targets)
        return nll / weight, int(total)

    def weights(self) -> Tensors:
        """Give the leader the masters of all trained weights, whole."""
        return self.ranks.gather(self.optimizer.masters)

    def moments(self) -> Tensors:
        """Give the leader the optimizer's state, whole."""
        return self.ranks.gather(self.optimizer.state())

    def load(self, weights: Mapping[str, torch.Tensor], moments: Mapping[str, torch.Tensor]) -> None:
        """Continue from what the leader read; the other ranks give nothing."""
        self.optimizer.load(weights, moments, self.ranks.scatter_into)

    def _batches(
        self, collator: Collator, mine: Sequence[TokenizedExample], other: TokenizedExample
    ) -> Iterator[tuple[Batch, int]]:
        """Yield (batch, 1) for each of this rank's forwards.

        Sharded ranks must all run equally many, so one with fewer repeats its last (with none, it computes `other`) as
        (batch, 0), which counts nothing.
        """
        if not self.sharded:
            laid_out = collator.batches(mine) if mine else ()
            yield from map(lambda batch: (batch, 1), laid_out)  # noqa: C417 (it would keep one until the next is there)
            return
        batches = list(collator.batches(mine)) if mine else []
        # Before the first forward, in which ranks wait for each other.
        most = self.ranks.all_reduce_max(len(batches))
        spare = batches[-1] if batches else next(collator.batches([other]))
        yield from ((batch, 1) for batch in batches)
        yield from [(spare, 0)] * (most - len(batches))

    def _add_up_gradients(self) -> None:
        """Give every rank the sum of the ranks' gradients in fp32, the same bits on each however many forwards it took;
        what no rank has a gradient of stays without."""
        if self.ranks.count == 1:
            return
        self.optimizer.fold()
        sums = self.optimizer.sums
        holders = self.ranks.all_reduce_sum(*(float(name in sums) for name in self.parameters))
        for (name, p), held in zip(self.parameters.items(), holders, strict=True):
            if held and name not in sums:
                sums[name] = torch.zeros_like(p, dtype=torch.float32)
        self.ranks.all_reduce_([gradient for _, gradient in self.optimizer.gradients()])


def schedule(config: TrainConfig, step: int, steps: int) -> float:
    """Give the share of the peak learning rate at update `step`: a linear warm-up, then constant or a fall to zero."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return falls[config.schedule]


def _checkpoint_activations(model: PreTrainedModel) -> None:
    """Let the model forget what its layers compute, and compute it again in the backward pass."""
    try:
        model.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        raise ModelError(
            f"{model.config.model_type} models cannot compute their layers a second time.",
            "Leave train.activation_checkpointing at false.",
        ) from error

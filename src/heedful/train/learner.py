"""A model that learns: weights, optimizer, schedule and devices. The only place that knows ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import PreTrainedModel

from heedful.config import TrainConfig
from heedful.encode.batch import Collator
from heedful.records import Batch, Predictions, TokenizedExample
from heedful.train import precision
from heedful.train.embedding import RowGradient
from heedful.train.loss import example_nll, prediction_nll, summed_nll
from heedful.train.memory import halved, is_out_of_memory
from heedful.train.optimizer import MasterAdamW

DEFAULT_LR = {"full": 1e-4, "lora": 1e-3}


class Learner:
    """One optimizer step at a time over a group of examples, with one denominator for all of them."""

    def __init__(self, model: PreTrainedModel, collator: Collator, config: TrainConfig, steps: int) -> None:
        self.config, self.collator, self.steps = config, collator, steps
        dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision.resolve(config.precision)]
        AcceleratorState._reset_state()  # a process may train twice, on other devices
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        model = model.to(self.accelerator.device)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = MasterAdamW(self.parameters, config, dtype)
        for frozen in (p for p in model.parameters() if not p.requires_grad):
            frozen.data = frozen.data.to(dtype)
        # Across ranks the table's gradient has to be whole before it is reduced.
        self.rows = RowGradient(model) if self.ranks == 1 else None
        self.model = self.accelerator.prepare(model)
        self.row_nll: list[float] = []  # of the last group's examples: the NLL of all their supervised tokens
        self.on_less_memory: Callable[[int], None] = lambda tokens: None  # hears the new limit of a forward

    @property
    def ranks(self) -> int:
        return int(self.accelerator.num_processes)

    def lr(self, step: int) -> float:
        """Give the learning rate of update `step` (from 0)."""
        peak = self.config.lr or DEFAULT_LR[self.config.method]
        return peak * schedule(self.config, step, self.steps)

    def learn(self, examples: Sequence[TokenizedExample], step: int) -> float:
        """Accumulate the gradient of a group's mean loss; give that loss in nats per (weighted) target.

        Where memory runs out, the same group is tried again in smaller forwards.
        """
        while True:
            try:
                return self._learn(examples, step)
            except (MemoryError, RuntimeError) as error:
                if self.ranks > 1 or not is_out_of_memory(error):
                    raise
            self.optimizer.clear()
            if self.rows is not None:
                self.rows.seen.clear()
            self.collator = halved(self.collator, examples)
            self.on_less_memory(self.collator.batch_tokens)

    def _learn(self, examples: Sequence[TokenizedExample], step: int) -> float:
        self.model.train()
        torch.manual_seed(hash((self.config.seed, step, self.accelerator.process_index)))  # dropout
        weight = self.collator.weight(examples)
        nll = torch.zeros((), device=self.accelerator.device)
        each_nll: list[torch.Tensor] = []
        batches = list(self.collator.batches(examples[self.accelerator.process_index :: self.ranks]))
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            with self._sync_on(last):
                moved = self._move(batch)
                each = prediction_nll(self.model, moved)
                part = (each * moved.predictions.weight).sum()
                # DDP averages the ranks' gradients; the loss is a sum over them.
                self.accelerator.backward(part * (self.ranks / weight))
            if self.rows is not None:
                self.rows.add()
                if not last:
                    self.optimizer.fold()
            nll += part.detach()
            each_nll.append(each.detach())
        rows: dict[str, float] = {}
        for batch, each in zip(batches, each_nll, strict=True):  # only now, as an accelerator would have to wait for it
            rows |= example_nll(batch.runs, each)
        sums = torch.tensor([float(nll), *(rows.get(e.id, 0.0) for e in examples)], dtype=torch.float64)
        total, *self.row_nll = self.accelerator.reduce(sums.to(self.accelerator.device)).tolist()
        return float(total) / weight

    def update(self, step: int, loss: float) -> float:
        """Clip, step and clear the gradient; give its norm. A loss or norm that is not finite changes nothing."""
        norm = self.optimizer.norm()
        if math.isfinite(norm) and math.isfinite(loss):
            limit = self.config.clip or math.inf
            self.optimizer.step(self.lr(step), min(1.0, limit / (norm + 1e-6)))
        self.optimizer.clear()
        return norm

    def validate(self, examples: Iterable[TokenizedExample]) -> tuple[float, int]:
        """Give the loss in nats per supervised token over all examples, and the number of those tokens."""
        nll, weight, targets = 0.0, 0.0, 0
        self.model.eval()
        with torch.inference_mode():
            for batch in replace(self.collator, prompt_weight=0.0).batches(list(examples)):
                nll += float(summed_nll(self.model, self._move(batch)))
                weight += batch.weight
                targets += batch.targets
        return nll / weight, targets

    def _sync_on(self, last: bool):  # type: ignore[no-untyped-def]  # accelerate's context is untyped
        return torch.enable_grad() if last else self.accelerator.no_sync(self.model)

    def _move(self, batch: Batch) -> Batch:
        device = self.accelerator.device
        if device.type == "cpu":
            return batch
        p = batch.predictions
        predictions = Predictions(p.source.to(device), p.target.to(device), p.weight.to(device))
        return replace(
            batch,
            input_ids=batch.input_ids.to(device),
            position_ids=batch.position_ids.to(device),
            attention=batch.attention.to(device),
            predictions=predictions,
        )


def schedule(config: TrainConfig, step: int, steps: int) -> float:
    """Give the share of the peak learning rate at update `step`: a linear warm-up, then the chosen fall to zero."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return falls[config.schedule]

"""TRL's SFTTrainer on rows that are tokenised and labelled already; its settings come with the task."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.child import Missing, Task, run
from benchmarks.contestants.trainer_training import Clock, Counting, arguments, labelled, outcome


def train(task: Task) -> dict[str, Any]:
    """Train; with packing, an update holds as many rows as fit, and its seconds are scaled to 8 of them."""
    try:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise Missing(f"{error.name} is not installed: pip install -e '.[bench]'") from error
    warnings.simplefilter("ignore")
    attention = task.settings.get("attention", "sdpa")
    model = AutoModelForCausalLM.from_pretrained(
        task.workload.model, dtype=torch.float32, attn_implementation=attention
    )
    tokenizer = AutoTokenizer.from_pretrained(task.workload.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        given = {"max_length": None, **arguments(task, folder)}
        trainer = SFTTrainer(
            model,
            args=SFTConfig(**given),
            train_dataset=Dataset.from_list(labelled(task)),
            processing_class=tokenizer,
            callbacks=[clock],
            peft_config=_adapters(task),
        )
        counts = trainer.data_collator = Counting(trainer.data_collator)
        trainer.train()
    result = outcome(task, trainer, clock, counts)
    if given.get("packing"):
        rows = counts.rows[task.warm_up : task.units]
        result["seconds"] = [s * 8 / n for s, n in zip(result["seconds"], rows, strict=True)]
        result["rows"] = rows
    return result


def _adapters(task: Task) -> Any:
    if not task.settings.get("lora"):
        return None
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


if __name__ == "__main__":
    run(train)

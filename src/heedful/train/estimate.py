"""The memory that a training will need, from the model's configuration alone: before a weight is read.

Held to the end: fp32 masters and their two moments, the working copy, a gradient. Held in a forward: what autograd
keeps at each node, counted by running the model without numbers (torch's meta device), and the logits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.pytorch_utils import Conv1D

from heedful.config import Config, TrainConfig
from heedful.encode.batch import MOST_TOKENS, plan
from heedful.encode.prepare import Prepared, make_collator
from heedful.errors import RunError
from heedful.train import precision
from heedful.train.loss import NODES, takes_positions

BYTES = {"fp32": 4, "bf16": 2}
LOOKED_AT = 100  # updates whose largest forward is taken for the run's
FEWEST = 16  # tokens of a forward that are worth asking for
PROBE = (32, 96)  # nodes of two forwards, whose difference is what a node costs


@dataclass(frozen=True)
class Need:
    """Bytes of memory, by what they are for."""

    weights: int  # what the model computes with
    masters: int  # in fp32, with AdamW's two moments
    gradients: int
    node: int  # what autograd keeps at a node
    logits: int  # at a node that predicts, with their gradient
    workspace: int  # of the loss's pieces

    @property
    def fixed(self) -> int:
        return self.weights + self.masters + self.gradients + self.workspace

    def at(self, nodes: int, predicting: float) -> int:
        """Give the most that is held at once, where so many nodes are in a forward and a share of them predicts."""
        return self.fixed + int(nodes * (self.node + predicting * self.logits))

    def room(self, free: int, predicting: float) -> int:
        """Give how many nodes a forward may have within so many bytes."""
        return int((free - self.fixed) / (self.node + predicting * self.logits))

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def estimate(model: PretrainedConfig, config: TrainConfig, dtype: Literal["fp32", "bf16"] | None = None) -> Need:
    """Count what training a model of this configuration holds."""
    dtype = dtype or precision.resolve(config.precision)
    wide = BYTES[dtype]
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(model, dtype=torch.float32 if dtype == "fp32" else torch.bfloat16)
    parameters = sum(p.numel() for p in empty.parameters())
    trained = _adapters(empty, config.lora_rank) if config.method == "lora" else parameters
    adapters = trained if config.method == "lora" else 0
    vocabulary = empty.get_input_embeddings().weight.shape[0]
    own = 0 if dtype == "fp32" and config.method == "full" else wide  # in fp32 the weight is its own master
    return Need(
        weights=own * (parameters + adapters),
        masters=12 * trained,
        gradients=wide * trained,
        node=_kept_at_a_node(empty),
        logits=2 * wide * vocabulary,
        workspace=2 * 4 * NODES * vocabulary,
    )


def fit_to_memory(config: Config, model: PretrainedConfig, ready: Prepared, free: int, ranks: int = 1) -> Config:
    """Resolve `encode.batch_tokens`; refuse what `free` bytes cannot hold, naming the nearest setting that they can."""
    need, share = estimate(model, config.train), predicting(ready)
    room, asked = need.room(free, share), config.encode.batch_tokens
    if asked == "auto":
        nodes, tokens = ready.longest, min(MOST_TOKENS, max(room, ready.longest, FEWEST))
    else:
        nodes, tokens = max(ready.longest, min(asked, ready.longest * config.train.batch_size)), asked
    if nodes <= room:
        return config.model_copy(
            update={"encode": config.encode.model_copy(update={"batch_tokens": tokens})},
        )
    adapters = estimate(model, config.train.model_copy(update={"method": "lora"})).room(free, share)
    if ready.longest <= room:
        fix = f"Set encode.batch_tokens={room}."
    elif config.train.method == "full" and ready.longest <= adapters:
        fix = "Set train.method=lora."
    else:
        fix = f"Set encode.max_tokens={room}." if room >= FEWEST else "Choose a smaller model, or a larger machine."
    raise RunError(
        f"Training {config.model.name} needs {need.at(nodes, share) / 2**30:.1f} GiB of memory; "
        f"{free / 2**30:.1f} GiB are free.",
        fix,
    )


def heaviest(config: Config, ready: Prepared) -> tuple[int, float]:
    """Give the nodes of the largest forward of the first updates, and the share of them that predict."""
    train, collator = config.train, make_collator(config, ready.encoder, config.encode.layout)
    groups = plan(len(ready.train), train.batch_size, train.seed, 0)[:LOOKED_AT]
    batches = (batch for rows in groups for batch in collator.batches([ready.train[i] for i in rows]))
    nodes, learned = max((batch.input_ids.numel(), len(set(batch.predictions.source.tolist()))) for batch in batches)
    return nodes, learned / nodes


def predicting(ready: Prepared) -> float:
    """Give the share of tokens that a prediction starts from."""
    encoding = ready.receipt["encoding"]
    answers, prompts = encoding["answer_tokens"]["sum"], encoding["prompt_tokens"]["sum"]
    return float(answers / (answers + prompts))


def _adapters(model: torch.nn.Module, rank: int) -> int:
    """Count the numbers of low-rank adapters beside every linear layer but the head."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    layers = (m for m in model.modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head)
    return sum(rank * sum(layer.weight.shape) for layer in layers)


def _kept_at_a_node(model: torch.nn.Module) -> int:
    """Give the bytes that autograd keeps for each node between forward and backward."""
    few, many = (_kept(model, nodes) for nodes in PROBE)
    return (many - few) // (PROBE[1] - PROBE[0])


def _kept(model: torch.nn.Module, nodes: int) -> int:
    """Run a forward without numbers; count the bytes of what it keeps besides the weights."""
    kept: dict[int, tuple[torch.UntypedStorage, int]] = {}  # the storage stays, so that its address is not used again
    weights = {p.untyped_storage()._cdata for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage, storage.nbytes()
        return tensor

    ids = torch.zeros((1, nodes), dtype=torch.int64, device="meta")
    places = torch.zeros((1, nodes), dtype=torch.int64, device="meta")
    sees = torch.ones((1, 1, nodes, nodes), dtype=torch.bool, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, position_ids=places, attention_mask=sees, use_cache=False, **_last_logits(model))
    return sum(size for _, size in kept.values())


def _last_logits(model: torch.nn.Module) -> dict[str, int]:
    return {"logits_to_keep": 1} if takes_positions(model) else {}

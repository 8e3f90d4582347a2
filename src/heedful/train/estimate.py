"""The memory that a training will need, from the model's configuration alone: before a weight is read.

Held to the end: fp32 masters and their two moments, the working copy, a gradient. Held in a forward: what autograd
keeps at each node, counted by running the model without numbers (torch's meta device), the logits, and at each pair of
nodes the masks: what sees what, and the same in numbers to add to scores. All of it is told for one rank: each holds
the whole, or under `train.sharding=full` its share and the layers at work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from heedful.config import Config, TrainConfig
from heedful.encode.batch import MOST_TOKENS
from heedful.encode.prepare import Prepared, make_collator
from heedful.errors import RunError
from heedful.model.adapters import adapted
from heedful.model.causal import takes
from heedful.model.vocabulary import vocabulary_size
from heedful.settings import override
from heedful.train.loss import NODES
from heedful.train.precision import DTYPES, Precision, resolve

LOOKED_AT = 100  # updates whose largest forward is taken for the run's
FEWEST = 16  # tokens of a forward that are worth asking for
OUTSIDE = 4  # states of a node that are kept outside of layers
FALLBACK = 2  # assumed if counting fails: a node keeps 2 times the inputs and outputs of all matrices; llamas keep 1.2
PROBE = (32, 96)  # nodes of two forwards, whose difference is what a node costs


@dataclass(frozen=True)
class Need:
    """Bytes of memory, by what they are for."""

    weights: int  # what the model computes with
    masters: int  # in fp32, with AdamW's two moments
    gradients: int
    sums: int  # of gradients in fp32, beside those of a forward that is at work, where an update takes several
    node: int  # what autograd keeps at a node
    pair: int  # the masks, at each pair of nodes
    logits: int  # at a node that predicts, with their gradient
    workspace: int  # of the loss's pieces
    loading: int  # in fp32, before training begins; a GPU's memory sees nothing of it
    probe: int  # the masks while probe.py runs, at each pair of nodes of a row: its tree has 2.25 times as many pairs

    @property
    def fixed(self) -> int:
        return self.weights + self.masters + self.gradients + self.workspace

    def of_several(self) -> Need:
        """Return what is needed where an update takes several forwards."""
        return replace(self, gradients=self.gradients + self.sums, sums=0)

    def at(self, nodes: int, predicting: float) -> int:
        """Return the most that is held at once, where so many nodes are in a forward and a share of them predicts."""
        training = self.fixed + int(nodes * (self.node + predicting * self.logits)) + self.pair * nodes**2
        return max(self.loading + self.probe * nodes**2, training)

    def room(self, free: int, predicting: float) -> int:
        """Return how many nodes a forward may have within so many bytes."""
        left, node = max(0, free - self.fixed), self.node + predicting * self.logits
        training = 2 * left / (node + math.sqrt(node**2 + 4 * self.pair * left))  # node * n + pair * n^2 = left
        probed = math.sqrt(max(0, free - self.loading) / self.probe) if self.probe else math.inf
        return int(min(training, probed))


def estimate(model: PretrainedConfig, config: TrainConfig, precision: Precision | None = None, ranks: int = 1) -> Need:
    """Count what one of the ranks that train a model of this configuration holds."""
    dtype = DTYPES[precision or resolve(config.precision)]
    wide, gpu = dtype.itemsize, torch.cuda.is_available()
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(model, dtype=dtype)
    parameters = sum(p.numel() for p in empty.parameters())
    trained = _in_adapters(empty, config.lora_rank) if config.method == "lora" else parameters
    adapters = trained if config.method == "lora" else 0
    vocabulary = vocabulary_size(empty)
    packed = _in_linears(empty) if config.quantize == "nf4" else 0  # numbers of 4 bits, with scales of an eighth bit
    master = 6 if config.optimizer == "adamw_8bit" else 12
    own = 0 if dtype == torch.float32 and config.method == "full" else wide  # in fp32 the weight is its own master
    need = Need(
        weights=own * (parameters + adapters - packed) + packed * 33 // 64,
        masters=master * trained,
        gradients=wide * trained if ranks == 1 else 4 * trained,  # ranks add up theirs in fp32
        sums=4 * trained if ranks == 1 else wide * trained,
        node=_kept_with_checkpointing(empty) if config.activation_checkpointing else _kept_at_a_node(empty),
        pair=1 + wide * _masks(empty, gpu and not config.activation_checkpointing),
        logits=2 * wide * vocabulary,
        workspace=2 * 4 * NODES * vocabulary,
        loading=0 if gpu else 4 * (parameters - packed) + packed * 33 // 64,
        probe=0 if gpu else (1 + 4 * _masks(empty)) * 9 // 4,
    )
    if config.sharding == "full":
        need = replace(need, gradients=4 * trained, sums=0)  # summed in fp32, each rank its share
        return _share(need, empty, wide * (parameters - trained + adapters), ranks)
    return need


def _share(need: Need, model: PreTrainedModel, frozen: int, ranks: int) -> Need:
    """Divide what ranks share out, and add what each gathers: the layers at work, and what lies outside of layers."""
    blocks = _blocks(model)
    inside = [sum(p.numel() for p in block.parameters()) for block in blocks]
    outside = sum(p.numel() for p in model.parameters()) - sum(inside)
    wide = next(model.parameters()).element_size()
    gathered = 2 * wide * (outside + 2 * max(inside, default=0))  # with gradients; the next layer is fetched early
    return replace(
        need,
        weights=frozen // ranks + gathered,
        masters=need.masters // ranks,
        gradients=need.gradients // ranks,
    )


def fit_to_memory(config: Config, model: PretrainedConfig, ready: Prepared, free: int, ranks: int = 1) -> Config:
    """Resolve `encode.batch_tokens`; refuse what `free` bytes cannot hold, naming the nearest setting that they can."""
    of_one, share = estimate(model, config.train, ranks=ranks), predicting(config, ready)
    of_several, whole, asked = of_one.of_several(), largest_update(config, ready), config.encode.batch_tokens
    auto, most = asked == "auto", MOST_TOKENS if asked == "auto" else asked
    in_one = whole <= most and (not auto or whole <= of_one.room(free, share))  # every update is one forward
    if in_one:
        need, nodes = of_one, whole
    else:
        need, nodes = of_several, ready.longest if auto else max(ready.longest, most)
    room = need.room(free, share)
    if nodes <= room:
        return override(config, {"encode.batch_tokens": min(most, max(room, FEWEST)) if auto else asked})
    room = of_several.room(free, share)  # what is advised makes several of an update
    lora = estimate(model, config.train.model_copy(update={"method": "lora"}), ranks=ranks).of_several()
    if ready.longest <= room:
        fix = f"Set encode.batch_tokens={room}."
    elif config.train.method == "full" and ready.longest <= lora.room(free, share):
        fix = "Set train.method=lora."
    else:
        fix = f"Set encode.max_tokens={room}." if room >= FEWEST else "Choose a smaller model, or a larger machine."
    raise RunError(
        f"Training {config.model.name} needs {need.at(nodes, share) / 2**30:.1f} GiB of memory; "
        f"{free / 2**30:.1f} GiB are free.",
        fix,
    )


def largest_update(config: Config, ready: Prepared) -> int:
    """Return the most tokens, with padding if there is any, of an update of the first epoch, were none shared; at least
    those of the longest row."""
    tokens = ready.train.tokens[ready.order.epoch(0).rows]
    firsts = np.arange(0, len(tokens), config.train.batch_size)
    padded = config.encode.layout == "padded"
    rows = np.diff(firsts, append=len(tokens))
    updates = rows * np.maximum.reduceat(tokens, firsts) if padded else np.add.reduceat(tokens, firsts)
    return int(updates.max(initial=ready.longest))


def heaviest(config: Config, ready: Prepared) -> tuple[int, float, bool]:
    """Return the nodes of the largest forward of the first updates, the share of them that predict, and whether an
    update takes several."""
    collator, groups = make_collator(config, ready.encoder, config.encode.layout), ready.order.epoch(0)[:LOOKED_AT]
    sizes = [
        (batch.input_ids.numel(), len(set(batch.predictions.source.tolist())))
        for rows in groups
        for batch in collator.batches([ready.train[i] for i in rows])
    ]
    nodes, learned = max(sizes)
    return nodes, learned / nodes, len(sizes) > len(groups)


def predicting(config: Config, ready: Prepared) -> float:
    """Return the share of nodes whose logits are computed, at most: the rows of a tree may share their prompt."""
    encode = config.encode
    if encode.supervise == "all" or encode.prompt_weight or encode.layout == "padded":
        return 1.0  # (nearly) every node predicts
    answers, tokens = int(ready.train.answer_tokens.sum()), int(ready.train.tokens.sum())
    return answers / (answers + (tokens - answers) / config.train.batch_size)


def _in_adapters(model: PreTrainedModel, rank: int) -> int:
    """Count the numbers of low-rank adapters; the matrices of several experts are held as [experts, out, in]."""
    layers, parameters = adapted(model)
    shapes = [model.get_parameter(name).shape for name in [f"{layer}.weight" for layer in layers] + parameters]
    return sum(rank * math.prod(shape[:-2]) * sum(shape[-2:]) for shape in shapes)


def _in_linears(model: PreTrainedModel) -> int:
    """Count the numbers of every linear layer but the head."""
    head = model.get_output_embeddings()
    linears = (m for m in model.modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head)
    return sum(layer.weight.numel() for layer in linears)


def _blocks(model: PreTrainedModel) -> list[torch.nn.Module]:
    """List the repeated layers of a model."""
    return [m for m in model.modules() if type(m).__name__ in (model._no_split_modules or ())]


def _masks(model: PreTrainedModel, in_every_layer: bool = False) -> int:
    """Count the masks in numbers: one for each kind of layer, unless each layer keeps its own, as torch's attention on
    a GPU does."""
    if in_every_layer:
        return max(1, len(_blocks(model)))
    return len(set(getattr(model.config.get_text_config(), "layer_types", None) or ("full_attention",)))


def _kept_with_checkpointing(model: PreTrainedModel) -> int:
    """Return the bytes at a node where a layer keeps its input alone, and one layer at a time is computed again."""
    layers = max(1, len(_blocks(model)))
    width: int = int(model.config.get_text_config().hidden_size) * next(model.parameters()).element_size()
    return (layers + OUTSIDE) * width + _kept_at_a_node(model) // layers


def _kept_at_a_node(model: PreTrainedModel) -> int:
    """Return the bytes that autograd keeps for each node between forward and backward."""
    for nodes_see in (True, False):
        try:
            few, many = (_kept(model, nodes, nodes_see) for nodes in PROBE)
        except Exception:  # a model may refuse such a mask, or numbers without values, with any error
            continue
        return (many - few) // (PROBE[1] - PROBE[0])
    matrices = (p for p in model.parameters() if p.ndim > 1 and p is not model.get_input_embeddings().weight)
    edges: int = sum(sum(p.shape[-2:]) * p.element_size() for p in matrices)
    return FALLBACK * edges


def _kept(model: torch.nn.Module, nodes: int, nodes_see: bool) -> int:
    """Run a forward without numbers, with a mask of nodes or none; count the bytes of what it keeps besides weights."""
    kept: dict[int, tuple[torch.UntypedStorage, int]] = {}  # the storage stays, so that its address is not used again
    weights = {p.untyped_storage()._cdata for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage, storage.nbytes()
        return tensor

    with torch.device("meta"):
        ids = torch.zeros((1, nodes), dtype=torch.int64)
        sees = torch.ones((1, 1, nodes, nodes), dtype=torch.bool)
    tree = {"position_ids": ids, "attention_mask": sees} if nodes_see else {}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, use_cache=False, **tree, **_last_logits(model))
    return sum(size for _, size in kept.values())


def _last_logits(model: torch.nn.Module) -> dict[str, int]:
    return {"logits_to_keep": 1} if takes(model, "logits_to_keep") else {}

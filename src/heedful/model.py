"""Any causal language model with its tokenizer: find it, load it, adapt it, save it.

Weights are read from safetensors or GGUF only, in fp32 (the masters that training updates). Code that comes with a
model is never run. What is saved is a clean Hugging Face folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers  # lazy: what is asked of it is imported then, and a tokenizer needs no code of models
from safetensors import SafetensorError
from transformers.pytorch_utils import Conv1D

from heedful import causal, weights
from heedful.atomic import advice, whole_folder
from heedful.catalogue import Location, locate
from heedful.config import TrainConfig
from heedful.errors import ModelError, loading
from heedful.from_gguf import convert_gguf

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")  # by architecture
ROUTERS = {"gate", "router"}  # in a model of experts, what chooses them
# Layers that peft takes for experts in many such models, also where they are none: it is given their weights instead.
RENAMED = {"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
BOUNDLESS = 1 << 20  # tokens: attention that knows distances alone (ALiBi, XLNet) has no last position

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@dataclass(frozen=True)
class Loaded:
    """A model in fp32 and eval mode, its tokenizer, and the folder or id that they came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    origin: str


def load(name: str, dropout: float = 0.0, nf4: torch.dtype | None = None) -> Loaded:
    """Load a model by catalogue name, folder, .gguf file or Hugging Face id; raise ModelError if it cannot be used.

    With `nf4`, the linear layers are held in 4 bits and multiplied in that type.
    """
    tokenizer, config, origin = load_tokenizer(name)
    _set_dropout(config, dropout)
    with loading(name, origin):
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            origin,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
            **(quantised(nf4) if nf4 else {}),
        )
    weights.check_read(model, report, name)
    rows = causal.vocabulary_size(model)
    if (needed := _needed(tokenizer)) > rows:
        raise ModelError(f"{name}: the tokenizer's ids need {needed} embeddings, but the model has only {rows}.")
    causal.check(model.eval(), name)
    return Loaded(model, tokenizer, origin)


def quantised(compute: torch.dtype) -> dict[str, Any]:
    """Say how linear layers are read in NF4 with packed scales, and multiplied in `compute` (Dettmers et al. 2023)."""
    how = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )
    device = torch.cuda.current_device() if torch.cuda.is_available() else "cpu"
    return {"quantization_config": how, "device_map": {"": device}}


def load_tokenizer(name: str) -> tuple[PreTrainedTokenizerBase, PretrainedConfig, str]:
    """Load what encoding needs: the tokenizer, the model's configuration, and the folder or id of both."""
    location = locate(name)
    if location.gguf is not None:
        location = Location(folder=convert_gguf(location.gguf))
    if location.folder is not None:
        _check_folder(location.folder)
    origin = str(location.folder or location.hub_id)
    with loading(name, origin):
        config = transformers.AutoConfig.from_pretrained(origin, trust_remote_code=False)
        tokenizer = transformers.AutoTokenizer.from_pretrained(origin, trust_remote_code=False)
    for settings in (vars(config), tokenizer.init_kwargs):
        settings.pop("auto_map", None)  # what is saved comes without that code, and must not ask for it
    for part in (config, config.get_text_config()):  # what a forward returns is no part of what a model is
        part.output_attentions, part.output_hidden_states, part.return_dict = False, False, True
    if not tokenizer.is_fast:
        raise ModelError(f"{name}: the tokenizer has no fast version, which heedful needs for the offsets of tokens.")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: the tokenizer has no end-of-text token, so no answer could ever stop.")
    rows = getattr(config.get_text_config(), "vocab_size", None) or embeddings_of(tokenizer)
    if tokenizer.pad_token is None or tokenizer.pad_token_id >= rows:  # here padding is known by lengths
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, config, origin


def max_positions(config: PretrainedConfig) -> int:
    """Return the longest sequence the model has positions for, or BOUNDLESS where its configuration names none."""
    text = config.get_text_config()
    named = [int(getattr(text, name, None) or 0) for name in POSITIONS]
    if (getattr(text, "rope_parameters", None) or {}).get("rope_type") == "longrope":
        # One row beyond the original length turns all rows of its forward by other angles, the short ones too.
        named.insert(0, int(text.rope_parameters.get("original_max_position_embeddings") or 0))
    return next((length for length in named if length > 0), BOUNDLESS)


def fingerprint(model: PreTrainedModel) -> str:
    """Hash the name, the shape and some numbers of every weight: cheap, and another model's differs."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        some = weight.detach().flatten()[:: max(1, weight.numel() // 64)].float().cpu()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()


def embeddings_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many embeddings a tokenizer's ids need: more than it has tokens, where its vocabulary has gaps."""
    return 1 + int(max(tokenizer.get_vocab().values()))


def _needed(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many embeddings texts and ends need: a special token that no template writes needs none, as Gemma 3's
    `<image_soft_token>` in models of text alone."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return 1 + int(max({*tokenizer.get_vocab().values()} - special | {tokenizer.eos_token_id}))


def check_ids(ids: Collection[int], model: PreTrainedModel) -> None:
    """Refuse ids for which a model has no embeddings: of special tokens that its template writes nevertheless."""
    rows = causal.vocabulary_size(model)
    if max(ids, default=0) >= rows:
        raise ModelError(
            f"The template writes the token with the id {max(ids)}, but the model has only {rows} embeddings.",
            "Choose another with --set encode.template=alpaca (or chatml).",
        )


def fit_vocabulary(loaded: Loaded, tokenizer: PreTrainedTokenizerBase) -> int:
    """Give each token that a template added an embedding, the mean of those in use; return how many were added.

    Added is what the model's own tokenizer lacks, though the table may have rows to spare: those hold only noise.
    A model that was saved with such tokens has them in its tokenizer, and keeps what it learned.
    """
    model, known = loaded.model, set(loaded.tokenizer.get_vocab().values())
    added = set(tokenizer.get_vocab().values()) - known
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows, needed = causal.vocabulary_size(model), 1 + max(added, default=-1)
    known = {i for i in known if i < rows}  # special tokens beyond have none, and need none
    if needed > rows:
        if head.weight is not table.weight:  # growing would tie them where the configuration does
            model.config.get_text_config().tie_word_embeddings = False
        model.resize_token_embeddings(needed, mean_resizing=False)
    fresh = sorted(added | set(range(rows, needed)))
    used = slice(len(known)) if len(known) == 1 + max(known) else sorted(known)  # a slice is no copy
    for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):  # which growing may have replaced
        if fresh:
            embeddings.weight.data[fresh] = embeddings.weight.data[used].mean(0)
    return len(added)


def adapt(model: PreTrainedModel, config: TrainConfig) -> PreTrainedModel:
    """Freeze the weights and put low-rank adapters beside the `adapted` ones."""
    from peft import LoraConfig, get_peft_model

    layers, parameters = adapted(model)
    adapters = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=_by_endings(layers, model),
        target_parameters=parameters or None,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(config.seed)
    with warnings.catch_warnings():  # peft calls deprecated parts of transformers
        warnings.simplefilter("ignore")
        found: PreTrainedModel = get_peft_model(model, adapters)
    return found


def adapted(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    """Name what gets adapters: linear layers but the head and routers, and parameters that hold a matrix an expert."""
    parts, head = dict(model.named_modules()), model.get_output_embeddings()
    owners = {name: type(parts[name.rpartition(".")[0]]).__module__ for name, _ in model.named_parameters()}
    sizes = {name: p.shape for name, p in model.named_parameters() if owners[name].startswith("transformers.models.")}
    experts = [name for name, size in sizes.items() if len(size) == 3 and size[0] > 1]
    routed = any("experts" in name.split(".") for name in parts)
    layers = {
        name: part
        for name, part in parts.items()
        if isinstance(part, torch.nn.Linear | Conv1D) and part is not head
        if not (routed and ROUTERS & {*name.split(".")})
    }
    renamed = {name for name in layers if experts and name.rpartition(".")[2] in RENAMED}
    whole = [f"{name}.weight" for name in layers if name in renamed and layers[name].weight.is_floating_point()]
    return [name for name in layers if name not in renamed], experts + whole


def _by_endings(names: Collection[str], model: PreTrainedModel) -> list[str]:
    """Name layers by the last part of their names, as other tools expect it, where that tells them from all others."""
    endings = {name.rpartition(".")[2] for name in names}
    told = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in endings}
    return sorted(endings if told == set(names) else names)


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Add the adapters into the weights; the model is changed."""
    merged: PreTrainedModel = model.merge_and_unload()
    return merged


def generation_config(tokenizer: PreTrainedTokenizerBase, stop_ids: Collection[int]) -> GenerationConfig:
    """Say what ends an answer, and no more: how the base was sampled is not how the tuned model was evaluated."""
    return transformers.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=sorted(stop_ids), pad_token_id=tokenizer.pad_token_id
    )


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    extra: dict[str, Any] | None = None,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write a Hugging Face folder as `written_whole` does; `extra` holds further JSON files by name."""
    with written_whole(folder, before) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for name, value in (extra or {}).items():
            (temporary / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def written_whole(folder: Path, before: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Do as `whole_folder` does, and raise ModelError where it cannot be written."""
    try:
        with whole_folder(folder, before) as temporary:
            yield temporary
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"Cannot write the model to {folder}: {reason}.", advice(error)) from error


def _check_folder(folder: Path) -> None:
    """Refuse what cannot be loaded safely, saying what is missing or unwanted."""
    if not (config := folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is not a model folder: it has no config.json.", "Name a run, or what save_pretrained wrote."
        )
    try:
        described = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{config} is not JSON: {error}.") from error
    if not isinstance(described, dict):
        raise ModelError(f"{config} does not describe a model: it is not a JSON object.")
    kind = described.get("model_type")
    if "auto_map" in described and kind not in transformers.CONFIG_MAPPING:
        raise ModelError(
            f"{config} asks to run code of its own (auto_map), which heedful never does, and transformers has none for "
            f"model_type {kind!r}.",
            "Choose a model of a type that transformers knows.",
        )
    weights.check_files(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model", "vocab.txt")):
        raise ModelError(
            f"{folder} has no tokenizer (no tokenizer.json or vocab.json).",
            "Save it there: tokenizer.save_pretrained(...).",
        )


def _set_dropout(config: Any, dropout: float) -> None:
    """Set every dropout that the architecture has, by whatever name; whole layers are never dropped, and no router's
    input is jittered (PhiMoE's own number is also a threshold of its choice, and stays)."""
    own = {id(part): part for part in (config, config.get_text_config())}
    nested = {id(part): part for part in vars(config).values() if isinstance(part, transformers.PretrainedConfig)}
    for place, part in (own | nested).items():
        for key, value in part.to_dict().items():
            if type(value) not in (int, float) or (part.model_type, key) == ("phimoe", "router_jitter_noise"):
                continue
            if value and (key.endswith("layerdrop") or "jitter" in key):
                setattr(part, key, 0.0)
            elif place in own and ("dropout" in key or key.endswith("_pdrop")):
                setattr(part, key, dropout)

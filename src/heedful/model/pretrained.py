"""Any causal language model with its tokenizer, loaded.

Weights are read from safetensors or GGUF only, in fp32 (the masters that training updates). Code that comes with a
model is never run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers  # lazy: what is asked of it is imported then, and a tokenizer needs no code of models

from heedful.errors import ModelError
from heedful.model import causal, vocabulary, weights
from heedful.model.catalogue import Location, loading, locate
from heedful.model.from_gguf import convert_gguf

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")  # by architecture
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
    vocabulary.check(tokenizer, model, name)
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
    rows = getattr(config.get_text_config(), "vocab_size", None) or vocabulary.embeddings_of(tokenizer)
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

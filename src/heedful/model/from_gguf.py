"""A GGUF file as a folder of weights, as everything else reads them; made once and kept in the cache.

transformers reads it. What its reader leaves out is taken over where the file's header says it exactly, and a file of
which something is left out still, or computed otherwise, is refused.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError

from heedful.errors import ModelError, UsageError
from heedful.model.catalogue import loading, pinned
from heedful.model.gguf_tokenizer import TAKE, convert_tokenizer
from heedful.system import streams
from heedful.system.atomic import sha256
from heedful.system.store import kept

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

VERSION = 4  # goes up when the same file would be read otherwise
SCALED = {  # kinds of rotary scaling -> what a header may say of each, and transformers' name of it
    "linear": {"factor": "factor"},
    "yarn": {"factor": "factor", "original_context_length": "original_max_position_embeddings"},
}
UNSCALED = {"type", "finetuned"}  # of a scaling: its kind, and what changes no number
TAKEN = {  # numbers that the reader leaves out, as configurations call them -> as the header does; 0 is none
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "n_inner": "feed_forward_length",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
EPSILON = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps")
COMPARED = {  # numbers of a header that no tensor's shape tells -> what configurations call them
    **{key: (name,) for name, key in TAKEN.items()},
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.layer_norm_epsilon": EPSILON,
    "attention.layer_norm_rms_epsilon": EPSILON,
    "expert_used_count": ("num_experts_per_tok",),
}
ROTATED = {"rope.freq_base": "full_attention", "rope.freq_base_swa": "sliding_attention"}  # a base -> its layers
BY_WIDTH = {"gemma2": 46, "gemma3_text": 62}  # layers of the one model whose scores are scaled by the heads' mean width


def convert_gguf(path: Path) -> Path:
    """Turn a GGUF file into a safetensors folder once, keep it in the cache, and return the folder."""
    pin, found = pinned(path), _stamp(path)
    content = pin or _content(path, *found)

    def convert(folder: Path) -> dict[str, Any]:
        if pin and sha256(path) != pin:
            raise UsageError(f"{path} is not the file that was pinned (sha256 differs).", "Install the package again.")
        streams.tell(f"Converting {path.name} to a folder of weights, once (about 20 seconds) ...")
        quiet = contextlib.redirect_stderr(io.StringIO())  # the reader's own progress bar
        with quiet, _parsed_once():
            _save(_read(path), folder)
            convert_tokenizer(path, folder)  # whose class the configuration may tell
        if _stamp(path) != found:  # it would be kept under the hash of what it was
            raise UsageError(f"{path} changed while it was read.", "Try again when it is whole.")
        return {"file": path.name}

    return kept("models", {"gguf": content, "version": VERSION}, convert, hashed=False).folder


def _read(path: Path) -> PreTrainedModel:
    """Let transformers read a file by a configuration that says all that its header does."""
    import gguf

    # a bare name would be looked for in the folder that we are in first
    folder, file = str(path.parent), str(path.resolve())
    with loading(str(path), str(path)):
        config = transformers.AutoConfig.from_pretrained(folder, gguf_file=file)
        reader: Any = gguf.GGUFReader(file)
    header, tensors = _header(reader), {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    _take_over(path, config, header, set(tensors))
    _check_header(path, config, header)
    with loading(str(path), str(path)):
        model: PreTrainedModel
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            gguf_file=file,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # `_check_weights` names them
        )
    _check_weights(path, model, report, tensors)
    return model


def _save(model: PreTrainedModel, folder: Path) -> None:
    del model.config.quantization_config  # the weights are plain now; the marker would forbid saving them
    model.hf_quantizer = None
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:  # a full disk
        raise OSError(str(error)) from error


def _header(reader: Any) -> dict[str, Any]:
    """Return a header's entries but for long lists, each without its architecture's name in front."""
    kind = reader.fields["general.architecture"].contents()
    fields = {name: field for name, field in reader.fields.items() if len(field.data) == 1}
    return {name.removeprefix(f"{kind}."): field.contents() for name, field in fields.items()}


def _take_over(path: Path, config: PretrainedConfig, header: dict[str, Any], tensors: set[str]) -> None:
    """Put into a configuration what the reader did not: numbers, biases, and scalings that the header gives in full."""
    for name, key in TAKEN.items():
        if key in header and hasattr(config, name):
            setattr(config, name, header[key] or None)
    by_layer = getattr(config, "layer_types", None)
    if _slides(config) and ("attention.sliding_window" in header or not by_layer):
        whole = config.max_position_embeddings if by_layer else None
        config.sliding_window = header.get("attention.sliding_window") or whole
    for key, layers in ROTATED.items():
        if key in header and "rope_theta" in _rope(config, layers):
            _rope(config, layers)["rope_theta"] = header[key]
    if config.model_type in BY_WIDTH:  # of which no header tells; llama.cpp does the same
        by_width = config.num_hidden_layers == BY_WIDTH[config.model_type]
        width = config.hidden_size // config.num_attention_heads
        config.query_pre_attn_scalar = width if by_width else config.head_dim
    for name, tensor in (("attention_bias", "blk.0.attn_q.bias"), ("mlp_bias", "blk.0.ffn_up.bias")):
        if tensor in tensors and hasattr(config, name):
            setattr(config, name, True)
    factors = any(name.startswith("rope_f") for name in tensors)  # rope_freqs, rope_factors_*
    if factors or not _take_over_scaling(config, header):
        raise ModelError(
            f"{path} scales its rotary embeddings in a way that cannot be read from a GGUF file exactly.", TAKE
        )


def _take_over_scaling(config: PretrainedConfig, header: dict[str, Any]) -> bool:
    """Put a scaling of rotary embeddings into a configuration; say whether it is one that the header gives in full."""
    scaling = {key.removeprefix("rope.scaling."): header[key] for key in header if key.startswith("rope.scaling.")}
    if "rope.scale_linear" in header:  # the factor's older name
        scaling.setdefault("factor", header["rope.scale_linear"])
    kind, rope = scaling.get("type", "linear"), getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":  # the reader took it over
        return True
    if scaling.pop("attn_factor", 1.0) != 1.0:  # which counts for every kind
        return False
    if kind == "none" or (kind == "linear" and scaling.get("factor", 0) in (0, 1)):  # 0 is no factor
        return scaling.keys() <= {*UNSCALED, *SCALED["yarn"]}
    names = SCALED.get(kind, {})
    if not names or scaling.keys() - UNSCALED != names.keys() or "rope_theta" not in rope:
        return False
    config.rope_parameters = {**rope, "rope_type": kind, **{name: scaling[key] for key, name in names.items()}}
    return True


def _slides(config: PretrainedConfig) -> bool:
    """Say whether a configuration has layers with a window, whose size may be missing."""
    layers = getattr(config, "layer_types", None) or ["sliding_attention"]
    return (
        hasattr(config, "sliding_window")
        and getattr(config, "use_sliding_window", True)
        and "sliding_attention" in layers
    )


def _rope(config: PretrainedConfig, layers: str = "full_attention") -> dict[str, Any]:
    """Return the rotary embeddings of some layers; most configurations have one kind for all layers."""
    rope = getattr(config, "rope_parameters", None) or {}
    found: dict[str, Any] = rope.get(layers, rope)
    return found


def _check_header(path: Path, config: PretrainedConfig, header: dict[str, Any]) -> None:
    """Refuse a header that gives another number than the one that the model will compute with."""
    heads = getattr(config, "num_attention_heads", None)
    size = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
    ours = {
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.sliding_window": config.sliding_window if _slides(config) else 0,
        "rope.dimension_count": int(size * _rope(config).get("partial_rotary_factor", 1)) if _rope(config) else 0,
        **{key: _rope(config, layers).get("rope_theta") for key, layers in ROTATED.items()},
    }
    for key, names in COMPARED.items():
        ours.update((key, getattr(config, name)) for name in names if hasattr(config, name))
    for key in (key for key in ours if isinstance(header.get(key), int | float)):
        theirs, mine = header[key], ours[key] or 0
        if key == "attention.sliding_window":  # one as long as the context hides nothing
            theirs, mine = (seen if seen < header.get("context_length", math.inf) else 0 for seen in (theirs, mine))
        if not math.isclose(theirs, mine, rel_tol=1e-6):
            raise ModelError(
                f"{path} cannot be read: its header says {key} is {theirs}, and the model would compute with {mine}.",
                TAKE,
            )


def _check_weights(path: Path, model: PreTrainedModel, report: dict[str, Any], tensors: dict[str, int]) -> None:
    """Refuse a file whose tensors are not the model's weights: by shape, by name, or by the count of their numbers."""
    if report["mismatched_keys"]:
        name, theirs, ours = sorted(report["mismatched_keys"])[0]
        problem = f"{name} has the shape {list(theirs)} there, and {list(ours)} in the model that its header describes"
        raise ModelError(f"{path} cannot be read: {problem}.", TAKE)
    if report["missing_keys"]:
        raise ModelError(f"{path} cannot be read: it has no {sorted(report['missing_keys'])[0]}.", TAKE)
    if model.config.tie_word_embeddings:  # a head may be there in spite of it
        tensors = {name: count for name, count in tensors.items() if name != "output.weight"}
    unread = sum(tensors.values()) - sum(weight.numel() for weight in model.parameters())
    if unread:
        problem = f"{unread:,} of its numbers belong to no weight of the model"
        if unread < 0:  # transformers does not tie what differs
            problem = "its output.weight is not the token embeddings, as the model's is"
        raise ModelError(f"{path} cannot be read: {problem}.", TAKE)


@contextlib.contextmanager
def _parsed_once() -> Iterator[None]:
    """Let transformers parse a file once, not for configuration, weights and tokenizer anew, and name tensors once."""
    import gguf

    reader, names = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = functools.cache(reader), functools.cache(names)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, names


def _stamp(path: Path) -> tuple[int, int]:
    """Return the size of a file and when it was changed."""
    return path.stat().st_size, path.stat().st_mtime_ns


@functools.cache
def _content(path: Path, size: int, changed: int) -> str:
    """Hash a file once a process, unless its size or time changes."""
    return sha256(path)

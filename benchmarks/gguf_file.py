"""A folder's weights (llama architecture) as a GGUF file, for the race with llama.cpp.

Tokenizer and metadata are copied from a GGUF file of the same model; the tensors are the folder's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

TYPES = {
    "f32": gguf.GGMLQuantizationType.F32,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
}


def write(folder: Path, like: Path, kind: str, out: Path) -> Path:
    """Write matrices as `kind` and vectors in fp32; a file that is there already is kept."""
    if out.is_file():
        return out
    source = gguf.GGUFReader(str(like))
    partial = out.with_suffix(".partial")
    writer = gguf.GGUFWriter(str(partial), "llama")
    _copy_metadata(source, writer, kind)
    heads = [int(source.fields[f"llama.attention.{key}"].contents()) for key in ("head_count", "head_count_kv")]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, int(source.fields["llama.block_count"].contents()))
    wanted = {tensor.name for tensor in source.tensors}
    for name, weight in load_file(folder / "model.safetensors").items():
        ours = f"{names.get_name(name.removesuffix('.weight'))}.weight"
        if ours not in wanted:
            continue  # a tied head
        stored = TYPES[kind] if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        array = _interleaved(weight, ours, *heads).float().numpy()
        writer.add_tensor(ours, gguf.quantize(np.ascontiguousarray(array), stored), raw_dtype=stored)
        wanted.remove(ours)
    assert not wanted, f"{folder} lacks {sorted(wanted)[:3]}"
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return partial.replace(out)


def _copy_metadata(source: Any, writer: Any, kind: str) -> None:
    for name, field in source.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kinds = field.types
        writer.add_key_value(name, field.contents(), kinds[0], kinds[1] if len(kinds) > 1 else None)
    writer.add_file_type({"f32": 0, "bf16": 32, "q8_0": 7}[kind])  # llama.h: llama_ftype


def _interleaved(weight: torch.Tensor, name: str, heads: int, kv_heads: int) -> torch.Tensor:
    """Reorder the rows of queries and keys: rotary pairs (i, i + half) stand side by side in GGUF.

    A head's rows 0 1 2 3 become 0 2 1 3.
    """
    if not name.endswith(("attn_q.weight", "attn_k.weight")):
        return weight
    count = heads if name.endswith("attn_q.weight") else kv_heads
    rows = weight.shape[0] // count
    return weight.reshape(count, 2, rows // 2, -1).transpose(1, 2).reshape(weight.shape)

"""A model's folder as one GGUF file: settings, tokenizer, chat template, and the weights one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open
from transformers import PretrainedConfig

from heedful.encode.tokenise import Encoder
from heedful.errors import ExportError
from heedful.export.architectures import Architecture, architecture_of, tensor_name
from heedful.export.vocabulary import write_vocabulary

Kind = gguf.GGMLQuantizationType
FILE_TYPES = {
    "f32": (Kind.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (Kind.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (Kind.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (Kind.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (Kind.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
EMBEDDINGS = ("token_embd.weight", "output.weight")


def write_gguf(file: Path, folder: Path, config: PretrainedConfig, encoder: Encoder, kind: str, name: str) -> None:
    """Write a folder's weights as `kind`; vectors and positions stay in fp32, as llama.cpp wants them."""
    architecture = architecture_of(config)
    writer = gguf.GGUFWriter(str(file), architecture.name)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    architecture.describe(writer, config)
    writer.add_file_type(FILE_TYPES[kind][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    shapes = {ours: weight.shape for ours, weight in _tensors(folder, config, architecture)}
    write_vocabulary(writer, encoder, shapes["token_embd.weight"][0])
    for ours, shape in shapes.items():
        stored = stored_as(ours, tuple(shape), kind)
        block, size = gguf.GGML_QUANT_SIZES[stored]
        writer.add_tensor_info(ours, shape, np.dtype(np.float32), int(np.prod(shape)) // block * size, stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for ours, weight in _tensors(folder, config, architecture):
        writer.write_tensor_data(_numbers(ours, weight, stored_as(ours, tuple(weight.shape), kind)))
    writer.flush()
    writer.close()


def stored_as(name: str, shape: tuple[int, ...], kind: str) -> Any:
    """Choose a tensor's type: rows that do not fill blocks are kept in f16, embeddings are spared the 4 bits."""
    if len(shape) == 1 or name == "position_embd.weight":
        return Kind.F32
    wanted = FILE_TYPES[kind][0]
    if wanted == Kind.Q4_0 and name in EMBEDDINGS:
        wanted = Kind.Q8_0
    return wanted if shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0 else Kind.F16


def _numbers(name: str, weight: torch.Tensor, stored: Any) -> Any:
    numbers = gguf.quantize(np.ascontiguousarray(weight.float().numpy()), stored)
    if stored == Kind.F16 and not np.isfinite(numbers).all():
        raise ExportError(f"{name} has weights beyond what f16 can hold.", "Choose --quantize bf16.")
    return numbers


def _tensors(folder: Path, config: PretrainedConfig, architecture: Architecture) -> Iterator[tuple[str, torch.Tensor]]:
    """Return each tensor under its GGUF name as llama.cpp wants it to lie; a tied head is left out."""
    names = gguf.get_tensor_name_map(architecture.arch, config.num_hidden_layers)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 (no mapping)
                ours = tensor_name(name, names)
                if ours is not None and not (ours == "output.weight" and config.tie_word_embeddings):
                    yield ours, architecture.store(ours, weights.get_tensor(name), config)

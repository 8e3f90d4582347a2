"""A GGUF file as a folder of weights, as everything else reads them; made once and kept in the cache."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError

from heedful import streams
from heedful.catalogue import pinned
from heedful.errors import UsageError, loading
from heedful.store import Facts, kept
from heedful.whole import sha256


def convert_gguf(path: Path) -> Path:
    """Turn a GGUF file into a safetensors folder once, keep it in the cache, and return the folder."""
    pin, found = pinned(path), _stamp(path)
    content = pin or _content(path, *found)

    def convert(folder: Path) -> Facts:
        if pin and sha256(path) != pin:
            raise UsageError(f"{path} is not the file that was pinned (sha256 differs).", "Install the package again.")
        streams.tell(f"Converting {path.name} to a folder of weights, once (about 20 seconds) ...")
        quiet = contextlib.redirect_stderr(io.StringIO())  # the reader's own progress bar
        with loading(str(path), str(path)), quiet, _parsed_once():
            # a bare name would be looked for in the folder that we are in first
            folder_of, file = str(path.parent), str(path.resolve())
            model = transformers.AutoModelForCausalLM.from_pretrained(folder_of, gguf_file=file, dtype=torch.float32)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder_of, gguf_file=file)
        if _stamp(path) != found:  # it would be kept under the hash of what it was
            raise UsageError(f"{path} changed while it was read.", "Try again when it is whole.")
        del model.config.quantization_config  # the weights are plain now; the marker would forbid saving them
        model.hf_quantizer = None
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from error
        tokenizer.save_pretrained(folder)
        return {"file": path.name}

    return kept("models", {"gguf": content}, convert, hashed=False)[0]


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

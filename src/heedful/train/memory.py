"""Memory that runs out: how it shows, and the smaller forwards that are tried then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from heedful.encode.batch import Collator
from heedful.errors import RunError
from heedful.records import TokenizedExample


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out, on a GPU or here."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def halved(collator: Collator, examples: Sequence[TokenizedExample]) -> Collator:
    """Return a collator of smaller forwards, or say that even a single row is too long."""
    longest, largest = max(map(len, examples)), max(places for _, places in collator.parts(examples))
    if collator.batch_tokens <= longest:
        raise RunError(
            f"The forward of a single row of {longest} tokens does not fit into memory.",
            f"Set encode.max_tokens={max(8, longest // 2)}, or train.method=lora.",
        )
    return replace(collator, batch_tokens=max(longest, largest // 2))

"""Keys and values of prompts' beginnings, kept after their rows have left: a system prompt, a conversation so far.

They are a function of the tokens alone, to the last bit, so it makes no difference to an answer whether its prompt's
beginning was read or found here.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

import torch

BYTES = 2**28  # of prompts' beginnings that are kept, for each model


class PrefixCache:
    """States by key, at most `size` bytes of them; the ones longest unused leave first."""

    def __init__(self, size: int = BYTES) -> None:
        self.size = size
        self.held = 0  # bytes
        self._states: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def find(self, key: bytes) -> torch.Tensor | None:
        """Return the states that were kept under a key."""
        if key in self._states:
            self._states.move_to_end(key)
        return self._states.get(key)

    def keep(self, key: bytes, states: torch.Tensor) -> None:
        """Copy states; make room for them."""
        if key in self._states or states.nbytes > self.size:
            return
        self._states[key] = states.clone()
        self.held += states.nbytes
        while self.held > self.size:
            _, oldest = self._states.popitem(last=False)
            self.held -= oldest.nbytes


def prefix_key(key: bytes, tokens: Sequence[int]) -> bytes:
    """Return the key of the tokens that `key` stands for and these after them."""
    return hashlib.blake2b(key + array("q", tokens).tobytes(), digest_size=16).digest()

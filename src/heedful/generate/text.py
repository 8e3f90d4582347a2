"""Token ids -> text while they come: no character is split, no stop string slips through.

What was pushed, joined, is the answer's text. A character whose bytes are not all there yet is held back, and so is the
beginning of what may become a stop string.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from transformers import PreTrainedTokenizerBase

UNFINISHED = "\ufffd"  # what a decoder puts for bytes that are no whole character


class TextStream:
    """The text of one answer. `stopped` says that a stop string was found; the text ends before it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self.text = ""  # what has been given out
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._ids: list[int] = []
        self._start = self._read = 0  # ids[start:read] are known text, kept as left context of what comes
        self._held = ""  # text that may be the beginning of a stop string

    @property
    def length(self) -> int:
        """The characters known so far, those held back included."""
        return len(self.text) + len(self._held)

    def push(self, token: int) -> str:
        """Take a token; give the text that is now certain."""
        self._ids.append(token)
        text = self._unread()
        if not text or text.endswith(UNFINISHED):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return self._release(text)

    def flush(self) -> str:
        """End the text: return what was held back, without the bytes of an unfinished character."""
        piece = self._release(self._unread().rstrip(UNFINISHED))
        rest, self._held = self._held, ""
        self.text += rest
        return piece + rest

    def _release(self, text: str) -> str:
        """Return as much as cannot belong to a stop string, and end at the first one."""
        self._held += text
        found = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        self.stopped = bool(found)
        safe = min(found) if found else len(self._held) - held_back(self._held, self._stop)
        piece, self._held = self._held[:safe], "" if found else self._held[safe:]
        self.text += piece
        return piece

    def _unread(self) -> str:
        """Decode the tokens whose text is not known yet, behind their left context."""
        decode = self._tokenizer.backend_tokenizer.decode  # what every fast tokenizer's own decode calls
        known, text = decode(self._ids[self._start : self._read]), decode(self._ids[self._start :])
        return str(text[len(known) :])


def held_back(text: str, stops: Sequence[str]) -> int:
    """Count the characters at the end of `text` that a stop string may begin with: 'so be<' and '</s>' give 1."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    return next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stops)), 0)


class Spelling:
    """The bytes that each token of a tokenizer stands for."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._added = tokenizer.added_tokens_decoder
        self._by_bytes = "ByteLevel" in str(tokenizer.backend_tokenizer.decoder)

    def bytes_of(self, token: int) -> bytes:
        r"""Return a token's bytes: b' the', or b'\xf0\x9f' for a part of a character; none for a special token."""
        name = self.name_of(token)
        if token in self._added:
            return b"" if self._added[token].special else name.encode()
        if self._by_bytes:
            return bytes(map(_letters().__getitem__, name))
        if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", name):  # sentencepiece's fallback
            return bytes([int(byte[1], 16)])
        return name.replace("\u2581", " ").encode()

    def name_of(self, token: int) -> str:
        """Return a token's name in the vocabulary; "" for an id without a token."""
        return str(self._tokenizer.convert_ids_to_tokens(token) or "")


@cache
def _letters() -> dict[str, int]:
    """Tabulate the printable letter by which byte-level tokenizers name each byte (GPT-2's alphabet)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte if byte in plain else 256 + others.index(byte)): byte for byte in range(256)}

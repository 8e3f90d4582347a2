"""Examples on disk: written chunk by chunk, resumed after a kill where they stopped, read one by one.

    examples.bin    each example's ids (uint16 where the largest fits, else int32), then one flag a token: 1 supervised,
                    2 of an answer of weight 0, else 0
    index.bin       [examples, 3] uint32: the conversation's number, tokens, tokens of answers
    chunks.jsonl    a line a chunk: how far the files reach then, the hash of what it added, its receipt

A line counts if its bytes have its hash; what stands behind the last such line is cut off and encoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from heedful.encode.account import Chunk, EncodingReceipt
from heedful.encode.tokenise import CHUNK, Encoder
from heedful.records import Conversation, TokenizedExample
from heedful.reporter import Done
from heedful.system.items import Bytes

VERSION = 6  # goes up when the same conversations would be encoded or laid down otherwise
FILES = ("examples.bin", "index.bin")
SUPERVISED, EXCLUDED = 1, 2  # flags of tokens
SMALL = 1 << 16  # ids below fit in two bytes


class Examples(Sequence[TokenizedExample]):
    """A folder of examples; memory holds a few integers for each. `name` gives a conversation's id by its number."""

    def __init__(self, folder: Path, ids: str, name: Callable[[int], str]) -> None:
        self._bytes, self._ids, self._name = Bytes(folder / "examples.bin"), np.dtype(ids), name
        index = np.fromfile(folder / "index.bin", np.uint32).reshape(-1, 3)
        self._rows, self.tokens, self.answer_tokens = (np.ascontiguousarray(column) for column in index.T)
        self._ends = np.cumsum(self.tokens, dtype=np.int64) * (self._ids.itemsize + 1)

    def __len__(self) -> int:
        return len(self.tokens)

    def number(self, at: int) -> int:
        """Return the number of the conversation that an example was made from; some were too long to become one."""
        return int(self._rows[at])

    @overload
    def __getitem__(self, at: int) -> TokenizedExample: ...
    @overload
    def __getitem__(self, at: slice) -> list[TokenizedExample]: ...
    def __getitem__(self, at: int | slice) -> TokenizedExample | list[TokenizedExample]:
        if isinstance(at, slice):
            return [self[i] for i in range(len(self))[at]]
        i = range(len(self))[at]
        tokens, packed = int(self.tokens[i]), self._packed(i)
        ids = np.frombuffer(packed, self._ids, tokens).astype(np.int32)
        flags = np.frombuffer(packed, np.uint8, tokens, tokens * self._ids.itemsize)
        excluded = flags == EXCLUDED
        return TokenizedExample(
            self._name(int(self._rows[i])), ids, flags == SUPERVISED, excluded if excluded.any() else None
        )

    def ids(self, at: int) -> bytes:
        """Return an example's ids as they are stored, `id_bytes` each: to compare them with others of this folder."""
        return self._packed(at)[: int(self.tokens[at]) * self.id_bytes]

    @property
    def id_bytes(self) -> int:
        return self._ids.itemsize

    def _packed(self, at: int) -> bytes:
        end = int(self._ends[at])
        return self._bytes.read(end - int(self.tokens[at]) * (self.id_bytes + 1), end)


def ids_type(embeddings: int) -> str:
    """Return the type for ids below this number: as many bytes as the largest needs, however many tokens there are."""
    return "uint16" if embeddings <= SMALL else "int32"


def write_examples(
    folder: Path, encoder: Encoder, rows: Sequence[Conversation], ids: str, done: Done
) -> dict[str, Any]:
    """Encode what is not yet in the folder; give the receipt of all of it and the hash of the examples."""
    receipt, digest, reached = EncodingReceipt(encoder.max_tokens), hashlib.sha256(), [0, 0]
    whole = list(_whole_chunks(folder))
    for line in whole:
        receipt.add(EncodingReceipt(**line["receipt"]))
        digest.update(line["sha256"].encode())
        reached = line["reached"]
    _cut(folder, whole, reached)
    with (
        open(folder / FILES[0], "ab") as examples,
        open(folder / FILES[1], "ab") as index,
        open(folder / "chunks.jsonl", "a", encoding="utf-8") as log,
    ):
        first = len(whole) * CHUNK
        rest = (rows[number] for number in range(first, len(rows)))
        for number, chunk in enumerate(encoder.chunks(rest, lambda encoded: done(first + encoded)), len(whole)):
            added = _packed(chunk, number * CHUNK, ids)
            for file, content in zip((examples, index), added, strict=True):
                file.write(content)
                file.flush()
            line = {"reached": [examples.tell(), index.tell()], "sha256": _hash(added)}
            log.write(json.dumps({**line, "receipt": asdict(chunk.receipt)}) + "\n")
            log.flush()
            receipt.add(chunk.receipt)
            digest.update(str(line["sha256"]).encode())
    return {"receipt": asdict(receipt), "sha256": digest.hexdigest()}


def _packed(chunk: Chunk, first: int, ids: str) -> tuple[bytes, bytes]:
    """Return the bytes that a chunk adds to each file; its conversations are numbered from `first`."""
    examples = b"".join(e.ids.astype(ids).tobytes() + _flags(e).tobytes() for e in (k.example for k in chunk.kept))
    index = np.array([(first + k.number, len(k.example), k.answer_tokens) for k in chunk.kept], np.uint32)
    return examples, index.tobytes()


def _flags(example: TokenizedExample) -> NDArray[np.uint8]:
    flags = example.supervised.astype(np.uint8)
    if example.excluded is not None:
        flags[example.excluded] = EXCLUDED
    return flags


def _hash(added: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for content in added:
        digest.update(content)
    return digest.hexdigest()


def _whole_chunks(folder: Path) -> Iterator[dict[str, Any]]:
    """Return the lines of the chunks that stand in the files as they were written, from the first on."""
    if not all((folder / name).exists() for name in (*FILES, "chunks.jsonl")):
        return
    files, before = [Bytes(folder / name) for name in FILES], [0, 0]
    with open(folder / "chunks.jsonl", encoding="utf-8", errors="replace") as log:
        for text in log:
            try:
                line = json.loads(text)
                ends = zip(files, before, line["reached"], strict=True)
                added = [file.read(start, end) for file, start, end in ends]
                if not text.endswith("\n") or _hash(added) != line["sha256"]:
                    return
            except (ValueError, KeyError, TypeError):
                return
            before = line["reached"]
            yield line


def _cut(folder: Path, whole: Sequence[dict[str, Any]], reached: Sequence[int]) -> None:
    """Cut the files back to the chunks that are whole."""
    for name, size in zip(FILES, reached, strict=True):
        (folder / name).touch()
        os.truncate(folder / name, size)
    lines = "".join(json.dumps(line) + "\n" for line in whole)
    (folder / "chunks.jsonl").write_text(lines, encoding="utf-8")

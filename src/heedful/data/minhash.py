"""Which texts may be nearly the same, of so many that not every pair can be looked at.

HASHES hashes are taken of each 3-gram of a text, and the least of each is kept: two texts with a share J of common
grams agree in each of them with probability J. Six at a time make a bucket: texts meet in a band with probability
J ** 6. Of each least hash a bit stays in memory as the text's sketch, by which a pair's J is guessed before anything is
counted: texts of one template meet often without being near.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heedful.data.portions import portions
from heedful.data.split import Numbers

BANDS, BAND_HASHES = 32, 6
HASHES = BANDS * BAND_HASHES
PORTION = 1 << 18  # characters hashed at a time: their 3-grams fit in a core's cache
BLOCK = 1 << 18  # texts looked up at a time
CHUNK = 10_000  # pairs given at a time
ALIKE = 0.82 * HASHES  # bits: a J of 0.64; at a cosine of 0.9 J is about 0.81, and 174 bits agree, give or take 4
HALF = np.uint64(32)  # bits of a word
MOST_MET = 8  # others that a text is compared with

Pairs = tuple[Numbers, Numbers]
Words = NDArray[np.uint64]


class Buckets:
    """The bucket of each text in each band, in a file without a name: one band at a time is in memory."""

    def __init__(self, texts: int, scratch: Path | None) -> None:
        self._texts, self._sketches = texts, np.empty((texts, HASHES // 64), np.uint64)
        with tempfile.TemporaryFile(dir=scratch) as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)

    def write(self, start: int, words: Words, sketches: Words) -> None:
        """Put down the buckets [bands, texts] and the sketches of some texts."""
        self._sketches[start : start + len(sketches)] = sketches
        for band, word in enumerate(words.astype(np.uint32)):
            os.pwrite(self._file, word.tobytes(), (band * self._texts + start) * word.itemsize)

    def pairs(self, rows: Numbers, others: Numbers) -> Iterator[Pairs]:
        """Return pairs (row, other) that may be near, at most MOST_MET for a row: linear in the rows."""
        met = np.zeros(self._texts, np.int16)
        size = self._texts * np.dtype(np.uint32).itemsize
        for band in range(BANDS):
            buckets = np.frombuffer(os.pread(self._file, size, band * size), np.uint32)
            for left, right in _neighbours(buckets, rows, others):
                usual = met[left] < MOST_MET
                left, right = left[usual], right[usual]
                alike = self._alike(left, right)
                left, right = left[alike], right[alike]
                met[left] += 1  # a row stands once in `left`
                for start in range(0, len(left), CHUNK):
                    yield left[start : start + CHUNK], right[start : start + CHUNK]

    def _alike(self, rows: Numbers, others: Numbers) -> NDArray[np.bool_]:
        differing = np.bitwise_count(self._sketches[rows] ^ self._sketches[others]).sum(axis=1)
        alike: NDArray[np.bool_] = HASHES - differing >= ALIKE
        return alike


def _neighbours(band: NDArray[np.uint32], rows: Numbers, others: Numbers) -> Iterator[Pairs]:
    """Pair each row with two others of its bucket: the first, and the last before the row itself."""
    places = np.sort(_placed(band, others))
    own = places if rows is others else np.sort(_placed(band, rows))  # looked up in order: next to each other in memory
    for start in range(0, len(own), BLOCK):
        some = own[start : start + BLOCK]
        for asked, before in ((some >> HALF << HALF, 0), (some, 1)):
            found = places[np.clip(np.searchsorted(places, asked) - before, 0, len(places) - 1)]
            meet = (found >> HALF == some >> HALF) & (found != some)
            yield _row(some[meet]), _row(found[meet])


def _placed(band: NDArray[np.uint32], rows: Numbers) -> Words:
    """Write a row's bucket and its number into one word, which sorts by bucket and then by number."""
    placed: Words = band[rows].astype(np.uint64) << HALF | rows.astype(np.uint64)
    return placed


def _row(placed: Words) -> Numbers:
    return (placed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def buckets_of(texts: Iterator[str], count: int, scratch: Path | None) -> Buckets:
    """Put plain texts into buckets."""
    random = np.random.default_rng(0)
    factors = random.integers(0, 1 << 31, HASHES, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    shifts = random.integers(0, 1 << 32, HASHES, dtype=np.uint32)
    buckets, start = Buckets(count, scratch), 0
    for some in portions(texts, len, PORTION):
        buckets.write(start, *_hashed(some, factors, shifts))
        start += len(some)
    return buckets


def _hashed(texts: list[str], factors: NDArray[np.uint32], shifts: NDArray[np.uint32]) -> tuple[Words, Words]:
    """Hash texts: their buckets [bands, texts] and their sketches [texts, words]."""
    codes, owner = grams_of(texts)
    base = (_mixed(codes.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)
    heads, scratch = np.searchsorted(owner, np.arange(len(texts))), np.empty(len(base), np.uint32)
    words, sketches = np.zeros((BANDS, len(texts)), np.uint64), np.zeros((HASHES // 64, len(texts)), np.uint64)
    for i, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
        np.multiply(base, factor, out=scratch)
        np.bitwise_xor(scratch, shift, out=scratch)
        least = np.minimum.reduceat(scratch, heads).astype(np.uint64)
        words[i // BAND_HASHES] = _mixed(words[i // BAND_HASHES] + least)
        sketches[i // 64] |= (np.bitwise_count(least) & np.uint64(1)) << np.uint64(i % 64)
    return words, sketches.T


def _mixed(words: Words) -> Words:
    """Mix the bits of words, each to another: the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def plain(text: str) -> str:
    """Take case and the width of white space out of a text; at least three characters are left."""
    return " " + " ".join(text.lower().split()) + " "


def grams_of(texts: Sequence[str]) -> Pairs:
    """List the 3-grams of texts of at least three characters each, as numbers, with the text that each is of."""
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    whole = owner[:-2] == owner[2:]  # a gram must not reach into the next text
    codes = (points[:-2] << 42 | points[1:-1] << 21 | points[2:])[whole]  # a code point has at most 21 bits
    return codes, owner[:-2][whole]

"""Texts -> which of them say nearly the same: the cosine of their character 3-gram counts is at least 0.9.

Up to EXACT_ROWS texts every pair is looked at: counts folded into 512 to 8,192 buckets bound the cosine from above,
which is one dense product, and what passes the bound is computed exactly. Above that, pairs must first meet in a
MinHash bucket (`minhash.py`): time grows with the rows instead of their square, a pair may be missed, and `exact` says
so. Then only integers stay in memory, a few for each text, and 3-grams are counted again where two texts meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from heedful.data.minhash import Buckets, Pairs, buckets_of, grams_of, plain
from heedful.data.portions import portions
from heedful.data.split import Flags, Numbers
from heedful.reporter import SILENT, Reporter, tallied

THRESHOLD = 0.9 - 1e-9  # the slack takes in pairs that are 0.9 but for rounding
EXACT_ROWS = 20_000
CHUNK = 200_000  # pairs compared at a time
PORTION = 2**20  # characters whose 3-grams are counted together: each takes 32 bytes meanwhile


class Texts(Protocol):
    """A list of texts, or Items that are read from disk."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, at: int, /) -> str: ...


@dataclass(frozen=True, eq=False)
class TextIndex:
    """Texts made ready to be compared."""

    distinct: Numbers  # [texts]: each text's number; by first appearance, case and white space aside
    first: Numbers  # [distinct]: the first text of each number
    texts: Texts
    vectors: sparse.csr_array | None  # [distinct, grams] float64: counts, each row of norm 1
    buckets: Buckets | None

    @property
    def exact(self) -> bool:
        return self.vectors is not None

    def cosine(self, rows: Numbers, others: Numbers) -> NDArray[np.float64]:
        """Return the cosine of each pair."""
        if self.vectors is not None:
            left, right = self.vectors[rows], self.vectors[others]
        else:
            both, where = np.unique(np.concatenate([rows, others]), return_inverse=True)
            counted = _vectors(plain(self.texts[i]) for i in self.first[both].tolist())
            left, right = counted[where[: len(rows)]], counted[where[len(rows) :]]
        return np.asarray(left.multiply(right).sum(axis=1)).ravel()


def index_texts(texts: Texts, scratch: Path | None = None, reporter: Reporter = SILENT) -> TextIndex:
    """Count or hash the 3-grams of each text; case and the width of white space do not matter.

    `texts` are gone through twice; `scratch` is where a large file may lie meanwhile.
    """
    hashes = np.fromiter((hash(plain(text)) for text in texts), np.int64, len(texts))
    distinct, first = _numbered(hashes)
    with reporter.counting("Looking for rows alike", len(first)) as done:
        if len(first) <= EXACT_ROWS:
            vectors = _vectors(tallied((plain(texts[i]) for i in first.tolist()), done))
            return TextIndex(distinct, first, texts, vectors, None)
        firsts = (plain(text) for i, text in enumerate(texts) if first[distinct[i]] == i)
        return TextIndex(distinct, first, texts, None, buckets_of(tallied(firsts, done), len(first), scratch))


def _numbered(values: Numbers) -> tuple[Numbers, Numbers]:
    """Number equal values in the order in which they appear: each one's number, and where each number is first."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    appearance = np.argsort(first)
    number = np.empty_like(appearance)
    number[appearance] = np.arange(len(appearance))
    return number[inverse], first[appearance]


def clusters(index: TextIndex) -> tuple[Numbers, Flags]:
    """Number each text's cluster, and say whether an earlier text is near it."""
    everything = np.arange(len(index.first))
    parent, near_earlier = everything.copy(), np.zeros(len(everything), dtype=bool)
    for rows, others in _candidates(index, everything, everything):
        # In a large cluster nearly every pair is near; what is already known is not computed again.
        known = near_earlier[rows]
        known[known] = _roots(parent, rows[known]) == _roots(parent, others[known])
        news = (others < rows) & ~known
        rows, others = _near(index, rows[news], others[news])
        near_earlier[rows] = True
        _merge(parent, rows, others)
    first = np.zeros(len(index.distinct), dtype=bool)
    first[index.first] = True
    return _roots(parent, everything)[index.distinct], near_earlier[index.distinct] | ~first


def near_any(index: TextIndex, rows: Numbers, others: Numbers) -> Flags:
    """Say for each text of `rows` whether one of the texts `others` is near it."""
    rows, others = index.distinct[rows], np.unique(index.distinct[others])
    found = np.zeros(len(index.first), dtype=bool)
    found[others] = True
    for left, right in _candidates(index, np.unique(rows[~found[rows]]), others):
        news = ~found[left]
        left, _ = _near(index, left[news], right[news])
        found[left] = True
    result: Flags = found[rows]
    return result


def _vectors(texts: Iterable[str]) -> sparse.csr_array:
    """Count 3-grams into rows of norm 1. [texts, grams]"""
    parts = [_count(some) for some in portions(texts, len, PORTION)]
    grams = np.unique(np.concatenate([known for known, _ in parts])) if parts else np.zeros(0, np.int64)
    for known, part in parts:
        part.indices = np.searchsorted(grams, known)[part.indices].astype(part.indptr.dtype)
        part.resize(part.shape[0], len(grams))
    if not parts:
        return sparse.csr_array((0, 0))
    vectors = sparse.csr_array(sparse.vstack([part for _, part in parts], format="csr"))
    norms = np.sqrt(np.add.reduceat(vectors.data**2, vectors.indptr[:-1]))
    vectors.data /= np.repeat(norms, np.diff(vectors.indptr))
    return vectors


def _count(texts: Sequence[str]) -> tuple[Numbers, sparse.csr_array]:
    """Count the 3-grams of texts: the grams met, and the counts by text."""
    codes, owner = grams_of(texts)
    grams, column = np.unique(codes, return_inverse=True)
    return grams, sparse.csr_array((np.ones(len(column)), (owner, column)), shape=(len(texts), len(grams)))


def _candidates(index: TextIndex, rows: Numbers, others: Numbers) -> Iterator[Pairs]:
    """Return pairs (row, other) that may be near, a chunk at a time; some may come twice."""
    if not len(rows) or not len(others):
        return
    if index.vectors is None:
        assert index.buckets is not None
        yield from index.buckets.pairs(rows, others)
        return
    for left, right in _folded_pairs(index.vectors, rows, others):
        heads = np.unique(left, return_index=True)[1]
        yield left[heads], right[heads]  # one pair of each row tells most of what is to be known of a large cluster
        for start in range(0, len(left), CHUNK):
            yield left[start : start + CHUNK], right[start : start + CHUNK]


def _folded_pairs(vectors: sparse.csr_array, rows: Numbers, others: Numbers) -> Iterator[Pairs]:
    """Return every pair whose cosine may reach the threshold.

    Counts are never negative, so adding columns together can only add products: with x, y folded into buckets
    fold(x) · fold(y) >= x · y. Eight buckets for each gram of a usual text keep what is added near 0.1.
    """
    width = int(np.clip(8 * vectors.nnz / vectors.shape[0], 512, 8192))
    bucket = np.random.default_rng(0).integers(0, width, vectors.shape[1])
    counts = vectors.data.astype(np.float32)
    dense = sparse.csr_array((counts, bucket[vectors.indices], vectors.indptr), (vectors.shape[0], width)).toarray()
    right = dense if len(others) == len(dense) else dense[others]
    for start in range(0, len(rows), 1024):
        block = rows[start : start + 1024]
        end = start + 1024 if rows is others else len(right)  # all with all: each pair is needed once
        near = np.nonzero(dense[block] @ right[:end].T >= THRESHOLD - 1e-4)  # float32 rounds at 1e-7
        yield block[near[0]], others[near[1]]


def _near(index: TextIndex, rows: Numbers, others: Numbers) -> Pairs:
    """Keep the pairs whose cosine reaches the threshold."""
    near = index.cosine(rows, others) >= THRESHOLD
    return rows[near], others[near]


def _merge(parent: Numbers, rows: Numbers, others: Numbers) -> None:
    """Give the clusters that near pairs join one root: the least of theirs."""
    if not len(rows):
        return
    roots, ends = np.unique(_roots(parent, np.concatenate([rows, others])), return_inverse=True)
    edges = sparse.coo_array((np.ones(len(rows)), (ends[: len(rows)], ends[len(rows) :])), shape=(len(roots),) * 2)
    joined = connected_components(edges, directed=False)[1]
    parent[roots] = roots[np.unique(joined, return_index=True)[1]][joined]


def _roots(parent: Numbers, rows: Numbers) -> Numbers:
    """Follow parents up to the root of each row's cluster, and remember it."""
    found = parent[rows]
    while not np.array_equal(above := parent[found], found):
        found = above
    parent[rows] = found
    return found
